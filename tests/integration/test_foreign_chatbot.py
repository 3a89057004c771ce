"""An agent in LangGraph on Bedrock that knows nothing of the trace contract is read by a mapping file alone."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from uuid import uuid4

import pytest

from mangaassist_assets.tracing.contract.records import TraceRecord
from mangaassist_assets.tracing.contract.turns import ChatTurn
from mangaassist_assets.tracing.ingestion.coverage import TracePresence, coverage, judge
from mangaassist_assets.tracing.reading.mapping import read_mapping
from mangaassist_assets.tracing.reading.turn_reader import Quarantined, TraceReading, read_trace
from resources.mlflow.tracking import MlflowResource
from tests.support.bedrock_wire import Answer, bedrock_wire

_MISSING = [name for name in ("langgraph", "langchain_aws") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(bool(_MISSING), reason=f"not installed: {', '.join(_MISSING)} (the dev extra has them)"),
]

MAPPING = Path(__file__).parents[1] / "data" / "mappings" / "foreign_chatbot.toml"
PLAIN_TURNS = 20


@pytest.fixture(scope="module")
def traces(stand_ins) -> dict[str, TraceRecord]:
    """The traces of one afternoon, by the question, as the platform's own reader finds them in MLflow."""
    import mlflow

    from tests.support.foreign_chatbot import ForeignChatbot, answer, use

    before = mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as environment, bedrock_wire() as wire:
        for name, value in stand_ins.environment.items():
            environment.setenv(name, value)
        resource = MlflowResource(traces_experiment=f"foreign-{uuid4().hex[:8]}")
        resource.client()
        mlflow.set_experiment(resource.traces_experiment)
        mlflow.langchain.autolog()
        chatbot = ForeignChatbot(wire)
        for number in range(PLAIN_TURNS):
            wire.answers.append(answer("Yes."))
            assert chatbot.ask(f"s-{number % 3}", f"Is volume {number} in stock?") == "Yes."
        wire.answers += [
            answer(
                "Let me look.",
                use("t-1", "copies_left", volume=3, name="Lantern Street"),
                use("t-2", "deliver_by", city="Atlantis"),
            ),
            answer("On Thursday."),
        ]
        chatbot.ask("s-1", "When does volume 3 arrive in Osaka?")
        chatbot.ask("s-2", "What about politics?")
        wire.answers.append(Answer(body={"message": "slow down"}, status=429, error_type="ThrottlingException"))
        with pytest.raises(Exception, match="slow down"):
            chatbot.ask("s-2", "And volume 4?")
        mlflow.flush_trace_async_logging()
        mlflow.langchain.autolog(disable=True)
        records = resource.trace_source().traces_after(None, limit=1_000)
    mlflow.set_tracking_uri(before)
    return {_question(record): record for record in records}


def _question(record: TraceRecord) -> str:
    root = next(span for span in record.spans if span.parent_id is None)
    assert isinstance(root.inputs, dict)
    return str(root.inputs["messages"][-1]["content"])


@pytest.fixture(scope="module")
def readings(traces) -> dict[str, TraceReading]:
    mapping = read_mapping(MAPPING)
    return {question: read_trace(record, mapping=mapping) for question, record in traces.items()}


def turn_of(reading: TraceReading) -> ChatTurn:
    assert isinstance(reading.outcome, ChatTurn), reading.outcome
    return reading.outcome


def test_by_the_packaged_mapping_alone_its_traces_are_quarantined(traces):
    assert len(traces) == PLAIN_TURNS + 3
    outcomes = [read_trace(record).outcome for record in traces.values()]
    assert all(isinstance(one, Quarantined) for one in outcomes)
    assert {one.reason.partition(":")[0] for one in outcomes if isinstance(one, Quarantined)} == {
        "release_bundle is missing"
    }


def test_the_mapping_is_shorter_than_30_lines():
    assert len(MAPPING.read_text(encoding="utf-8").splitlines()) < 30


def test_by_its_mapping_every_tag_and_span_that_can_be_expected_is_there(readings):
    rows = [
        TracePresence(
            trace_id=turn_of(one).trace_id,
            tags=one.tags,
            spans=one.spans,
            state=turn_of(one).state,
            candidates=turn_of(one).candidate_count,
            blocked=turn_of(one).guardrail_blocked,
        )
        for one in readings.values()
    ]
    found = coverage(rows)
    judgement = judge(found)
    assert (judgement.enough, judgement.shortfalls) == (True, ())
    assert {(one.name, one.value) for one in found.shares if one.value not in (1.0, None)} == set()
    assert [problem for one in readings.values() for problem in one.problems] == []


def test_a_plain_turn_has_all_its_facts(readings):
    turn = turn_of(readings["Is volume 7 in stock?"])
    assert (turn.shape, turn.release_bundle, turn.session_id) == ("langchain", "store-2026.11", "s-1")
    assert (turn.message, turn.answer) == ("Is volume 7 in stock?", "Yes.")
    assert (turn.intent, turn.intent_confidence, turn.intent_model_version) == ("stock", 0.83, "topics-12")
    assert (turn.index_generation, turn.embedding_model_id) == ("build-88", "amazon.titan-embed-text-v2:0")
    assert [(one.model_id, one.input_tokens, one.output_tokens, one.stop_reason) for one in turn.generations] == [
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", 40, 9, "end_turn")
    ]


def test_candidates_are_in_the_retrievers_order_with_the_rerankers_and_the_selected_ones(readings):
    found = turn_of(readings["Is volume 7 in stock?"]).candidates
    assert [(one.chunk_id, one.document_id, one.rerank_rank, one.selected) for one in found] == [
        ("ships-1", "shipping", 3, False),
        ("ships-2", "shipping", 2, True),
        ("stock-1", "stock", 1, True),
    ]
    assert [one.rerank_score for one in found] == pytest.approx([0.7, 0.8, 0.9])


def test_the_agents_tools_have_name_arguments_outcome_and_error(readings):
    turn = turn_of(readings["When does volume 3 arrive in Osaka?"])
    assert turn.answer == "On Thursday."
    assert [one.stop_reason for one in turn.generations] == ["tool_use", "end_turn"]
    # LangGraph runs tools side by side: which of them begins first is chance.
    served, refused = sorted(turn.tools, key=lambda one: one.name)
    assert (served.name, served.arguments) == ("copies_left", '{"name": "Lantern Street", "volume": 3}')
    assert (served.outcome, served.result, served.error) == ("success", "3 copies of Lantern Street", None)
    assert (refused.name, refused.arguments) == ("deliver_by", '{"city": "Atlantis"}')
    assert (refused.outcome, refused.error) == ("error", "no delivery to Atlantis")
    # Its span ended without outputs; the result is what the model was told of it.
    assert (refused.result or "").startswith("Error: ValueError('no delivery to Atlantis')")
    assert sorted(stage.failed for stage in turn.stages if stage.name == "tool_call") == [False, True]


def test_a_question_that_its_guardrail_refused_is_blocked(readings):
    turn = turn_of(readings["What about politics?"])
    assert (turn.guardrail_blocked, turn.answer, turn.generations) == (True, "I only talk about manga.", ())


def test_a_throttled_model_is_what_failed(readings):
    turn = turn_of(readings["And volume 4?"])
    assert (turn.state, turn.failed_span, turn.answer) == ("ERROR", "bedrock_generate", None)
    assert "slow down" in (turn.error or "")
