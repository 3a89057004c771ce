"""The feedback event: what a thumb looks like on the stream, in whatever shape, and what of the stream is none.

An event says at least a thumb and a trace or response. What it leaves out comes from the trace (bundle, session, user:
`joining`), from the stream (its time) and from its own content (its identity).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from mangaassist_assets.core.bundles import InvalidBundleError, validate_bundle
from mangaassist_assets.privacy import is_personal_id, is_pseudonym, pseudonym, user_key
from mangaassist_assets.tracing.contract.feedback_fields import FieldError, feedback_fields
from mangaassist_assets.tracing.contract.trace_ids import TraceIdError, mlflow_trace_id
from mangaassist_assets.tracing.contract.turns import Feedback
from mangaassist_assets.tracing.feedback.event_parts import EventParts, TimeSource, event_time, iso

SCHEMA = 1
CONTENT_ID = "c-"
CONTENT_DIGITS = 32
"""An event without an id of its own has one that begins with `c-` and ends with so many digits of what it says."""
_MAXIMUM_IDENTIFIER = 256
_PLAIN_ID = re.compile(r"[0-9A-Za-z._:/=+#-]+")


class FeedbackRejectedError(ValueError):
    """Bytes of the stream that are no feedback event; the message says why, without their content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackRecord:
    """One thumb with all that belongs to it.

    `timestamp` is ISO 8601 in UTC with milliseconds; `user_key` is a pseudonym or None; `session_id` is None where
    neither the event nor its trace has one.
    """

    event_id: str
    trace_id: str
    session_id: str | None
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
        return milliseconds(self.timestamp)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackEvent:
    """What one record of the stream says; None is what it does not say.

    `trace_id` is in MLflow's form. One of `trace_id` and `response_id` is there. `session_id` and `user` are as the
    publisher wrote them, so neither may be stored or shown before `StoredIds` has made them fit for it.
    """

    event_id: str
    trace_id: str | None
    response_id: str | None
    feedback: Feedback
    timestamp: str
    time_from: TimeSource
    release_bundle: str | None = None
    session_id: str | None = field(default=None, repr=False)
    user: str | None = field(default=None, repr=False)

    @property
    def timestamp_ms(self) -> int:
        """Milliseconds since the epoch (UTC)."""
        return milliseconds(self.timestamp)

    @property
    def user_key(self) -> str | None:
        """The user, if the publisher already wrote a pseudonym."""
        return self.user if is_pseudonym(self.user) else None


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
    """Return a valid event to publish, in the full form.

    Raises:
        FeedbackRejectedError: A field is wrong; names it.
    """
    if timestamp.tzinfo is None:
        raise FeedbackRejectedError("timestamp has no time zone")
    if feedback not in ("thumbs_up", "thumbs_down"):
        raise FeedbackRejectedError("feedback is neither thumbs_up nor thumbs_down")
    identifiers = {"event_id": event_id, "trace_id": trace_id, "session_id": session_id}
    for name, value in identifiers.items():
        if _identifier(value, name) != value:
            raise FeedbackRejectedError(f"{name} is not a text")
    return FeedbackRecord(
        event_id=event_id,
        trace_id=trace_id,
        session_id=session_id,
        # Other publishers may put a plain user id there: only a pseudonym may go further.
        user_key=user_key if is_pseudonym(user_key) else None,
        release_bundle=_bundle(release_bundle),
        feedback=feedback,
        timestamp=iso(timestamp),
    )


def parse_feedback(content: bytes, *, arrived: datetime | None = None, place: str = "") -> FeedbackEvent:
    """Read one record of the stream.

    Args:
        content: The record, a JSON object in which things have the names of `feedback_fields.toml`.
        arrived: When the stream took it; None is now. An event that says to be of a later time is of that.
        place: Where in the stream it stands, as a text that sorts as the stream does: it decides between events that
            arrived at one moment and say no time.

    Raises:
        FeedbackRejectedError: The bytes are no feedback event; says what of it is wrong.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise FeedbackRejectedError("not a JSON document in UTF-8") from None
    if not isinstance(value, dict):
        raise FeedbackRejectedError(f"a JSON {type(value).__name__}, not an object")
    schema = value.get("schema", SCHEMA)
    # Another publisher may call its own schema by a name; a number is one of ours, and of another version.
    if isinstance(schema, bool | int | float) and (schema != SCHEMA or isinstance(schema, bool)):
        raise FeedbackRejectedError(f"schema is not {SCHEMA}")
    try:
        return _event(EventParts(value, feedback_fields()), arrived or datetime.now(UTC), place)
    except FieldError as error:
        raise FeedbackRejectedError(str(error)) from None


def _event(parts: EventParts, arrived: datetime, place: str) -> FeedbackEvent:
    thumb = parts.thumb()
    trace_id, response_id = _trace_id(parts), _part(parts, "response_id")
    if trace_id is None and response_id is None:
        raise FeedbackRejectedError("trace_id and response_id are missing: nothing says what the thumb is about")
    times = list(parts.values("timestamp"))
    moment, time_from = event_time(times, arrived)
    timestamp = iso(moment)
    event_id = _part(parts, "event_id")
    if event_id is None:
        own_time = repr(times[0]) if time_from in ("event", "clipped") else None
        # Without a time of its own, the same thumb pressed again after another one is distinct by its arrival.
        arrival = "" if time_from == "event" else f"{milliseconds(timestamp):013d}-{place}-"
        said = json.dumps([trace_id, response_id, thumb, own_time]).encode()
        event_id = f"{CONTENT_ID}{arrival}{hashlib.sha256(said).hexdigest()[:CONTENT_DIGITS]}"
    return FeedbackEvent(
        event_id=event_id,
        trace_id=trace_id,
        response_id=response_id,
        feedback=thumb,
        timestamp=timestamp,
        time_from=time_from,
        release_bundle=None if (bundle := _part(parts, "release_bundle")) is None else _bundle(bundle),
        session_id=_part(parts, "session_id"),
        user=_part(parts, "user"),
    )


@dataclass(frozen=True, slots=True)
class StoredIds:
    """Makes ids fit to be kept, with the installation's secret; without it, those of people are left out."""

    key: bytes | None

    def row(self, event: FeedbackEvent) -> dict[str, Any]:
        """Return an event as a row to ingest, in the columns of events and the response's id."""
        return {
            "event_id": self._event(event.event_id),
            "trace_id": event.trace_id,
            "response_id": None if event.response_id is None else self._response(event.response_id),
            "session_id": self.session(event.session_id, user=event.user),
            "user_key": self.user(event.user),
            "release_bundle": event.release_bundle,
            "feedback": event.feedback,
            "timestamp": event.timestamp,
        }

    def user(self, user: str | None) -> str | None:
        """Return the pseudonym of a user."""
        return user_key(user, self.key)

    def session(self, session_id: str | None, *, user: str | None) -> str | None:
        """Return a session's id; that of a person, such as an e-mail address or the user's own, as a pseudonym."""
        if session_id is None:
            return None
        if session_id != user and not is_personal_id(session_id):
            return session_id
        return None if self.key is None else pseudonym(session_id, self.key, prefix="s")

    def _event(self, event_id: str) -> str:
        # An id made of content is long and numeric: chance may write a telephone number in it.
        own = event_id.startswith(CONTENT_ID) or not is_personal_id(event_id)
        return event_id if own else self._hashed(event_id, "e")

    def _response(self, response_id: str) -> str:
        # A response is looked for by this id: only what is clearly no id of a program may be changed.
        return response_id if _PLAIN_ID.fullmatch(response_id) else self._hashed(response_id, "r")

    def _hashed(self, value: str, prefix: str) -> str:
        if self.key is None:
            # Events have to be distinct, and responses found again, also without the secret.
            return f"{prefix}-{hashlib.sha256(value.encode('utf-8', 'surrogatepass')).hexdigest()[:20]}"
        return pseudonym(value, self.key, prefix=prefix)


def latest_feedback(events: Iterable[FeedbackRecord]) -> dict[str, Feedback]:
    """Return the newest thumb of each trace by trace id; the greater event id decides between two of one moment."""
    newest: dict[str, FeedbackRecord] = {}
    for event in events:
        known = newest.get(event.trace_id)
        if known is None or (event.timestamp, event.event_id) > (known.timestamp, known.event_id):
            newest[event.trace_id] = event
    return {trace_id: event.feedback for trace_id, event in newest.items()}


def milliseconds(timestamp: str) -> int:
    """Return an ISO 8601 time in milliseconds since the epoch (UTC)."""
    return round(datetime.fromisoformat(timestamp).timestamp() * 1000)


def _trace_id(parts: EventParts) -> str | None:
    wrong: TraceIdError | None = None
    for value in parts.values("trace_id"):
        try:
            return mlflow_trace_id(_identifier(value, "trace_id"))
        except TraceIdError as error:
            wrong = wrong or error
    if wrong is not None:
        raise FeedbackRejectedError(f"trace_id {wrong}")
    return None


def _part(parts: EventParts, name: str) -> str | None:
    return next((_identifier(value, name) for value in parts.values(name)), None)


def _bundle(key: str) -> str:
    try:
        return validate_bundle(key)
    except InvalidBundleError:
        raise FeedbackRejectedError("release_bundle is not a valid bundle key") from None


def _identifier(value: object, name: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 0 < len(value) <= _MAXIMUM_IDENTIFIER:
        raise FeedbackRejectedError(f"{name} is not a text of 1 to {_MAXIMUM_IDENTIFIER} characters")
    if not value.isprintable():
        raise FeedbackRejectedError(f"{name} holds characters that cannot be printed")
    return value
