"""What stored tables say of the turns that votes are about: intent, shopper, failure cluster and stage."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mangaassist_assets.core.bundles import TURNS_ASSET
from mangaassist_assets.mining.blame.stored_failures import FAILURES_FILE
from mangaassist_assets.mining.tracking.cluster_files import CLUSTERS_ASSET, CLUSTERS_FILE
from mangaassist_assets.triggers.evidence import Reference
from mangaassist_assets.triggers.votes import ALL, MINED, NO_VOTES, TurnFacts, digest

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore

_FAILURES_ASSET = "failed_traces"
_LONGEST_NAME = 80
_ASSETS = (TURNS_ASSET, _FAILURES_ASSET, CLUSTERS_ASSET)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFacts:
    """Facts of turns by trace id and by response id, and which records of each bundle were looked through for them."""

    facts: Mapping[str, TurnFacts] = field(default_factory=dict)
    read: Mapping[str, str] = field(default_factory=dict)


def find_facts(
    store: SnapshotStore,
    bundles: Collection[str],
    turns: Collection[str],
    *,
    read: Mapping[str, str],
) -> FoundFacts:
    """Look turns up in the stored tables of bundles, where those are newer than what was looked through already.

    Args:
        store: The snapshots.
        bundles: The bundles whose turns they may be.
        turns: Trace ids and response ids.
        read: What an earlier look returned as `read`.
    """
    now: dict[str, str] = {}
    facts: dict[str, TurnFacts] = {}
    for bundle in sorted(bundles):
        now[bundle] = " ".join(str(store.newest_number(asset, partition=bundle)) for asset in _ASSETS)
        if turns and now[bundle] != read.get(bundle):
            facts |= _facts_of(store, bundle, turns)
    return FoundFacts(facts=facts, read=now)


def stored_votes(store: SnapshotStore) -> dict[str, dict[str, Reference]]:
    """Return the votes that the stored turns of each bundle carry, by stream: those of all, and of each intent."""
    from mangaassist_assets.tracing.ingestion.stored_turns import read_turn_frame

    found: dict[str, dict[str, Reference]] = {}
    for bundle in store.partitions(TURNS_ASSET):
        counted = found.setdefault(bundle, {})
        rows = read_turn_frame(store, bundle, columns=["user_feedback", "intent"]).drop_nulls("user_feedback")
        for feedback, intent in rows.iter_rows():
            one = Reference(down=float(feedback == "thumbs_down"), votes=1.0)
            for name in (ALL, MINED, *([f"intent {_printable(intent)}"] if intent else [])):
                counted[name] = counted.get(name, NO_VOTES).plus(one)
    return found


def _facts_of(store: SnapshotStore, bundle: str, turns: Collection[str]) -> dict[str, TurnFacts]:
    import polars as pl

    from mangaassist_assets.tracing.ingestion.stored_turns import read_turn_frame

    if store.find(TURNS_ASSET, partition=bundle) is None:
        return {}
    asked = sorted(turns)
    columns = ["trace_id", "response_id", "session_id", "user_key", "intent"]
    where = pl.col("trace_id").is_in(asked) | pl.col("response_id").is_in(asked)
    rows = read_turn_frame(store, bundle, columns=columns, where=where)
    stages = {one["trace_id"]: one["blame"]["stage"] for one in _stored(store, _FAILURES_ASSET, bundle, FAILURES_FILE)}
    clusters = {
        trace_id: one["cluster_id"]
        for one in _stored(store, CLUSTERS_ASSET, bundle, CLUSTERS_FILE)
        if one["noise_reason"] is None
        for trace_id in one["trace_ids"]
    }
    facts: dict[str, TurnFacts] = {}
    for trace_id, response_id, session, user, intent in rows.iter_rows():
        known = TurnFacts(
            trace_id=trace_id,
            release_bundle=bundle,
            session=digest(session),
            shopper=digest(user) if user else None,
            intent=_printable(intent),
            cluster=clusters.get(trace_id),
            stage=stages.get(trace_id),
        )
        facts[trace_id] = known
        if response_id is not None:
            facts[response_id] = known
    return facts


def _printable(name: str | None) -> str | None:
    return None if name is None else "".join(one if one.isprintable() else "?" for one in name)[:_LONGEST_NAME]


def _stored(store: SnapshotStore, asset: str, bundle: str, file: str) -> list[dict[str, Any]]:
    snapshot = store.find(asset, partition=bundle)
    if snapshot is None:
        return []
    rows: list[dict[str, Any]] = json.loads(store.read(snapshot, file))
    return rows
