"""Traces of thumbs as the ingestion table knows them."""

from __future__ import annotations

import polars as pl
import pytest

from mangaassist_assets.core.ingestion_tables import IngestionTable
from mangaassist_assets.tracing.feedback.joining import IngestedFacts, TraceFacts
from mangaassist_assets.tracing.ingestion.ingested_traces import INGESTED_SCHEMA, tombstone

USER = "u-00000000000000000000"


@pytest.fixture
def table(tmp_path) -> IngestionTable:
    return IngestionTable(str(tmp_path / "traces"), schema=INGESTED_SCHEMA)


def row(trace: str, bundle: str, sequence: int, kind: str = "turn") -> dict[str, object]:
    known = {"session_id": f"s-{sequence}", "user_key": USER, "timestamp_ms": 1}
    return {"trace_id": trace, "release_bundle": bundle, "sequence": sequence, "kind": kind, **known}


def ingest(table: IngestionTable, *rows: dict[str, object]) -> None:
    table.append(pl.DataFrame(list(rows), schema=INGESTED_SCHEMA, orient="row"), after=table.checkpoint(), value={})


def test_the_newest_row_of_a_trace_tells_bundle_session_and_user(table):
    ingest(table, row("tr-1", "b1", 1), row("tr-2", "b1", 1))
    ingest(table, row("tr-1", "b2", 2), tombstone("tr-1", 1, "b1", 2))
    found = IngestedFacts(table).by_trace_id(["tr-1", "tr-9"])
    assert found == {"tr-1": TraceFacts(trace_id="tr-1", release_bundle="b2", session_id="s-2", user=USER)}


def test_a_trace_in_quarantine_or_gone_tells_nothing(table):
    ingest(table, row("tr-1", "b1", 1, "quarantined"), row("tr-2", "b1", 1))
    ingest(table, tombstone("tr-2", 1, "b1", 2))
    assert IngestedFacts(table).by_trace_id(["tr-1", "tr-2"]) == {}


def test_nothing_asked_and_nothing_ingested_is_nothing_found(table):
    assert IngestedFacts(table).by_trace_id([]) == IngestedFacts(table).by_trace_id(["tr-1"]) == {}
    assert IngestedFacts(table).by_response_id(["r-1"]) == {}


def test_a_response_is_found_by_the_turn_that_gave_it_unless_two_claim_it_or_it_is_gone(table):
    given = {"tr-1": "r-1", "tr-2": "r-2", "tr-3": "r-2", "tr-4": "r-4"}
    ingest(table, *({**row(trace, "b1", 1), "response_id": response} for trace, response in given.items()))
    ingest(table, tombstone("tr-4", 1, "b1", 2))
    found = IngestedFacts(table).by_response_id(["r-1", "r-2", "r-4", "r-9"])
    assert {response: facts.trace_id for response, facts in found.items()} == {"r-1": "tr-1"}
