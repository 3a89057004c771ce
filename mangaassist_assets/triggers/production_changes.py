"""What of production changed, and when, as the stored records say: configuration, live index, endpoints.

A rise of thumbs-downs right after such a change is more likely its doing than that of the models' data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mangaassist_assets.releases.deployment import DEPLOYMENT_FILE
from mangaassist_assets.retrieval.stored_knowledge import GENERATION_FILE

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import Snapshot, SnapshotStore

ACTIVE_RELEASE = "active_release"
LIVE_INDEX = "live_index"
_COMPONENTS_FILE = "components.json"
_INDEX = "search index"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductionChange:
    """A component of production got another version; `at_ms` is when that was recorded (ms since the epoch, UTC).

    `component` is as in the record of production: an endpoint, `search index`, or `configuration PROFILE`.
    """

    component: str
    before: str
    after: str
    at_ms: int
    is_endpoint: bool

    @property
    def key(self) -> str:
        """Tells this change from others."""
        return f"{self.component} {self.before} → {self.after} at {self.at_ms}"

    def __str__(self) -> str:
        """Return the change in words."""
        return f"{self.component} {self.before} → {self.after}"


def find_changes(
    store: SnapshotStore, from_ms: int, until_ms: int, *, endpoints: Mapping[str, str]
) -> list[ProductionChange]:
    """Return what changed within a time, the oldest first; of what two records tell, the earlier.

    Args:
        store: The snapshots.
        from_ms: Milliseconds since the epoch (UTC), as is `until_ms`.
        until_ms: The end of that time.
        endpoints: Asset of each endpoint to the endpoint's name.
    """
    names = frozenset(endpoints.values())
    sources: list[tuple[str, str, Callable[[Any], Mapping[str, str]]]] = [
        (ACTIVE_RELEASE, _COMPONENTS_FILE, _components),
        (LIVE_INDEX, GENERATION_FILE, lambda content: {_INDEX: content["generation"]}),
        *((asset, DEPLOYMENT_FILE, _deployed(endpoint)) for asset, endpoint in endpoints.items()),
    ]
    found: dict[tuple[str, str], ProductionChange] = {}
    for asset, file, read in sources:
        for change in _changes(_versions(store, asset, file, read, from_ms), names):
            key = (change.component, change.after)
            if from_ms <= change.at_ms <= until_ms and (key not in found or change.at_ms < found[key].at_ms):
                found[key] = change
    return sorted(found.values(), key=lambda one: (one.at_ms, one.component))


def _components(content: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {row["component"]: row["version"] for row in content if row["version"] is not None}


def _deployed(endpoint: str) -> Callable[[Any], Mapping[str, str]]:
    return lambda content: {endpoint: content["version"]}


def _versions(
    store: SnapshotStore, asset: str, file: str, read: Callable[[Any], Mapping[str, str]], from_ms: int
) -> list[tuple[int, Mapping[str, str]]]:
    """Return the versions that each record names and when, the oldest first: those of the time and one before it."""
    found: list[tuple[int, Mapping[str, str]]] = []
    for snapshot in store.records(asset):
        if snapshot.purged or file not in snapshot.files:
            continue
        found.append((_committed_ms(snapshot), read(store.read_json(snapshot, file))))
        if found[-1][0] < from_ms:
            break
    return found[::-1]


def _changes(
    versions: Sequence[tuple[int, Mapping[str, str]]], endpoints: frozenset[str]
) -> Iterable[ProductionChange]:
    known: dict[str, str] = {}
    for at_ms, named in versions:
        for component, version in named.items():
            before = known.get(component)
            if before is not None and before != version:
                yield ProductionChange(
                    component=component,
                    before=before,
                    after=version,
                    at_ms=at_ms,
                    is_endpoint=component in endpoints,
                )
            known[component] = version


def _committed_ms(snapshot: Snapshot) -> int:
    # Records of before there was a time have none.
    return round(datetime.fromisoformat(snapshot.committed_at).timestamp() * 1000) if snapshot.committed_at else 0
