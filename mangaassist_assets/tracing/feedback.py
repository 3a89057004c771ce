"""The feedback event: what a thumb looks like on the stream, and what of the stream is not one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, cast

from mangaassist_assets.tracing.contract import InvalidBundleError, validate_bundle
from mangaassist_assets.tracing.redaction import is_pseudonym
from mangaassist_assets.tracing.turns import Feedback

SCHEMA = 1
_MAXIMUM_IDENTIFIER = 256


class FeedbackRejectedError(ValueError):
    """Bytes of the stream that are no feedback event; the message says why, without their content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackRecord:
    """One thumb. `timestamp` is ISO 8601 in UTC with milliseconds; `user_key` is a pseudonym or None."""

    event_id: str
    trace_id: str
    session_id: str
    user_key: str | None
    release_bundle: str
    feedback: Feedback
    timestamp: str

    def to_dict(self) -> dict[str, Any]:
        """Return the event as it stands on the stream."""
        return {"schema": SCHEMA, **asdict(self)}

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that goes onto the stream."""
        return json.dumps(self.to_dict(), ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()

    @property
    def timestamp_ms(self) -> int:
        """Milliseconds since the epoch (UTC)."""
        return round(datetime.fromisoformat(self.timestamp).timestamp() * 1000)


def feedback_record(
    *,
    event_id: str,
    trace_id: str,
    session_id: str,
    user_key: str | None,
    release_bundle: str,
    feedback: Feedback,
    timestamp: datetime,
) -> FeedbackRecord:
    """Return a valid event.

    Raises:
        FeedbackRejectedError: A field is wrong; names it.
    """
    return _checked(
        {
            "schema": SCHEMA,
            "event_id": event_id,
            "trace_id": trace_id,
            "session_id": session_id,
            "user_key": user_key,
            "release_bundle": release_bundle,
            "feedback": feedback,
            "timestamp": timestamp.isoformat(),
        }
    )


def parse_feedback(content: bytes) -> FeedbackRecord:
    """Read one record of the stream.

    Raises:
        FeedbackRejectedError: The bytes are no feedback event of this schema; says which field is wrong.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise FeedbackRejectedError("not a JSON document in UTF-8") from None
    if not isinstance(value, dict):
        raise FeedbackRejectedError(f"a JSON {type(value).__name__}, not an object")
    return _checked(value)


def _checked(value: Mapping[str, object]) -> FeedbackRecord:
    if value.get("schema") != SCHEMA or isinstance(value.get("schema"), bool):
        raise FeedbackRejectedError(f"schema is not {SCHEMA}")
    bundle = value.get("release_bundle")
    try:
        validate_bundle(cast("str", bundle))
    except InvalidBundleError:
        raise FeedbackRejectedError("release_bundle is not a valid bundle key") from None
    if value.get("feedback") not in ("thumbs_up", "thumbs_down"):
        raise FeedbackRejectedError("feedback is neither thumbs_up nor thumbs_down")
    return FeedbackRecord(
        event_id=_identifier(value, "event_id"),
        trace_id=_identifier(value, "trace_id"),
        session_id=_identifier(value, "session_id"),
        user_key=_user_key(value),
        release_bundle=cast("str", bundle),
        feedback=cast("Feedback", value["feedback"]),
        timestamp=_timestamp(value.get("timestamp")),
    )


def latest_feedback(events: Iterable[FeedbackRecord]) -> dict[str, Feedback]:
    """Return the newest thumb of each trace by trace id; the greater event id decides between two of one moment."""
    newest: dict[str, FeedbackRecord] = {}
    for event in events:
        known = newest.get(event.trace_id)
        if known is None or (event.timestamp, event.event_id) > (known.timestamp, known.event_id):
            newest[event.trace_id] = event
    return {trace_id: event.feedback for trace_id, event in newest.items()}


def _user_key(value: Mapping[str, object]) -> str | None:
    if value.get("user_key") is None:
        return None
    key = _identifier(value, "user_key")
    # Other publishers may put a plain user id there: only a pseudonym may go further.
    return key if is_pseudonym(key) else None


def _identifier(value: Mapping[str, object], name: str) -> str:
    identifier = value.get(name)
    if not isinstance(identifier, str) or not 0 < len(identifier) <= _MAXIMUM_IDENTIFIER:
        raise FeedbackRejectedError(f"{name} is not a text of 1 to {_MAXIMUM_IDENTIFIER} characters")
    if not identifier.isprintable():
        raise FeedbackRejectedError(f"{name} holds characters that cannot be printed")
    return identifier


def _timestamp(value: object) -> str:
    if not isinstance(value, str):
        raise FeedbackRejectedError("timestamp is not a text")
    try:
        parsed = datetime.fromisoformat(value)
        # A time without a zone has no place in UTC: astimezone would take it for this machine's.
        moved = parsed.astimezone(UTC) if parsed.tzinfo else None
    except (ValueError, OverflowError):
        raise FeedbackRejectedError("timestamp is not an ISO 8601 time") from None
    if moved is None:
        raise FeedbackRejectedError("timestamp has no time zone")
    return moved.isoformat(timespec="milliseconds").replace("+00:00", "Z")
