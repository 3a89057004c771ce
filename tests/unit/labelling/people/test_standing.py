"""Whose answers fit what others say: tested on clouds of vectors, where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from mangaassist_assets.labelling.people.policy import EVERYBODY, LabellingPolicy
from mangaassist_assets.labelling.people.standing import GivenLabel, judge_people

INTENTS = [f"intent_{number}" for number in range(8)]


class Messages:
    """Draws messages of intents whose vectors lie round a centre each."""

    def __init__(self, seed=0, spread=0.5):
        self.generator = np.random.default_rng(seed)
        self.centres = dict(zip([*INTENTS, "new"], self.generator.normal(size=(9, 32)), strict=True))
        self.spread = spread
        self.count = 0

    def vector(self, intent):
        vector = self.centres[intent] + self.spread * self.generator.normal(size=32)
        return (vector / np.linalg.norm(vector)).astype(np.float32)

    def label(self, truth, said=None, people=()):
        self.count += 1
        return GivenLabel(
            example_id=f"t{self.count:04}", intent=said or truth, vector=self.vector(truth), people=people
        )

    def corpus(self, each=8):
        return [self.label(intent) for intent in INTENTS for _ in range(each)]

    def any_intent(self):
        return str(self.generator.choice(INTENTS))

    def honest(self, person, count):
        return [self.label(self.any_intent(), people=(person,)) for _ in range(count)]

    def alike(self, person, count, said="intent_0"):
        return [self.label(self.any_intent(), said, people=(person,)) for _ in range(count)]

    def at_random(self, person, count):
        return [self.label(self.any_intent(), self.any_intent(), people=(person,)) for _ in range(count)]


def standings(labels, policy=EVERYBODY):
    people = judge_people(labels, policy)
    return {one.person: one for one in people.standings}, people


@pytest.mark.parametrize("how", ["alike", "at_random"])
def test_somebody_whose_answers_have_nothing_to_do_with_the_messages_is_held_back_with_the_figures(how):
    drawn = Messages()
    found, people = standings([*drawn.corpus(), *getattr(drawn, how)("eve", 60), *drawn.honest("aki", 10)])
    assert people.held_back == ("eve",)
    assert "of 60 answers do not fit what others say" in found["eve"].held_back
    assert found["eve"].wrong.low > 0.5
    assert found["aki"].held_back is None


def test_honest_people_are_confirmed_as_soon_as_enough_of_theirs_could_be_compared():
    drawn = Messages()
    found, people = standings([*drawn.corpus(), *drawn.honest("aki", 40), *drawn.honest("ben", 6)])
    assert people.confirmed == ("aki",)
    assert (found["ben"].confirmed, found["ben"].held_back) == (False, None)
    assert found["aki"].wrong.low == 0.0


def test_who_names_a_new_intent_is_not_held_back_for_it_but_who_calls_just_anything_so_is():
    drawn = Messages()
    new = [drawn.label("new", people=("aki",)) for _ in range(30)]
    aimless = drawn.alike("eve", 30, said="anything")
    found, people = standings([*drawn.corpus(), *new, *aimless])
    assert people.held_back == ("eve",)
    assert "have no more in common than any others" in found["eve"].held_back
    assert found["aki"].judged == 0


def test_a_single_reviewer_who_is_listed_is_shown_and_not_held_back():
    drawn = Messages()
    labels = [*drawn.corpus(), *drawn.alike("eve", 60)]
    found, people = standings(labels, LabellingPolicy(reviewers=("eve",)))
    assert people.held_back == ()
    assert "do not fit what others say" in found["eve"].shown
    assert standings(labels)[1].held_back == ("eve",)


def test_somebody_vouched_for_counts_whatever_the_figures_say():
    drawn = Messages()
    labels = [*drawn.corpus(), *drawn.alike("Eve", 60), *drawn.honest("aki", 10)]
    found, people = standings(labels, LabellingPolicy(vouched_reviewers=("eve",)))
    assert (people.held_back, people.confirmed) == ((), ("Eve",))
    assert found["Eve"].shown


def test_one_name_in_two_cases_is_one_person():
    drawn = Messages()
    found, people = standings([*drawn.corpus(), *drawn.honest("aki", 5), *drawn.honest("Aki", 5)])
    assert [one.answers for one in found.values()] == [10]
    assert not people.several


def test_where_there_is_nothing_to_compare_with_nobody_is_held_back_or_confirmed():
    drawn = Messages()
    found, people = standings(drawn.alike("eve", 9))
    assert (people.held_back, people.confirmed, found["eve"].wrong) == ((), (), None)
    assert judge_people([], EVERYBODY).standings == ()
