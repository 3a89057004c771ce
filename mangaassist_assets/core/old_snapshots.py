"""Snapshots as they were kept before they had provenance: a folder of files a digest, and a pointer to the newest.

They are taken over where they are found, with the files and the newest they have. What they were made of nobody wrote
down. The old files go only when everything is there in the new form, so a killed take-over is done again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mangaassist_assets.core.snapshots import SnapshotStore, content_digest

if TYPE_CHECKING:
    from upath import UPath

_POINTER = "LATEST.json"


class _Writer(SnapshotStore):
    """A store that sees the new form only."""

    def _listed(self, folder: UPath) -> list[str]:
        return [name for name in super()._listed(folder) if name != _POINTER]


def take_over(root: UPath, name: str, partition: str | None, folder: UPath) -> None:
    """Write the old snapshots in the folder of an asset and partition again, the newest last, and remove the old files.

    Folders whose files do not make up the digest they are named by are what a killed writer left: they go as well.
    """
    newest = json.loads((folder / _POINTER).read_bytes())["digest"]
    places = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.name)
    writer = _Writer(root)
    for place in sorted(places, key=lambda path: newest.startswith(path.name)):
        files = {path.name: path.read_bytes() for path in place.iterdir() if not path.name.startswith(".")}
        if content_digest(files).startswith(place.name):
            writer.write(name, files, partition=partition)
    for place in places:
        place.fs.rm(place.path, recursive=True)
    (folder / _POINTER).unlink()
