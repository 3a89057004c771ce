"""The labels of a bundle as a person reads them: how many of whom, what waits, how often whom was wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from datetime import UTC, datetime

from mangaassist_assets.core.figures import Figures, Row, count_rows
from mangaassist_assets.labelling.disagreement import Answer, Disagreement
from mangaassist_assets.labelling.error_estimate import ErrorRate
from mangaassist_assets.labelling.gathering import GatheredLabels
from mangaassist_assets.labelling.judge import Judging
from mangaassist_assets.labelling.noise.label_noise import NoiseReport
from mangaassist_assets.labelling.people.policy import person_key
from mangaassist_assets.labelling.people.standing import Standing
from mangaassist_assets.labelling.propagation import ClusterPropagation
from mangaassist_assets.labelling.reviewed_messages import PropagationRule
from mangaassist_assets.labelling.reviews import WaitingName

_ROWS_SHOWN = 50
_LONGEST_INTENT = 80


def label_figures(gathered: GatheredLabels, *, new_intents: Collection[str] = ()) -> Figures:
    """Return counts of labels, measured errors, and the first disagreements.

    Args:
        gathered: The labels.
        new_intents: Known intents that the training corpus does not have.
    """
    propagation = gathered.propagation
    return {
        "dagster/row_count": len(gathered.labels),
        "of_people": gathered.count("human"),
        "of_the_judge": gathered.count("judge"),
        "propagated": gathered.count("propagated"),
        "by_origin": count_rows(gathered.origins(), what="origin"),
        "new_intents": ", ".join(sorted(new_intents)) or "none",
        "reviewers": gathered.policy.describe_reviewers(),
        "catalogue": gathered.policy.describe_catalogue(),
        "people": [_person_row(one) for one in gathered.people.standings[:_ROWS_SHOWN]],
        "one_hand": describe_hands(gathered),
        "held_back": "; ".join(f"{one.person}: {one.held_back}" for one in gathered.people.standings if one.held_back)
        or "nobody",
        "not_listed": count_rows(gathered.unheard, what="reviewer"),
        "answers": count_rows({str(fate): count for fate, count in gathered.fates.items()}),
        "waiting_intents": [_waiting_row(one) for one in gathered.waiting[:_ROWS_SHOWN]],
        "label_noise": describe_noise(gathered.people.noise),
        "propagation_error": describe_error(propagation.error, "left-out reviewed shoppers"),
        "propagation_rule": describe_rule(propagation.rule),
        "propagation": [_propagation_row(one) for one in propagation.clusters[:_ROWS_SHOWN] if one.reviewed],
        "judge": describe_judge(gathered.judging),
        "disagreements": [_disagreement_row(one) for one in gathered.disagreements[:_ROWS_SHOWN]],
        "disagreements_in_all": len(gathered.disagreements),
        "not_labelled": count_rows(gathered.skipped),
    }


def describe_hands(gathered: GatheredLabels) -> str:
    """Return in words whether one person alone made the labels."""
    labels = [one for one in gathered.labels if one.kind == "human"]
    by = Counter(person_key(one.labeller) for one in labels)
    if not by:
        return "no labels of people"
    if len(by) == 1:
        return f"all {len(labels)} labels are of one person: nobody else looked at any of them"
    (name, most), *_ = by.most_common(1)
    return f"{len(by)} people; {most} of {len(labels)} labels are of {name}"


def describe_noise(noise: NoiseReport | None) -> str:
    """Return in words how many labels are wrong, of people and the corpus they are compared with."""
    if noise is None or noise.estimated_rate is None:
        return "no estimate" + (f": {noise.why}" if noise else ": nobody reviewed anything")
    return (
        f"about {noise.estimated_rate:.1%} of {noise.examples} labels, of people and the corpus beside them, are wrong "
        f"(95 % interval {noise.low:.1%} to {noise.high:.1%}); {len(noise.suspects)} suspects"
    )


def describe_error(error: ErrorRate, trials: str) -> str:
    """Return a measured error with its interval in words; `trials` names what was tried."""
    if error.trials == 0:
        return f"not measured: no {trials}"
    return (
        f"{error.wrong} of {error.trials} {trials} got another intent than people gave "
        f"(95 % interval {error.low:.1%} to {error.high:.1%})"
    )


def describe_rule(rule: PropagationRule | None) -> str:
    """Return in words which failures get the intent of the reviewed messages that are nearest to them."""
    if rule is None:
        return "none: nothing was propagated"
    answered = ", other than what the classifier answered" if rule.doubts_answer else ""
    return f"the nearest intent{answered}, if it is nearer than the next by {rule.margin:g} (cosine)"


def describe_judge(judging: Judging) -> str:
    """Return in words which judge was asked, how often it was wrong, and why its labels do not count if so."""
    if judging.model_id is None:
        return "no judge is configured"
    description = judging.model_id
    if judging.disagreement_rate is not None:
        description += f": {describe_error(judging.disagreement_rate, 'messages that people reviewed')}"
    return description if judging.kept_out is None else f"{description}; its labels are left out: {judging.kept_out}"


def _propagation_row(one: ClusterPropagation) -> Row:
    return {
        "cluster_id": one.cluster_id,
        "intents": ", ".join(one.intents) or None,
        "reviewed_shoppers": one.reviewed,
        "trials": one.error.trials if one.error else 0,
        "wrong": one.error.wrong if one.error else 0,
        "estimated_error": one.error.rate if one.error else None,
        "confidence": round(1 - one.error.bound, 4) if one.error else None,
        "labelled": one.labelled,
        "refused": one.refused,
    }


def _person_row(one: Standing) -> Row:
    wrong = one.wrong
    return {
        "reviewer": one.person,
        "labels": one.answers,
        "suspects": one.suspects,
        "judged_by_others": one.judged,
        "wrong": None if wrong is None else wrong.rate,
        "low": None if wrong is None else wrong.low,
        "high": None if wrong is None else wrong.high,
        "most_given": f"{one.most_given[:_LONGEST_INTENT]} ({one.most_given_share:.0%})",
        "standing": "held back" if one.held_back else "confirmed" if one.confirmed else "not confirmed yet",
        "look_at": one.held_back or one.shown or "",
    }


def _waiting_row(one: WaitingName) -> Row:
    return {
        "intent": one.name[:_LONGEST_INTENT],
        "answers": len(one.trace_ids),
        "shoppers": one.shoppers,
        "by": ", ".join(one.by[:5]),
        "traces": ", ".join(one.trace_ids[:5]),
        "accept_with": f'mangaassist labels accept-intent "{one.name}" --by … --reason …',
    }


def _disagreement_row(one: Disagreement) -> Row:
    return {
        "kind": one.kind,
        "traces": ", ".join(one.trace_ids[:5]),
        "answers": "; ".join(_describe_answer(answer) for answer in one.answers[:6]),
        "outcome": one.outcome,
    }


def _describe_answer(answer: Answer) -> str:
    given = datetime.fromtimestamp(answer.given_ms / 1000, tz=UTC)
    return f"{answer.intent} by {answer.by} on {given:%Y-%m-%d %H:%M}"
