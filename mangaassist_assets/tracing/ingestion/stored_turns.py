"""The turns of a release bundle as they are stored: chat turns, what is in quarantine, and what every trace has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mangaassist_assets.core.bundles import TURNS_ASSET

if TYPE_CHECKING:
    import polars as pl

    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.tracing.contract.turns import ChatTurn
    from mangaassist_assets.tracing.ingestion.coverage import TracePresence

TURNS_FILE = "turns.parquet"
QUARANTINE_FILE = "quarantine.parquet"
PRESENCE_FILE = "presence.parquet"


def read_turns(store: SnapshotStore, release_bundle: str) -> list[ChatTurn]:
    """Return the chat turns of a bundle, ordered by (timestamp_ms, trace_id)."""
    from mangaassist_assets.tracing.ingestion.turn_frames import turns_from_parquet

    return turns_from_parquet(_content(store, release_bundle, TURNS_FILE))


def read_turn_frame(store: SnapshotStore, release_bundle: str) -> pl.DataFrame:
    """Return the chat turns of a bundle as they are stored, in TURN_SCHEMA."""
    import polars as pl

    return pl.read_parquet(_content(store, release_bundle, TURNS_FILE))


def read_presence(store: SnapshotStore, release_bundle: str) -> list[TracePresence]:
    """Return which parts of the contract each finished trace of a bundle has, those in quarantine included."""
    import polars as pl

    from mangaassist_assets.tracing.ingestion.coverage import TracePresence

    return [
        TracePresence(
            trace_id=row["trace_id"],
            tags=frozenset(row["tags_present"]),
            spans=frozenset(row["spans_present"]),
            state=row["state"],
            problems=tuple(row["problems"]),
            candidates=row["candidate_count"],
            blocked=bool(row["guardrail_blocked"]),
        )
        for row in pl.read_parquet(_content(store, release_bundle, PRESENCE_FILE)).iter_rows(named=True)
    ]


def read_mined_thumbs(store: SnapshotStore) -> dict[str, tuple[int, int]]:
    """Return how many stored turns of each bundle have a thumbs up, and how many a thumbs down."""
    import polars as pl

    thumbs: dict[str, tuple[int, int]] = {}
    for bundle in store.partitions(TURNS_ASSET):
        content = _content(store, bundle, TURNS_FILE)
        feedback = pl.read_parquet(content, columns=["user_feedback"])["user_feedback"]
        thumbs[bundle] = (int((feedback == "thumbs_up").sum()), int((feedback == "thumbs_down").sum()))
    return thumbs


def _content(store: SnapshotStore, release_bundle: str, file: str) -> bytes:
    return store.read(store.latest(TURNS_ASSET, partition=release_bundle), file)
