"""Whole-file writes: a reader, or a crash, finds the old content or the new one, never a part of it."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from upath import UPath


def write_whole(path: Path | UPath, data: bytes, *, durable: bool = False) -> None:
    """Replace the content of a file in one step; where that fails, the old content stays and nothing lies beside it.

    Object stores write whole objects. In a directory, which exists, the new content is written beside the file and
    renamed; `durable` has it on the disk before that, to survive a power cut.
    """
    target = _local(path)
    if target is None:
        path.write_bytes(data)
        return
    beside = _beside(target)
    try:
        with beside.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        beside.replace(target)
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
        beside.write_bytes(data)
        os.link(beside, target)
    except FileExistsError:
        return False
    finally:
        beside.unlink(missing_ok=True)
    return True


def _local(path: Path | UPath) -> Path | None:
    if getattr(path, "protocol", "") not in {"", "file", "local"}:
        return None
    return path if isinstance(path, Path) else Path(path.path)


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
