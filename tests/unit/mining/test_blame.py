from itertools import count

import pytest

from mangaassist_assets.mining.blame import LOOP_OF_STAGE, STAGES, BlameConfig, blame_turn, find_failures
from mangaassist_assets.mining.signals import SignalConfig, find_signals
from mangaassist_assets.tracing.turns import ChatTurn, RankedCandidate

_NUMBERS = count()


def make_turn(**fields) -> ChatTurn:
    number = next(_NUMBERS)
    defaults = {
        "trace_id": f"tr-{number:04d}",
        "timestamp_ms": 1_000_000 + number * 3_600_000,
        "duration_ms": 20,
        "state": "OK",
        "release_bundle": "b1",
        "session_id": f"s-{number}",
        "message": f"message {number}",
        "intent": "order_status",
        "intent_confidence": 0.9,
        "candidates": (candidate("a.md", 1, selected=True), candidate("b.md", 2)),
    }
    return ChatTurn(**{**defaults, **fields})


def candidate(document: str, rank: int, *, selected: bool = False) -> RankedCandidate:
    return RankedCandidate(
        chunk_id=f"{document}::0",
        document_id=document,
        retrieval_rank=rank,
        retrieval_score=1 / rank,
        rerank_rank=rank,
        rerank_score=0.5,
        selected=selected,
    )


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
        ({"state": "ERROR", "candidates": ()}, ["error"]),
        ({"candidates": ()}, ["empty_retrieval"]),
        ({"candidates": (), "cache_hit": True}, []),
        ({"intent_confidence": 0.2}, ["low_confidence"]),
        ({"intent": None, "intent_confidence": None, "expected_intent": "x"}, ["failed_review"]),
    ],
)
def test_signals_of_a_turn(fields, expected):
    assert signal_names(make_turn(**fields)) == expected


def test_small_talk_may_find_nothing():
    turn = make_turn(intent="greeting", candidates=())
    assert signal_names(turn, config=SignalConfig(intents_without_retrieval=frozenset({"greeting"}))) == []


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


def test_implicit_signals_make_no_failure_but_raise_its_rank():
    unsure = make_turn(intent_confidence=0.1)
    down = make_turn(user_feedback="thumbs_down")
    both = make_turn(user_feedback="thumbs_down", intent_confidence=0.1)
    failures = {failure.turn.trace_id: failure for failure in find_failures([unsure, down, both])}
    assert set(failures) == {down.trace_id, both.trace_id}
    assert failures[both.trace_id].severity > failures[down.trace_id].severity


@pytest.mark.parametrize(
    ("fields", "stage"),
    [
        ({"state": "ERROR", "failed_span": "rerank_chunks", "expected_intent": "x"}, "infrastructure"),
        ({"guardrail_blocked": True, "guardrail_reasons": ("injection",), "expected_intent": "x"}, "guardrail"),
        ({"expected_intent": "x", "expected_documents": ("zzz.md",)}, "intent"),
        ({"user_feedback": "thumbs_down", "intent_confidence": 0.2}, "intent"),
        ({"user_feedback": "thumbs_down", "intent_confidence": 0.2, "expected_documents": ("b.md",)}, "reranker"),
        ({"user_feedback": "thumbs_down", "intent_confidence": 0.2, "expected_intent": "order_status"}, "unknown"),
        ({"expected_intent": "order_status", "expected_documents": ("zzz.md",)}, "retrieval"),
        ({"candidates": ()}, "retrieval"),
        ({"expected_documents": ("b.md",)}, "reranker"),
        (
            {"user_feedback": "thumbs_down", "expected_intent": "order_status", "expected_documents": ("a.md",)},
            "generation",
        ),
        ({"user_feedback": "thumbs_down", "expected_documents": ("a.md",)}, "unknown"),
        ({"user_feedback": "thumbs_down"}, "unknown"),
    ],
)
def test_blame_falls_on_the_first_stage_with_evidence_against_it(fields, stage):
    blame = blame_turn(make_turn(**fields))
    assert blame.stage == stage
    assert blame.evidence
    assert blame.loop == LOOP_OF_STAGE[blame.stage]


def test_every_stage_feeds_a_named_loop():
    assert set(LOOP_OF_STAGE) == set(STAGES)
    assert LOOP_OF_STAGE["intent"] == "retrain_intent"
    assert LOOP_OF_STAGE["retrieval"] == "reindex"
    assert LOOP_OF_STAGE["reranker"] == "retrain_reranker"
    assert LOOP_OF_STAGE["unknown"] == "none"


def test_a_review_makes_surer_than_a_guess():
    review = blame_turn(make_turn(expected_intent="x"))
    guess = blame_turn(make_turn(user_feedback="thumbs_down", intent_confidence=0.1))
    assert review.confidence > guess.confidence > blame_turn(make_turn(user_feedback="thumbs_down")).confidence


def test_the_threshold_of_confidence_is_configuration():
    turn = make_turn(user_feedback="thumbs_down", intent_confidence=0.6)
    strict = BlameConfig(signals=SignalConfig(low_confidence=0.7))
    assert blame_turn(turn).stage == "unknown"
    assert blame_turn(turn, config=strict).stage == "intent"


def test_evidence_never_quotes_the_shopper():
    turns = [
        make_turn(message="zebra crossing", user_feedback="thumbs_down", session_id="s", timestamp_ms=0),
        make_turn(message="zebra crossing", expected_intent="x", session_id="s", timestamp_ms=1000),
    ]
    for failure in find_failures(turns):
        for sentence in [failure.blame.evidence, *(signal.evidence for signal in failure.signals)]:
            assert "zebra" not in sentence
