"""The traces of one release bundle after a reading of the source: turns with their feedback, and what was counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from mangaassist_assets.core.bundles import TURNS_CARD_FILE
from mangaassist_assets.core.codecs import to_parquet
from mangaassist_assets.core.figures import Figures, count_rows
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.tracing.contract.turns import Feedback
from mangaassist_assets.tracing.ingestion.ingested_traces import BundleTraces
from mangaassist_assets.tracing.ingestion.stored_turns import PRESENCE_FILE, QUARANTINE_FILE, TURNS_FILE
from mangaassist_assets.tracing.ingestion.trace_ingestion import TraceCounts, TraceIngestion
from mangaassist_assets.tracing.ingestion.turn_frames import with_feedback


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleIngestion:
    """The bundle as it is ingested now.

    `turns` are those of `found` with the newest feedback event of each. `new` counts what was read of all bundles,
    `changed` what differed from the source in this one, None where that was not compared. `unassigned` counts traces
    that name no valid bundle.
    """

    release_bundle: str
    turns: pl.DataFrame
    found: BundleTraces
    new: TraceCounts
    changed: TraceCounts | None
    unassigned: int

    def files(self) -> dict[str, bytes]:
        """Return the files to store, by name; `first_timestamp_ms` of the card is the start of the bundle."""
        card = {
            "schema": 2,
            "release_bundle": self.release_bundle,
            "turns": self.turns.height,
            "quarantined": self.found.quarantined.height,
            "first_timestamp_ms": self.turns["timestamp_ms"].min(),
            "last_timestamp_ms": self.turns["timestamp_ms"].max(),
        }
        return {
            TURNS_FILE: to_parquet(self.turns),
            QUARANTINE_FILE: to_parquet(self.found.quarantined),
            PRESENCE_FILE: to_parquet(self.found.presence),
            TURNS_CARD_FILE: canonical_json(card),
        }

    def __str__(self) -> str:
        quarantined, waiting = self.found.quarantined.height, self.new.waiting
        return f"{self.turns.height} turns, {quarantined} quarantined, {waiting} still being written"

    def figures(self) -> Figures:
        """Return counts of traces, of quarantine reasons and of shapes."""
        changed = self.changed or TraceCounts()
        reasons = Counter(self.found.quarantined["reason"].to_list())
        shapes = self.turns["shape"].value_counts().sort("shape")
        return {
            "dagster/row_count": self.turns.height,
            "quarantined": self.found.quarantined.height,
            "quarantine_reasons": count_rows(dict(reasons.most_common()), what="reason", number="traces"),
            "without_a_bundle": self.unassigned,
            "in_progress": self.new.waiting,
            "newly_read": self.new.turns + self.new.quarantined,
            "changed_since_read": changed.turns + changed.quarantined,
            "of_erased_users": self.found.erased,
            "reviewed": int(self.turns["reviewer"].count()),
            "shapes": [{"shape": shape, "turns": count} for shape, count in shapes.iter_rows()],
        }


def ingest_bundle(
    ingestion: TraceIngestion,
    release_bundle: str,
    *,
    feedback: Mapping[str, Feedback],
    compare_with_source: bool = True,
    sweep: bool = False,
) -> BundleIngestion:
    """Ingest what is new of all bundles, then return one of them.

    `feedback` is the newest feedback event of each trace, which takes the place of the trace's own tag. See
    `TraceIngestion.reconcile` for `compare_with_source`, and `TraceIngestion.sweep`.
    """
    new = ingestion.advance()
    changed = ingestion.reconcile(release_bundle) if compare_with_source else None
    if sweep:
        ingestion.sweep()
    found = ingestion.bundle(release_bundle)
    return BundleIngestion(
        release_bundle=release_bundle,
        turns=with_feedback(found.turns, feedback),
        found=found,
        new=new,
        changed=changed,
        unassigned=ingestion.unassigned().height,
    )
