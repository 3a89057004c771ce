"""Ingestion feedback: the table of a bundle is a function of the set of events, whatever happened on their way."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.core.codecs import SnapshotSchemaError, to_parquet
from mangaassist_assets.core.ingestion_tables import IngestionConflictError
from mangaassist_assets.tracing.feedback.events import FeedbackRecord, latest_feedback
from mangaassist_assets.tracing.feedback.ingestion import (
    EVENT_SCHEMA,
    FeedbackIngestion,
    events_from_parquet,
    ingest_new,
)
from mangaassist_assets.tracing.feedback.sources import FeedbackBatch, RejectedRecord
from resources.feedback.kinesis_shards import ShardReader
from tests.support.kinesis import MemoryKinesis
from tests.support.stream_events import stream_event

KEY = "u-00000000000000000000"
OTHER = "u-11111111111111111111"


def event(number: int, bundle: str = "rc1", feedback: str = "thumbs_down", **fields: Any) -> dict[str, Any]:
    return {
        "schema": 1,
        "event_id": f"event-{number}",
        "trace_id": f"tr-{number}",
        "session_id": "s",
        "user_key": None,
        "release_bundle": bundle,
        "feedback": feedback,
        "timestamp": f"2026-03-24T10:00:{number % 60:02d}.000Z",
        **fields,
    }


def record(number: int, **fields: Any) -> FeedbackRecord:
    return FeedbackRecord(**{name: value for name, value in event(number, **fields).items() if name != "schema"})


def reject(number: int, reason: str = "no JSON") -> RejectedRecord:
    return RejectedRecord(part="shardId-0", sequence_number=str(number), size=7, reason=reason)


class ListSource:
    """Events in a list; the position is an index."""

    def __init__(self, records: Sequence[FeedbackRecord | RejectedRecord]) -> None:
        self.records = list(records)

    def read_new(self, cursor: Mapping[str, Any], limit: int = 10) -> FeedbackBatch:
        start = int(cursor.get("at", 0))
        found = self.records[start : start + limit]
        return FeedbackBatch(
            events=tuple(stream_event(one) for one in found if isinstance(one, FeedbackRecord)),
            rejects=tuple(one for one in found if isinstance(one, RejectedRecord)),
            cursor={"at": start + len(found)},
        )


@pytest.fixture
def ingestion(tmp_path: Path) -> FeedbackIngestion:
    return FeedbackIngestion.at(str(tmp_path / "ingestion"))


def test_an_empty_ingestion_starts_at_the_beginning_of_the_stream(ingestion):
    assert ingestion.cursor() == {}
    assert ingestion.table("rc1").events == ()
    assert ingestion.bundles() == []


def test_events_and_position_arrive_together(ingestion):
    assert ingestion.append(events=[event(1)], rejects=[], cursor={"shard-0": "17"})
    assert ingestion.cursor() == {"shard-0": "17"}
    assert ingestion.table("rc1").count("thumbs_down") == 1


def test_nothing_new_writes_nothing_and_a_position_alone_is_kept(ingestion):
    ingestion.append(events=[event(1)], rejects=[], cursor={"shard-0": "17"})
    assert not ingestion.append(events=[], rejects=[], cursor={"shard-0": "17"})
    assert ingestion.checkpoint().number == 1
    assert ingestion.append(events=[], rejects=[], cursor={"shard-0": "SHARD_END"})
    assert ingestion.cursor() == {"shard-0": "SHARD_END"}


def test_a_repeated_delivery_counts_once(ingestion):
    ingestion.append(events=[event(1), event(2)], rejects=[], cursor={"s": "2"})
    ingestion.append(events=[event(2), event(3)], rejects=[], cursor={"s": "3"})
    table = ingestion.table("rc1")
    assert [one.event_id for one in table.events] == ["event-1", "event-2", "event-3"]
    assert (table.duplicates, table.conflicts) == (1, 0)


def test_one_id_with_two_contents_keeps_the_earlier_and_counts_the_conflict(ingestion):
    late = event(1, feedback="thumbs_up", timestamp="2026-03-24T11:00:00.000Z")
    ingestion.append(events=[late, event(1), late], rejects=[], cursor={"s": "2"})
    table = ingestion.table("rc1")
    assert [one.feedback for one in table.events] == ["thumbs_down"]
    assert (table.duplicates, table.conflicts) == (1, 1)


def test_bundles_are_kept_apart_and_rejects_are_kept_once_for_each_place(ingestion):
    ingestion.append(events=[event(1), event(2, bundle="rc2")], rejects=[reject(1)], cursor={"s": "2"})
    ingestion.append(events=[], rejects=[reject(1), reject(2, "schema is not 1")], gaps=[reject(9, "lost")], cursor={})
    assert len(ingestion.table("rc2").events) == 1
    assert ingestion.bundles() == ["rc1", "rc2"]
    assert ingestion.rejects() == [reject(1), reject(2, "schema is not 1")]
    assert ingestion.gaps() == [reject(9, "lost")]


def test_the_table_of_a_bundle_reads_no_file_of_another(ingestion, tmp_path):
    ingestion.append(events=[event(1), event(2, bundle="rc2")], rejects=[reject(1)], cursor={"s": "2"})
    for folder in ("release_bundle=rc2", "release_bundle=_rejected"):
        shutil.rmtree(tmp_path / "ingestion" / folder)
    assert len(ingestion.table("rc1").events) == 1
    with pytest.raises(Exception, match=r"rc2|No such file|not found"):
        ingestion.table("rc2")


def test_two_writers_from_one_position_do_not_both_ingest(ingestion):
    start = ingestion.checkpoint()
    ingestion.append(events=[event(1)], rejects=[], cursor={"s": "1"}, after=start)
    with pytest.raises(IngestionConflictError, match="run again"):
        ingestion.append(events=[event(1)], rejects=[], cursor={"s": "1"}, after=start)
    assert ingestion.table("rc1").duplicates == 0


def test_a_reader_that_lost_the_race_goes_on_from_the_other_ones_position(ingestion):
    source = ListSource([record(number) for number in range(6)])

    class Racing(ListSource):
        raced = False

        def read_new(self, cursor: Mapping[str, Any], limit: int = 10) -> FeedbackBatch:
            batch = super().read_new(cursor, limit)
            if not self.raced:
                self.raced = True
                ingest_new(source, ingestion, limit=4)
            return batch

    ingested = ingest_new(Racing(source.records), ingestion, limit=4)
    assert ingested.events == 0
    assert len(ingestion.table("rc1").events) == 6
    assert ingestion.table("rc1").duplicates == 0


def test_ingestion_goes_on_until_the_source_ends_and_counts(ingestion):
    source = ListSource([*(record(number) for number in range(25)), reject(1)])
    ingested = ingest_new(source, ingestion, limit=10)
    assert (ingested.events, ingested.rejects, ingested.gaps) == (25, 1, ())
    assert ingestion.checkpoint().number == 3
    assert ingest_new(source, ingestion, limit=10).events == 0
    assert ingestion.checkpoint().number == 3


def test_many_commits_are_compacted_and_read_the_same(ingestion, tmp_path):
    source = ListSource([record(number % 50) for number in range(140)])
    ingest_new(source, ingestion, limit=2)
    assert ingestion.cursor() == {"at": 140}
    table = ingestion.table("rc1")
    assert (len(table.events), table.duplicates) == (50, 90)
    assert list((tmp_path / "ingestion" / "_delta_log").glob("*.checkpoint.parquet"))


# Erasure


def test_events_of_erased_users_are_dropped_on_ingestion_with_a_hash_of_their_place(ingestion, tmp_path):
    source = ListSource([record(1, user_key=KEY), record(2, user_key=OTHER), record(1, user_key=KEY), record(3)])
    ingested = ingest_new(source, ingestion, erased={KEY})
    assert (ingested.events, ingested.erased) == (2, 2)
    assert [one.event_id for one in ingestion.table("rc1").events] == ["event-2", "event-3"]
    assert ingestion.dropped_of_erased_users() == 1
    assert not files_with(tmp_path / "ingestion", KEY) | files_with(tmp_path / "ingestion", "event-1")


def test_an_erasure_removes_the_events_of_a_user_and_about_traces_for_good(ingestion, tmp_path):
    events = [event(1, user_key=KEY), event(2, bundle="rc2", user_key=KEY), event(3, user_key=OTHER), event(4)]
    ingestion.append(events=events, rejects=[reject(1)], cursor={"s": "4"})
    assert ingestion.trace_ids_of([KEY]) == {"tr-1", "tr-2"}
    assert ingestion.erase(user_keys=[KEY], trace_ids=["tr-4"]) == 3
    assert [one.event_id for one in ingestion.table("rc1").events] == ["event-3"]
    assert ingestion.bundles() in (["rc1"], ["rc1", "rc2"])
    assert ingestion.rejects() == [reject(1)]
    assert ingestion.cursor() == {"s": "4"}
    assert not files_with(tmp_path / "ingestion", KEY)
    assert ingestion.erase(user_keys=[KEY], trace_ids=["tr-4"]) == 0


def test_a_table_without_erased_users_leaves_out_what_is_still_at_rest(ingestion):
    ingestion.append(events=[event(1, user_key=KEY), event(2)], rejects=[], cursor={"s": "4"})
    assert [one.event_id for one in ingestion.table("rc1", erased={KEY}).events] == ["event-2"]


def files_with(folder: Path, text: str) -> set[Path]:
    """Files that hold a text, Parquet ones unpacked."""
    found = set()
    for path in (one for one in folder.rglob("*") if one.is_file()):
        content = str(pl.read_parquet(path).to_dicts()) if path.suffix == ".parquet" else path.read_text("latin-1")
        if text in content:
            found.add(path)
    return found


# The table as a function of the set


def test_parquet_brings_the_events_back_and_another_table_is_refused(ingestion):
    ingestion.append(events=[event(2), event(1, user_key=KEY)], rejects=[], cursor={})
    table = ingestion.table("rc1")
    assert events_from_parquet(table.to_parquet()) == table.events == (record(1, user_key=KEY), record(2))
    with pytest.raises(SnapshotSchemaError, match="materialize feedback_events again"):
        events_from_parquet(to_parquet(table.frame.drop("trace_id")))
    assert table.frame.schema == EVENT_SCHEMA


contents = st.builds(
    lambda number, up, second, key, bundle: record(
        number,
        feedback="thumbs_up" if up else "thumbs_down",
        timestamp=f"2026-03-24T10:00:{second:02d}.000Z",
        user_key=key,
        bundle=bundle,
    ),
    st.integers(0, 12),
    st.booleans(),
    st.integers(0, 3),
    st.sampled_from([None, KEY, OTHER]),
    st.sampled_from(["rc1", "rc2"]),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(contents, max_size=40), st.integers(0, 2**32), st.integers(1, 15), st.integers(1, 6))
def test_any_duplication_order_batches_and_resharding_give_the_same_table(events, seed, limit, every):
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        clean = FeedbackIngestion.at(f"{folder}/clean")
        messy = FeedbackIngestion.at(f"{folder}/messy")
        clean.append(events=[one.to_dict() for one in dict.fromkeys(events)], rejects=[], cursor={"done": True})
        deliveries = events + chance.sample(events, len(events) // 2)
        chance.shuffle(deliveries)
        kinesis = MemoryKinesis(page=4)
        for number, one in enumerate(deliveries, start=1):
            kinesis.put(one.to_bytes(), shard_id=chance.choice(kinesis.open_shards))
            if number % every == 0:
                shards = kinesis.open_shards
                kinesis.split(shards[0]) if len(shards) < 3 else kinesis.merge(*shards[:2])
            if chance.random() < 0.2:
                ingest_new(ShardReaderSource(kinesis), messy, limit=limit)
        ingest_new(ShardReaderSource(kinesis), messy, limit=limit)
        for bundle in ("rc1", "rc2"):
            assert messy.table(bundle).to_parquet() == clean.table(bundle).to_parquet()
            kept = messy.table(bundle).events
            assert len({one.event_id for one in kept}) == len(kept)


class ShardReaderSource:
    def __init__(self, kinesis: MemoryKinesis) -> None:
        self.kinesis = kinesis

    def read_new(self, cursor: Mapping[str, Any], limit: int = 10) -> FeedbackBatch:
        return ShardReader(self.kinesis, "feedback").read(cursor, limit)


@given(st.lists(st.tuples(contents, st.integers(0, 3)), max_size=30), st.randoms())
def test_the_newest_thumb_of_a_trace_does_not_depend_on_the_order(pressed, chance):
    events = [replace(one, trace_id=f"tr-{trace}") for one, trace in pressed]
    distinct = list({one.event_id: one for one in events}.values())
    shuffled = list(distinct)
    chance.shuffle(shuffled)
    found = latest_feedback(shuffled)
    assert found == latest_feedback(distinct)
    for trace_id, feedback in found.items():
        newest = max(
            (one for one in distinct if one.trace_id == trace_id), key=lambda one: (one.timestamp, one.event_id)
        )
        assert feedback == newest.feedback
    assert set(found) == {one.trace_id for one in distinct}
