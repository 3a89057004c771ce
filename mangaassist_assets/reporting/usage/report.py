"""The usage report of one release bundle: latency by stage, tokens, cost by model, rates; all columnar.

Every table has `dimension` and `value`: all turns (`overall`), each prompt version, experiment arm, tenant and team.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from mangaassist_assets.reporting.usage.prices import TOKEN_KINDS, PricePeriod, PriceTable
from mangaassist_assets.reporting.usage.unpriced import UNKNOWN_MODEL, stand_in_notes, unpriced_calls, unpriced_notes
from mangaassist_assets.reporting.warehouse.queries import OVERALL
from mangaassist_assets.reporting.warehouse.rows import unnested
from mangaassist_assets.tracing.contract.names import SpanName

DIMENSIONS = ("prompt_version", "experiment_id", "tenant", "team")
WHOLE_TURN = SpanName.CHAT_TURN.value
PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}

_MILLION = 1_000_000
_USD_DIGITS = 8
_GROUP = ("dimension", "value")
_TOKENS = tuple(f"{kind}_tokens" for kind in TOKEN_KINDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReport:
    """Five tables.

    `groups`: one row a group: turns, errors, blocked, turns that state a cache hit and that had one, calls of models,
    tokens, cost. `stages`: one row a group and span name: calls, failed, p50, p95, p99 in milliseconds. `models`: one
    row a group and model id: calls, tokens, cost. `prices`: the prices that were used, and how often; `last_known` ones
    had ended before. `unpriced`: one row a model and reason for calls without a cost.

    Costs are USD. `cost_usd` adds up the calls whose cost is known (`priced_calls`) and is null where there is none.
    What a proxy charged counts (`reported_cost_usd`, of `reported_calls`), 0 for an answer from its cache; the other
    calls cost their tokens by the price list (`listed_cost_usd`). Each part is null where no call has one.
    """

    release_bundle: str
    groups: pl.DataFrame
    stages: pl.DataFrame
    models: pl.DataFrame
    prices: pl.DataFrame
    unpriced: pl.DataFrame

    @property
    def price_notes(self) -> list[str]:
        """What to know of the costs: calls without one, by model with the reason, and prices that had ended."""
        return [*unpriced_notes(self.unpriced.to_dicts()), *stand_in_notes(self.prices.to_dicts())]

    @property
    def overall(self) -> dict[str, Any]:
        """The row of `groups` over all turns."""
        return self.groups.row(0, named=True)

    @property
    def unpriced_models(self) -> list[str]:
        """Models with calls that have no price, sorted."""
        models = self.models.filter((pl.col("dimension") == OVERALL) & (pl.col("unpriced_calls") > 0))
        return sorted(models["model_id"])

    def most_called_stages(self, most: int) -> tuple[list[dict[str, Any]], int]:
        """Return the rows of the stages that were called most over all turns, the slowest first, and how many more."""
        return most_called(self.of("stages"), most)

    def of(self, table: str, dimension: str = OVERALL) -> list[dict[str, Any]]:
        """Return the rows of `groups`, `stages` or `models` of one dimension."""
        frame: pl.DataFrame = getattr(self, table)
        return frame.filter(pl.col("dimension") == dimension).to_dicts()

    def tables(self) -> dict[str, pl.DataFrame]:
        """Return the five tables by name."""
        return {name: getattr(self, name) for name in ("groups", "stages", "models", "prices", "unpriced")}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "release_bundle": self.release_bundle,
            "unpriced_models": self.unpriced_models,
            "price_notes": self.price_notes,
            **{name: table.to_dicts() for name, table in self.tables().items()},
        }


def most_called(stages: Sequence[dict[str, Any]], most: int) -> tuple[list[dict[str, Any]], int]:
    """Return the stages of one group that were called most, in their order, and how many more there are."""
    kept = {row["name"] for row in sorted(stages, key=lambda row: (-row["calls"], row["name"]))[:most]}
    return [row for row in stages if row["name"] in kept], len(stages) - len(kept)


def build_usage_report(
    turns: pl.DataFrame, prices: PriceTable, *, release_bundle: str, region: str | None = None
) -> UsageReport:
    """Return the report of a bundle.

    Args:
        turns: Chat turns in TURN_SCHEMA.
        prices: What models cost.
        release_bundle: The bundle.
        region: AWS region whose prices count before those of any region.
    """
    calls, used = priced_calls(turns, prices, region=region)
    return UsageReport(
        release_bundle=release_bundle,
        groups=_groups(turns, calls),
        stages=_stages(turns),
        models=_sorted(_by_dimension(calls, ["model_id"], _call_figures()), "calls"),
        prices=used,
        unpriced=unpriced_calls(calls, prices, region=region),
    )


def priced_calls(
    turns: pl.DataFrame, prices: PriceTable, *, region: str | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return one row per model call with `cost_usd` and why it has none, and the prices that were used.

    What a proxy reported is the cost of its call; `listed_cost_usd` is that of the others, by the list. The price that
    was valid when the turn began counts, else the last one that had ended before (`last_known`). `cost_usd` is null,
    and one of `is_unpriced` (no price for a kind of token that was used) and `is_uncounted` (the trace names no tokens)
    is true, where it is not known.
    """
    calls = unnested(turns, "generations", "timestamp_ms", "bedrock_model_id", *DIMENSIONS).with_columns(
        model_id=pl.coalesce("model_id", "bedrock_model_id", pl.lit(UNKNOWN_MODEL))
    )
    periods = _periods_frame(calls["model_id"].unique().sort().to_list(), prices, region)
    priced = (
        calls.with_row_index("call")
        .sort("timestamp_ms")
        .join_asof(
            periods,
            left_on="timestamp_ms",
            right_on="from_ms",
            by="model_id",
            strategy="backward",
            check_sortedness=False,
        )
        .with_columns(
            has_price=pl.col("from_ms").is_not_null()
            & (pl.col("to_ms").is_null() | (pl.col("timestamp_ms") < pl.col("to_ms")))
        )
        .sort("call")
    )
    amounts = [pl.col(f"{kind}_tokens").fill_null(0) * pl.col(f"{kind}_usd") / _MILLION for kind in TOKEN_KINDS]
    needed = [(pl.col(f"{kind}_tokens").fill_null(0) > 0) & pl.col(f"{kind}_usd").is_null() for kind in TOKEN_KINDS]
    is_listed = pl.col("reported_cost_usd").is_null()
    # An embedding model has no output tokens, and no price for them.
    counted = pl.col("input_tokens").is_not_null() & (
        pl.col("output_tokens").is_not_null() | (pl.col("has_price") & pl.col("output_usd").is_null())
    )
    priced = (
        priced.with_columns(is_unpriced=is_listed & (~pl.col("has_price") | pl.any_horizontal(needed)))
        .with_columns(is_uncounted=is_listed & ~counted & ~pl.col("is_unpriced"))
        .with_columns(
            listed_cost_usd=pl.when(is_listed & ~pl.col("is_unpriced") & ~pl.col("is_uncounted")).then(
                pl.sum_horizontal([amount.fill_null(0.0) for amount in amounts])
            )
        )
        .with_columns(cost_usd=pl.coalesce("reported_cost_usd", "listed_cost_usd"))
    )
    used = (
        priced.filter(pl.col("has_price") & is_listed)
        .group_by(
            "model_id", "price_model_id", "price_region", "valid_from", "valid_to", "source", "retrieved", "last_known"
        )
        .agg(calls=pl.len().cast(pl.Int64), **{f"{kind}_usd": pl.col(f"{kind}_usd").first() for kind in TOKEN_KINDS})
        .sort("model_id", "valid_from", "last_known")
    )
    return priced, used


def _periods_frame(models: Sequence[str], prices: PriceTable, region: str | None) -> pl.DataFrame:
    rows = [
        {
            "model_id": model,
            "from_ms": period.from_ms,
            "to_ms": period.to_ms,
            "last_known": period.last_known,
            **_price_columns(period),
        }
        for model in models
        for period in prices.periods(model, region=region)
    ]
    schema: dict[str, type[pl.DataType]] = {
        "model_id": pl.String,
        "from_ms": pl.Int64,
        "to_ms": pl.Int64,
        "last_known": pl.Boolean,
        **{f"{kind}_usd": pl.Float64 for kind in TOKEN_KINDS},
        **dict.fromkeys(("price_model_id", "price_region", "valid_from", "valid_to", "source", "retrieved"), pl.String),
    }
    return pl.DataFrame(rows, schema=schema, orient="row").sort("from_ms")


def _price_columns(period: PricePeriod) -> dict[str, Any]:
    price = period.price
    return {
        **{f"{kind}_usd": getattr(price, kind) for kind in TOKEN_KINDS},
        "price_model_id": price.model_id,
        "price_region": price.region,
        "valid_from": price.valid_from.isoformat(),
        "valid_to": price.valid_to.isoformat() if price.valid_to else None,
        "source": price.source,
        "retrieved": price.retrieved.isoformat(),
    }


def _groups(turns: pl.DataFrame, calls: pl.DataFrame) -> pl.DataFrame:
    stated = pl.col("cache_hit").is_not_null()
    rates = {
        "turns": pl.len().cast(pl.Int64),
        "errors": (pl.col("state") == "ERROR").sum().cast(pl.Int64),
        "blocked": pl.col("guardrail_blocked").sum().cast(pl.Int64),
        "cache_stated": stated.sum().cast(pl.Int64),
        "cache_hits": pl.col("cache_hit").sum().cast(pl.Int64),
        **_percentiles("duration_ms"),
    }
    turn_side = _by_dimension(turns, [], rates).with_columns(
        error_rate=_share("errors", "turns"),
        blocked_rate=_share("blocked", "turns"),
        cache_hit_share=_share("cache_hits", "cache_stated"),
    )
    call_side = _by_dimension(calls, [], _call_figures())
    counts = ["calls", "priced_calls", "reported_calls", "unpriced_calls", "uncounted_calls"]
    joined = turn_side.join(call_side, on=_GROUP, how="left", nulls_equal=True).with_columns(
        pl.col(counts).fill_null(0), pl.col(_TOKENS).fill_null(0)
    )
    return _sorted(joined, "turns")


def _stages(turns: pl.DataFrame) -> pl.DataFrame:
    # The turn's own duration stands for its root span, which traces of other writers have under another name.
    spans = (
        unnested(turns, "stages", *DIMENSIONS)
        .filter(pl.col("name") != WHOLE_TURN)
        .select("name", "duration_ms", "failed", *DIMENSIONS)
    )
    whole = turns.select(
        pl.lit(WHOLE_TURN).alias("name"),
        pl.col("duration_ms").cast(pl.Float64),
        (pl.col("state") == "ERROR").alias("failed"),
        *DIMENSIONS,
    )
    figures = {
        "calls": pl.len().cast(pl.Int64),
        "failed": pl.col("failed").sum().cast(pl.Int64),
        **_percentiles("duration_ms"),
    }
    return _sorted(_by_dimension(pl.concat([whole, spans]), ["name"], figures), "p95")


def _percentiles(column: str) -> dict[str, pl.Expr]:
    """Percentiles by linear interpolation, as numpy's default and SQL's PERCENTILE_CONT."""
    return {name: pl.col(column).quantile(share, interpolation="linear") for name, share in PERCENTILES.items()}


def _call_figures() -> dict[str, pl.Expr]:
    def sum_or_null(column: str) -> pl.Expr:
        # The order of a parallel sum varies in the last bits; a report of the same turns is the same bytes.
        return pl.when(pl.col(column).count() > 0).then(pl.col(column).sum().round(_USD_DIGITS))

    return {
        "calls": pl.len().cast(pl.Int64),
        "priced_calls": pl.col("cost_usd").count().cast(pl.Int64),
        "reported_calls": pl.col("reported_cost_usd").count().cast(pl.Int64),
        "unpriced_calls": pl.col("is_unpriced").sum().cast(pl.Int64),
        "uncounted_calls": pl.col("is_uncounted").sum().cast(pl.Int64),
        **{tokens: pl.col(tokens).sum().cast(pl.Int64) for tokens in _TOKENS},
        "cost_usd": sum_or_null("cost_usd"),
        "reported_cost_usd": sum_or_null("reported_cost_usd"),
        "listed_cost_usd": sum_or_null("listed_cost_usd"),
    }


def _by_dimension(frame: pl.DataFrame, keys: Sequence[str], figures: dict[str, pl.Expr]) -> pl.DataFrame:
    """Return the figures over all rows and by every dimension, further split by `keys`."""
    whole = frame.group_by(keys).agg(**figures) if keys else frame.select(**figures)
    parts = [whole.select(pl.lit(OVERALL).alias("dimension"), pl.lit(None, pl.String).alias("value"), pl.all())]
    parts += [
        frame.group_by(name, *keys)
        .agg(**figures)
        .rename({name: "value"})
        .select(pl.lit(name).alias("dimension"), "value", pl.exclude("value"))
        for name in DIMENSIONS
    ]
    return pl.concat(parts, how="vertical")


def _share(part: str, whole: str) -> pl.Expr:
    return pl.when(pl.col(whole) > 0).then(pl.col(part) / pl.col(whole))


def _sorted(frame: pl.DataFrame, largest_first: str) -> pl.DataFrame:
    order = pl.col("dimension").replace_strict({OVERALL: 0, **{name: 1 + i for i, name in enumerate(DIMENSIONS)}})
    rest = [name for name in ("model_id", "name") if name in frame.columns]
    keys = [order, pl.col("value").is_null(), pl.col("value"), -pl.col(largest_first), *map(pl.col, rest)]
    return frame.sort(keys, nulls_last=True, maintain_order=True)
