"""What the ingested traces know of a thumb's trace: also bundles and sessions that stand in no tag of MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from mangaassist_assets.core.ingestion_tables import PARTITION, IngestionTable
from mangaassist_assets.tracing.feedback.joining import TraceFacts


class IngestedFacts:
    """Looks traces up in the ingestion table of traces, as a `TraceFinder`."""

    def __init__(self, table: IngestionTable) -> None:
        self._table = table

    def by_trace_id(self, trace_ids: Sequence[str]) -> Mapping[str, TraceFacts]:
        """Return those of the traces that are ingested as turns, by their ids."""
        return {row["trace_id"]: _facts(row) for row in self._newest("trace_id", trace_ids)}

    def by_response_id(self, response_ids: Sequence[str]) -> Mapping[str, TraceFacts]:
        """Return the turns that gave these responses; a response that two turns claim is nobody's."""
        found: dict[str, list[TraceFacts]] = {}
        for row in self._newest("response_id", response_ids):
            found.setdefault(row["response_id"], []).append(_facts(row))
        return {response_id: facts[0] for response_id, facts in found.items() if len(facts) == 1}

    def _newest(self, column: str, values: Sequence[str]) -> list[dict[str, Any]]:
        """Return the newest rows of the turns that have one of the values in a column."""
        if not values:
            return []
        rows = self._table.rows().select(
            "trace_id", PARTITION, "session_id", "user_key", "sequence", "kind", "response_id"
        )
        asked = pl.col(column).is_in(list(values))
        # The row that says a trace is gone names no response: all rows of the traces are looked at.
        found = rows.join(rows.filter(asked).select("trace_id").unique(), on="trace_id", how="semi").collect()
        newest = pl.col("sequence") == pl.col("sequence").max().over("trace_id")
        return found.filter(newest).filter(asked, pl.col("kind") == "turn").to_dicts()


def _facts(row: Mapping[str, Any]) -> TraceFacts:
    return TraceFacts(
        trace_id=row["trace_id"],
        release_bundle=row[PARTITION],
        session_id=row["session_id"],
        user=row["user_key"],
    )
