"""The review queue of a bundle as it is stored: what is asked, the audit sample, and what was ever asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from mangaassist_assets.core.codecs import from_json
from mangaassist_assets.core.snapshots import SnapshotStore, canonical_json
from mangaassist_assets.labelling.intent_labels import ReviewOrigin
from mangaassist_assets.labelling.queue.review_queue import QueueItem, QueueOrigin

QUEUE_ASSET = "review_queue"
QUEUE_FILE = "queue.json"
_FORMER = frozenset({"uncertainty", "cluster_weight", "novelty"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewQueue:
    """What people are asked about a bundle; no message is in it.

    Attributes:
        items: The turns to review, in the order in which to review them.
        budget: How many there were to be.
        turns: How many turns of the bundle an audit may ask about.
        audit_size: How many of them the audit sample was to have.
        audit_sample: Inclusion probability of each turn of the sample by trace id, reviewed ones included.
        asked: Why each trace was asked about that ever was; a failure that was drawn as well counts as a failure.
    """

    items: tuple[QueueItem, ...] = ()
    budget: int = 0
    turns: int = 0
    audit_size: float = 0.0
    audit_sample: Mapping[str, float] = field(default_factory=dict)
    asked: Mapping[str, QueueOrigin] = field(default_factory=dict)

    def origin_of(self, trace_id: str) -> ReviewOrigin:
        """Return how a turn that was reviewed came to be."""
        probability = self.audit_sample.get(trace_id)
        return ReviewOrigin(
            origin=self.asked.get(trace_id) or ("import" if probability is None else "audit"),
            inclusion_probability=probability,
            bundle_turns=self.turns,
        )


NO_QUEUE = ReviewOrigin(origin="import")
"""How a turn of a bundle without a queue came to be reviewed."""


def queue_files(queue: ReviewQueue) -> dict[str, bytes]:
    """Return the queue of a bundle as it is stored."""
    return {QUEUE_FILE: canonical_json(queue)}


def read_queue(store: SnapshotStore, release_bundle: str) -> ReviewQueue | None:
    """Return the queue of a bundle; None where it has none yet."""
    stored = store.find(QUEUE_ASSET, partition=release_bundle)
    return None if stored is None else queue_of(store.read(stored, QUEUE_FILE))


def queue_of(content: bytes) -> ReviewQueue:
    """Return the queue that `queue_files` stored.

    One of before there was an audit sample is a list of its items: all of them were failures. Items of before a review
    was worth what it speaks for have the factors of another score.
    """
    stored = json.loads(content)
    if isinstance(stored, list):
        failures = [{**item, "origin": "failure queue", "inclusion_probability": None} for item in stored]
        stored = {"items": failures, "asked": {item["trace_id"]: "failure queue" for item in stored}}
    items = [{"speaks_for": None} | {k: v for k, v in item.items() if k not in _FORMER} for item in stored["items"]]
    return from_json(ReviewQueue, canonical_json({**stored, "items": items}))
