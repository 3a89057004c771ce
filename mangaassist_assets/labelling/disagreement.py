"""Who contradicts whom: every pair of answers that do not fit, with who gave them and when. Nothing is averaged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from mangaassist_assets.labelling.intent_labels import IntentLabel, LabelConflict, LabelKind

DisagreementKind = Literal["reviewers", "outvoted", "same_message", "revised", "judge", "propagated"]
"""Two people on one turn; two and more who agree against one; people on almost the same message; one person who changed
their mind; a judge against a person; what a cluster would have said against a person."""

_PEOPLE: frozenset[DisagreementKind] = frozenset({"reviewers", "same_message"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One intent that somebody gave a turn, and when (ms since the epoch); `by` as `IntentLabel.labeller`."""

    trace_id: str
    intent: str
    kind: LabelKind
    by: str
    given_ms: int

    @property
    def order(self) -> tuple[int, str, str, str]:
        """Oldest first; ties by trace, person and answer."""
        return (self.given_ms, self.trace_id, self.by, self.intent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """Answers that contradict each other, oldest first, and in words what was made of them."""

    kind: DisagreementKind
    answers: tuple[Answer, ...]
    outcome: str

    @property
    def trace_ids(self) -> tuple[str, ...]:
        """The turns it is about, sorted."""
        return tuple(sorted({one.trace_id for one in self.answers}))

    @property
    def intents(self) -> tuple[str, ...]:
        """The answers given, sorted."""
        return tuple(sorted({one.intent for one in self.answers}))


def answer_of(label: IntentLabel) -> Answer:
    """Return the answer that a label rests on."""
    return Answer(
        trace_id=label.trace_id,
        intent=label.intent,
        kind=label.kind,
        by=label.labeller,
        given_ms=label.labelled_ms,
    )


def disagreement(kind: DisagreementKind, answers: Iterable[Answer], *, outcome: str) -> Disagreement:
    """Return a disagreement with its answers in order."""
    return Disagreement(kind=kind, answers=tuple(sorted(answers, key=lambda one: one.order)), outcome=outcome)


def in_order(disagreements: Iterable[Disagreement]) -> tuple[Disagreement, ...]:
    """Return disagreements by kind and turns, so that the same ones are always listed alike."""
    return tuple(sorted(disagreements, key=lambda one: (one.kind, one.trace_ids, one.intents)))


def conflicts_of_people(disagreements: Iterable[Disagreement]) -> tuple[LabelConflict, ...]:
    """Return what people contradict each other on, no turn twice: none of it is a label."""
    found = {(one.trace_ids, one.intents) for one in disagreements if one.kind in _PEOPLE}
    whole = [one for one in found if not any(set(one[0]) < set(other[0]) for other in found)]
    return tuple(LabelConflict(trace_ids=trace_ids, answers=intents) for trace_ids, intents in sorted(whole))
