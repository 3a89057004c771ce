"""The queue of a bundle: a sample of its traffic and its failures, beside what was reviewed before, with links."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mangaassist_assets.labelling.queue.bundle_queue import queue_bundle
from mangaassist_assets.labelling.queue.review_queue import QueueConfig
from tests.support.knowledge import HashEmbedder
from tests.support.labelling import make_turn, one_group, reviewed_turn, said, traffic_of

TURNS = [make_turn("a"), make_turn("b"), reviewed_turn("c", said("x", by="aki"))]
FINE = [make_turn(f"fine-{number}", f"parcel number {number}", user_feedback=None) for number in range(200)]
FAILED = [make_turn(f"bad-{number}", f"card number {number}") for number in range(30)]
LOOSE = QueueConfig(same_from=2.0, per_cluster=1_000)


def queue(turns=TURNS, earlier=(), *, handled=(), budget=10):
    """The queue of failures alone."""
    return queue_bundle(
        turns,
        one_group(turns),
        earlier,
        traffic_of(turns),
        handled=handled,
        embed=HashEmbedder(dimension=64).embed,
        budget=budget,
        config=QueueConfig(audit_share=0.0),
    )


def both(*, reviewed=(), budget=40, share=0.5, fine=FINE, before=None, handled=(), config=LOOSE):
    """The queue of failures and of turns drawn from all traffic."""
    said_of = {trace_id: reviewed_turn(trace_id, said("x")) for trace_id in reviewed}
    failed = [said_of.get(turn.trace_id, turn) for turn in FAILED]
    return queue_bundle(
        [*failed, *(turn for trace_id, turn in said_of.items() if trace_id.startswith("fine"))],
        one_group(failed),
        list(said_of.values()),
        traffic_of(fine, failed=False).vstack(traffic_of(FAILED)),
        before=before,
        handled=handled,
        embed=HashEmbedder(dimension=64).embed,
        budget=budget,
        config=replace(config, audit_share=share),
    )


def asked(found, origin):
    return [item.trace_id for item in found.queue.items if item.origin == origin]


def test_what_nobody_reviewed_is_asked_about_and_reviewers_are_named():
    found = queue()
    assert sorted(found.trace_ids) == ["a", "b"]
    assert found.candidates == 3
    assert found.reviewed == {"c": "aki"}
    assert (found.queue.audit_sample, found.queue.turns) == ({}, 3)


def test_a_message_that_was_reviewed_in_an_earlier_bundle_is_not_asked_about_again():
    earlier = [reviewed_turn("z", said("x"), message=TURNS[0].message)]
    assert queue(earlier=earlier).trace_ids == ["b"]


def test_what_a_reviewer_declined_is_counted_with_its_reason():
    found = queue(handled={"a"})
    assert found.trace_ids == ["b"]
    assert {"what": "a reviewer declined it, or is done with it", "number": 1} in found.figures(str)["not_asked"]


def test_a_row_of_the_queue_links_to_its_trace():
    figures = queue(budget=1).figures(lambda trace_id: f"https://mlflow.invalid/{trace_id}")
    (row,) = figures["queue"]
    assert row["rank"] == 1
    assert row["trace"] in {"https://mlflow.invalid/a", "https://mlflow.invalid/b"}
    assert (figures["dagster/row_count"], figures["reviewed_already"]) == (1, 1)


def test_nothing_failed_means_an_empty_queue():
    found = queue_bundle(
        [], [], [], traffic_of([]), handled=(), embed=lambda texts: np.empty((len(texts), 4), np.float32), budget=5
    )
    assert (found.trace_ids, found.candidates, found.figures(str)["queue"]) == ([], 0, [])


class TestAudit:
    def test_half_of_the_budget_is_drawn_from_all_traffic_and_the_rest_are_failures(self):
        found = both()
        items = found.queue.items
        drawn = [item for item in items if item.inclusion_probability is not None]
        assert 10 <= len(drawn) <= 20
        assert len(items) == 40
        assert [item.rank for item in items] == list(range(1, 41))
        assert {item.trace_id for item in drawn} <= found.queue.audit_sample.keys()
        assert any(item.trace_id.startswith("fine") for item in drawn)
        assert all(item.trace_id.startswith("bad") for item in items if item not in drawn)
        assert found.queue.turns == 230
        assert sum(found.queue.audit_sample.values()) > 0

    def test_a_failure_that_is_drawn_as_well_is_asked_once_and_has_its_probability(self):
        found = both(budget=60)
        (item, *_) = [
            one for one in found.queue.items if one.origin == "failure queue" and one.inclusion_probability is not None
        ]
        assert len(found.trace_ids) == len(set(found.trace_ids))
        assert item.inclusion_probability == found.queue.audit_sample[item.trace_id]
        assert item.score is not None
        assert item.questions == ("intent", "documents")
        assert "; also drawn at random from all traffic: 1 of" in item.reason

    def test_a_drawn_turn_says_how_likely_it_was_and_has_a_cluster_only_if_it_failed(self):
        found = both(budget=20, config=replace(LOOSE, per_cluster=1))
        fine = next(item for item in found.queue.items if item.trace_id.startswith("fine"))
        such = f"{1 / fine.inclusion_probability:.1f}"
        assert (fine.origin, fine.reason) == ("audit", f"drawn at random from all traffic: 1 of {such} such turns")
        assert (fine.cluster_id, fine.cluster_name, fine.score, fine.speaks_for) == (None, None, None, None)
        (failed, *_) = [one for one in found.queue.items if one.origin == "audit" and one.trace_id.startswith("bad")]
        assert (failed.cluster_id, failed.score) == ("fc-1", None)
        everything = both(budget=1_000, share=1.0)
        assert {item.reason.partition("; also ")[2] or item.reason for item in everything.queue.items} == {
            "drawn at random from all traffic: every such turn"
        }

    def test_both_come_in_turns(self):
        origins = [item.inclusion_probability is not None for item in both(budget=60).queue.items]
        half = origins[: len(origins) // 2]
        assert abs(2 * sum(half) - sum(origins)) <= 1

    def test_reviewed_turns_stay_in_the_sample_and_are_not_asked_about_again(self):
        first = both()
        again = both(reviewed=first.trace_ids, before=first.queue)
        assert again.queue.audit_sample == first.queue.audit_sample
        assert not set(again.trace_ids) & set(first.trace_ids)
        assert {*asked(again, "audit")} <= again.queue.audit_sample.keys() - set(first.trace_ids)

    def test_why_a_turn_was_asked_about_is_kept_when_the_queue_is_made_again(self):
        first = both()
        failures = asked(first, "failure queue")
        again = both(reviewed=first.trace_ids, before=first.queue).queue
        assert {again.origin_of(one).origin for one in failures} == {"failure queue"}
        assert {again.origin_of(one).origin for one in asked(first, "audit")} == {"audit"}
        assert again.origin_of("fine-none").origin == "import"

    def test_a_smaller_budget_later_leaves_the_sample_as_it_was(self):
        first = both(budget=60)
        assert both(budget=10, before=first.queue).queue.audit_sample == first.queue.audit_sample
        assert both(budget=90, before=first.queue).queue.audit_sample.keys() > first.queue.audit_sample.keys()

    def test_what_was_asked_for_the_audit_stays_so_when_the_sample_moves_on(self):
        first = both(budget=60)
        busy = [make_turn(f"later-{number}", user_feedback=None) for number in range(2_000)]
        again = both(budget=60, fine=[*FINE, *busy], before=first.queue).queue
        gone = set(asked(first, "audit")) - again.audit_sample.keys()
        assert gone
        assert {again.origin_of(one) for one in gone} == {
            replace(again.origin_of("none"), origin="audit", inclusion_probability=None)
        }

    def test_a_drawn_failure_whose_turn_has_not_come_is_not_asked_before(self):
        """Reviewed because it failed, it would speak in the sample for turns that did not."""
        first = both(budget=200)
        found = both(budget=10, before=first.queue)
        later = first.queue.audit_sample.keys() - set(found.trace_ids)
        assert {one for one in later if one.startswith("bad")}
        assert {"what": "drawn for the audit and asked about later", "number": len({*later} & ids(FAILED))} in (
            found.figures(str)["not_asked"]
        )

    def test_without_a_share_all_are_failures_and_without_a_budget_nobody_is_asked(self):
        alone = both(share=0.0).queue
        assert {(item.origin, item.inclusion_probability) for item in alone.items} == {("failure queue", None)}
        assert both(budget=0).queue.items == ()

    def test_a_declined_turn_stays_in_the_sample_and_is_not_asked_about(self):
        first = both()
        declined = first.trace_ids[0]
        again = both(handled={declined}, before=first.queue)
        assert declined in again.queue.audit_sample
        assert declined not in again.trace_ids

    def test_a_failure_like_a_drawn_message_is_not_asked_about(self):
        """The drawn turn did not fail, but somebody will have seen its words."""
        drawn = next(one for one in both().queue.audit_sample if one.startswith("fine"))
        twin = replace(FAILED[0], trace_id="twin", message=next(t.message for t in FINE if t.trace_id == drawn))
        found = queue_bundle(
            [twin],
            one_group([twin]),
            [],
            traffic_of(FINE, failed=False),
            handled=(),
            embed=HashEmbedder(dimension=64).embed,
            budget=400,
        )
        assert drawn in found.trace_ids
        assert found.excluded == {"almost the same message is seen already": 1}

    def test_the_page_says_how_large_the_sample_is_and_leaves_factors_empty(self):
        figures = both(reviewed=["fine-1"], budget=460, share=1.0).figures(str)
        assert figures["audit_sample"] == "230 of 230 turns, 1 reviewed"
        assert figures["asked_for_audit"] + figures["asked_as_failures"] == figures["dagster/row_count"] == 229
        row = next(row for row in figures["queue"] if row["asked_as"] == "audit")
        assert (row["score"], row["cluster"]) == (None, None)


def ids(turns):
    return {turn.trace_id for turn in turns}
