"""Reading a stream over its shards: order through splits and merges, positions that expire, aggregated records."""

from __future__ import annotations

import contextlib
import hashlib
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.tracing.feedback.events import feedback_record
from mangaassist_assets.tracing.feedback.sources import FeedbackBatch
from resources.feedback.kinesis_aggregation import AggregationError, user_records
from resources.feedback.kinesis_shards import SHARD_END, ShardReader
from tests.support.examples import examples
from tests.support.kinesis import MemoryKinesis

ROOT = "shardId-000000000000"


def event(number: int) -> bytes:
    return feedback_record(
        event_id=f"fb-{number}",
        trace_id=f"tr-{number}",
        session_id="s",
        user_key=None,
        release_bundle="b1",
        feedback="thumbs_up",
        timestamp=datetime(2026, 3, 24, tzinfo=UTC),
    ).to_bytes()


def read(kinesis: MemoryKinesis, cursor: dict[str, str] | None = None, limit: int = 10_000, **options) -> FeedbackBatch:
    return ShardReader(kinesis, "feedback", **options).read(cursor or {}, limit)


def ids(batch: FeedbackBatch) -> list[str]:
    return [one.event_id for one in batch.events]


def drain(kinesis: MemoryKinesis, cursor: dict[str, str], limit: int) -> tuple[list[str], dict[str, str]]:
    found: list[str] = []
    while True:
        batch = read(kinesis, cursor, limit)
        found += ids(batch)
        assert not batch.gaps
        cursor = dict(batch.cursor)
        if batch.size < limit:
            return found, cursor


@pytest.fixture
def kinesis() -> MemoryKinesis:
    return MemoryKinesis()


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_children_are_read_after_their_parents_whatever_the_limit(kinesis, limit):
    for number in range(4):
        kinesis.put(event(number), shard_id=ROOT)
    left, right = kinesis.split(ROOT)
    kinesis.put(event(4), shard_id=left)
    kinesis.put(event(5), shard_id=right)
    merged = kinesis.merge(left, right)
    kinesis.put(event(6), shard_id=merged)
    found, cursor = drain(kinesis, {}, limit)
    assert found[:4] == ["fb-0", "fb-1", "fb-2", "fb-3"]
    assert sorted(found[4:6]) == ["fb-4", "fb-5"]
    assert found[6:] == ["fb-6"]
    assert [cursor[shard] for shard in (ROOT, left, right)] == [SHARD_END] * 3


def test_a_merged_shard_waits_for_both_of_its_parents():
    kinesis = MemoryKinesis(shards=2, page=1)
    one, other = kinesis.open_shards
    for number in range(3):
        kinesis.put(event(number), shard_id=other)
    merged = kinesis.merge(one, other)
    kinesis.put(event(9), shard_id=merged)
    first = read(kinesis, limit=2)
    assert ids(first) == ["fb-0", "fb-1"]
    assert merged not in first.cursor
    assert ids(read(kinesis, dict(first.cursor))) == ["fb-2", "fb-9"]


def test_a_drained_shard_is_remembered_until_kinesis_lists_it_no_longer(kinesis):
    kinesis.put(event(1))
    kinesis.split(ROOT)
    cursor = dict(read(kinesis).cursor)
    assert cursor[ROOT] == SHARD_END
    reads = len(kinesis.reads)
    cursor = dict(read(kinesis, cursor).cursor)
    assert ROOT not in {shard for shard, _ in kinesis.reads[reads:]}
    kinesis.expire(ROOT)
    batch = read(kinesis, cursor)
    assert ROOT not in batch.cursor
    assert batch.gaps == ()


def test_a_shard_that_expired_before_it_was_drained_is_a_gap(kinesis):
    kinesis.put(event(1))
    cursor = dict(read(kinesis).cursor)
    kinesis.put(event(2))
    left, _ = kinesis.split(ROOT)
    kinesis.put(event(3), shard_id=left)
    kinesis.expire(ROOT)
    batch = read(kinesis, cursor)
    assert ids(batch) == ["fb-3"]
    (gap,) = batch.gaps
    assert (gap.part, gap.size) == (ROOT, 0)
    assert "deleted before it was read to its end" in gap.reason
    assert read(kinesis, dict(batch.cursor)).gaps == ()


def test_a_position_older_than_the_retention_is_a_gap_once(kinesis):
    kinesis.put(event(1))
    cursor = dict(read(kinesis).cursor)
    kinesis.put(event(2))
    kinesis.trim(ROOT, 2)
    kinesis.put(event(3))
    later = time.time() + 30 * 3600
    batch = read(kinesis, cursor, now=lambda: later)
    assert ids(batch) == ["fb-3"]
    assert [gap.reason.split(":")[1] for gap in batch.gaps] == [" records may have been trimmed unread"]
    assert read(kinesis, dict(batch.cursor), now=lambda: later).gaps == ()


def test_a_quiet_stream_that_is_read_in_time_has_no_gap(kinesis):
    kinesis.put(event(1))
    cursor = dict(read(kinesis).cursor)
    kinesis.trim(ROOT, 1)
    for day in range(1, 5):
        moment = time.time() + day * 20 * 3600
        batch = read(kinesis, cursor, now=lambda moment=moment: moment)
        assert batch.gaps == ()
        cursor = dict(batch.cursor)
    assert "describe_stream_summary" not in kinesis.calls


def test_a_longer_retention_is_asked_for_before_a_gap_is_told():
    kinesis = MemoryKinesis(retention_hours=168)
    kinesis.put(event(1))
    cursor = dict(read(kinesis).cursor)
    assert read(kinesis, cursor, now=lambda: time.time() + 100 * 3600).gaps == ()
    assert kinesis.calls == ["describe_stream_summary"]


def test_records_left_unread_by_a_limit_keep_their_own_time_in_the_position(kinesis):
    for number in range(3):
        kinesis.put(event(number), age=timedelta(hours=22 - number))
    cursor = dict(read(kinesis, limit=1).cursor)
    assert len(read(kinesis, cursor, now=lambda: time.time() + 4 * 3600).gaps) == 1


def test_an_unknown_position_reads_the_shard_from_its_oldest_record_and_says_so(kinesis):
    kinesis.put(event(1))
    batch = read(kinesis, {ROOT: "not-a-sequence-number"})
    assert ids(batch) == ["fb-1"]
    assert "does not know this position" in batch.gaps[0].reason


def test_positions_of_another_source_are_ignored(kinesis):
    kinesis.put(event(1))
    assert ids(read(kinesis, {"delivered": "s3://b/", "delivery": {"hour": ""}})) == ["fb-1"]


def test_an_expired_iterator_is_asked_for_again_where_the_reading_was():
    kinesis = MemoryKinesis(page=1)
    for number in range(3):
        kinesis.put(event(number))
    reader = ShardReader(kinesis, "feedback")
    kinesis.expire_iterators = 1
    assert ids(reader.read({}, 10)) == ["fb-0", "fb-1", "fb-2"]


def test_a_busy_shard_does_not_starve_the_others():
    kinesis = MemoryKinesis(shards=2)
    for number in range(100):
        kinesis.put(event(number), shard_id=ROOT)
    kinesis.put(event(500), shard_id="shardId-000000000001")
    assert "fb-500" in ids(read(kinesis, limit=10))


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.one_of(st.just("split"), st.just("merge"), st.integers(0, 7)), max_size=40), st.integers(1, 9))
def test_resharding_at_any_moment_loses_and_repeats_nothing(steps, limit):
    """Events of one shard lineage come in order; a reader works at any moment between the steps."""
    kinesis = MemoryKinesis(page=3)
    cursor: dict[str, str] = {}
    found: list[str] = []
    put = 0
    for step in steps:
        shards = kinesis.open_shards
        if step == "split":
            kinesis.split(shards[put % len(shards)])
        elif step == "merge":
            if len(shards) > 1:
                kinesis.merge(shards[0], shards[1])
        elif step == 7:
            batch = read(kinesis, cursor, limit)
            found += ids(batch)
            cursor = dict(batch.cursor)
        else:
            kinesis.put(event(put), shard_id=shards[step % len(shards)])
            put += 1
    rest, _ = drain(kinesis, cursor, limit)
    assert sorted(found + rest) == sorted(f"fb-{number}" for number in range(put))


# Aggregated records


def varint(value: int) -> bytes:
    out = b""
    while True:
        value, low = value >> 7, value & 0x7F
        out += bytes([low | (0x80 if value else 0)])
        if not value:
            return out


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def aggregate(*contents: bytes) -> bytes:
    message = field(1, b"partition-key") + b"".join(field(3, b"\x08\x00" + field(3, data)) for data in contents)
    return b"\xf3\x89\x9a\xc2" + message + hashlib.md5(message, usedforsecurity=False).digest()


def test_an_aggregated_record_gives_its_events_and_rejects_by_their_places(kinesis):
    number = kinesis.put(aggregate(event(1), b"no event", event(2)))
    kinesis.put(event(3))
    batch = read(kinesis)
    assert ids(batch) == ["fb-1", "fb-2", "fb-3"]
    assert [(one.sequence_number, one.size) for one in batch.rejects] == [(f"{number}+1", 8)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (aggregate(b"x")[:-1] + b"\x00", "digest"),
        (b"\xf3\x89\x9a\xc2", "digest"),
        (aggregate(), "without user records"),
    ],
)
def test_a_damaged_aggregate_is_one_reject(kinesis, data, reason):
    kinesis.put(data)
    kinesis.put(event(1))
    batch = read(kinesis)
    assert ids(batch) == ["fb-1"]
    assert reason in batch.rejects[0].reason


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=20))
def test_what_was_aggregated_comes_out(contents):
    assert user_records(aggregate(*contents)) == contents


@given(st.binary(max_size=200))
def test_any_message_with_a_good_digest_is_read_or_refused(message):
    data = b"\xf3\x89\x9a\xc2" + message + hashlib.md5(message, usedforsecurity=False).digest()
    with contextlib.suppress(AggregationError):
        assert user_records(data)
    assert user_records(b"{" + message) is None
