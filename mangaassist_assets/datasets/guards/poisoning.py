"""The poisoning guard: how much of a dataset one shopper, or a crowd of new ones, may decide.

What counts is who wrote a message, and of people's reviews also who gave them: a label is a person's review, a judge's,
or a guess that a failure cluster's reviews speak for its other members. Guesses are easily multiplied, so there the
guard is strictest.

What this does not stop: accounts that were opened long before they are used; a few wrong answers of a reviewer (second
looks and the label noise check find them); messages that people review and that are what they say, only too many of one
kind from many patient shoppers (the balance check shows it); a crowd of newcomers that is early from using up the
guesses that honest newcomers could have had.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mangaassist_assets.core.text_keys import normalise_text
from mangaassist_assets.datasets.guards.limits import Caps
from mangaassist_assets.datasets.schema import TRUST
from mangaassist_assets.labelling.intent_labels import IntentLabel
from mangaassist_assets.labelling.people.hands import labels_by_person, several_review
from mangaassist_assets.labelling.people.policy import person_key
from mangaassist_assets.privacy import shopper_of

_DAY_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustConfig:
    """Limits of the poisoning guard.

    Attributes:
        per_newcomer: labels of one newcomer: a shopper whose first trace is younger than `newcomer_days` when the
            label is given, or a session without an account, which nothing is known of. Others have `Caps.per_user`.
        quorum: voices a propagated label must rest on. An established shopper has one voice, a newcomer
            `newcomer_voice`, however many of their messages were reviewed.
        share_of_one: the largest share of one intent's examples that one shopper may have; `share_free` are allowed
            to anybody, or a rare intent could not begin.
        newcomer_guesses: guesses about newcomers' messages, per intent, as a multiple of its other examples;
            `guesses_free` are allowed in any case.
        reviewer_share: the largest share of people's labels that one reviewer may have of whom nothing is known yet,
            where several people review; `reviewer_free`, which is one bundle's queue, are allowed to anybody.
    """

    per_newcomer: int = 3
    newcomer_days: float = 7.0
    quorum: float = 2.0
    newcomer_voice: float = 0.5
    share_of_one: float = 0.25
    share_free: int = 3
    newcomer_guesses: float = 1.0
    guesses_free: int = 5
    reviewer_share: float = 0.5
    reviewer_free: int = 50

    def __post_init__(self) -> None:
        if not 0 < self.share_of_one < 1:
            raise ValueError(f"share_of_one is {self.share_of_one}: give a share between 0 and 1, both excluded")
        if not 0 < self.reviewer_share < 1:
            raise ValueError(f"reviewer_share is {self.reviewer_share}: give a share between 0 and 1, both excluded")
        for name in ("per_newcomer", "newcomer_days", "quorum", "newcomer_voice", "newcomer_guesses"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopperHistory:
    """What is known about shoppers from the traces of all bundles.

    Attributes:
        first_seen: shopper → start of their first trace, milliseconds since the epoch (UTC).
        began_ms: start of the first trace of all. Who came within the first days of the record is not called new:
            nobody could be older.
        writers: trace → (user_key, session_id).
    """

    first_seen: Mapping[str, int]
    began_ms: int
    writers: Mapping[str, tuple[str | None, str]] = field(repr=False)

    def is_newcomer(self, user_key: str | None, *, at_ms: int, days: float) -> bool:
        """Return whether so little is known of a shopper at a time that they count for less."""
        first = None if user_key is None else self.first_seen.get(user_key)
        if first is None:
            return True
        window = days * _DAY_MS
        return at_ms - first < window <= first - self.began_ms


def shopper_history(traces: Iterable[tuple[str, str | None, str, int]]) -> ShopperHistory:
    """Return what is known from traces; each is (trace_id, user_key, session_id, timestamp_ms)."""
    first_seen: dict[str, int] = {}
    writers: dict[str, tuple[str | None, str]] = {}
    began: int | None = None
    for trace_id, user_key, session_id, timestamp_ms in traces:
        writers[trace_id] = (user_key, session_id)
        began = timestamp_ms if began is None else min(began, timestamp_ms)
        if user_key is not None:
            first_seen[user_key] = min(timestamp_ms, first_seen.get(user_key, timestamp_ms))
    return ShopperHistory(first_seen=first_seen, began_ms=began or 0, writers=writers)


def admit(
    labels: Sequence[IntentLabel],
    *,
    base_intents: Mapping[str, int],
    history: ShopperHistory | None,
    caps: Caps,
    config: TrustConfig,
    excluded: Counter[str],
    confirmed: Collection[str] = (),
) -> list[IntentLabel]:
    """Return which labels are admitted to a dataset, most trusted and oldest first.

    One after the other: guesses without a quorum go; a shopper's second message of the same words goes; what exceeds
    a shopper's cap goes; what exceeds one reviewer's share of people's labels goes, where several people review and
    nothing confirms that one; what exceeds one shopper's share of an intent goes; guesses about newcomers that exceed
    what is known of the intent otherwise go. The cap comes before everything that looks at several shoppers, so
    whatever one of them writes beyond it changes nothing for anybody.

    Args:
        labels: at most one a trace, with redacted text.
        base_intents: intent → bootstrap examples.
        history: of all shoppers as of the dataset's time; None where it is not known: nobody is a newcomer then, and
            whom a guess rests on is not looked at.
        caps: how many labels one shopper, or one session without an account, may have.
        config: the other limits.
        excluded: counts the others, by reason.
        confirmed: reviewers whose answers were found to fit those of others.
    """
    ordered = sorted(labels, key=lambda one: (TRUST[one.kind], one.timestamp_ms, one.trace_id))
    if history is not None:
        ordered = _with_quorum(ordered, history, config, excluded)
    newcomers = {
        one.trace_id
        for one in ordered
        if history is not None and history.is_newcomer(one.user_key, at_ms=one.labelled_ms, days=config.newcomer_days)
    }
    ordered = _capped(ordered, newcomers, caps, config, excluded)
    ordered = _of_several_hands(ordered, confirmed, config, excluded)
    ordered = _shared(ordered, base_intents, config, excluded)
    return _guesses_bounded(ordered, newcomers, base_intents, config, excluded)


def _with_quorum(
    labels: Sequence[IntentLabel], history: ShopperHistory, config: TrustConfig, excluded: Counter[str]
) -> list[IntentLabel]:
    staying = [one for one in labels if one.kind != "propagated" or _voices(one, history, config) >= config.quorum]
    excluded["guess without a quorum of shoppers"] += len(labels) - len(staying)
    return staying


def _voices(label: IntentLabel, history: ShopperHistory, config: TrustConfig) -> float:
    """Count the shoppers behind a guess; a trace that is gone, say of an erased user, has no voice."""
    voices: dict[str, float] = {}
    for trace_id in label.sources:
        if trace_id in history.writers:
            user_key, session_id = history.writers[trace_id]
            new = history.is_newcomer(user_key, at_ms=label.labelled_ms, days=config.newcomer_days)
            voices[shopper_of(user_key, session_id)] = config.newcomer_voice if new else 1.0
    return sum(voices.values())


def _capped(
    labels: Sequence[IntentLabel], newcomers: set[str], caps: Caps, config: TrustConfig, excluded: Counter[str]
) -> list[IntentLabel]:
    staying: list[IntentLabel] = []
    used: Counter[str] = Counter()
    written: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    for label in labels:
        shopper = shopper_of(label.user_key, label.session_id)
        # The same words with another intent are a contradiction, which is not for this guard to hide.
        message = (normalise_text(label.text), label.intent)
        if message in written[shopper]:
            excluded["duplicate message"] += 1
            continue
        written[shopper].add(message)
        kind, limit = ("shopper", caps.per_user) if label.user_key else ("session", caps.per_session)
        if label.trace_id in newcomers and config.per_newcomer < limit:
            kind, limit = f"new {kind}", config.per_newcomer
        if used[shopper] >= limit:
            excluded[f"over the cap per {kind}"] += 1
            continue
        used[shopper] += 1
        staying.append(label)
    return staying


def _of_several_hands(
    labels: Sequence[IntentLabel], confirmed: Collection[str], config: TrustConfig, excluded: Counter[str]
) -> list[IntentLabel]:
    by_person = labels_by_person([label.labeller] for label in labels if label.kind == "human")
    if not several_review([label.labeller] for label in labels if label.kind == "human"):
        return list(labels)
    known = {person_key(name) for name in confirmed}
    to_others = config.reviewer_share / (1 - config.reviewer_share)

    def hand(label: IntentLabel) -> tuple[str, str] | None:
        person = person_key(label.labeller)
        return ("reviewer", person) if label.kind == "human" and person not in known else None

    def allowed(owner: tuple[str, str]) -> int:
        return max(config.reviewer_free, int(to_others * (by_person.total() - by_person[owner[1]])))

    return _at_most(labels, hand, allowed, excluded, "over one reviewer's share of people's labels")


def _shared(
    labels: Sequence[IntentLabel], base_intents: Mapping[str, int], config: TrustConfig, excluded: Counter[str]
) -> list[IntentLabel]:
    by_intent = Counter(base_intents)
    own: Counter[tuple[str, str]] = Counter()
    for label in labels:
        by_intent[label.intent] += 1
        own[label.intent, shopper_of(label.user_key, label.session_id)] += 1
    to_others = config.share_of_one / (1 - config.share_of_one)

    def allowed(owner: tuple[str, str]) -> int:
        return max(config.share_free, int(to_others * (by_intent[owner[0]] - own[owner])))

    return _at_most(
        labels,
        lambda label: (label.intent, shopper_of(label.user_key, label.session_id)),
        allowed,
        excluded,
        "over one shopper's share of the intent",
    )


def _guesses_bounded(
    labels: Sequence[IntentLabel],
    newcomers: set[str],
    base_intents: Mapping[str, int],
    config: TrustConfig,
    excluded: Counter[str],
) -> list[IntentLabel]:
    def about_newcomer(label: IntentLabel) -> bool:
        return label.kind != "human" and label.trace_id in newcomers

    known = Counter(base_intents)
    known.update(label.intent for label in labels if not about_newcomer(label))
    return _at_most(
        labels,
        lambda label: ("guess", label.intent) if about_newcomer(label) else None,
        lambda owner: max(config.guesses_free, int(config.newcomer_guesses * known[owner[1]])),
        excluded,
        "guess about a new shopper beyond what is known of the intent",
    )


def _at_most(
    labels: Sequence[IntentLabel],
    group_of: Callable[[IntentLabel], tuple[str, str] | None],
    allowed: Callable[[tuple[str, str]], int],
    excluded: Counter[str],
    reason: str,
) -> list[IntentLabel]:
    """Keep the first labels of each group; those without a group stay."""
    staying: list[IntentLabel] = []
    used: Counter[tuple[str, str]] = Counter()
    for label in labels:
        group = group_of(label)
        if group is not None:
            if used[group] >= allowed(group):
                excluded[reason] += 1
                continue
            used[group] += 1
        staying.append(label)
    return staying
