"""Each person's answers beside everybody else's: who is confirmed, and whose answers are held back for now.

A model learns from the corpus and from what the *others* said, and says what it would have answered in their place.
How much of what it contradicts is wrong, and not its own confusion, is estimated as label noise is (`noise.mixture`). A
person who answers everything alike, or at random, stands out with most answers wrong; somebody who reviews what the
champion got wrong does not, for hard messages are not wrong labels.

Answers of intents that nobody else knows cannot be judged so: they speak neither for a person nor against one, but
where most answers name one such intent and its messages have nothing in common.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.text_keys import text_digest
from mangaassist_assets.labelling.noise.label_noise import (
    MINIMUM_EXAMPLES,
    MINIMUM_OF_INTENT,
    NoiseReport,
    find_label_noise,
    judge_from_outside,
)
from mangaassist_assets.labelling.noise.mixture import NoiseShare
from mangaassist_assets.labelling.people.policy import LabellingPolicy, person_key

JUDGED_TO_HOLD_BACK = 10
JUDGED_TO_CONFIRM = 20
WRONG_TO_HOLD_BACK = 0.5
"""A person is held back whose share of wrong answers lies above this with its whole interval."""
WRONG_TO_CONFIRM = 0.4
_DRAWS = 400
_OF_AN_INTENT = 100
"""A person is confirmed whose share of wrong answers lies below this with its whole interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenLabel:
    """One label with its message's vector (shape (d,), of length one) and who gave it: nobody for the corpus."""

    example_id: str
    intent: str
    vector: NDArray[np.float32]
    people: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the others' answers say of one person.

    `answers` are the labels that the person stands behind, `judged` those of intents that others know too. `most_given`
    is the intent given most and `most_given_share` its share. `wrong` estimates how many of the judged ones are wrong,
    None where too little is known. `held_back` says why none of the answers is used, `shown` what to look at although
    they are used; `confirmed` that they fit what others say.
    """

    person: str
    answers: int
    judged: int
    suspects: int
    most_given: str
    most_given_share: float
    wrong: NoiseShare | None
    confirmed: bool
    held_back: str | None = None
    shown: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Everybody who reviews, by name, and the noise of all labels together."""

    standings: tuple[Standing, ...] = ()
    noise: NoiseReport | None = None
    several: bool = False
    confirmed: tuple[str, ...] = field(init=False)
    held_back: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        for name, chosen in (
            ("confirmed", [one.person for one in self.standings if one.confirmed and not one.held_back]),
            ("held_back", [one.person for one in self.standings if one.held_back]),
        ):
            object.__setattr__(self, name, tuple(chosen))


NOBODY = People()


def judge_people(labels: Sequence[GivenLabel], policy: LabellingPolicy) -> People:
    """Return everybody's standing, and the noise of all labels.

    A person whose answers are mostly wrong is held back, unless somebody vouched for them, or they are listed and
    review alone: a single reviewer who is trusted by name is the normal case of a small team, and is only shown.

    Args:
        labels: of the corpus and of people, with distinct ids.
        policy: who is listed and who is vouched for.
    """
    names: dict[str, str] = {}
    for label in labels:
        for person in label.people:
            names.setdefault(person_key(person), person)
    noise = find_label_noise(
        [one.example_id for one in labels],
        [one.intent for one in labels],
        _vectors(labels),
        givers=[tuple(names[person_key(person)] for person in one.people) for one in labels],
    )
    standings = tuple(
        _standing(names[key], labels, policy, alone=len(names) == 1, suspects=noise.by_giver[names[key]].suspects)
        for key in sorted(names)
    )
    return People(standings=standings, noise=noise, several=len(names) > 1)


def _standing(
    person: str, labels: Sequence[GivenLabel], policy: LabellingPolicy, *, alone: bool, suspects: int
) -> Standing:
    key = person_key(person)
    own = [one for one in labels if key in map(person_key, one.people)]
    others = [one for one in labels if not one.people or {*map(person_key, one.people)} - {key}]
    intent, count = min(Counter(one.intent for one in own).items(), key=lambda item: (-item[1], item[0]))
    learned = {name for name, there in Counter(one.intent for one in others).items() if there >= MINIMUM_OF_INTENT}
    # Judged by others: labels that another person shares teach the model, and are no question to it.
    asked = [one for one in own if one.intent in learned and len({*map(person_key, one.people)}) == 1]
    teaching = [one for one in others if one.intent in learned]
    wrong = None
    if asked and len(learned) > 1 and len(teaching) >= MINIMUM_EXAMPLES:
        wrong = judge_from_outside(
            [one.intent for one in teaching],
            _vectors(teaching),
            [one.intent for one in asked],
            _vectors(asked),
            ids=[one.example_id for one in teaching],
        )
    judged = wrong.labels if wrong else 0
    mostly_wrong = wrong is not None and judged >= JUDGED_TO_HOLD_BACK and wrong.low > WRONG_TO_HOLD_BACK
    reason = None
    if wrong is not None and mostly_wrong:
        reason = (
            f"about {wrong.rate:.0%} of {judged} answers do not fit what others say ({wrong.low:.0%} to "
            f"{wrong.high:.0%}), {count} of {len(own)} are {intent!r}"
        )
    elif aimless := _aimless(own, learned, labels):
        reason = f"the messages called {aimless!r}, which nobody else answers, have no more in common than any others"
    trusted = policy.is_vouched_for(person) or (alone and bool(policy.reviewers))
    return Standing(
        person=person,
        answers=len(own),
        judged=judged,
        suspects=suspects,
        most_given=intent,
        most_given_share=round(count / len(own), 4),
        wrong=wrong,
        confirmed=policy.is_vouched_for(person)
        or (wrong is not None and judged >= JUDGED_TO_CONFIRM and wrong.high < WRONG_TO_CONFIRM),
        held_back=None if trusted else reason,
        shown=reason if trusted else None,
    )


def _aimless(own: Sequence[GivenLabel], learned: Collection[str], labels: Sequence[GivenLabel]) -> str | None:
    """Return the intent that most of a person's answers name, if nobody else does and its messages are just any.

    Messages of one intent are alike. Here as many messages of everybody, drawn at random again and again, are as alike
    more often than once in twenty times.
    """
    intent, count = min(Counter(one.intent for one in own).items(), key=lambda item: (-item[1], item[0]))
    if intent in learned or count < JUDGED_TO_HOLD_BACK or 2 * count <= len(own):
        return None
    vectors, given = _vectors(labels).astype(np.float64), _vectors([one for one in own if one.intent == intent])
    generator = np.random.default_rng(0)
    drawn = [_alikeness(vectors[generator.choice(len(vectors), count, replace=False)]) for _ in range(_DRAWS)]
    as_alike = sum(one >= _alikeness(given.astype(np.float64)) for one in drawn)
    return intent if as_alike > _DRAWS / 20 else None


def _alikeness(vectors: NDArray[np.float64]) -> float:
    """Return the mean cosine of two different messages of these, rows of length one."""
    count = len(vectors)
    return float((np.square(vectors.sum(axis=0)).sum() - count) / (count * (count - 1)))


def _vectors(labels: Collection[GivenLabel]) -> NDArray[np.float32]:
    stacked: NDArray[np.float32] = np.stack([one.vector for one in labels]) if labels else np.zeros((0, 1), np.float32)
    return stacked


def corpus_to_compare(corpus: Mapping[str, Sequence[str]]) -> list[tuple[str, str, str]]:
    """Return messages of a corpus by intent as (id, intent, message), enough of each intent to learn it from."""
    return [
        (f"corpus {intent} {number}", intent, text)
        for intent, texts in sorted(corpus.items())
        for number, text in enumerate(_some(texts))
    ]


def _some(texts: Sequence[str]) -> list[str]:
    """Return at most `_OF_AN_INTENT` messages of an intent, chosen by hash: more of them say nothing new."""
    return sorted(set(texts), key=lambda text: (text_digest(text), text))[:_OF_AN_INTENT]
