"""Whole-file writes: a reader, or a crash, finds the old content or the new one, never a part of it."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upath import UPath


def write_whole(path: Path | UPath, data: bytes, *, durable: bool = False) -> None:
    """Replace the content of a file in one step; where that fails, the old content stays and nothing lies beside it.

    Object stores write whole objects. In a directory, which exists, the new content is written beside the file and
    renamed; `durable` has it on the disk before that, to survive a power cut.
    """
    if getattr(path, "protocol", "") not in {"", "file", "local"}:
        path.write_bytes(data)
        return
    target = path if isinstance(path, Path) else Path(path.path)
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
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
