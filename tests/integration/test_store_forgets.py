"""Erasure and collection against a real MLflow, a real SageMaker API and a real index."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import numpy as np
import polars as pl
import pytest
from upath import UPath

from mangaassist_assets.cli.commands.personal_data import render_erasure, run_erasure
from mangaassist_assets.cli.commands.store import render_gc, run_gc
from mangaassist_assets.cli.session import Session
from mangaassist_assets.core.codecs import to_parquet
from mangaassist_assets.core.retention import collect, plan_collection, read_rules
from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.mining.clustering.message_vectors import text_hash
from mangaassist_assets.privacy import pseudonym
from mangaassist_assets.retrieval.generations import GenerationSettings, build_generation
from mangaassist_assets.retrieval.types import Chunk
from mangaassist_assets.tracing.ingestion.trace_ingestion import TraceIngestion
from mangaassist_assets.tracing.person_marks import PersonMarks
from mangaassist_assets.tracing.purging import holding_records, take_out
from resources.aws.clients import AwsResource
from resources.aws.endpoints import SageMakerResource
from resources.mlflow.tracking import MlflowResource
from resources.search.indexes import LanceDbSearchResource
from resources.settings.privacy import PrivacyResource
from resources.settings.trace_mapping import TraceMappingResource
from resources.store import StoreResource
from resources.warehouse.warehouse import DuckDbWarehouseResource

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("stand_ins_environment")]

KEY = b"\xab" * 32
SHOPPER, SOMEBODY = "shopper-4711", "shopper-42"
USER = pseudonym(SHOPPER, KEY)
BUNDLE = "2026.03.24-rc2"
WRITERS = ("ours", "plain", "tag", "litellm user", "litellm end_user", "proxy tag", "enduser.id", "user.id")
SAID = "the parcel of {who} by {how} never came to me, please look for it"


@pytest.fixture
def session(tmp_path: Path, request: pytest.FixtureRequest) -> Session:
    suffix, root = uuid4().hex[:8], str(tmp_path / "store")
    if getattr(request, "param", "directory") == "bucket":
        AwsResource().client("s3").create_bucket(Bucket=f"store-{suffix}")
        root = f"s3://store-{suffix}/store"
    mlflow = MlflowResource(
        traces_experiment=f"traces-{suffix}",
        training_experiment=f"training-{suffix}",
        evaluation_experiment=f"evaluation-{suffix}",
    )
    resources = SimpleNamespace(
        store=StoreResource(root=root, cache_folder=str(tmp_path / "cache")),
        mlflow=mlflow,
        warehouse=DuckDbWarehouseResource(path=str(tmp_path / "warehouse")),
        privacy=PrivacyResource(key=KEY.hex()),
        trace_mapping=TraceMappingResource(),
        search=LanceDbSearchResource(path=str(tmp_path / "search")),
        endpoints=SageMakerResource(aws=AwsResource()),
    )
    return Session(instance=None, definitions=None, resources=resources, progress=lambda _: None, logs=tmp_path)  # type: ignore[arg-type]


def write(session: Session, who: str, how: str) -> str:
    """Write a trace as a tool writes it, with MLflow's own client; returns its id."""
    import mlflow

    resource = session.resources.mlflow
    resource.client()
    mlflow.set_experiment(resource.traces_experiment)
    message = SAID.format(who=who, how=how)
    call = {"messages": [{"role": "user", "content": message}]}
    attributes: dict[str, Any] = {}
    name, inputs, tags, metadata = "chat_turn", {"message": message}, {}, {}
    if how == "ours":
        metadata["mlflow.trace.user"] = pseudonym(who, KEY)
    elif how == "plain":
        metadata["mlflow.trace.user"] = who
    elif how == "tag":
        tags["user_id"] = who
    elif how == "litellm user":
        name, inputs, attributes = "litellm-acompletion", call, {"user": who, "call_type": "acompletion"}
    elif how == "litellm end_user":
        name, inputs = "litellm-acompletion", call
        attributes = {"call_type": "acompletion", "metadata": {"user_api_key_end_user_id": who}}
    elif how == "proxy tag":
        tags["end_user"] = who
    else:
        attributes = {how: who, "gen_ai.system": "aws.bedrock"}
    with mlflow.start_span(name) as span:
        span.set_inputs(inputs)
        span.set_attributes(attributes)
        span.set_outputs({"answer": "It is on its way."})
        mlflow.update_current_trace(
            tags={"release_bundle": BUNDLE, "session_id": f"s-{uuid4().hex[:6]}", **tags}, metadata=metadata
        )
    mlflow.flush_trace_async_logging()
    return str(span.trace_id)


def left(session: Session) -> set[str]:
    return {one.trace_id for one in session.resources.mlflow.trace_source().traces_after(None, limit=500)}


def ingest(session: Session) -> None:
    store = session.resources.store
    source = session.resources.mlflow.trace_source()
    TraceIngestion(store.trace_ingestion_table(), source, pseudonym_key=KEY).advance()


@pytest.mark.parametrize("session", ["directory", "bucket"], indirect=True)
def test_an_erased_user_is_gone_from_every_store_whoever_wrote_the_traces(session):
    own = [write(session, SHOPPER, how) for how in WRITERS]
    others = [write(session, SOMEBODY, how) for how in WRITERS]
    assert left(session) == {*own, *others}
    ingest(session)
    store, mlflow = session.resources.store, session.resources.mlflow
    snapshots, turns = store.snapshots(), store.trace_ingestion_table()
    said = turns.rows().filter(pl.col("trace_id").is_in(own)).collect()["message"].to_list()
    assert len(said) == len(WRITERS)
    clusters = json.dumps({"examples": said[:1]}).encode()
    snapshots.write("failure_clusters", {"clusters.json": clusters}, partition=BUNDLE)
    frame = pl.DataFrame({"trace_id": [own[0], others[0]], "timestamp_ms": [1, 2]})
    snapshots.write("tagged_traces", {"turns.parquet": to_parquet(frame)}, partition=BUNDLE)
    vectors = np.eye(2, dtype=np.float32)
    store.embedding_cache().write("model query", 2, [text_hash(said[0]), text_hash("of others")], vectors)
    (store.cache("training") / "0123").mkdir()
    client, run = mlflow.client(), None
    run = client.create_run(mlflow.ensure_experiment(mlflow.training_experiment))
    client.log_text(run.info.run_id, json.dumps([{"trace_id": own[3]}]), "tables/wrong.json")
    client.log_text(run.info.run_id, json.dumps([{"trace_id": others[3]}]), "tables/right.json")

    report = run_erasure(session, user_id=SHOPPER)

    assert report["traces_deleted"] == len(WRITERS)
    assert left(session) == set(others)
    assert report["removed"] == {"message vectors": 1, "training scratch": 1, "files of MLflow runs": 1}
    assert report["rows_removed"]["ingested_traces"] == len(WRITERS)
    assert report["materialize_again"] == (("failure_clusters", BUNDLE),)
    kept = snapshots.read(snapshots.latest("tagged_traces", partition=BUNDLE), "turns.parquet")
    assert pl.read_parquet(kept)["trace_id"].to_list() == [others[0]]
    assert [one.path for one in client.list_artifacts(run.info.run_id, "tables")] == ["tables/right.json"]
    assert set(report["verified"]) >= {"snapshots", "feedback", "ingested_traces", "warehouse", "MLflow traces"}
    render_erasure(report)
    files = [path for path in store.path().rglob("*") if path.is_file()]
    assert len(files) > 5
    assert not [str(path) for path in files if _holds(path, own, said)]
    assert run_erasure(session, user_id=SHOPPER)["traces_deleted"] == 0
    # What comes later of the user is not kept.
    late = write(session, SHOPPER, "plain")
    assert run_erasure(session, user_key=USER)["traces_deleted"] == 1
    assert late not in left(session)


def _holds(path: UPath, trace_ids: list[str], texts: list[str]) -> bool:
    content = path.read_bytes()
    if content.startswith(b"PAR1"):
        content = str(pl.read_parquet(content).rows()).encode()
    # The log of a table names traces that were being written once, and nothing that was said.
    ids = [] if "_delta_log" in path.parts else trace_ids
    return any(one.encode() in content for one in [*ids, *texts])


def test_a_trace_whose_spans_lie_in_artifacts_goes_with_its_files(session, stand_ins, tmp_path):
    from mlflow.entities import TraceInfo, TraceLocation, TraceState
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    client, experiment_id = session.resources.mlflow.traces()
    written = client.get_trace(write(session, SHOPPER, "enduser.id"), display=False)
    client.delete_traces(experiment_id, trace_ids=[written.info.trace_id])
    database = SqlAlchemyStore(f"sqlite:///{stand_ins.home.mlflow / 'mlflow.db'}", tmp_path.as_uri())
    made = database.start_trace(
        TraceInfo(
            trace_id=f"tr-{uuid4().hex}",
            trace_location=TraceLocation.from_experiment_id(experiment_id),
            request_time=1_774_000_000_000,
            execution_duration=7,
            state=TraceState.OK,
            tags={"mlflow.trace.spansLocation": "ARTIFACT_REPO"},
        )
    )
    folder = Path(made.tags["mlflow.artifactLocation"].removeprefix("file://"))
    folder.mkdir(parents=True)
    (folder / "traces.json").write_text(json.dumps(written.data.to_dict()))
    assert run_erasure(session, user_id=SHOPPER)["traces_deleted"] == 1
    assert left(session) == set()
    assert not (folder / "traces.json").exists()


def test_a_collection_keeps_the_live_index_and_takes_old_snapshots_generations_and_configurations(session):
    store, index = session.resources.store.snapshots(), session.resources.search.index()
    names: list[str] = []
    for number in range(8):
        text = f"passage number {number}"
        chunk = Chunk(chunk_id="a::0", document_id="a", position=0, title="a", text=text, content_hash=text_hash(text))
        settings = GenerationSettings(embedding_model_id="m")
        built = build_generation([chunk], np.eye(2, dtype=np.float32)[:1], index, settings=settings)
        names.append(built.generation)
        store.write("search_index", {"generation.json": json.dumps({"generation": built.generation}).encode()})
    index.swap_live(names[0], expected=None)
    for number in range(6):
        store.write("knowledge_chunks", {"chunks.parquet": b"%d" % number})
    client = AwsResource().client("sagemaker")
    ours = [f"mangaassist-intent-v90{number}-0123abcd-00000{number}" for number in range(5)]
    for name in ours:
        _configuration(client, name)
    later = datetime.now(UTC) + timedelta(days=40)

    planned = run_gc(session, dry_run=True, now=later)
    assert len(list(store.records("knowledge_chunks"))) == 6
    done = run_gc(session, now=later)
    render_gc(done)

    assert {**done, "dry_run": True} == planned
    assert len(list(store.records("knowledge_chunks"))) == 3
    # The live one and the five newest.
    assert index.generations() == [names[0], *names[3:]]
    kept = {store.read_json(one, "generation.json")["generation"] for one in store.records("search_index")}
    assert kept == {names[0], *names[5:]}
    assert set(ours[:3]) <= set(done["endpoint_configurations"])
    present = client.list_endpoint_configs(NameContains="mangaassist-intent-v90")["EndpointConfigs"]
    assert {one["EndpointConfigName"] for one in present} == set(ours[3:])
    assert len(client.list_models(NameContains="mangaassist-intent-v90")["Models"]) == 2
    again = run_gc(session, now=later)
    assert (again["snapshots"], again["files"], again["index_generations"]) == ([], 0, [])
    assert again["endpoint_configurations"] == []


def test_a_store_in_a_bucket_is_collected_and_purged_alike():
    client = AwsResource().client("s3")
    bucket = f"store-{uuid4().hex[:8]}"
    client.create_bucket(Bucket=bucket)
    store = SnapshotStore(UPath(f"s3://{bucket}/store"))
    for number in range(5):
        store.write("knowledge_chunks", {"a": b"%d" % number, "shared": b"shared"})
    store.write("failures", {"a.json": b'["tr-1"]', "shared": b"shared"})
    # A file that is used again becomes young: nothing of it is lost to a collection of what is old.
    later = datetime.now(UTC) + timedelta(days=40)
    planned = plan_collection(store, read_rules(), needed={}, now=later)
    assert (len(planned.gone), planned.bytes) == (2, 2)
    collect(store, planned)
    marks = PersonMarks(USER, frozenset(["tr-1"]))
    take_out(store, holding_records(store, marks), marks)
    keys = [one["Key"] for one in client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert len([key for key in keys if key.startswith("store/blobs/")]) == 4
    assert not [key for key in keys if key.startswith("store/blobs-aside/")]
    assert all(store.defects(one) == [] for one in store.records("knowledge_chunks"))
    assert [one.purged for one in store.records("failures")] == ["the data of a person was erased"]
    again = plan_collection(store, read_rules(), needed={}, now=later)
    assert (again.gone, again.files, again.half_written) == ((), {}, ())


def _configuration(client: Any, name: str) -> None:
    source = {"S3Uri": "s3://bucket/model/", "S3DataType": "S3Prefix", "CompressionType": "None"}
    container = {"Image": "image", "ModelDataSource": {"S3DataSource": source}}
    client.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn="arn:aws:iam::000000000000:role/x")
    variant = {"VariantName": "primary", "ModelName": name, "InstanceType": "ml.c7i.xlarge", "InitialInstanceCount": 1}
    client.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
