"""Stored tables of turns as a test writes them down; the platform makes them as it ingests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

import polars as pl

from mangaassist_assets.tracing.contract.turns import ChatTurn
from mangaassist_assets.tracing.ingestion.ingested_traces import BundleTraces
from mangaassist_assets.tracing.ingestion.turn_frames import QUARANTINE_SCHEMA, TURN_SCHEMA, turn_row
from mangaassist_assets.tracing.reading.turn_reader import Quarantined


def turns_frame(turns: Iterable[ChatTurn]) -> pl.DataFrame:
    """Return one row per turn, sorted by (timestamp_ms, trace_id), in TURN_SCHEMA."""
    rows = [turn_row(turn) for turn in sorted(turns, key=lambda turn: (turn.timestamp_ms, turn.trace_id))]
    return pl.DataFrame(rows, schema=TURN_SCHEMA, orient="row")


def ingested_turns(bundle: BundleTraces) -> pl.DataFrame:
    """Return the turns of a bundle as they are ingested, whole, in TURN_SCHEMA."""
    return pl.concat([pl.DataFrame(schema=TURN_SCHEMA), *bundle.turn_rows()])


def quarantine_frame(quarantined: Iterable[Quarantined]) -> pl.DataFrame:
    """Return one row per quarantined trace, sorted by (timestamp_ms, trace_id), in QUARANTINE_SCHEMA."""
    rows = [asdict(item) for item in sorted(quarantined, key=lambda item: (item.timestamp_ms, item.trace_id))]
    return pl.DataFrame(rows, schema=QUARANTINE_SCHEMA, orient="row")
