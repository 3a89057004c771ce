"""The failed turns of a release bundle as they are stored: signals, blame and findings, without the turns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from pydantic import TypeAdapter

from mangaassist_assets.core.snapshots import SnapshotStore, canonical_json
from mangaassist_assets.mining.blame.blame import Blame, FailedTurn, Finding
from mangaassist_assets.mining.blame.signals import Signal
from mangaassist_assets.tracing.ingestion.stored_turns import read_turns

FAILURES_FILE = "failures.json"
RULES_FILE = "rules.json"

_SIGNALS: TypeAdapter[tuple[Signal, ...]] = TypeAdapter(tuple[Signal, ...])
_BLAME: TypeAdapter[Blame] = TypeAdapter(Blame)
_FINDINGS: TypeAdapter[tuple[Finding, ...]] = TypeAdapter(tuple[Finding, ...])


def failures_to_json(failures: Sequence[FailedTurn]) -> bytes:
    """Return failed turns as JSON: trace id, signals, blame, findings. The turn itself stays in `tagged_traces`."""
    return canonical_json(
        [
            {
                "trace_id": failure.turn.trace_id,
                "signals": [asdict(signal) for signal in failure.signals],
                "blame": asdict(failure.blame),
                "considered": [asdict(finding) for finding in failure.considered],
            }
            for failure in failures
        ]
    )


def read_failures(store: SnapshotStore, release_bundle: str) -> list[FailedTurn]:
    """Return the failed turns of a bundle with signals, blame and findings, in the order they were stored.

    Raises:
        LookupError: `tagged_traces` no longer has one of them.
    """
    turns = {turn.trace_id: turn for turn in read_turns(store, release_bundle)}
    rows = json.loads(store.read(store.latest("failed_traces", partition=release_bundle), FAILURES_FILE))
    missing = [row["trace_id"] for row in rows if row["trace_id"] not in turns]
    if missing:
        msg = (
            f"failed_traces of {release_bundle!r} names {len(missing)} traces that tagged_traces no longer has "
            f"(first: {missing[0]}): materialize failed_traces again"
        )
        raise LookupError(msg)
    return [
        FailedTurn(
            turn=turns[row["trace_id"]],
            signals=_SIGNALS.validate_python(row["signals"]),
            blame=_BLAME.validate_python(row["blame"]),
            considered=_FINDINGS.validate_python(row.get("considered", ())),
        )
        for row in rows
    ]
