"""The review queue as it is stored: one JSON file, without any message."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.labelling.queue.review_queue import QueueItem

QUEUE_FILE = "queue.json"


def queue_to_json(items: Sequence[QueueItem]) -> bytes:
    """Return queue items as JSON, best first."""
    return canonical_json([asdict(item) for item in items])


def queue_from_json(content: bytes) -> list[QueueItem]:
    """Return the items that `queue_to_json` stored."""
    return [QueueItem(**{**row, "questions": tuple(row["questions"])}) for row in json.loads(content)]
