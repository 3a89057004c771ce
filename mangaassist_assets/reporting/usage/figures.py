"""What the usage report shows of itself: the figures of all turns, and the largest rows of its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars.selectors as cs

from mangaassist_assets.core.figures import Figures
from mangaassist_assets.reporting.groups import shown_groups, shown_rows

if TYPE_CHECKING:
    from mangaassist_assets.reporting.usage.report import UsageReport

STAGES_SHOWN = 24
_MILLISECONDS = {name: f"latency_{name}_ms" for name in ("p50", "p95", "p99")}
_COSTS = ("cost_usd", "reported_cost_usd", "listed_cost_usd")
_FIGURES = (*_MILLISECONDS, "error_rate", "blocked_rate", "cache_hit_share", *_COSTS)
_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
_GROUP_COLUMNS = (
    *("turns", "errors", "error_rate", "blocked", "blocked_rate", "cache_hits", "cache_stated", *_MILLISECONDS),
    *("calls", *_TOKENS, "cost_usd", "priced_calls", "reported_cost_usd", "reported_calls", "listed_cost_usd"),
)
_STAGE_COLUMNS = ("name", "calls", "failed", *_MILLISECONDS)
_MODEL_COLUMNS = (
    *("model_id", "calls", *_TOKENS, "cost_usd", "priced_calls", "unpriced_calls", "uncounted_calls"),
    *("reported_cost_usd", "reported_calls", "listed_cost_usd"),
)


def usage_figures(report: UsageReport) -> Figures:
    """Return the figures of all turns, tables of the largest groups, and what is not shown of them."""
    overall = report.overall
    groups = shown_groups(report.groups.to_dicts(), _GROUP_COLUMNS, by="turns", names=_MILLISECONDS)
    models = shown_groups(report.models.to_dicts(), _MODEL_COLUMNS, by="calls")
    stages, more_stages = report.most_called_stages(STAGES_SHOWN)
    return {
        "dagster/row_count": overall["turns"],
        **{
            _MILLISECONDS.get(name, name): float(round(overall[name], 6))
            for name in _FIGURES
            if overall[name] is not None
        },
        "cache_hits": f"{overall['cache_hits']} of {overall['cache_stated']}",
        "model_calls": overall["calls"],
        "priced_calls": overall["priced_calls"],
        "reported_calls": overall["reported_calls"],
        "unpriced_models": ", ".join(report.unpriced_models) or "none",
        "groups": groups.rows,
        "groups_not_shown": groups.said or "none",
        "stages": shown_rows(stages, _STAGE_COLUMNS, names=_MILLISECONDS),
        "stages_not_shown": more_stages,
        "models": models.rows,
        "models_not_shown": models.said or "none",
        "prices": report.prices.with_columns(cs.float().round(4)).to_dicts(),
        "unpriced": report.unpriced.to_dicts(),
        "price_notes": "\n".join(report.price_notes) or "none",
    }


def describe_usage(report: UsageReport) -> str:
    """Return turns, errors, model calls and their cost in one sentence."""
    overall = report.overall
    return (
        f"{overall['turns']} turns, {overall['errors']} errors, {overall['calls']} model calls, "
        f"{overall['priced_calls']} of them with a known cost, {overall['reported_calls']} as a proxy charged it, "
        f"{overall['cost_usd'] or 0.0:.4f} USD; no price for: {', '.join(report.unpriced_models) or 'none'}"
    )
