"""The feedback stream on Kinesis: publishing thumbs, and reading what is new over all shards."""

import contextlib
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from resources.aws import AwsResource, error_code, poll_until

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

    from mangaassist_assets.tracing.feedback import FeedbackRecord, RejectedRecord

# Limits of PutRecords (Kinesis Data Streams API reference).
_RECORDS_PER_PUT = 500
_BYTES_PER_PUT = 5_000_000


class FeedbackNotPublishedError(RuntimeError):
    """Kinesis refused feedback events again and again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackBatch:
    """What was read: events and rejects in the order of each shard, and the position after them by shard id."""

    events: "tuple[FeedbackRecord, ...]"
    cursor: Mapping[str, str]
    rejects: "tuple[RejectedRecord, ...]"


class KinesisFeedbackResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Publishes and reads feedback events."""

    aws: AwsResource = Field(description="How AWS is reached.")
    stream_name: str = Field(default="mangaassist-feedback", description="Name of the Kinesis stream.")
    attempts: int = Field(default=6, ge=1, description="How often records that Kinesis refused are sent again.")

    def ensure_stream(self, *, shards: int = 1, timeout_s: float = 60.0) -> None:
        """Create the stream if there is none and wait until it is active. Meant for bootstrap."""
        kinesis = self._kinesis()
        # In use means that somebody made it before, which is what was asked for.
        with contextlib.suppress(kinesis.exceptions.ResourceInUseException):
            kinesis.create_stream(StreamName=self.stream_name, ShardCount=shards)
        poll_until(
            lambda: self._status() == "ACTIVE" or None,
            what=f"Kinesis stream {self.stream_name} to become ACTIVE",
            timeout_s=timeout_s,
            interval_s=0.5,
        )

    def publish(self, events: "Sequence[FeedbackRecord]") -> int:
        """Publish all events, partitioned by session so that a session stays in order; returns how many.

        Raises:
            FeedbackNotPublishedError: Some were refused in every attempt; the others are on the stream, and sending
                all again is safe, for readers drop repeats by event id.
        """
        for entries in _portions(events):
            self._put(entries)
        return len(events)

    def read_new(self, cursor: Mapping[str, str], limit: int = 10_000) -> FeedbackBatch:
        """Read what came after a position.

        Args:
            cursor: Last sequence number read by shard id; a shard that is not in it is read from its oldest record.
            limit: Records to read at most, over all shards; the next call goes on from there.
        """
        from mangaassist_assets.tracing.feedback import FeedbackRejectedError, RejectedRecord, parse_feedback

        events: list[FeedbackRecord] = []
        rejects: list[RejectedRecord] = []
        positions = dict(cursor)
        left = limit
        for shard_id in self._shards():
            for record in self._records(shard_id, positions.get(shard_id), left):
                left -= 1
                positions[shard_id] = record["SequenceNumber"]
                try:
                    events.append(parse_feedback(record["Data"]))
                except FeedbackRejectedError as rejected:
                    rejects.append(
                        RejectedRecord(
                            shard_id=shard_id,
                            sequence_number=record["SequenceNumber"],
                            size=len(record["Data"]),
                            reason=str(rejected),
                        )
                    )
            if left <= 0:
                break
        return FeedbackBatch(events=tuple(events), cursor=positions, rejects=tuple(rejects))

    def _kinesis(self) -> "KinesisClient":
        client: KinesisClient = self.aws.client("kinesis")
        return client

    def _status(self) -> str:
        return self._kinesis().describe_stream_summary(StreamName=self.stream_name)["StreamDescriptionSummary"][
            "StreamStatus"
        ]

    def _put(self, entries: list[dict[str, Any]]) -> None:
        last = ""
        for attempt in range(self.attempts):
            if attempt:
                # Refused records mean a shard over its throughput: waiting is what Kinesis asks for.
                time.sleep(min(0.1 * 2**attempt, 5.0))
            answer = self._kinesis().put_records(StreamName=self.stream_name, Records=entries)  # type: ignore[arg-type]
            if not answer["FailedRecordCount"]:
                return
            failed = [
                (entry, put) for entry, put in zip(entries, answer["Records"], strict=True) if put.get("ErrorCode")
            ]
            last = failed[0][1].get("ErrorMessage", failed[0][1].get("ErrorCode", ""))
            entries = [entry for entry, _ in failed]
        raise FeedbackNotPublishedError(
            f"{len(entries)} feedback events were refused by Kinesis stream {self.stream_name} in {self.attempts} "
            f"attempts, last: {last}; publish them again"
        )

    def _shards(self) -> list[str]:
        """Return shard ids so that parents of a split or merge come before their children."""
        kinesis = self._kinesis()
        answer = kinesis.list_shards(StreamName=self.stream_name)
        shards = list(answer["Shards"])
        while token := answer.get("NextToken"):
            answer = kinesis.list_shards(NextToken=token)
            shards += answer["Shards"]
        # Shard ids are numbered in the order the shards were made, so a parent sorts before its children.
        return sorted(shard["ShardId"] for shard in shards)

    def _records(self, shard_id: str, after: str | None, limit: int) -> Iterator[Any]:
        """Yield records of a shard up to its tip, at most `limit`."""
        kinesis = self._kinesis()
        iterator: str | None = self._iterator(shard_id, after)
        while iterator and limit > 0:
            try:
                answer = kinesis.get_records(ShardIterator=iterator, Limit=min(limit, 10_000))
            except kinesis.exceptions.ExpiredIteratorException:
                iterator = self._iterator(shard_id, after)
                continue
            for record in answer["Records"]:
                after = record["SequenceNumber"]
                limit -= 1
                yield record
            # An empty answer is not the tip: Kinesis says how far behind it was.
            if not answer.get("MillisBehindLatest") and not answer["Records"]:
                return
            iterator = answer.get("NextShardIterator")

    def _iterator(self, shard_id: str, after: str | None) -> str:
        from botocore.exceptions import ClientError

        kinesis = self._kinesis()
        if after is not None:
            try:
                return kinesis.get_shard_iterator(
                    StreamName=self.stream_name,
                    ShardId=shard_id,
                    ShardIteratorType="AFTER_SEQUENCE_NUMBER",
                    StartingSequenceNumber=after,
                )["ShardIterator"]
            except ClientError as error:
                if error_code(error) != "InvalidArgumentException":
                    raise
                dg.get_dagster_logger().warning(
                    f"stream {self.stream_name} does not know position {after} of {shard_id} (it was made anew?): "
                    "reading the shard from its oldest record, repeats fall away by event id"
                )
        return kinesis.get_shard_iterator(
            StreamName=self.stream_name, ShardId=shard_id, ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]


def _portions(events: "Sequence[FeedbackRecord]") -> Iterator[list[dict[str, Any]]]:
    portion: list[dict[str, Any]] = []
    size = 0
    for event in events:
        data = event.to_bytes()
        key = event.session_id
        if len(key) > 256:
            key = hashlib.sha256(key.encode()).hexdigest()
        weight = len(data) + len(key.encode())
        if portion and (len(portion) == _RECORDS_PER_PUT or size + weight > _BYTES_PER_PUT):
            yield portion
            portion, size = [], 0
        portion.append({"Data": data, "PartitionKey": key})
        size += weight
    if portion:
        yield portion
