"""The failed turns of a release bundle as they are stored: signals, blame and findings, without the turns."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from mangaassist_assets.core.codecs import from_json
from mangaassist_assets.core.snapshots import SnapshotStore, canonical_json
from mangaassist_assets.mining.blame.blame import Blame, FailedTurn, failures_among
from mangaassist_assets.mining.blame.evidence import Finding
from mangaassist_assets.mining.blame.rule_names import SignalName
from mangaassist_assets.mining.blame.rules import MiningRules
from mangaassist_assets.mining.blame.signals import Signal, may_fail
from mangaassist_assets.mining.blame.turn_context import SessionTurn, TurnContext, rephrasings, usual_scores
from mangaassist_assets.tracing.ingestion.stored_turns import read_turn_batches, read_turns, stream_turns

FAILURES_FILE = "failures.json"
RULES_FILE = "rules.json"


@dataclass(frozen=True, slots=True)
class _StoredFailure:
    trace_id: str
    signals: tuple[Signal, ...]
    blame: Blame
    considered: tuple[Finding, ...]


def find_stored_failures(store: SnapshotStore, release_bundle: str, rules: MiningRules) -> list[FailedTurn]:
    """Return what `find_failures` finds among the stored turns of a bundle.

    What stands around turns is read of a few columns, and only of turns that may have failed objects are made.
    """
    said = (
        SessionTurn._make(row)
        for batch in read_turn_batches(store, release_bundle, columns=SessionTurn._fields)
        for row in batch.iter_rows()
    )
    pleased = stream_turns(store, release_bundle, pl.col("user_feedback") == "thumbs_up")
    around = TurnContext(rephrasings=rephrasings(said, rules), usual_scores=usual_scores(pleased))
    return list(failures_among(stream_turns(store, release_bundle, may_fail(rules, around)), rules, around))


def failures_to_json(failures: Iterable[FailedTurn]) -> bytes:
    """Return failed turns as JSON: trace id, signals, blame, findings. The turn itself stays in `tagged_traces`."""
    # One after the other: as plain values they need many times the room of their text.
    rows = (_StoredFailure(one.turn.trace_id, one.signals, one.blame, one.considered) for one in failures)
    return b"[" + b",".join(map(canonical_json, rows)) + b"]"


def failure_files(failures: Sequence[FailedTurn], rules: MiningRules) -> dict[str, bytes]:
    """Return failed turns and the rules they were found by, as they are stored."""
    return {
        FAILURES_FILE: failures_to_json(failures),
        RULES_FILE: canonical_json({"digest": rules.digest, "rules": rules.content}),
    }


def count_failures(store: SnapshotStore, release_bundle: str) -> int | None:
    """Return how many turns of a bundle failed; None where it was not mined."""
    mined = store.find("failed_traces", partition=release_bundle) is not None
    return len(_stored_failures(store, release_bundle)) if mined else None


def read_failed_messages(store: SnapshotStore, release_bundle: str) -> list[str]:
    """Return the messages of a bundle's failed turns, the worst first, each once; none where it was not mined."""
    if store.find("failed_traces", partition=release_bundle) is None:
        return []
    worst = sorted(read_failures(store, release_bundle), key=lambda one: (-one.severity, one.turn.trace_id))
    return list(dict.fromkeys(one.turn.learnable_text for one in worst))


def read_failures(store: SnapshotStore, release_bundle: str) -> list[FailedTurn]:
    """Return the failed turns of a bundle with signals, blame and findings, in the order they were stored.

    Raises:
        LookupError: `tagged_traces` no longer has one of them.
    """
    stored = _stored_failures(store, release_bundle)
    failed = pl.col("trace_id").is_in([one.trace_id for one in stored])
    turns = {turn.trace_id: turn for turn in read_turns(store, release_bundle, failed)}
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


def read_failed_ids(
    store: SnapshotStore, release_bundle: str, *, without: Collection[SignalName] = ()
) -> frozenset[str]:
    """Return the traces of a bundle's failed turns; those with an explicit signal besides the ones to leave out."""
    return frozenset(
        one.trace_id
        for one in _stored_failures(store, release_bundle)
        if any(signal.explicit and signal.name not in without for signal in one.signals)
    )


def _stored_failures(store: SnapshotStore, release_bundle: str) -> list[_StoredFailure]:
    content = store.read(store.latest("failed_traces", partition=release_bundle), FAILURES_FILE)
    return from_json(list[_StoredFailure], content)
