"""Each fact that MangaAssist's own instrumentation writes is read, from traces that MLflow really made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mangaassist_assets.mining.blame.blame import find_failures
from mangaassist_assets.tracing.contract.turns import ChatTurn, Generation, StageTiming, Verdict
from mangaassist_assets.tracing.importing import mlflow_json
from mangaassist_assets.tracing.importing.imported_trace import to_record
from mangaassist_assets.tracing.ingestion.coverage import CoverageThresholds, TracePresence, coverage, judge
from mangaassist_assets.tracing.reading.turn_reader import TraceReading, read_trace

RECORDED = Path(__file__).parents[3] / "data" / "shapes" / "mangaassist.json"
SHARED = Path(__file__).parents[5] / "shared" / "faults" / "orchestrator_traces.jsonl"
MODEL = "anthropic.claude-3-5-sonnet-20240620-v1:0"


def reading_of(trace: dict[str, Any]) -> TraceReading:
    return read_trace(to_record(mlflow_json.read_trace(trace)))


READINGS = {name: reading_of(one) for name, one in json.loads(RECORDED.read_text(encoding="utf-8")).items()}


def turn_of(name: str) -> ChatTurn:
    outcome = READINGS[name].outcome
    assert isinstance(outcome, ChatTurn), outcome
    return outcome


def stage(turn: ChatTurn, name: str) -> StageTiming:
    (found,) = [one for one in turn.stages if one.name == name]
    return found


FACTS: dict[str, tuple[Callable[[ChatTurn], object], object]] = {
    "message in the root's inputs": (lambda turn: turn.message, "when does volume 9 come out"),
    "answer": (lambda turn: turn.answer, "Volume 9 comes out in March."),
    "session and bundle": (lambda turn: (turn.session_id, turn.release_bundle), ("sess_7", "2026.03.24-rc2")),
    "intent and confidence": (lambda turn: (turn.intent, turn.intent_confidence), ("release_date", 0.83)),
    "prompt version": (lambda turn: turn.prompt_version, "recommendation-2.4"),
    "model of the tag": (lambda turn: turn.bedrock_model_id, "anthropic.claude-3-5-sonnet"),
    "reranker version": (lambda turn: turn.reranker_version, "8"),
    "ruleset and policy": (
        lambda turn: (turn.guardrail_ruleset_version, turn.routing_policy_version),
        ("gr-17", "r1"),
    ),
    "no experiment, written as none": (lambda turn: turn.experiment_id, None),
    "cache and thumb": (lambda turn: (turn.cache_hit, turn.user_feedback), (False, "thumbs_down")),
    "embedding model": (lambda turn: turn.embedding_model_id, "amazon.titan-embed-text-v2:0"),
    "call with tokens and stop reason, which are outputs": (
        lambda turn: turn.generations,
        (Generation(model_id=MODEL, input_tokens=321, output_tokens=17, stop_reason="end_turn"),),
    ),
    "chunks in the searches' order, ranks of the reranker, the selected one": (
        lambda turn: [(one.chunk_id, one.retrieval_rank, one.rerank_rank, one.selected) for one in turn.candidates],
        [("c1", 1, 3, False), ("c2", 2, 1, True), ("c3", 3, 2, False)],
    ),
    "no scores where none are told": (
        lambda turn: {(one.retrieval_score, one.rerank_score) for one in turn.candidates},
        {(None, None)},
    ),
    "how many were found": (lambda turn: turn.candidate_count, 3),
    "what a search looked for": (
        lambda turn: (stage(turn, "vector_search").source_types, stage(turn, "vector_search").filters),
        (("faq", "catalog"), '{"lang": "en"}'),
    ),
    "endpoints of all stages that ask one": (
        lambda turn: {one.name: (one.endpoint_name, one.model_family) for one in turn.stages if one.endpoint_name},
        {
            "intent_classification": ("mangaassist-intent", "distilbert"),
            "rerank_chunks": ("mangaassist-reranker", "cross-encoder"),
            "pii_detection": ("mangaassist-pii", "bert-ner"),
            "sentiment_analysis": ("mangaassist-sentiment", None),
        },
    ),
    "with what the intent endpoint was asked": (
        lambda turn: stage(turn, "intent_classification").request_keys,
        ("text",),
    ),
    "guardrails that let it pass": (lambda turn: (turn.guardrail_blocked, turn.guardrail_reasons), (False, ())),
}


@pytest.mark.parametrize("name", ["text_answer", "object_answer"])
@pytest.mark.parametrize("fact", FACTS)
def test_a_fact_is_read_whatever_the_root_is_called_and_returns(fact, name):
    read, expected = FACTS[fact]
    assert read(turn_of(name)) == expected


def test_the_response_id_of_an_answer_that_is_an_object_is_kept():
    assert (turn_of("object_answer").response_id, turn_of("text_answer").response_id) == ("resp-1", None)


def test_a_guardrail_that_says_true_as_text_blocks_and_its_counters_are_kept():
    turn = turn_of("blocked")
    assert (turn.guardrail_blocked, turn.guardrail_reasons) == (True, ("toxicity",))
    counters = {(one.name, one.score) for one in turn.verdicts if one.stage == "guardrails"}
    assert {("checks_run", 4.0), ("checks_failed", 1.0)} <= counters
    (failure,) = find_failures([turn])
    assert failure.blame.stage == "guardrail"


def test_what_the_pii_and_sentiment_endpoints_found_are_verdicts():
    verdicts = turn_of("text_answer").verdicts
    assert Verdict(name="pii_detected", text="false", score=None, stage="pii_detection") in verdicts
    assert Verdict(name="sentiment", text="neutral", score=None, stage="sentiment_analysis") in verdicts
    assert Verdict(name="sentiment_score", text=None, score=0.1, stage="sentiment_analysis") in verdicts


def test_nothing_of_it_is_odd():
    assert {name: one.problems for name, one in READINGS.items()} == dict.fromkeys(READINGS, ())


def test_these_facts_leave_two_tags_untold():
    """Which model version answered and which index was searched: docs/integrate.md shows how to tell them."""
    rows = [
        TracePresence(
            trace_id=name,
            tags=one.tags,
            spans=one.spans,
            state="OK",
            candidates=turn_of(name).candidate_count,
            blocked=turn_of(name).guardrail_blocked,
        )
        for name, one in READINGS.items()
    ]
    judgement = judge(coverage(rows), CoverageThresholds(minimum_traces=1))
    assert judgement.severity == "warn"
    assert {one.share.name for one in judgement.shortfalls} == {"intent_model_version", "index_generation"}


@pytest.mark.skipif(not SHARED.is_file(), reason="needs ../shared/faults, which is not on this machine")
def test_traces_that_its_orchestrator_wrote_are_turns():
    lines = SHARED.read_text(encoding="utf-8").splitlines()
    turns = [reading_of(json.loads(line)).outcome for line in lines]
    assert len(turns) == 3
    for turn in turns:
        assert isinstance(turn, ChatTurn), turn
        (call,) = turn.generations
        assert (call.model_id, call.input_tokens, call.output_tokens, call.stop_reason) == (MODEL, 321, 17, "end_turn")
        assert [one.chunk_id for one in turn.candidates if one.selected] == ["c2"]
        reranked = sorted(turn.candidates, key=lambda one: one.rerank_rank or 9)
        assert [one.chunk_id for one in reranked] == ["c2", "c1"]
        assert [one.retrieval_rank for one in reranked] == [2, 1]
        assert (turn.intent, turn.answer, turn.bedrock_model_id) == (
            "order_status",
            "Vol 3 ships tomorrow.",
            "anthropic.claude-3-5-sonnet",
        )
