"""What a step may read, what it read, and the store as the step sees it.

An asset declares its inputs once, as `Input`s. Each says which assets it is read from and how, so that the declaration
gives Dagster's dependency, its partition mapping and the reader. `StepStore` lets nothing else through, and writes what
was read into the record of the step's output. `PinnedStore` is the past: it holds what one record names and no more.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic, Literal, TypeVar

from mangaassist_assets.core.bundles import bundles_until
from mangaassist_assets.core.snapshots import (
    Origin,
    Snapshot,
    SnapshotMissingError,
    SnapshotStore,
    input_name,
)

Bundles = Literal["none", "same", "until", "all"]
"""Partitions of an input: it has none; the step's own bundle; that one and those that began before it; all."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_CONTENT_DIGITS = 12
_INPUT = re.compile(r"(?P<name>[^/@]+)(?:/(?P<partition>[^/@]+))?(?:@(?P<content>[0-9a-f]+))?")


class UndeclaredReadError(RuntimeError):
    """A step reads what its asset does not declare."""


class UndeclaredWriteError(RuntimeError):
    """A step writes what is not its asset's."""


class InputGoneError(LookupError):
    """A snapshot that an output was made of is not in the store any more, or is not what it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """One asset that is read.

    Attributes:
        asset: Its name.
        bundles: Which of its partitions.
        through: The system through which its data arrive, such as MLflow: of the asset itself nothing is read, its
            digest goes into the record all the same.
        own: It is the reader itself, as it was before. Dagster knows no such dependency.
        ledger: A list that is only ever added to, by the reader too; no asset. It is read as it is now.
    """

    asset: str
    bundles: Bundles = "none"
    through: str | None = None
    own: bool = False
    ledger: bool = False


@dataclass(frozen=True, slots=True)
class Input(Generic[T_co]):
    """What a step reads: from which assets, and by which function, given the store and the step's bundle."""

    reads: tuple[Read, ...]
    load: Callable[[SnapshotStore, str], T_co]


def merged_reads(inputs: Iterable[Input[Any] | Read]) -> tuple[Read, ...]:
    """Return all reads of some inputs, one an asset: the widest choice of partitions, data rather than a digest."""
    widest: dict[str, Read] = {}
    order: tuple[Bundles, ...] = ("none", "same", "until", "all")
    for one in (read for given in inputs for read in (given.reads if isinstance(given, Input) else (given,))):
        known = widest.get(one.asset)
        if known is None:
            widest[one.asset] = one
        else:
            widest[one.asset] = Read(
                asset=one.asset,
                bundles=max(known.bundles, one.bundles, key=order.index),
                through=known.through if one.through is not None else None,
                own=known.own,
                ledger=known.ledger,
            )
    return tuple(widest[name] for name in sorted(widest))


def reads_to_json(reads: Iterable[Read]) -> list[dict[str, Any]]:
    """Return declared reads as plain values, for the metadata of a definition."""
    return [asdict(one) for one in reads]


def reads_from_json(rows: Iterable[Mapping[str, Any]]) -> tuple[Read, ...]:
    """Return the declared reads that a definition's metadata hold."""
    return tuple(Read(**row) for row in rows)


class StepStore(SnapshotStore):
    """The store as one step sees it: its declared inputs, a place for its output, and nothing else.

    What is read is noted by digest and goes into the record of what is written.
    """

    def __init__(
        self,
        store: SnapshotStore,
        reads: Collection[Read],
        *,
        output: str,
        bundle: str | None,
        origin: Origin | None = None,
    ) -> None:
        """Take a store, pinned or not, and what the step declares.

        Args:
            store: Where everything is.
            reads: The declared inputs.
            output: The asset, or the check, that the step makes.
            bundle: Its release bundle, None if it has no partitions.
            origin: What else the record of the output is to say; its inputs are filled in.
        """
        super().__init__(store.root)
        self._store = store
        self._reads = {one.asset: one for one in reads}
        self._output = output
        self._bundle = bundle
        self._origin = origin or Origin()
        self._latest: dict[tuple[str, str | None], str] = {}
        self._earlier: set[tuple[str, str | None, str]] = set()
        self._read: dict[str, str] = {}
        self._until: frozenset[str] | None = None
        for one in self._reads.values():
            if one.through is not None:
                self._note(one)

    def load(self, declared: Input[T]) -> T:
        """Return the value of a declared input.

        Raises:
            UndeclaredReadError: The asset does not declare it, or its reader reads more than it says.
        """
        for one in declared.reads:
            self._allowed(one.asset)
        return declared.load(self, self._bundle or "")

    def find(self, name: str, *, partition: str | None = None) -> Snapshot | None:
        """Return the latest snapshot of a declared input, or None if there is none."""
        self._allow(name, partition)
        snapshot = self._store.find(name, partition=partition)
        if snapshot is not None:
            self._latest[name, partition] = snapshot.digest
        return snapshot

    def latest(self, name: str, *, partition: str | None = None) -> Snapshot:
        """Return the latest snapshot of a declared input.

        Raises:
            SnapshotMissingError: nothing was written for this name and partition.
        """
        self._allow(name, partition)
        snapshot = self._store.latest(name, partition=partition)
        self._latest[name, partition] = snapshot.digest
        return snapshot

    def partitions(self, name: str) -> Iterator[str]:
        """Yield the declared partitions of `name` that have a snapshot, sorted."""
        allowed = self._allowed(name)
        yield from (one for one in self._store.partitions(name) if self._includes(allowed, one))

    def history(self, name: str) -> Iterator[Snapshot]:
        """Yield every snapshot of the declared partitions of `name`."""
        allowed = self._allowed(name)
        for snapshot in self._store.history(name):
            if self._includes(allowed, snapshot.partition):
                self._earlier.add((name, snapshot.partition, snapshot.digest))
                yield snapshot

    def records(self, name: str, *, partition: str | None = None) -> Iterator[Snapshot]:
        """Yield the records of a declared input; nothing of their content counts as read."""
        self._allow(name, partition)
        return self._store.records(name, partition=partition)

    def read(self, snapshot: Snapshot, file: str) -> bytes:
        """Return the content of one file, and note that it was read."""
        self._allow(snapshot.name, snapshot.partition)
        data = self._store.read(snapshot, file)
        place = (snapshot.name, snapshot.partition)
        if self._latest.get(place) == snapshot.digest:
            self._read[input_name(*place)] = snapshot.digest
        # A card of an earlier version only decides whether its rows matter; the rows are what was built from.
        if (*place, snapshot.digest) in self._earlier and file.endswith(".parquet"):
            content = hashlib.sha256(data).hexdigest()[:_CONTENT_DIGITS]
            name = f"{input_name(*place)}@{content}"
            self._read[name] = min(snapshot.digest, self._read.get(name, snapshot.digest))
        return data

    def inputs(self, *, own_rows: bytes | None = None) -> dict[str, str]:
        """Return what was read: `asset/partition` -> digest; `asset/partition@rows` for what `history` gave.

        Args:
            own_rows: Parquet of the version that was built. Earlier snapshots with the very same rows are no inputs of
                it: a version that is materialized again must not become another one by having been there before.
        """
        own = "" if own_rows is None else hashlib.sha256(own_rows).hexdigest()[:_CONTENT_DIGITS]
        ledgers = {name for name, one in self._reads.items() if one.ledger}
        return {
            name: digest
            for name, digest in sorted(self._read.items())
            if (parsed := _parsed(name))[0] not in ledgers and not (own and parsed[2] == own)
        }

    def keep(self, files: Mapping[str, bytes], *, own_rows: bytes | None = None) -> Snapshot:
        """Store the step's output: one commit with its record."""
        origin = replace(self._origin, inputs=self.inputs(own_rows=own_rows))
        return self._store.write(self._output, files, partition=self._bundle, origin=origin)

    def write(
        self, name: str, files: Mapping[str, bytes], *, partition: str | None = None, origin: Origin | None = None
    ) -> Snapshot:
        """Store the step's output, or add to a declared ledger.

        Raises:
            UndeclaredWriteError: It is neither.
        """
        declared = self._reads.get(name)
        if declared is not None and declared.ledger:
            return self._store.write(name, files, partition=partition, origin=origin)
        if (name, partition) != (self._output, self._bundle):
            mine = input_name(self._output, self._bundle)
            raise UndeclaredWriteError(f"{mine} writes {input_name(name, partition)}, which is not its own")
        return self.keep(files)

    def recorded(self, file: str) -> bytes | None:  # noqa: ARG002 - what a rebuild answers
        """Return a file of the version that is being rebuilt; None in every other step, which makes one anew.

        For what was asked of outside systems and lies beside the output: a rebuild reads the answers of then.
        """
        return None

    def _allowed(self, name: str) -> Read:
        declared = self._reads.get(name)
        if declared is None:
            names = ", ".join(sorted(self._reads)) or "nothing"
            raise UndeclaredReadError(f"{self._output} reads {name}, but declares {names}")
        if declared.through is not None:
            raise UndeclaredReadError(
                f"{self._output} reads {name}, but declares to know it through {declared.through}"
            )
        return declared

    def _allow(self, name: str, partition: str | None) -> None:
        if not self._includes(self._allowed(name), partition):
            raise UndeclaredReadError(
                f"{input_name(self._output, self._bundle)} reads {input_name(name, partition)}, but declares "
                f"{self._reads[name].bundles!r} of its bundles"
            )

    def _includes(self, declared: Read, partition: str | None) -> bool:
        match declared.bundles:
            case "none":
                return partition is None
            case "same":
                return partition == self._bundle
            case "until":
                if self._until is None:
                    self._until = frozenset(bundles_until(self._store, self._bundle or ""))
                return partition == self._bundle or partition in self._until
            case "all":
                return True

    def _note(self, one: Read) -> None:
        partitions = [None] if one.bundles == "none" else list(self._store.partitions(one.asset))
        for partition in partitions:
            if self._includes(one, partition) and (found := self._store.find(one.asset, partition=partition)):
                self._read[input_name(one.asset, partition)] = found.digest


class PinnedStore(SnapshotStore):
    """A snapshot store that knows the recorded inputs of one output and nothing else; it cannot be written to."""

    def __init__(self, store: SnapshotStore, inputs: Mapping[str, str]) -> None:
        """Find the recorded snapshots.

        Raises:
            InputGoneError: names every one that is gone, damaged or purged.
        """
        super().__init__(store.root)
        self._latest: dict[tuple[str, str | None], Snapshot] = {}
        self._earlier: list[Snapshot] = []
        gone: list[str] = []
        for entry, digest in sorted(inputs.items()):
            name, partition, content = _parsed(entry)
            snapshot = store.find_digest(name, partition=partition, digest=digest)
            if snapshot is None or snapshot.purged or store.defects(snapshot):
                purged = f", purged: {snapshot.purged}" if snapshot is not None and snapshot.purged else ""
                gone.append(f"{entry} ({digest[:12]}…{purged})")
            elif content is None:
                self._latest[name, partition] = snapshot
            else:
                self._earlier.append(snapshot)
        if gone:
            raise InputGoneError(
                f"{len(gone)} of {len(inputs)} recorded inputs are gone or damaged: {', '.join(gone)}; restore those "
                "snapshots, or materialize the asset anew, which makes another version"
            )

    def find(self, name: str, *, partition: str | None = None) -> Snapshot | None:
        """Return the snapshot that was the latest then, or None if there was none."""
        return self._latest.get((name, partition))

    def latest(self, name: str, *, partition: str | None = None) -> Snapshot:
        """Return the snapshot that was the latest then.

        Raises:
            SnapshotMissingError: it is not among the recorded inputs.
        """
        snapshot = self.find(name, partition=partition)
        if snapshot is None:
            raise SnapshotMissingError(
                f"{input_name(name, partition)} is none of the recorded inputs: the code that makes this reads more "
                "than it did then; rebuild with the release of this repository that made it"
            )
        return snapshot

    def history(self, name: str) -> Iterator[Snapshot]:
        """Yield the earlier snapshots of `name` that were read then."""
        yield from (one for one in self._earlier if one.name == name)

    def partitions(self, name: str) -> Iterator[str]:
        """Yield the recorded partitions of `name`, sorted."""
        yield from sorted(partition for (one, partition) in self._latest if one == name and partition is not None)

    def write(
        self, name: str, files: Mapping[str, bytes], *, partition: str | None = None, origin: Origin | None = None
    ) -> Snapshot:
        """Refuse.

        Raises:
            PermissionError: always.
        """
        del origin
        msg = f"a rebuild writes nothing, and wanted to write {sorted(files)} as {input_name(name, partition)}"
        raise PermissionError(msg)


def _parsed(entry: str) -> tuple[str, str | None, str | None]:
    found = _INPUT.fullmatch(entry)
    if found is None:
        raise ValueError(f"{entry!r} names no input: expected asset, asset/partition or asset/partition@rows")
    return found["name"], found["partition"], found["content"]
