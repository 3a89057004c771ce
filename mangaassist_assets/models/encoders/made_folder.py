"""Folders that are made once on a machine, and are whole whenever they are used."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock
from platformdirs import user_cache_path

MANIFEST = "manifest.json"
MODEL_CACHE_VARIABLE = "MANGAASSIST_MODEL_CACHE"

_SCHEMA = 1
_WAIT_SECONDS = 600.0

logger = logging.getLogger(__name__)


def model_cache() -> Path:
    """Return where made folders lie: where `MANGAASSIST_MODEL_CACHE` says, else in the user's cache folder."""
    return Path(os.environ.get(MODEL_CACHE_VARIABLE) or user_cache_path("mangaassist"))


def made_folder(folder: Path, make: Callable[[Path], None], *, source: str) -> Path:
    """Return a folder as it was made, and make it where it is missing or not what its manifest says.

    It is made beside its place and renamed: a reader finds all of it or nothing, whatever became of a writer. One
    process makes it while others wait. Each call hashes every file (about a second a gigabyte).

    Args:
        folder: Where it is kept.
        make: Writes the content into the empty folder that it is given; the manifest is added.
        source: What it is made from. A folder that was made from something else is made anew.

    Raises:
        OSError: It can be neither read nor written; `TimeoutError` where another process still makes it after ten
            minutes.
    """
    if _is_whole(folder, source):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock"), timeout=_WAIT_SECONDS):
        if _is_whole(folder, source):
            return folder
        if folder.exists():
            logger.warning("%s is not what is made from %s: it is made anew", folder, source)
        began = time.monotonic()
        beside = folder.with_name(f".{folder.name}.making")
        _remove(beside)  # of a killed writer: nobody else makes it now
        beside.mkdir()
        try:
            make(beside)
            listing = _listing(beside)
            manifest = {"schema": _SCHEMA, "source": source, "files": listing}
            (beside / MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")
            _remove(folder)
            beside.rename(folder)
        except BaseException:
            _remove(beside)
            raise
        size = sum(file["bytes"] for file in listing.values()) / 1e6
        logger.info("made %s from %s: %.0f MB in %.1f s", folder, source, size, time.monotonic() - began)
    return folder


def _is_whole(folder: Path, source: str) -> bool:
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except ValueError:
        manifest = None
    return bool(manifest == {"schema": _SCHEMA, "source": source, "files": _listing(folder)})


def _listing(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of every file but the manifest, by relative path."""
    listing = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / MANIFEST:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            listing[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": digest}
    return listing


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
