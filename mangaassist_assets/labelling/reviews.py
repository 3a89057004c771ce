"""Labels out of people's reviews: the latest word of each person, and no label where people contradict each other.

No answer is lost: each is used, waits, or is left out for a reason that is counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import polars as pl

from mangaassist_assets.core.bundles import bundles_until
from mangaassist_assets.core.text_keys import normalise_text
from mangaassist_assets.labelling.disagreement import (
    Answer,
    Disagreement,
    conflicts_of_people,
    disagreement,
    in_order,
)
from mangaassist_assets.labelling.intent_labels import IntentLabel, LabelConflict, label_of
from mangaassist_assets.labelling.intent_names import IntentSpelling, is_name, spelling_key
from mangaassist_assets.labelling.people.policy import EVERYBODY, UNNAMED, LabellingPolicy, person_key
from mangaassist_assets.privacy import shopper_of
from mangaassist_assets.tracing.contract.names import EXPECTED_INTENT
from mangaassist_assets.tracing.contract.turns import ChatTurn
from mangaassist_assets.tracing.ingestion.stored_turns import read_turns

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore

_NO_LABEL = "no label: people contradict each other"
_LEAST_AGREEING = 2

Fate = Literal[
    "used",
    "an earlier answer of the same person",
    "outvoted by two others who agree",
    "not of a listed reviewer",
    "the reviewer's answers are held back",
    "the message is empty",
    "people contradict each other",
    "the name waits to be accepted",
    "the answer is no name of an intent",
]
"""What became of an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingName:
    """A name that is no known intent, in its most used spelling, with the answers that wait for it.

    `shoppers` counts whose messages it was given to, `by` names who gave it, both sorted out of `trace_ids`.
    """

    name: str
    trace_ids: tuple[str, ...]
    shoppers: int
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewLabels:
    """What reviews say, ordered by (timestamp_ms, trace_id), and what they contradict each other on.

    `conflicts` are those disagreements of people that cost a label. `waiting` are names that are no known intent,
    `skipped` counts the reviewed turns without a label by reason, `fates` every answer by what became of it. `unheard`
    counts the answers of people who are not listed, by name. `people` names who agrees on each label, by trace id.
    """

    labels: tuple[IntentLabel, ...]
    conflicts: tuple[LabelConflict, ...]
    disagreements: tuple[Disagreement, ...] = ()
    waiting: tuple[WaitingName, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    fates: Mapping[Fate, int] = field(default_factory=dict)
    unheard: Mapping[str, int] = field(default_factory=dict)
    people: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def is_reviewed(turn: ChatTurn) -> bool:
    """Whether a person said what the turn asks for, or which documents answer it."""
    return turn.expected_intent is not None or bool(turn.expected_documents)


_REVIEWED = pl.col("expected_intent").is_not_null() | (pl.col("expected_documents").list.len() > 0)
"""`is_reviewed` of the columns of stored turns."""
_ANSWERED = (
    pl.col("reviews")
    .list.eval((pl.element().struct["kind"] == "expectation") & (pl.element().struct["source"] == "human"))
    .list.any()
)
"""A person said something of a turn, be it that it was no name: what `labels_from_reviews` looks at."""


def read_reviewed_turns(store: SnapshotStore, release_bundle: str) -> list[ChatTurn]:
    """Return the reviewed turns of a bundle and of those that began before it, the oldest bundle first."""
    return [turn for bundle in bundles_until(store, release_bundle) for turn in read_turns(store, bundle, _REVIEWED)]


def read_turns_to_label(store: SnapshotStore, release_bundle: str, trace_ids: Iterable[str]) -> list[ChatTurn]:
    """Return the turns of a bundle that people reviewed, and those of these ids, in the order of all turns."""
    return read_turns(store, release_bundle, _REVIEWED | _ANSWERED | pl.col("trace_id").is_in(list(set(trace_ids))))


def labels_from_reviews(
    turns: Iterable[ChatTurn],
    *,
    known_intents: Collection[str] = (),
    policy: LabellingPolicy = EVERYBODY,
    held_back: Collection[str] = (),
) -> ReviewLabels:
    """Return the intents that people gave.

    Of one person's answers on one turn the latest counts. A turn of two people with two answers, and almost the same
    message with two answers, give no label: both are listed. Of three and more people those who agree count, if they
    are two for each who does not. An answer that is a known intent but for its spelling is that intent; one that is
    none waits, or is no name at all.

    Args:
        turns: the turns of a bundle.
        known_intents: the intents that may be labels; without any, every answer stands as it is.
        policy: whose answers count.
        held_back: people, by `person_key`, of whom no answer is used for now.
    """
    heard = _Heard(IntentSpelling(known_intents), policy, held_back)
    found: list[Disagreement] = []
    last_words: list[tuple[ChatTurn, tuple[Answer, ...]]] = []
    for turn in sorted(turns, key=lambda one: (one.timestamp_ms, one.trace_id)):
        taken = heard.answers(turn)
        if not taken:
            continue
        last, revised = _last_words(taken)
        found += revised
        heard.fates["an earlier answer of the same person"] += len(taken) - len(last)
        agreed = _majority(last)
        if len(agreed) < len(last) and agreed:
            outcome = f"{len(agreed)} of {len(last)} people agree: {agreed[0].intent}"
            found.append(disagreement("outvoted", last, outcome=outcome))
            heard.fates["outvoted by two others who agree"] += len(last) - len(agreed)
        last_words.append((turn, agreed or last))
    found += _contradictions(last_words)
    conflicts = conflicts_of_people(found)
    disputed = {trace_id for conflict in conflicts for trace_id in conflict.trace_ids}
    labels: list[IntentLabel] = []
    people: dict[str, tuple[str, ...]] = {}
    unknown: list[tuple[ChatTurn, tuple[Answer, ...]]] = []
    for turn, answers in last_words:
        if turn.trace_id in disputed:
            heard.leave_out("people contradict each other", answers)
        elif not known_intents or answers[0].intent in known_intents:
            heard.fates["used"] += len(answers)
            labels.append(_label(turn, answers))
            people[turn.trace_id] = tuple(sorted({one.by for one in answers}))
        elif is_name(answers[0].intent):
            heard.leave_out("the name waits to be accepted", answers)
            unknown.append((turn, answers))
        else:
            heard.leave_out("the answer is no name of an intent", answers)
    return ReviewLabels(
        labels=tuple(labels),
        conflicts=conflicts,
        disagreements=in_order(found),
        waiting=_waiting(unknown),
        skipped=dict(sorted(heard.skipped.items())),
        fates=dict(sorted((+heard.fates).items())),
        unheard=dict(sorted(heard.unheard.items())),
        people=people,
    )


class _Heard:
    """Takes the answers of those who may review, and counts what becomes of the others."""

    def __init__(self, spelling: IntentSpelling, policy: LabellingPolicy, held_back: Collection[str]) -> None:
        self._spelling = spelling
        self._policy = policy
        self._held_back = frozenset(held_back)
        self.fates: Counter[Fate] = Counter()
        self.skipped: Counter[str] = Counter()
        self.unheard: Counter[str] = Counter()

    def answers(self, turn: ChatTurn) -> list[Answer]:
        """Return the answers on a turn that count, oldest first."""
        taken: list[Answer] = []
        left_out: Counter[Fate] = Counter()
        for answer in _answers(turn, self._spelling):
            if not self._policy.may_review(answer.by):
                self.unheard[answer.by] += 1
                left_out["not of a listed reviewer"] += 1
            elif person_key(answer.by) in self._held_back:
                left_out["the reviewer's answers are held back"] += 1
            elif not turn.learnable_text.strip():
                left_out["the message is empty"] += 1
            else:
                taken.append(answer)
        self.fates.update(left_out)
        if left_out and not taken:
            self.skipped[min(left_out, key=lambda fate: (-left_out[fate], fate))] += 1
        return taken

    def leave_out(self, fate: Fate, answers: Sequence[Answer]) -> None:
        """Count a turn that gets no label, and the answers on it."""
        self.skipped[fate] += 1
        self.fates[fate] += len(answers)


def _waiting(unknown: Sequence[tuple[ChatTurn, tuple[Answer, ...]]]) -> tuple[WaitingName, ...]:
    of_name: defaultdict[str, list[tuple[ChatTurn, Answer]]] = defaultdict(list)
    for turn, answers in unknown:
        for answer in answers:
            of_name[spelling_key(answer.intent)].append((turn, answer))
    found = []
    for given in of_name.values():
        spelled = Counter(answer.intent for _, answer in given)
        found.append(
            WaitingName(
                name=min(spelled, key=lambda name: (-spelled[name], name)),
                trace_ids=tuple(sorted({turn.trace_id for turn, _ in given})),
                shoppers=len({shopper_of(turn.user_key, turn.session_id) for turn, _ in given}),
                by=tuple(sorted({answer.by for _, answer in given})),
            )
        )
    return tuple(sorted(found, key=lambda one: (-len(one.trace_ids), one.name)))


def _answers(turn: ChatTurn, spelling: IntentSpelling) -> list[Answer]:
    given: list[tuple[str, str | None, int]] = [
        (review.values[0], review.source_id, review.timestamp_ms)
        for review in turn.reviews
        if review.name == EXPECTED_INTENT and review.kind == "expectation" and review.source == "human"
    ]
    if not given and turn.expected_intent is not None:
        given = [(turn.expected_intent, turn.reviewer, turn.timestamp_ms)]
    answers = (
        Answer(
            trace_id=turn.trace_id,
            intent=spelling.corrected(intent),
            kind="human",
            by=by or UNNAMED,
            given_ms=given_ms,
        )
        for intent, by, given_ms in given
    )
    return sorted(answers, key=lambda one: one.order)


def _last_words(answers: list[Answer]) -> tuple[tuple[Answer, ...], list[Disagreement]]:
    """Return each person's latest answer, and where it is another one than their earlier answers."""
    of_person: defaultdict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        of_person[person_key(answer.by)].append(answer)
    last = tuple(said[-1] for _, said in sorted(of_person.items()))
    revised = [
        disagreement("revised", said, outcome=f"the later answer counts: {said[-1].intent}")
        for _, said in sorted(of_person.items())
        if len({one.intent for one in said}) > 1
    ]
    return last, revised


def _majority(last: Sequence[Answer]) -> tuple[Answer, ...]:
    """Return the answers on which a turn's people agree, none where they do not; see `labels_from_reviews`."""
    counted = Counter(one.intent for one in last)
    intent, agreeing = min(counted.items(), key=lambda item: (-item[1], item[0]))
    others = len(last) - agreeing
    settled = others == 0 or (agreeing >= _LEAST_AGREEING and agreeing >= 2 * others)
    return tuple(one for one in last if one.intent == intent) if settled else ()


def _contradictions(last_words: list[tuple[ChatTurn, tuple[Answer, ...]]]) -> list[Disagreement]:
    found: list[Disagreement] = []
    by_text: defaultdict[str, list[Answer]] = defaultdict(list)
    for turn, answers in last_words:
        by_text[normalise_text(turn.learnable_text)] += answers
        if len({one.intent for one in answers}) > 1:
            found.append(disagreement("reviewers", answers, outcome=_NO_LABEL))
    found += [
        disagreement("same_message", answers, outcome=_NO_LABEL)
        for answers in by_text.values()
        if len({one.trace_id for one in answers}) > 1 and len({one.intent for one in answers}) > 1
    ]
    return found


def _label(turn: ChatTurn, answers: tuple[Answer, ...]) -> IntentLabel:
    """Return the label on which all of a turn's reviewers agree; it is the first one's."""
    first = min(answers, key=lambda one: one.order)
    newest_ms = max(one.given_ms for one in answers)
    return label_of(turn, first.intent, "human", labeller=first.by, labelled_ms=newest_ms, confidence=1.0)
