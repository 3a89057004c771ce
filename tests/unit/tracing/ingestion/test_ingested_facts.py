"""Traces of thumbs as the landing table knows them."""

from __future__ import annotations

import polars as pl
import pytest

from mangaassist_assets.core.ingestion_tables import LandingTable
from mangaassist_assets.tracing.feedback.joining import TraceFacts
from mangaassist_assets.tracing.ingestion.ingested_facts import LandedFacts
from mangaassist_assets.tracing.ingestion.ingested_rows import LANDED_SCHEMA, tombstone

USER = "u-00000000000000000000"


@pytest.fixture
def table(tmp_path) -> LandingTable:
    return LandingTable(str(tmp_path / "traces"), schema=LANDED_SCHEMA)


def row(trace: str, bundle: str, sequence: int, kind: str = "turn") -> dict[str, object]:
    known = {"session_id": f"s-{sequence}", "user_key": USER, "timestamp_ms": 1}
    return {"trace_id": trace, "release_bundle": bundle, "sequence": sequence, "kind": kind, **known}


def land(table: LandingTable, *rows: dict[str, object]) -> None:
    table.append(pl.DataFrame(list(rows), schema=LANDED_SCHEMA, orient="row"), after=table.checkpoint(), value={})


def test_the_newest_row_of_a_trace_tells_bundle_session_and_user(table):
    land(table, row("tr-1", "b1", 1), row("tr-2", "b1", 1))
    land(table, row("tr-1", "b2", 2), tombstone("tr-1", 1, "b1", 2))
    found = LandedFacts(table).by_trace_id(["tr-1", "tr-9"])
    assert found == {"tr-1": TraceFacts(trace_id="tr-1", release_bundle="b2", session_id="s-2", user=USER)}


def test_a_trace_in_quarantine_or_gone_tells_nothing(table):
    land(table, row("tr-1", "b1", 1, "quarantined"), row("tr-2", "b1", 1))
    land(table, tombstone("tr-2", 1, "b1", 2))
    assert LandedFacts(table).by_trace_id(["tr-1", "tr-2"]) == {}


def test_nothing_asked_and_nothing_landed_is_nothing_found(table):
    assert LandedFacts(table).by_trace_id([]) == LandedFacts(table).by_trace_id(["tr-1"]) == {}
    assert LandedFacts(table).by_response_id(["r-1"]) == {}


def test_a_response_is_found_by_the_turn_that_gave_it_unless_two_claim_it_or_it_is_gone(table):
    given = {"tr-1": "r-1", "tr-2": "r-2", "tr-3": "r-2", "tr-4": "r-4"}
    land(table, *({**row(trace, "b1", 1), "response_id": response} for trace, response in given.items()))
    land(table, tombstone("tr-4", 1, "b1", 2))
    found = LandedFacts(table).by_response_id(["r-1", "r-2", "r-4", "r-9"])
    assert {response: facts.trace_id for response, facts in found.items()} == {"r-1": "tr-1"}
