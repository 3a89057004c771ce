"""A package that brings a third model pipeline is seen wherever model pipelines are: there is one list of them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import dagster as dg
import pytest
from upath import UPath

from mangaassist_assets.assets import build_assets
from mangaassist_assets.cli.commands.datasets import rebuild_dataset
from mangaassist_assets.cli.commands.loop import run_loop
from mangaassist_assets.cli.commands.models import list_models, pipeline_of
from mangaassist_assets.cli.session import RunOutcome
from mangaassist_assets.core.bundles import TURNS_CARD_FILE
from mangaassist_assets.core.snapshots import SnapshotStore, canonical_json
from mangaassist_assets.definitions import build_definitions
from mangaassist_assets.models.pipelines import InvalidPipelineError, registered_pipelines
from mangaassist_assets.models.registration.registry import ModelVersion
from mangaassist_assets.monitoring.fresh_reviews import fresh_reviews
from mangaassist_assets.partitions import release_bundles
from mangaassist_assets.tracing.ingestion.stored_turns import TURNS_FILE
from resources.store import StoreResource
from tests.support.dataset_store import put_turns, write_version
from tests.support.registry import MemoryMlflow
from tests.support.sentiment import FIRST_BUNDLE, SECOND_BUNDLE, SENTIMENT, sentiment_version

pytestmark = pytest.mark.usefixtures("sentiment_package")


@pytest.fixture
def definitions():
    return build_definitions("local")


@pytest.fixture
def store(tmp_path) -> SnapshotStore:
    made = SnapshotStore(UPath(tmp_path / "store"))
    for start_ms, bundle in enumerate((FIRST_BUNDLE, SECOND_BUNDLE), start=1):
        put_turns(made, bundle, [])
        turns = made.read(made.latest("tagged_traces", partition=bundle), TURNS_FILE)
        card = {"turns": 0, "quarantined": 0, "first_timestamp_ms": start_ms}
        made.write("tagged_traces", {TURNS_FILE: turns, TURNS_CARD_FILE: canonical_json(card)}, partition=bundle)
        write_version(made, SENTIMENT.dataset_asset, sentiment_version(bundle), partition=bundle)
    return made


def assets_of(definitions, job):
    keys = definitions.resolve_job_def(job).asset_layer.executable_asset_keys
    return {key.to_user_string() for key in keys}


def parents_of(definitions, asset):
    graph = definitions.resolve_asset_graph()
    return {key.to_user_string() for key in graph.get(dg.AssetKey(asset)).parent_keys}


def asset_named(name):
    (found,) = (one for one in build_assets(registered_pipelines()) if one.key == dg.AssetKey(name))
    return found


def test_all_its_assets_and_checks_are_in_the_graph(definitions):
    dg.Definitions.validate_loadable(definitions)
    graph = definitions.resolve_asset_graph()
    own = {*SENTIMENT.learning_assets, *SENTIMENT.deployment_assets, SENTIMENT.health_asset}
    assert own <= {key.to_user_string() for key in graph.get_all_asset_keys()}
    checks = {(key.asset_key.to_user_string(), key.name): graph.get(key).blocking for key in graph.asset_check_keys}
    of_dataset = {"enough_examples", "few_duplicates", "no_leakage", "no_personal_data"}
    of_labels = {"balanced_labels", "little_label_noise"}
    assert dict.fromkeys(of_dataset | of_labels, True) == {
        name: blocking for (asset, name), blocking in checks.items() if asset == SENTIMENT.dataset_asset
    }
    assert checks[SENTIMENT.evaluation_asset, SENTIMENT.gate] is False
    assert (SENTIMENT.health_asset, "champion_not_decayed") in checks
    assert (SENTIMENT.endpoint_asset, "registry_and_endpoint_agree") in checks


def test_its_own_jobs_and_those_of_all_pipelines_run_it(definitions):
    learning, deployment = set(SENTIMENT.learning_assets), set(SENTIMENT.deployment_assets)
    assert assets_of(definitions, "sentiment_retraining") == learning | deployment
    assert assets_of(definitions, "sentiment_promotion") == deployment
    assert learning | deployment <= assets_of(definitions, "retraining")
    assert learning <= assets_of(definitions, "bundle_backfill")
    assert not deployment & assets_of(definitions, "bundle_backfill")
    assert SENTIMENT.health_asset in assets_of(definitions, "champion_evaluation")
    weekly = definitions.resolve_schedule_def("weekly_champion_evaluation")
    assert weekly.job_name == "champion_evaluation"


def test_manifest_and_active_release_wait_for_it(definitions):
    assert SENTIMENT.evaluation_asset in parents_of(definitions, "release_manifest")
    assert SENTIMENT.endpoint_asset in parents_of(definitions, "active_release")


def test_the_manifest_of_a_bundle_names_what_was_learned(store, tmp_path):
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(release_bundles.name, [FIRST_BUNDLE])
        result = dg.materialize(
            [asset_named("release_manifest")],
            partition_key=FIRST_BUNDLE,
            resources={"store": StoreResource(root=str(tmp_path / "store"), cache_folder=str(tmp_path / "cache"))},
            instance=instance,
        )
    assert result.success
    manifest = json.loads(store.read(store.latest("release_manifest", partition=FIRST_BUNDLE), "manifest.json"))
    assert manifest["learned"][SENTIMENT.model_asset]["dataset_digest"] == sentiment_version(FIRST_BUNDLE).digest


def test_the_active_release_names_its_endpoint(store, tmp_path):
    serving = {SENTIMENT.endpoint_name: SimpleNamespace(model_version="3", status="InService")}
    nothing_live = SimpleNamespace(live_generation=lambda: None)
    result = dg.materialize(
        [asset_named("active_release")],
        resources={
            "app_config": SimpleNamespace(review=list),
            "endpoints": SimpleNamespace(describe=serving.get),
            "mlflow": MemoryMlflow(tmp_path / "artifacts"),
            "search": SimpleNamespace(index=lambda: nothing_live),
            "store": StoreResource(root=str(tmp_path / "store"), cache_folder=str(tmp_path / "cache")),
        },
    )
    assert result.success
    rows = json.loads(store.read(store.latest("active_release"), "components.json"))
    assert {
        "component": "sentiment",
        "version": "3",
        "state": "InService",
        "agrees_with_registry": False,
    } in rows


def test_its_dataset_versions_are_built_again(store):
    (snapshot,) = (one for one in store.history(SENTIMENT.dataset_asset) if one.partition == FIRST_BUNDLE)
    version = json.loads(store.read(snapshot, "card.json"))["version"]
    assert rebuild_dataset(store, version)["outcome"] == "identical"


def test_its_champion_is_judged_on_fresh_reviews(store):
    champion = ModelVersion(
        name=SENTIMENT.model_name,
        version="1",
        source="",
        run_id=None,
        artifact_sha256=None,
        tags={"release_bundle": FIRST_BUNDLE, "dataset_digest": sentiment_version(FIRST_BUNDLE).digest},
    )
    gathered = fresh_reviews(store, SENTIMENT, champion)
    assert sum(len(rows.frame) for rows in gathered.later) > 100
    assert sum(len(rows.frame) for rows in gathered.promotion) > 10


def test_the_loop_retrains_it_and_reports_it(store):
    ran: list[str] = []

    def run_job(name, **options):
        ran.append(name)
        stopped = () if name == "failure_mining" else ("asset:gate",)
        return RunOutcome(
            run_id=name,
            job=name,
            succeeded=not stopped and not options.get("assets"),
            failed_checks=stopped,
            failed_assets=(),
            errors=(),
        )

    store.write("training_corpus", {"utterances.json": b"[]"})
    store.write("failed_traces", {"failures.json": b"[]"}, partition=FIRST_BUNDLE)
    store.write("failure_clusters", {"clusters.json": b"[]"}, partition=FIRST_BUNDLE)
    session = SimpleNamespace(
        resources=SimpleNamespace(
            store=SimpleNamespace(snapshots=lambda: store),
            mlflow=SimpleNamespace(read_traces=lambda _bundle: iter([object()])),
            search=SimpleNamespace(index=lambda: SimpleNamespace(live_generation=lambda: None)),
            endpoints=SimpleNamespace(describe=lambda _name: None),
        ),
        register_bundle=lambda _bundle: None,
        progress=lambda _line: None,
        run_job=run_job,
    )
    report = run_loop(session, release_bundle=FIRST_BUNDLE)
    assert SENTIMENT.job in ran
    (own,) = (one for one in report["pipelines"] if one["model"] == SENTIMENT.model_asset)
    assert own["dataset_digest"] == sentiment_version(FIRST_BUNDLE).digest


def test_the_commands_on_models_know_it(store, tmp_path):
    assert pipeline_of("sentiment") == SENTIMENT
    mlflow = MemoryMlflow(tmp_path / "artifacts")
    mlflow.add(SENTIMENT.model_name, kind=SENTIMENT.kind)
    session = SimpleNamespace(
        resources=SimpleNamespace(mlflow=mlflow, store=SimpleNamespace(snapshots=lambda: store)),
    )
    assert [one["model"] for one in list_models(session)["versions"]] == ["sentiment"]


@pytest.mark.parametrize(
    "value", ["tests.support.sentiment:SentimentModelType", "mangaassist_assets.models.pipelines:INTENT"]
)
def test_what_is_no_pipeline_of_its_own_is_refused_by_name(sentiment_package, value):
    points = sentiment_package / "sentiment_model-1.0.dist-info" / "entry_points.txt"
    points.write_text(f"[mangaassist_assets.model_pipelines]\nsentiment = {value}\n")
    with pytest.raises(InvalidPipelineError, match="entry point 'sentiment'"):
        registered_pipelines()
