"""Snapshots: content-addressed sets of files under one root, a directory or a bucket.

What belongs here is how bytes come to rest and are found again. What the bytes mean belongs to the domain packages.

A snapshot of one asset (and partition) is a folder named by the digest of its files; `LATEST.json` beside the folders
names the newest. The pointer is written last and in one piece, so a killed writer leaves the previous snapshot in
place, and writing the same content again changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from typing import TYPE_CHECKING, Any

from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.core.files import write_whole

if TYPE_CHECKING:
    from upath import UPath

_FOLDER = "snapshots"
_DIGEST_DIGITS = 24
_SAFE_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}")
_UNPARTITIONED = "_all"
_POINTER = "LATEST.json"


class SnapshotMissingError(OperatorError, LookupError):
    """No snapshot of this asset and partition exists yet."""


class SnapshotDamagedError(RuntimeError):
    """A stored file is not what its snapshot says."""


class UnsafeNameError(ValueError):
    """A name that could leave its folder."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One stored snapshot. `digest` is the SHA-256 over the names and hashes of its files."""

    name: str
    partition: str | None
    digest: str
    uri: str
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SnapshotFolder:
    """A folder of the store as it lies there, with the files of a snapshot or of what a killed writer left.

    `complete` says whether the partition has a latest snapshot, `latest` whether this is it.
    """

    name: str
    partition: str | None
    path: UPath
    complete: bool
    latest: bool


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


def _checked(name: str) -> str:
    if not _SAFE_NAME.fullmatch(name) or ".." in name:
        msg = f"{name!r} is no safe name: letters, digits, '.', '_' and '-' only, at most 128, no '..'"
        raise UnsafeNameError(msg)
    return name


class SnapshotStore:
    """Snapshots under `root`, any fsspec URL that universal-pathlib understands."""

    def __init__(self, root: UPath) -> None:
        self._root = root

    @property
    def root(self) -> UPath:
        """The folder or bucket prefix that holds everything."""
        return self._root

    def _folder(self, name: str, partition: str | None) -> UPath:
        return self._root / _FOLDER / _checked(name) / (_UNPARTITIONED if partition is None else _checked(partition))

    def write(self, name: str, files: Mapping[str, bytes], *, partition: str | None = None) -> Snapshot:
        """Store `files` (file name → content) and make them the latest snapshot of `name` and `partition`."""
        hashes = {_checked(file): hashlib.sha256(data).hexdigest() for file, data in files.items()}
        digest = _digest_of_hashes(hashes)
        folder = self._folder(name, partition)
        target = folder / digest[:_DIGEST_DIGITS]
        target.mkdir(parents=True, exist_ok=True)
        for file, data in files.items():
            write_whole(target / file, data)
        pointer = {"schema": 1, "name": name, "partition": partition, "digest": digest, "files": hashes}
        write_whole(folder / _POINTER, json.dumps(pointer, indent=2, sort_keys=True).encode())
        return Snapshot(name, partition, digest, str(target), hashes)

    def find(self, name: str, *, partition: str | None = None) -> Snapshot | None:
        """Return the latest snapshot, or None if there never was one."""
        folder = self._folder(name, partition)
        pointer_path = folder / _POINTER
        if not pointer_path.exists():
            return None
        pointer = json.loads(pointer_path.read_bytes())
        digest = pointer["digest"]
        return Snapshot(name, partition, digest, str(folder / digest[:_DIGEST_DIGITS]), pointer["files"])

    def latest(self, name: str, *, partition: str | None = None) -> Snapshot:
        """Return the latest snapshot.

        Raises:
            SnapshotMissingError: nothing was written for this name and partition.
        """
        snapshot = self.find(name, partition=partition)
        if snapshot is None:
            of_partition = "" if partition is None else f" for partition {partition!r}"
            msg = f"no snapshot of {name!r}{of_partition}: materialize that asset first"
            raise SnapshotMissingError(msg)
        return snapshot

    def read(self, snapshot: Snapshot, file: str) -> bytes:
        """Return the content of one file of a snapshot, checked against its hash.

        Raises:
            SnapshotDamagedError: the file changed after it was written.
            KeyError: the snapshot has no such file.
        """
        expected = snapshot.files[file]
        path = self._folder(snapshot.name, snapshot.partition) / snapshot.digest[:_DIGEST_DIGITS] / file
        data: bytes = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != expected:
            msg = f"{path} does not match its recorded SHA-256 {expected[:12]}…: materialize {snapshot.name!r} again"
            raise SnapshotDamagedError(msg)
        return data

    def read_json(self, snapshot: Snapshot, file: str) -> Any:  # noqa: ANN401 - any JSON value
        """Return one JSON file of a snapshot, checked against its hash."""
        return json.loads(self.read(snapshot, file))

    def history(self, name: str) -> Iterator[Snapshot]:
        """Yield every stored snapshot of `name`, older ones and all partitions included, by partition and digest.

        A snapshot whose files do not make up its digest (its writer was killed) is no snapshot and is passed over.
        """
        for folder in self.folders(name):
            if folder.complete and (found := _hashed(name, folder.partition, folder.path)) is not None:
                yield found

    def find_digest(self, name: str, *, partition: str | None, digest: str) -> Snapshot | None:
        """Return the snapshot of a digest, the latest or an older one; None where it is gone or its files changed."""
        path = self._folder(name, partition) / digest[:_DIGEST_DIGITS]
        path.fs.invalidate_cache()
        found = _hashed(name, partition, path) if path.exists() else None
        return found if found is not None and found.digest == digest else None

    def folders(self, name: str) -> Iterator[SnapshotFolder]:
        """Yield every folder with files of `name`, by partition and digest, those of a killed writer included."""
        root = self._root / _FOLDER / _checked(name)
        # Object stores' clients remember listings, and another process may have written since.
        root.fs.invalidate_cache()
        for place in _children(root):
            pointer = place / _POINTER
            latest = json.loads(pointer.read_bytes())["digest"] if pointer.exists() else ""
            partition = None if place.name == _UNPARTITIONED else place.name
            for path in _children(place):
                if path.is_dir():
                    is_latest = latest.startswith(path.name)
                    yield SnapshotFolder(name, partition, path, complete=bool(latest), latest=is_latest)

    def names(self) -> Iterator[str]:
        """Yield the names that something was ever stored under, sorted."""
        root = self._root / _FOLDER
        root.fs.invalidate_cache()
        yield from (child.name for child in _children(root) if _SAFE_NAME.fullmatch(child.name))

    def partitions(self, name: str) -> Iterator[str]:
        """Yield the partitions of `name` that have a snapshot, sorted."""
        for child in _children(self._root / _FOLDER / _checked(name)):
            if child.name != _UNPARTITIONED and (child / _POINTER).exists():
                yield child.name


def _children(folder: UPath) -> list[UPath]:
    return sorted(folder.iterdir(), key=lambda path: path.name) if folder.exists() else []


def _hashed(name: str, partition: str | None, folder: UPath) -> Snapshot | None:
    """Return the snapshot in a folder; None where its files do not make up the digest that the folder is named by."""
    hashes = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if not path.name.startswith(".")
    }
    digest = _digest_of_hashes(hashes)
    return Snapshot(name, partition, digest, str(folder), hashes) if digest.startswith(folder.name) else None
