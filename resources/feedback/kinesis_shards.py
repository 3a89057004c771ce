"""Reading a Kinesis stream over all its shards, from a position to the tip, through splits and merges.

A shard is read only after its parents are drained, so the events of one session stay in order whatever happens to the
shards (Amazon Kinesis Data Streams, "Strategies for resharding"). The position of a shard is `sequence@hour`: the last
sequence number read, and the UTC hour until which nothing of the shard is unread. The hour shows whether records may
have been trimmed meanwhile. A drained shard is `SHARD_END` until Kinesis lists it no longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

from mangaassist_assets.tracing.feedback.events import FeedbackEvent, FeedbackRejectedError, parse_feedback
from mangaassist_assets.tracing.feedback.sources import FeedbackBatch, RejectedRecord
from resources.aws.clients import error_code
from resources.feedback.kinesis_aggregation import AggregationError, user_records

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient
    from mypy_boto3_kinesis.type_defs import RecordTypeDef

SHARD_END = "SHARD_END"
_SHARD = "shardId-"
_HOUR = "%Y-%m-%dT%H"
# The least retention that Kinesis knows is 24 hours: a younger position needs no question.
_SURELY_RETAINED = timedelta(hours=23)
_RECORDS_PER_GET = 10_000
_SEQUENCE_DIGITS = 56


@dataclass(slots=True)
class _Reading:
    """A shard that is being read in this call."""

    shard_id: str
    sequence: str
    read_until: datetime | None
    iterator: str | None = None


@dataclass(slots=True)
class _Found:
    events: list[FeedbackEvent] = field(default_factory=list)
    rejects: list[RejectedRecord] = field(default_factory=list)
    gaps: list[RejectedRecord] = field(default_factory=list)


class ShardReader:
    """Reads one stream. One object serves one call of `read`."""

    def __init__(self, client: KinesisClient, stream_name: str, *, now: Callable[[], float] = time.time) -> None:
        self._client = client
        self._stream = stream_name
        self._now = now
        self._found = _Found()
        self._retention: timedelta | None = None

    def read(self, cursor: Mapping[str, Any], limit: int) -> FeedbackBatch:
        """Read up to `limit` Kinesis records, shared among the shards that can be read.

        Throttling is waited out by the client's retries; what is still refused after them is raised, and nothing is
        lost: the cursor has not moved.
        """
        parents = self._parents()
        positions = self._listed(cursor, parents)
        order = list(TopologicalSorter(parents).static_order())
        started: set[str] = set()
        active: list[_Reading] = []
        left = limit
        while left > 0:
            for shard_id in order:
                if shard_id not in started and _readable(shard_id, positions, parents):
                    started.add(shard_id)
                    active.append(self._start(shard_id, positions.get(shard_id, "")))
            if not active:
                break
            share = max(1, left // len(active))
            for reading in list(active):
                taken, more = self._advance(reading, min(share, left))
                left -= taken
                positions[reading.shard_id] = _position(reading)
                if not more:
                    active.remove(reading)
                if left <= 0:
                    break
        found = self._found
        return FeedbackBatch(
            events=tuple(found.events), cursor=positions, rejects=tuple(found.rejects), gaps=tuple(found.gaps)
        )

    def _parents(self) -> dict[str, tuple[str, ...]]:
        """Return the listed shards by id, each with those of its parents that are still listed."""
        answer = self._client.list_shards(StreamName=self._stream)
        shards = list(answer["Shards"])
        while token := answer.get("NextToken"):
            answer = self._client.list_shards(NextToken=token)
            shards += answer["Shards"]
        ids = {shard["ShardId"] for shard in shards}
        return {
            shard["ShardId"]: tuple(
                parent
                for parent in (shard.get("ParentShardId"), shard.get("AdjacentParentShardId"))
                if parent is not None and parent in ids
            )
            for shard in sorted(shards, key=lambda shard: shard["ShardId"])
        }

    def _listed(self, cursor: Mapping[str, Any], listed: Mapping[str, object]) -> dict[str, str]:
        """Return the cursor without shards that are gone; one that was not drained is a gap."""
        positions: dict[str, str] = {}
        for shard_id, position in cursor.items():
            if not shard_id.startswith(_SHARD) or not isinstance(position, str):
                continue
            if shard_id in listed:
                positions[shard_id] = position
            elif position != SHARD_END:
                self._gap(shard_id, position, "the shard was deleted before it was read to its end")
        return positions

    def _start(self, shard_id: str, position: str) -> _Reading:
        sequence, _, hour = position.partition("@")
        reading = _Reading(shard_id, sequence, _parse_hour(hour))
        if reading.read_until is not None:
            age = datetime.fromtimestamp(self._now(), UTC) - reading.read_until
            if age > _SURELY_RETAINED and age > self._retained():
                self._gap(
                    shard_id,
                    position,
                    f"nothing was read for {age.total_seconds() / 3600:.0f} hours, the stream keeps "
                    f"{self._retained().total_seconds() / 3600:.0f}: records may have been trimmed unread",
                )
        reading.iterator = self._iterator(reading)
        return reading

    def _retained(self) -> timedelta:
        if self._retention is None:
            summary = self._client.describe_stream_summary(StreamName=self._stream)["StreamDescriptionSummary"]
            self._retention = timedelta(hours=summary["RetentionPeriodHours"])
        return self._retention

    def _iterator(self, reading: _Reading) -> str:
        from botocore.exceptions import ClientError

        if reading.sequence:
            try:
                return self._client.get_shard_iterator(
                    StreamName=self._stream,
                    ShardId=reading.shard_id,
                    ShardIteratorType="AFTER_SEQUENCE_NUMBER",
                    StartingSequenceNumber=reading.sequence,
                )["ShardIterator"]
            except ClientError as error:
                if error_code(error) != "InvalidArgumentException":
                    raise
                self._gap(
                    reading.shard_id,
                    reading.sequence,
                    "the stream does not know this position (it was made anew?): the shard is read from its oldest "
                    "record, repeats fall away by event id",
                )
        return self._client.get_shard_iterator(
            StreamName=self._stream, ShardId=reading.shard_id, ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]

    def _advance(self, reading: _Reading, limit: int) -> tuple[int, bool]:
        """Read one page of up to `limit` records; returns how many there were, and whether there may be more."""
        if reading.iterator is None:
            return 0, False
        asked = datetime.fromtimestamp(self._now(), UTC)
        try:
            answer = self._client.get_records(ShardIterator=reading.iterator, Limit=min(limit, _RECORDS_PER_GET))
        except self._client.exceptions.ExpiredIteratorException:
            reading.iterator = self._iterator(reading)
            return 0, True
        for record in answer["Records"]:
            self._take(reading.shard_id, record)
            reading.sequence = record["SequenceNumber"]
            reading.read_until = record["ApproximateArrivalTimestamp"].astimezone(UTC)
        following: str | None = answer.get("NextShardIterator") or None
        reading.iterator = following
        if following is None:
            return len(answer["Records"]), False
        # An empty answer is not the tip: Kinesis says how far behind it was.
        at_tip = not answer["Records"] and not answer.get("MillisBehindLatest")
        if at_tip:
            reading.read_until = asked
        return len(answer["Records"]), not at_tip

    def _take(self, shard_id: str, record: RecordTypeDef) -> None:
        data, number = record["Data"], record["SequenceNumber"]
        try:
            parts = user_records(data)
        except AggregationError as damaged:
            self._reject(shard_id, number, len(data), str(damaged))
            return
        arrived = record["ApproximateArrivalTimestamp"]
        for index, content in enumerate([data] if parts is None else parts):
            place = f"{number:0>{_SEQUENCE_DIGITS}}.{index:04d}"
            try:
                self._found.events.append(parse_feedback(content, arrived=arrived, place=place))
            except FeedbackRejectedError as rejected:
                where = number if parts is None else f"{number}+{index}"
                self._reject(shard_id, where, len(content), str(rejected))

    def _reject(self, shard_id: str, number: str, size: int, reason: str) -> None:
        self._found.rejects.append(RejectedRecord(part=shard_id, sequence_number=number, size=size, reason=reason))

    def _gap(self, shard_id: str, position: str, reason: str) -> None:
        self._found.gaps.append(
            RejectedRecord(part=shard_id, sequence_number=position.partition("@")[0], size=0, reason=reason)
        )


def _readable(shard_id: str, positions: Mapping[str, str], parents: Mapping[str, tuple[str, ...]]) -> bool:
    return positions.get(shard_id) != SHARD_END and all(
        positions.get(parent) == SHARD_END for parent in parents[shard_id]
    )


def _position(reading: _Reading) -> str:
    if reading.iterator is None:
        return SHARD_END
    hour = "" if reading.read_until is None else reading.read_until.strftime(_HOUR)
    return f"{reading.sequence}@{hour}"


def _parse_hour(text: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.strptime(text, _HOUR).replace(tzinfo=UTC)
    except ValueError:
        return None
