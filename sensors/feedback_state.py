"""The feedback sensor between Dagster and the domain: its cursor, the thumbs it hears, what it asks for.

The cursor names a stored state and where in the stream it stands; it does not grow. The sensor imports this module when
it runs: loading the definitions needs none of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mangaassist_assets.core.bundles import bundles_by_start
from mangaassist_assets.tracing.feedback.events import FeedbackEvent, StoredIds
from mangaassist_assets.triggers.cursors import cursor_version, from_cursor, to_cursor
from mangaassist_assets.triggers.state_files import TriggerFiles
from mangaassist_assets.triggers.trigger_state import Arrival, TriggerState
from mangaassist_assets.triggers.turn_facts import FoundFacts, find_facts, stored_votes
from mangaassist_assets.triggers.votes import digest

if TYPE_CHECKING:
    from resources.store import StoreResource

KIND = "feedback_threshold_sensor"
VERSION = 3
EVENTS_PER_TICK = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where the sensor stands: in the stream, and the digest of its state."""

    positions: Mapping[str, Any]
    state: str

    def to_text(self) -> str:
        """Return the cursor."""
        return to_cursor(KIND, VERSION, self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What a tick begins with; `note` says what of the cursor could not be used, `digest` names the stored state."""

    positions: Mapping[str, Any]
    state: TriggerState
    digest: str | None = None
    note: str = ""


def begin(text: str | None, store: StoreResource) -> Beginning:
    """Return what a tick begins with: what the cursor names; at the first look, what was ingested and mined.

    A cursor of an earlier version, and a state that is gone, begin to count anew, at the same place in the stream.

    Raises:
        CursorError: the cursor is of another sensor, or damaged.
    """
    version = cursor_version(KIND, text)
    if version is None:
        return _afresh(store, store.feedback_ingestion().cursor())
    if version != VERSION:
        kept = json.loads(text or "{}").get("state")
        positions = kept.get("positions") if isinstance(kept, dict) else None
        note = f"the cursor is of version {version}, this code writes {VERSION}: counting begins anew"
        if isinstance(positions, dict):
            return _afresh(store, positions, note=f"{note} where it stood in the stream")
        return _afresh(store, store.feedback_ingestion().cursor(), note=f"{note} after what was ingested")
    cursor = from_cursor(KIND, VERSION, text, Cursor)
    if cursor is None:
        raise AssertionError("a cursor with a version has content")
    state = TriggerFiles(store.path()).read(cursor.state)
    if state is None:
        note = f"the state {cursor.state[:12]} that the cursor names is gone or damaged: counting begins anew"
        return _afresh(store, cursor.positions, note=note)
    return Beginning(positions=cursor.positions, state=state, digest=cursor.state)


def _afresh(store: StoreResource, positions: Mapping[str, Any], *, note: str = "") -> Beginning:
    # Run keys are remembered for ever: epochs that are counted from one again need another name. The same beginning has
    # the same, so that a first tick that is killed and done again asks for the same runs.
    said = json.dumps([dict(positions), note], sort_keys=True, default=str)
    state = TriggerState(generation=hashlib.sha256(said.encode()).hexdigest()[:8], past=stored_votes(store.snapshots()))
    return Beginning(positions=positions, state=state, note=note)


def arrivals_of(events: Iterable[FeedbackEvent], key: bytes | None) -> list[Arrival]:
    """Return events as the trigger hears them; of people and sessions nothing but digests of their pseudonyms."""
    ids = StoredIds(key)
    return [_arrival(event, ids) for event in events]


def _arrival(event: FeedbackEvent, ids: StoredIds) -> Arrival:
    user = ids.user(event.user)
    session = ids.session(event.session_id, user=event.user)
    return Arrival(
        time_ms=event.timestamp_ms,
        event=digest(event.event_id),
        trace_id=event.trace_id,
        response_id=event.response_id,
        release_bundle=event.release_bundle,
        shopper=None if user is None else digest(user),
        session=None if session is None else digest(session),
        down=event.feedback == "thumbs_down",
    )


def look_up(
    store: StoreResource, state: TriggerState, arrivals: Iterable[Arrival], known: Iterable[str]
) -> tuple[FoundFacts, tuple[str, ...]]:
    """Return what the stored tables say of turns since the last look, and the order of bundles where a new one comes.

    Tables are read when they are new, not for each vote: a thumb on a turn that was mined long ago gets what is known
    of it when its bundle is mined again.
    """
    new = list(arrivals)
    thumbs = [*state.waiting, *new]
    named = {one.release_bundle for one in thumbs if one.release_bundle is not None} & set(known)
    if any(one.release_bundle is None for one in thumbs):
        named |= set(known)
    turns = state.turns() | {one for thumb in new for one in (thumb.trace_id, thumb.response_id) if one is not None}
    snapshots = store.snapshots()
    found = find_facts(snapshots, {*state.bundles, *named}, turns, read=state.read)
    if named <= set(state.bundles):
        return found, ()
    return found, tuple(bundles_by_start(snapshots))
