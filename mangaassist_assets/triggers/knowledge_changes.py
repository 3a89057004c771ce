"""Whether the knowledge folder changed, and is at rest: nobody wants an index of half a copy."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowledgeState:
    """What the sensor remembers.

    Attributes:
        refreshed: The fingerprint that a refresh was last requested for, or that of the first look.
        seen: The fingerprint of the last look.
        edges: How many refreshes were requested.
    """

    refreshed: str
    seen: str
    edges: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """The state of a folder: SHA-256 over every file's path, size and time of change, and how many files there are."""

    digest: str
    files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowledgeLook:
    """What a look found: the run key of the refresh to request, if one is due, the state to store, and a sentence."""

    run_key: str | None
    state: KnowledgeState
    reason: str


def fingerprint(folder: Path) -> Fingerprint:
    """Return the state of a folder by what the file system says of it; no file is read, and no link is followed.

    Raises:
        OSError: The folder is not there or cannot be listed.
    """
    digest, files = hashlib.sha256(), 0
    for path, status in sorted(_files(folder)):
        digest.update(path.encode("utf-8", "surrogateescape") + f"\0{status}\0".encode())
        files += 1
    return Fingerprint(digest=digest.hexdigest(), files=files)


def look(previous: KnowledgeState | None, now: Fingerprint) -> KnowledgeLook:
    """Compare a folder with what is remembered; `previous` is None at the first look, which is a baseline."""
    holds = f"{now.files} files"
    if previous is None:
        state = KnowledgeState(refreshed=now.digest, seen=now.digest)
        return KnowledgeLook(run_key=None, state=state, reason=f"first look, baseline: {holds}")
    if now.digest == previous.refreshed:
        state = KnowledgeState(refreshed=previous.refreshed, seen=now.digest, edges=previous.edges)
        return KnowledgeLook(run_key=None, state=state, reason=f"unchanged: {holds}")
    if now.digest != previous.seen:
        state = KnowledgeState(refreshed=previous.refreshed, seen=now.digest, edges=previous.edges)
        return KnowledgeLook(
            run_key=None, state=state, reason=f"changing: {holds}; the next look sees if it is at rest"
        )
    state = KnowledgeState(refreshed=now.digest, seen=now.digest, edges=previous.edges + 1)
    return KnowledgeLook(run_key=f"knowledge-{now.digest[:16]}-{state.edges}", state=state, reason=f"changed: {holds}")


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    pending = [""]
    while pending:
        inside = pending.pop()
        with os.scandir(folder / inside) as entries:
            for entry in entries:
                path = f"{inside}/{entry.name}" if inside else entry.name
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
                else:
                    status = entry.stat(follow_symlinks=False)
                    yield path, f"{status.st_size} {status.st_mtime_ns}"
