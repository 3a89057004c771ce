"""What a reading of traces counts, and how far it has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mangaassist_assets.core.ingestion_tables import IngestionConflictError
from mangaassist_assets.tracing.ingestion.trace_sources import AssessmentPosition, TracePosition

_SCHEMA = 1


@dataclass(slots=True, kw_only=True)
class TraceCounts:
    """What one reading did, in traces. `waiting` are those still being written, `erased` those of erased users."""

    turns: int = 0
    quarantined: int = 0
    erased: int = 0
    gone: int = 0
    waiting: int = 0

    def count(self, kind: Literal["turn", "quarantined", "erased", "gone"]) -> None:
        """Count one ingested row."""
        match kind:
            case "turn":
                self.turns += 1
            case "quarantined":
                self.quarantined += 1
            case "erased":
                self.erased += 1
            case "gone":
                self.gone += 1


@dataclass(frozen=True, slots=True)
class IngestionState:
    """The checkpoint's value. `open` are traces in progress by id, with their start time."""

    frontier: TracePosition | None = None
    assessed: AssessmentPosition | None = None
    open: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "schema": _SCHEMA,
            "frontier": None if self.frontier is None else [self.frontier.timestamp_ms, self.frontier.trace_id],
            "assessed": None if self.assessed is None else [self.assessed.timestamp_ms, self.assessed.assessment_id],
            "open": dict(self.open),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> IngestionState:
        """Return the state that a checkpoint holds.

        Raises:
            IngestionConflictError: Another version of this program ingested traces there.
        """
        if not value:
            return IngestionState()
        if value.get("schema") != _SCHEMA:
            msg = f"the trace ingestion is of schema {value.get('schema')}, this version reads {_SCHEMA}: move it away"
            raise IngestionConflictError(msg)
        frontier, assessed = value["frontier"], value["assessed"]
        return IngestionState(
            frontier=None if frontier is None else TracePosition(timestamp_ms=frontier[0], trace_id=frontier[1]),
            assessed=None
            if assessed is None
            else AssessmentPosition(timestamp_ms=assessed[0], assessment_id=assessed[1]),
            open=value["open"],
        )
