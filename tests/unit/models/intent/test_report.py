"""Rows by intent: what is wrong first, and what the out-of-scope threshold costs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.models.intent.results import intent_rows

NAMES = st.sampled_from(["a", "b", "c"])


def test_the_worst_intent_comes_first_with_its_figures():
    rows = intent_rows(["a", "a", "b", "b"], ["a", "a", "a", "b"])
    assert rows[0] == {"intent": "b", "support": 2, "predicted": 1, "precision": 1.0, "recall": 0.5, "f1": 0.6667}
    assert rows[1]["precision"] == 0.6667


def test_the_threshold_costs_recall_and_earns_precision():
    rows = intent_rows(["a", "a", "b"], ["a", "a", "a"], accepted=[True, False, False])
    (row,) = [row for row in rows if row["intent"] == "a"]
    assert (row["refused"], row["recall_after_threshold"], row["precision_after_threshold"]) == (1, 0.5, 1.0)
    assert (row["recall"], row["precision"]) == (1.0, 0.6667)


@given(st.lists(st.tuples(NAMES, NAMES, st.booleans()), min_size=1, max_size=50))
def test_a_threshold_never_raises_recall_and_rows_share_their_columns(answers):
    truth, said, accepted = zip(*answers, strict=True)
    rows = intent_rows(truth, said, accepted=accepted)
    assert len({tuple(row) for row in rows}) == 1
    assert sum(int(row["support"]) for row in rows) == len(answers)
    assert sum(int(row["refused"]) for row in rows) == accepted.count(False)
    assert all(float(row["recall_after_threshold"]) <= float(row["recall"]) for row in rows)
    assert all(
        row["recall_after_threshold"] == row["recall"] and row["precision_after_threshold"] == row["precision"]
        for row in intent_rows(truth, said, accepted=[True] * len(truth))
    )


def test_sequences_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="accepted"):
        intent_rows(["a"], ["a"], accepted=[True, False])
