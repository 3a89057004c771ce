"""The traces of one release bundle after a reading of the source: turns with their feedback, and what was counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from mangaassist_assets.core.bundles import TURNS_CARD_FILE
from mangaassist_assets.core.codecs import parquet_of, to_parquet
from mangaassist_assets.core.figures import Figures, count_rows
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.tracing.contract.turns import Feedback
from mangaassist_assets.tracing.ingestion.ingested_traces import PRESENCE_SCHEMA, BundleTraces
from mangaassist_assets.tracing.ingestion.stored_turns import PRESENCE_FILE, QUARANTINE_FILE, TURNS_FILE
from mangaassist_assets.tracing.ingestion.trace_ingestion import TraceCounts, TraceIngestion
from mangaassist_assets.tracing.ingestion.turn_frames import TURN_SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleIngestion:
    """The bundle as it is ingested now.

    `feedback` is the newest feedback event of each trace. `new` counts what was read of all bundles, `changed` what
    differed from the source in this one, None where that was not compared. `unassigned` counts traces that name no
    valid bundle.
    """

    release_bundle: str
    found: BundleTraces
    feedback: Mapping[str, Feedback]
    new: TraceCounts
    changed: TraceCounts | None
    unassigned: int

    def files(self) -> dict[str, bytes]:
        """Return the files to store, by name; `first_timestamp_ms` of the card is the start of the bundle.

        Raises:
            IngestionConflictError: Rows went away since the bundle was looked up; run again.
        """
        turns, quarantined = self.found.turns, self.found.quarantined
        card = {
            "schema": 2,
            "release_bundle": self.release_bundle,
            "turns": turns.height,
            "quarantined": quarantined.height,
            "first_timestamp_ms": turns["timestamp_ms"].min(),
            "last_timestamp_ms": turns["timestamp_ms"].max(),
        }
        return {
            TURNS_FILE: parquet_of(self.found.turn_rows(self.feedback), TURN_SCHEMA),
            QUARANTINE_FILE: to_parquet(quarantined),
            PRESENCE_FILE: parquet_of(self.found.presence_rows(), PRESENCE_SCHEMA),
            TURNS_CARD_FILE: canonical_json(card),
        }

    def __str__(self) -> str:
        quarantined, waiting = self.found.quarantined.height, self.new.waiting
        return f"{self.found.turns.height} turns, {quarantined} quarantined, {waiting} still being written"

    def figures(self) -> Figures:
        """Return counts of traces, of quarantine reasons and of shapes."""
        changed = self.changed or TraceCounts()
        turns = self.found.turns
        reasons = Counter(self.found.quarantined["reason"].to_list())
        shapes = turns["shape"].value_counts().sort("shape")
        return {
            "dagster/row_count": turns.height,
            "quarantined": reasons.total(),
            "quarantine_reasons": count_rows(dict(reasons.most_common()), what="reason", number="traces"),
            "without_a_bundle": self.unassigned,
            "in_progress": self.new.waiting,
            "newly_read": self.new.turns + self.new.quarantined,
            "changed_since_read": changed.turns + changed.quarantined,
            "of_erased_users": self.found.erased,
            "reviewed": int(turns["reviewer"].count()),
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
        found=found,
        feedback=feedback,
        new=new,
        changed=changed,
        unassigned=ingestion.unassigned().height,
    )
