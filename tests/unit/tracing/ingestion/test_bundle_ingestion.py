"""One bundle after a reading: its turns with their feedback, its files, and what was counted."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from mangaassist_assets.core.bundles import TURNS_CARD_FILE
from mangaassist_assets.core.ingestion_tables import IngestionTable
from mangaassist_assets.tracing.contract.names import Tag
from mangaassist_assets.tracing.ingestion.bundle_ingestion import BundleIngestion, ingest_bundle
from mangaassist_assets.tracing.ingestion.ingested_traces import INGESTED_SCHEMA
from mangaassist_assets.tracing.ingestion.stored_turns import PRESENCE_FILE, QUARANTINE_FILE, TURNS_FILE
from mangaassist_assets.tracing.ingestion.trace_ingestion import TraceIngestion
from tests.support.trace_source import MemorySource, chat_trace
from tests.support.turn_frames import ingested_turns

NOW = 1_700_000_000_000
LATE = NOW - 5 * 24 * 3_600_000


@pytest.fixture
def source() -> MemorySource:
    source = MemorySource()
    for number in range(3):
        source.put(chat_trace(f"t{number}", NOW - number, "b1"))
    source.put(chat_trace("other", NOW, "b2"))
    source.put(chat_trace("nowhere", NOW, None))
    return source


@pytest.fixture
def ingest(tmp_path: Path, source: MemorySource):
    table = IngestionTable(str(tmp_path / "ingestion"), schema=INGESTED_SCHEMA, skipping=("timestamp_ms",))

    def run(**options) -> BundleIngestion:
        ingestion = TraceIngestion(table, source, now_ms=lambda: NOW)
        return ingest_bundle(ingestion, "b1", **{"feedback": {}, **options})

    return run


def test_the_bundle_is_counted_and_so_is_what_was_read_of_all_bundles(ingest) -> None:
    figures = ingest().figures()
    assert figures["dagster/row_count"] == 3
    assert (figures["newly_read"], figures["changed_since_read"]) == (5, 0)
    assert (figures["without_a_bundle"], figures["quarantined"], figures["quarantine_reasons"]) == (1, 0, [])
    assert sum(row["turns"] for row in figures["shapes"]) == 3


def test_the_newest_feedback_event_is_the_turns_feedback(ingest) -> None:
    turns = pl.read_parquet(ingest(feedback={"t1": "thumbs_down"}).files()[TURNS_FILE])
    assert dict(zip(turns["trace_id"], turns["user_feedback"], strict=True)) == {
        "t0": None,
        "t1": "thumbs_down",
        "t2": None,
    }


def test_what_changed_in_the_source_is_found_only_by_comparing(ingest, source) -> None:
    ingest()
    source.tag("t1", Tag.USER_FEEDBACK, "thumbs_up")
    # Too old for the overlap of a reading, so that only the comparison can find it.
    source.put(chat_trace("late", LATE, "b1"))
    without = ingest(compare_with_source=False)
    assert without.figures()["changed_since_read"] == 0
    assert without.found.turns.height == 3
    compared = ingest()
    assert compared.figures()["changed_since_read"] == 1
    assert compared.found.turns.height == 4


def test_a_late_trace_without_a_bundle_is_found_by_the_sweep(ingest, source) -> None:
    ingest()
    source.put(chat_trace("late-nowhere", LATE, None))
    assert ingest().unassigned == 1
    assert ingest(sweep=True).unassigned == 2


def test_the_files_hold_the_turns_and_when_the_bundle_began(ingest) -> None:
    ingested = ingest()
    files = ingested.files()
    assert set(files) == {TURNS_FILE, QUARANTINE_FILE, PRESENCE_FILE, TURNS_CARD_FILE}
    assert pl.read_parquet(files[TURNS_FILE]).equals(ingested_turns(ingested.found))
    card = json.loads(files[TURNS_CARD_FILE])
    assert (card["first_timestamp_ms"], card["last_timestamp_ms"], card["turns"]) == (NOW - 2, NOW, 3)
    assert str(ingested) == "3 turns, 0 quarantined, 0 still being written"
