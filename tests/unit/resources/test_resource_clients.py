"""What resources do without a server: load lightly, wait with a deadline, refuse what cannot be deployed."""

from __future__ import annotations

import subprocess
import sys

import pytest
from botocore.stub import Stubber

from mangaassist_assets.chatbot.generation import ExtractiveGenerator
from mangaassist_assets.models.registration.registry import ModelVersion, RegistryError
from resources.aws.clients import AwsResource, DeadlineExceededError, poll_until
from resources.aws.endpoints import EndpointDeploymentError, EndpointInvocationError, SageMakerResource
from resources.aws.generation import BedrockGenerator, GenerationResource
from resources.feedback.feedback_stream import KinesisFeedbackResource
from resources.mlflow.registry import artifact_directory
from resources.mlflow.tracking import MlflowResource, TrackingUriError

AWS = AwsResource(
    region_name="us-east-1", endpoint_url="http://127.0.0.1:9", max_attempts=1, connect_timeout_s=1, read_timeout_s=1
)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


def test_importing_the_resources_imports_no_heavy_library():
    registry = [
        "live_metrics",
        "model_files",
        "registry",
        "runs",
        "verdicts",
        "tracking",
        "assessments.reviews",
        "traces.sink",
    ]
    modules = ["aws.clients", "aws.app_config", "aws.endpoints", "aws.generation", "feedback.feedback_stream"]
    code = (
        "import sys, dagster; before = set(sys.modules)\n"
        + "".join(f"import resources.{name}\n" for name in [*modules, *(f"mlflow.{name}" for name in registry)])
        + "new = set(sys.modules) - before\n"
        "heavy = {'boto3', 'botocore', 'mlflow', 'numpy', 'polars', 'torch', 'transformers', 'requests'} & new\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_client_is_made_once_for_each_service():
    assert AWS.client("kinesis") is AWS.client("kinesis")
    assert AWS.client("kinesis") is not AWS.client("sagemaker")


def test_the_caller_is_who_aws_says_and_nobody_where_it_is_not_asked():
    arn = "arn:aws:sts::123456789012:assumed-role/release-managers/night"
    asked = AwsResource(region_name="eu-central-1", names_callers=True)
    with Stubber(asked.client("sts")) as sts:
        sts.add_response("get_caller_identity", {"Arn": arn, "Account": "123456789012", "UserId": "x"})
        sts.add_client_error("get_caller_identity", "ExpiredToken")
        assert asked.caller_arn() == arn
        assert asked.caller_arn() == "unknown: STS could not be asked (ClientError)"
    assert AWS.caller_arn() is None


def test_waiting_ends_with_what_was_waited_for():
    answers = iter([None, None, "there"])
    assert poll_until(lambda: next(answers), what="it", timeout_s=5, interval_s=0.01) == "there"


def test_waiting_in_vain_says_for_what():
    with pytest.raises(DeadlineExceededError, match=r"0\.05 s in vain for the parcel"):
        poll_until(lambda: None, what="the parcel", timeout_s=0.05, interval_s=0.01)


def test_an_endpoint_that_cannot_be_reached_is_a_failed_stage():
    with pytest.raises(EndpointInvocationError, match="mangaassist-intent could not be reached"):
        SageMakerResource(aws=AWS).endpoint("mangaassist-intent").invoke({"inputs": ["hi"]})


def test_only_a_hash_is_taken_for_a_hash():
    with pytest.raises(EndpointDeploymentError, match="is not a SHA-256"):
        SageMakerResource(aws=AWS).deploy(
            "e", model_name="m", model_version="1", artifact_uri="file:///m", artifact_sha256="latest"
        )


def test_publishing_nothing_calls_nobody():
    assert KinesisFeedbackResource(aws=AWS).publish([]) == 0


def test_the_provider_decides_who_writes():
    assert isinstance(GenerationResource(aws=AWS).generator(), ExtractiveGenerator)
    assert isinstance(GenerationResource(aws=AWS, provider="bedrock").generator(), BedrockGenerator)


def test_without_a_tracking_server_the_error_says_what_to_set(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(TrackingUriError, match="set MLFLOW_TRACKING_URI"):
        MlflowResource().client()


def test_traces_are_not_written_to_what_takes_no_otlp():
    with pytest.raises(TrackingUriError, match="OTLP"):
        MlflowResource(tracking_uri="sqlite:///x.db").trace_sink()


def test_an_artifact_on_this_machine_is_used_in_place(tmp_path):
    folder = tmp_path / "a b"
    folder.mkdir()
    version = ModelVersion(name="m", version="1", source=folder.as_uri(), run_id=None, artifact_sha256=None)
    assert artifact_directory(version) == folder


def test_an_artifact_that_is_gone_is_named(tmp_path):
    version = ModelVersion(
        name="m", version="1", source=(tmp_path / "gone").as_uri(), run_id=None, artifact_sha256=None
    )
    with pytest.raises(RegistryError, match="m version 1 is not at file://"):
        artifact_directory(version)
