"""The failed turns of a release bundle as they are stored: signals, blame and findings, without the turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mangaassist_assets.core.codecs import from_json
from mangaassist_assets.core.snapshots import SnapshotStore, canonical_json
from mangaassist_assets.mining.blame.blame import Blame, FailedTurn
from mangaassist_assets.mining.blame.evidence import Finding
from mangaassist_assets.mining.blame.rules import MiningRules
from mangaassist_assets.mining.blame.signals import Signal
from mangaassist_assets.tracing.ingestion.stored_turns import read_turns

FAILURES_FILE = "failures.json"
RULES_FILE = "rules.json"


@dataclass(frozen=True, slots=True)
class _StoredFailure:
    trace_id: str
    signals: tuple[Signal, ...]
    blame: Blame
    considered: tuple[Finding, ...]


def failures_to_json(failures: Sequence[FailedTurn]) -> bytes:
    """Return failed turns as JSON: trace id, signals, blame, findings. The turn itself stays in `tagged_traces`."""
    return canonical_json(
        [_StoredFailure(one.turn.trace_id, one.signals, one.blame, one.considered) for one in failures]
    )


def failure_files(failures: Sequence[FailedTurn], rules: MiningRules) -> dict[str, bytes]:
    """Return failed turns and the rules they were found by, as they are stored."""
    return {
        FAILURES_FILE: failures_to_json(failures),
        RULES_FILE: canonical_json({"digest": rules.digest, "rules": rules.content}),
    }


def read_failures(store: SnapshotStore, release_bundle: str) -> list[FailedTurn]:
    """Return the failed turns of a bundle with signals, blame and findings, in the order they were stored.

    Raises:
        LookupError: `tagged_traces` no longer has one of them.
    """
    turns = {turn.trace_id: turn for turn in read_turns(store, release_bundle)}
    content = store.read(store.latest("failed_traces", partition=release_bundle), FAILURES_FILE)
    stored = from_json(list[_StoredFailure], content)
    missing = [one.trace_id for one in stored if one.trace_id not in turns]
    if missing:
        raise LookupError(
            f"failed_traces of {release_bundle!r} names {len(missing)} traces that tagged_traces no longer has "
            f"(first: {missing[0]}): materialize failed_traces again"
        )
    return [
        FailedTurn(turn=turns[one.trace_id], signals=one.signals, blame=one.blame, considered=one.considered)
        for one in stored
    ]
