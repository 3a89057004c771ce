"""Where feedback events come to rest: numbered segments, each with the stream position after it.

The position is part of the segment, so events and checkpoint are written in one piece: a killed consumer reads the
same records again from the last whole segment, and duplicates fall away by event id when a table is made of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mangaassist_assets.storage import canonical_json, write_whole

if TYPE_CHECKING:
    from upath import UPath

_SEGMENT = re.compile(r"^segment-(\d{12})\.json$")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackTable:
    """The distinct events of one release bundle, oldest first, and how many repeats were dropped."""

    events: tuple[Mapping[str, Any], ...]
    duplicates: int

    def count(self, feedback: str) -> int:
        """Return how many events say `feedback` (`thumbs_up` or `thumbs_down`)."""
        return sum(1 for event in self.events if event["feedback"] == feedback)


class FeedbackLanding:
    """Segments of feedback events in one folder."""

    def __init__(self, folder: UPath) -> None:
        self._folder = folder

    def _segments(self) -> list[tuple[int, UPath]]:
        if not self._folder.exists():
            return []
        found = [(match, path) for path in self._folder.iterdir() if (match := _SEGMENT.match(path.name))]
        return sorted(((int(match.group(1)), path) for match, path in found), key=lambda pair: pair[0])

    def cursor(self) -> dict[str, str]:
        """Return the stream position after the newest segment: shard id → sequence number; empty at first."""
        segments = self._segments()
        if not segments:
            return {}
        cursor: dict[str, str] = json.loads(segments[-1][1].read_bytes())["cursor"]
        return cursor

    def append(
        self, *, events: Sequence[Mapping[str, Any]], rejects: Sequence[Mapping[str, Any]], cursor: Mapping[str, str]
    ) -> bool:
        """Write one segment; returns False, and writes nothing, when there is nothing new to write."""
        if not events and not rejects:
            return False
        segments = self._segments()
        number = segments[-1][0] + 1 if segments else 1
        self._folder.mkdir(parents=True, exist_ok=True)
        content = {"schema": 1, "cursor": dict(cursor), "events": list(events), "rejects": list(rejects)}
        write_whole(self._folder / f"segment-{number:012d}.json", canonical_json(content))
        return True

    def table(self, release_bundle: str) -> FeedbackTable:
        """Return the distinct events of one bundle, by event id, ordered by (timestamp, event id)."""
        events: dict[str, Mapping[str, Any]] = {}
        duplicates = 0
        for _, path in self._segments():
            for event in json.loads(path.read_bytes())["events"]:
                if event["release_bundle"] != release_bundle:
                    continue
                if event["event_id"] in events:
                    duplicates += 1
                else:
                    events[event["event_id"]] = event
        ordered = sorted(events.values(), key=lambda event: (event["timestamp"], event["event_id"]))
        return FeedbackTable(events=tuple(ordered), duplicates=duplicates)

    def rejects(self) -> list[Mapping[str, Any]]:
        """Return the records that were no feedback events, with their reasons."""
        return [reject for _, path in self._segments() for reject in json.loads(path.read_bytes())["rejects"]]
