"""Ingestion traces: any interleaving of changes, failures and page sizes gives the snapshot of one clean read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mangaassist_assets.core.codecs import to_parquet
from mangaassist_assets.core.ingestion_tables import IngestionTable
from mangaassist_assets.tracing.contract.names import Tag
from mangaassist_assets.tracing.contract.records import AssessmentRecord
from mangaassist_assets.tracing.ingestion.ingested_traces import INGESTED_SCHEMA
from mangaassist_assets.tracing.ingestion.trace_ingestion import OVERLAP_MS, TraceIngestion
from tests.support.trace_source import MemorySource, SourceGoneError, chat_trace
from tests.support.turn_frames import ingested_turns, turns_frame
from tests.support.turn_reading import read_turns

# It commits to real Delta tables a hundred times an example: too slow for the quick part.
pytestmark = pytest.mark.integration

NOW = 1_700_000_000_000
BUNDLES = ("b1", "b2")


def ingestion_at(folder: Path, source: MemorySource, *, page: int) -> TraceIngestion:
    table = IngestionTable(str(folder), schema=INGESTED_SCHEMA, skipping=("timestamp_ms",))
    return TraceIngestion(table, source, page=page, now_ms=lambda: NOW)


def thumb(value: str, at: int) -> AssessmentRecord:
    return AssessmentRecord(
        name="user_feedback", kind="feedback", value=value, source_type="HUMAN", source_id="u", timestamp_ms=at
    )


TRACE = st.integers(0, 2).map(lambda n: f"t{n}")
TIME = st.integers(0, 5).map(lambda n: NOW - n * OVERLAP_MS // 3)
BUNDLE = st.sampled_from([*BUNDLES, None])
CHANGE = st.one_of(
    st.tuples(st.just("insert"), TRACE, TIME, BUNDLE, st.booleans()),
    st.tuples(st.just("close"), TRACE),
    st.tuples(st.just("tag"), TRACE, st.sampled_from(["thumbs_up", "thumbs_down", "sideways"])),
    st.tuples(st.just("move"), TRACE, st.sampled_from(BUNDLES)),
    st.tuples(st.just("assess"), TRACE, st.sampled_from(["thumbs_up", "thumbs_down"])),
    st.tuples(st.just("delete"), TRACE),
    st.tuples(st.just("advance"), st.integers(1, 4), st.none() | st.integers(3, 9)),
    st.tuples(st.just("reconcile"), st.sampled_from(BUNDLES), st.integers(1, 4), st.none() | st.integers(3, 9)),
)


def apply(change: tuple[object, ...], source: MemorySource, at: Callable[[int], TraceIngestion], clock: int) -> None:
    match change:
        case ("insert", str(one), int(time), bundle, bool(open_)):
            if one not in source.traces:
                trace = chat_trace(one, time, bundle if isinstance(bundle, str) else None)
                source.put(replace(trace, state="IN_PROGRESS", spans=()) if open_ else trace)
        case ("close", str(one)) if one in source.traces and source.traces[one].state == "IN_PROGRESS":
            trace = source.traces[one]
            closed = chat_trace(one, trace.timestamp_ms, trace.tags.get(Tag.RELEASE_BUNDLE))
            source.put(replace(closed, tags=trace.tags, assessments=trace.assessments))
        case ("tag", str(one), str(value)) if one in source.traces:
            source.tag(one, Tag.USER_FEEDBACK, value)
        case ("move", str(one), str(bundle)) if one in source.traces:
            source.tag(one, Tag.RELEASE_BUNDLE, bundle)
        case ("assess", str(one), str(value)) if one in source.traces:
            source.assess(one, thumb(value, clock))
        case ("delete", str(one)):
            source.traces.pop(one, None)
            source.assessed.pop(one, None)
        case ("advance", int(page), fails_at):
            interrupted(source, fails_at, lambda: at(page).advance())
        case ("reconcile", str(bundle), int(page), fails_at):
            interrupted(source, fails_at, lambda: at(page).reconcile(bundle))


def interrupted(source: MemorySource, fails_at: object, reading: Callable[[], object]) -> None:
    source.calls = 0
    source.fails_at = fails_at if isinstance(fails_at, int) else None
    try:
        reading()
    except SourceGoneError:
        pass
    finally:
        source.fails_at = None


def snapshot(ingestion: TraceIngestion, bundle: str) -> tuple[bytes, bytes]:
    found = ingestion.bundle(bundle)
    return to_parquet(ingested_turns(found)), to_parquet(found.quarantined)


@given(changes=st.lists(CHANGE, min_size=8, max_size=25), page=st.integers(1, 5), ordered=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_interleaving_gives_the_snapshot_of_one_clean_read(
    changes: list[tuple[object, ...]], page: int, ordered: bool
) -> None:
    source = MemorySource(keeps_assessment_order=ordered)
    with tempfile.TemporaryDirectory() as folder:
        for clock, change in enumerate(changes):
            apply(change, source, lambda size: ingestion_at(Path(folder) / "used", source, page=size), NOW + clock)
        used = ingestion_at(Path(folder) / "used", source, page=page)
        clean = ingestion_at(Path(folder) / "clean", source, page=100)
        for one in (used, clean):
            one.advance()
            for bundle in BUNDLES:
                one.reconcile(bundle)
            one.sweep()
        for bundle in BUNDLES:
            assert snapshot(used, bundle) == snapshot(clean, bundle)
            expected = read_turns(one for one in source.traces.values() if one.tags.get(Tag.RELEASE_BUNDLE) == bundle)
            assert snapshot(clean, bundle)[0] == to_parquet(turns_frame(expected.turns))
        assert used.unassigned().equals(clean.unassigned())
