"""A version that does not answer as production asks is kept out; what serves and what is registered name each other."""

from __future__ import annotations

import os
import re
from typing import Any

import boto3
import dagster as dg
import pytest

from mangaassist_assets.checks.production import build_endpoint_check
from mangaassist_assets.releases.deployment import (
    CONFIG_TAG,
    ENDPOINT_TAG,
    PRODUCTION,
    REPLACED,
    REPLACED_AT_TAG,
    REPLACED_BY_TAG,
    SINCE_TAG,
    STAGE_TAG,
)
from mangaassist_assets.releases.named_champion import NamedChampion
from mangaassist_assets.serving.endpoint_schemas import PACKAGED
from resources.mlflow.registry import ModelRegistry
from tests.support.sentiment import FIRST_BUNDLE, SECOND_BUNDLE, SentimentModel
from tests.support.sentiment_platform import SentimentPlatform, sentiment_pipeline

pytestmark = pytest.mark.integration

FIRST = {"version": "1", "against": "none", "reason": "the first of its kind: nothing before it"}
BACK = {"version": "1", "against": "2", "reason": "the new one was annoyed too often"}
SECOND = {"version": "2", "against": "1", "reason": "it is better at what shoppers say now"}


def failure_of(result: dg.ExecuteInProcessResult, asset: str) -> str:
    """Return why an asset failed."""
    (event,) = [one for one in result.get_step_failure_events() if one.step_key == asset]
    return str(event.step_failure_data.user_failure_data.description)


def checked(platform: SentimentPlatform) -> tuple[bool, str]:
    """Read both sides as the asset check does."""
    found: Any = build_endpoint_check(platform.pipeline)(endpoints=platform.endpoints, mlflow=platform.mlflow)
    return bool(found.passed), str(found.description)


def sagemaker_model(platform: SentimentPlatform) -> str:
    described = platform.endpoints.describe(platform.pipeline.endpoint_name)
    return str(boto3.client("sagemaker").describe_model(ModelName=described.config_name)["ModelArn"])


def tags_of(platform: SentimentPlatform, version: str) -> dict[str, str]:
    return dict(platform.mlflow.registry().get(platform.pipeline.model_name, version).tags)


def test_a_foreign_model_whose_answers_break_the_schema_is_neither_champion_nor_deployed(
    stand_ins_environment,  # noqa: ARG001 - the environment of clients
    sentiment_package,  # noqa: ARG001 - it is installed
    tmp_path,
):
    # It says `predictions`, and no `intent` and `confidence`, which the caller of this endpoint reads.
    read_by_the_caller = {"schemas": PACKAGED / "intent_classifier", "request_forms": ("text",)}
    with sentiment_pipeline(tmp_path, **read_by_the_caller) as platform:
        pipeline, mlflow = platform.pipeline, platform.mlflow
        platform.retrain(FIRST_BUNDLE)
        promoted = platform.promote(FIRST)
        assert not promoted.success
        why = failure_of(promoted, pipeline.champion_asset)
        assert (
            f"version 1 is not deployed to {pipeline.endpoint_name}: production asks with text by configuration" in why
        )
        assert "'intent' is a required property" in why
        assert mlflow.version_by_alias(pipeline.model_name, "champion") is None

        mlflow.set_alias(pipeline.model_name, "champion", "1")  # by hand, around the asset
        deployed = platform.deploy()
        assert not deployed.success
        assert "no verdict, override or bootstrap made champion" in failure_of(deployed, pipeline.endpoint_asset)
        assert platform.endpoints.describe(pipeline.endpoint_name) is None
        assert boto3.client("sagemaker").list_models(NameContains=pipeline.endpoint_name)["Models"] == []


@pytest.fixture(scope="module")
def promoted(sentiment_platform: SentimentPlatform) -> dg.ExecuteInProcessResult:
    """The promotion of version 1, which every test below leaves in production."""
    sentiment_platform.retrain(FIRST_BUNDLE)
    result = sentiment_platform.promote(FIRST)
    assert result.success
    return result


@pytest.fixture(scope="module")
def second(sentiment_platform: SentimentPlatform, promoted: dg.ExecuteInProcessResult) -> str:
    """Version 2, trained but not in production."""
    platform, model = sentiment_platform, sentiment_platform.pipeline.model_name
    assert promoted.success
    platform.retrain(SECOND_BUNDLE)
    # Whether the gate lets it pass depends on how busy the machine is that times both.
    if platform.mlflow.version_by_alias(model, "champion").version == "2":
        assert platform.promote({**BACK, "reason": "a test puts it into production"}).success
    return "2"


def test_version_and_sagemaker_model_name_each_other(sentiment_platform, promoted):
    platform, pipeline = sentiment_platform, sentiment_platform.pipeline
    checks = {one.check_name: one.passed for one in promoted.get_asset_check_evaluations()}
    assert checks["registry_and_endpoint_agree"] is True
    described = platform.endpoints.describe(pipeline.endpoint_name)
    tags = tags_of(platform, "1")
    assert (tags[ENDPOINT_TAG], tags[CONFIG_TAG], tags[STAGE_TAG]) == (
        pipeline.endpoint_name,
        described.config_name,
        PRODUCTION,
    )
    assert tags[SINCE_TAG].endswith("+00:00")
    version = platform.mlflow.registry().get(pipeline.model_name, "1")
    served = platform.endpoints.served_version(pipeline.endpoint_name)
    assert served.tags == {
        "mlflow_registered_model": pipeline.model_name,
        "mlflow_model_version": "1",
        "mlflow_run_id": version.run_id,
        "dataset_digest": version.tags["dataset_digest"],
        "artifact_sha256": version.artifact_sha256,
    }


def test_a_replaced_version_says_so_until_it_is_back(sentiment_platform, second):
    platform = sentiment_platform
    since = tags_of(platform, "1")[SINCE_TAG]
    assert platform.promote(SECOND).success
    former, present = tags_of(platform, "1"), tags_of(platform, second)
    assert (former[STAGE_TAG], former[REPLACED_BY_TAG]) == (REPLACED, second)
    assert former[REPLACED_AT_TAG] == present[SINCE_TAG] >= former[SINCE_TAG] == since
    assert present[STAGE_TAG] == PRODUCTION
    assert checked(platform) == (True, "both sides name each other")

    assert platform.promote(BACK).success
    back = tags_of(platform, "1")
    assert back[STAGE_TAG] == PRODUCTION
    assert not {REPLACED_AT_TAG, REPLACED_BY_TAG} & set(back)
    assert tags_of(platform, second)[REPLACED_BY_TAG] == "1"
    assert checked(platform)[0]


def test_one_call_to_mlflow_deploys_nothing_and_the_next_runs_say_so(sentiment_platform, second):
    platform, pipeline = sentiment_platform, sentiment_platform.pipeline
    client = platform.mlflow.client()
    client.set_model_version_tag(pipeline.model_name, second, "release_bundle", "bootstrap")
    client.set_registered_model_alias(pipeline.model_name, "champion", second)
    told = f"names version {second} with artifact .* the last promotion on record made version 1 champion"
    deployed, promoted = platform.deploy(), platform.promote()
    assert not deployed.success
    assert not promoted.success
    assert re.search(told, failure_of(deployed, pipeline.endpoint_asset))
    assert re.search(told, failure_of(promoted, pipeline.champion_asset))
    assert platform.endpoints.describe(pipeline.endpoint_name).model_version == "1"

    put_back = {"version": "1", "against": second, "reason": "somebody moved the alias past the platform"}
    settled = platform.promote(put_back)
    assert settled.success
    assert {one.check_name: one.passed for one in settled.get_asset_check_evaluations()}["champion_is_on_record"]
    (champion,) = settled.asset_materializations_for_node(pipeline.champion_asset)
    assert f"os_uid {os.getuid()}" in champion.metadata["carried_out_by"].value
    assert champion.metadata["champion_by"].value == "override"


def test_what_serves_goes_on_when_the_next_version_breaks_the_contract(sentiment_platform, second, monkeypatch):
    platform, pipeline = sentiment_platform, sentiment_platform.pipeline
    assert second == SECOND["version"]
    with monkeypatch.context() as patch:
        whole = SentimentModel.answer
        patch.setattr(
            SentimentModel,
            "answer",
            lambda self, inputs, parameters: {"predictions": whole(self, inputs, parameters)["predictions"][:1]},
        )
        refused = platform.promote({**SECOND, "reason": "it is wanted again"})
    assert not refused.success
    assert "$.predictions: 1 items in answer to 2" in failure_of(refused, pipeline.champion_asset)
    assert platform.mlflow.version_by_alias(pipeline.model_name, "champion").version == "1"
    assert platform.endpoints.describe(pipeline.endpoint_name).model_version == "1"


def test_the_check_sees_each_side_that_was_changed_and_materializing_mends_both(sentiment_platform, promoted):
    assert promoted.success
    platform, pipeline = sentiment_platform, sentiment_platform.pipeline
    since = tags_of(platform, "1")[SINCE_TAG]

    sagemaker = boto3.client("sagemaker")
    sagemaker.add_tags(ResourceArn=sagemaker_model(platform), Tags=[{"Key": "dataset_digest", "Value": "another"}])
    passed, why = checked(platform)
    assert not passed
    assert "tag dataset_digest of the model of" in why
    mended = platform.deploy()
    (materialized,) = mended.asset_materializations_for_node(pipeline.endpoint_asset)
    assert materialized.metadata["changed"].value is False
    assert checked(platform)[0]

    sagemaker.delete_tags(ResourceArn=sagemaker_model(platform), TagKeys=["mlflow_model_version"])
    assert "which " + pipeline.model_name + " does not have" in checked(platform)[1]
    platform.deploy()
    assert checked(platform)[0]

    platform.mlflow.registry().delete_tags(pipeline.model_name, "1", [CONFIG_TAG])
    passed, why = checked(platform)
    assert not passed
    assert f"tag {CONFIG_TAG} of {pipeline.model_name} version 1 is missing" in why
    platform.deploy()
    assert checked(platform)[0]

    sagemaker.delete_endpoint(EndpointName=pipeline.endpoint_name)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=pipeline.endpoint_name, WaiterConfig={"Delay": 1})
    assert "there is no such endpoint" in checked(platform)[1]
    assert platform.deploy().success
    assert checked(platform)[0]
    assert tags_of(platform, "1")[SINCE_TAG] > since


def test_a_deployment_that_was_killed_before_it_was_recorded_is_recorded_by_the_next_run(
    stand_ins_environment,  # noqa: ARG001 - the environment of clients
    sentiment_package,  # noqa: ARG001 - it is installed
    tmp_path,
    monkeypatch,
):
    with sentiment_pipeline(tmp_path) as platform:
        killed_and_run_again(platform, monkeypatch)


def killed_and_run_again(platform, monkeypatch):
    pipeline = platform.pipeline
    platform.retrain(FIRST_BUNDLE)
    platform.mlflow.set_alias(pipeline.model_name, "champion", "1")
    version = platform.mlflow.version_by_alias(pipeline.model_name, "champion")
    named = NamedChampion(version=version.version, artifact_sha256=version.artifact_sha256, by="override")
    platform.store.snapshots().write(pipeline.champion_asset, named.files())

    def gone(*_: object) -> None:
        raise ConnectionError("the registry is gone")

    with monkeypatch.context() as patch:
        patch.setattr(ModelRegistry, "set_tags", gone)
        assert not platform.deploy().success
    served_since = boto3.client("sagemaker").describe_endpoint(EndpointName=pipeline.endpoint_name)["LastModifiedTime"]
    assert not checked(platform)[0]

    again = platform.deploy()
    (materialized,) = again.asset_materializations_for_node(pipeline.endpoint_asset)
    assert materialized.metadata["changed"].value is False
    assert checked(platform)[0]
    after = boto3.client("sagemaker").describe_endpoint(EndpointName=pipeline.endpoint_name)["LastModifiedTime"]
    assert after == served_since
    models = boto3.client("sagemaker").list_models(NameContains=pipeline.endpoint_name)["Models"]
    assert len(models) == 1
