"""Ingests traces and kills itself at one of its steps: `python -m tests.support.killed_ingestion FOLDER N`.

Steps are counted over every answer of the source and over both sides of every commit. Without N nobody dies.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from mangaassist_assets.core.ingestion_tables import Checkpoint, IngestionTable
from mangaassist_assets.tracing.contract.names import Tag
from mangaassist_assets.tracing.contract.records import AssessmentRecord
from mangaassist_assets.tracing.ingestion.ingested_traces import INGESTED_SCHEMA
from mangaassist_assets.tracing.ingestion.trace_ingestion import OVERLAP_MS, TraceIngestion
from tests.support.trace_source import MemorySource, chat_trace

NOW = 1_700_000_000_000


class Countdown:
    """Kills this process at the step it was told."""

    def __init__(self, step: int | None) -> None:
        self._left = step

    def step(self) -> None:
        if self._left is None:
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class MortalTable(IngestionTable):
    """An ingestion table that may die before or after each commit."""

    countdown = Countdown(None)

    def append(self, frame: pl.DataFrame, *, after: Checkpoint, value: Mapping[str, Any]) -> Checkpoint:
        self.countdown.step()
        checkpoint = super().append(frame, after=after, value=value)
        self.countdown.step()
        return checkpoint


class MortalSource(MemorySource):
    """A source that may die before each answer."""

    countdown = Countdown(None)

    def _answer(self) -> None:
        self.countdown.step()
        super()._answer()


def filled_source() -> MortalSource:
    """Traces of two bundles: finished, in progress, quarantined, late, moved and assessed after the first reading."""
    source = MortalSource()
    for n in range(9):
        source.put(chat_trace(f"t{n}", NOW - n * OVERLAP_MS, "b1" if n % 3 else "b2"))
    source.put(replace(chat_trace("slow", NOW - 5, "b1"), state="IN_PROGRESS", spans=()))
    source.put(chat_trace("nowhere", NOW - 7, None))
    return source


def change(source: MortalSource) -> None:
    """What happens between the first reading and the second."""
    source.put(chat_trace("slow", NOW - 5, "b1"))
    source.put(chat_trace("late", NOW - OVERLAP_MS // 2, "b1"))
    source.put(chat_trace("imported", NOW - 50 * OVERLAP_MS, "b2"))
    source.tag("t3", Tag.RELEASE_BUNDLE, "b1")
    source.tag("nowhere", Tag.RELEASE_BUNDLE, "b2")
    source.assess(
        "t8",
        AssessmentRecord(
            name="user_feedback",
            kind="feedback",
            value="thumbs_down",
            source_type="HUMAN",
            source_id="u",
            timestamp_ms=NOW + 1,
        ),
    )


def ingest(folder: Path, steps: Callable[[TraceIngestion], None], source: MemorySource) -> TraceIngestion:
    """Take steps on the ingestion in a folder."""
    table = MortalTable(str(folder), schema=INGESTED_SCHEMA, skipping=("timestamp_ms",))
    ingestion = TraceIngestion(table, source, page=4, now_ms=lambda: NOW)
    steps(ingestion)
    return ingestion


def everything(ingestion: TraceIngestion) -> None:
    """Read what is new, then compare both bundles."""
    ingestion.advance()
    for bundle in ("b1", "b2"):
        ingestion.reconcile(bundle)


def main() -> None:
    """Land, change, ingest again, with one death on the way."""
    folder = Path(sys.argv[1])
    step = int(sys.argv[2]) if len(sys.argv) > 2 else None
    countdown = Countdown(step)
    MortalTable.countdown = MortalSource.countdown = countdown
    source = filled_source()
    ingest(folder, everything, source)
    change(source)
    ingest(folder, everything, source)


if __name__ == "__main__":
    main()
