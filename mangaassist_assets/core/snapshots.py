"""Snapshots: content-addressed sets of files under one root, a directory or a bucket, each with its provenance.

What belongs here is how bytes come to rest and are found again. What the bytes mean belongs to the domain packages.

    blobs/3f/3f9a61…                      a file, named by its SHA-256 and shared by all snapshots that hold it
    snapshots/ASSET/PARTITION/00000007.json   the record of a snapshot: its files, and what it was made of and by

Files are written first and the record last, in one piece and under the next free number: the record is the commit. The
record of the highest number is the latest snapshot. A killed writer leaves the previous one in place, and two writers
at once get a number each.

A collection of what nobody needs (`core.retention`) may run beside writers. A file that is used again is made young
again, and young files are not collected; and a writer looks once more, after its record, whether all files are there.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.core.files import DamagedFileError, create_whole, read_json, write_whole
from mangaassist_assets.core.old_snapshots import OLD_POINTER, old_snapshots, remove_old_snapshots

if TYPE_CHECKING:
    from upath import UPath

_SCHEMA = 2
RECORDS_FOLDER = "snapshots"
BLOBS_FOLDER = "blobs"
_SAFE_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}")
_RECORD = re.compile(r"(\d{8})\.json")
_UNPARTITIONED = "_all"
_RENEWED_AFTER = timedelta(hours=1)


class SnapshotMissingError(OperatorError, LookupError):
    """No snapshot of this asset and partition exists, or what existed was purged."""


class SnapshotDamagedError(OperatorError, RuntimeError):
    """A stored file is not what its snapshot says, or is gone."""


class UnsafeNameError(ValueError):
    """A name that could leave its folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a snapshot was made of, and by: its provenance.

    `inputs` is what was read, `asset` or `asset/partition` (`…@rows` for an earlier version's rows) to digest;
    `settings` the configuration of the step; `code_version` and `run_id` are Dagster's.
    """

    inputs: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    code_version: str | None = None
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One stored snapshot: its record. `digest` is the SHA-256 over the names and hashes of its files.

    `uri` is where the record lies, `number` its place among those of the same asset and partition, `purged` why its
    files were taken away, if they were.
    """

    name: str
    partition: str | None
    digest: str
    uri: str
    files: Mapping[str, str]
    number: int = 0
    origin: Origin = field(default_factory=Origin)
    committed_at: str = ""
    purged: str | None = None


def content_digest(files: Mapping[str, bytes]) -> str:
    """Return the SHA-256 over sorted file names and the SHA-256 of their content."""
    return _digest_of_hashes({name: hashlib.sha256(data).hexdigest() for name, data in files.items()})


def canonical_json(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Return one byte form for one JSON value or dataclass: sorted keys, no spaces, UTF-8, no NaN.

    `codecs.from_json` reads dataclasses back.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_fields
    ).encode()


def _fields(value: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever JSON does not know
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} is neither a JSON value nor a dataclass")


def _digest_of_hashes(hashes: Mapping[str, str]) -> str:
    return hashlib.sha256(canonical_json(dict(hashes))).hexdigest()


def safe_name(name: str) -> str:
    """Return a name unchanged.

    Raises:
        UnsafeNameError: It could leave its folder.
    """
    if not _SAFE_NAME.fullmatch(name) or ".." in name:
        msg = f"{name!r} is no safe name: letters, digits, '.', '_' and '-' only, at most 128, no '..'"
        raise UnsafeNameError(msg)
    return name


def input_name(name: str, partition: str | None) -> str:
    """Return how a provenance record calls a snapshot's place: `asset` or `asset/partition`."""
    return name if partition is None else f"{name}/{partition}"


class SnapshotStore:
    """Snapshots under `root`, any fsspec URL that universal-pathlib understands."""

    def __init__(self, root: UPath) -> None:
        self._root = root

    @property
    def root(self) -> UPath:
        """The folder or bucket prefix that holds everything."""
        return self._root

    def write(
        self, name: str, files: Mapping[str, bytes], *, partition: str | None = None, origin: Origin | None = None
    ) -> Snapshot:
        """Store `files` (file name → content) and make them the latest snapshot of `name` and `partition`.

        What is the latest already, of the same content and origin, is not written again.
        """
        hashes = {safe_name(file): hashlib.sha256(data).hexdigest() for file, data in files.items()}
        for file, data in files.items():
            self._keep_blob(hashes[file], data)
        committed = self._commit(name, partition, hashes, origin or Origin())
        for file, data in files.items():
            # A collection may have taken it away before the record named it; from now on none does.
            if not self.blob_path(hashes[file]).exists():
                self._keep_blob(hashes[file], data)
        return committed

    def find(self, name: str, *, partition: str | None = None) -> Snapshot | None:
        """Return the latest snapshot, or None if there is none."""
        found = next(self.records(name, partition=partition), None)
        return None if found is None or found.purged else found

    def latest(self, name: str, *, partition: str | None = None) -> Snapshot:
        """Return the latest snapshot.

        Raises:
            SnapshotMissingError: nothing was written for this name and partition, or the newest was purged.
        """
        snapshot = next(self.records(name, partition=partition), None)
        of_partition = "" if partition is None else f" for partition {partition!r}"
        if snapshot is None:
            msg = f"no snapshot of {name!r}{of_partition}: materialize that asset first"
            raise SnapshotMissingError(msg)
        if snapshot.purged:
            msg = f"{name!r}{of_partition} was purged ({snapshot.purged}): materialize that asset again"
            raise SnapshotMissingError(msg)
        return snapshot

    def read(self, snapshot: Snapshot, file: str) -> bytes:
        """Return the content of one file of a snapshot, checked against its hash.

        Raises:
            SnapshotDamagedError: the file changed after it was written, or is gone.
            KeyError: the snapshot has no such file.
        """
        expected = snapshot.files[file]
        path = self.path(snapshot, file)
        try:
            data: bytes = path.read_bytes()
        except FileNotFoundError as error:
            why = f"was purged ({snapshot.purged})" if snapshot.purged else "is gone"
            msg = f"{file} of {_described(snapshot)} {why}: materialize {snapshot.name!r} again"
            raise SnapshotDamagedError(msg) from error
        if hashlib.sha256(data).hexdigest() != expected:
            msg = (
                f"{file} of {_described(snapshot)} does not match its recorded SHA-256 {expected[:12]}…: materialize "
                f"{snapshot.name!r} again"
            )
            raise SnapshotDamagedError(msg)
        return data

    def read_json(self, snapshot: Snapshot, file: str) -> Any:  # noqa: ANN401 - any JSON value
        """Return one JSON file of a snapshot, checked against its hash."""
        return json.loads(self.read(snapshot, file))

    def path(self, snapshot: Snapshot, file: str) -> UPath:
        """Return where one file of a snapshot lies."""
        return self.blob_path(snapshot.files[file])

    def blob_path(self, sha256: str) -> UPath:
        """Return where content of a SHA-256 lies, if it is there."""
        return self._root / BLOBS_FOLDER / sha256[:2] / sha256

    def records(self, name: str, *, partition: str | None = None) -> Iterator[Snapshot]:
        """Yield all snapshots of an asset and partition, the newest first, purged ones included."""
        folder = self._folder(name, partition)
        for number in reversed(self._numbers(name, partition)):
            path = folder / _record_file(number)
            mend = (
                f"Restore it from a backup, or delete it and materialize {input_name(name, partition)} again: the "
                "snapshot before it is the latest then."
            )
            record = read_json(path, what="the record of a snapshot", mend=mend)
            try:
                yield _parsed(name, partition, path, number, record)
            except (KeyError, TypeError) as error:
                raise DamagedFileError(f"{path}, the record of a snapshot, lacks {error}. {mend}") from error

    def everything(self) -> Iterator[Snapshot]:
        """Yield the record of every snapshot of every asset and partition, the newest of each first."""
        for name in self.names():
            for partition in self.places(name):
                yield from self.records(name, partition=partition)

    def history(self, name: str) -> Iterator[Snapshot]:
        """Yield every distinct snapshot of `name` that still has its files, by partition, the oldest first.

        Records are read, not files. Of several with the same content the newest counts.
        """
        for partition in self.places(name):
            distinct: dict[str, Snapshot] = {}
            for one in self.records(name, partition=partition):
                if not one.purged:
                    distinct.setdefault(one.digest, one)
            yield from sorted(distinct.values(), key=lambda one: one.number)

    def newest_number(self, name: str, *, partition: str | None = None) -> int:
        """Return the number of the newest snapshot; 0 where there never was one."""
        return max(self._numbers(name, partition), default=0)

    def find_digest(self, name: str, *, partition: str | None, digest: str) -> Snapshot | None:
        """Return the newest snapshot of a digest, the latest or an older one, purged or not; None without a record."""
        found = (one for one in self.records(name, partition=partition) if one.digest == digest)
        return next(found, None)

    def defects(self, snapshot: Snapshot) -> list[str]:
        """Return the files of a snapshot that are gone or not what they were, read byte for byte."""
        found: list[str] = []
        for file in sorted(snapshot.files):
            try:
                self.read(snapshot, file)
            except SnapshotDamagedError:
                found.append(file)
        return found

    def names(self) -> Iterator[str]:
        """Yield the names that something was ever stored under, sorted."""
        yield from (name for name in self._listed(self._root / RECORDS_FOLDER) if _SAFE_NAME.fullmatch(name))

    def partitions(self, name: str) -> Iterator[str]:
        """Yield the partitions of `name` that have a snapshot, sorted."""
        for partition in self.places(name):
            if partition is not None and self.find(name, partition=partition) is not None:
                yield partition

    def places(self, name: str) -> Iterator[str | None]:
        """Yield the partitions that something of `name` was ever stored under, None for no partition, sorted."""
        for child in self._listed(self._root / RECORDS_FOLDER / safe_name(name)):
            yield None if child == _UNPARTITIONED else child

    def _folder(self, name: str, partition: str | None) -> UPath:
        place = _UNPARTITIONED if partition is None else safe_name(partition)
        return self._root / RECORDS_FOLDER / safe_name(name) / place

    def _numbers(self, name: str, partition: str | None) -> list[int]:
        folder = self._folder(name, partition)
        children = self._listed(folder)
        if OLD_POINTER in children:
            self._take_over(name, partition, folder)
            children = self._listed(folder)
        found = (_RECORD.fullmatch(child) for child in children)
        return sorted(int(match[1]) for match in found if match)

    def _take_over(self, name: str, partition: str | None, folder: UPath) -> None:
        """Write snapshots of before there was provenance again; nobody wrote down what they were made of."""
        writer = _BesideOldSnapshots(self._root)
        for beginning, files in old_snapshots(folder):
            # Of others the writer was killed.
            if content_digest(files).startswith(beginning):
                writer.write(name, files, partition=partition)
        remove_old_snapshots(folder)

    def _listed(self, folder: UPath) -> list[str]:
        """Return the names in a folder, sorted; none where there is no folder."""
        # Object stores' clients remember listings, and another process may have written since.
        folder.fs.invalidate_cache()
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def _keep_blob(self, sha256: str, data: bytes) -> None:
        path = self.blob_path(sha256)
        # What lies there may have been damaged since, and what is old could be collected before the record names it.
        if not self._is_young(path) or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data)

    def _is_young(self, path: UPath) -> bool:
        try:
            return bool(datetime.now(UTC) - path.fs.modified(path.path).astimezone(UTC) < _RENEWED_AFTER)
        except FileNotFoundError:
            return False

    def _commit(self, name: str, partition: str | None, hashes: Mapping[str, str], origin: Origin) -> Snapshot:
        folder = self._folder(name, partition)
        folder.mkdir(parents=True, exist_ok=True)
        digest = _digest_of_hashes(hashes)
        while True:
            # All that is there, whatever a store that stands still lets others see.
            newest = next(SnapshotStore.records(self, name, partition=partition), None)
            if newest is not None and not newest.purged and (newest.digest, newest.origin) == (digest, origin):
                return newest
            number = 1 if newest is None else newest.number + 1
            path = folder / _record_file(number)
            snapshot = Snapshot(
                name, partition, digest, str(path), hashes, number, origin, datetime.now(UTC).isoformat()
            )
            if create_whole(path, _record(snapshot)):
                return snapshot

    def rewrite_record(self, snapshot: Snapshot, *, purged: str) -> Snapshot:
        """Say in a snapshot's record that its files were taken away, and why; the files are the caller's to delete."""
        marked = replace(snapshot, purged=purged)
        write_whole(self._folder(snapshot.name, snapshot.partition) / _record_file(snapshot.number), _record(marked))
        return marked

    def drop_record(self, snapshot: Snapshot) -> None:
        """Delete a snapshot's record, if it is there; its files are the caller's to delete.

        Raises:
            ValueError: it is the newest of its asset and partition: an older one would take its place.
        """
        if self._numbers(snapshot.name, snapshot.partition)[-1:] == [snapshot.number]:
            msg = f"{_described(snapshot)} is the newest of its asset and partition: it cannot be dropped, only purged"
            raise ValueError(msg)
        (self._folder(snapshot.name, snapshot.partition) / _record_file(snapshot.number)).unlink(missing_ok=True)


class _BesideOldSnapshots(SnapshotStore):
    """A store that does not see what it takes over."""

    def _listed(self, folder: UPath) -> list[str]:
        return [name for name in super()._listed(folder) if name != OLD_POINTER]


def _record_file(number: int) -> str:
    return f"{number:08d}.json"


def _record(snapshot: Snapshot) -> bytes:
    record = {
        "schema": _SCHEMA,
        "asset": snapshot.name,
        "partition": snapshot.partition,
        "digest": snapshot.digest,
        "files": dict(snapshot.files),
        **asdict(snapshot.origin),
        "committed_at": snapshot.committed_at,
        "purged": snapshot.purged,
    }
    return json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False).encode()


def _parsed(name: str, partition: str | None, path: UPath, number: int, record: Mapping[str, Any]) -> Snapshot:
    return Snapshot(
        name,
        partition,
        record["digest"],
        str(path),
        record["files"],
        number,
        Origin(**{one: record[one] for one in ("inputs", "settings", "code_version", "run_id")}),
        record["committed_at"],
        record["purged"],
    )


def _described(snapshot: Snapshot) -> str:
    return f"{input_name(snapshot.name, snapshot.partition)}@{snapshot.digest[:12]}"
