"""Dataset versions on real servers: built from the live index, logged with runs, rebuilt, and left by erased users."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from types import SimpleNamespace
from uuid import uuid4

import dagster as dg
import pytest
from upath import UPath

from mangaassist_assets.assets.datasets import reranker_dataset
from mangaassist_assets.chatbot.configuration.documents import default_documents
from mangaassist_assets.cli.commands.datasets import list_datasets, rebuild_dataset, show_dataset
from mangaassist_assets.cli.commands.personal_data import render_erasure, run_erasure
from mangaassist_assets.cli.session import Session
from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.datasets.versions.stored_versions import find_version, read_dataset, read_rows
from mangaassist_assets.local.home import Home
from mangaassist_assets.models.artifacts import seal_artifact
from mangaassist_assets.models.model_types import TrainedArtifact
from mangaassist_assets.models.pipelines import RERANKER
from mangaassist_assets.models.registration.registration import Training, TrainingPlatform, train_and_register
from mangaassist_assets.partitions import release_bundles
from mangaassist_assets.retrieval.generations import GenerationSettings, build_generation
from mangaassist_assets.retrieval.stored_knowledge import read_chunks
from mangaassist_assets.tracing.ingestion.stored_turns import read_turns
from mangaassist_assets.training.objective import ignore_progress
from resources.aws.app_config import AppConfigResource
from resources.aws.clients import AwsResource
from resources.mlflow.tracking import MlflowResource
from resources.search.embeddings import LocalEmbedderResource
from resources.search.indexes import LanceDbSearchResource
from resources.settings.labelling import LabellingResource
from resources.settings.privacy import PrivacyResource
from resources.settings.trace_mapping import TraceMappingResource
from resources.store import StoreResource
from resources.warehouse.warehouse import DuckDbWarehouseResource
from tests.support.command_line import run_here
from tests.support.dataset_store import BUNDLE, EARLIER, fill, knowledge, put_dataset, put_knowledge, put_turns, user_on

pytestmark = pytest.mark.integration


@pytest.fixture
def platform(stand_ins_environment, tmp_path):  # noqa: ARG001 - the environment of clients
    """A home's store with two bundles, its knowledge in a live index generation, and MLflow."""
    home = Home.open(tmp_path / "home")
    store = StoreResource(root=str(home.store), cache_folder=str(tmp_path / "cache"))
    snapshots = store.snapshots()
    fill(snapshots)
    put_knowledge(snapshots, knowledge(volumes=60))
    embeddings = LocalEmbedderResource()
    search = LanceDbSearchResource(path=str(tmp_path / "search"))
    app_config = AppConfigResource(aws=AwsResource())
    for document in default_documents().values():
        app_config.deploy_first(document)

    def make_live():
        chunks = read_chunks(snapshots)
        vectors = embeddings.embedder().embed([chunk.text for chunk in chunks])
        settings = GenerationSettings(embedding_model_id=embeddings.embedder().model_id)
        generation = build_generation(chunks, vectors, search.index(), settings=settings).generation
        search.index().swap_live(generation, expected=search.index().live_generation())
        return generation

    generation = make_live()
    resources = {
        "app_config": app_config,
        "embeddings": embeddings,
        "labelling": LabellingResource(),
        "search": search,
        "store": store,
    }
    own = uuid4().hex[:8]
    mlflow = MlflowResource(training_experiment=f"training-{own}", traces_experiment=f"traces-{own}")
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(release_bundles.name, [BUNDLE, EARLIER])
        yield SimpleNamespace(
            home=home,
            store=store,
            snapshots=snapshots,
            resources=resources,
            instance=instance,
            mlflow=mlflow,
            generation=generation,
            make_live=make_live,
            pipeline=replace(RERANKER, model_name=f"reranker-{own}"),
        )


def materialize(platform, bundle=BUNDLE):
    result = dg.materialize(
        [reranker_dataset],
        resources=platform.resources,
        instance=platform.instance,
        partition_key=bundle,
        raise_on_error=True,
    )
    (materialization,) = result.asset_materializations_for_node("reranker_dataset")
    return {name: value.value for name, value in materialization.metadata.items() if hasattr(value, "value")}


def train(platform, bundle=BUNDLE):
    """Register something that stands in for a trained model, the way the training asset does."""
    version = read_dataset(platform.snapshots, platform.pipeline.dataset_asset, bundle)

    def write(folder, checkpoints, progress):
        assert checkpoints.fingerprint
        assert callable(progress)
        folder.mkdir(parents=True)
        (folder / "model.txt").write_text(version.digest)
        digest = seal_artifact(folder, "reranker")
        return TrainedArtifact(directory=folder, digest=digest, metrics={"loss": 0.5})

    registered = train_and_register(
        TrainingPlatform(
            tracking=platform.mlflow,
            snapshots=platform.store.snapshots(),
            scratch=platform.store.cache("training"),
            schemas={},
            dagster_run_id="of-a-test",
            logger=logging.getLogger(__name__),
            report=ignore_progress,
        ),
        Training(pipeline=platform.pipeline, dataset=version, bundle=bundle, start_ms=0, settings={}, train=write),
    )
    return registered.model


def test_the_page_of_the_asset_names_the_version_and_shows_its_card_and_counts(platform):
    said = materialize(platform)
    stored = find_version(platform.snapshots, said["dataset_version"])
    assert said["dataset_digest"] == stored.card.digest
    assert said["data_card"] == stored.card.to_markdown()
    assert said["counts"].startswith("![examples by side](data:image/png;base64,")
    assert stored.card.settings["index_generation"] == platform.generation
    assert set(stored.card.by_negative_kind) == {"relevant", "shown", "live", "random"}
    assert read_rows(platform.snapshots, stored).height == said["dagster/row_count"]


def test_a_version_is_rebuilt_byte_for_byte_after_index_knowledge_and_traces_have_moved_on(platform):
    first = materialize(platform)["dataset_version"]
    put_knowledge(platform.snapshots, knowledge()[:4])
    assert platform.make_live() != platform.generation
    turns = [one for one in read_turns(platform.snapshots, EARLIER) if one.user_key is None]
    put_turns(platform.snapshots, EARLIER, turns)
    second = materialize(platform)["dataset_version"]
    assert first != second
    home = platform.home.root
    for version in (first, second):
        ran = run_here(home, "datasets", "rebuild", version[:12], "--json")
        assert ran.code == 0, ran.stdout + ran.stderr
        assert json.loads(ran.stdout)["outcome"] == "identical"
    listed = json.loads(run_here(home, "datasets", "list", "--json").stdout)
    assert {(one["version"], one["latest"]) for one in listed["versions"]} == {(first, False), (second, True)}
    assert listed["damaged"] == []


def test_the_commands_print_tables_and_say_what_is_wrong(platform):
    home = platform.home.root
    assert "No dataset version" in run_here(home, "datasets", "list").stdout
    version = materialize(platform)["dataset_version"]
    assert version[:12] in run_here(home, "datasets", "list").stdout
    shown = run_here(home, "datasets", "show", version[:12])
    assert (shown.code, "Ranking dataset" in shown.stdout) == (0, True)
    rebuilt = run_here(home, "datasets", "rebuild", version[:12])
    assert (rebuilt.code, "identical" in rebuilt.stdout) == (0, True)
    unknown = run_here(home, "datasets", "show", "ffffffffffff")
    assert (unknown.code, "Traceback" in unknown.stderr) == (1, False)
    assert "datasets list" in unknown.stderr


def test_a_run_carries_its_dataset_with_digest_schema_profile_and_source(platform):
    import mlflow.data

    said = materialize(platform)
    model = train(platform)
    run = platform.mlflow.client().get_run(model.run_id)
    (logged,) = run.inputs.dataset_inputs
    assert logged.dataset.name == "reranker_dataset"
    assert logged.dataset.digest == said["dataset_digest"][:36]
    columns = {one["name"]: one["type"] for one in json.loads(logged.dataset.schema)["mlflow_colspec"]}
    assert (columns["query"], columns["relevance"], columns["timestamp_ms"]) == ("string", "double", "long")
    profile = json.loads(logged.dataset.profile)
    assert (profile["num_rows"], profile["num_examples"]) == (said["dagster/row_count"], said["examples"])
    assert profile["dataset_version"] == said["dataset_version"]
    assert profile["num_train"] + profile["num_validation"] + profile["num_test"] == said["examples"]
    assert {tag.key: tag.value for tag in logged.tags} == {"mlflow.data.context": "training"}
    source = mlflow.data.get_source(logged)
    assert source.uri == platform.snapshots.latest("reranker_dataset", partition=BUNDLE).uri
    assert run.data.tags["dataset_sha256"] == said["dataset_digest"]
    assert run.data.tags["dataset_version"] == said["dataset_version"]


def test_an_erased_user_leaves_the_next_version_and_the_report_names_versions_runs_and_models(platform, tmp_path):
    user = user_on("train")
    said = materialize(platform)
    model = train(platform)
    platform.mlflow.set_alias(platform.pipeline.model_name, "champion", model.version)
    session = Session(
        instance=None,
        definitions=None,
        resources=SimpleNamespace(
            store=platform.store,
            mlflow=platform.mlflow,
            warehouse=DuckDbWarehouseResource(path=str(tmp_path / "warehouse")),
            privacy=PrivacyResource(key="ab" * 32),
            trace_mapping=TraceMappingResource(),
        ),
        progress=lambda _: None,
        logs=tmp_path,
    )
    before = read_rows(platform.snapshots, find_version(platform.snapshots, said["dataset_version"]))
    report = run_erasure(session, user_key=user)
    (held,) = report["lineage"]["versions"]
    assert (held["version"], held["use"], held["latest"]) == (said["dataset_version"], "training", True)
    own = before.filter(before["user_key"] == user)
    assert set(held["examples"]) == set(own["example_id"])
    (trained,) = report["lineage"]["models"]
    assert (trained["model"], trained["version"], trained["run_id"]) == (
        platform.pipeline.model_name,
        model.version,
        model.run_id,
    )
    assert (trained["aliases"], trained["use"]) == (["champion"], "training")
    kept = json.loads(platform.snapshots.root.joinpath(report["report_file"]).read_bytes())
    assert kept["lineage"] == report["lineage"]
    render_erasure(report)

    without = materialize(platform)["dataset_version"]
    assert without != said["dataset_version"]
    rows = read_rows(platform.snapshots, find_version(platform.snapshots, without))
    assert user not in set(rows["user_key"])
    assert set(held["examples"]).isdisjoint(rows["example_id"])
    assert rebuild_dataset(platform.snapshots, without)["outcome"] == "identical"
    refused = rebuild_dataset(platform.snapshots, said["dataset_version"])
    assert refused["outcome"] == "impossible"
    assert refused["reason"] == "was purged: the data of a person was erased"
    assert list_datasets(platform.snapshots)["damaged"] == []
    assert show_dataset(platform.snapshots, without)["problems"] == []
    assert run_erasure(session, user_key=user)["lineage"]["versions"] == []


def test_versions_in_a_bucket_are_listed_rebuilt_and_their_gone_inputs_named(stand_ins_environment):  # noqa: ARG001
    client = AwsResource().client("s3")
    bucket = f"datasets-{uuid4().hex[:8]}"
    client.create_bucket(Bucket=bucket)
    store = SnapshotStore(UPath(f"s3://{bucket}/store"))
    fill(store)
    first, second = put_dataset(store, EARLIER), put_dataset(store, BUNDLE)
    listed = list_datasets(store)
    assert [one["version"] for one in listed["versions"]] == [first.version, second.version]
    assert listed["damaged"] == []
    assert rebuild_dataset(store, second.version)["outcome"] == "identical"
    gone = _key(store.path(store.latest("training_corpus"), "utterances.json"))
    client.delete_object(Bucket=bucket, Key=gone)
    rebuilt = rebuild_dataset(SnapshotStore(UPath(f"s3://{bucket}/store")), second.version)
    assert rebuilt["outcome"] == "impossible"
    assert "training_corpus" in rebuilt["reason"]
    client.put_object(Bucket=bucket, Key=_key(store.path(second.snapshot, "examples.parquet")), Body=b"PAR1")
    (folder,) = list_datasets(store)["damaged"]
    assert folder == f"{second.snapshot.uri} (examples.parquet)"


def _key(path):
    return str(path).split("/", 3)[3]
