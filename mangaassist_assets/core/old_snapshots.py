"""Snapshots as they were kept before they had provenance: a folder of files a digest, and a pointer to the newest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mangaassist_assets.core.files import read_json

if TYPE_CHECKING:
    from upath import UPath

OLD_POINTER = "LATEST.json"


def old_snapshots(folder: UPath) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the beginning of the digest and the files of each snapshot in an asset's folder, the latest one last."""
    pointer = read_json(
        folder / OLD_POINTER,
        what="which names the newest snapshot of a store of before",
        mend='Restore it from a backup, or write {"digest": NAME} with the folder beside it that is the newest; or '
        "move the asset's folder away and materialize the asset again.",
    )
    newest = pointer["digest"]
    for place in sorted(_places(folder), key=lambda path: (newest.startswith(path.name), path.name)):
        yield place.name, {path.name: path.read_bytes() for path in place.iterdir() if not path.name.startswith(".")}


def remove_old_snapshots(folder: UPath) -> None:
    """Remove them; the pointer goes last, so that what was killed on the way is done again."""
    for place in _places(folder):
        place.fs.rm(place.path, recursive=True)
    (folder / OLD_POINTER).unlink()


def _places(folder: UPath) -> list[UPath]:
    return [path for path in folder.iterdir() if path.is_dir()]
