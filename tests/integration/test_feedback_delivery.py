"""Feedback from the stream through resharding, and from its Firehose, against the stand-ins."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from mangaassist_assets.tracing.feedback.events import FeedbackRecord
from mangaassist_assets.tracing.feedback.ingestion import FeedbackIngestion, ingest_new
from resources.aws.clients import AwsResource
from resources.feedback.feedback_stream import KinesisFeedbackResource
from resources.feedback.firehose_delivery import DeliveredFeedback
from tests.support.feedback_events import (
    BUNDLE,
    OTHER,
    USER,
    event,
    ids,
    new_stream,
)

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("stand_ins_environment")]


@pytest.fixture
def stream() -> KinesisFeedbackResource:
    return new_stream()


@pytest.fixture
def s3():
    return AwsResource().client("s3")


@pytest.fixture
def bucket(s3) -> str:
    name = f"feedback-{uuid4().hex[:8]}"
    s3.create_bucket(Bucket=name)
    return name


def lines(*events: FeedbackRecord) -> bytes:
    return b"\n".join(one.to_bytes() for one in events)


class TestStream:
    """Resharding on MiniStack, which deletes the parents of a split at once."""

    def test_records_of_the_children_are_read_and_unread_parents_are_a_gap(self, stream):
        kinesis = stream.aws.client("kinesis")
        stream.publish([event(number) for number in range(10)])
        first = stream.read_new({})
        stream.publish([event(number) for number in range(10, 20)])
        shard = kinesis.list_shards(StreamName=stream.stream_name)["Shards"][0]
        low, high = (int(shard["HashKeyRange"][end]) for end in ("StartingHashKey", "EndingHashKey"))
        kinesis.split_shard(
            StreamName=stream.stream_name, ShardToSplit=shard["ShardId"], NewStartingHashKey=str((low + high) // 2)
        )
        stream.publish([event(number) for number in range(20, 40)])
        second = stream.read_new(first.cursor)
        assert {f"fb-{number}" for number in range(20, 40)} <= set(ids(second.events))
        assert [gap.part for gap in second.gaps] == [shard["ShardId"]]
        assert shard["ShardId"] not in second.cursor
        assert stream.read_new(second.cursor).size == 0


class TestDelivery:
    """What Firehose puts into a bucket is the same feedback."""

    def test_firehose_and_stream_give_the_same_table(self, stream, bucket, tmp_path):
        firehose = stream.aws.client("firehose")
        kinesis = stream.aws.client("kinesis")
        arn = kinesis.describe_stream_summary(StreamName=stream.stream_name)["StreamDescriptionSummary"]["StreamARN"]
        role = "arn:aws:iam::000000000000:role/delivery"
        firehose.create_delivery_stream(
            DeliveryStreamName=stream.stream_name,
            DeliveryStreamType="KinesisStreamAsSource",
            KinesisStreamSourceConfiguration={"KinesisStreamARN": arn, "RoleARN": role},
            ExtendedS3DestinationConfiguration={
                "RoleARN": role,
                "BucketARN": f"arn:aws:s3:::{bucket}",
                "Prefix": "feedback/",
            },
        )
        stream.publish([event(number) for number in range(30)])
        kinesis.put_record(StreamName=stream.stream_name, Data=b'{"schema": 1}', PartitionKey="p")
        delivered = KinesisFeedbackResource(
            aws=stream.aws, stream_name=stream.stream_name, delivery_url=f"s3://{bucket}/feedback/"
        )
        by_stream = FeedbackIngestion.at(str(tmp_path / "stream"))
        by_bucket = FeedbackIngestion.at(str(tmp_path / "bucket"))
        ingest_new(stream, by_stream)
        ingested = ingest_new(delivered, by_bucket)
        assert (ingested.events, ingested.rejects) == (30, 1)
        assert by_bucket.table(BUNDLE).to_parquet() == by_stream.table(BUNDLE).to_parquet()
        assert ingest_new(delivered, by_bucket).events == 0
        # From the stream's position the bucket is read from its beginning, and repeats fall away.
        ingest_new(delivered, by_stream)
        assert by_stream.table(BUNDLE).to_parquet() == by_bucket.table(BUNDLE).to_parquet()
        assert by_stream.table(BUNDLE).duplicates == 30

    def test_late_objects_are_found_within_the_overlap_and_none_is_read_twice(self, s3, bucket):
        source = DeliveredFeedback(s3, f"s3://{bucket}/f", overlap_hours=3)
        s3.put_object(Bucket=bucket, Key="f/2026/03/24/10/a", Body=lines(event(1), event(2)))
        s3.put_object(Bucket=bucket, Key="f/2026/03/24/12/a.gz", Body=gzip.compress(lines(event(3))))
        first = source.read_new({})
        assert ids(first.events) == ["fb-1", "fb-2", "fb-3"]
        s3.put_object(Bucket=bucket, Key="f/2026/03/24/09/late", Body=lines(event(4)))
        s3.put_object(Bucket=bucket, Key="f/2026/03/24/08/too-late", Body=lines(event(5)))
        s3.put_object(Bucket=bucket, Key="f/2026/03/25/00/b", Body=event(6).to_bytes() + event(7).to_bytes())
        second = source.read_new(json.loads(json.dumps(first.cursor)))
        assert ids(second.events) == ["fb-4", "fb-6", "fb-7"]
        assert sorted(second.cursor["delivery"]["seen"]) == ["2026/03/25/00"]
        assert source.read_new(second.cursor) == source.read_new(second.cursor)
        assert source.read_new(second.cursor).size == 0

    def test_a_limit_stops_between_objects_and_the_position_goes_on(self, s3, bucket):
        source = DeliveredFeedback(s3, f"s3://{bucket}")
        for number in range(6):
            s3.put_object(
                Bucket=bucket, Key=f"2026/03/24/{number:02d}/x", Body=lines(event(2 * number), event(2 * number + 1))
            )
        cursor: dict[str, object] = {}
        found: list[str] = []
        sizes = []
        for _ in range(5):
            batch = source.read_new(cursor, limit=3)
            found += ids(batch.events)
            sizes.append(batch.size)
            cursor = dict(batch.cursor)
        assert sizes == [4, 4, 4, 0, 0]
        assert sorted(found) == sorted(f"fb-{number}" for number in range(12))

    def test_what_is_no_event_is_a_reject_and_stops_nothing(self, s3, bucket):
        failed = {"errorCode": "Lambda.FunctionError", "errorMessage": "a@example.invalid", "rawData": "QUJD"}
        future = (datetime.now(UTC) + timedelta(days=2)).strftime("%Y/%m/%d/%H")
        objects = {
            "f/2026/03/24/10/bomb.gz": gzip.compress(b"0" * 3_000_000),
            "f/2026/03/24/10/cut.gz": gzip.compress(lines(event(1)) + b"\n" * 1000, compresslevel=0)[:-900],
            "f/2026/03/24/10/large": b" " * 2_000_001,
            "f/2026/03/24/10/mixed": b"<x/>\n" + lines(event(2)) + b'{"schema": 2}\xff\n' + event(3).to_bytes(),
            "f/2026/99/24/10/x": lines(event(90)),
            f"f/{future}/x": lines(event(91)),
            "f/README": b"hello",
            "f/processing-failed/2026/03/24/10/y": json.dumps(failed).encode() + b"\nnonsense",
        }
        for key, body in objects.items():
            s3.put_object(Bucket=bucket, Key=key, Body=body)
        source = DeliveredFeedback(s3, f"s3://{bucket}/f/", maximum_bytes=2_000_000)
        batch = source.read_new({})
        assert ids(batch.events) == ["fb-1", "fb-2", "fb-3"]
        reasons = [(one.part.removeprefix("f/"), one.reason) for one in batch.rejects]
        assert ("2026/03/24/10/large", "more than 2000000 bytes: it was not read") in reasons
        assert [why for key, why in reasons if key.endswith("bomb.gz")][-2:] == [
            "too many unreadable records: the rest was not read",
            "more than 2000000 bytes: the rest was not read",
        ]
        assert ("2026/03/24/10/cut.gz", "the gzip data ends too early") in reasons
        assert [why for key, why in reasons if key.endswith("mixed")] == [
            "not a JSON document in UTF-8",
            "schema is not 1",
            "not a JSON document in UTF-8",
        ]
        assert {key for key, why in reasons if "no hour" in why} == {"2026/99/24/10/x", f"{future}/x"}
        assert [why for key, why in reasons if key.startswith("processing-failed")] == [
            "Firehose could not process a record of 3 bytes: Lambda.FunctionError",
            "a record of processing-failed that cannot be read",
        ]
        assert "example.invalid" not in str(batch.rejects)
        assert batch.cursor["delivery"]["hour"] == "2026/03/24/10"
        assert source.read_new(batch.cursor).size == 0

    def test_the_ingestion_in_a_bucket_is_the_ingestion_in_a_folder(self, stream, bucket, tmp_path):
        stream.publish([event(number, user=USER if number % 3 else OTHER) for number in range(20)])
        remote, local = (
            FeedbackIngestion.at(f"s3://{bucket}/ingestion/feedback"),
            FeedbackIngestion.at(str(tmp_path / "x")),
        )
        for ingestion in (remote, local):
            ingest_new(stream, ingestion, limit=6)
        assert remote.table(BUNDLE).to_parquet() == local.table(BUNDLE).to_parquet()
        assert remote.checkpoint().number == local.checkpoint().number == 4
        assert remote.erase(user_keys=[USER]) == local.erase(user_keys=[USER]) == 13
        assert remote.table(BUNDLE).to_parquet() == local.table(BUNDLE).to_parquet()
