"""Feedback events that Firehose delivered to S3, read object by object in the order of their hours.

Keys are `prefix/YYYY/MM/DD/HH/…`; what Firehose could not process is under `prefix/processing-failed/` (Amazon Data
Firehose, "Configure Amazon S3 object name format"). The position is the newest hour seen. Objects may come late, so
the hours before it are listed again, and the objects that were read in them are remembered by a hash of their key.
An event arrived, as far as can be told, when its object was written.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.tracing.feedback.events import FeedbackEvent, FeedbackRejectedError, parse_feedback
from mangaassist_assets.tracing.feedback.sources import FeedbackBatch, RejectedRecord
from resources.aws.clients import error_code
from resources.feedback.delivered_objects import Document, documents, unpacked

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectTypeDef

_DELIVERED = ""
_FAILED = "processing-failed/"
_URL = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>.*))?")
_HOUR = re.compile(r"(\d{4}/\d{2}/\d{2}/\d{2})/.+", re.DOTALL)
_HOUR_FORMAT = "%Y/%m/%d/%H"
_HOUR_LENGTH = 13
_KEY_HASH = 12
_ERROR_CODE = re.compile(r"[A-Za-z0-9._-]{1,80}")
# Hours may be those of a custom time zone, which is ahead of UTC by 14 hours at most.
_AHEAD = timedelta(hours=15)
_FIRST_YEAR = 2000
_REJECTS_PER_OBJECT = 1_000


class DeliveryUrlError(OperatorError, ValueError):
    """The configured place of delivered feedback is no S3 URL."""


@dataclass(slots=True)
class _Area:
    """How far one of the two key spaces was read."""

    hour: str = ""
    seen: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, value: object) -> _Area:
        if not isinstance(value, Mapping):
            return cls()
        return cls(str(value.get("hour", "")), {str(hour): str(keys) for hour, keys in value.get("seen", {}).items()})

    def knows(self, key: str, hashed: str) -> bool:
        joined = self.seen.get(key[:_HOUR_LENGTH], "")
        return any(joined[at : at + _KEY_HASH] == hashed for at in range(0, len(joined), _KEY_HASH))

    def remember(self, key: str, hashed: str) -> None:
        bucket = key[:_HOUR_LENGTH]
        self.seen[bucket] = self.seen.get(bucket, "") + hashed

    def to_json(self, start: str) -> dict[str, Any]:
        return {"hour": self.hour, "seen": {hour: keys for hour, keys in sorted(self.seen.items()) if hour >= start}}


@dataclass(slots=True)
class _Found:
    events: list[FeedbackEvent] = field(default_factory=list)
    rejects: list[RejectedRecord] = field(default_factory=list)
    gaps: list[RejectedRecord] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.events) + len(self.rejects)


class DeliveredFeedback:
    """Reads the objects under one prefix."""

    def __init__(
        self, client: S3Client, url: str, *, overlap_hours: int = 24, maximum_bytes: int = 256 * 1024 * 1024
    ) -> None:
        """Name the place; nothing is read.

        Args:
            client: The S3 client.
            url: `s3://bucket/prefix/` of the delivery stream.
            overlap_hours: Hours before the newest one that are listed again.
            maximum_bytes: What one object may hold, unpacked; Firehose buffers 128 MiB at most.

        Raises:
            DeliveryUrlError: The URL is none of S3.
        """
        match = _URL.fullmatch(url)
        if match is None:
            raise DeliveryUrlError(f"{url!r} is no place of delivered feedback: write s3://bucket/prefix/")
        self._client = client
        self._bucket = match["bucket"]
        prefix = match["prefix"] or ""
        self._prefix = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
        self._overlap = timedelta(hours=overlap_hours)
        self._maximum = maximum_bytes

    def read_new(self, cursor: Mapping[str, Any], limit: int = 10_000) -> FeedbackBatch:
        """Read objects that were not read yet, whole ones, until there are `limit` records or no more objects."""
        place = f"s3://{self._bucket}/{self._prefix}"
        # A position of another place, or in the stream itself, is none here: repeats fall away by event id.
        known = cursor if cursor.get("delivered") == place else {}
        found = _Found()
        position: dict[str, Any] = {"delivered": place}
        for area in (_DELIVERED, _FAILED):
            position[area or "delivery"] = self._read_area(area, _Area.of(known.get(area or "delivery")), limit, found)
        return FeedbackBatch(
            events=tuple(found.events), cursor=position, rejects=tuple(found.rejects), gaps=tuple(found.gaps)
        )

    def _read_area(self, area: str, state: _Area, limit: int, found: _Found) -> dict[str, Any]:
        for stored in self._objects(area, self._start(state.hour)):
            if found.size >= limit:
                break
            key = stored["Key"][len(self._prefix) + len(area) :]
            hashed = hashlib.sha256(key.encode()).hexdigest()[:_KEY_HASH]
            if state.knows(key, hashed):
                continue
            hour = _hour_of(key, stored["LastModified"])
            if hour is None:
                self._reject(found, stored["Key"], 0, stored["Size"], "the key has no hour as Firehose writes it")
            else:
                state.hour = max(state.hour, hour)
                self._read_object(area, stored, found)
            state.remember(key, hashed)
        return state.to_json(self._start(state.hour))

    def _start(self, hour: str) -> str:
        """Return the first hour to look at, '' for all."""
        if not hour:
            return ""
        newest = datetime.strptime(hour, _HOUR_FORMAT).replace(tzinfo=UTC)
        return (newest - self._overlap).strftime(_HOUR_FORMAT)

    def _objects(self, area: str, start: str) -> Iterator[ObjectTypeDef]:
        """Yield the objects of an area from an hour on, by key."""
        base = self._prefix + area
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=base, StartAfter=base + start
        )
        for page in pages:
            for stored in page.get("Contents", []):
                # Years sort before names: what follows them is another area, and may be large.
                if not stored["Key"][len(base) :][:1].isdigit():
                    return
                yield stored

    def _read_object(self, area: str, stored: ObjectTypeDef, found: _Found) -> None:
        key = stored["Key"]
        if stored["Size"] > self._maximum:
            self._reject(found, key, 0, stored["Size"], f"more than {self._maximum} bytes: it was not read")
            return
        data = self._fetch(key)
        if data is None:
            found.gaps.append(
                RejectedRecord(
                    part=key,
                    sequence_number="0",
                    size=stored["Size"],
                    reason="the object was deleted before it was read",
                )
            )
            return
        content = unpacked(data, self._maximum)
        rejected = 0
        for document in documents(content.data):
            reason = self._failure(document.data) if area else self._take(document, found, stored["LastModified"])
            if reason is None:
                continue
            rejected += 1
            if rejected > _REJECTS_PER_OBJECT:
                rest = len(content.data) - document.offset
                self._reject(found, key, document.offset, rest, "too many unreadable records: the rest was not read")
                break
            self._reject(found, key, document.offset, len(document.data), reason)
        if content.defect is not None:
            self._reject(found, key, len(content.data), len(data), content.defect)

    def _fetch(self, key: str) -> bytes | None:
        from botocore.exceptions import ClientError

        try:
            return self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        except ClientError as error:
            if error_code(error) != "NoSuchKey":
                raise
            return None

    @staticmethod
    def _take(document: Document, found: _Found, delivered: datetime) -> str | None:
        try:
            found.events.append(parse_feedback(document.data, arrived=delivered, place=f"{document.offset:012d}"))
        except FeedbackRejectedError as rejected:
            return str(rejected)
        return None

    @staticmethod
    def _failure(data: bytes) -> str:
        """Return why Firehose gave up on a record; its own message may quote the record and is not kept."""
        try:
            value = json.loads(data)
            code = value.get("errorCode") if isinstance(value, dict) else None
            size = len(base64.b64decode(value.get("rawData", ""))) if isinstance(value, dict) else 0
        except (ValueError, TypeError, RecursionError, binascii.Error):
            return "a record of processing-failed that cannot be read"
        known = code if isinstance(code, str) and _ERROR_CODE.fullmatch(code) else "an unknown error"
        return f"Firehose could not process a record of {size} bytes: {known}"

    @staticmethod
    def _reject(found: _Found, key: str, offset: int, size: int, reason: str) -> None:
        found.rejects.append(RejectedRecord(part=key, sequence_number=str(offset), size=size, reason=reason))


def _hour_of(key: str, modified: datetime) -> str | None:
    """Return the hour in a key, None if there is none or it is one at which the object cannot have been written."""
    match = _HOUR.fullmatch(key)
    if match is None:
        return None
    try:
        hour = datetime.strptime(match[1], _HOUR_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None
    return match[1] if hour.year >= _FIRST_YEAR and hour <= modified + _AHEAD else None
