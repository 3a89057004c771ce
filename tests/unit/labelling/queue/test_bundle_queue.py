"""The queue of a bundle: out of its clusters, beside what was reviewed before, with links for whoever reviews."""

from __future__ import annotations

import numpy as np

from mangaassist_assets.labelling.queue.bundle_queue import queue_bundle
from tests.support.knowledge import HashEmbedder
from tests.support.labelling import make_turn, one_group, reviewed_turn, said

TURNS = [make_turn("a"), make_turn("b"), reviewed_turn("c", said("x", by="aki"))]


def queue(turns=TURNS, earlier=(), *, handled=(), budget=10):
    return queue_bundle(
        turns, one_group(turns), earlier, handled=handled, embed=HashEmbedder(dimension=64).embed, budget=budget
    )


def test_what_nobody_reviewed_is_asked_about_and_reviewers_are_named():
    found = queue()
    assert sorted(found.trace_ids) == ["a", "b"]
    assert found.candidates == 3
    assert found.reviewed == {"c": "aki"}


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
        [], [], [], handled=(), embed=lambda texts: np.empty((len(texts), 4), dtype=np.float32), budget=5
    )
    assert (found.trace_ids, found.candidates, found.figures(str)["queue"]) == ([], 0, [])
