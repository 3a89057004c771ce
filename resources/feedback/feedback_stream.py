"""The feedback stream: publishing thumbs to Kinesis, and reading what is new, from it or from its Firehose's bucket."""

import contextlib
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.tracing.feedback.sources import FeedbackBatch
from resources.aws.clients import AwsResource, error_code, poll_until

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

    from mangaassist_assets.tracing.feedback.events import FeedbackRecord

# Limits of PutRecords (Kinesis Data Streams API reference).
_RECORDS_PER_PUT = 500
_BYTES_PER_PUT = 5_000_000


class FeedbackNotPublishedError(OperatorError, RuntimeError):
    """Kinesis refused feedback events again and again."""


class KinesisFeedbackResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Publishes and reads feedback events."""

    aws: AwsResource = Field(description="How AWS is reached.")
    stream_name: str = Field(default="mangaassist-feedback", description="Name of the Kinesis stream.")
    attempts: int = Field(default=6, ge=1, description="How often records that Kinesis refused are sent again.")
    delivery_url: str | None = Field(
        default=None,
        description=(
            "s3://bucket/prefix/ under which a Firehose delivers the stream; events are then read from there. "
            "Empty reads the stream itself."
        ),
    )
    delivery_overlap_hours: int = Field(
        default=24,
        ge=1,
        le=168,
        description="Hours that are looked at again for objects delivered late; Firehose retries for a day.",
    )

    def ensure_stream(self, *, shards: int = 1, timeout_s: float = 60.0) -> None:
        """Create the stream if there is none and wait until it is active. Meant for bootstrap."""
        kinesis = self._kinesis()

        def is_active() -> bool | None:
            summary = kinesis.describe_stream_summary(StreamName=self.stream_name)["StreamDescriptionSummary"]
            return summary["StreamStatus"] == "ACTIVE" or None

        # In use means that somebody made it before, which is what was asked for.
        with contextlib.suppress(kinesis.exceptions.ResourceInUseException):
            kinesis.create_stream(StreamName=self.stream_name, ShardCount=shards)
        poll_until(
            is_active,
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

    def read_new(self, cursor: Mapping[str, Any], limit: int = 10_000) -> FeedbackBatch:
        """Read what came after a position, from the stream or from what is delivered of it.

        Args:
            cursor: What the last batch gave, {} for everything that is still there.
            limit: Records to read at most, over all shards; delivered objects are read whole. The next call goes on.
        """
        if self.delivery_url is not None:
            from resources.feedback.firehose_delivery import DeliveredFeedback

            client, overlap = self.aws.client("s3"), self.delivery_overlap_hours
            return DeliveredFeedback(client, self.delivery_url, overlap_hours=overlap).read_new(cursor, limit)
        from resources.feedback.kinesis_shards import ShardReader

        return ShardReader(self._kinesis(), self.stream_name).read(cursor, limit)

    def read_if_there(self, cursor: Mapping[str, Any], limit: int = 10_000) -> FeedbackBatch | None:
        """Return what `read_new` does, or None where the stream does not exist yet."""
        from botocore.exceptions import ClientError

        try:
            return self.read_new(cursor, limit)
        except ClientError as error:
            if error_code(error) != "ResourceNotFoundException":
                raise
            return None

    def _kinesis(self) -> "KinesisClient":
        client: KinesisClient = self.aws.client("kinesis")
        return client

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


def _portions(events: "Sequence[FeedbackRecord]") -> Iterator[list[dict[str, Any]]]:
    portion: list[dict[str, Any]] = []
    size = 0
    for event in events:
        data = event.to_bytes()
        key = event.session_id or event.trace_id
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
