"""Reading the parts of a feedback event, whatever its names, spellings, envelopes and forms of a time are."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Literal

from mangaassist_assets.tracing.contract.feedback_fields import FeedbackFields, FieldError, thumb_word, word_of
from mangaassist_assets.tracing.contract.turns import Feedback

TimeSource = Literal["event", "clipped", "arrival", "unreadable"]
"""`clipped`: the event names a time after it arrived; `arrival`: it names none; `unreadable`: what it names is none."""

SKEW = timedelta(seconds=5)
"""So far clocks of a publisher and of the stream may differ; the stream of a stand-in cuts its times to seconds."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A chatbot with thumbs is younger than this: what lies before is a default value or another unit.
_FIRST = datetime(2000, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"[+-]?\d{1,20}(?:\.\d{1,12})?")
# Seconds, milliseconds, microseconds and nanoseconds of today are a thousand times each other: the size gives the unit.
_UNITS = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (1e20, 1e9))
_SEPARATORS = re.compile(r"[\s_.\-]+")
_NOTHING = frozenset({"", "null", "none", "undefined", "nil"})
_DEPTH = 3


class EventParts:
    """One event, its envelopes opened, asked part by part."""

    def __init__(self, event: Mapping[str, object], fields: FeedbackFields) -> None:
        self._fields = fields
        self._levels = [_Level(one) for one in _levels(event, fields.envelopes, _DEPTH)]

    def values(self, part: str) -> Iterator[object]:
        """Yield what stands under the names of a part, in their order; of an object its `id`.

        Raises:
            FieldError: One name is there in two spellings that differ.
        """
        for level in self._levels:
            for name in self._fields.fields[part]:
                value = level.value(name)
                if isinstance(value, Mapping):
                    value = value.get("id")
                if not _is_nothing(value):
                    yield value

    def thumb(self) -> Feedback:
        """Return the thumb.

        Raises:
            FieldError: There is none, a word is no thumb, or two of them contradict each other.
        """
        for level in self._levels:
            said = [one for one in self._thumbs(level) if one is not None]
            if said:
                if isinstance(said[0], FieldError):
                    raise said[0]
                thumbs = {one for one in said if not isinstance(one, FieldError)}
                if len(thumbs) > 1:
                    raise FieldError("feedback is ambiguous: the event says both thumbs up and thumbs down")
                return said[0]
        raise FieldError("feedback is missing: the event has no thumb")

    def _thumbs(self, level: _Level) -> Iterator[Feedback | FieldError | None]:
        for name in self._fields.words:
            value = level.value(name)
            if not isinstance(value, Mapping) and not _is_nothing(value):
                yield word_of(self._fields, name, value)
        for names, truth in ((self._fields.true_is_up, True), (self._fields.true_is_down, False)):
            for name in names:
                value = level.value(name)
                if not _is_nothing(value):
                    yield _of_truth(name, value, truth)


class _Level:
    """The names of one object of an event, folded."""

    def __init__(self, content: Mapping[str, object]) -> None:
        self._values: dict[str, list[object]] = {}
        for key, value in content.items():
            self._values.setdefault(_folded(key), []).append(value)

    def value(self, name: str) -> object:
        found = [one for one in self._values.get(_folded(name), ()) if not _is_nothing(one)]
        if any(one != found[0] or type(one) is not type(found[0]) for one in found[1:]):
            raise FieldError(f"{name} is ambiguous: it is there in two spellings that say different things")
        return found[0] if found else None


def _levels(content: Mapping[str, object], envelopes: Sequence[str], depth: int) -> Iterator[Mapping[str, object]]:
    yield content
    if depth == 0:
        return
    folded: dict[str, Mapping[str, object]] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            folded.setdefault(_folded(key), value)
    for name in map(_folded, envelopes):
        if name in folded:
            yield from _levels(folded[name], envelopes, depth - 1)


def _of_truth(name: str, value: object, truth_is_up: bool) -> Feedback | FieldError:  # noqa: FBT001 - of two tables
    said = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(thumb_word(str(value)))
    if said is None:
        return FieldError(f"feedback is no thumb: {name} is neither true nor false")
    return "thumbs_up" if said is truth_is_up else "thumbs_down"


def _is_nothing(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() in _NOTHING)


def _folded(name: str) -> str:
    """Return a name without its spelling: `traceId`, `Trace-ID` and `trace_id` are one."""
    return _SEPARATORS.sub("", name).lower()


def event_time(values: list[object], arrived: datetime) -> tuple[datetime, TimeSource]:
    """Return the time of an event (UTC), but not later than it arrived, and where it is from.

    `values` stand under the names of a time, in the order of preference; `arrived` is when the stream took the event.
    """
    moments = [moment for value in values if (moment := _moment(value)) is not None]
    if not moments:
        return arrived.astimezone(UTC), "unreadable" if values else "arrival"
    # A clock that runs ahead must not let a thumb beat those that come later.
    return (moments[0], "event") if moments[0] <= arrived + SKEW else (arrived.astimezone(UTC), "clipped")


def iso(moment: datetime) -> str:
    """Return a time as ISO 8601 in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _moment(value: object) -> datetime | None:
    found = None
    if isinstance(value, int | float) and not isinstance(value, bool):
        found = _of_number(value)
    elif isinstance(value, str):
        found = _of_number(float(value)) if _NUMBER.fullmatch(value.strip()) else _of_text(value.strip())
    return found if found is not None and found >= _FIRST else None


def _of_number(value: float) -> datetime | None:
    if not math.isfinite(value):
        return None
    for limit, unit in _UNITS:
        if abs(value) < limit:
            return _EPOCH + timedelta(milliseconds=round(value / unit * 1_000))
    return None


def _of_text(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        try:
            found = parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError):
            return None
    try:
        # A time without a zone is taken for UTC, which AWS services write, and not for this machine's.
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (OverflowError, ValueError):
        return None
