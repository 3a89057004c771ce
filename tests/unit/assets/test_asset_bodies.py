"""Each asset's body, without a server: what it reports, which version its data have, and what it says without input.

Assets are taken from the definitions by their keys and run one by one, in the order of the graph, on resources that
keep everything in one folder or in memory.
"""

from __future__ import annotations

import re
import shutil
from types import SimpleNamespace

import dagster as dg
import pytest

from mangaassist_assets.cli.commands.rebuild import run_rebuild
from mangaassist_assets.cli.session import CommandError
from resources.store import declared_reads
from tests.support.app_config_api import app_config_in_memory
from tests.support.asset_runs import BUNDLE, open_platform, put_thumb, put_traffic

UNPARTITIONED = (
    *("knowledge_chunks", "golden_set", "training_corpus", "chunk_embeddings", "search_index", "retrieval_evaluation"),
    *("live_index", "runtime_configuration", "active_release", "configuration_evaluation", "bundle_comparison"),
)
OF_A_BUNDLE = (
    *("feedback_events", "recorded_feedback", "tagged_traces", "failed_traces", "failure_clusters", "review_queue"),
    *("intent_labels", "intent_dataset", "reranker_dataset", "feedback_warehouse"),
    *("satisfaction_report", "usage_report", "release_manifest"),
)


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory):
    """MLflow's own store in this process; the process's tracking URI is put back."""
    import mlflow

    before = mlflow.get_tracking_uri()
    yield f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def new_platform(tracking_uri, tmp_path_factory):
    with dg.DagsterInstance.ephemeral() as instance:
        yield lambda: open_platform(tmp_path_factory.mktemp("platform"), tracking_uri=tracking_uri, instance=instance)


@pytest.fixture(scope="module")
def platform(new_platform):
    """A platform with traffic, on which `made` has materialized everything once."""
    return new_platform()


@pytest.fixture(scope="module")
def made(platform):
    put_traffic(platform)
    put_thumb(platform, 3, "thumbs_up", BUNDLE)
    return {name: platform.make(name) for name in UNPARTITIONED} | {
        name: platform.make(name, bundle=BUNDLE) for name in OF_A_BUNDLE
    }


@pytest.fixture(scope="module")
def empty(new_platform):
    """A platform on which nothing was ever materialized or handed in."""
    made = new_platform()
    shutil.rmtree(made.store.root)
    shutil.rmtree(made.knowledge)
    return made


@pytest.mark.parametrize(
    ("asset", "figures"),
    [
        ("golden_set", {"dagster/row_count": 0, "handed_in": "none"}),
        ("training_corpus", {"dagster/row_count": 8, "rejected_lines": 0}),
        ("feedback_events", {"dagster/row_count": 24, "thumbs_up": 12, "thumbs_down": 12, "duplicates_dropped": 1}),
        ("recorded_feedback", {"dagster/row_count": 24, "recorded": 0, "pending": 24}),
        ("tagged_traces", {"dagster/row_count": 24, "quarantined": 0, "newly_read": 24, "reviewed": 6}),
        ("failed_traces", {"dagster/row_count": 12, "turns": 24, "failure_rate": 0.5, "unknown_share": 0.5}),
        ("failure_clusters", {"dagster/row_count": 2, "noise": 0, "compared_with": "no earlier bundle"}),
        ("review_queue", {"dagster/row_count": 18, "asked_for_audit": 18, "desk": "review queue", "budget": 50}),
        ("review_queue", {"audit_sample": "24 of 24 turns, 6 reviewed", "reviewed_already": 6}),
        ("intent_labels", {"dagster/row_count": 12, "of_people": 6, "of_the_judge": 0, "propagated": 6}),
        ("intent_dataset", {"as_of": "2026-03-24T00:21:00.000Z"}),
        ("reranker_dataset", {"as_of": "2026-03-24T00:18:00.000Z"}),
        ("knowledge_chunks", {"dagster/row_count": 4, "documents": 4, "opened_documents": "none", "rejects": "none"}),
        ("chunk_embeddings", {"dagster/row_count": 4, "embedded": 4, "reused": 0, "dimension": 64}),
        ("search_index", {"dagster/row_count": 4, "built": True, "live_generation": "none yet"}),
        ("retrieval_evaluation", {"queries": 8, "queries_of_others": 0, "live": "none yet"}),
        ("live_index", {"swapped": True, "previous_generation": "none"}),
        ("satisfaction_report", {"turns": 24, "rated": 24, "satisfaction": 0.5, "feedback_events": 24}),
        ("usage_report", {"dagster/row_count": 24, "latency_p95_ms": 5.0, "error_rate": 0.0, "model_calls": 0}),
        ("release_manifest", {"turns": 24, "mixed": "none", "served": "none"}),
    ],
)
def test_an_asset_reports_what_it_made(made, asset, figures):
    reported = made[asset].metadata
    assert {name: reported[name] for name in figures} == figures


def test_every_asset_has_a_version_and_none_was_left_out(made):
    assert {name: one.left_out for name, one in made.items() if one.left_out or not one.version} == {}


def test_the_version_of_a_snapshot_is_its_digest(made):
    own = {"live_index", "intent_dataset", "reranker_dataset"}
    for name in made.keys() - own:
        assert made[name].metadata["digest"].startswith(made[name].version), name
    for name in ("intent_dataset", "reranker_dataset"):
        assert made[name].metadata["dataset_version"].startswith(made[name].version), name
    assert made["live_index"].version == made["search_index"].metadata["generation"]


def test_the_same_inputs_make_the_same_version_again(platform, made):
    again = {name: platform.make(name, bundle=BUNDLE).version for name in ("failed_traces", "failure_clusters")}
    again |= {name: platform.make(name, bundle=BUNDLE).version for name in ("intent_labels", "intent_dataset")}
    assert again == {name: made[name].version for name in again}
    assert platform.make("chunk_embeddings").metadata["reused"] == 4
    assert platform.make("search_index").metadata["built"] is False
    assert platform.make("live_index").metadata["swapped"] is False


def recorded_inputs(platform, asset):
    store = platform.store.snapshots()
    return {
        name.partition("/")[0].partition("@")[0]
        for place in store.places(asset)
        for record in store.records(asset, partition=place)
        for name in record.origin.inputs
    }


def test_what_an_asset_declares_is_what_it_reads(platform, made):
    platform.make("retrieval_evaluation")
    platform.make("configuration_evaluation")
    platform.make("bundle_comparison")
    declared, recorded = {}, {}
    for asset in made:
        spec = next(iter(platform.definitions.get_assets_def(asset).specs))
        reads = declared_reads(spec.metadata)
        # What an asset was before is there from the second time on; endpoints are none here, and AppConfig's profiles
        # are others' data.
        others = {one.asset for one in reads if not one.own and not one.ledger}
        declared[asset] = {name for name in others if not name.endswith(("_endpoint", "_config"))}
        assert others == {dep.asset_key.to_user_string() for dep in spec.deps}
        recorded[asset] = recorded_inputs(platform, asset) - {asset}
    # No challenger was trained here, so neither manifest nor comparison names one.
    untrained = {"intent_classifier", "intent_evaluation", "reranker", "reranker_evaluation"}
    for asset in ("release_manifest", "bundle_comparison"):
        declared[asset] -= untrained
    assert recorded == declared


def test_a_materialization_shows_what_it_was_made_of(platform, made):
    store = platform.store.snapshots()
    turns = store.latest("tagged_traces", partition=BUNDLE)
    (row,) = made["failed_traces"].rows("inputs")
    assert (row["input"], row["bundle"]) == ("tagged_traces", BUNDLE)
    assert store.find_digest("tagged_traces", partition=BUNDLE, digest=row["digest"]) == turns
    record = next(store.records("failed_traces", partition=BUNDLE))
    assert (record.origin.code_version, record.origin.inputs) == ("3", {f"tagged_traces/{BUNDLE}": turns.digest})
    assert record.origin.run_id


@pytest.fixture
def session(platform):
    return SimpleNamespace(definitions=platform.definitions, resources=SimpleNamespace(**platform.resources))


REBUILDABLE = (
    *("failed_traces", "failure_clusters", "intent_labels", "intent_dataset", "reranker_dataset", "chunk_embeddings"),
    *("satisfaction_report", "usage_report", "release_manifest"),
)


@pytest.mark.parametrize("asset", REBUILDABLE)
def test_what_is_made_of_its_inputs_alone_is_made_again_byte_for_byte(session, made, asset):
    bundle = None if asset == "chunk_embeddings" else BUNDLE
    report = run_rebuild(session, asset, partition=bundle, digest=made[asset].metadata["digest"])
    assert (report["outcome"], report["reason"]) == ("identical", None), report


def test_what_cannot_be_made_again_says_why(session, platform, made):
    assert made["tagged_traces"].version
    outside = run_rebuild(session, "tagged_traces", partition=BUNDLE, digest=None)
    assert outside["outcome"] == "impossible"
    assert outside["reason"] == "it is made of the traces in MLflow, as that was then"
    platform.store.snapshots().write("nobody", {"a": b"1"})
    with pytest.raises(CommandError, match="no asset is called"):
        run_rebuild(session, "nobody", partition=None, digest=None)
    with pytest.raises(CommandError, match="begins with 'ffff'"):
        run_rebuild(session, "usage_report", partition=BUNDLE, digest="ffff")


def test_each_failure_is_blamed_and_clusters_are_of_one_intent(made):
    blamed = {row["stage"]: row["turns"] for row in made["failed_traces"].rows("blame")}
    assert blamed == {"intent": 6, "unknown": 6}
    clusters = made["failure_clusters"].rows("clusters")
    assert [(row["size"], row["state"], row["feeds"]) for row in clusters] == [(6, "born", "retrain_intent")] * 2
    assert {row["intents"] for row in made["intent_labels"].rows("propagation")} == {"order_status", "gift_wrapping"}


def test_a_budget_of_the_queue_is_configuration(platform, made):
    assert made["review_queue"].rows("not_asked")
    assert platform.make("review_queue", bundle=BUNDLE, config={"budget": 3}).metadata["budget"] == 3


def test_what_production_runs_is_read_from_the_systems(made):
    components = {row["component"]: row for row in made["active_release"].rows("components")}
    assert components["search index"]["version"] == made["live_index"].version
    assert components["mangaassist-intent"]["state"] == "no endpoint"
    assert components["configuration routing"]["version"] == "1"
    assert {row["state"] for row in made["runtime_configuration"].rows("profiles")} == {"in force"}


def test_a_trace_without_a_bundle_is_nobodys_and_counted(new_platform):
    platform = new_platform()
    put_traffic(platform, turns=2, bundle=None)
    platform.make("feedback_events", bundle=BUNDLE)
    reported = platform.make("tagged_traces", bundle=BUNDLE).metadata
    assert (reported["dagster/row_count"], reported["without_a_bundle"]) == (0, 2)


def test_a_bundle_without_a_label_makes_no_dataset_and_says_why(new_platform):
    platform = new_platform()
    (platform.store.inputs() / "training.jsonl").write_text('{"text": "hello"}\n')
    for asset in ("training_corpus", "golden_set"):
        platform.make(asset)
    for asset in ("feedback_events", "tagged_traces", "failed_traces", "failure_clusters", "intent_labels"):
        platform.make(asset, bundle=BUNDLE)
    made = platform.make("intent_dataset", bundle=BUNDLE)
    assert made.version is None
    assert made.left_out


@pytest.mark.parametrize(
    ("asset", "bundle", "said"),
    [
        ("recorded_feedback", BUNDLE, "no snapshot of 'feedback_events'"),
        ("tagged_traces", BUNDLE, "no snapshot of 'feedback_events'"),
        ("failed_traces", BUNDLE, "no snapshot of 'tagged_traces'"),
        ("failure_clusters", BUNDLE, "no snapshot of "),
        ("review_queue", BUNDLE, "no snapshot of 'failure_clusters'"),
        ("intent_labels", BUNDLE, "no snapshot of 'failure_clusters'"),
        ("intent_dataset", BUNDLE, "no snapshot of "),
        ("reranker_dataset", BUNDLE, "no snapshot of "),
        ("satisfaction_report", BUNDLE, "no snapshot of "),
        ("usage_report", BUNDLE, "no snapshot of 'tagged_traces'"),
        ("release_manifest", BUNDLE, "no snapshot of 'tagged_traces'"),
        ("training_corpus", None, "training.jsonl"),
        ("knowledge_chunks", None, "knowledge"),
        ("chunk_embeddings", None, "no snapshot of 'knowledge_chunks'"),
        ("search_index", None, "no snapshot of 'knowledge_chunks'"),
        ("retrieval_evaluation", None, "no snapshot of 'search_index'"),
        ("live_index", None, "no snapshot of 'search_index'"),
    ],
)
def test_without_its_input_an_asset_says_what_is_missing(empty, asset, bundle, said):
    with pytest.raises((LookupError, RuntimeError, ValueError), match=re.escape(said)) as raised:
        empty.make(asset, bundle=bundle)
    if "snapshot" in said:
        assert "materialize that asset first" in str(raised.value)


def test_what_a_new_version_of_a_profile_changes_is_shown(platform, made):
    assert all(row["before"] == "none" for row in made["configuration_evaluation"].rows("profiles"))
    app_config_in_memory(platform.app_config)
    platform.app_config.put("routing", {"version": "2", "vector_candidates": 1, "keyword_candidates": 0})
    platform.app_config.put("guardrails", {"version": "2", "blocked_patterns": ["."]})
    rows = platform.make("configuration_evaluation").rows("figures")
    figures = {(row["profile"], row["figure"]): (row["before"], row["after"]) for row in rows}
    assert figures["guardrails", "turns"] == (24, 24)
    assert figures["guardrails", "refused"] == (0, 24)
    assert figures["routing", "candidates"][1] == 1.0
