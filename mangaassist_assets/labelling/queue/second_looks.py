"""Second looks: labels that are probably wrong, and turns on which people differ, are asked about once more.

They are asked of somebody who has not answered yet, and once: two who agree settle it, two who differ are not used.
Where nobody else reviews, nothing is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from mangaassist_assets.labelling.judged_reviews import JudgedReviews
from mangaassist_assets.labelling.people.policy import UNNAMED, person_key
from mangaassist_assets.tracing.contract.names import EXPECTED_INTENT
from mangaassist_assets.tracing.contract.turns import ChatTurn

SHARE = 0.25
"""The largest part of the failures' share of a queue that second looks may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondLook:
    """A turn to ask about once more: `of` are those who answered, whom not to ask, `why` in words."""

    trace_id: str
    of: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondLooks:
    """The turns that are asked about again, in order; `fresh` are those that were not asked again before."""

    items: tuple[SecondLook, ...] = ()
    fresh: frozenset[str] = frozenset()


def find_second_looks(said: JudgedReviews) -> tuple[SecondLook, ...]:
    """Return what is worth a second look where somebody else is there to give it: contradictions, then suspects.

    The surest suspect comes first. A label on which two people agree is settled.
    """
    found: dict[str, SecondLook] = {}
    for one in said.reviews.disagreements:
        if one.kind == "reviewers":
            (trace_id,) = one.trace_ids
            people = tuple(sorted({answer.by for answer in one.answers}))
            found[trace_id] = SecondLook(trace_id=trace_id, of=people, why=f"{' and '.join(people)} differ on it")
    for suspect in said.people.noise.suspects if said.people.noise else ():
        people = said.reviews.people.get(suspect.example_id, ())
        if len(people) == 1:
            why = (
                f"{people[0]} said {suspect.given}, {suspect.likely} is likelier: wrong with a probability of "
                f"{suspect.probability:.0%}"
            )
            found.setdefault(suspect.example_id, SecondLook(trace_id=suspect.example_id, of=people, why=why))
    return tuple(look for look in found.values() if _somebody_else(said, look.of))


def choose_second_looks(
    found: Sequence[SecondLook],
    turns: Collection[ChatTurn],
    *,
    asked_before: Mapping[str, Collection[str]],
    handled: Collection[str],
    most: int,
) -> SecondLooks:
    """Return what is asked again now.

    Args:
        found: What is worth it, best first.
        turns: The reviewed turns.
        asked_before: Of each turn that was asked about again, who had answered then: it is asked on until somebody
            else answers, and never again.
        handled: Turns that a reviewer declined, or is done with, since they were asked about again.
        most: How many at most.
    """
    answered_by = {turn.trace_id: _who_answered(turn) for turn in turns}
    items: list[SecondLook] = []
    for look in found:
        if look.trace_id in asked_before:
            before = {person_key(one) for one in asked_before[look.trace_id]}
            if answered_by.get(look.trace_id, set()) - before or look.trace_id in handled:
                continue
        items.append(look)
    # What was asked already keeps its place.
    items.sort(key=lambda look: look.trace_id not in asked_before)
    chosen = tuple(items[: max(0, most)])
    return SecondLooks(items=chosen, fresh=frozenset(one.trace_id for one in chosen) - asked_before.keys())


def _somebody_else(said: JudgedReviews, people: Collection[str]) -> bool:
    answered = {person_key(one) for one in people}
    known = said.policy.reviewers or [one.person for one in said.people.standings if not one.held_back]
    return any(person_key(one) not in answered for one in known)


def _who_answered(turn: ChatTurn) -> set[str]:
    return {
        person_key(review.source_id or UNNAMED)
        for review in turn.reviews
        if review.name == EXPECTED_INTENT and review.kind == "expectation" and review.source == "human"
    }
