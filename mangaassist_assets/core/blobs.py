"""The files of a snapshot store apart from its records: which there are, and how those that nobody names go.

A file is moved aside before it is deleted, and the records are read once more in between. Whoever wrote a record before
the move is seen then, and the file moved back; whoever writes one after it finds the file missing and writes it again.
So nothing is lost, whoever writes meanwhile, and a collection that was killed is finished by the next.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mangaassist_assets.core.snapshots import BLOBS_FOLDER, RECORDS_FOLDER, SnapshotStore

if TYPE_CHECKING:
    from upath import UPath

_ASIDE = "blobs-aside"
_HASH_DIGITS = 64
_TIMES = ("mtime", "LastModified", "created")
"""What file systems call the time of the last change: a directory, S3, memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file in a folder of the store: its path there, its size in bytes, and when it was last written."""

    folder: str
    path: str
    size: int
    modified: datetime

    @property
    def name(self) -> str:
        """The last part of its path: of a blob the SHA-256 of its content."""
        return self.path.rpartition("/")[2]

    def of(self, store: SnapshotStore) -> UPath:
        """Return where it lies."""
        return store.root / self.folder / self.path

    @property
    def is_blob(self) -> bool:
        """Whether it is a whole file of snapshots; else a killed writer left it."""
        return len(self.name) == _HASH_DIGITS and not self.name.startswith(".")


def stored_blobs(store: SnapshotStore) -> dict[str, StoredFile]:
    """Return every stored blob by its SHA-256."""
    return {one.name: one for one in _files(store, BLOBS_FOLDER) if one.is_blob}


def half_written(store: SnapshotStore) -> list[StoredFile]:
    """Return what writers that were killed left beside blobs and records."""
    return [
        one for folder in (BLOBS_FOLDER, RECORDS_FOLDER) for one in _files(store, folder) if one.name.startswith(".")
    ]


def named_blobs(store: SnapshotStore) -> frozenset[str]:
    """Return the SHA-256 of every file that a snapshot names which was not purged."""
    return frozenset(sha256 for one in store.everything() if not one.purged for sha256 in one.files.values())


def drop_blobs(store: SnapshotStore, hashes: Collection[str]) -> None:
    """Delete those of some blobs that no unpurged snapshot names, and what earlier, killed calls had moved aside."""
    aside = store.root / _ASIDE / uuid.uuid4().hex
    for sha256 in sorted(hashes):
        _move(store.blob_path(sha256), aside / sha256)
    moved = list(_files(store, _ASIDE))
    if not moved:
        return
    named = named_blobs(store)
    for file in moved:
        if file.name in named:
            _move(file.of(store), store.blob_path(file.name))
        else:
            file.of(store).unlink(missing_ok=True)
    _remove_empty(store.root / _ASIDE)


def _move(source: UPath, target: UPath) -> None:
    """Move a file; another process may have moved it first."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.fs.mv(source.path, target.path)
    except FileNotFoundError:
        if source.exists():
            raise


def _remove_empty(folder: UPath) -> None:
    """Remove the folders of finished calls; object stores have none."""
    for child in list(folder.iterdir()) if folder.exists() else ():
        try:
            child.rmdir()
        except OSError:
            # Somebody else's call goes on in it.
            continue


def _files(store: SnapshotStore, name: str) -> Iterator[StoredFile]:
    folder = store.root / name
    # Object stores' clients remember listings, and another process may have written since.
    folder.fs.invalidate_cache()
    if not folder.exists():
        return
    found: Mapping[str, Mapping[str, Any]] = folder.fs.find(folder.path, detail=True)
    start = len(folder.path.rstrip("/")) + 1
    for path, info in sorted(found.items()):
        yield StoredFile(folder=name, path=path[start:], size=int(info["size"] or 0), modified=_modified(info))


def _modified(info: Mapping[str, Any]) -> datetime:
    found = next(info[name] for name in _TIMES if info.get(name) is not None)
    moment = found if isinstance(found, datetime) else datetime.fromtimestamp(float(found), UTC)
    return moment.astimezone(UTC)
