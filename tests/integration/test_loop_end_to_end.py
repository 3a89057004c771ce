"""One turn of the loop through the command line, against the real stand-ins, looked at in the systems themselves."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.core.text_keys import normalise_text
from mangaassist_assets.models.pipelines import INTENT, OWN_PIPELINES, RERANKER
from mangaassist_assets.tracing.contract.names import SpanName, Tag
from tests.support.command_line import environment, resources_of, run_here
from tests.support.tiny_store import BUNDLE, EMAIL, KNOWN_INTENTS, NEW_INTENTS, PERSONAL_DATA

pytestmark = pytest.mark.integration

PARENTS = {
    SpanName.CHAT_TURN: None,
    SpanName.INTENT_CLASSIFICATION: SpanName.CHAT_TURN,
    SpanName.RETRIEVE_CHUNKS: SpanName.CHAT_TURN,
    SpanName.EMBED_QUERY: SpanName.RETRIEVE_CHUNKS,
    SpanName.VECTOR_SEARCH: SpanName.RETRIEVE_CHUNKS,
    SpanName.KEYWORD_SEARCH: SpanName.RETRIEVE_CHUNKS,
    SpanName.RERANK_CHUNKS: SpanName.RETRIEVE_CHUNKS,
    SpanName.BUILD_PROMPT: SpanName.CHAT_TURN,
    SpanName.BEDROCK_GENERATE: SpanName.CHAT_TURN,
    SpanName.GUARDRAILS: SpanName.CHAT_TURN,
}
REDACTED = re.compile(
    rb"write to \[EMAIL(_\w\w)?\] or call \[PHONE(_\w\w)?\]. My password is \[SECRET(_\w\w)?\], my token is "
    rb"\[SECRET(_\w\w)?\] and my keys are \[SECRET(_\w\w)?\] \[SECRET(_\w\w)?\]"
)
ALWAYS_TAGGED = set(Tag) - {Tag.EXPERIMENT_ID, Tag.TENANT, Tag.USER_FEEDBACK}


@pytest.fixture(scope="module")
def resources(looped_store) -> Iterator[dict[str, object]]:
    with environment(**looped_store.supervisor.environment):
        yield resources_of(looped_store.supervisor)


@pytest.fixture(scope="module")
def snapshots(resources) -> SnapshotStore:
    return resources["store"].snapshots()


@pytest.fixture(scope="module")
def traces(resources):
    return list(resources["mlflow"].read_traces(BUNDLE))


def dataset(snapshots: SnapshotStore, pipeline) -> pl.DataFrame:
    snapshot = snapshots.latest(pipeline.dataset_asset, partition=BUNDLE)
    return pl.read_parquet(io.BytesIO(snapshots.read(snapshot, "examples.parquet")))


class TestTraffic:
    def test_every_message_is_a_trace_and_every_trace_is_a_turn(self, looped_store, traces):
        report = looped_store.report("simulate")
        loop = looped_store.report("loop")
        assert report["turns"] == report["traces_stored"] == looped_store.store.messages == len(traces)
        assert (report["errors"], report["already_there"]) == (0, 0)
        assert (loop["turns"], loop["quarantined"]) == (len(traces), 0)

    def test_a_trace_has_the_tags_and_the_tree_of_spans_of_the_contract(self, traces):
        for trace in traces:
            assert set(trace.tags) >= ALWAYS_TAGGED, trace.trace_id
            assert trace.tags[Tag.RELEASE_BUNDLE] == BUNDLE
            names = {span.span_id: span.name for span in trace.spans}
            assert {span.name: names.get(span.parent_id) for span in trace.spans} == PARENTS

    def test_thumbs_and_reviews_are_on_the_traces(self, looped_store, traces):
        report = looped_store.report("simulate")
        thumbs = [trace.tags[Tag.USER_FEEDBACK] for trace in traces if Tag.USER_FEEDBACK in trace.tags]
        reviewed = [trace for trace in traces if any(one.kind == "expectation" for one in trace.assessments)]
        assert thumbs.count("thumbs_down") == report["thumbs_down"] > 20
        assert len(reviewed) == report["reviews"] == report["asked_for_audit"] + report["asked_as_failures"]
        # The sample is all the traffic: so large a budget asks about every turn, failed or not.
        assert len(reviewed) == len(traces) > report["failing"] > 0

    def test_traffic_driven_a_second_time_adds_nothing(self, looped_store, resources, traces):
        arguments = ("--utterances", looped_store.store.traffic, "--release-bundle", BUNDLE, "--feedback-noise", "0")
        again = run_here(looped_store.home, "simulate", *arguments, "--review-budget", "400", "--json")
        report = json.loads(again.stdout)
        assert (report["asked_for_audit"], report["asked_as_failures"], report["reviews"]) == (0, 0, len(traces))
        assert (report["turns"], report["already_there"]) == (len(traces), len(traces))
        unchanged = {trace.trace_id: (trace.tags, len(trace.assessments), len(trace.spans)) for trace in traces}
        assert unchanged == {
            trace.trace_id: (trace.tags, len(trace.assessments), len(trace.spans))
            for trace in resources["mlflow"].read_traces(BUNDLE)
        }


class TestPersonalData:
    def test_the_message_that_holds_it_was_traced_redacted_under_a_pseudonym(self, traces):
        redacted = [trace for trace in traces if "[EMAIL_" in str(trace.spans)]
        assert len(redacted) == 1
        assert "[ORDER_ID_" in str(redacted[0].spans)
        assert "[PHONE_" in str(redacted[0].spans)
        assert redacted[0].user_key.startswith("u-")

    def test_no_file_of_the_home_holds_any_of_it(self, looped_store):
        searched = 0
        found: list[tuple[str, str]] = []
        holders: set[str] = set()
        for path in looped_store.home.rglob("*"):
            if not path.is_file():
                continue
            content, place = readable(path), path.relative_to(looped_store.home)
            searched += 1
            found += [(str(place), one) for one in PERSONAL_DATA if one.encode() in content]
            if REDACTED.search(content):
                holders.add(place.parts[0])
        assert found == []
        assert searched > 100
        # The search would have seen it.
        assert {"mlflow", "store"} <= holders

    def test_no_metadata_of_a_materialization_holds_any_of_it(self, looped_store):
        with environment(**looped_store.supervisor.environment), dg.DagsterInstance.get() as instance:
            said = "".join(
                dg.serialize_value(entry) for run in instance.get_runs() for entry in instance.all_logs(run.run_id)
            )
        assert "tagged_traces" in said
        assert not [one for one in (*PERSONAL_DATA, EMAIL.split("@")[0]) if one in said]


def readable(path: Path) -> bytes:
    """Return the content of a file; a Parquet file compresses its own."""
    if path.suffix == ".parquet":
        return json.dumps(pl.read_parquet(path).to_dicts(), default=str, ensure_ascii=False).encode()
    return path.read_bytes()


class TestDatasets:
    def test_no_message_session_or_shopper_is_on_two_sides(self, snapshots):
        for pipeline, text in ((INTENT, "text"), (RERANKER, "query")):
            sides: dict[tuple[str, str], set[str]] = defaultdict(set)
            for row in dataset(snapshots, pipeline).to_dicts():
                sides["message", normalise_text(row[text])].add(row["split"])
                for owner in ("session_id", "user_key"):
                    if row[owner]:
                        sides[owner, row[owner]].add(row["split"])
            assert {len(found) for found in sides.values()} == {1}

    def test_the_intents_that_shoppers_brought_are_learned(self, snapshots):
        frame = dataset(snapshots, INTENT)
        assert set(frame["intent"]) == {*KNOWN_INTENTS, *NEW_INTENTS}
        assert set(frame.filter(pl.col("intent").is_in(NEW_INTENTS))["label_kind"]) <= {"human", "propagated"}

    def test_a_dataset_made_again_is_the_same_to_the_byte(self, looped_store, snapshots):
        before = snapshots.latest(INTENT.dataset_asset, partition=BUNDLE)
        kept = {name: snapshots.read(before, name) for name in before.files}
        with environment(**looped_store.supervisor.environment):
            from mangaassist_assets.cli.session import open_session

            with open_session(str(looped_store.home), lambda _line: None) as session:
                outcome = session.run_job("intent_retraining", partition=BUNDLE, assets=[INTENT.dataset_asset])
        after = snapshots.latest(INTENT.dataset_asset, partition=BUNDLE)
        assert outcome.succeeded
        assert {name: snapshots.read(after, name) for name in after.files} == kept


class TestModels:
    def test_a_version_says_what_it_was_made_of_and_what_the_gate_said(self, looped_store, resources):
        for pipeline, report in zip(OWN_PIPELINES, looped_store.report("loop")["pipelines"], strict=True):
            challenger = resources["mlflow"].registry().get(pipeline.model_name, report["challenger_version"])
            assert challenger.tags["dataset_digest"] == report["dataset_digest"]
            assert challenger.tags["release_bundle"] == BUNDLE
            assert challenger.tags["evaluation_verdict"] == report["verdict"]
            assert challenger.tags["evaluated_against"] == report["champion_version"]
            artifact = json.loads((resources["mlflow"].artifact_directory(challenger) / "artifact.json").read_bytes())
            canonical = json.dumps(artifact, sort_keys=True, separators=(",", ":"))
            assert hashlib.sha256(canonical.encode()).hexdigest() == challenger.artifact_sha256

    def test_champion_moves_in_the_pipeline_whose_gate_says_pass_and_in_no_other(self, looped_store):
        intent, reranker = looped_store.report("loop")["pipelines"]
        before, after = looped_store.after["bootstrap"].champions, looped_store.after["loop"].champions
        assert (intent["verdict"], reranker["verdict"]) == ("pass", "insufficient_evidence")
        assert (before[INTENT.model_name], before[RERANKER.model_name]) == ("1", "1")
        assert after[INTENT.model_name] == intent["challenger_version"] == intent["deployed_version"] == "2"
        assert after[RERANKER.model_name] == reranker["deployed_version"] == "1"
        assert reranker["challenger_version"] != "1"

    def test_a_gate_that_says_no_leaves_its_endpoint_and_stops_no_other_pipeline(self, looped_store):
        before, after = looped_store.after["bootstrap"].endpoints, looped_store.after["loop"].endpoints
        # The home is a copy of one that was bootstrapped elsewhere: the place of the artifact is in the last part of a
        # configuration's name, so its first part, version and artifact, is what is compared.
        served = [
            {name: one["EndpointConfigName"].rpartition("-")[0] for name, one in endpoints.items()}
            for endpoints in (before, after)
        ]
        assert served[1][RERANKER.endpoint_name] == served[0][RERANKER.endpoint_name]
        assert served[1][INTENT.endpoint_name] != served[0][INTENT.endpoint_name]
        report = looped_store.report("loop")
        assert report["succeeded"]
        assert list(report["runs"]) == [
            *("failure_mining", "intent_retraining", "reranker_retraining", "index_refresh", "release")
        ]
        assert report["manifest_digest"]
        with environment(**looped_store.supervisor.environment), dg.DagsterInstance.get() as instance:
            states = {job: instance.get_run_by_id(run_id).status.value for job, run_id in report["runs"].items()}
        # A verdict is no accident.
        assert set(states.values()) == {"SUCCESS"}
        verdicts = {one["model"]: one["verdict"] for one in report["pipelines"]}
        assert verdicts["intent_classifier"] == "pass"
        assert verdicts["reranker"] in {"fail", "insufficient_evidence", "needs_sign_off"}

    def test_endpoints_serve_what_the_registry_calls_champion(self, resources):
        requests = {
            INTENT: {"text": "could you put ribbon and paper around it"},
            RERANKER: {"query": "opening hours", "passages": ["The shop opens at ten."]},
        }
        for pipeline, request in requests.items():
            champion = resources["mlflow"].version_by_alias(pipeline.model_name, "champion")
            described = resources["endpoints"].describe(pipeline.endpoint_name)
            answer = resources["endpoints"].invoke(pipeline.endpoint_name, request)
            expected = {"name": pipeline.model_name, "version": champion.version, "sha256": champion.artifact_sha256}
            expected |= {"family": "split-attention"} if pipeline is RERANKER else {}
            assert (described.status, described.model_version) == ("InService", champion.version)
            assert answer["model"] == expected
            if pipeline is INTENT:
                assert answer["intent"] == answer["predictions"][0][0]["label"] == "gift_wrapping"
                assert 0 < answer["confidence"] <= 1
            else:
                assert len(answer["scores"]) == 1

    def test_without_deployment_everything_is_judged_and_nothing_in_production_changes(self, looped_store):
        before, after = looped_store.after["bootstrap"], looped_store.after["loop --no-deploy"]
        report = looped_store.report("loop --no-deploy")
        assert [pipeline["verdict"] for pipeline in report["pipelines"]] == ["pass", "insufficient_evidence"]
        assert (after.champions, after.endpoints, after.live_generation) == (
            before.champions,
            before.endpoints,
            before.live_generation,
        )
        assert after.challengers == {INTENT.model_name: "2", RERANKER.model_name: "2"}

    def test_a_second_turn_on_the_same_traffic_does_nothing_twice(self, looped_store):
        first, second = looped_store.report("loop"), looped_store.report("loop again")
        assert looped_store.after["loop again"] == looped_store.after["loop"]
        assert looped_store.after["loop"].versions == looped_store.after["loop --no-deploy"].versions
        for one, other in zip(first["pipelines"], second["pipelines"], strict=True):
            assert one["dataset_digest"] == other["dataset_digest"]
            assert one["challenger_version"] == other["challenger_version"]
            assert one["verdict"] == other["verdict"]
        assert first["manifest_digest"] == second["manifest_digest"]
        assert [cluster["cluster_id"] for cluster in first["clusters"]] == [
            cluster["cluster_id"] for cluster in second["clusters"]
        ]


class TestManifest:
    def test_it_names_what_served_every_turn_and_what_was_learned(self, looped_store, snapshots):
        snapshot = snapshots.latest("release_manifest", partition=BUNDLE)
        content = snapshots.read(snapshot, "manifest.json")
        manifest = json.loads(content)
        assert hashlib.sha256(content).hexdigest() == looped_store.report("loop again")["manifest_digest"]
        assert manifest["turns"] == looped_store.store.messages
        for component, versions in manifest["served"].items():
            assert [one["turns"] for one in versions] == [looped_store.store.messages], component
        assert manifest["served"]["intent_model_version"][0]["version"] == "1"
        for pipeline, report in zip(OWN_PIPELINES, looped_store.report("loop again")["pipelines"], strict=True):
            learned = manifest["learned"][pipeline.model_asset]
            assert learned["dataset_digest"] == report["dataset_digest"]
            assert learned["verdict"] == report["verdict"]


class TestEvaluate:
    def test_the_new_champion_knows_the_new_intents_on_unseen_messages(self, looped_store):
        scores = {}
        for model in ("1", "champion"):
            ran = run_here(
                looped_store.home,
                *("evaluate", "intent", "--data", looped_store.store.unseen, "--model", model, "--json"),
            )
            figures = json.loads(ran.stdout)
            assert figures["messages"] == 24
            scores[figures["version"]] = figures["accuracy"]
        assert scores["2"] > scores["1"]

    def test_figures_are_printed_for_people_too(self, looped_store):
        for pipeline, words in (
            ("intent", ("accuracy", "macro F1", "gift_wrapping")),
            ("reranker", ("mrr@10", "ndcg@10")),
        ):
            ran = run_here(looped_store.home, "evaluate", pipeline, "--data", looped_store.store.unseen)
            assert ran.code == 0
            assert [word for word in words if word not in ran.stdout] == []
