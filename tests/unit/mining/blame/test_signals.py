"""Which turns count as failed, and on what evidence."""

from __future__ import annotations

import pytest

from mangaassist_assets.tracing.contract.turns import ChatTurn, StageTiming
from tests.support.mined_turns import assessment, find_signals, make_turn
from tests.support.mining_rules import rules_with

SEARCHED = (StageTiming(name="retrieve_chunks", duration_ms=1.0),)


def signal_names(turn: ChatTurn, **options) -> list[str]:
    return [signal.name for signal in find_signals([turn], **options).get(turn.trace_id, ())]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, []),
        ({"user_feedback": "thumbs_up"}, []),
        ({"user_feedback": "thumbs_down"}, ["thumbs_down"]),
        ({"expected_intent": "return_item"}, ["failed_review"]),
        ({"expected_intent": "order_status"}, []),
        ({"expected_documents": ("b.md",)}, ["failed_review"]),
        ({"expected_documents": ("b.md", "a.md")}, []),
        ({"expected_intent": "order_status", "expected_documents": ("zzz.md",)}, ["failed_review"]),
        ({"guardrail_blocked": True, "candidates": ()}, ["guardrail_block"]),
        ({"guardrail_blocked": True, "guardrail_reasons": ("injection",), "candidates": ()}, ["guardrail_block"]),
        ({"state": "ERROR", "candidates": ()}, ["error"]),
        ({"candidates": ()}, ["empty_retrieval"]),
        ({"candidates": (), "cache_hit": True}, []),
        ({"intent_confidence": 0.2}, ["low_confidence"]),
        ({"intent": None, "intent_confidence": None, "expected_intent": "x"}, ["failed_review"]),
        ({"reviews": (assessment("correctness", "false"),)}, ["failed_review"]),
        ({"reviews": (assessment("groundedness", "no", source="judge"),)}, ["failed_review"]),
        ({"reviews": (assessment("correctness", "true"),)}, []),
        ({"reviews": (assessment("correctness", "partly"),)}, []),
        ({"reviews": (assessment("politeness", "false"),)}, []),
        ({"reviews": (assessment("correctness", "0.1"),)}, ["failed_review"]),
        ({"reviews": (assessment("politeness", "0.1"),)}, []),
    ],
)
def test_signals_of_a_turn(fields, expected):
    assert signal_names(make_turn(**fields)) == expected


def test_a_block_for_want_of_passages_is_an_empty_search_as_well():
    turn = make_turn(guardrail_blocked=True, guardrail_reasons=("ungrounded",), candidates=())
    assert signal_names(turn) == ["guardrail_block", "empty_retrieval"]


@pytest.mark.parametrize(
    ("reviews", "failed"),
    [
        ((assessment("correctness", "false", at=1), assessment("correctness", "true", at=2)), False),
        ((assessment("correctness", "true", at=1), assessment("correctness", "false", at=2)), True),
        ((assessment("correctness", "true", at=1), assessment("correctness", "false", source="judge", at=2)), False),
        ((assessment("correctness", "false", at=1), assessment("correctness", "true", source="judge", at=2)), True),
    ],
)
def test_the_latest_word_counts_and_a_persons_before_a_judges(reviews, failed):
    assert (signal_names(make_turn(reviews=reviews)) == ["failed_review"]) is failed


def test_small_talk_may_find_nothing():
    rules = rules_with("intents_without_retrieval = []", 'intents_without_retrieval = ["greeting"]')
    assert signal_names(make_turn(intent="greeting", candidates=()), config=rules) == []


@pytest.mark.parametrize("shape", ["mangaassist", "litellm", "bedrock_autolog", "otel_genai"])
def test_a_trace_that_records_no_search_is_no_empty_search(shape):
    assert signal_names(make_turn(shape=shape, candidates=(), candidate_count=None)) == []
    assert signal_names(make_turn(shape=shape, candidates=(), candidate_count=None, stages=SEARCHED)) == []
    assert signal_names(make_turn(shape=shape, candidates=(), candidate_count=7, stages=SEARCHED)) == []
    assert signal_names(make_turn(shape=shape, candidates=(), candidate_count=0)) == ["empty_retrieval"]


def test_the_same_question_again_in_the_same_session_is_a_rephrasing_of_the_first():
    first = make_turn(session_id="s", timestamp_ms=0, message="where is my order please")
    second = make_turn(session_id="s", timestamp_ms=60_000, message="WHERE is my order??")
    signals = find_signals([second, first])
    assert [signal.name for signal in signals[first.trace_id]] == ["rephrased"]
    assert second.trace_id not in signals


@pytest.mark.parametrize(
    "change",
    [
        {"session_id": "other"},
        {"timestamp_ms": 600_000},
        {"message": "do you sell gift cards"},
        {"release_bundle": "b2"},
    ],
)
def test_another_session_a_long_pause_or_another_question_is_no_rephrasing(change):
    first = make_turn(session_id="s", timestamp_ms=0, message="where is my order")
    second = make_turn(**{"session_id": "s", "timestamp_ms": 60_000, "message": "where is my order", **change})
    assert find_signals([first, second]) == {}


def test_japanese_rephrasings_are_seen_without_spaces():
    first = make_turn(session_id="s", timestamp_ms=0, message="注文した漫画はいつ届きますか")
    second = make_turn(session_id="s", timestamp_ms=9_000, message="注文した漫画、いつ届きますか？")
    assert first.trace_id in find_signals([first, second])


def test_a_signal_can_be_switched_off_made_implicit_and_weighed_by_the_rules():
    turn = make_turn(user_feedback="thumbs_down")
    old = "[signals.thumbs_down]\nexplicit = true\nconfidence = 0.8"
    (signal,) = find_signals([turn])[turn.trace_id]
    assert (signal.explicit, signal.confidence) == (True, 0.8)
    implicit = rules_with(old, "[signals.thumbs_down]\nexplicit = false\nconfidence = 0.3")
    (signal,) = find_signals([turn], config=implicit)[turn.trace_id]
    assert (signal.explicit, signal.confidence) == (False, 0.3)
    assert find_signals([turn], config=rules_with(old, f"{old}\nenabled = false")) == {}
