"""Claims about where the forms of production's requests are read from."""

from __future__ import annotations

from dataclasses import replace

import dagster as dg
import pytest
from upath import UPath

from mangaassist_assets.assets.deployment import require_contract as require_for_asset
from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.models.pipelines import INTENT, RERANKER
from mangaassist_assets.serving.deployment_contract import (
    ContractBrokenError,
    newest_stages,
    observed_requests,
    require_contract,
)
from mangaassist_assets.serving.endpoint_schemas import pipeline_schemas
from mangaassist_assets.serving.request_forms import required_forms
from mangaassist_assets.tracing.contract.turns import ChatTurn, StageTiming
from resources.aws.clients import AwsResource
from resources.aws.endpoints import SageMakerResource
from tests.support.registry import MemoryMlflow
from tests.support.turn_frames import turns_frame


def turn(*stages: StageTiming) -> ChatTurn:
    return ChatTurn(
        trace_id="t",
        timestamp_ms=1,
        duration_ms=1,
        state="OK",
        release_bundle="b",
        session_id="s",
        message="hi",
        stages=stages,
    )


TURNS = turns_frame(
    [
        turn(StageTiming(name="intent_classification", duration_ms=1, request_keys=("text",))),
        turn(StageTiming(name="nlu", duration_ms=1, endpoint_name="mangaassist-intent", request_keys=("inputs",))),
        turn(
            StageTiming(name="intent_classification", duration_ms=1),
            StageTiming(name="rerank_chunks", duration_ms=1, request_keys=("passages", "query")),
        ),
    ]
)


def test_the_requests_of_an_endpoint_are_read_from_the_stages_that_asked_it():
    assert list(observed_requests([TURNS], INTENT)) == [("text",), ("inputs",), ()]
    assert list(observed_requests([TURNS], RERANKER)) == [("passages", "query")]


def test_before_there_are_traces_configuration_decides(tmp_path):
    observed = observed_requests(newest_stages(SnapshotStore(UPath(tmp_path))), INTENT)
    known = pipeline_schemas(INTENT).forms
    told = required_forms(observed, configured=INTENT.request_forms, known=known)
    assert (told.forms, told.known_from) == (("text",), "configuration")


@pytest.fixture
def require(tmp_path):
    models = MemoryMlflow(tmp_path / "models")

    def run(pipeline=INTENT, **options):
        version = models.add(pipeline.model_name, kind=pipeline.kind)
        return require_contract(models, SnapshotStore(UPath(tmp_path / "store")), pipeline, version, **options)

    return run


def test_a_version_that_cannot_answer_is_refused_with_what_to_know(require):
    with pytest.raises(ContractBrokenError, match="version 1 is not deployed to mangaassist-intent") as caught:
        require()
    assert "production asks with text by configuration, and" in str(caught.value)
    assert caught.value.required.forms == ("text",)
    assert len(caught.value.breaches) == 1


def test_the_forms_of_an_endpoint_may_be_configured(require):
    with pytest.raises(ContractBrokenError, match="asks with inputs, text"):
        require(configured=["text", "inputs"])
    unknown = "no form of request is named 'query_passages'; the endpoint has inputs, text"
    with pytest.raises(ContractBrokenError, match=unknown):
        require(configured=["query_passages"])


def test_schemas_that_cannot_be_used_deploy_nothing(require, tmp_path):
    with pytest.raises(ContractBrokenError, match=r"request\.schema\.json cannot be read"):
        require(replace(INTENT, schemas=tmp_path / "nowhere"))


def test_the_asset_fails_for_good_and_shows_the_forms_and_what_is_wrong(tmp_path):
    """The resource may name the forms of an endpoint."""
    models = MemoryMlflow(tmp_path / "models")
    version = models.add(INTENT.model_name, kind=INTENT.kind)
    store = SnapshotStore(UPath(tmp_path / "store"))
    endpoints = SageMakerResource(aws=AwsResource(), request_forms={INTENT.endpoint_name: ["inputs"]})
    with pytest.raises(dg.Failure, match="asks with inputs by configuration") as caught:
        require_for_asset(models, store, endpoints, INTENT, version)
    assert caught.value.allow_retries is False
    assert caught.value.metadata["request_forms"].value == "inputs by configuration"
    assert caught.value.metadata["breaches"].value.startswith("- it cannot be loaded")
