"""Bringing a release bundle into the warehouse, and the record of what of it is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mangaassist_assets.core.codecs import from_json
from mangaassist_assets.core.figures import Figures
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.reporting.warehouse.queries import LOADED
from mangaassist_assets.reporting.warehouse.rows import feedback_rows, turn_rows
from mangaassist_assets.reporting.warehouse.tables import FEEDBACK_EVENTS
from mangaassist_assets.reporting.warehouse.types import WarehouseError

if TYPE_CHECKING:
    import polars as pl

    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.reporting.warehouse.types import Warehouse
    from mangaassist_assets.tracing.feedback.events import FeedbackRecord

WAREHOUSE_ASSET = "feedback_warehouse"
LOAD_FILE = "load.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleLoad:
    """What of a bundle is in the warehouse: rows by table, and the digest of all of them."""

    release_bundle: str
    rows: Mapping[str, int]
    digest: str

    def files(self) -> dict[str, bytes]:
        """Return the record as it is stored."""
        return {LOAD_FILE: canonical_json(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What a loading did; `number` counts the loads of the bundle, `changed` is False where all was there before."""

    load: BundleLoad
    number: int
    changed: bool

    def __str__(self) -> str:
        counts = ", ".join(f"{rows} {table}" for table, rows in self.load.rows.items())
        return f"{self.load.release_bundle} in the warehouse: {counts}{'' if self.changed else ', as before'}"

    def figures(self) -> Figures:
        """Return rows by table, and the position of the load."""
        return {
            "dagster/row_count": sum(self.load.rows.values()),
            "tables": [{"table": table, "rows": rows} for table, rows in self.load.rows.items()],
            "load_number": self.number,
            "load_digest": self.load.digest,
            "changed": self.changed,
        }


def load_bundle(
    database: Warehouse, turns: pl.DataFrame, feedback: Sequence[FeedbackRecord], *, release_bundle: str
) -> Loaded:
    """Replace a bundle's rows in the warehouse by those of its turns and feedback events."""
    rows = {**turn_rows(turns), FEEDBACK_EVENTS.name: feedback_rows(feedback)}
    changed = database.load(rows, release_bundle=release_bundle)
    digest, number = _position(database, release_bundle)
    load = BundleLoad(
        release_bundle=release_bundle, rows={name: frame.height for name, frame in rows.items()}, digest=digest
    )
    return Loaded(load=load, number=number, changed=changed)


def read_load(store: SnapshotStore, release_bundle: str) -> BundleLoad:
    """Return the record of what of a bundle was loaded."""
    return from_json(BundleLoad, store.read(store.latest(WAREHOUSE_ASSET, partition=release_bundle), LOAD_FILE))


def require_loaded(database: Warehouse, load: BundleLoad) -> None:
    """Let a bundle pass whose rows in the warehouse are those of its record.

    Raises:
        WarehouseError: They are others, or gone.
    """
    digest, _ = _position(database, load.release_bundle)
    if digest != load.digest:
        raise WarehouseError(
            f"the warehouse holds {'other rows' if digest else 'no rows'} of {load.release_bundle} than its record "
            f"says: materialize {WAREHOUSE_ASSET} of {load.release_bundle} again"
        )


def _position(database: Warehouse, release_bundle: str) -> tuple[str, int]:
    held = database.query(LOADED, {"release_bundle": release_bundle})
    return (str(held.row(0)[0]), int(held.row(0)[1])) if held.height else ("", 0)
