"""The satisfaction report: counts of turns and thumbs by group, as shares with intervals, against the bundle before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import polars as pl

from mangaassist_assets.core.intervals import CONFIDENCE, newcombe_difference, wilson_interval
from mangaassist_assets.reporting.groups import NOT_STATED, bounds
from mangaassist_assets.reporting.warehouse.queries import OVERALL, SATISFACTION_DIMENSIONS

GROUP_SCHEMA = pl.Schema(
    {
        "dimension": pl.String,
        "value": pl.String,
        "turns": pl.Int64,
        "rated": pl.Int64,
        "thumbs_up": pl.Int64,
        "thumbs_down": pl.Int64,
        "satisfaction": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "response_rate": pl.Float64,
        "median_ms": pl.Float64,
        "p95_ms": pl.Float64,
        "rated_before": pl.Int64,
        "satisfaction_before": pl.Float64,
        "difference": pl.Float64,
        "difference_low": pl.Float64,
        "difference_high": pl.Float64,
        "moved": pl.Boolean,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCounts:
    """What the warehouse counted for one group; `value` is None where turns do not say. Times in milliseconds."""

    dimension: str
    value: str | None
    turns: int
    thumbs_up: int
    thumbs_down: int
    median_ms: float | None = None
    p95_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSatisfaction(GroupCounts):
    """One group: counts, the share of thumbs up with its interval, and the difference to the bundle before.

    `satisfaction`, `low` and `high` are None without ratings; the fields of the comparison are None where the group
    had none on either side. `moved` is true only where the interval of the difference excludes 0.
    """

    rated: int
    satisfaction: float | None
    low: float | None
    high: float | None
    response_rate: float | None
    rated_before: int | None
    satisfaction_before: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    moved: bool

    @property
    def label(self) -> str:
        """The group's value as people read it."""
        return self.value if self.value is not None else NOT_STATED


@dataclass(frozen=True, slots=True, kw_only=True)
class SatisfactionReport:
    """The report of one bundle. `events_without_turn` are thumbs for turns that are late or in quarantine."""

    release_bundle: str
    compared_with: str | None
    confidence: float
    events: int
    events_without_turn: int
    groups: tuple[GroupSatisfaction, ...]

    @property
    def overall(self) -> GroupSatisfaction:
        """The group of all turns."""
        return next(group for group in self.groups if group.dimension == OVERALL)

    def of(self, dimension: str) -> tuple[GroupSatisfaction, ...]:
        """Return the groups of a dimension, the largest first."""
        return tuple(group for group in self.groups if group.dimension == dimension)

    def frame(self) -> pl.DataFrame:
        """Return one row per group in GROUP_SCHEMA."""
        return pl.DataFrame([asdict(group) for group in self.groups], schema=GROUP_SCHEMA, orient="row")


def read_counts(rows: pl.DataFrame) -> list[GroupCounts]:
    """Return the rows of `satisfaction_query` as counts."""
    return [GroupCounts(**row) for row in rows.iter_rows(named=True)]


def build_report(
    counts: Iterable[GroupCounts],
    *,
    release_bundle: str,
    compared_with: str | None = None,
    before: Iterable[GroupCounts] = (),
    events: int = 0,
    events_without_turn: int = 0,
) -> SatisfactionReport:
    """Return the report; groups in the order of the dimensions, the largest first.

    Raises:
        ValueError: A dimension does not add up to the bundle's turns.
    """
    counted = list(counts)
    _check_sums(counted, release_bundle)
    earlier = {(one.dimension, one.value): one for one in before}
    order = {dimension: place for place, dimension in enumerate((OVERALL, *SATISFACTION_DIMENSIONS))}
    counted.sort(key=lambda one: (order[one.dimension], -one.turns, one.value is None, one.value or ""))
    return SatisfactionReport(
        release_bundle=release_bundle,
        compared_with=compared_with,
        confidence=CONFIDENCE,
        events=events,
        events_without_turn=events_without_turn,
        groups=tuple(_group(one, earlier) for one in counted),
    )


def _group(counts: GroupCounts, earlier: Mapping[tuple[str, str | None], GroupCounts]) -> GroupSatisfaction:
    rated = counts.thumbs_up + counts.thumbs_down
    share = wilson_interval(counts.thumbs_up, rated)
    before = earlier.get((counts.dimension, counts.value))
    rated_before = before.thumbs_up + before.thumbs_down if before else None
    difference = (
        newcombe_difference(counts.thumbs_up, rated, before.thumbs_up, rated_before)
        if before and rated_before
        else None
    )
    satisfaction, low, high = bounds(share)
    change, change_low, change_high = bounds(difference)
    return GroupSatisfaction(
        **asdict(counts),
        rated=rated,
        satisfaction=satisfaction,
        low=low,
        high=high,
        response_rate=rated / counts.turns if counts.turns else None,
        rated_before=rated_before,
        satisfaction_before=before.thumbs_up / rated_before if before and rated_before else None,
        difference=change,
        difference_low=change_low,
        difference_high=change_high,
        moved=difference is not None and not difference.low <= 0 <= difference.high,
    )


def _check_sums(counts: Sequence[GroupCounts], release_bundle: str) -> None:
    totals = {dimension: Counter[str]() for dimension in (OVERALL, *SATISFACTION_DIMENSIONS)}
    for one in counts:
        totals[one.dimension].update(turns=one.turns, thumbs_up=one.thumbs_up, thumbs_down=one.thumbs_down)
    for dimension, total in totals.items():
        if total != totals[OVERALL]:
            raise ValueError(
                f"groups by {dimension} of {release_bundle} add up to {dict(total)}, not to {dict(totals[OVERALL])}: "
                "the warehouse changed while it was read, materialize feedback_warehouse again"
            )
