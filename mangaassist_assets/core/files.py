"""Whole-file writes: a reader, or a crash, finds the old content or the new one, never a part of it."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from mangaassist_assets.core.errors import OperatorError

if TYPE_CHECKING:
    from upath import UPath


class DamagedFileError(OperatorError):
    """A file of this platform's cannot be understood; the message names it, and says what it was and what to do."""


def read_json(path: Path | UPath, *, what: str, mend: str) -> Any:  # noqa: ANN401 - JSON
    """Return the content of a JSON file of this platform's.

    Args:
        path: The file.
        what: What it holds, for the message.
        mend: What to do where it is damaged, for the message.

    Raises:
        DamagedFileError: It is empty, cut off, or no JSON.
        FileNotFoundError: It is not there.
    """
    data = path.read_bytes()
    try:
        return json.loads(data)
    except ValueError as error:
        why = "is empty" if not data.strip(b"\0 \n") else f"is no JSON ({error})"
        raise DamagedFileError(f"{path}, {what}, {why}. {mend}") from error


def write_whole(path: Path | UPath, data: bytes) -> None:
    """Replace the content of a file in one step; where that fails, the old content stays and nothing lies beside it.

    Object stores write whole objects. In a directory, which exists, the new content is written beside the file and
    renamed when it is on the disk, and then so is the name: a power cut leaves one of the two contents, whole.
    """
    target = _local(path)
    if target is None:
        path.write_bytes(data)
        return
    beside = _beside(target)
    try:
        with beside.open("wb") as file:
            _write(file, data)
        beside.replace(target)
        _sync_folder(target.parent)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def create_whole(path: Path | UPath, data: bytes) -> bool:
    """Write a file that must not be there yet, in one step; return whether it was this call that wrote it.

    Of several writers at once exactly one writes. An S3 bucket is asked for a conditional write.
    """
    target = _local(path)
    if target is None:
        remote = cast("UPath", path)
        try:
            remote.fs.pipe_file(remote.path, data, mode="create")
        except FileExistsError:
            return False
        return True
    beside = _beside(target)
    try:
        with beside.open("wb") as file:
            _write(file, data)
        os.link(beside, target)
        _sync_folder(target.parent)
    except FileExistsError:
        return False
    finally:
        beside.unlink(missing_ok=True)
    return True


def _write(file: BinaryIO, data: bytes) -> None:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _local(path: Path | UPath) -> Path | None:
    if getattr(path, "protocol", "") not in {"", "file", "local"}:
        return None
    return path if isinstance(path, Path) else Path(path.path)


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
