"""The time of a feedback event: as the event says it, in any common form, but not later than it arrived."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Literal

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


def event_time(values: list[object], arrived: datetime) -> tuple[datetime, TimeSource]:
    """Return the time of an event (UTC), and where it is from.

    Args:
        values: What stands under the names of a time, in the order of preference.
        arrived: When the stream took the event, with a time zone.
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
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        found = _of_number(value)
    elif isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        found = _of_number(float(value))
    elif isinstance(value, str):
        found = _of_text(value.strip())
    else:
        found = None
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
