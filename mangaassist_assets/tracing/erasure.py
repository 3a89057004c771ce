"""Erasing a user: what is recorded of the request, what is removed, and what must be made again without the user.

The request is recorded first, so what arrives of the user later is dropped wherever feedback and traces are ingested.
Then it is noted what the user's data is known by, every store is searched for it and purged, and the user's traces,
which all else was found by, go last. In the end every store is read again: only when none answers is there a report.
All of it may be killed and run again. Only pseudonyms are kept and said here, never a user id.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl

from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.core.files import write_whole
from mangaassist_assets.core.snapshots import SnapshotStore, canonical_json
from mangaassist_assets.privacy import is_pseudonym
from mangaassist_assets.tracing.person_marks import PersonMarks
from mangaassist_assets.tracing.purging import (
    HoldingSnapshot,
    holding_records,
    loose_files_holding,
    snapshots_holding,
    take_out,
)

if TYPE_CHECKING:
    from upath import UPath

    from mangaassist_assets.tracing.feedback.ingestion import FeedbackIngestion

_FOLDER = "erasures"
_UNFINISHED = "erasures-unfinished"
_SUFFIX = ".json"
_USER_COLUMN = "user_key"
_SAID = ("message", "answer")


class InvalidUserKeyError(OperatorError, ValueError):
    """A key that no user can have."""


class ErasureIncompleteError(OperatorError, RuntimeError):
    """Something still answers to an erased user; names what. Running the erasure again goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundTraces:
    """Traces of a user with what was said in each, and `others`: traces that name somebody else and not the user."""

    own: Mapping[str, frozenset[str]]
    others: frozenset[str] = frozenset()


class UserTraces(Protocol):
    """The tracking server's side of an erasure."""

    def find(self, user_key: str) -> FoundTraces:
        """Return the traces of a user, by whatever name they call the user."""

    def existing(self, trace_ids: Collection[str]) -> frozenset[str]:
        """Return those of the traces that exist."""

    def delete(self, trace_ids: Collection[str]) -> int:
        """Delete traces, and what people said of them; returns how many there were."""


class UserRows(Protocol):
    """A table whose rows name their trace, and their user where known: `trace_id` and `user_key`."""

    def erase(self, column: str, values: Collection[str]) -> int:
        """Remove the rows with one of the values for good; returns how many there were."""


class TurnRows(Protocol):
    """Ingested turns, with `trace_id`, `user_key`, `message` and `answer`."""

    def rows(self) -> pl.LazyFrame:
        """Return all rows."""


class PersonalStore(Protocol):
    """Any other place that may hold a user's data: vectors, scratch, files of runs."""

    @property
    def name(self) -> str:
        """What reports call it."""

    def erase(self, marks: PersonMarks) -> int:
        """Remove what is of the user; returns how many things went."""

    def holds(self, marks: PersonMarks) -> bool:
        """Return whether anything of the user is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureReport:
    """What an erasure did. `rows_removed` counts by table; `requested_at` is the time of the first request.

    `snapshots` were purged; `materialize_again` are the assets, with their partitions, that have none any more.
    `removed` counts by other store. `verified` names what was read again and did not answer.
    """

    user_key: str
    requested_at: str
    events_removed: int
    rows_removed: Mapping[str, int]
    traces_deleted: int
    snapshots: tuple[HoldingSnapshot, ...]
    materialize_again: tuple[tuple[str, str | None], ...] = ()
    removed: Mapping[str, int]
    verified: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class UnfinishedErasure:
    """What an erasure has to know to the end, kept until then: a killed one goes on with it."""

    path: UPath

    @classmethod
    def of(cls, store: SnapshotStore, user_key: str) -> UnfinishedErasure:
        """Name that of a user; nothing is touched."""
        return cls(store.root / _UNFINISHED / f"{user_key}{_SUFFIX}")

    def known(self, name: str) -> list[Any]:
        """Return what was noted under a name."""
        return list(self._read().get(name, []))

    def note(self, name: str, values: Collection[Any]) -> list[Any]:
        """Add to what was noted under a name; returns all of it, each value once."""
        noted = self._read()
        every = {canonical_json(one): one for one in [*noted.get(name, []), *values]}
        together = [every[one] for one in sorted(every)]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, canonical_json({**noted, name: together}))
        return json.loads(canonical_json(together))  # type: ignore[no-any-return]

    def forget(self) -> None:
        """Forget all of it: the erasure is whole."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        return json.loads(self.path.read_bytes()) if self.path.exists() else {}


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


def find_marks(
    user_key: str,
    *,
    store: SnapshotStore,
    feedback: FeedbackIngestion,
    traces: UserTraces,
    turns: TurnRows | None = None,
) -> PersonMarks:
    """Return what a user's data is known by, and note it until the erasure is whole.

    A trace that only feedback or a snapshot connects with the user counts unless it names somebody else.
    """
    unfinished = UnfinishedErasure.of(store, user_key)
    found = traces.find(user_key)
    ingested = None if turns is None else turns.rows().select("trace_id", _USER_COLUMN, *_SAID)
    connected = set(feedback.trace_ids_of([user_key])) | trace_ids_in_snapshots(store, user_key)
    if ingested is not None:
        mine = ingested.filter(pl.col(_USER_COLUMN) == user_key).select("trace_id").collect()
        connected |= set(mine["trace_id"].to_list())
    trace_ids = unfinished.note("trace_ids", found.own.keys() | (connected - found.others - {None}))
    said = set().union(*found.own.values())
    if ingested is not None:
        own = pl.col("trace_id").is_in(trace_ids)
        said |= _texts_of(ingested.filter(own))
        # What others said as well is not the user's.
        shared = pl.any_horizontal(pl.col(_SAID).is_in(sorted(said)))
        said -= _texts_of(ingested.filter(~own & shared.fill_null(value=False)))
    return PersonMarks(user_key, frozenset(trace_ids), frozenset(unfinished.note("texts", said)))


def erase_user(
    marks: PersonMarks,
    *,
    requested_at: str,
    store: SnapshotStore,
    feedback: FeedbackIngestion,
    traces: UserTraces,
    tables: Mapping[str, UserRows] | None = None,
    others: Sequence[PersonalStore] = (),
) -> ErasureReport:
    """Erase a user, as far as that is not done yet, and read every store again.

    Args:
        marks: What the user's data is known by: see `find_marks`.
        requested_at: ISO 8601 in UTC; the store keeps that of the first request.
        store: The snapshots; those with the user's data are purged.
        feedback: Ingested feedback.
        traces: The user's traces; deleted last, since they tell what else is the user's.
        tables: Other tables by name.
        others: Other places.

    Raises:
        InvalidUserKeyError: the key is no pseudonym.
        ErasureIncompleteError: something still answers to the user.
    """
    user_key = marks.user_key
    first = record_erasure(store, user_key, requested_at=requested_at)
    unfinished = UnfinishedErasure.of(store, user_key)
    records = holding_records(store, marks)
    unfinished.note("snapshots", [asdict(holding) for holding, _ in records])
    take_out(store, records, marks)
    events_removed = feedback.erase(user_keys=[user_key], trace_ids=marks.trace_ids)
    rows_removed = {name: _erase_rows(table, marks) for name, table in (tables or {}).items()}
    removed = {one.name: one.erase(marks) for one in others}
    traces_deleted = traces.delete(marks.trace_ids)
    verified = _verify(marks, store=store, feedback=feedback, traces=traces, tables=tables or {}, others=others)
    noted = (HoldingSnapshot(**{**one, "files": tuple(one["files"])}) for one in unfinished.known("snapshots"))
    purged = sorted(noted, key=lambda one: (one.name, one.partition or "", not one.latest, one.digest))
    again = {(one.name, one.partition) for one in purged if one.latest}
    return ErasureReport(
        user_key=user_key,
        requested_at=first,
        events_removed=events_removed,
        rows_removed=rows_removed,
        traces_deleted=traces_deleted,
        snapshots=tuple(purged),
        materialize_again=tuple(
            (name, partition)
            for name, partition in sorted(again, key=lambda one: (one[0], one[1] or ""))
            if store.find(name, partition=partition) is None
        ),
        removed=removed,
        verified=verified,
    )


def trace_ids_in_snapshots(store: SnapshotStore, user_key: str) -> frozenset[str]:
    """Return the traces of a user as snapshots know them: where traces are kept for weeks only, nothing else may."""
    found: set[str] = set()
    for name in store.names():
        for one in store.history(name):
            for file in one.files:
                if file.endswith(".parquet"):
                    found |= _traces_in(store.path(one, file), user_key)
    return frozenset(found)


def _traces_in(path: UPath, user_key: str) -> set[str]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return set()
    present = pl.read_parquet_schema(content)
    columns = [name for name in ("trace_id", "source_trace_id") if name in present]
    if _USER_COLUMN not in present or not columns:
        return set()
    own = pl.read_parquet(content, columns=[_USER_COLUMN, *columns]).filter(pl.col(_USER_COLUMN) == user_key)
    return {trace for name in columns for trace in own[name].drop_nulls().to_list()}


def _texts_of(rows: pl.LazyFrame) -> set[str]:
    frame = rows.select(_SAID).collect()
    return {text for name in _SAID for text in frame[name].drop_nulls().to_list() if text}


def _erase_rows(table: UserRows, marks: PersonMarks) -> int:
    removed = table.erase(_USER_COLUMN, [marks.user_key])
    return removed + (table.erase("trace_id", marks.trace_ids) if marks.trace_ids else 0)


def _verify(
    marks: PersonMarks,
    *,
    store: SnapshotStore,
    feedback: FeedbackIngestion,
    traces: UserTraces,
    tables: Mapping[str, UserRows],
    others: Sequence[PersonalStore],
) -> tuple[str, ...]:
    """Read every store again, and return what was read.

    Of tables that is erasing once more: what it counts is what still was there.
    """
    holding = [f"{one.name}/{one.partition or '_all'}" for one in snapshots_holding(store, marks)]
    answers = {
        "snapshots": ", ".join(sorted(set(holding))) or loose_files_holding(store, marks),
        "feedback": feedback.erase(user_keys=[marks.user_key], trace_ids=marks.trace_ids),
        **{name: _erase_rows(table, marks) for name, table in tables.items()},
        **{one.name: one.holds(marks) for one in others},
        "MLflow traces": len(traces.find(marks.user_key).own.keys() | traces.existing(marks.trace_ids)),
    }
    if still := [name if answer is True else f"{name} ({answer})" for name, answer in answers.items() if answer]:
        raise ErasureIncompleteError(
            f"{', '.join(still)} still answered to the user after everything was removed: something was written "
            "meanwhile. Run the erasure again, when no run is going on"
        )
    return tuple(answers)
