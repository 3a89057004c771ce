"""Erasing a user: what is recorded of the request, what is removed, and what must be made again without the user.

The request is recorded first, so what arrives of the user later is dropped wherever feedback and traces are ingested.
Everything after that may be killed and run again. Only pseudonyms are kept and said here, never a user id.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl

from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.core.files import write_whole
from mangaassist_assets.core.snapshots import Snapshot, SnapshotStore, canonical_json
from mangaassist_assets.privacy import is_pseudonym

if TYPE_CHECKING:
    from mangaassist_assets.tracing.feedback.ingestion import FeedbackIngestion

_FOLDER = "erasures"
_SUFFIX = ".json"
_USER_COLUMN = "user_key"
_TRACE_COLUMNS = ("trace_id", "source_trace_id")
_TRACE_LISTS = ("sources", "label_sources")
_WORD = re.compile(rb"[0-9A-Za-z._:/-]+")


class InvalidUserKeyError(OperatorError, ValueError):
    """A key that no user can have."""


class UserTraces(Protocol):
    """The tracking server's side of an erasure."""

    def trace_ids_of(self, user_key: str) -> frozenset[str]:
        """Return the traces of a user."""

    def delete(self, trace_ids: Collection[str]) -> int:
        """Delete traces, and what people said of them; returns how many there were."""


class UserRows(Protocol):
    """An ingestion table whose rows name their trace, and their user where known: `trace_id` and `user_key`."""

    def erase(self, column: str, values: Collection[str]) -> int:
        """Remove the rows with one of the values for good; returns how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldingSnapshot:
    """A stored snapshot that still names the user; `latest` ones go away when they are materialized again."""

    name: str
    partition: str | None
    digest: str
    files: tuple[str, ...]
    latest: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureReport:
    """What an erasure did. `rows_removed` counts by table; `requested_at` is the time of the first request."""

    user_key: str
    requested_at: str
    events_removed: int
    rows_removed: Mapping[str, int]
    traces_deleted: int
    snapshots: tuple[HoldingSnapshot, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def erased_users(store: SnapshotStore) -> frozenset[str]:
    """Return the keys of all users whose erasure was requested; only names of objects are read."""
    folder = store.root / _FOLDER
    # Object stores' clients remember listings, and another process may have recorded an erasure since.
    folder.fs.invalidate_cache()
    if not folder.exists():
        return frozenset()
    names = (path.name for path in folder.iterdir())
    keys = (name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))
    return frozenset(key for key in keys if is_pseudonym(key))


def record_erasure(store: SnapshotStore, user_key: str, *, requested_at: str) -> str:
    """Write down that a user is to be erased; the first request stands. Returns its time.

    Raises:
        InvalidUserKeyError: the key is no pseudonym.
    """
    if not is_pseudonym(user_key):
        raise InvalidUserKeyError("a user key is 'u-' and 20 hexadecimal digits, as traces and feedback events show it")
    folder = store.root / _FOLDER
    path = folder / f"{user_key}{_SUFFIX}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, canonical_json({"schema": 1, "user_key": user_key, "requested_at": requested_at}))
    return str(json.loads(path.read_bytes())["requested_at"])


def erase_user(
    user_key: str,
    *,
    requested_at: str,
    store: SnapshotStore,
    feedback: FeedbackIngestion,
    traces: UserTraces,
    tables: Mapping[str, UserRows] | None = None,
) -> ErasureReport:
    """Erase a user, as far as that is not done yet.

    The store keeps the request, made at `requested_at` (ISO 8601 in UTC); its snapshots are searched, not changed. The
    user's traces are deleted last: they name what else belongs to the user.

    Raises:
        InvalidUserKeyError: the key is no pseudonym.
    """
    first = record_erasure(store, user_key, requested_at=requested_at)
    stored = traces.trace_ids_of(user_key)
    trace_ids = stored | feedback.trace_ids_of([user_key]) | trace_ids_in_snapshots(store, user_key)
    events_removed = feedback.erase(user_keys=[user_key], trace_ids=trace_ids)
    rows_removed = {
        name: table.erase(_USER_COLUMN, [user_key]) + table.erase("trace_id", trace_ids)
        for name, table in (tables or {}).items()
    }
    traces_deleted = traces.delete(stored)
    return ErasureReport(
        user_key=user_key,
        requested_at=first,
        events_removed=events_removed,
        rows_removed=rows_removed,
        traces_deleted=traces_deleted,
        snapshots=tuple(snapshots_holding(store, user_key, trace_ids)),
    )


def snapshots_holding(store: SnapshotStore, user_key: str, trace_ids: Collection[str]) -> Iterator[HoldingSnapshot]:
    """Yield the stored snapshots, older ones included, with a file that names the user or one of the traces."""
    ids = frozenset(trace_ids)
    for one in _all(store):
        files = tuple(sorted(file for file in one.files if _names(store, one, file, user_key, ids)))
        if files:
            newest = store.find(one.name, partition=one.partition)
            latest = newest is not None and newest.digest == one.digest
            yield HoldingSnapshot(name=one.name, partition=one.partition, digest=one.digest, files=files, latest=latest)


def trace_ids_in_snapshots(store: SnapshotStore, user_key: str) -> frozenset[str]:
    """Return the traces of a user as snapshots know them: after a killed erasure nothing else may."""
    found: set[str] = set()
    for one in _all(store):
        for file in one.files:
            if not file.endswith(".parquet"):
                continue
            frame = _columns(store.read(one, file))
            if _USER_COLUMN in frame.columns:
                own = frame.filter(pl.col(_USER_COLUMN) == user_key)
                found.update(*(own[name].drop_nulls().to_list() for name in _TRACE_COLUMNS if name in own.columns))
    return frozenset(found)


def _all(store: SnapshotStore) -> Iterator[Snapshot]:
    return (one for name in store.names() for one in store.history(name))


def _names(store: SnapshotStore, snapshot: Snapshot, file: str, user_key: str, trace_ids: frozenset[str]) -> bool:
    if file.endswith(".parquet"):
        frame = _columns(store.read(snapshot, file))
        named = _USER_COLUMN in frame.columns and bool((frame[_USER_COLUMN] == user_key).any())
        ids = [frame[name] for name in _TRACE_COLUMNS if name in frame.columns]
        ids += [frame[name].explode() for name in _TRACE_LISTS if name in frame.columns]
        return named or any(bool(column.is_in(sorted(trace_ids)).any()) for column in ids)
    if file.endswith(".json"):
        words = {word.decode() for word in _WORD.findall(store.read(snapshot, file))}
        return user_key in words or not trace_ids.isdisjoint(words)
    return False


def _columns(content: bytes) -> pl.DataFrame:
    present = pl.read_parquet_schema(content)
    wanted = [name for name in (_USER_COLUMN, *_TRACE_COLUMNS, *_TRACE_LISTS) if name in present]
    return pl.read_parquet(content, columns=wanted)
