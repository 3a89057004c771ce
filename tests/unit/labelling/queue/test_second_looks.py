"""What is asked a second time, of whom, and how often."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.labelling.judged_reviews import JudgedReviews
from mangaassist_assets.labelling.noise.label_noise import NoiseReport, Suspect
from mangaassist_assets.labelling.people.policy import EVERYBODY, LabellingPolicy
from mangaassist_assets.labelling.people.standing import People, Standing
from mangaassist_assets.labelling.queue.bundle_queue import AskedBefore, queue_bundle
from mangaassist_assets.labelling.queue.review_queue import QueueConfig
from mangaassist_assets.labelling.queue.second_looks import SecondLook, choose_second_looks, find_second_looks
from mangaassist_assets.labelling.queue.stored_queue import ReviewQueue, queue_files, queue_of
from mangaassist_assets.labelling.reviews import labels_from_reviews
from tests.support.knowledge import HashEmbedder
from tests.support.labelling import make_turn, one_group, reviewed_turn, said, traffic_of


def standing(person):
    return Standing(
        person=person,
        answers=1,
        judged=0,
        suspects=0,
        most_given="x",
        most_given_share=1.0,
        wrong=None,
        confirmed=False,
    )


def judged(turns, *suspects, people=("aki", "ben"), policy=EVERYBODY):
    noise = NoiseReport(
        examples=9,
        unjudged=0,
        estimated_rate=0.1,
        low=0.0,
        high=0.2,
        suspects=tuple(
            Suspect(example_id=one, given="x", likely="y", probability=0.9 - number / 10)
            for number, one in enumerate(suspects)
        ),
    )
    standings = tuple(map(standing, people))
    return JudgedReviews(
        reviews=labels_from_reviews(turns), intents={}, people=People(standings=standings, noise=noise), policy=policy
    )


DIFFER = reviewed_turn("p", said("x", by="aki"), said("y", by="ben"))
LONE = [reviewed_turn(name, said("x", by="aki")) for name in "abc"]


def test_contradictions_come_first_and_then_the_surest_suspects_with_whom_not_to_ask():
    looks = find_second_looks(judged([*LONE, DIFFER], "b", "a", people=("aki", "ben", "cho")))
    assert [(one.trace_id, one.of) for one in looks] == [("p", ("aki", "ben")), ("b", ("aki",)), ("a", ("aki",))]
    assert looks[0].why == "aki and ben differ on it"
    assert looks[1].why == "aki said x, y is likelier: wrong with a probability of 90%"


def test_a_label_on_which_two_agree_is_settled():
    agreed = reviewed_turn("a", said("x", by="aki"), said("x", by="ben"))
    assert find_second_looks(judged([agreed], "a", people=("aki", "ben", "cho"))) == ()


@pytest.mark.parametrize(
    ("people", "policy", "asked"),
    [
        (("aki",), EVERYBODY, False),
        (("aki", "ben"), EVERYBODY, True),
        (("aki",), LabellingPolicy(reviewers=("aki",)), False),
        (("aki",), LabellingPolicy(reviewers=("Aki", "ben")), True),
    ],
)
def test_a_second_look_needs_somebody_else_to_give_it(people, policy, asked):
    assert bool(find_second_looks(judged(LONE, "a", people=people, policy=policy))) == asked


def test_who_is_held_back_gives_no_second_look():
    said_by = judged(LONE, "a", people=("aki",))
    eve = replace(standing("eve"), held_back="why")
    assert find_second_looks(replace(said_by, people=replace(said_by.people, standings=(standing("aki"), eve)))) == ()


LOOK = SecondLook(trace_id="a", of=("aki",), why="why")


def choose(turn, *, asked_before, handled=(), most=5):
    return choose_second_looks([LOOK], [turn], asked_before=asked_before, handled=handled, most=most)


def test_it_is_asked_on_until_somebody_else_answers_and_never_again():
    alone, both = LONE[0], reviewed_turn("a", said("x", by="aki"), said("y", by="ben"))
    assert choose(alone, asked_before={}).fresh == {"a"}
    again = choose(alone, asked_before={"a": ("Aki",)})
    assert ([one.trace_id for one in again.items], again.fresh) == (["a"], frozenset())
    assert choose(both, asked_before={"a": ("aki",)}).items == ()
    assert choose(alone, asked_before={"a": ("aki",)}, handled={"a"}).items == ()
    assert choose(alone, asked_before={}, most=0).items == ()


def queued(turns, *, looks=(), before=None, budget=40, share=0.5):
    return queue_bundle(
        turns,
        one_group(turns),
        [turn for turn in turns if turn.expected_intent],
        traffic_of(turns),
        asked_before=AskedBefore(queue=before or ReviewQueue(), second_looks=looks),
        embed=HashEmbedder(dimension=64).embed,
        budget=budget,
        config=QueueConfig(audit_share=share, same_from=2.0, per_cluster=1_000),
    )


TURNS = [
    *(make_turn(f"open-{number}", f"parcel number {number}") for number in range(120)),
    *(reviewed_turn(f"done-{number:02}", said("x", by="aki"), message=f"card {number}") for number in range(30)),
]
LOOKS = [SecondLook(trace_id=f"done-{number:02}", of=("aki",), why="why") for number in range(30)]


def test_second_looks_lead_the_failures_and_take_a_quarter_of_their_share_at_most():
    found = queued(TURNS, looks=LOOKS, share=0.0)
    assert found.count("second look") == 10
    assert [item.origin for item in found.queue.items[:10]] == ["second look"] * 10
    assert len(found.queue.items) == 40
    assert "by somebody else than aki" in found.queue.items[0].reason


@given(st.integers(0, 60), st.sampled_from([0.0, 0.3, 0.5, 1.0]), st.integers(0, 30))
def test_second_looks_change_nothing_about_the_audit_sample(budget, share, count):
    plain, with_looks = (
        queued(TURNS, budget=budget, share=share),
        queued(TURNS, looks=LOOKS[:count], budget=budget, share=share),
    )
    assert with_looks.queue.audit_sample == plain.queue.audit_sample
    drawn = [item.trace_id for item in plain.queue.items if item.inclusion_probability is not None]
    still = {item.trace_id for item in with_looks.queue.items if item.inclusion_probability is not None}
    assert {one for one in drawn if one in plain.queue.audit_sample} >= still
    assert len(with_looks.queue.items) <= max(budget, len(plain.queue.items))
    assert with_looks.count("second look") <= budget / 4


def test_a_second_look_is_remembered_and_leaves_the_origin_of_its_turn():
    first = queued(TURNS, looks=LOOKS[:3])
    assert first.queue.asked_again == {look.trace_id: ("aki",) for look in LOOKS[:3]}
    assert first.queue.asked.keys().isdisjoint(first.queue.asked_again)
    assert first.reopened(frozenset()).keys() == first.queue.asked_again.keys()
    assert first.answered.keys().isdisjoint(first.queue.asked_again)
    stored = queue_of(queue_files(first.queue)["queue.json"])
    assert stored.asked_again == first.queue.asked_again
    again = queued(TURNS, looks=LOOKS[:3], before=stored)
    assert (again.count("second look"), again.reopened(frozenset())) == (3, {})
    answered = [
        reviewed_turn(turn.trace_id, *turn.reviews, said("x", by="ben"), message=turn.message)
        if turn.trace_id == "done-00"
        else turn
        for turn in TURNS
    ]
    assert queued(answered, looks=LOOKS[:3], before=stored).count("second look") == 2
