"""All release bundles side by side: traffic, failures, clusters, datasets, scores and verdicts, oldest first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mangaassist_assets.core.bundles import TURNS_ASSET, TURNS_CARD_FILE, bundles_by_start
from mangaassist_assets.core.figures import Figures, Row
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.mining.blame.stored_failures import count_failures
from mangaassist_assets.mining.tracking.cluster_files import read_clusters
from mangaassist_assets.models.registration.registry import EVALUATION_FILE

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.models.pipelines import ModelPipeline

COMPARISON_FILE = "comparison.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedFromBundle:
    """What one model pipeline made of a bundle; None is what is not there.

    `examples` are those of train, validation and test; the scores are in the pipeline's metric, on the same tests.
    """

    model: str
    examples: tuple[int, int, int] | None = None
    metric: str | None = None
    champion_version: str | None = None
    champion: float | None = None
    challenger_version: str | None = None
    challenger: float | None = None
    tests: int | None = None
    verdict: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedBundle:
    """One bundle; its counts are None where that step was not made. `new_clusters` had no forerunner."""

    release_bundle: str
    start_ms: int
    turns: int
    failures: int | None
    clusters: int | None
    new_clusters: int | None
    learned: tuple[LearnedFromBundle, ...]

    def row(self) -> Row:
        """Return the bundle as a flat row."""
        learned: dict[str, str | int | float] = {}
        for one in self.learned:
            examples = "–" if one.examples is None else " / ".join(map(str, one.examples))
            scores = "–" if one.champion is None else f"{one.champion:.3f} → {one.challenger:.3f}"
            learned |= {
                f"{one.model} examples": examples,
                f"{one.model} champion → challenger": scores,
                f"{one.model} verdict": one.verdict or "–",
            }
        return {
            "bundle": self.release_bundle,
            "turns": self.turns,
            "failures": _shown(self.failures),
            "clusters": _shown(self.clusters),
            "new clusters": _shown(self.new_clusters),
            **learned,
        }


def compare_bundles(
    store: SnapshotStore, pipelines: Sequence[ModelPipeline], *, only: Sequence[str] | None = None
) -> list[ComparedBundle]:
    """Return the bundles with stored traces, the oldest first; `only` names those that are wanted."""
    return [
        _compared(store, pipelines, bundle, start_ms)
        for bundle, start_ms in bundles_by_start(store).items()
        if only is None or bundle in only
    ]


def comparison_files(bundles: Sequence[ComparedBundle]) -> dict[str, bytes]:
    """Return the comparison as it is stored."""
    return {COMPARISON_FILE: canonical_json(bundles)}


def comparison_figures(bundles: Sequence[ComparedBundle]) -> Figures:
    """Return one row a bundle."""
    return {"dagster/row_count": len(bundles), "bundles": [one.row() for one in bundles]}


def _compared(store: SnapshotStore, pipelines: Sequence[ModelPipeline], bundle: str, start_ms: int) -> ComparedBundle:
    clustered = store.find("failure_clusters", partition=bundle) is not None
    clusters = read_clusters(store, bundle) if clustered else []
    return ComparedBundle(
        release_bundle=bundle,
        start_ms=start_ms,
        turns=store.read_json(store.latest(TURNS_ASSET, partition=bundle), TURNS_CARD_FILE)["turns"],
        failures=count_failures(store, bundle),
        clusters=len(clusters) if clustered else None,
        new_clusters=sum(one.state == "born" for one in clusters) if clustered else None,
        learned=tuple(_learned(store, pipeline, bundle) for pipeline in pipelines),
    )


def _learned(store: SnapshotStore, pipeline: ModelPipeline, bundle: str) -> LearnedFromBundle:
    dataset = store.find(pipeline.dataset_asset, partition=bundle)
    stored = store.find(pipeline.evaluation_asset, partition=bundle)
    by_split = json.loads(store.read(dataset, "card.json"))["by_split"] if dataset else None
    judged = store.read_json(stored, EVALUATION_FILE) if stored else {}
    return LearnedFromBundle(
        model=pipeline.model_asset,
        examples=by_split and (by_split.get("train", 0), by_split.get("validation", 0), by_split.get("test", 0)),
        metric=judged.get("metric"),
        champion_version=judged.get("champion_version"),
        champion=judged.get("champion_score"),
        challenger_version=judged.get("challenger_version"),
        challenger=judged.get("challenger_score"),
        tests=judged.get("test_examples"),
        verdict=judged.get("verdict"),
    )


def _shown(count: int | None) -> int | str:
    return "–" if count is None else count
