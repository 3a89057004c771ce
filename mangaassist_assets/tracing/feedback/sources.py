"""Where feedback is read from: one protocol, whatever stands behind it, and what a reading gives.

Light on purpose: the resources import it while definitions load.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from mangaassist_assets.tracing.feedback.events import FeedbackEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedRecord:
    """Something of the stream that is no feedback event, by its place; its content is not kept.

    `part` is the shard or the delivered object, `sequence_number` the place in it: Kinesis' number, or the byte where
    the record begins. `size` is in bytes.
    """

    part: str
    sequence_number: str
    size: int
    reason: str

    @property
    def place(self) -> str:
        """Where it was found, as one text."""
        return f"{self.part}/{self.sequence_number}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackBatch:
    """What was read: events and rejects in the order of each shard or object, and the position after them.

    `gaps` are places where records were lost before anybody read them, as far as that can be known.
    """

    events: tuple[FeedbackEvent, ...]
    cursor: Mapping[str, Any]
    rejects: tuple[RejectedRecord, ...]
    gaps: tuple[RejectedRecord, ...] = ()

    @property
    def size(self) -> int:
        """How many records were read."""
        return len(self.events) + len(self.rejects)


class FeedbackSource(Protocol):
    """Where feedback events are read from: the stream itself, or what a delivery stream made of it."""

    def read_new(self, cursor: Mapping[str, Any], limit: int = ...) -> FeedbackBatch:
        """Return what came after a position, at least once each; fewer than `limit` records mean the end.

        The cursor is what an earlier batch gave, {} at first; what another kind of source left in it is ignored.
        """
