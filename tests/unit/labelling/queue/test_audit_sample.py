"""The audit sample: exact inclusion probabilities, the same turns whatever else arrives, unbiased totals."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from upath import UPath

from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.labelling.queue.audit_sample import (
    STRATUM,
    draw_audit,
    inclusion_probabilities,
    is_traffic,
    random_numbers,
    read_traffic,
)
from mangaassist_assets.mining.blame.rules import read_rules
from mangaassist_assets.mining.blame.stored_failures import FAILURES_FILE, failures_to_json, find_stored_failures
from tests.support.dataset_store import put_turns
from tests.support.labelling import make_turn

SIZES = st.lists(st.integers(1, 50_000), min_size=1, max_size=60).map(np.array)


def traffic(strata, *, name="tr"):
    """Turns of (intent, language, failed, how many)."""
    rows = [stratum for *stratum, count in strata for _ in range(count)]
    ids = {"trace_id": [f"{name}-{number}" for number in range(len(rows))]}
    schema = {"intent": pl.String, "language": pl.String, "failed": pl.Boolean}
    return pl.DataFrame(ids).hstack(pl.DataFrame(rows, schema=schema, orient="row"))


STORE = traffic(
    [("order", "en", False, 700), ("order", "ja", True, 40), ("gift", "en", False, 250), (None, "en", 1, 10)]
)


class TestInclusionProbabilities:
    @given(sizes=SIZES, size=st.floats(0, 100_000), floor_share=st.floats(0, 1))
    @example(sizes=np.array([1]), size=0.5, floor_share=0.25)
    @example(sizes=np.array([100_000]), size=25, floor_share=0.25)
    @example(sizes=np.ones(10_000, dtype=np.int64), size=25, floor_share=1.0)
    @example(sizes=np.array([1, 1, 50_000]), size=50_001.9999999999, floor_share=0.3)
    def test_they_are_probabilities_that_add_up_to_the_size(self, sizes, size, floor_share):
        found = inclusion_probabilities(sizes, size, floor_share=floor_share)
        assert (found >= 0).all()
        assert (found <= 1).all()
        assert (found > 0).all() or size < 1e-300
        assert float(found @ sizes) == pytest.approx(min(size, sizes.sum()), rel=1e-9)

    @given(sizes=SIZES, size=st.floats(1, 1_000), more=st.floats(0, 1_000))
    def test_a_larger_sample_holds_the_smaller_one(self, sizes, size, more):
        small, large = inclusion_probabilities(sizes, size), inclusion_probabilities(sizes, size + more)
        assert (large >= small * (1 - 1e-12)).all()

    def test_a_part_is_spread_as_the_traffic_is_and_a_part_equally(self):
        found = inclusion_probabilities(np.array([900, 100]), 40, floor_share=0.25)
        assert (found * [900, 100]).tolist() == pytest.approx([27 + 5, 3 + 5])

    def test_what_a_small_stratum_cannot_give_the_others_do(self):
        found = inclusion_probabilities(np.array([990, 8, 2]), 100, floor_share=0.5)
        assert found.tolist() == pytest.approx([90 / 990, 1.0, 1.0])

    def test_all_are_drawn_where_more_are_wanted_than_there_are(self):
        assert inclusion_probabilities(np.array([3, 2]), 5).tolist() == [1.0, 1.0]
        assert inclusion_probabilities(np.array([3, 2]), float("inf")).tolist() == [1.0, 1.0]
        assert inclusion_probabilities(np.array([], dtype=np.int64), 5).tolist() == []

    @pytest.mark.parametrize(("size", "share"), [(-1, 0.2), (float("nan"), 0.2), (5, -0.1), (5, 1.1)])
    def test_what_is_no_sample_is_refused(self, size, share):
        with pytest.raises(ValueError, match="no sample of"):
            inclusion_probabilities(np.array([3]), size, floor_share=share)


class TestDraw:
    @given(seed=st.integers(0, 2**32 - 1))
    def test_order_changes_nothing(self, seed):
        shuffled = STORE.sample(fraction=1.0, shuffle=True, seed=seed)
        assert draw_audit(shuffled, 60).equals(draw_audit(STORE, 60))

    def test_turns_of_one_stratum_are_drawn_with_one_probability(self):
        everything = draw_audit(STORE, 400)
        assert (everything.group_by(STRATUM).agg(pl.col("inclusion_probability").n_unique()).to_series(3) == 1).all()
        assert set(everything.columns) == {"trace_id", *STRATUM, "inclusion_probability"}

    def test_the_sample_hardly_moves_when_turns_arrive(self):
        before = set(draw_audit(STORE, 100)["trace_id"])
        later = draw_audit(pl.concat([STORE, traffic([("order", "en", False, 100)], name="later")]), 100)
        kept = before & set(later["trace_id"])
        assert len(before - kept) <= 0.25 * len(before)

    def test_whoever_stops_halfway_has_reviewed_of_all_strata_alike(self):
        """By the order of the random numbers alone, likely turns would come late: those of rare strata."""
        rare, seen = 0, 0
        for number in range(40):
            drawn = draw_audit(traffic([("a", "en", False, 900), ("b", "en", True, 20)], name=str(number)), 60)
            half = drawn.head(drawn.height // 2)
            rare, seen = rare + (drawn["intent"] == "b").sum(), seen + (half["intent"] == "b").sum()
        assert rare > 250
        assert 0.4 < seen / rare < 0.6

    def test_totals_over_the_sample_are_unbiased(self):
        """Horvitz and Thompson's estimate of a count, of a sample of which the rare stratum is ten times likelier."""
        strata = [("a", "en", False, 1_900), ("b", "en", True, 100)]
        # Wrong are 5 % of the one stratum and 60 % of the other.
        estimates, counts = [], []
        for number in range(300):
            turns = traffic(strata, name=f"bundle-{number}")
            wrong = pl.Series(
                "wrong", [place % 20 == 0 for place in range(1_900)] + [place < 60 for place in range(100)]
            )
            drawn = draw_audit(turns.with_columns(wrong), 100)
            weights = 1 / drawn["inclusion_probability"]
            estimates.append(float((weights * drawn["wrong"]).sum()))
            counts.append(float(weights.sum()))
        for found, truth in ((estimates, 95 + 60), (counts, 2_000)):
            error = np.std(found) / np.sqrt(len(found))
            assert abs(np.mean(found) - truth) < 4 * error
            assert error < 0.03 * truth

    def test_how_many_are_drawn_varies_around_the_size(self):
        drawn = [draw_audit(traffic([("a", "en", False, 500)], name=str(number)), 50).height for number in range(200)]
        assert np.mean(drawn) == pytest.approx(50, abs=2)
        assert np.var(drawn) == pytest.approx(45, rel=0.35)

    def test_random_numbers_are_uniform_and_the_same_for_ever(self):
        found = random_numbers(f"tr-{number}" for number in range(20_000))
        assert ((found >= 0) & (found < 1)).all()
        counts = np.histogram(found, bins=20, range=(0, 1))[0]
        assert ((counts - 1_000) ** 2 / 1_000).sum() < 43.8  # chi-squared of 19 degrees, 0.1 %
        assert random_numbers(["tr-1"]).tolist() == [found[1]]
        assert random_numbers([]).shape == (0,)

    @pytest.mark.parametrize(
        "turns",
        [
            traffic([("a", "en", False, 1)]),
            traffic([("", "other", False, 5), (None, "other", False, 5)]),
            traffic([("order\u200b", "en", False, 5), ("order", "en", False, 5)]),
            traffic([(f"intent {number}", "en", False, 1) for number in range(10_000)]),
            traffic([("a", "en", False, 100_000)]),
            traffic([]),
        ],
        ids=["one turn", "empty intents", "zero width", "10,000 strata", "100,000 turns", "none"],
    )
    def test_odd_traffic_is_sampled_all_the_same(self, turns):
        drawn = draw_audit(turns, 25)
        assert drawn["inclusion_probability"].is_between(0, 1, closed="right").all()
        assert drawn.height <= min(turns.height, 60)
        assert draw_audit(turns, turns.height)["trace_id"].n_unique() == turns.height
        assert draw_audit(turns, 0).height == 0


class TestTraffic:
    def test_it_is_every_turn_somebody_could_be_asked_about(self, store):
        turns = [
            make_turn("down", "where is it", intent="order_status"),
            make_turn("well", "どこですか", user_feedback="thumbs_up"),
            make_turn("reviewed", expected_intent="order_status", user_feedback=None),
            make_turn("blocked", guardrail_blocked=True),
            make_turn("empty", message=" "),
        ]
        rows = read(store, turns).sort("trace_id").select("trace_id", *STRATUM).rows()
        assert rows == [
            ("down", "order_status", "en", True),
            ("reviewed", "order_status", "en", False),
            ("well", "order_status", "ja", False),
        ]
        assert [trace_id for trace_id, *_ in rows] == sorted(turn.trace_id for turn in turns if is_traffic(turn))

    def test_a_review_that_finds_an_error_does_not_change_how_likely_its_turn_was(self, store):
        turns = [make_turn(f"t{number}", user_feedback=None) for number in range(40)]
        before = draw_audit(read(store, turns), 10)
        found = set(before["trace_id"])
        reviewed = [
            make_turn(
                turn.trace_id, user_feedback=None, expected_intent="gift_card" if turn.trace_id in found else None
            )
            for turn in turns
        ]
        after = read(store, reviewed)
        assert failures(store) == found
        assert draw_audit(after, 10).equals(before)


@pytest.fixture
def store(tmp_path):
    return SnapshotStore(UPath(tmp_path))


def read(store, turns):
    put_turns(store, "b1", turns)
    found = find_stored_failures(store, "b1", read_rules())
    store.write("failed_traces", {FAILURES_FILE: failures_to_json(found)}, partition="b1")
    return read_traffic(store, "b1")


def failures(store):
    content = store.read_json(store.latest("failed_traces", partition="b1"), FAILURES_FILE)
    return {row["trace_id"] for row in content}
