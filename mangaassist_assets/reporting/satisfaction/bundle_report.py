"""The satisfaction report of one release bundle, out of the warehouse, and what it shows of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from mangaassist_assets.core.bundles import previous_bundle
from mangaassist_assets.core.figures import Figures
from mangaassist_assets.core.markdown import link, plain
from mangaassist_assets.reporting.groups import shown_groups, shown_name
from mangaassist_assets.reporting.satisfaction.report import SatisfactionReport, build_report, read_counts
from mangaassist_assets.reporting.warehouse.loading import WAREHOUSE_ASSET, read_load, require_loaded
from mangaassist_assets.reporting.warehouse.queries import STRAY_EVENTS, satisfaction_query

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.reporting.warehouse.types import Warehouse

SHOWN_COLUMNS = (
    *("turns", "rated", "thumbs_up", "satisfaction", "low", "high"),
    *("rated_before", "satisfaction_before", "difference", "difference_low", "difference_high", "moved"),
)
"""What of the groups is shown; the snapshot holds all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleSatisfaction:
    """The report of a bundle, and what it shows of itself."""

    report: SatisfactionReport

    def __str__(self) -> str:
        overall = self.report.overall
        moved = sum(group.moved for group in self.report.groups)
        return (
            f"{overall.thumbs_up} of {overall.rated} rated turns are thumbs up, {overall.turns} turns; compared with "
            f"{self.report.compared_with or 'no earlier bundle'}: {moved} groups moved"
        )

    def figures(self) -> Figures:
        """Return counts, the groups that moved, and the largest groups of each dimension."""
        report, overall = self.report, self.report.overall
        shown = shown_groups(report.frame().to_dicts(), SHOWN_COLUMNS, by="turns")
        moved = [
            f"{group.dimension} {shown_name(group.value)} {group.difference:+.3f}"
            for group in report.groups
            if group.moved
        ]
        share: Figures = {} if overall.satisfaction is None else {"satisfaction": overall.satisfaction}
        return {
            "dagster/row_count": len(report.groups),
            "turns": overall.turns,
            "rated": overall.rated,
            **share,
            "compared_with": report.compared_with or "no earlier bundle",
            "moved": ", ".join(moved) or "nothing",
            "feedback_events": report.events,
            "feedback_without_turn": report.events_without_turn,
            "groups": shown.rows,
            "groups_not_shown": shown.said or "none",
        }


def report_satisfaction(database: Warehouse, store: SnapshotStore, release_bundle: str) -> BundleSatisfaction:
    """Count a bundle and the one before in the warehouse, and compare.

    The bundle is compared with the newest one before it that is in the warehouse.

    Raises:
        WarehouseError: The warehouse does not hold what was loaded; see `require_loaded`.
        ValueError: The warehouse changed while it was read.
    """
    before = previous_bundle(store, release_bundle, having=WAREHOUSE_ASSET)
    bundles = [release_bundle] if before is None else [release_bundle, before]
    for bundle in bundles:
        require_loaded(database, read_load(store, bundle))
    counts = [read_counts(database.query(satisfaction_query(), {"release_bundle": bundle})) for bundle in bundles]
    events, stray = database.query(STRAY_EVENTS, {"release_bundle": release_bundle}).row(0)
    report = build_report(
        counts[0],
        release_bundle=release_bundle,
        compared_with=before,
        before=counts[1] if before is not None else (),
        events=events,
        events_without_turn=stray,
    )
    return BundleSatisfaction(report=report)


def report_links(report: SatisfactionReport, *, traces_url: str, intent_model_url: Callable[[str], str]) -> str:
    """Return links to the traces of each prompt version and to each intent model, as Markdown.

    Args:
        report: The report.
        traces_url: The page of the bundle's traces, which takes further `tag` parameters.
        intent_model_url: Returns the page of a version of the intent model.
    """
    lines = [f"- {link(f'all traces of {report.release_bundle}', traces_url)}"]
    for group in report.of("prompt_version"):
        if group.value is not None:
            tag = quote(f"prompt_version={quote(group.value, safe='')}", safe="")
            lines.append(f"- prompt {plain(group.value)}: {link(f'{group.turns} traces', f'{traces_url}&tag={tag}')}")
    for group in report.of("intent_model_version"):
        # A version of the registry is a number; a model from elsewhere has no page there.
        if group.value is not None and group.value.isdecimal():
            url = intent_model_url(group.value)
            lines.append(f"- intent model: {link(f'version {group.value}', url)}, {group.turns} turns")
    return "\n".join(lines)
