"""What the landed traces know of a thumb's trace: also bundles and sessions that stand in no tag of MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from mangaassist_assets.landing import PARTITION, LandingTable
from mangaassist_assets.tracing.feedback_joining import TraceFacts


class LandedFacts:
    """Looks traces up in the landing table of traces, as a `TraceFinder`."""

    def __init__(self, table: LandingTable) -> None:
        self._table = table

    def by_trace_id(self, trace_ids: Sequence[str]) -> Mapping[str, TraceFacts]:
        """Return those of the traces that are landed as turns, by their ids."""
        return {facts.trace_id: facts for facts in self._facts("trace_id", trace_ids)}

    def by_response_id(self, response_ids: Sequence[str]) -> Mapping[str, TraceFacts]:  # noqa: ARG002 - see TraceFinder
        """Return nothing: turns do not keep the id of their response."""
        return {}

    def _facts(self, column: str, values: Sequence[str]) -> list[TraceFacts]:
        if not values:
            return []
        wanted = ["trace_id", PARTITION, "session_id", "user_key", "sequence", "kind", column]
        rows = (
            self._table.rows().filter(pl.col(column).is_in(list(values))).select(list(dict.fromkeys(wanted))).collect()
        )
        newest = rows.filter(pl.col("sequence") == pl.col("sequence").max().over("trace_id"), pl.col("kind") == "turn")
        return [
            TraceFacts(
                trace_id=row["trace_id"],
                release_bundle=row[PARTITION],
                session_id=row["session_id"],
                user=row["user_key"],
            )
            for row in newest.iter_rows(named=True)
        ]
