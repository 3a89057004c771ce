"""Why model calls have no cost, and which prices only stand in for one that is not known."""

from __future__ import annotations

from typing import Any

import polars as pl

from mangaassist_assets.reporting.usage.prices import TOKEN_KINDS, PriceTable, why_unknown

UNKNOWN_MODEL = "(not stated)"
_NO_TOKENS = "the trace does not state its tokens"
UNPRICED_SCHEMA: dict[str, type[pl.DataType]] = {"model_id": pl.String, "reason": pl.String, "calls": pl.Int64}


def unpriced_calls(calls: pl.DataFrame, prices: PriceTable, *, region: str | None = None) -> pl.DataFrame:
    """Return one row a model and reason (UNPRICED_SCHEMA) for calls without a cost, the most calls first.

    Args:
        calls: What `report.priced_calls` returns.
        prices: What it was given.
        region: As it was given.
    """
    without = calls.filter(pl.col("cost_usd").is_null())
    missing = pl.concat_str(
        [
            pl.when((pl.col(f"{kind}_tokens").fill_null(0) > 0) & pl.col(f"{kind}_usd").is_null()).then(pl.lit(kind))
            for kind in TOKEN_KINDS
        ],
        separator=", ",
        ignore_nulls=True,
    )
    never = {
        model: _why_never(model, prices, region)
        for model in without.filter(~pl.col("has_price"))["model_id"].unique().sort()
    }
    return (
        without.with_columns(
            reason=pl.when(~pl.col("has_price"))
            .then(pl.col("model_id").replace_strict(never, default=None, return_dtype=pl.String))
            .when(pl.col("is_unpriced"))
            .then(pl.format("its price for {} tokens is not known", missing))
            .otherwise(pl.lit(_NO_TOKENS))
        )
        .group_by("model_id", "reason")
        .agg(calls=pl.len().cast(pl.Int64))
        .select(*UNPRICED_SCHEMA)
        .sort("calls", "model_id", "reason", descending=[True, False, False])
    )


def unpriced_notes(rows: list[dict[str, Any]]) -> list[str]:
    """Return the rows of `unpriced_calls` as sentences."""
    return [f"{row['model_id']}: {row['calls']} calls without a cost: {row['reason']}" for row in rows]


def stand_in_notes(rows: list[dict[str, Any]]) -> list[str]:
    """Return which of a report's `prices` had ended before the calls that were priced by them, as sentences."""
    return [
        f"{row['model_id']}: {row['calls']} calls are priced with the list of {row['valid_to'][:7]} "
        f"({row['price_model_id']}): that price ended on {row['valid_to']}, and no later one is known"
        for row in rows
        if row["last_known"]
    ]


def _why_never(model: str, prices: PriceTable, region: str | None) -> str:
    if model == UNKNOWN_MODEL:
        return "the trace does not state its model"
    periods = prices.periods(model, region=region)
    if not periods:
        return why_unknown(model)
    first = periods[0].price
    return f"no price is known for that time: the first one ({first.model_id}) begins on {first.valid_from}"
