"""A third kind of model joins by one class and one dataset asset, and is trained, gated, promoted and served."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import dagster as dg
import pytest

from mangaassist_assets.assets.reading import EVALUATION_FILE, read_json
from mangaassist_assets.definitions import build_definitions
from mangaassist_assets.learning.family_registry import ENTRY_POINT_GROUP, UnknownFamilyError, load_family
from mangaassist_assets.partitions import release_bundles
from resources.aws import AwsResource
from resources.endpoints import SageMakerResource
from resources.mlflow_tracking import MlflowResource
from resources.store import StoreResource
from tests.support.sentiment import FIRST_BUNDLE, SECOND_BUNDLE, SENTIMENT, SentimentFamily, sentiment_dataset

pytestmark = pytest.mark.integration


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """An installed package that brings the family, as far as Python is concerned."""
    folder = tmp_path / "site-packages"
    info = folder / "sentiment_model-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sentiment-model\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{ENTRY_POINT_GROUP}]\nsentiment = tests.support.sentiment:SentimentFamily\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def platform(stand_ins_environment, package, tmp_path):  # noqa: ARG001 - the environment of clients
    own = uuid4().hex[:8]
    lane = replace(SENTIMENT, model_name=f"sentiment-{own}", endpoint_name=f"sentiment-{own}")
    repository = Path(__file__).parents[2]
    resources = {
        "endpoints": SageMakerResource(
            aws=AwsResource(), container_environment={"PYTHONPATH": f"{package}:{repository}"}
        ),
        "mlflow": MlflowResource(training_experiment=f"training-{own}", traces_experiment=f"traces-{own}"),
        "store": StoreResource(root=str(tmp_path / "store"), cache_folder=str(tmp_path / "cache")),
    }
    definitions = build_definitions("local", lanes=[lane], assets=[sentiment_dataset], **resources)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(release_bundles.name, [FIRST_BUNDLE, SECOND_BUNDLE])

        def retrain(bundle: str) -> dg.ExecuteInProcessResult:
            job = definitions.resolve_job_def("sentiment_retraining")
            return job.execute_in_process(partition_key=bundle, instance=instance, raise_on_error=False)

        def promote(override: dict[str, str]) -> dg.ExecuteInProcessResult:
            job = definitions.resolve_job_def("sentiment_promotion")
            config = {"ops": {lane.champion_asset: {"config": {"override": override}}}}
            return job.execute_in_process(run_config=config, instance=instance, raise_on_error=False)

        yield SimpleNamespace(lane=lane, retrain=retrain, promote=promote, definitions=definitions, **resources)


def verdict_of(platform, bundle):
    snapshots = platform.store.snapshots()
    snapshot = snapshots.find(platform.lane.evaluation_asset, partition=bundle)
    return None if snapshot is None else read_json(snapshots, snapshot, EVALUATION_FILE)


def test_a_kind_nobody_brought_is_refused_with_the_way_to_bring_it():
    with pytest.raises(UnknownFamilyError, match=r"'sentiment' in the group mangaassist_assets\.model_families"):
        load_family("sentiment")


def test_the_class_of_another_package_is_found_by_its_entry_point(package):  # noqa: ARG001 - it is installed
    assert isinstance(load_family("sentiment"), SentimentFamily)


def test_a_third_model_is_trained_gated_promoted_and_served_without_touching_the_platform(platform):
    dg.Definitions.validate_loadable(platform.definitions)
    mlflow, lane = platform.mlflow, platform.lane

    first = platform.retrain(FIRST_BUNDLE)
    assert not first.success
    assert verdict_of(platform, FIRST_BUNDLE) is None
    challenger = mlflow.version_by_alias(lane.model_name, "challenger")
    assert (challenger.version, challenger.tags["release_bundle"]) == ("1", FIRST_BUNDLE)
    promoted = platform.promote(
        {"version": "1", "against": "none", "reason": "the first of its kind: nothing before it"}
    )
    assert promoted.success
    assert mlflow.version_by_alias(lane.model_name, "champion").version == "1"

    second = platform.retrain(SECOND_BUNDLE)
    evaluation = verdict_of(platform, SECOND_BUNDLE)
    assert second.success, evaluation
    (judged,) = second.asset_materializations_for_node(lane.evaluation_asset)
    assert "/models/m-" in judged.metadata["logged_model"].url
    assert (evaluation["verdict"], evaluation["champion_version"]) == ("pass", "1")
    assert evaluation["challenger_score"] > evaluation["champion_score"] + 0.2
    champion = mlflow.version_by_alias(lane.model_name, "champion")
    assert (champion.version, champion.tags["evaluation_verdict"]) == ("2", "pass")

    endpoint = platform.endpoints.endpoint(lane.endpoint_name)
    answer = endpoint.invoke(
        {"inputs": ["awful volume 3 of akira never again", "wonderful volume 4 of akira well done"]}
    )
    assert [one[0]["label"] for one in answer["predictions"]] == ["annoyed", "content"]
    assert (answer["model"]["version"], answer["model"]["sha256"]) == ("2", champion.artifact_sha256)
    assert "pass" in evaluation["table"]

    health = platform.definitions.resolve_asset_graph().get(dg.AssetKey(lane.health_asset))
    assert health.group_name == "sentiment"
