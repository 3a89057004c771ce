"""The orchestrator of docs/integrate.md against the running stand-ins: the loop learns from its traces alone.

The chatbot is a process that knows endpoint names, addresses, AppConfig's ids, a stream and a bundle. Nothing of this
project is imported into it. Of what it wrote the platform mines, blames, asks, trains, gates and deploys, and what was
retrained answers the process, which ran all the while.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from mangaassist_assets.chatbot.configuration.documents import RoutingDocument
from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.labelling.queue.stored_queue import read_queue
from mangaassist_assets.local.home import Home
from mangaassist_assets.local.processes import wait_until
from mangaassist_assets.local.supervisor import Supervisor
from mangaassist_assets.mining.blame.stored_failures import read_failures
from mangaassist_assets.models.pipelines import INTENT, RERANKER
from mangaassist_assets.privacy import pseudonym
from mangaassist_assets.retrieval.stored_knowledge import read_chunks
from mangaassist_assets.tracing.contract.names import EXPECTED_INTENT, RELEVANT_DOCUMENTS, SpanName, Tag
from mangaassist_assets.tracing.contract.records import TraceRecord
from mangaassist_assets.tracing.contract.turns import ChatTurn
from mangaassist_assets.tracing.ingestion.coverage import coverage, judge
from mangaassist_assets.tracing.ingestion.stored_turns import read_presence, read_turns
from mangaassist_assets.tracing.reading.turn_reader import TraceReading, read_trace
from tests.support.bedrock_wire import bedrock_wire
from tests.support.bootstrapped import bootstrapped_home
from tests.support.command_line import environment, resources_of, run_here
from tests.support.orchestrator_process import MODEL, MODEL_FAILS_ON, Orchestrator, bedrock, write_passages
from tests.support.orchestrator_traffic import PERSONAL, TURNS, Said, traffic
from tests.support.tiny_store import KNOWN_INTENTS, NEW_INTENTS, PERSONAL_DATA

pytestmark = pytest.mark.integration

BUNDLE = "2026.11.30-rc1"
TRACING_BUNDLE = "2026.11.30-tracing"
LATER = {
    "could you wrap the box set as a gift": "gift_wrapping",
    "ribbon and paper for a present please": "gift_wrapping",
    "when does the author sign books": "signing_event",
    "which Saturday is the autograph session": "signing_event",
}
# Whoever answers the queue of so small a store has the time for all of it.
PATIENT = {"review_queue": {"budget": TURNS, "per_cluster": TURNS}}


@dataclass(slots=True, kw_only=True)
class Story:
    """What happened: replies by what was said, the queue, what the loop reported, and what was answered after it."""

    supervisor: Supervisor
    home: Path
    resources: dict[str, Any]
    snapshots: SnapshotStore
    passages: Path
    bedrock_url: str
    said: list[tuple[Said, dict[str, str]]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    later: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def by_trace(self) -> dict[str, Said]:
        """What was said by trace id."""
        return {reply["trace_id"]: said for said, reply in self.said}

    def orchestrator(self, bundle: str, **more: Any) -> Orchestrator:
        """Start the process."""
        return Orchestrator(
            clients=self.supervisor.environment,
            bedrock_url=self.bedrock_url,
            bundle=bundle,
            passages=self.passages,
            log=self.home.parent / f"orchestrator-{bundle}.log",
            **more,
        )


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Bootstrap, 200 turns with thumbs, reviews, one turn of the loop, and some more turns."""
    home = bootstrapped_home(tmp_path_factory, "orc").home
    with Supervisor(Home.open(home)) as supervisor, environment(**supervisor.environment):
        resources = resources_of(supervisor)
        snapshots = resources["store"].snapshots()
        resources["app_config"].deploy("routing", RoutingDocument(version="2", bedrock_model_id=MODEL))
        embedder = resources["embeddings"].embedder()
        generation = resources["search"].index().live_generation()
        with bedrock_wire(bedrock(embedder)) as wire:
            told = Story(
                supervisor=supervisor,
                home=home,
                resources=resources,
                snapshots=snapshots,
                passages=write_passages(home.parent, generation, read_chunks(snapshots), embedder),
                bedrock_url=wire.url,
            )
            with told.orchestrator(BUNDLE) as chatbot:
                _shoppers(told, chatbot)
                _reviewers(told)
                turned = run_here(home, "loop", "--release-bundle", BUNDLE, "--json")
                assert turned.code == 0, turned.stderr
                told.report = json.loads(turned.stdout)
                told.later = {text: chatbot.ask(text, f"later-{intent}") for text, intent in LATER.items()}
                chatbot.finish()
            yield told


def _shoppers(story: Story, chatbot: Orchestrator) -> None:
    """Say all messages and, when all traces are stored, press all thumbs."""
    story.said = [(one, chatbot.ask(one.text, one.session_id)) for one in traffic()]
    assert wait_until(lambda: len(list(story.resources["mlflow"].read_traces(BUNDLE))) == TURNS, seconds=60, every=0.5)
    for one, reply in story.said:
        if one.thumb is not None:
            (chatbot.tag_thumb if one.on_trace else chatbot.publish_thumb)(reply, one.thumb)


def _reviewers(story: Story) -> None:
    """Mine, and answer what the review queue asks, as people do in MLflow."""
    import mlflow
    from mlflow.entities import AssessmentSource

    from mangaassist_assets.cli.session import open_session

    with open_session(str(story.home), lambda _line: None) as session:
        session.register_bundle(BUNDLE)
        mined = session.run_job("failure_mining", partition=BUNDLE, config=PATIENT)
        assert mined.succeeded, mined
    queue = read_queue(story.snapshots, BUNDLE)
    assert queue is not None
    aki = AssessmentSource(source_type="HUMAN", source_id="aki")
    for item in queue.items:
        wanted = story.by_trace[item.trace_id]
        if "intent" in item.questions:
            mlflow.log_expectation(trace_id=item.trace_id, name=EXPECTED_INTENT, value=wanted.intent, source=aki)
        if "documents" in item.questions:
            mlflow.log_expectation(trace_id=item.trace_id, name=RELEVANT_DOCUMENTS, value=[wanted.document], source=aki)
        story.asked.append(item.trace_id)


@pytest.fixture(scope="module")
def turns(story) -> dict[str, ChatTurn]:
    """The turns as the loop read them."""
    return {turn.trace_id: turn for turn in read_turns(story.snapshots, BUNDLE)}


@pytest.fixture(scope="module")
def traces(story) -> dict[str, TraceRecord]:
    """All traces of the bundle as they stand in MLflow, those after the loop among them."""
    return {trace.trace_id: trace for trace in story.resources["mlflow"].read_traces(BUNDLE)}


def reading(trace: TraceRecord) -> TraceReading:
    return read_trace(trace)


class TestTraces:
    def test_every_message_is_a_turn_and_nothing_is_quarantined(self, story, turns):
        assert (story.report["turns"], story.report["quarantined"]) == (TURNS, 0)
        assert set(turns) == set(story.by_trace)
        assert {turn.release_bundle for turn in turns.values()} == {BUNDLE}
        for trace_id, said in story.by_trace.items():
            assert turns[trace_id].session_id == said.session_id

    def test_every_tag_and_span_that_can_be_expected_is_there(self, story):
        found = coverage(read_presence(story.snapshots, BUNDLE))
        judgement = judge(found)
        assert (found.traces, judgement.enough, judgement.shortfalls, found.problems) == (TURNS, True, (), ())
        short = {(one.name, one.value) for one in found.shares if one.value not in (1.0, None)}
        assert short == set()

    def test_a_turn_has_all_its_facts(self, story, turns):
        generation = story.resources["search"].index().live_generation()
        turn = next(one for one in turns.values() if one.message == "how much is shipping")
        assert turn.intent == "shipping_cost"
        assert turn.intent_confidence is not None
        assert (turn.intent_model_version, turn.reranker_version) == ("1", "1")
        assert (turn.prompt_version, turn.routing_policy_version, turn.guardrail_ruleset_version) == ("1", "2", "1")
        assert (turn.bedrock_model_id, turn.embedding_model_id) == (MODEL, "amazon.titan-embed-text-v2:0")
        assert turn.index_generation == generation
        (call,) = turn.generations
        assert (call.model_id, call.stop_reason) == (MODEL, "end_turn")
        assert (call.input_tokens or 0) > (call.output_tokens or 0) > 0
        assert "four euros" in (turn.answer or "")
        assert turn.candidate_count == len(turn.candidates) > 20
        ranks = [one.rerank_rank for one in turn.candidates if one.rerank_rank is not None]
        assert sorted(ranks) == list(range(1, 21))
        assert {one.rerank_rank for one in turn.candidates if one.selected} == {1, 2, 3}
        asked = {stage.name: (stage.endpoint_name, stage.request_keys) for stage in turn.stages if stage.endpoint_name}
        assert asked == {
            SpanName.INTENT_CLASSIFICATION: (INTENT.endpoint_name, ("text",)),
            SpanName.RERANK_CHUNKS: (RERANKER.endpoint_name, ("passages", "query")),
        }

    def test_traces_inspect_shows_a_turn_in_which_nothing_is_odd(self, story):
        _, reply = story.said[0]
        ran = run_here(story.home, "traces", "inspect", reply["trace_id"], "--json")
        assert ran.code == 0, ran.stderr
        report = json.loads(ran.stdout)
        assert (report["traces"], report["turns"], report["problems"]) == (1, 1, {})
        assert {name for name, stage, _ in report["spans"] if stage is None} == set()
        assert report["proposals"] == {}

    def test_thumbs_of_the_stream_and_of_the_traces_are_on_their_turns_once_each(self, turns, story):
        for trace_id, said in story.by_trace.items():
            assert turns[trace_id].user_feedback == said.thumb
        on_trace = [said for said in story.by_trace.values() if said.on_trace]
        assert len(on_trace) > 20

    def test_nothing_personal_is_written_by_the_chatbot(self, story, traces):
        (trace_id,) = [one for one, said in story.by_trace.items() if said.text == PERSONAL]
        said = str(traces[trace_id])
        assert "[EMAIL]" in said
        assert "[ORDER_ID]" in said
        searched = [
            path for path in story.home.rglob("*") if path.is_file() and path.parts[-2] in {"mlflow", "ministack"}
        ]
        found = [(path, one) for path in searched for one in PERSONAL_DATA if one.encode() in path.read_bytes()]
        assert (len(searched) > 0, found) == (True, [])


class TestLoop:
    def test_failures_are_blamed_on_the_stage_that_failed(self, story):
        failures = {one.turn.trace_id: one for one in read_failures(story.snapshots, BUNDLE)}
        blame = story.report["blame"]
        assert blame["intent"] > 60
        assert (blame["infrastructure"], blame["guardrail"]) == (1, 1)
        for trace_id in story.asked:
            if story.by_trace[trace_id].intent in NEW_INTENTS:
                assert failures[trace_id].blame.stage == "intent"

    def test_a_model_that_fails_leaves_a_turn_that_says_where_and_the_shopper_gets_the_fallback(self, story, turns):
        ((said, reply),) = [pair for pair in story.said if MODEL_FAILS_ON in pair[0].text]
        turn = turns[reply["trace_id"]]
        assert reply["answer"].startswith("I am not sure")
        assert (turn.state, turn.failed_span, turn.message) == ("ERROR", "bedrock_generate", said.text)
        assert turn.intent is not None

    def test_the_classifier_learns_the_new_intents_and_its_gate_says_pass(self, story):
        intent, _ = story.report["pipelines"]
        assert (intent["verdict"], intent["champion_version"], intent["challenger_version"]) == ("pass", "1", "2")
        assert intent["challenger_score"] > intent["champion_score"]
        assert intent["test_examples"] >= 30
        assert intent["challenger_score"] > 0.8

    def test_what_passed_is_deployed_and_the_manifest_names_what_served(self, story):
        intent, reranker = story.report["pipelines"]
        # Whether the documents that the audit asks for prove a reranker depends on what was drawn.
        passed = reranker["challenger_version"] if reranker["verdict"] == "pass" else "1"
        assert (intent["deployed_version"], reranker["deployed_version"]) == ("2", passed)
        assert story.resources["mlflow"].version_by_alias(INTENT.model_name, "champion").version == "2"
        assert story.report["succeeded"]
        snapshot = story.snapshots.latest("release_manifest", partition=BUNDLE)
        assert story.report["manifest_digest"] == snapshot.files["manifest.json"]
        manifest = json.loads(story.snapshots.read(snapshot, "manifest.json"))
        assert manifest["turns"] == TURNS
        assert {one["version"] for one in manifest["served"]["intent_model_version"]} >= {"1"}

    def test_the_retrained_endpoint_answers_the_process_that_ran_all_the_while(self, story, traces):
        for text, reply in story.later.items():
            turn = reading(traces[reply["trace_id"]]).outcome
            assert isinstance(turn, ChatTurn)
            assert (turn.message, turn.intent_model_version) == (text, "2")
            assert turn.intent == LATER[text]
            assert turn.intent not in KNOWN_INTENTS


@pytest.fixture(scope="module")
def tracing_only(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment with mlflow-tracing and boto3, and no mlflow; skips where none can be made."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        pytest.skip("needs uv, which the locked environment has")
    folder = tmp_path_factory.mktemp("tracing-only") / "env"
    python = folder / "bin" / "python"
    wanted = (f"mlflow-tracing=={version('mlflow')}", f"boto3=={version('boto3')}")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    made = subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", str(python), *wanted], check=False, capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"mlflow-tracing cannot be installed here: {made.stderr.strip()[-300:]}")
    has = subprocess.run([python, "-c", "import mlflow.sklearn"], check=False, capture_output=True, text=True)
    assert has.returncode, "the environment has mlflow itself"
    return str(python)


def test_with_mlflow_tracing_alone_the_same_file_tells_the_same(story, turns, traces, tracing_only):
    key = Home.open(story.home).pseudonym_key()
    messages = ["how much is shipping", "when do you open today", PERSONAL, "I want to return a book"]
    with story.orchestrator(TRACING_BUNDLE, python=tracing_only, PSEUDONYM_KEY=key.hex()) as chatbot:
        replies = [chatbot.ask(text, "s-1", user_id="shopper-1") for text in messages]
        chatbot.tag_thumb(replies[0], "thumbs_up")
        assert chatbot.refused("no JSON") == "JSONDecodeError"
        assert chatbot.refused('{"thumb": "thumbs_up"}') == "KeyError"
        chatbot.finish()
    found = {one.trace_id: read_trace(one) for one in story.resources["mlflow"].read_traces(TRACING_BUNDLE)}
    assert set(found) == {reply["trace_id"] for reply in replies}
    usual = read_trace(next(traces[one] for one, turn in turns.items() if turn.message == messages[0]))
    for one in found.values():
        assert isinstance(one.outcome, ChatTurn)
        assert one.user_key == pseudonym("shopper-1", key)
        assert set(one.sources) - {"turn.user_id", "turn.user_feedback"} == set(usual.sources) - {"turn.user_feedback"}
        assert (one.spans, one.tags - {Tag.USER_FEEDBACK}) == (usual.spans, usual.tags - {Tag.USER_FEEDBACK})
    first = found[replies[0]["trace_id"]].outcome
    assert isinstance(first, ChatTurn)
    assert (first.user_feedback, first.intent, first.intent_model_version) == ("thumbs_up", "shipping_cost", "2")
    assert not [one for one in PERSONAL_DATA if one in str(found)]
