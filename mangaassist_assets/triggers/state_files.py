"""Where the feedback trigger's state rests: files named by their content, of which a cursor names one.

A state is written before the cursor that names it. A tick that is killed in between is done again from the state of
before, so nothing is counted twice and nothing fires twice. `alive.json` says when the trigger was evaluated last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from mangaassist_assets.core.codecs import from_json
from mangaassist_assets.core.files import write_whole
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.triggers.trigger_state import TriggerState

if TYPE_CHECKING:
    from upath import UPath

FOLDER = "triggers"
_KEPT = timedelta(hours=1)
_ALIVE = "alive.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alive:
    """A sign of life, written at the end of each evaluation.

    `positions` is where in the stream the evaluation began, `moved_ms` since when it begins there (ms since the epoch,
    UTC), `reason` what it found.
    """

    evaluated_ms: int
    moved_ms: int
    reason: str
    positions: Mapping[str, Any] = field(default_factory=dict)


class TriggerFiles:
    """The files of the feedback trigger under the root of the store."""

    def __init__(self, root: UPath) -> None:
        self._folder = root / FOLDER / "feedback"

    def read(self, digest: str) -> TriggerState | None:
        """Return a state; None where it is gone, or not what was written."""
        path = self._path(digest)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        if _digest(content) != digest:
            return None
        try:
            return from_json(TriggerState, content)
        except ValueError:
            # Of an earlier version of this code.
            return None

    def write(self, state: TriggerState) -> str:
        """Keep a state, and return its digest."""
        content = canonical_json(state)
        digest = _digest(content)
        path = self._path(digest)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
        return digest

    def clear(self, kept: str | None, *, now: datetime) -> int:
        """Delete the states of long ago; the one that is named, and the newest, stay. Returns how many went."""
        folder = self._folder / "states"
        if kept is None or not folder.exists():
            return 0
        folder.fs.invalidate_cache()
        found = sorted((path.fs.modified(path.path).astimezone(UTC), path.name, path) for path in folder.iterdir())
        old = [path for at, name, path in found[:-1] if now - at > _KEPT and name != f"{kept}.json"]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    def alive(self) -> Alive | None:
        """Return the last sign of life; None before the first one."""
        path = self._folder / _ALIVE
        path.fs.invalidate_cache()
        return from_json(Alive, path.read_bytes()) if path.exists() else None

    def sign(self, positions: Mapping[str, Any], *, reason: str, now_ms: int) -> None:
        """Leave a sign of life."""
        before = self.alive()
        moved = before is None or dict(before.positions) != dict(positions)
        sign = Alive(
            evaluated_ms=now_ms,
            moved_ms=now_ms if moved or before is None else before.moved_ms,
            reason=reason,
            positions=positions,
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._folder / _ALIVE, canonical_json(sign))

    def _path(self, digest: str) -> UPath:
        return self._folder / "states" / f"{digest}.json"


def silence(alive: Alive | None, *, waiting: int, now_ms: int, silent_minutes: float) -> str | None:
    """Return why the trigger must be called silent, or None if it is at work.

    Args:
        alive: Its last sign of life.
        waiting: Events of the stream behind its cursor.
        now_ms: The present (ms since the epoch, UTC).
        silent_minutes: Minutes after which it is silent.
    """
    if alive is None:
        return "the feedback trigger was never evaluated: is the daemon running, and the sensor feedback_threshold on?"
    minutes = (now_ms - alive.evaluated_ms) / 60_000
    if minutes > silent_minutes:
        return f"the feedback trigger was evaluated {minutes:.0f} minutes ago, the last time: {alive.reason}"
    stood = (now_ms - alive.moved_ms) / 60_000
    if waiting and stood > silent_minutes:
        return f"{waiting} events wait, and the cursor of the feedback trigger has not moved for {stood:.0f} minutes"
    return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
