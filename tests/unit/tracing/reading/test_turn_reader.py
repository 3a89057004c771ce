"""A trace is a turn or goes to quarantine with its reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mangaassist_assets.core.bundles import InvalidBundleError, validate_bundle
from mangaassist_assets.privacy import pseudonym
from mangaassist_assets.tracing.contract.records import AssessmentRecord, SpanRecord, TraceRecord
from mangaassist_assets.tracing.contract.turns import ChatTurn
from mangaassist_assets.tracing.reading.turn_reader import Quarantined, read_trace
from tests.support.turn_reading import parse_turn, read_turns


def span(name: str, *, span_id: str = "", parent: str | None = "root", start: int = 10, **fields: Any) -> SpanRecord:
    return SpanRecord(span_id=span_id or name, parent_id=parent, name=name, start_ns=start, end_ns=start + 5, **fields)


def expectation(
    name: str, value: object, *, at: int = 1, source: str = "HUMAN", who: str = "reviewer"
) -> AssessmentRecord:
    return AssessmentRecord(
        name=name, kind="expectation", value=value, source_type=source, source_id=who, timestamp_ms=at
    )


CANDIDATES = {
    "candidate_ids": ["a::0", "b::0"],
    "document_ids": ["a", "b"],
    "retrieval_ranks": [1, 2],
    "retrieval_scores": [0.03, 0.02],
}
TRACE = TraceRecord(
    trace_id="tr-1",
    timestamp_ms=1_000,
    duration_ms=7,
    state="OK",
    tags={
        "release_bundle": "2026.03.24-rc2",
        "session_id": "s1",
        "intent": "return_item",
        "intent_model_version": "4",
        "cache_hit": "false",
        "experiment_id": "",
    },
    user_key="u-" + "0" * 20,
    spans=(
        span("chat_turn", span_id="root", parent=None, start=1, inputs={"message": "hi"}, outputs={"answer": "hello"}),
        span("intent_classification", attributes={"confidence": 0.75, "intent": "return_item"}),
        span("retrieve_chunks", attributes={**CANDIDATES, "selected_ids": ["b::0"]}),
        span("rerank_chunks", attributes={**CANDIDATES, "rerank_ranks": [2, 1], "rerank_scores": [0.1, 0.9]}),
        span("guardrails", attributes={"blocked": True, "reasons": ["ungrounded"]}),
    ),
)


def with_span(trace: TraceRecord, name: str, **fields: Any) -> TraceRecord:
    return replace(trace, spans=tuple(replace(one, **fields) if one.name == name else one for one in trace.spans))


def confidence(value: object) -> TraceRecord:
    return with_span(TRACE, "intent_classification", attributes={"confidence": value})


def turn_of(trace: TraceRecord) -> ChatTurn:
    parsed = parse_turn(trace)
    assert isinstance(parsed, ChatTurn), parsed
    return parsed


def reason_of(trace: TraceRecord) -> str:
    parsed = parse_turn(trace)
    assert isinstance(parsed, Quarantined), parsed
    return parsed.reason


def test_a_valid_trace_becomes_a_turn_with_all_it_says():
    turn = turn_of(TRACE)
    assert (turn.trace_id, turn.timestamp_ms, turn.duration_ms, turn.state) == ("tr-1", 1_000, 7, "OK")
    assert (turn.message, turn.answer, turn.session_id, turn.user_key) == ("hi", "hello", "s1", "u-" + "0" * 20)
    assert (turn.intent, turn.intent_confidence, turn.intent_model_version) == ("return_item", 0.75, "4")
    assert turn.cache_hit is False
    assert turn.experiment_id is None
    assert turn.guardrail_blocked
    assert turn.guardrail_reasons == ("ungrounded",)
    first, second = turn.candidates
    assert (first.chunk_id, first.retrieval_rank, first.rerank_rank, first.selected) == ("a::0", 1, 2, False)
    assert (second.document_id, second.rerank_score, second.selected) == ("b", 0.9, True)


def test_whose_shopper_it_was_is_a_tag_that_may_be_missing():
    assert turn_of(TRACE).tenant is None
    assert turn_of(replace(TRACE, tags={**TRACE.tags, "tenant": "store-berlin"})).tenant == "store-berlin"


def test_candidates_come_from_retrieval_where_reranking_failed():
    turn = turn_of(with_span(TRACE, "rerank_chunks", attributes={}))
    assert [candidate.rerank_rank for candidate in turn.candidates] == [None, None]
    assert turn.candidates[1].selected


@pytest.mark.parametrize("tag", ["release_bundle", "session_id"])
def test_a_trace_without_bundle_or_session_goes_to_quarantine(tag):
    tags = {name: value for name, value in TRACE.tags.items() if name != tag}
    assert reason_of(replace(TRACE, tags=tags)).startswith(f"{tag} is missing: nothing at tags/{tag} nor at ")


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (replace(TRACE, tags={**TRACE.tags, "release_bundle": "../etc"}), "not a valid bundle key"),
        (replace(TRACE, tags={**TRACE.tags, "session_id": "a\nb"}), "session_id cannot be read: tags/session_id is"),
        (replace(TRACE, state="IN_PROGRESS"), "never ended"),
        (replace(TRACE, spans=()), "message is missing: the trace has no spans"),
        (with_span(TRACE, "chat_turn", inputs=None), "message is missing: nothing at root.inputs/message"),
        (
            with_span(TRACE, "chat_turn", inputs={"message": 5}),
            "cannot be read: root.inputs/message is a number",
        ),
    ],
)
def test_a_trace_without_bundle_session_or_message_goes_to_quarantine_with_its_reason(broken, reason):
    assert reason in reason_of(broken)


@pytest.mark.parametrize(
    ("broken", "problem", "missing"),
    [
        (replace(TRACE, tags={**TRACE.tags, "cache_hit": "maybe"}), "cache_hit: tags/cache_hit is text", "cache_hit"),
        (replace(TRACE, tags={**TRACE.tags, "user_feedback": "meh"}), "user_feedback: tags/user", "user_feedback"),
        (replace(TRACE, tags={**TRACE.tags, "prompt_version": "x" * 300}), "prompt_version: tags", "prompt_version"),
        (confidence("high"), "intent_confidence: intent_classification.attributes/confidence", "intent_confidence"),
        (confidence(float("nan")), "is not a finite number", "intent_confidence"),
        (confidence(1.5), "is not between 0 and 1", "intent_confidence"),
        (confidence([0.5]), "is a list, not a number", "intent_confidence"),
        (with_span(TRACE, "guardrails", attributes={"blocked": "perhaps"}), "blocked: span.attributes/blocked", None),
        (with_span(TRACE, "rerank_chunks", attributes={**CANDIDATES, "document_ids": ["a"]}), "1 entries for 2", None),
        (with_span(TRACE, "rerank_chunks", attributes={**CANDIDATES, "rerank_scores": [0.1]}), "1 entries for 2", None),
        (with_span(TRACE, "rerank_chunks", attributes={"candidate_ids": {"a": 1}}), "is an object, not a list", None),
        (replace(TRACE, assessments=(expectation("expected_intent", 5),)), "expected_intent: the", "expected_intent"),
        (replace(TRACE, assessments=(expectation("relevant_documents", [5]),)), "relevant_documents: the", None),
        (replace(TRACE, state="STATE_UNSPECIFIED"), "state: the trace has none", None),
    ],
)
def test_any_other_wrong_type_is_a_missing_part_and_the_turn_is_kept(broken, problem, missing):
    reading = read_trace(broken)
    assert isinstance(reading.outcome, ChatTurn)
    assert (reading.outcome.message, reading.outcome.session_id) == ("hi", "s1")
    assert any(problem in one for one in reading.problems), reading.problems
    if missing is not None:
        assert getattr(reading.outcome, missing) is None


def test_problems_and_reasons_hold_no_text_of_the_conversation():
    reading = read_trace(replace(confidence("hi"), tags={"release_bundle": "../hi", "session_id": "hi\nhi"}))
    assert isinstance(reading.outcome, Quarantined)
    assert "hi" not in " ".join((reading.outcome.reason, *reading.problems)).replace("/", " ").split()


def test_the_latest_human_review_counts_and_others_do_not():
    turn = turn_of(
        replace(
            TRACE,
            assessments=(
                expectation("expected_intent", "late", at=9, who="second"),
                expectation("expected_intent", "early", at=3),
                expectation("expected_intent", "judge", at=99, source="LLM_JUDGE"),
                expectation("relevant_documents", ["a", "b", "a"], at=4),
            ),
        )
    )
    assert (turn.expected_intent, turn.expected_documents, turn.reviewer) == ("late", ("a", "b"), "second")


def test_feedback_is_the_tag_or_else_the_assessment():
    thumb = AssessmentRecord(
        name="user_feedback", kind="feedback", value=False, source_type="HUMAN", source_id="x", timestamp_ms=1
    )
    assert turn_of(replace(TRACE, assessments=(thumb,))).user_feedback == "thumbs_down"
    tagged = replace(TRACE, tags={**TRACE.tags, "user_feedback": "thumbs_up"}, assessments=(thumb,))
    assert turn_of(tagged).user_feedback == "thumbs_up"


def test_an_error_names_the_deepest_span_that_failed():
    failed = replace(
        TRACE,
        state="ERROR",
        spans=(
            replace(TRACE.spans[0], status="ERROR", status_message="StageError: down"),
            span("retrieve_chunks", span_id="r", start=20, status="ERROR", status_message="StageError: down"),
            span(
                "rerank_chunks", span_id="k", parent="r", start=30, status="ERROR", status_message="a@example.com down"
            ),
        ),
    )
    turn = turn_of(failed)
    assert (turn.state, turn.failed_span, turn.error) == ("ERROR", "rerank_chunks", "[EMAIL] down")


def test_foreign_traces_are_redacted_and_foreign_user_ids_do_not_pass():
    turn = turn_of(
        replace(
            with_span(TRACE, "chat_turn", inputs={"message": "I am a@example.com"}, outputs={"answer": "MA-12345678"}),
            user_key="shopper-17",
        )
    )
    assert (turn.message, turn.answer, turn.user_key) == ("I am [EMAIL]", "[ORDER_ID]", None)


def test_traces_in_progress_are_counted_and_nothing_is_lost():
    reading = read_turns([TRACE, replace(TRACE, state="IN_PROGRESS"), replace(TRACE, spans=())])
    assert (len(reading.turns), len(reading.quarantined), reading.in_progress) == (1, 1, 1)


@pytest.mark.parametrize("key", ["2026.03.24-rc2", "a", "0_1", "x" * 63])
def test_valid_bundle_keys_pass(key):
    assert validate_bundle(key) == key


@pytest.mark.parametrize("key", ["", "-a", "a..b", "a/b", "x" * 64, "a b", "a,b", "a\n", "é", 5, None])
def test_invalid_bundle_keys_say_what_is_allowed(key):
    with pytest.raises(InvalidBundleError, match="1 to 63 letters"):
        validate_bundle(key)


KEY = b"k" * 32


def test_a_plain_user_id_of_another_tool_becomes_a_pseudonym_where_the_key_is_known():
    trace = replace(TRACE, user_key="jane@example.invalid")
    with_key = read_trace(trace, pseudonym_key=KEY)
    assert with_key.user_key == pseudonym("jane@example.invalid", KEY)
    assert with_key.outcome.user_key == with_key.user_key
    assert read_trace(trace).user_key is None


def test_a_name_has_one_placeholder_in_all_turns_of_a_session_and_another_elsewhere():
    def message(trace_id: str, session: str) -> str:
        root = replace(TRACE.spans[0], inputs={"message": "my name is Jane Invented"})
        tags = {**TRACE.tags, "session_id": session}
        spans = (root, *TRACE.spans[1:])
        outcome = read_trace(replace(TRACE, trace_id=trace_id, tags=tags, spans=spans), pseudonym_key=KEY).outcome
        assert isinstance(outcome, ChatTurn)
        assert outcome.learnable_text == "my name is [NAME]"
        return outcome.message

    assert message("tr-1", "one") == message("tr-2", "one")
    others = {message("tr-3", f"session-{n}") for n in range(5)}
    assert len(others) > 1


def test_reviews_are_all_assessments_but_the_thumb_and_no_free_text():
    def feedback(name: str, value: object, *, source: str = "LLM_JUDGE", at: int = 2) -> AssessmentRecord:
        return AssessmentRecord(
            name=name, kind="feedback", value=value, source_type=source, source_id="judge-1", timestamp_ms=at
        )

    turn = turn_of(
        replace(
            TRACE,
            assessments=(
                feedback("grounded", value=False),
                feedback("user_feedback", value=True, source="HUMAN"),
                feedback("comment", "Call Aya Tanaka"),
                feedback("name", "Tanaka"),
                feedback("helpful", "No", at=3),
                feedback("origin", value=True, source="SOURCE_TYPE_UNSPECIFIED"),
                expectation("expected_intent", " track_order ", at=5, who="second"),
                expectation("expected_intent", "return_item", at=4),
                expectation("expected_intent", "chitchat", at=6, source="LLM_JUDGE", who="claude"),
                expectation("relevant_documents", ["b", "a", "b"], at=1),
            ),
        )
    )
    assert [(one.name, one.values, one.source, one.source_id) for one in turn.reviews] == [
        ("relevant_documents", ("b", "a"), "human", "reviewer"),
        ("grounded", ("false",), "judge", "judge-1"),
        ("helpful", ("no",), "judge", "judge-1"),
        ("expected_intent", ("return_item",), "human", "reviewer"),
        ("expected_intent", ("track_order",), "human", "second"),
        ("expected_intent", ("chitchat",), "judge", "claude"),
    ]
    assert (turn.expected_intent, turn.reviewer) == ("track_order", "second")


@pytest.mark.parametrize(
    "typed", ["policies/returns.md", " policies/returns.md;;\n", "policies/returns.md,policies/returns.md"]
)
def test_documents_that_a_reviewer_typed_are_read(typed):
    turn = turn_of(replace(TRACE, assessments=(expectation("relevant_documents", typed),)))
    assert turn.expected_documents == ("policies/returns.md",)
    assert turn.reviews[0].values == ("policies/returns.md",)


def test_several_typed_documents_are_several():
    turn = turn_of(replace(TRACE, assessments=(expectation("relevant_documents", "a.md, titles.csv#17\nb.md; c.md"),)))
    assert turn.expected_documents == ("a.md", "titles.csv#17", "b.md", "c.md")


def test_an_empty_answer_names_no_document():
    assert turn_of(replace(TRACE, assessments=(expectation("relevant_documents", " "),))).expected_documents == ()
