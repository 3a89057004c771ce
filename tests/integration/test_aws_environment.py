"""The definitions of the environment `aws` on stand-ins: S3, Firehose's delivery, REST, the Redshift Data API."""

from __future__ import annotations

import gzip
import json
import uuid
from datetime import UTC, datetime
from types import SimpleNamespace

import boto3
import dagster as dg
import polars as pl
import pytest

from mangaassist_assets.chatbot.orchestrator import ChatRequest
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.definitions import build_definitions
from mangaassist_assets.labelling.queue.stored_queue import QUEUE_FILE
from mangaassist_assets.partitions import release_bundles
from mangaassist_assets.reporting.stored_reports import REPORT_FILE
from mangaassist_assets.tracing.feedback.events import feedback_record
from mangaassist_assets.tracing.ingestion.stored_turns import read_turns
from tests.support.dataset_store import BUNDLE, fill, put_dataset
from tests.support.labelling import queue_item
from tests.support.production_install import run_commands
from tests.support.redshift_data import RedshiftData, redshift_data_server
from tests.support.store_chatbot import store_chatbot

pytestmark = pytest.mark.integration

TURNS = 12
STARTED = datetime(2026, 3, 24, 9, 0, tzinfo=UTC)
ASSETS = (
    *("feedback_events", "recorded_feedback", "tagged_traces", "failed_traces"),
    *("feedback_warehouse", "satisfaction_report", "usage_report"),
)


@pytest.fixture
def aws(stand_ins_environment, postgres_server, tmp_path, monkeypatch):  # noqa: ARG001 - the environment of clients
    """The `aws` definitions on an empty bucket, with a bundle nobody else uses."""
    bucket = f"mangaassist-{uuid.uuid4().hex[:10]}"
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=bucket)
    variables = {
        "MANGAASSIST_ENV": "aws",
        "MANGAASSIST_STORE": f"s3://{bucket}/store",
        "MANGAASSIST_CACHE": str(tmp_path),
        "MANGAASSIST_KNOWLEDGE": str(tmp_path),
        "MANGAASSIST_PSEUDONYM_KEY": "ab" * 32,
        "MANGAASSIST_FEEDBACK_DELIVERY": f"s3://{bucket}/delivered/",
        "MANGAASSIST_SAGEMAKER_IMAGE": "invented",
        "MANGAASSIST_SAGEMAKER_ROLE_ARN": "arn:aws:iam::000000000000:role/invented",
        "MANGAASSIST_OPENSEARCH_URL": "https://127.0.0.1:9",
        "MANGAASSIST_REDSHIFT_DATABASE": "analytics",
        "MANGAASSIST_REDSHIFT_WORKGROUP": "mangaassist",
        "MANGAASSIST_REDSHIFT_STAGING": f"s3://{bucket}/staging",
        "MANGAASSIST_REDSHIFT_ROLE_ARN": "arn:aws:iam::000000000000:role/invented",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    # The server alone is known there, as with a managed MLflow: traces are read by REST.
    monkeypatch.delenv("MANGAASSIST_TRACKING_STORE")
    api = RedshiftData(postgres_server.create_database(), s3=s3)
    with redshift_data_server(api) as url, dg.DagsterInstance.ephemeral() as instance:
        monkeypatch.setenv("AWS_ENDPOINT_URL_REDSHIFT_DATA", url)
        bundle = f"aws-{uuid.uuid4().hex[:8]}"
        instance.add_dynamic_partitions(release_bundles.name, [bundle])
        definitions = build_definitions("aws")
        with dg.build_resources(dict(definitions.resources)) as resources:
            yield SimpleNamespace(
                bundle=bundle, bucket=bucket, s3=s3, api=api, definitions=definitions, instance=instance, on=resources
            )


def drive(aws) -> str:
    """Shoppers write; Firehose delivers their thumbs, one of them twice and one for a turn that nobody traced.

    Returns the pseudonym of a shopper.
    """
    sink = aws.on.mlflow.trace_sink()
    chatbot = store_chatbot(sink)
    replies = [
        chatbot.answer(
            ChatRequest(
                message="my name is Jane Invented, how to return?",
                session_id=f"s{number % 4}",
                release_bundle=aws.bundle,
                user_id=f"shopper-{number}",
                event_time_ms=int(STARTED.timestamp() * 1000) + number,
            )
        )
        for number in range(TURNS)
    ]
    assert sink.flush() == TURNS
    events = [
        feedback_record(
            event_id=f"{aws.bundle}-{number}",
            trace_id=reply.trace_id if number else "tr-" + "f" * 32,
            session_id=reply.session_id,
            user_key=reply.user_key,
            release_bundle=aws.bundle,
            feedback="thumbs_down" if number % 2 else "thumbs_up",
            timestamp=STARTED,
        ).to_bytes()
        for number, reply in enumerate(replies)
    ]
    body = gzip.compress(b"".join([*events, events[3]]))
    aws.s3.put_object(Bucket=aws.bucket, Key="delivered/2026/03/24/09/stream-1-a.gz", Body=body)
    return str(replies[1].user_key)


def materialize(aws) -> dg.ExecuteInProcessResult:
    return aws.definitions.resolve_job_def("failure_mining").execute_in_process(
        instance=aws.instance,
        partition_key=aws.bundle,
        asset_selection=[dg.AssetKey(name) for name in ASSETS],
        raise_on_error=True,
    )


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, object]:
    (event,) = result.asset_materializations_for_node(asset)
    return {name: value.value for name, value in event.metadata.items()}


def test_traces_feedback_and_reports_of_a_bundle_come_to_rest_in_the_bucket_and_the_warehouse(aws):
    drive(aws)
    result = materialize(aws)
    events, recorded, traces = (metadata(result, name) for name in ASSETS[:3])
    assert (events["dagster/row_count"], events["duplicates_dropped"]) == (TURNS, 1)
    assert (recorded["recorded"], recorded["pending"]) == (TURNS - 1, 1)
    assert (traces["dagster/row_count"], traces["quarantined"]) == (TURNS, 0)
    snapshots = aws.on.store.snapshots()
    turns = read_turns(snapshots, aws.bundle)
    assert [turn.user_feedback for turn in turns].count("thumbs_down") == TURNS // 2
    assert {turn.learnable_text for turn in turns} == {"my name is [NAME], how to return?"}
    report = snapshots.read_json(snapshots.latest("satisfaction_report", partition=aws.bundle), REPORT_FILE)
    assert aws.bundle in json.dumps(report)
    loaded = aws.on.warehouse.open().query(
        "SELECT COUNT(*) AS n FROM chat_turns WHERE release_bundle = :release_bundle", {"release_bundle": aws.bundle}
    )
    assert loaded.rows() == [(TURNS,)]


def test_a_second_run_writes_nothing_new_and_no_object_holds_a_name(aws):
    drive(aws)
    first, second = materialize(aws), materialize(aws)
    assert metadata(second, "recorded_feedback")["newly_recorded"] == 0
    assert metadata(second, "tagged_traces")["newly_read"] == 0
    assert metadata(first, "tagged_traces")["digest"] == metadata(second, "tagged_traces")["digest"]
    listed = aws.s3.list_objects_v2(Bucket=aws.bucket, Prefix="store/")["Contents"]
    assert len(listed) > 10
    for one in listed:
        content = aws.s3.get_object(Bucket=aws.bucket, Key=one["Key"])["Body"].read()
        if one["Key"].endswith(".parquet"):
            content = str(pl.read_parquet(content).to_dicts()).encode()
        assert b"Jane" not in content, one["Key"]


def test_the_command_line_reaches_aws_and_starts_and_makes_nothing_here(aws, tmp_path):
    """In a process without the extra `local`, which fails where a Python process is started."""
    user = drive(aws)
    materialize(aws)
    snapshots = aws.on.store.snapshots()
    (turn, *_) = read_turns(snapshots, aws.bundle)
    snapshots.write("failure_clusters", {"clusters.json": b"[]"}, partition=aws.bundle)
    queue = canonical_json([queue_item(turn.trace_id, 1)])
    snapshots.write("review_queue", {QUEUE_FILE: queue}, partition=aws.bundle)
    fill(snapshots)
    version = put_dataset(snapshots, BUNDLE).version
    out, dagster_home = tmp_path / "queue.csv", tmp_path / "dagster"
    dagster_home.mkdir()
    bundle = ("--release-bundle", aws.bundle)
    promote = ("models", "promote", "--model", "reranker", "--version", "99", "--reason", "it answers gift cards")
    ran = run_commands(
        [
            ["datasets", "list", "--json"],
            ["report", *bundle, "--json"],
            ["labels", "export", *bundle, "--out", str(out), "--json"],
            ["models", "list", "--json"],
            [*promote, "--json"],
            ["erase-user", "--user-key", user, "--json"],
        ],
        folder=tmp_path / "here",
        DAGSTER_HOME=str(dagster_home),
    )
    codes = [one.code for one in ran]
    assert codes == [0, 0, 0, 0, 1, 0], [one.stderr for one in ran]
    assert "no version 99" in ran[4].stderr
    datasets, report, labels, models, erased = (json.loads(one.stdout) for one in ran if one.code == 0)
    assert [one["version"] for one in datasets["versions"]] == [version]
    assert report["satisfaction"]["release_bundle"] == report["usage"]["release_bundle"] == aws.bundle
    assert (labels["rows"], turn.trace_id in out.read_text("utf-8-sig")) == (1, True)
    assert {"versions", "overrides", "promotions"} == set(models)
    assert erased["traces_deleted"] >= 1  # the user wrote in other bundles as well
    assert len(list(aws.on.mlflow.read_traces(aws.bundle))) == TURNS - 1
    assert erased["report_file"].startswith(f"s3://{aws.bucket}/store/")
    assert list((tmp_path / "here").iterdir()) == []
    assert not list(tmp_path.rglob("home.json"))
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        runs = {run.job_name: run.status for run in instance.get_runs()}
    assert runs == {"reports": dg.DagsterRunStatus.SUCCESS, "reranker_promotion": dg.DagsterRunStatus.FAILURE}
