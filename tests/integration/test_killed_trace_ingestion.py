"""A reader of traces that is killed at any of its steps, and run again, ingests the snapshot of one clean read."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mangaassist_assets.core.codecs import to_parquet
from mangaassist_assets.tracing.ingestion.trace_ingestion import TraceIngestion
from tests.support.killed_ingestion import change, everything, filled_source, ingest
from tests.support.turn_frames import ingested_turns

pytestmark = pytest.mark.integration

MOST_STEPS = 80


def read(ingestion: TraceIngestion) -> list[bytes]:
    return [
        content
        for bundle in ("b1", "b2")
        for content in (
            to_parquet(ingested_turns(ingestion.bundle(bundle))),
            to_parquet(ingestion.bundle(bundle).quarantined),
        )
    ]


def run(repository_root: Path, folder: Path, step: int) -> int:
    command = [sys.executable, "-m", "tests.support.killed_ingestion", str(folder), str(step)]
    return subprocess.run(command, cwd=repository_root, check=False, timeout=120).returncode


def test_a_reader_killed_at_any_step_finishes_when_it_is_run_again(repository_root: Path, tmp_path: Path) -> None:
    after = filled_source()
    change(after)
    clean = read(ingest(tmp_path / "clean", everything, after))
    steps = range(1, MOST_STEPS, 3)
    with ThreadPoolExecutor(2) as pool:
        codes = list(pool.map(lambda step: run(repository_root, tmp_path / f"killed-{step}", step), steps))
    killed = [step for step, code in zip(steps, codes, strict=True) if code == -signal.SIGKILL]
    assert set(codes) == {-signal.SIGKILL, 0}, "every step must be reached, and the last ones must be past the end"
    assert len(killed) >= 15
    for step in killed:
        assert read(ingest(tmp_path / f"killed-{step}", everything, after)) == clean, f"killed at step {step}"
