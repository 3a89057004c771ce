"""Arms of experiments, and challengers in the shadow, compared on the turns of a bundle.

The tag `experiment_id` says `EXPERIMENT:ARM`, several joined by a comma, `none` where no experiment ran. A value
without a colon is the arm of an experiment that its chatbot does not name. The intervals take turns as independent;
where one shopper wrote many of them they are too narrow, so the number of shoppers stands beside them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from mangaassist_assets.core.figures import Row
from mangaassist_assets.core.intervals import Interval, newcombe_difference, wilson_interval
from mangaassist_assets.privacy import shopper_of
from mangaassist_assets.reporting.groups import bounds
from mangaassist_assets.tracing.contract.names import NO_EXPERIMENT
from mangaassist_assets.tracing.contract.turns import ChatTurn

UNNAMED_EXPERIMENT = "(not named)"
CONTROL = "control"


def arms_of(experiment_id: str | None) -> tuple[tuple[str, str], ...]:
    """Return experiment and arm of each experiment that a turn was in."""
    found = []
    for part in (experiment_id or NO_EXPERIMENT).split(","):
        experiment, colon, arm = part.strip().partition(":")
        if not colon:
            experiment, arm = UNNAMED_EXPERIMENT, experiment
        if arm and arm.lower() != NO_EXPERIMENT:
            found.append((experiment or UNNAMED_EXPERIMENT, arm))
    return tuple(dict.fromkeys(found))


def arm_rows(turns: Iterable[ChatTurn], failed: Collection[str]) -> list[Row]:
    """Return one row an experiment and arm, sorted: turns, shoppers, failures and thumbs with 95 % intervals.

    Each arm's failure rate is compared with that of the arm called `control`, or of the largest arm where none is.

    Args:
        turns: The turns of a bundle.
        failed: Trace ids of those that failed.
    """
    members: defaultdict[str, defaultdict[str, list[ChatTurn]]] = defaultdict(lambda: defaultdict(list))
    for turn in turns:
        for experiment, arm in arms_of(turn.experiment_id):
            members[experiment][arm].append(turn)
    return [
        _arm_row(experiment, arm, arms, failed) for experiment, arms in sorted(members.items()) for arm in sorted(arms)
    ]


def shadow_rows(turns: Iterable[ChatTurn]) -> list[Row]:
    """Return one row a pair of champion and challenger: how often they agree on the intent, and which was right.

    Who was right is known of turns whose intent a person reviewed.
    """
    pairs: defaultdict[tuple[str, str], list[ChatTurn]] = defaultdict(list)
    for turn in turns:
        if turn.intent is not None and turn.shadow_intent is not None:
            pairs[turn.intent_model_version or "", turn.shadow_model_version or ""].append(turn)
    return [_shadow_row(champion, challenger, both) for (champion, challenger), both in sorted(pairs.items())]


def _arm_row(experiment: str, arm: str, arms: Mapping[str, Sequence[ChatTurn]], failed: Collection[str]) -> Row:
    turns = arms[arm]
    failures = _failures(turns, failed)
    up = sum(turn.user_feedback == "thumbs_up" for turn in turns)
    down = sum(turn.user_feedback == "thumbs_down" for turn in turns)
    against = CONTROL if CONTROL in arms else max(sorted(arms), key=lambda one: len(arms[one]))
    difference = (
        None
        if arm == against
        else newcombe_difference(failures, len(turns), _failures(arms[against], failed), len(arms[against]))
    )
    return {
        "experiment": experiment,
        "arm": arm,
        "turns": len(turns),
        "shoppers": len({shopper_of(turn.user_key, turn.session_id) for turn in turns}),
        "failures": failures,
        **_figures("failure_rate", wilson_interval(failures, len(turns))),
        "against": "" if arm == against else against,
        **_figures("difference", difference),
        "thumbs_up": up,
        "thumbs_down": down,
        **_figures("satisfaction", wilson_interval(up, up + down)),
    }


def _shadow_row(champion: str, challenger: str, turns: Sequence[ChatTurn]) -> Row:
    agree = sum(turn.intent == turn.shadow_intent for turn in turns)
    reviewed = [turn for turn in turns if turn.expected_intent is not None]
    return {
        "champion": champion,
        "shadow": challenger,
        "turns": len(turns),
        "agree": agree,
        **_figures("agreement", wilson_interval(agree, len(turns))),
        "reviewed": len(reviewed),
        "only_champion_right": sum(turn.intent == turn.expected_intent != turn.shadow_intent for turn in reviewed),
        "only_shadow_right": sum(turn.shadow_intent == turn.expected_intent != turn.intent for turn in reviewed),
        "both_right": sum(turn.intent == turn.expected_intent == turn.shadow_intent for turn in reviewed),
    }


def _failures(turns: Sequence[ChatTurn], failed: Collection[str]) -> int:
    return sum(turn.trace_id in failed for turn in turns)


def _figures(name: str, interval: Interval | None) -> Row:
    keys = (name, f"{name}_low", f"{name}_high")
    return {key: None if value is None else round(value, 4) for key, value in zip(keys, bounds(interval), strict=True)}
