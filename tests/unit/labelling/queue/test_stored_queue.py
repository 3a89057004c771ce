"""The stored queue: read as it was written, of before there was an audit too, and how a review came to be."""

from __future__ import annotations

import pytest
from upath import UPath

from mangaassist_assets.core.snapshots import SnapshotStore, canonical_json
from mangaassist_assets.labelling.intent_labels import ReviewOrigin
from mangaassist_assets.labelling.queue.stored_queue import (
    QUEUE_FILE,
    ReviewQueue,
    queue_files,
    queue_of,
    read_queue,
)
from tests.support.labelling import queue_item

QUEUE = ReviewQueue(
    items=(queue_item("a"), queue_item("d", 2, origin="audit", inclusion_probability=0.1, cluster_id=None, score=None)),
    turns=70,
    audit_size=7.5,
    audit_sample={"a": 0.25, "d": 0.1, "drawn": 0.1},
    asked={"a": "failure queue", "d": "audit", "once": "audit", "bad": "failure queue"},
)


def test_a_queue_survives_being_stored(tmp_path):
    store = SnapshotStore(UPath(tmp_path))
    assert read_queue(store, "b1") is None
    store.write("review_queue", queue_files(QUEUE), partition="b1")
    assert read_queue(store, "b1") == QUEUE
    with pytest.raises(ValueError, match="turns"):
        queue_of(queue_files(QUEUE)[QUEUE_FILE].replace(b'"turns":70', b'"turns":"70"'))


def test_a_queue_of_before_there_was_an_audit_asked_about_failures():
    names = ("rank", "trace_id", "cluster_id", "cluster_name", "score", "questions", "reason")
    item = queue_item("a", speaks_for=None)
    old = {name: getattr(item, name) for name in names} | {"uncertainty": 0.5, "cluster_weight": 1.0, "novelty": 1.0}
    found = queue_of(canonical_json([old]))
    assert found == ReviewQueue(items=(item,), asked={"a": "failure queue"})
    assert queue_of(b"[]") == ReviewQueue()


@pytest.mark.parametrize(
    ("trace_id", "origin", "probability"),
    [
        ("a", "failure queue", 0.25),
        ("d", "audit", 0.1),
        ("drawn", "audit", 0.1),
        ("once", "audit", None),
        ("bad", "failure queue", None),
        ("other", "import", None),
    ],
)
def test_a_review_came_to_be_by_what_was_asked_or_drawn(trace_id, origin, probability):
    expected = ReviewOrigin(origin=origin, inclusion_probability=probability, bundle_turns=70)
    assert QUEUE.origin_of(trace_id) == expected
