"""Labels out of people's reviews: the latest word of each person, and no label where people contradict each other."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
from mangaassist_assets.tracing.contract.names import EXPECTED_INTENT
from mangaassist_assets.tracing.contract.turns import ChatTurn
from mangaassist_assets.tracing.ingestion.stored_turns import read_turns

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore

_NO_LABEL = "no label: people contradict each other"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewLabels:
    """What reviews say, ordered by (timestamp_ms, trace_id), and what they contradict each other on.

    `conflicts` are those disagreements of people that cost a label. `unknown_intents` counts answers that are no known
    intent, `skipped` the reviewed turns without a label by reason.
    """

    labels: tuple[IntentLabel, ...]
    conflicts: tuple[LabelConflict, ...]
    disagreements: tuple[Disagreement, ...] = ()
    unknown_intents: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)


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


def labels_from_reviews(turns: Iterable[ChatTurn], *, known_intents: Collection[str] = ()) -> ReviewLabels:
    """Return the intents that people gave.

    Of one person's answers on one turn the latest counts. A turn of two people with two answers, and almost the same
    message with two answers, give no label: both are listed. An answer that is a known intent but for case, hyphens
    and spaces is that intent; one that is none is counted and gives no label.

    Args:
        turns: the turns of a bundle.
        known_intents: the intents that may be labels; without any, every answer stands as it is.
    """
    spelling = IntentSpelling(known_intents)
    found: list[Disagreement] = []
    skipped: Counter[str] = Counter()
    last_words: list[tuple[ChatTurn, tuple[Answer, ...]]] = []
    for turn in sorted(turns, key=lambda one: (one.timestamp_ms, one.trace_id)):
        answers = _answers(turn, spelling)
        if not answers:
            continue
        if not turn.learnable_text.strip():
            skipped["the message is empty"] += 1
            continue
        last, revised = _last_words(answers)
        found += revised
        last_words.append((turn, last))
    found += _contradictions(last_words)
    conflicts = conflicts_of_people(found)
    disputed = {trace_id for conflict in conflicts for trace_id in conflict.trace_ids}
    agreed = [_label(turn, last) for turn, last in last_words if turn.trace_id not in disputed]
    unknown = Counter(one.intent for one in agreed if known_intents and one.intent not in known_intents)
    labels = tuple(label for label in agreed if label.intent not in unknown)
    if disputed:
        skipped["people contradict each other"] += len(disputed)
    if unknown:
        skipped["the answer is no known intent"] += unknown.total()
    return ReviewLabels(
        labels=labels,
        conflicts=conflicts,
        disagreements=in_order(found),
        unknown_intents=dict(sorted(unknown.items())),
        skipped=dict(sorted(skipped.items())),
    )


class IntentSpelling:
    """The known intents by a key without case, hyphens, underscores and spaces: people type names in many ways."""

    def __init__(self, known: Collection[str]) -> None:
        by_key: defaultdict[str, list[str]] = defaultdict(list)
        for intent in sorted(set(known)):
            by_key[spelling_key(intent)].append(intent)
        self._exact = frozenset(known)
        self._by_key = {key: same[0] for key, same in by_key.items() if len(same) == 1}

    def corrected(self, intent: str) -> str:
        """Return the known intent that is meant, or the answer as it is, without spaces around it."""
        stripped = intent.strip()
        if stripped in self._exact:
            return stripped
        return self._by_key.get(spelling_key(stripped), stripped)


def spelling_key(intent: str) -> str:
    """Return an intent's name without case, hyphens, underscores and spaces."""
    return "".join(character for character in intent.casefold() if character not in " -_\t")


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
            by=by or "unknown",
            given_ms=given_ms,
        )
        for intent, by, given_ms in given
    )
    return sorted(answers, key=lambda one: one.order)


def _last_words(answers: list[Answer]) -> tuple[tuple[Answer, ...], list[Disagreement]]:
    """Return each person's latest answer, and where it is another one than their earlier answers."""
    # MLflow keeps reviewers' names in lower case in its queues and as typed elsewhere: one person all the same.
    of_person: defaultdict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        of_person[answer.by.casefold()].append(answer)
    last = tuple(said[-1] for _, said in sorted(of_person.items()))
    revised = [
        disagreement("revised", said, outcome=f"the later answer counts: {said[-1].intent}")
        for _, said in sorted(of_person.items())
        if len({one.intent for one in said}) > 1
    ]
    return last, revised


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
