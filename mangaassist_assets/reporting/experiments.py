"""Arms of experiments, and challengers in the shadow, compared on the turns of a bundle.

The tag `experiment_id` says `EXPERIMENT:ARM`, several joined by a comma, `none` where no experiment ran. A value
without a colon is the arm of an experiment that its chatbot does not name. The intervals take turns as independent;
where one shopper wrote many of them they are too narrow, so the number of shoppers stands beside them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import polars as pl

from mangaassist_assets.core.figures import Row
from mangaassist_assets.core.intervals import Interval, newcombe_difference, wilson_interval
from mangaassist_assets.reporting.groups import bounds
from mangaassist_assets.tracing.contract.names import NO_EXPERIMENT

EXPERIMENT_COLUMNS = (
    *("trace_id", "session_id", "user_key", "user_feedback", "experiment_id"),
    *("intent", "intent_model_version", "expected_intent", "shadow_intent", "shadow_model_version"),
)
"""What of stored turns is looked at."""
UNNAMED_EXPERIMENT = "(not named)"
CONTROL = "control"
_IS_KNOWN = pl.col("user_key").fill_null("") != ""
_SHOPPER = pl.when(_IS_KNOWN).then("user_key").otherwise(pl.format("session:{}", "session_id"))
"""`shopper_of` of columns."""


def arms_of(experiment_id: str | None) -> tuple[tuple[str, str], ...]:
    """Return experiment and arm of each experiment that a turn was in."""
    found = []
    for part in (experiment_id or NO_EXPERIMENT).split(","):
        experiment, colon, arm = part.strip().partition(":")
        if not colon:
            experiment, arm = UNNAMED_EXPERIMENT, experiment
        if arm and arm.lower() != NO_EXPERIMENT:
            found.append((experiment or UNNAMED_EXPERIMENT, arm))
    return tuple(dict.fromkeys(found))


def arm_rows(turns: pl.DataFrame, failed: Collection[str]) -> list[Row]:
    """Return one row an experiment and arm, sorted: turns, shoppers, failures and thumbs with 95 % intervals.

    Each arm's failure rate is compared with that of the arm called `control`, or of the largest arm where none is.

    `turns` have the `EXPERIMENT_COLUMNS`; `failed` are the trace ids of those that failed.
    """
    arms = pl.DataFrame(
        [
            (said, experiment, arm)
            for said in turns["experiment_id"].unique().drop_nulls()
            for experiment, arm in arms_of(said)
        ],
        schema=dict.fromkeys(("experiment_id", "experiment", "arm"), pl.String),
        orient="row",
    )
    counted = (
        turns.join(arms, on="experiment_id")
        .group_by("experiment", "arm")
        .agg(
            turns=pl.len(),
            shoppers=_SHOPPER.n_unique(),
            failures=pl.col("trace_id").is_in(list(failed)).sum(),
            thumbs_up=(pl.col("user_feedback") == "thumbs_up").sum(),
            thumbs_down=(pl.col("user_feedback") == "thumbs_down").sum(),
        )
        .sort("experiment", "arm")
    )
    return [
        _arm_row(row, {one["arm"]: one for one in of_experiment.iter_rows(named=True)})
        for of_experiment in counted.partition_by("experiment", maintain_order=True)
        for row in of_experiment.iter_rows(named=True)
    ]


def shadow_rows(turns: pl.DataFrame) -> list[Row]:
    """Return one row a pair of champion and challenger: how often they agree on the intent, and which was right.

    Who was right is known of turns whose intent a person reviewed. `turns` have the `EXPERIMENT_COLUMNS`.
    """
    champion = pl.col("intent") == pl.col("expected_intent")
    shadow = pl.col("shadow_intent") == pl.col("expected_intent")
    counted = (
        turns.drop_nulls(["intent", "shadow_intent"])
        .group_by(
            champion=pl.col("intent_model_version").fill_null(""), shadow=pl.col("shadow_model_version").fill_null("")
        )
        .agg(
            turns=pl.len(),
            agree=(pl.col("intent") == pl.col("shadow_intent")).sum(),
            reviewed=pl.col("expected_intent").count(),
            only_champion_right=(champion & ~shadow).sum(),
            only_shadow_right=(shadow & ~champion).sum(),
            both_right=(champion & shadow).sum(),
        )
        .sort("champion", "shadow")
    )
    return [
        {
            **{name: row[name] for name in ("champion", "shadow", "turns", "agree")},
            **_figures("agreement", wilson_interval(row["agree"], row["turns"])),
            **{name: row[name] for name in ("reviewed", "only_champion_right", "only_shadow_right", "both_right")},
        }
        for row in counted.iter_rows(named=True)
    ]


def _arm_row(own: Mapping[str, Any], arms: Mapping[str, Mapping[str, Any]]) -> Row:
    """Return the row of an arm; `arms` are the counts of all arms of its experiment, by name and sorted by it."""
    control = CONTROL if CONTROL in arms else max(arms, key=lambda one: int(arms[one]["turns"]))
    against = arms[control]
    is_control = own["arm"] == control
    difference = (
        None
        if is_control
        else newcombe_difference(own["failures"], own["turns"], against["failures"], against["turns"])
    )
    rated = own["thumbs_up"] + own["thumbs_down"]
    return {
        **{name: own[name] for name in ("experiment", "arm", "turns", "shoppers", "failures")},
        **_figures("failure_rate", wilson_interval(own["failures"], own["turns"])),
        "against": "" if is_control else control,
        **_figures("difference", difference),
        "thumbs_up": own["thumbs_up"],
        "thumbs_down": own["thumbs_down"],
        **_figures("satisfaction", wilson_interval(own["thumbs_up"], rated)),
    }


def _figures(name: str, interval: Interval | None) -> Row:
    keys = (name, f"{name}_low", f"{name}_high")
    return {key: None if value is None else round(value, 4) for key, value in zip(keys, bounds(interval), strict=True)}
