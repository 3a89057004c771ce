"""The turns of a release bundle as they are stored: chat turns, what is in quarantine, and what every trace has.

A bundle may have a million turns. Readers say which columns and which turns they need; only those are made objects of,
and the table is read one row group at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mangaassist_assets.core.bundles import TURNS_ASSET
from mangaassist_assets.core.codecs import ROW_GROUP

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import polars as pl

    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.tracing.contract.turns import ChatTurn
    from mangaassist_assets.tracing.ingestion.coverage import TracePresence

TURNS_FILE = "turns.parquet"
QUARANTINE_FILE = "quarantine.parquet"
PRESENCE_FILE = "presence.parquet"


def read_turns(store: SnapshotStore, release_bundle: str, where: pl.Expr | None = None) -> list[ChatTurn]:
    """Return the chat turns of a bundle that fit, ordered by (timestamp_ms, trace_id); of a large bundle ask for few.

    `where` is a condition on columns of TURN_SCHEMA.

    Raises:
        SnapshotSchemaError: The stored table has other columns or types than TURN_SCHEMA.
    """
    return list(stream_turns(store, release_bundle, where))


def stream_turns(store: SnapshotStore, release_bundle: str, where: pl.Expr | None = None) -> Iterator[ChatTurn]:
    """Yield what `read_turns` returns, a turn at a time: none is kept."""
    from mangaassist_assets.tracing.ingestion.turn_frames import turns_of

    for frame in read_turn_batches(store, release_bundle, where=where):
        yield from turns_of(frame)


def read_turn_batches(
    store: SnapshotStore, release_bundle: str, *, columns: Sequence[str] | None = None, where: pl.Expr | None = None
) -> Iterator[pl.DataFrame]:
    """Yield the chat turns of a bundle that fit as they are stored, with these columns or all, one row group at a time.

    At least one frame comes, without rows where no turn fits.
    """
    yield from _batches(_content(store, release_bundle, TURNS_FILE), columns=columns, where=where)


def read_turn_frame(
    store: SnapshotStore, release_bundle: str, *, columns: Sequence[str] | None = None, where: pl.Expr | None = None
) -> pl.DataFrame:
    """Return the chat turns of a bundle that fit as they are stored, with these columns or all of TURN_SCHEMA."""
    import polars as pl

    return pl.concat(read_turn_batches(store, release_bundle, columns=columns, where=where))


def count_turns(store: SnapshotStore, release_bundle: str) -> int:
    """Return how many chat turns a bundle has; none of them is read."""
    import polars as pl

    counted = pl.scan_parquet(_content(store, release_bundle, TURNS_FILE)).select(pl.len()).collect()
    return int(counted.item())


def read_presence(store: SnapshotStore, release_bundle: str) -> Iterator[TracePresence]:
    """Yield which parts of the contract each finished trace of a bundle has, those in quarantine included."""
    from mangaassist_assets.tracing.ingestion.coverage import TracePresence

    for frame in _batches(_content(store, release_bundle, PRESENCE_FILE)):
        for row in frame.iter_rows(named=True):
            yield TracePresence(
                trace_id=row["trace_id"],
                tags=frozenset(row["tags_present"]),
                spans=frozenset(row["spans_present"]),
                state=row["state"],
                problems=tuple(row["problems"]),
                candidates=row["candidate_count"],
                blocked=bool(row["guardrail_blocked"]),
            )


def _batches(
    content: bytes, *, columns: Sequence[str] | None = None, where: pl.Expr | None = None
) -> Iterator[pl.DataFrame]:
    import polars as pl

    table = pl.scan_parquet(content)
    rows = int(table.select(pl.len()).collect().item())
    for start in range(0, max(rows, 1), ROW_GROUP):
        batch = table.slice(start, ROW_GROUP)
        if where is not None:
            batch = batch.filter(where)
        if columns is not None:
            batch = batch.select(columns)
        yield batch.collect(engine="streaming")


def _content(store: SnapshotStore, release_bundle: str, file: str) -> bytes:
    return store.read(store.latest(TURNS_ASSET, partition=release_bundle), file)
