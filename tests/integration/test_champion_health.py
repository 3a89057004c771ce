"""The champion on a real MLflow: judged again by Dagster on fresh reviews, and overridden by hand."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from uuid import uuid4

import dagster as dg
import pytest

from mangaassist_assets.assets.champion_health import build_champion_health_asset
from mangaassist_assets.assets.common import as_failure
from mangaassist_assets.assets.promotion import ChampionConfig, champion_result, requested_override
from mangaassist_assets.checks.production import build_champion_check
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.jobs import CHAMPION_EVALUATION
from mangaassist_assets.models.pipelines import INTENT
from mangaassist_assets.models.registration.registry import EVALUATION_FILE
from mangaassist_assets.monitoring.champion_health import HEALTH_FILE
from mangaassist_assets.privacy import Vocabulary
from mangaassist_assets.releases.champion import promote
from mangaassist_assets.releases.overrides import OverrideRefusedError
from mangaassist_assets.schedules import weekly_champion_evaluation
from resources.mlflow.tracking import MlflowResource
from resources.settings.learning import LearningResource
from resources.store import StoreResource
from tests.support.registry import log_directory, stored_verdict
from tests.support.reviewed_traffic import (
    PhrasebookModelType,
    bundle_name,
    fill_corpus,
    phrasebook,
    put_intent_dataset,
    put_reviewed_bundle,
)

pytestmark = pytest.mark.integration

WHY = "it answers gift cards, which matter most now"


class PhrasebookLearning(LearningResource):
    def model_type(self, pipeline):
        del pipeline
        return PhrasebookModelType()


@pytest.fixture
def platform(stand_ins_environment, tmp_path):  # noqa: ARG001 - the environment of clients
    own = uuid4().hex[:8]
    pipeline = replace(INTENT, model_name=f"intent-{own}", endpoint_name=f"intent-{own}")
    mlflow = MlflowResource(
        training_experiment=f"training-{own}",
        evaluation_experiment=f"evaluation-{own}",
        traces_experiment=f"traces-{own}",
    )
    store = StoreResource(root=str(tmp_path / "store"), cache_folder=str(tmp_path / "cache"))
    fill_corpus(store.snapshots())

    def register(name, *, alias=None, **tags):
        directory, digest = phrasebook(tmp_path / "artifacts", name)
        with mlflow.training_run(name, tags={}, params={}) as run:
            version = mlflow.register_version(
                pipeline.model_name,
                run_id=run.run_id,
                artifact_uri=log_directory(run, directory, "model"),
                artifact_sha256=digest,
                tags=tags,
            )
        if alias:
            mlflow.set_alias(pipeline.model_name, alias, version.version)
        return version

    def judge():
        with dg.DagsterInstance.ephemeral() as instance:
            return dg.materialize(
                [build_champion_health_asset(pipeline), build_champion_check(pipeline)],
                resources={"learning": PhrasebookLearning(), "mlflow": mlflow, "store": store},
                instance=instance,
                raise_on_error=False,
            )

    @dg.asset(name=pipeline.champion_asset)
    def champion(context: dg.AssetExecutionContext, config: ChampionConfig) -> dg.MaterializeResult:
        with as_failure(OverrideRefusedError):
            promoted = promote(mlflow, store.snapshots(), pipeline, override=requested_override(config, Vocabulary(())))
        context.log.info(promoted.reason)
        snapshot = store.snapshots().write(pipeline.champion_asset, promoted.named.files())
        return champion_result(mlflow, pipeline, promoted, snapshot)

    def override(**values):
        config = {"override": {"reason": WHY, **values}} if values else {}
        with dg.DagsterInstance.ephemeral() as instance:
            return dg.materialize(
                [champion],
                run_config={"ops": {pipeline.champion_asset: {"config": config}}},
                instance=instance,
                raise_on_error=False,
            )

    return SimpleNamespace(
        pipeline=pipeline,
        mlflow=mlflow,
        store=store,
        snapshots=store.snapshots(),
        register=register,
        judge=judge,
        override=override,
    )


def promoted_on_reviews(platform):
    """Promote a model on the first bundle, whose messages another one had answered."""
    put_reviewed_bundle(platform.snapshots, 0, reviews=60, wrong=12, served_by="9")
    version = put_intent_dataset(platform.snapshots, 0)
    champion = platform.register(
        "phrases",
        alias="champion",
        release_bundle=bundle_name(0),
        bundle_start_ms="1",
        dataset_digest=version.digest,
    )
    verdict = stored_verdict(bundle_name(0), 1, "pass", challenger=champion.version, champion="0")
    files = {EVALUATION_FILE: canonical_json({**verdict, "metric": "accuracy", "challenger_score": 0.93})}
    platform.snapshots.write(platform.pipeline.evaluation_asset, files, partition=bundle_name(0))
    return champion


def put_fresh(platform, *, wrong, audited=True):
    for number, errors in enumerate(wrong, start=1):
        put_reviewed_bundle(platform.snapshots, number, reviews=50, wrong=errors, served_by="1", audited=audited)
        put_intent_dataset(platform.snapshots, number)


def metadata_of(result, pipeline):
    (event,) = [
        one for one in result.get_asset_materialization_events() if one.asset_key.path == [pipeline.health_asset]
    ]
    return event.materialization.metadata


def test_decay_is_a_warning_with_figures_in_dagster_and_mlflow(platform):
    champion = promoted_on_reviews(platform)
    put_fresh(platform, wrong=(10, 10, 30, 32))
    result = platform.judge()
    assert result.success
    (check,) = result.get_asset_check_evaluations()
    assert (check.passed, check.severity, check.blocking) == (False, dg.AssetCheckSeverity.WARN, False)
    assert check.description.startswith(f"version {champion.version}: decayed: evidence for a loss of 8 points")
    assert f"most likely since {bundle_name(3)}" in check.description

    metadata = metadata_of(result, platform.pipeline)
    assert metadata["outcome"].value == "decayed"
    assert (metadata["fresh_reviews"].value, metadata["compared_reviews"].value) == (150, 150)
    assert metadata["evidence"].value >= metadata["needed_evidence"].value == 20
    assert (metadata["level"].value, metadata["level_left"].value) == (0.05, 0.0)
    assert "Other reviewed messages are mostly complaints" in metadata["report"].value
    assert "data:image/png;base64," in metadata["chart"].value

    client = platform.mlflow.client()
    experiment = client.get_experiment_by_name(platform.mlflow.evaluation_experiment)
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.tags["champion_health"] == "decayed"
    assert run.data.metrics["promotion_score"] == 0.93
    assert run.data.metrics["difference"] == pytest.approx(-0.28)
    assert [round(one.value, 2) for one in client.get_metric_history(run.info.run_id, "bundle_score")] == [
        0.8,
        0.8,
        0.4,
        0.36,
    ]
    assert {one.path for one in client.list_artifacts(run.info.run_id)} == {"health.md", "health.png"}
    tags = platform.mlflow.registry().get(platform.pipeline.model_name, champion.version).tags
    assert (tags["champion_health"], tags["champion_health_reviews"]) == ("decayed", "150")
    assert platform.mlflow.version_by_alias(platform.pipeline.model_name, "champion").version == champion.version


def test_complaints_far_below_the_score_at_promotion_are_no_alarm_where_they_always_were(platform):
    promoted_on_reviews(platform)
    put_fresh(platform, wrong=(20, 20, 20, 20), audited=False)
    result = platform.judge()
    (check,) = result.get_asset_check_evaluations()
    assert check.passed
    stored = platform.snapshots.read_json(platform.snapshots.latest(platform.pipeline.health_asset), HEALTH_FILE)
    assert stored["promotion_score"] == 0.93
    (complaints,) = [one for one in stored["others"] if one["fresh_reviews"]]
    assert complaints["fresh_score"] < 0.65
    assert complaints["evidence"] < 1
    assert (stored["outcome"], stored["compared_reviews"]) == ("too_few", 0)


def test_judged_twice_on_the_same_reviews_the_answer_is_the_same(platform):
    promoted_on_reviews(platform)
    put_fresh(platform, wrong=(10, 12))
    platform.judge()
    once = platform.snapshots.latest(platform.pipeline.health_asset)
    platform.judge()
    assert platform.snapshots.latest(platform.pipeline.health_asset).digest == once.digest


def test_without_a_champion_there_is_nothing_to_judge_and_no_alarm(platform):
    result = platform.judge()
    assert result.success
    (check,) = result.get_asset_check_evaluations()
    assert check.passed
    assert metadata_of(result, platform.pipeline)["outcome"].value == "no champion yet"


def test_a_damaged_champion_is_not_judged(platform):
    champion = promoted_on_reviews(platform)
    put_fresh(platform, wrong=(1, 1))
    (platform.mlflow.artifact_directory(champion) / "phrases.txt").write_text("other phrases")
    result = platform.judge()
    assert not result.success
    assert platform.snapshots.find(platform.pipeline.health_asset) is None


def test_an_override_goes_through_dagster_into_the_registry_and_is_judged_against_from_then_on(platform):
    first = platform.register("one", alias="champion", bundle_start_ms="0")
    second = platform.register("two", bundle_start_ms="200", release_bundle="rc2")
    verdict = stored_verdict("rc2", 200, "fail", challenger=second.version, champion=first.version)
    platform.snapshots.write(
        platform.pipeline.evaluation_asset, {EVALUATION_FILE: canonical_json(verdict)}, partition="rc2"
    )
    result = platform.override(version=second.version, against=first.version, by="release manager")
    assert result.success
    (event,) = result.get_asset_materialization_events()
    assert event.materialization.metadata["override_by"].value == "release manager"
    assert event.materialization.metadata["overridden_verdict"].value == "fail"
    champion = platform.mlflow.version_by_alias(platform.pipeline.model_name, "champion")
    assert (champion.version, champion.tags["override_reason"]) == (second.version, WHY)

    assert platform.override().success
    stale = platform.override(version=second.version, against="7")
    assert not stale.success
    champion = platform.mlflow.version_by_alias(platform.pipeline.model_name, "champion")
    assert champion.version == second.version
    assert datetime.fromisoformat(champion.tags["override_at"]).tzinfo == UTC


def test_champions_are_judged_every_monday():
    assert weekly_champion_evaluation.cron_schedule == "0 4 * * 1"
    assert weekly_champion_evaluation.execution_timezone == "UTC"
    assert weekly_champion_evaluation.job_name == CHAMPION_EVALUATION
