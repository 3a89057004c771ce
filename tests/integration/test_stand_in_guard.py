"""The stand-ins answer clients of their home alone, for the services that are offered, and leave nothing to others."""

from __future__ import annotations

import ast
import http.client
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import psutil
import pytest
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from mangaassist_assets.local.ministack_server import SERVICES
from mangaassist_assets.local.supervisor import Supervisor

pytestmark = pytest.mark.integration

ELSEWHERE = {"sagemaker", "sagemaker-runtime", "redshift-data", "sts"}
"""What our clients use and MiniStack does not offer: STS is asked on AWS only."""
SERVERS = ("mlflow", "ministack", "sagemaker")
PATHS = {
    "mlflow": ("GET", "/api/2.0/mlflow/experiments/search?max_results=1"),
    "ministack": ("GET", "/"),
    "sagemaker": ("POST", "/"),
}


def ask(url: str, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> tuple[int, str]:
    """Return status and text; the Host is the address's unless a header names another."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.putrequest(method, path, skip_host="Host" in (headers or {}))
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        headers_of = {name.lower() for name, _value in answer.getheaders()}
        assert not [name for name in headers_of if name.startswith("access-control")]
        return answer.status, answer.read().decode("utf-8", "replace")
    finally:
        connection.close()


def signed(key: str, service: str, **more: str) -> dict[str, str]:
    scope = f"{key}/20260324/us-east-1/{service}/aws4_request"
    return {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0", **more}


def client_services(*folders: Path) -> Iterator[str]:
    """Find the services that code asks boto3 for."""
    for folder in folders:
        for file in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "client":
                    yield from (one.value for one in node.args[:1] if isinstance(one, ast.Constant))


def test_what_is_offered_is_what_our_clients_use_and_the_firehose_whose_deliveries_they_read(
    repository_root: Path,
) -> None:
    used = set(client_services(repository_root / "resources", repository_root / "mangaassist_assets"))
    assert set(SERVICES) == (used - ELSEWHERE) | {"firehose"}


@pytest.mark.usefixtures("stand_ins_environment")
def test_clients_with_the_homes_environment_are_answered() -> None:
    assert "Buckets" in boto3.client("s3").list_buckets()
    assert "StreamNames" in boto3.client("kinesis").list_streams()
    assert "DeliveryStreamNames" in boto3.client("firehose").list_delivery_streams()
    assert "Items" in boto3.client("appconfig").list_applications()
    assert "Endpoints" in boto3.client("sagemaker").list_endpoints()


@pytest.mark.usefixtures("stand_ins_environment")
@pytest.mark.parametrize(
    ("service", "operation"),
    [
        *(("lambda", "list_functions"), ("dynamodb", "list_tables"), ("sqs", "list_queues"), ("ecs", "list_clusters")),
        *(("iam", "list_users"), ("sts", "get_caller_identity"), ("secretsmanager", "list_secrets")),
        *(("codebuild", "list_projects"), ("stepfunctions", "list_state_machines"), ("ec2", "describe_instances")),
        *(
            ("cloudformation", "list_stacks"),
            ("glue", "get_databases"),
            ("sns", "list_topics"),
            ("rds", "describe_db_instances"),
        ),
    ],
)
def test_a_service_that_nobody_needs_is_refused_even_to_the_owner(service: str, operation: str) -> None:
    with pytest.raises((ClientError, ResponseParserError), match="is not offered"):
        getattr(boto3.client(service), operation)()


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/", {"X-Amz-Target": "DynamoDB_20120810.ListTables"}),
        ("POST", "/", {"X-Amz-Target": "AWSStepFunctions.ListStateMachines"}),
        ("POST", "/?Action=ListUsers&Version=2010-05-08", {}),
        ("GET", "/2015-03-31/functions", {}),
        ("GET", "/iceberg/v1/config", {}),
        ("POST", "/Execute", {}),
        ("GET", "/v2/email/identities", {}),
        ("GET", "/v2/_catalog", {}),
        ("GET", "/restapis/abc/dev/_user_request_/x", {}),
        ("GET", "/_aws/execute-api/abc/dev/x", {}),
        ("POST", "/_ministack/reset", {}),
        ("POST", "/_ministack/config", {}),
        ("GET", "/_ministack/lambda-code/x", {}),
    ],
)
def test_another_service_is_not_reached_by_its_path_or_header_either(
    stand_ins: Supervisor, method: str, path: str, headers: dict[str, str]
) -> None:
    key = stand_ins.environment["AWS_ACCESS_KEY_ID"]
    status, text = ask(stand_ins.urls["ministack"], method, path, signed(key, "s3", **headers), b"{}")
    # S3 may take it for the name of a bucket that is not there.
    assert status >= 400, text
    assert not any(
        word in text for word in ("TableNames", "stateMachines", "Functions", '"reset"', "applied", "overrides")
    )


@pytest.mark.parametrize("server", ["ministack", "sagemaker"])
@pytest.mark.parametrize("key", ["", "test", "mangaassist-local", "000000000000", "AKIAIOSFODNN7EXAMPLE"])
def test_who_does_not_know_the_homes_key_is_refused(stand_ins: Supervisor, server: str, key: str) -> None:
    for service in ("s3", "kinesis", "sagemaker", "lambda"):
        headers = signed(key, service) if key else {}
        for target in ("SageMaker.CreateModel", "Kinesis_20131202.ListStreams"):
            body = json.dumps({"ModelName": "m"}).encode()
            status, text = ask(stand_ins.urls[server], "POST", "/", headers | {"X-Amz-Target": target}, body)
            assert (status, "not signed with this home's access key" in text) == (403, True)
    status, _ = ask(stand_ins.urls["sagemaker"], "POST", "/endpoints/x/invocations", {}, b"{}")
    assert status == 403


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.test"},
        {"Host": "10.evil.test:80"},
        {"Origin": "http://evil.test"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    ],
)
def test_no_page_of_anywhere_is_answered(stand_ins: Supervisor, server: str, headers: dict[str, str]) -> None:
    key = stand_ins.environment["AWS_ACCESS_KEY_ID"]
    method, path = PATHS[server]
    own = signed(key, "s3" if server == "ministack" else "sagemaker")
    assert ask(stand_ins.urls[server], method, path, own)[0] != 403
    assert ask(stand_ins.urls[server], method, path, own | headers)[0] == 403
    assert ask(stand_ins.urls[server], "OPTIONS", path, headers)[0] == 403


@pytest.mark.usefixtures("stand_ins_environment")
@pytest.mark.parametrize(
    "variables",
    [
        *({"PYTHONPATH": "/tmp"}, {"LD_PRELOAD": "/tmp/x.so"}, {"PYTHONSTARTUP": "/tmp/x.py"}, {"PATH": "/tmp"}),  # noqa: S108
        *({"PYTHONHOME": "/tmp"}, {"HOME": "/tmp"}, {"pythonpath": "/tmp"}, {"MANGAASSIST_STORE": "/tmp"}),  # noqa: S108
        *({"MANGAASSIST_ENTRY_POINT": "../x"}, {"MANGAASSIST_ENTRY_POINT": "a;b"}, {"AWS_ACCESS_KEY_ID": "x"}),
        {"OMP_NUM_THREADS": "1", "LD_LIBRARY_PATH": "/tmp"},  # noqa: S108
    ],
)
def test_a_model_cannot_bring_code_of_its_own_into_its_serving_process(
    variables: dict[str, str], tmp_path: Path
) -> None:
    source = {"S3Uri": tmp_path.as_uri(), "S3DataType": "S3Prefix", "CompressionType": "None"}
    container = {"Image": "i", "Environment": variables, "ModelDataSource": {"S3DataSource": source}}
    with pytest.raises(ClientError, match="Environment"):
        boto3.client("sagemaker").create_model(ModelName="m", PrimaryContainer=container)


def test_nothing_in_the_home_of_running_services_is_anybody_elses(stand_ins: Supervisor) -> None:
    root = stand_ins.home.root
    assert (stand_ins.home.mlflow / "mlflow.db").is_file()
    open_to_others = [
        path
        for path in (root, *root.rglob("*"))
        if not path.is_symlink() and stat.S_IMODE(path.lstat().st_mode) & 0o077
    ]
    assert open_to_others == []


def test_the_services_listen_on_this_machine_alone_at_the_ports_that_are_named(stand_ins: Supervisor) -> None:
    named = {urlsplit(url).port for url in stand_ins.urls.values()}
    for pid in stand_ins.processes.values():
        listening = [one for one in psutil.Process(pid).net_connections("inet") if one.status == psutil.CONN_LISTEN]
        assert {one.laddr.ip for one in listening} == {"127.0.0.1"}
        assert {one.laddr.port for one in listening} <= named


def test_no_process_shows_the_key_in_its_command(stand_ins: Supervisor) -> None:
    key = stand_ins.environment["AWS_ACCESS_KEY_ID"]
    for pid in (os.getpid(), *stand_ins.processes.values()):
        assert key not in " ".join(psutil.Process(pid).cmdline())
