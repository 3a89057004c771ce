"""What a dataset version was built from: recorded while it is built, and held still when it is built again.

Snapshots are never changed, only followed by others. A build that reads through `RecordingStore` leaves a complete list
of what it read, by digest, and nobody has to remember to add to it. A rebuild reads through `PinnedStore`, for which
time stands still: the latest snapshot of everything is the one that was the latest then.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping

from mangaassist_assets.core.snapshots import Origin, Snapshot, SnapshotMissingError, SnapshotStore

_CONTENT_DIGITS = 12
_INPUT = re.compile(r"(?P<name>[^/@]+)(?:/(?P<partition>[^/@]+))?(?:@(?P<content>[0-9a-f]+))?")


class InputGoneError(LookupError):
    """A snapshot that a version was built from is not in the store any more, or is not what it was."""


class RecordingStore(SnapshotStore):
    """A snapshot store, pinned or not, that remembers what was read through it."""

    def __init__(self, store: SnapshotStore) -> None:
        super().__init__(store.root)
        self._store = store
        self._latest: dict[tuple[str, str | None], str] = {}
        self._earlier: set[tuple[str, str | None, str]] = set()
        self._read: dict[str, str] = {}

    def find(self, name: str, *, partition: str | None = None) -> Snapshot | None:
        """Return the latest snapshot, or None if there never was one."""
        snapshot = self._store.find(name, partition=partition)
        if snapshot is not None:
            self._latest[name, partition] = snapshot.digest
        return snapshot

    def latest(self, name: str, *, partition: str | None = None) -> Snapshot:
        """Return the latest snapshot.

        Raises:
            SnapshotMissingError: nothing was written for this name and partition.
        """
        snapshot = self._store.latest(name, partition=partition)
        self._latest[name, partition] = snapshot.digest
        return snapshot

    def partitions(self, name: str) -> Iterator[str]:
        """Yield the partitions of `name` that have a snapshot, sorted."""
        return self._store.partitions(name)

    def history(self, name: str) -> Iterator[Snapshot]:
        """Yield every stored snapshot of `name`."""
        for snapshot in self._store.history(name):
            self._earlier.add((name, snapshot.partition, snapshot.digest))
            yield snapshot

    def read(self, snapshot: Snapshot, file: str) -> bytes:
        """Return the content of one file, and remember that it was read."""
        data = self._store.read(snapshot, file)
        place = (snapshot.name, snapshot.partition)
        if self._latest.get(place) == snapshot.digest:
            self._read[_input_name(*place)] = snapshot.digest
        # A card of an earlier version only decides whether its rows matter; the rows are what was built from.
        if (*place, snapshot.digest) in self._earlier and file.endswith(".parquet"):
            content = hashlib.sha256(data).hexdigest()[:_CONTENT_DIGITS]
            name = f"{_input_name(*place)}@{content}"
            self._read[name] = min(snapshot.digest, self._read.get(name, snapshot.digest))
        return data

    def inputs(self, *, bundles: Collection[str] | None = None, own_rows: bytes | None = None) -> dict[str, str]:
        """Return what was read: `asset/partition` -> digest; `asset/partition@rows` for what `history` gave.

        Args:
            bundles: the partitions whose latest snapshots count; those that were only looked at to find out that they
                do not are left out. All by default. Earlier snapshots count whatever bundle they are of.
            own_rows: Parquet of the version that was built. Earlier snapshots with the very same rows are no inputs of
                it: a version that is materialized again must not become another one by having been there before.
        """
        own = "" if own_rows is None else hashlib.sha256(own_rows).hexdigest()[:_CONTENT_DIGITS]
        found: dict[str, str] = {}
        for name, digest in sorted(self._read.items()):
            _, partition, content = _parsed(name)
            counts = content is not None or partition is None or bundles is None or partition in bundles
            if counts and not (own and content == own):
                found[name] = digest
        return found


class PinnedStore(SnapshotStore):
    """A snapshot store that knows the recorded inputs of one version and nothing else; it cannot be written to."""

    def __init__(self, store: SnapshotStore, inputs: Mapping[str, str]) -> None:
        """Find the recorded snapshots.

        Raises:
            InputGoneError: names every one that is gone or damaged.
        """
        super().__init__(store.root)
        self._latest: dict[tuple[str, str | None], Snapshot] = {}
        self._earlier: list[Snapshot] = []
        gone: list[str] = []
        for entry, digest in sorted(inputs.items()):
            name, partition, content = _parsed(entry)
            snapshot = store.find_digest(name, partition=partition, digest=digest)
            if snapshot is None or store.defects(snapshot):
                gone.append(f"{entry} ({digest[:12]}…)")
            elif content is None:
                self._latest[name, partition] = snapshot
            else:
                self._earlier.append(snapshot)
        if gone:
            raise InputGoneError(
                f"{len(gone)} of {len(inputs)} recorded inputs are gone or damaged: {', '.join(gone)}; restore those "
                "snapshots, or materialize the dataset anew, which makes another version"
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
                f"{_input_name(name, partition)} is none of the recorded inputs: the code that builds the dataset "
                "reads more than it did then; rebuild with the release of this repository that built it"
            )
        return snapshot

    def history(self, name: str) -> Iterator[Snapshot]:
        """Yield the earlier snapshots of `name` that the build looked at."""
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
        msg = f"a rebuild writes nothing, and wanted to write {sorted(files)} as {_input_name(name, partition)}"
        raise PermissionError(msg)


def _input_name(name: str, partition: str | None) -> str:
    return name if partition is None else f"{name}/{partition}"


def _parsed(entry: str) -> tuple[str, str | None, str | None]:
    found = _INPUT.fullmatch(entry)
    if found is None:
        raise ValueError(f"{entry!r} names no input: expected asset, asset/partition or asset/partition@rows")
    return found["name"], found["partition"], found["content"]
