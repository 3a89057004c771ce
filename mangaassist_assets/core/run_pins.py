"""What a run reads is settled once: the newest snapshot of each declared input when its first step begins.

What others materialize in the meantime changes nothing under a run's feet. What the run itself makes is read as it made
it, and so is what the run made that it carries on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mangaassist_assets.core.declared_inputs import Read
from mangaassist_assets.core.files import create_whole, read_json
from mangaassist_assets.core.snapshots import Snapshot, SnapshotStore, canonical_json, safe_name

if TYPE_CHECKING:
    from upath import UPath

_FOLDER = "runs"

Pins = Mapping[str, Mapping[str, int]]
"""Asset -> partition (empty for none) -> number of the newest snapshot, 0 where there was none."""


def settle_pins(store: SnapshotStore, run_id: str, reads: Iterable[Read], *, bundle: str | None) -> tuple[Pins, bool]:
    """Return the pins of a run, and whether this call settled them: the first step to ask does so for all.

    Args:
        store: The store.
        run_id: The Dagster run.
        reads: What all its assets and checks declare.
        bundle: The run's release bundle, if it has one.
    """
    path, first = _path(store, run_id), False
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        settled = {"pinned_at": datetime.now(UTC).isoformat(), "pins": _newest(store, reads, bundle)}
        first = create_whole(path, canonical_json(settled))
    pins: Pins = read_json(
        path,
        what="what a run reads",
        mend="Delete it where that run is over; otherwise start the run anew.",
    )["pins"]
    return pins, first


def _path(store: SnapshotStore, run_id: str) -> UPath:
    return store.root / _FOLDER / f"{safe_name(run_id)}.json"


def _newest(store: SnapshotStore, reads: Iterable[Read], bundle: str | None) -> dict[str, dict[str, int]]:
    pins: dict[str, dict[str, int]] = {}
    for one in reads:
        if one.ledger:
            continue
        places: Iterable[str | None] = store.places(one.asset)
        if one.bundles in {"none", "same"}:
            places = [None if one.bundles == "none" else bundle]
        pins.setdefault(one.asset, {}).update(
            {place or "": store.newest_number(one.asset, partition=place) for place in places}
        )
    return pins


class RunStore(SnapshotStore):
    """The store as one run sees it: as of its pins, with what the run itself made.

    What no pin is of is seen as it is now: ledgers, and the store outside of declared inputs.
    """

    def __init__(
        self, store: SnapshotStore, pins: Pins, *, run_ids: Collection[str], output: str | None = None
    ) -> None:
        """Take the pins, the run and those it carries on, and the asset of the step, which reads itself as it was."""
        super().__init__(store.root)
        self._pins = pins
        self._run_ids = frozenset(run_ids)
        self._output = output

    def records(self, name: str, *, partition: str | None = None) -> Iterator[Snapshot]:
        """Yield the snapshots that the run sees, what it made itself first, then the newest first."""
        pinned = self._pins.get(name)
        if pinned is None:
            yield from super().records(name, partition=partition)
            return
        limit = pinned.get(partition or "", 0)
        stored = super().records(name, partition=partition)
        seen = (one for one in stored if one.number <= limit or self._made(one))
        # What the run itself made is newer than its pins; what a run made that it carries on need not be.
        yield from seen if len(self._run_ids) == 1 else sorted(seen, key=lambda one: not self._made(one))

    def _made(self, snapshot: Snapshot) -> bool:
        return snapshot.origin.run_id in self._run_ids and snapshot.name != self._output
