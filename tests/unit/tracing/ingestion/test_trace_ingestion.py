"""Ingestion traces: whatever happens on the way, the snapshot is that of one clean read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from mangaassist_assets.core.ingestion_tables import IngestionConflictError, IngestionTable
from mangaassist_assets.privacy import Vocabulary
from mangaassist_assets.tracing.contract.names import Tag
from mangaassist_assets.tracing.contract.records import AssessmentRecord
from mangaassist_assets.tracing.ingestion import trace_ingestion
from mangaassist_assets.tracing.ingestion.ingested_traces import INGESTED_SCHEMA, IngestedTraces
from mangaassist_assets.tracing.ingestion.trace_ingestion import GIVE_UP_MS, OVERLAP_MS, TraceIngestion
from mangaassist_assets.tracing.ingestion.turn_frames import TURN_SCHEMA, turns_of
from tests.support.trace_source import MemorySource, chat_trace
from tests.support.turn_frames import ingested_turns, quarantine_frame, turns_frame
from tests.support.turn_reading import read_turns

NOW = 1_700_000_000_000
BUNDLES = ("b1", "b2")


def ingestion_at(folder: Path, source: MemorySource, *, page: int = 3, **options: object) -> TraceIngestion:
    table = IngestionTable(str(folder), schema=INGESTED_SCHEMA, skipping=("timestamp_ms",))
    return TraceIngestion(table, source, page=page, now_ms=lambda: NOW, **options)  # type: ignore[arg-type]


def thumb(value: str, at: int) -> AssessmentRecord:
    return AssessmentRecord(
        name="user_feedback", kind="feedback", value=value, source_type="HUMAN", source_id="u", timestamp_ms=at
    )


def ids(frame: pl.DataFrame) -> list[str]:
    return frame["trace_id"].to_list()


@pytest.fixture
def source() -> MemorySource:
    return MemorySource()


@pytest.fixture
def ingestion(tmp_path: Path, source: MemorySource) -> TraceIngestion:
    return ingestion_at(tmp_path / "ingestion", source)


def test_the_bundle_is_what_the_contract_reads(ingestion: TraceIngestion, source: MemorySource) -> None:
    for n in range(10):
        source.put(chat_trace(f"t{n}", NOW - n, "b1"))
    source.put(replace(chat_trace("broken", NOW, "b1"), spans=()))
    ingestion.advance()
    found = ingestion.bundle("b1")
    expected = read_turns(source.traces.values())
    turns = ingested_turns(found)
    assert turns.equals(turns_frame(expected.turns))
    assert found.quarantined.equals(quarantine_frame(expected.quarantined))
    assert turns.schema == TURN_SCHEMA
    assert next(turns_of(turns)).message == "where is it"


def test_more_traces_in_one_millisecond_than_a_page_are_all_read(
    ingestion: TraceIngestion, source: MemorySource
) -> None:
    for n in range(20):
        source.put(chat_trace(f"t{n:02}", NOW, "b1"))
    ingestion.advance()
    assert len(ids(ingestion.bundle("b1").turns)) == 20


def test_what_is_read_is_not_read_again(ingestion: TraceIngestion, source: MemorySource) -> None:
    for n in range(50):
        source.put(chat_trace(f"t{n:02}", NOW - OVERLAP_MS * n, "b1"))
    ingestion.advance()
    source.spans_read = source.headers_read = 0
    source.put(chat_trace("new", NOW + 1, "b1"))
    assert ingestion.advance().turns == 1
    assert source.spans_read == 1
    assert source.headers_read < 5


def test_a_trace_in_progress_is_ingested_when_it_ends(ingestion: TraceIngestion, source: MemorySource) -> None:
    source.put(replace(chat_trace("slow", NOW - 5, "b1"), state="IN_PROGRESS", spans=()))
    for n in range(5):
        source.put(chat_trace(f"t{n}", NOW + OVERLAP_MS + n, "b1"))
    assert ingestion.advance().waiting == 1
    assert ingestion.advance().waiting == 1
    source.put(chat_trace("slow", NOW - 5, "b1"))
    assert ingestion.advance().waiting == 0
    assert "slow" in ids(ingestion.bundle("b1").turns)


def test_a_trace_that_never_ends_goes_to_quarantine_and_comes_back_when_it_does(
    ingestion: TraceIngestion, source: MemorySource
) -> None:
    started = NOW - GIVE_UP_MS - 1
    source.put(replace(chat_trace("stuck", started, "b1"), state="IN_PROGRESS", spans=()))
    assert ingestion.advance().quarantined == 1
    assert "IN_PROGRESS" in ingestion.bundle("b1").quarantined["reason"][0]
    source.put(chat_trace("stuck", started, "b1"))
    ingestion.reconcile("b1")
    assert ids(ingestion.bundle("b1").turns) == ["stuck"]
    assert ids(ingestion.bundle("b1").quarantined) == []


def test_a_trace_that_was_deleted_while_it_was_written_is_not_waited_for(
    ingestion: TraceIngestion, source: MemorySource
) -> None:
    source.put(replace(chat_trace("slow", NOW, "b1"), state="IN_PROGRESS", spans=()))
    ingestion.advance()
    del source.traces["slow"]
    assert ingestion.advance().waiting == 0


def test_a_trace_that_ended_before_its_spans_were_stored_leaves_quarantine(
    ingestion: TraceIngestion, source: MemorySource
) -> None:
    whole = chat_trace("t1", NOW, "b1")
    source.put(replace(whole, spans=()))
    assert ingestion.advance().quarantined == 1
    source.put(whole)
    assert ingestion.advance().turns == 1
    assert ids(ingestion.bundle("b1").turns) == ["t1"]
    assert ids(ingestion.bundle("b1").quarantined) == []


def test_an_assessment_by_a_clock_that_is_behind_is_picked_up(ingestion: TraceIngestion, source: MemorySource) -> None:
    for n in range(3):
        source.put(chat_trace(f"t{n}", NOW - 100 * OVERLAP_MS * n, "b1"))
    ingestion.advance()
    source.assess("t1", thumb("thumbs_up", NOW + 50_000))
    ingestion.advance()
    source.assess("t2", thumb("thumbs_down", NOW + 10_000))
    ingestion.advance()
    assert ingested_turns(ingestion.bundle("b1"))["user_feedback"].to_list() == ["thumbs_down", "thumbs_up", None]


def test_a_late_trace_within_the_overlap_is_found_by_the_next_reading(
    ingestion: TraceIngestion, source: MemorySource
) -> None:
    source.put(chat_trace("first", NOW, "b1"))
    ingestion.advance()
    source.put(chat_trace("late", NOW - OVERLAP_MS + 1, "b1"))
    ingestion.advance()
    assert ids(ingestion.bundle("b1").turns) == ["late", "first"]


def test_a_trace_of_long_ago_is_found_when_its_bundle_is_compared(
    ingestion: TraceIngestion, source: MemorySource
) -> None:
    source.put(chat_trace("first", NOW, "b1"))
    ingestion.advance()
    source.put(chat_trace("imported", NOW - 100 * OVERLAP_MS, "b1"))
    ingestion.advance()
    assert ids(ingestion.bundle("b1").turns) == ["first"]
    ingestion.reconcile("b1")
    assert ids(ingestion.bundle("b1").turns) == ["imported", "first"]


def test_a_late_tag_on_an_old_trace_is_picked_up(ingestion: TraceIngestion, source: MemorySource) -> None:
    source.put(chat_trace("old", NOW - 100 * OVERLAP_MS, "b1"))
    source.put(chat_trace("new", NOW, "b1"))
    ingestion.advance()
    source.tag("old", Tag.USER_FEEDBACK, "thumbs_down")
    source.spans_read = 0
    ingestion.reconcile("b1")
    assert source.spans_read == 1
    assert ingested_turns(ingestion.bundle("b1"))["user_feedback"].to_list() == ["thumbs_down", None]


def test_an_assessment_of_an_old_trace_is_picked_up_without_comparing_its_bundle(
    ingestion: TraceIngestion, source: MemorySource
) -> None:
    for n in range(30):
        source.put(chat_trace(f"t{n:02}", NOW - 100 * OVERLAP_MS * n, "b1"))
    ingestion.advance()
    source.assess("t20", thumb("thumbs_up", NOW + 1))
    source.spans_read = source.headers_read = 0
    ingestion.advance()
    assert ingested_turns(ingestion.bundle("b1")).filter(trace_id="t20")["user_feedback"].to_list() == ["thumbs_up"]
    assert source.spans_read == 1
    assert source.headers_read < 5


def test_a_trace_that_moves_leaves_its_old_bundle(ingestion: TraceIngestion, source: MemorySource) -> None:
    source.put(chat_trace("t1", NOW, "b1"))
    ingestion.advance()
    source.tag("t1", Tag.RELEASE_BUNDLE, "b2")
    ingestion.reconcile("b1")
    assert ids(ingestion.bundle("b1").turns) == []
    assert ids(ingestion.bundle("b2").turns) == ["t1"]


def test_a_trace_without_a_bundle_is_kept_and_joins_the_bundle_it_is_given(
    ingestion: TraceIngestion, source: MemorySource
) -> None:
    source.put(chat_trace("t1", NOW, None))
    ingestion.advance()
    (reason,) = ingestion.unassigned()["reason"].to_list()
    assert reason.startswith("release_bundle is missing")
    source.tag("t1", Tag.RELEASE_BUNDLE, "b1")
    ingestion.reconcile("b1")
    assert ingestion.unassigned().is_empty()
    assert ids(ingestion.bundle("b1").turns) == ["t1"]


def test_a_late_trace_of_no_bundle_is_found_by_a_sweep(ingestion: TraceIngestion, source: MemorySource) -> None:
    source.put(chat_trace("first", NOW, "b1"))
    ingestion.advance()
    source.put(chat_trace("imported", NOW - 100 * OVERLAP_MS, None))
    ingestion.reconcile("b1")
    assert ingestion.unassigned().is_empty()
    source.spans_read = 0
    ingestion.sweep()
    assert ids(ingestion.unassigned()) == ["imported"]
    assert source.spans_read == 1


def test_a_deleted_trace_leaves_the_bundle(ingestion: TraceIngestion, source: MemorySource) -> None:
    source.put(chat_trace("t1", NOW, "b1"))
    source.put(chat_trace("t2", NOW, "b1"))
    ingestion.advance()
    del source.traces["t1"]
    assert ingestion.reconcile("b1").gone == 1
    assert ids(ingestion.bundle("b1").turns) == ["t2"]


def test_a_trace_that_was_deleted_and_is_written_again_comes_back(
    ingestion: TraceIngestion, source: MemorySource
) -> None:
    trace = chat_trace("t1", NOW, "b1")
    source.put(trace)
    ingestion.advance()
    del source.traces["t1"]
    ingestion.reconcile("b1")
    source.put(trace)
    ingestion.advance()
    assert ids(ingestion.bundle("b1").turns) == ["t1"]


def test_of_an_erased_user_nothing_is_ingested_and_nothing_is_read_twice(tmp_path: Path, source: MemorySource) -> None:
    user = "u-" + "0" * 20
    source.put(replace(chat_trace("t1", NOW, "b1", message="from the erased user"), user_key=user))
    source.put(chat_trace("t2", NOW, "b1"))
    ingestion = ingestion_at(tmp_path / "ingestion", source, erased_users=frozenset({user}))
    assert ingestion.advance().erased == 1
    assert ids(ingestion.bundle("b1").turns) == ["t2"]
    source.spans_read = 0
    ingestion.reconcile("b1")
    assert source.spans_read == 0
    stored = pl.read_parquet(list((tmp_path / "ingestion").rglob("*.parquet")), hive_partitioning=False)
    assert user not in str(stored.to_dicts())
    assert "from the erased user" not in str(stored.to_dicts())


def test_what_was_read_with_other_words_is_read_again_when_it_is_compared(tmp_path: Path, source: MemorySource) -> None:
    source.put(chat_trace("t1", NOW, "b1", message="anything by Naoko Example in stock?"))
    folder = tmp_path / "ingestion"
    before = ingestion_at(folder, source)
    before.advance()
    assert "[NAME]" in ingested_turns(before.bundle("b1"))["message"][0]
    after = ingestion_at(folder, source, vocabulary=Vocabulary(["Naoko Example"]))
    after.reconcile("b1")
    assert ingested_turns(after.bundle("b1"))["message"][0] == "anything by Naoko Example in stock?"
    source.spans_read = 0
    after.reconcile("b1")
    assert source.spans_read == 0


def test_presence_says_which_parts_of_the_contract_a_trace_has(ingestion: TraceIngestion, source: MemorySource) -> None:
    source.put(chat_trace("t1", NOW, "b1"))
    ingestion.advance()
    row = next(ingestion.bundle("b1").presence_rows()).row(0, named=True)
    assert row["tags_present"] == ["release_bundle", "session_id"]
    assert row["spans_present"] == ["chat_turn"]


def test_a_long_reading_joins_its_small_files_on_the_way(
    tmp_path: Path, source: MemorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace_ingestion, "_COMPACT_EVERY", 4)
    ingestion = ingestion_at(tmp_path / "ingestion", source, page=1)
    for n in range(12):
        source.put(chat_trace(f"t{n:02}", NOW - n, "b1"))
    ingestion.advance()
    # Thirteen commits: it does not end with one after which files are joined.
    assert len(DeltaTable(str(tmp_path / "ingestion")).file_uris()) < 5
    assert len(ids(ingestion.bundle("b1").turns)) == 12


def test_a_bundle_read_in_portions_is_the_bundle(tmp_path: Path, source: MemorySource) -> None:
    ingestion = ingestion_at(tmp_path / "ingestion", source)
    for n in range(11):
        source.put(chat_trace(f"t{n:02}", NOW - n // 4, "b1"))
    source.put(replace(chat_trace("broken", NOW - 1, "b1"), spans=()))
    ingestion.advance()
    source.tag("t03", Tag.USER_FEEDBACK, "thumbs_up")
    ingestion.reconcile("b1")
    table = IngestionTable(str(tmp_path / "ingestion"), schema=INGESTED_SCHEMA, skipping=("timestamp_ms",))
    whole, parts = (IngestedTraces(table, portion=portion).bundle("b1") for portion in (100, 3))
    feedback = {"t03": "thumbs_down", "t05": "thumbs_up", "elsewhere": "thumbs_up"}
    turns = list(parts.turn_rows(feedback))  # type: ignore[arg-type]
    assert [frame.height for frame in turns] == [3, 3, 3, 2]
    assert pl.concat(turns).equals(next(whole.turn_rows(feedback)))  # type: ignore[arg-type]
    assert pl.concat(parts.turn_rows()).filter(trace_id="t03")["user_feedback"].to_list() == ["thumbs_up"]
    assert pl.concat(parts.presence_rows()).equals(next(whole.presence_rows()))


def test_rows_that_are_erased_while_a_bundle_is_read_are_no_shorter_bundle(
    tmp_path: Path, source: MemorySource
) -> None:
    ingestion = ingestion_at(tmp_path / "ingestion", source)
    for n in range(4):
        source.put(chat_trace(f"t{n}", NOW - n, "b1"))
    ingestion.advance()
    table = IngestionTable(str(tmp_path / "ingestion"), schema=INGESTED_SCHEMA, skipping=("timestamp_ms",))
    rows = IngestedTraces(table, portion=2).bundle("b1").turn_rows()
    assert next(rows)["trace_id"].to_list() == ["t3", "t2"]
    table.erase("trace_id", ["t0"])
    with pytest.raises(IngestionConflictError, match="run again"):
        next(rows)
