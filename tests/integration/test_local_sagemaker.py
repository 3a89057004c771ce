"""Plain boto3 against the local SageMaker, with real serving processes behind its endpoints."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import boto3
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, WaiterError

from mangaassist_assets.local.home import Home
from mangaassist_assets.local.ports import answers, listen_on, port_of
from mangaassist_assets.local.processes import ProcessIdentity, start_tethered, stop_processes, wait_until
from mangaassist_assets.local.sagemaker.containers import ModelContainer, ProcessBook
from mangaassist_assets.local.sagemaker.errors import DeploymentError
from mangaassist_assets.local.sagemaker.state import VariantPlan
from mangaassist_assets.local.services import client_environment
from mangaassist_assets.local.supervisor import Supervisor

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient

pytestmark = pytest.mark.integration

ENTRY_POINT = textwrap.dedent(
    """
    import json, os, pathlib, time

    class BadRequestError(ValueError):
        pass

    def model_fn(model_dir):
        model = json.loads((pathlib.Path(model_dir) / "model.json").read_text())
        if model.get("broken"):
            raise RuntimeError("weights are damaged")
        if model.get("silent"):
            time.sleep(600)
        return model

    def input_fn(body, content_type):
        try:
            return json.loads(body)
        except ValueError as error:
            raise BadRequestError(f"the request is not JSON: {error}")

    def predict_fn(data, model):
        if data == "fail":
            raise RuntimeError("no answer to that")
        if data == "slow":
            time.sleep(7)  # longer than a server waits for its requests when it is told to stop
        if data == "die":
            os._exit(9)
        names = ("MANGAASSIST_MODEL_VERSION", "SM_MODEL_DIR", "AWS_SECRET_ACCESS_KEY", "OMP_NUM_THREADS")
        return {"answer": model["answer"], "pid": os.getpid(), **{name: os.environ.get(name) for name in names}}

    def output_fn(prediction, accept):
        return json.dumps(prediction).encode()
    """
)


class Bench:
    """Clients and a way to make models, configurations and endpoints of new names."""

    def __init__(self, folder: Path, code: Path) -> None:
        self.folder = folder
        # One try: the tests look at single answers.
        config = Config(retries={"total_max_attempts": 1})
        self.sagemaker: SageMakerClient = boto3.client("sagemaker", config=config)
        self.runtime: SageMakerRuntimeClient = boto3.client("sagemaker-runtime", config=config)
        self.made: list[str] = []
        (code / "tiny_entry_point.py").write_text(ENTRY_POINT)

    def artifact(self, **content: object) -> str:
        folder = self.folder / uuid4().hex
        folder.mkdir()
        (folder / "model.json").write_text(json.dumps(content))
        return folder.as_uri()

    def config(self, uri: str) -> str:
        name = f"test-{uuid4().hex[:12]}"
        self.sagemaker.create_model(
            ModelName=name,
            ExecutionRoleArn="arn:aws:iam::000000000000:role/test",
            PrimaryContainer={
                "Image": "000000000000.dkr.ecr.us-east-1.amazonaws.com/mangaassist:1",
                "Environment": {
                    "MANGAASSIST_ENTRY_POINT": "tiny_entry_point",
                    "MANGAASSIST_MODEL_VERSION": "7",
                },
                "ModelDataSource": {
                    "S3DataSource": {"S3Uri": uri, "S3DataType": "S3Prefix", "CompressionType": "None"}
                },
            },
        )
        self.sagemaker.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[
                {
                    "VariantName": "primary",
                    "ModelName": name,
                    "InstanceType": "ml.m5.large",
                    "InitialInstanceCount": 1,
                }
            ],
        )
        return name

    def endpoint(self, config: str) -> str:
        name = f"test-{uuid4().hex[:12]}"
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
        self.made.append(name)
        self.await_service(name)
        return name

    def await_service(self, name: str) -> None:
        waiter = self.sagemaker.get_waiter("endpoint_in_service")
        waiter.wait(EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})

    def ask(self, name: str, body: bytes = b"1") -> dict[str, Any]:
        answer = self.runtime.invoke_endpoint(EndpointName=name, ContentType="application/json", Body=body)
        assert answer["InvokedProductionVariant"] == "primary"
        content = json.loads(answer["Body"].read())
        assert isinstance(content, dict)
        return content

    def refusal(self, call: Callable[..., object], **parameters: object) -> Any:
        with pytest.raises(ClientError) as caught:
            call(**parameters)
        return caught.value.response


@pytest.fixture
def bench(
    stand_ins_environment: dict[str, str],  # noqa: ARG001 - it sets the addresses
    tmp_path: Path,
    container_code: Path,
) -> Any:
    bench = Bench(tmp_path, container_code)
    yield bench
    for name in bench.made:
        if bench.sagemaker.list_endpoints(NameContains=name)["Endpoints"]:
            bench.sagemaker.delete_endpoint(EndpointName=name)
    waiter = bench.sagemaker.get_waiter("endpoint_deleted")
    for name in bench.made:
        waiter.wait(EndpointName=name, WaiterConfig={"Delay": 1})


def test_an_endpoint_serves_its_model_with_the_containers_environment_and_no_keys(bench: Bench) -> None:
    uri = bench.artifact(answer=1)
    name = bench.endpoint(bench.config(uri))
    answer = bench.ask(name)
    assert answer["answer"] == 1
    assert answer["MANGAASSIST_MODEL_VERSION"] == "7"
    assert answer["SM_MODEL_DIR"] == uri.removeprefix("file://")
    assert answer["AWS_SECRET_ACCESS_KEY"] is None
    assert int(answer["OMP_NUM_THREADS"]) >= 1
    described = bench.sagemaker.describe_endpoint(EndpointName=name)
    assert described["ProductionVariants"][0].get("CurrentInstanceCount") == 1


def test_a_refusal_and_a_failure_of_the_model_are_model_errors(bench: Bench, stand_ins: Supervisor) -> None:
    name = bench.endpoint(bench.config(bench.artifact(answer=1)))
    for body, status, message in ((b"{private", 400, "not JSON"), (b'"fail"', 500, "no answer to that")):
        response = bench.refusal(bench.runtime.invoke_endpoint, EndpointName=name, Body=body)
        assert response["Error"]["Code"] == "ModelError"
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
        assert response["OriginalStatusCode"] == status
        assert message in response["OriginalMessage"]
    log = (stand_ins.home.logs / f"endpoint-{name}-primary.log").read_text()
    assert "RuntimeError while answering" in log
    assert "private" not in log


def test_a_payload_over_the_services_limit_is_refused(bench: Bench) -> None:
    name = bench.endpoint(bench.config(bench.artifact(answer=1)))
    response = bench.refusal(bench.runtime.invoke_endpoint, EndpointName=name, Body=b'"' + b"x" * 6_291_456 + b'"')
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert "at most 6291456" in response["Error"]["Message"]


def test_an_unknown_endpoint_is_refused_by_both_apis(bench: Bench) -> None:
    described = bench.refusal(bench.sagemaker.describe_endpoint, EndpointName="nope")
    assert described["Error"]["Code"] == "ValidationException"
    assert described["Error"]["Message"].startswith("Could not find endpoint")
    invoked = bench.refusal(bench.runtime.invoke_endpoint, EndpointName="nope", Body=b"1")
    assert invoked["Error"]["Code"] == "ValidationError"
    assert "not found" in invoked["Error"]["Message"]


def test_a_model_that_cannot_be_loaded_fails_the_endpoint_with_its_reason(bench: Bench) -> None:
    with pytest.raises(WaiterError):
        bench.endpoint(bench.config(bench.artifact(broken=True)))
    described = bench.sagemaker.describe_endpoint(EndpointName=bench.made[0])
    assert described["EndpointStatus"] == "Failed"
    assert "did not pass the ping health check (exit code 1" in described["FailureReason"]
    assert "weights are damaged" in described["FailureReason"]


def test_a_container_that_never_answers_is_ended_at_its_deadline(
    bench: Bench, tmp_path: Path, container_code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{container_code}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    # Below the API, whose shortest deadline is SageMaker's 60 seconds.
    plan = VariantPlan(
        name="primary",
        model_name="m",
        image="image",
        model_uri=bench.artifact(silent=True),
        environment={"MANGAASSIST_ENTRY_POINT": "tiny_entry_point"},
        weight=1.0,
        instance_count=1,
        start_seconds=2,
    )

    async def start() -> ModelContainer:
        book = ProcessBook(tmp_path / "processes.json")
        container = await ModelContainer.create("silent", plan, cache=tmp_path, logs=tmp_path, book=book)
        with pytest.raises(DeploymentError, match="no answer within 2 seconds"):
            await container.start()
        return container

    assert not asyncio.run(start()).is_running
    assert json.loads((tmp_path / "processes.json").read_text()) == []


def test_an_update_switches_without_losing_a_request(bench: Bench) -> None:
    name = bench.endpoint(bench.config(bench.artifact(answer=1)))
    old = bench.ask(name)["pid"]
    answers: list[int] = []
    stop = threading.Event()

    def ask_on() -> None:
        while not stop.is_set():
            answers.append(bench.ask(name)["answer"])

    asking = threading.Thread(target=ask_on)
    asking.start()
    try:
        bench.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=bench.config(bench.artifact(answer=2)))
        assert bench.sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Updating"
        bench.await_service(name)
        assert wait_until(lambda: answers[-1] == 2, seconds=10)
    finally:
        stop.set()
        asking.join()
    assert answers == sorted(answers)
    assert len(answers) > 20
    assert wait_until(lambda: not psutil.pid_exists(old), seconds=10)


def test_a_request_in_progress_is_answered_by_the_old_model_after_the_switch(bench: Bench) -> None:
    name = bench.endpoint(bench.config(bench.artifact(answer=1)))
    old = bench.ask(name)["pid"]
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(bench.ask, name, b'"slow"')
        bench.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=bench.config(bench.artifact(answer=2)))
        bench.await_service(name)
        assert bench.ask(name)["answer"] == 2
        assert not slow.done()
        assert slow.result(timeout=20)["answer"] == 1
    assert wait_until(lambda: not psutil.pid_exists(old), seconds=10)


def test_an_update_that_fails_leaves_the_old_model_serving(bench: Bench) -> None:
    first = bench.config(bench.artifact(answer=1))
    name = bench.endpoint(first)
    bench.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=bench.config(bench.artifact(broken=True)))
    bench.await_service(name)
    described = bench.sagemaker.describe_endpoint(EndpointName=name)
    assert described["EndpointConfigName"] == first
    assert "weights are damaged" in described["FailureReason"]
    assert bench.ask(name)["answer"] == 1


def test_an_update_to_the_same_configuration_starts_a_new_process(bench: Bench) -> None:
    config = bench.config(bench.artifact(answer=1))
    name = bench.endpoint(config)
    before = bench.ask(name)["pid"]
    bench.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config)
    bench.await_service(name)
    assert bench.ask(name)["pid"] != before


def test_a_process_that_dies_is_started_again(bench: Bench) -> None:
    name = bench.endpoint(bench.config(bench.artifact(answer=1)))
    response = bench.refusal(bench.runtime.invoke_endpoint, EndpointName=name, Body=b'"die"')
    assert response["Error"]["Code"] == "ServiceUnavailable"

    def is_back() -> bool:
        try:
            return bench.ask(name)["answer"] == 1
        except ClientError as error:
            if error.response["Error"]["Code"] != "ServiceUnavailable":
                raise
            return False

    assert wait_until(is_back, seconds=20)


def test_a_deleted_endpoint_is_gone_with_its_process(bench: Bench) -> None:
    name = bench.endpoint(bench.config(bench.artifact(answer=1)))
    pid = bench.ask(name)["pid"]
    bench.sagemaker.delete_endpoint(EndpointName=name)
    bench.sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig={"Delay": 1})
    assert wait_until(lambda: not psutil.pid_exists(pid), seconds=10)


def test_model_data_comes_from_s3_as_well_and_changed_objects_are_fetched_again(bench: Bench) -> None:
    s3 = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
    bucket = f"models-{uuid4().hex[:8]}"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="intent/7/model.json", Body=json.dumps({"answer": "s3"}).encode())
    s3.put_object(Bucket=bucket, Key="intent/7/tokenizer/vocabulary.txt", Body=b"a\nb\n")
    config = bench.config(f"s3://{bucket}/intent/7")
    name = bench.endpoint(config)
    answer = bench.ask(name)
    assert answer["answer"] == "s3"
    assert (Path(answer["SM_MODEL_DIR"]) / "tokenizer" / "vocabulary.txt").read_text() == "a\nb\n"

    s3.put_object(Bucket=bucket, Key="intent/7/model.json", Body=json.dumps({"answer": "changed"}).encode())
    bench.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config)
    bench.await_service(name)
    assert bench.ask(name)["answer"] == "changed"


def test_missing_model_data_in_s3_fails_the_endpoint(bench: Bench) -> None:
    with pytest.raises(WaiterError):
        bench.endpoint(bench.config(f"s3://no-such-bucket-{os.getpid()}/intent/7"))
    reason = bench.sagemaker.describe_endpoint(EndpointName=bench.made[0])["FailureReason"]
    assert "Failed to download model data" in reason


@pytest.fixture
def own_sagemaker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts the local SageMaker alone on a home of its own, again and again."""
    home = Home.open(tmp_path / "home")
    started: list[subprocess.Popen[bytes]] = []
    for name, value in client_environment(home, dict.fromkeys(("mlflow", "ministack", "sagemaker"), "x"), {}).items():
        monkeypatch.setenv(name, value)
    (home.run / "aws-config").write_text("[default]\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")

    def start() -> subprocess.Popen[bytes]:
        with listen_on(0, service="SageMaker") as listener:
            url, fd = f"http://127.0.0.1:{port_of(listener)}", listener.fileno()
            command = ["-m", "mangaassist_assets.local.sagemaker.server", "--home", str(home.root), "--fd", str(fd)]
            started.append(
                start_tethered(
                    [sys.executable, *command],
                    environment=os.environ,
                    log=home.logs / "sagemaker.log",
                    inherited=[fd],
                    own_group=True,
                )
            )
        assert wait_until(lambda: answers(f"{url}/ready"), seconds=60)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", url)
        return started[-1]

    yield start
    stop_processes(started, grace_seconds=10)


def test_a_kill_during_an_update_is_made_good_by_the_next_start(
    own_sagemaker: Callable[[], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    first = own_sagemaker()
    bench = Bench(tmp_path, tmp_path)
    name = bench.endpoint(bench.config(bench.artifact(answer=1)))
    serving = ProcessIdentity.of(bench.ask(name)["pid"])
    assert serving is not None
    config = bench.config(bench.artifact(answer=2))
    bench.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config)
    first.kill()
    first.wait()

    own_sagemaker()
    assert not serving.is_alive()
    bench = Bench(tmp_path, tmp_path)
    bench.await_service(name)
    assert bench.sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"] == config
    assert bench.ask(name)["answer"] == 2


def test_an_endpoint_whose_artifact_is_gone_fails_at_the_start_and_returns_with_it(
    own_sagemaker: Callable[[], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    first = own_sagemaker()
    bench = Bench(tmp_path, tmp_path)
    uri = bench.artifact(answer=1)
    name = bench.endpoint(bench.config(uri))
    stop_processes([first], grace_seconds=10)
    folder = Path(uri.removeprefix("file://"))
    folder.rename(tmp_path / "away")

    second = own_sagemaker()
    bench = Bench(tmp_path, tmp_path)
    described = bench.sagemaker.describe_endpoint(EndpointName=name)
    assert described["EndpointStatus"] == "Failed"
    assert "Failed to find the model data" in described["FailureReason"]
    stop_processes([second], grace_seconds=10)

    (tmp_path / "away").rename(folder)
    own_sagemaker()
    assert Bench(tmp_path, tmp_path).ask(name)["answer"] == 1


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        (b"{", {"X-Amz-Target": "SageMaker.ListModels"}, 400, "SerializationException"),
        (b"[" * 100_000, {"X-Amz-Target": "SageMaker.ListModels"}, 400, "SerializationException"),
        (b"[]", {"X-Amz-Target": "SageMaker.ListModels"}, 400, "SerializationException"),
        (b"{}", {"X-Amz-Target": "Kinesis_20131202.ListStreams"}, 400, "UnknownOperationException"),
        (b"{}", {}, 400, "UnknownOperationException"),
        (b" " * 1_000_001, {"X-Amz-Target": "SageMaker.ListModels"}, 413, "at most 1000000"),
        (
            b"{}",
            {"X-Amz-Target": "SageMaker.ListModels", "Host": "rebound.example"},
            403,
            "the Host 'rebound.example' is none",
        ),
    ],
)
def test_requests_that_are_none_of_sagemakers_are_refused_clearly(
    stand_ins: Supervisor, body: bytes, headers: dict[str, str], status: int, message: str
) -> None:
    connection = http.client.HTTPConnection(stand_ins.urls["sagemaker"].removeprefix("http://"))
    key = stand_ins.environment["AWS_ACCESS_KEY_ID"]
    scope = f"{key}/20260324/us-east-1/sagemaker/aws4_request"
    signed = {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"}
    connection.request("POST", "/", body=body, headers=headers | signed)
    answer = connection.getresponse()
    assert (answer.status, message in answer.read().decode()) == (status, True)
    connection.close()
