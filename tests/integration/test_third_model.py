"""A third kind of model joins by one class and one dataset asset, and is trained, gated, promoted and served."""

from __future__ import annotations

import dagster as dg
import pytest

from mangaassist_assets.models.model_types import UnknownModelTypeError, load_model_type
from mangaassist_assets.models.registration.registry import EVALUATION_FILE
from resources.aws.endpoints import EndpointInvocationError
from tests.support.sentiment import FIRST_BUNDLE, SECOND_BUNDLE, SentimentModelType

pytestmark = pytest.mark.integration


def verdict_of(platform, bundle):
    snapshots = platform.store.snapshots()
    snapshot = snapshots.find(platform.pipeline.evaluation_asset, partition=bundle)
    return None if snapshot is None else snapshots.read_json(snapshot, EVALUATION_FILE)


def test_a_kind_nobody_brought_is_refused_with_the_way_to_bring_it():
    with pytest.raises(UnknownModelTypeError, match=r"'sentiment' in the group mangaassist_assets\.model_types"):
        load_model_type("sentiment")


def test_the_class_of_another_package_is_found_by_its_entry_point(sentiment_package):  # noqa: ARG001 - it is installed
    assert isinstance(load_model_type("sentiment"), SentimentModelType)


def test_a_third_model_is_trained_gated_promoted_and_served_without_touching_the_platform(sentiment_platform):
    platform = sentiment_platform
    dg.Definitions.validate_loadable(platform.definitions)
    mlflow, pipeline = platform.mlflow, platform.pipeline

    first = platform.retrain(FIRST_BUNDLE)
    assert not first.success
    assert verdict_of(platform, FIRST_BUNDLE) is None
    challenger = mlflow.version_by_alias(pipeline.model_name, "challenger")
    assert (challenger.version, challenger.tags["release_bundle"]) == ("1", FIRST_BUNDLE)
    promoted = platform.promote(
        {"version": "1", "against": "none", "reason": "the first of its kind: nothing before it"}
    )
    assert promoted.success
    assert mlflow.version_by_alias(pipeline.model_name, "champion").version == "1"

    second = platform.retrain(SECOND_BUNDLE)
    evaluation = verdict_of(platform, SECOND_BUNDLE)
    assert second.success, evaluation
    (judged,) = second.asset_materializations_for_node(pipeline.evaluation_asset)
    assert "/models/m-" in judged.metadata["logged_model"].url
    assert (evaluation["verdict"], evaluation["champion_version"]) == ("pass", "1")
    assert evaluation["challenger_score"] > evaluation["champion_score"] + 0.2
    champion = mlflow.version_by_alias(pipeline.model_name, "champion")
    assert (champion.version, champion.tags["evaluation_verdict"]) == ("2", "pass")

    endpoint = platform.endpoints.endpoint(pipeline.endpoint_name)
    answer = endpoint.invoke(
        {"inputs": ["awful volume 3 of akira never again", "wonderful volume 4 of akira well done"]}
    )
    assert [one[0]["label"] for one in answer["predictions"]] == ["annoyed", "content"]
    assert (answer["model"]["version"], answer["model"]["sha256"]) == ("2", champion.artifact_sha256)
    assert "pass" in evaluation["table"]
    assert endpoint.invoke({"text": "awful volume 3 of akira never again"})["predictions"][0][0]["label"] == "annoyed"
    with pytest.raises(EndpointInvocationError, match=r"text.* and .*inputs.* at once"):
        endpoint.invoke({"text": "awful", "inputs": "awful"})

    health = platform.definitions.resolve_asset_graph().get(dg.AssetKey(pipeline.health_asset))
    assert health.group_name == "sentiment"
