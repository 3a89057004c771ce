"""Snapshots as they were kept before they had provenance: a folder of files a digest, and a pointer to the newest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upath import UPath

OLD_POINTER = "LATEST.json"


def old_snapshots(folder: UPath) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the beginning of the digest and the files of each snapshot in an asset's folder, the latest one last."""
    newest = json.loads((folder / OLD_POINTER).read_bytes())["digest"]
    for place in sorted(_places(folder), key=lambda path: (newest.startswith(path.name), path.name)):
        yield place.name, {path.name: path.read_bytes() for path in place.iterdir() if not path.name.startswith(".")}


def remove_old_snapshots(folder: UPath) -> None:
    """Remove them; the pointer goes last, so that what was killed on the way is done again."""
    for place in _places(folder):
        place.fs.rm(place.path, recursive=True)
    (folder / OLD_POINTER).unlink()


def _places(folder: UPath) -> list[UPath]:
    return [path for path in folder.iterdir() if path.is_dir()]
