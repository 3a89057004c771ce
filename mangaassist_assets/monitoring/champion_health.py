"""Does a champion still answer as well as when it was promoted? It answers fresh reviewed messages, and is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mangaassist_assets.core.arrays import Floats
from mangaassist_assets.core.snapshots import Snapshot, SnapshotStore, canonical_json
from mangaassist_assets.models.registration.cross_fit import CrossFit, kept_answers
from mangaassist_assets.models.registration.registry import EVALUATION_FILE
from mangaassist_assets.monitoring.decay import judge_decay, with_references
from mangaassist_assets.monitoring.decay_report import AUDITED, DecayConfig, DecayReport, Reviews
from mangaassist_assets.monitoring.fresh_reviews import FreshReviews, ReviewRows, fresh_reviews

if TYPE_CHECKING:
    from mangaassist_assets.models.model_types import ModelType
    from mangaassist_assets.models.pipelines import ModelPipeline
    from mangaassist_assets.models.registration.registry import ModelStore, ModelVersion, Tracking

HEALTH_FILE = "health.json"
HEALTH_TEXT_FILE = "health.md"
HEALTH_TAG = "champion_health"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionHealth:
    """How a champion stands.

    `unknown` counts fresh messages with an answer that the champion never learned: they count as wrong, for so they
    were answered.
    """

    champion: ModelVersion
    report: DecayReport
    gathered: FreshReviews
    unknown: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            **self.report.to_dict(),
            "champion_version": self.champion.version,
            "dataset_digest": self.champion.tags.get("dataset_digest"),
            "as_of_ms": self.gathered.as_of_ms,
            "excluded": dict(self.gathered.excluded),
            "unknown_to_champion": self.unknown,
        }


def judge_champion(
    models: ModelStore,
    snapshots: SnapshotStore,
    pipeline: ModelPipeline,
    model_type: ModelType[Any],
    champion: ModelVersion,
    *,
    config: DecayConfig | None = None,
) -> ChampionHealth:
    """Let a champion answer reviewed messages of before and after its promotion, and judge it.

    What it was promoted by and has learned since, models of its folds have answered: their answers are taken.

    Raises:
        ArtifactMismatchError: the artifact is damaged.
        ChampionDatasetGoneError: what it learned from is not stored any more.
    """
    out_of_fold = kept_answers(models, champion) if model_type.folds else None
    tested = None if out_of_fold is None else out_of_fold.tested
    gathered = fresh_reviews(snapshots, pipeline, champion, tested_by_folds=tested)
    promotion: list[tuple[Reviews, int]] = []
    later: list[tuple[Reviews, int]] = []
    if gathered.promotion or gathered.later:
        model = model_type.load(models.artifact_directory(champion), champion.artifact_sha256)
        promotion = [_answered(model_type, model, rows, champion.version, out_of_fold) for rows in gathered.promotion]
        later = [_answered(model_type, model, rows, champion.version) for rows in gathered.later]
    report = judge_decay(
        with_references([reviews for reviews, _ in promotion], [reviews for reviews, _ in later], config=config),
        metric=model_type.metric,
        binary=model_type.binary,
        promotion_score=_promotion_score(snapshots, pipeline, champion),
        config=config,
    )
    return ChampionHealth(
        champion=champion, report=report, gathered=gathered, unknown=sum(unknown for _, unknown in later)
    )


def keep_health(snapshots: SnapshotStore, pipeline: ModelPipeline, health: ChampionHealth) -> Snapshot:
    """Store an evaluation, as JSON and for people."""
    files = {HEALTH_FILE: canonical_json(health.to_dict()), HEALTH_TEXT_FILE: health.report.markdown().encode()}
    return snapshots.write(pipeline.health_asset, files)


def log_health(
    tracking: Tracking, pipeline: ModelPipeline, health: ChampionHealth, *, chart: bytes, dagster_run_id: str
) -> str:
    """Log an evaluation as a run, tag the version with its outcome, and return the run's id."""
    report, champion = health.report, health.champion
    tags = {
        "dagster_run_id": dagster_run_id,
        "champion_version": champion.version,
        "registered_model": pipeline.model_name,
        HEALTH_TAG: report.outcome,
    }
    params = {"alpha": report.config.alpha, "power": report.config.power, "loss": report.config.loss}
    with tracking.training_run(
        f"{pipeline.health_asset} of version {champion.version}",
        tags=tags,
        params=params,
        experiment=tracking.evaluation_experiment,
    ) as run:
        run.log_metrics(_figures(report))
        for step, one in enumerate(report.audited.bundles):
            figures = {"bundle_score": one.score, "bundle_reviews": float(one.reviews), "bundle_evidence": one.evidence}
            run.log_metrics({name: value for name, value in figures.items() if value is not None}, step=step)
        run.log_text(report.markdown(), HEALTH_TEXT_FILE)
        run.log_png(chart, "health.png")
    found = {HEALTH_TAG: report.outcome, f"{HEALTH_TAG}_reviews": str(report.compared_reviews)}
    if report.audited.fresh_score is not None:
        found[f"{HEALTH_TAG}_score"] = f"{report.audited.fresh_score:.4f}"
    tracking.registry().set_tags(pipeline.model_name, champion.version, found)
    return run.run_id


def _figures(report: DecayReport) -> dict[str, float]:
    audited = report.audited
    figures: dict[str, float | None] = {
        "fresh_reviews": report.fresh_reviews,
        "compared_reviews": report.compared_reviews,
        "reference_reviews": audited.reference_reviews,
        "fresh_score": audited.fresh_score,
        "reference_score": audited.reference_score,
        "promotion_score": report.promotion_score,
        "needed_reviews": audited.needed_reviews,
        "difference": audited.difference,
        "difference_low": audited.low,
        "difference_high": audited.high,
        "evidence": audited.evidence,
        "needed_evidence": report.config.needed_evidence,
        "level_left": report.level_left,
        "overconfidence": None if report.calibration is None else report.calibration.overconfidence,
    }
    return {name: float(value) for name, value in figures.items() if value is not None}


def _answered(
    model_type: ModelType[Any], model: object, rows: ReviewRows, version: str, out_of_fold: CrossFit | None = None
) -> tuple[Reviews, int]:
    examples = model_type.examples(rows.frame, "test")
    if out_of_fold is None:
        results = model_type.evaluate(model, examples, version=version)
    else:
        results = out_of_fold.results([one.example_id for one in examples], version=version)
    never_learned = model_type.unknown_to(model, examples)
    weights, shoppers = _sampled(rows, examples)
    reviews = Reviews(
        release_bundle=rows.release_bundle,
        selection=rows.selection,
        outcomes=results.outcomes,
        weights=weights,
        shoppers=shoppers,
        confidences=results.confidences,
    )
    return reviews, 0 if never_learned is None else int(never_learned.sum())


def _sampled(rows: ReviewRows, examples: Sequence[object]) -> tuple[Floats | None, list[str] | None]:
    """Return how many turns each example stands for, and who wrote it; None where that is not told.

    Raises:
        TypeError: audited examples have no `example_id` to find their probability by.
    """
    ids = [getattr(one, "example_id", None) for one in examples]
    if None in ids:
        if rows.selection == AUDITED:
            raise TypeError("examples that are judged on an audit sample need an example_id: their labels are weighted")
        return None, None
    owners = rows.frame.select("example_id", pl.coalesce("user_key", "session_id", pl.lit("")))
    named = dict(owners.iter_rows())
    shoppers = [named[one] for one in ids]
    if rows.selection != AUDITED:
        return None, shoppers
    probabilities = dict(rows.frame.select("example_id", "inclusion_probability").iter_rows())
    return np.array([1.0 / probabilities[one] for one in ids], dtype=np.float64), shoppers


def _promotion_score(snapshots: SnapshotStore, pipeline: ModelPipeline, champion: ModelVersion) -> float | None:
    """Return what a champion scored in the evaluation by which it was promoted; None where there is none."""
    bundle = champion.tags.get("release_bundle")
    if bundle is None or bundle not in set(snapshots.partitions(pipeline.evaluation_asset)):
        return None
    evaluation = snapshots.read_json(snapshots.latest(pipeline.evaluation_asset, partition=bundle), EVALUATION_FILE)
    same = evaluation["challenger_version"] == champion.version
    return float(evaluation["challenger_score"]) if same else None
