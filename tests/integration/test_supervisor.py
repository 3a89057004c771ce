"""The supervisor with its real services: shared use, death of any part, and what survives it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import mlflow
import pytest
from botocore.config import Config

from mangaassist_assets.local.home import Home
from mangaassist_assets.local.ports import PortInUseError, answers, listen_on, port_of
from mangaassist_assets.local.processes import ProcessIdentity, start_tethered, stop_processes, wait_until
from mangaassist_assets.local.sharing import running_services, services
from mangaassist_assets.local.supervisor import AlreadyRunningError, ServiceError, Supervisor
from tests.support.command_line import run_apart

pytestmark = pytest.mark.integration

UP = """
import sys
from mangaassist_assets.local.home import Home
from mangaassist_assets.local.supervisor import Supervisor
with Supervisor(Home.open(sys.argv[1])) as supervisor:
    print("ready", flush=True)
    supervisor.wait()
"""
ENTRY_POINT = """
import json, os, pathlib
model_fn = lambda folder: json.loads((pathlib.Path(folder) / "model.json").read_text())
input_fn = lambda body, content_type: json.loads(body)
predict_fn = lambda data, model: {"answer": model["answer"], "pid": os.getpid()}
output_fn = lambda prediction, accept: json.dumps(prediction).encode()
"""
PROFILE = {"ApplicationId": "", "Name": "prompts", "LocationUri": "hosted", "Type": "AWS.Freeform"}


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Kill a process whose test failed: leaving it to its own context manager would wait for its end."""
    with process:
        try:
            yield process
        finally:
            process.kill()


def make_state(folder: Path) -> None:
    """Leave something in every stand-in, through the clients' environment."""
    appconfig = boto3.client("appconfig")
    application = appconfig.create_application(Name="mangaassist")["Id"]
    profile = appconfig.create_configuration_profile(**{**PROFILE, "ApplicationId": application})["Id"]  # type: ignore[arg-type]
    appconfig.create_hosted_configuration_version(
        ApplicationId=application,
        ConfigurationProfileId=profile,
        Content=json.dumps({"version": "p1"}).encode(),
        ContentType="application/json",
    )
    boto3.client("kinesis").create_stream(StreamName="mangaassist-feedback", ShardCount=1)
    (folder / "model").mkdir()
    (folder / "model" / "model.json").write_text('{"answer": 42}')
    (folder / "kept_entry_point.py").write_text(ENTRY_POINT)
    sagemaker = boto3.client("sagemaker")
    source = {"S3Uri": (folder / "model").as_uri(), "S3DataType": "S3Prefix", "CompressionType": "None"}
    environment = {"MANGAASSIST_ENTRY_POINT": "kept_entry_point"}
    sagemaker.create_model(
        ModelName="kept",
        PrimaryContainer={
            "Image": "image",
            "Environment": environment,
            "ModelDataSource": {"S3DataSource": source},  # type: ignore[typeddict-item]
        },
    )
    sagemaker.create_endpoint_config(
        EndpointConfigName="kept",
        ProductionVariants=[
            {"VariantName": "primary", "ModelName": "kept", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        ],
    )
    sagemaker.create_endpoint(EndpointName="kept", EndpointConfigName="kept")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="kept", WaiterConfig={"Delay": 1})
    tracking().create_experiment("kept")


def tracking() -> mlflow.MlflowClient:
    """The server of the environment; an address that another test of this process has set would go before it."""
    return mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"])


def put_feedback(text: str) -> None:
    boto3.client("kinesis").put_record(StreamName="mangaassist-feedback", Data=text.encode(), PartitionKey="s")


def feedback() -> list[str]:
    kinesis = boto3.client("kinesis")
    shard = kinesis.list_shards(StreamName="mangaassist-feedback")["Shards"][0]["ShardId"]
    iterator = kinesis.get_shard_iterator(
        StreamName="mangaassist-feedback", ShardId=shard, ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    return [record["Data"].decode() for record in kinesis.get_records(ShardIterator=iterator)["Records"]]


def prompt_version() -> str:
    appconfig = boto3.client("appconfig")
    application = appconfig.list_applications()["Items"][0]["Id"]
    profile = appconfig.list_configuration_profiles(ApplicationId=application)["Items"][0]["Id"]
    version = appconfig.get_hosted_configuration_version(
        ApplicationId=application, ConfigurationProfileId=profile, VersionNumber=1
    )
    return str(json.loads(version["Content"].read())["version"])


def model_answer() -> dict[str, int]:
    answer = boto3.client("sagemaker-runtime", config=Config(retries={"total_max_attempts": 1})).invoke_endpoint(
        EndpointName="kept", Body=b"1"
    )
    content = json.loads(answer["Body"].read())
    assert isinstance(content, dict)
    return content


def test_a_killed_supervisor_takes_everything_along_and_the_next_one_finds_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home.open(tmp_path / "home")
    argv = [sys.executable, "-c", UP, str(home.root)]
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    with ended(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=tmp_path)) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "ready\n"
        running = running_services(home)
        assert running is not None
        assert running.pid == first.pid
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        make_state(tmp_path)
        put_feedback("before the kill")
        # Both are written a moment after the answer.
        kinesis_state = home.ministack / "state" / "kinesis.json"
        assert wait_until(lambda: kinesis_state.exists() and len(feedback()) == 1, seconds=10)
        identities = _children(home.run / "services.json")
        model = ProcessIdentity.of(model_answer()["pid"])
        assert model is not None
        assert wait_until(lambda: "YmVmb3JlIHRoZSBraWxs" in kinesis_state.read_text(), seconds=10)
        first.kill()
    if sys.platform == "linux":
        assert wait_until(lambda: not any(i.is_alive() for i in [*identities, model]), seconds=20)

    with Supervisor(home) as second:
        assert second.urls == running.urls
        assert feedback() == ["before the kill"]
        assert prompt_version() == "p1"
        assert model_answer()["answer"] == 42
        assert tracking().get_experiment_by_name("kept") is not None
        put_feedback("before the stop")

        os.kill(second.processes["ministack"], signal.SIGKILL)
        with pytest.raises(ServiceError, match=r"ministack \(process \d+\) ended by SIGKILL.*ministack\.log"):
            second.wait()
    assert running_services(home) is None

    with Supervisor(home) as third:
        assert feedback()[0] == "before the kill"
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
        assert third.wait() is signal.SIGTERM
        put_feedback("last")
        third.start_process(
            "beside",
            [sys.executable, "-c", "print('hello'); import time; time.sleep(60)"],
            health_url=third.urls["mlflow"] + "/health",
            start_seconds=20,
            environment={},
        )
        with pytest.raises(ServiceError, match=r"brief \(process \d+\) ended with exit code 3(.|\n)*goodbye"):
            third.start_process(
                "brief",
                [sys.executable, "-c", "print('goodbye'); raise SystemExit(3)"],
                health_url=third.urls["mlflow"] + "/never",
                start_seconds=20,
                environment={},
            )
        beside = ProcessIdentity.of(third.processes["beside"])
        assert beside is not None
    assert not beside.is_alive()
    stored = (home.ministack / "state" / "kinesis.json").read_text()
    assert "bGFzdA==" in stored


def test_ctrl_c_while_the_services_start_ends_them(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    # A shell starts background jobs with SIGINT ignored, and so would be this test's child.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + UP
    argv = [sys.executable, "-c", code, str(home.root)]
    with ended(subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)) as starting:
        state = home.run / "services.json"
        assert wait_until(lambda: state.exists() and len(_children(state)) == 3, seconds=20)
        children = _children(state)
        starting.send_signal(signal.SIGINT)
        _, errors = starting.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors
    assert not any(child.is_alive() for child in children)
    assert not state.exists()


def _children(state: Path) -> list[ProcessIdentity]:
    children = json.loads(state.read_text())["children"].values()
    return [ProcessIdentity(child["pid"], child["created"]) for child in children]


def test_a_second_supervisor_learns_who_holds_the_home(stand_ins: Supervisor) -> None:
    with pytest.raises(AlreadyRunningError) as caught:
        Supervisor(stand_ins.home).start()
    message = str(caught.value)
    assert f"process {os.getpid()}" in message
    assert re.search(r"since \d{4}-\d\d-\d\dT", message)
    assert all(url in message for url in stand_ins.urls.values())
    assert answers(stand_ins.urls["mlflow"] + "/health")


def test_a_command_uses_the_services_that_run_and_leaves_them_running(stand_ins: Supervisor) -> None:
    with services(stand_ins.home) as found:
        assert found.environment == stand_ins.environment
        assert found.pid == os.getpid()
    assert running_services(stand_ins.home) == found
    assert answers(stand_ins.urls["ministack"] + "/_ministack/health")


def test_a_command_starts_the_service_it_needs_and_no_other(tmp_path: Path) -> None:
    ran = run_apart(tmp_path / "home", "models", "list", "--json")
    assert (ran.code, json.loads(ran.stdout)) == (0, {"versions": [], "overrides": [], "promotions": []}), ran.stderr
    assert ran.stderr.splitlines()[0] == "starting MLflow"
    assert [log.name for log in (tmp_path / "home" / "logs").iterdir()] == ["mlflow.log"]


def test_the_key_that_its_environment_names_is_there_before_any_chatbot_wrote(stand_ins: Supervisor) -> None:
    file = Path(stand_ins.environment["MANGAASSIST_PSEUDONYM_KEY_FILE"])
    assert len(bytes.fromhex(file.read_text("ascii"))) == 32


def test_the_page_of_mlflow_lists_artifacts_that_a_client_wrote_to_the_home(
    stand_ins: Supervisor, stand_ins_environment: dict[str, str]
) -> None:
    client = mlflow.MlflowClient(stand_ins_environment["MLFLOW_TRACKING_URI"])
    run = client.create_run(client.create_experiment("artifacts"))
    client.log_text(run.info.run_id, "hello", "folder/note.txt")
    assert run.info.artifact_uri.startswith(stand_ins.home.mlflow.as_uri())
    query = f"ajax-api/2.0/mlflow/artifacts/list?run_id={run.info.run_id}&path=folder"
    with urllib.request.urlopen(f"{stand_ins.urls['mlflow']}/{query}") as answer:  # noqa: S310 - a local URL
        assert [file["path"] for file in json.load(answer)["files"]] == ["folder/note.txt"]


def test_a_fixed_port_that_is_taken_is_named_before_anything_starts(tmp_path: Path) -> None:
    home = Home.open(tmp_path)
    with listen_on(0, service="another program") as holder:
        port = port_of(holder)
        with pytest.raises(PortInUseError, match=rf"Port {port} for MLflow .*process {os.getpid()}"):
            Supervisor(home, ports={"mlflow": port}).start()
    assert not any(home.logs.iterdir())
    assert running_services(home) is None


def test_a_service_that_does_not_start_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    home = Home.open(tmp_path)
    (home.sagemaker / "state.json").write_text("{ damaged")
    supervisor = Supervisor(home)
    with pytest.raises(
        ServiceError, match=r"sagemaker .* ended with exit code 1(.|\n)*state\.json cannot be understood"
    ):
        supervisor.start()
    assert not supervisor.processes
    (home.sagemaker / "state.json").unlink()
    # The home is free again.
    with pytest.raises(ValueError, match="65535"):
        Supervisor(home, ports={"mlflow": 65_536}).start()


def test_ministack_loses_nothing_that_was_written_a_moment_before_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    (tmp_path / "access.key").write_text("test")

    def start() -> subprocess.Popen[bytes]:
        with listen_on(0, service="ministack") as listener:
            port, fd = port_of(listener), listener.fileno()
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
            command = ["-m", "mangaassist_assets.local.ministack_server", "--fd", str(fd), "--port", str(port)]
            child = start_tethered(
                [
                    *(sys.executable, *command, "--folder", str(tmp_path / "ministack")),
                    *("--key-file", str(tmp_path / "access.key")),
                ],
                environment=os.environ,
                log=tmp_path / "ministack.log",
                inherited=[fd],
                own_group=True,
            )
        assert wait_until(lambda: answers(f"http://127.0.0.1:{port}/_ministack/health"), seconds=30)
        return child

    first = start()
    boto3.client("kinesis").create_stream(StreamName="mangaassist-feedback", ShardCount=1)
    for number in range(200):
        put_feedback(f"event-{number}")
    state = tmp_path / "ministack" / "state" / "kinesis.json"
    last = "ZXZlbnQtMTk5"
    try:
        assert wait_until(lambda: state.exists() and last in state.read_text(), seconds=5)
    finally:
        first.kill()
        first.wait()
    second = start()
    try:
        assert feedback() == [f"event-{number}" for number in range(200)]
    finally:
        stop_processes([second], grace_seconds=10)
