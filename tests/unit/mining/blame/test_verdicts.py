"""Words and scores of moderators, classifiers, guardrails and judges: what the rules make of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.mining.blame.blame import find_failures
from mangaassist_assets.mining.blame.explanations import off_scale_rows, signal_rows, verdict_rows, why_rows
from mangaassist_assets.mining.blame.rules import MiningRulesError, read_rules
from mangaassist_assets.mining.blame.verdicts import plain_name
from mangaassist_assets.tracing.contract.records import AssessmentRecord, SpanRecord, TraceRecord
from mangaassist_assets.tracing.contract.turns import ChatTurn, ToolCall, Verdict
from tests.support.mined_turns import assessment, blame_turn, find_signals, make_turn
from tests.support.mining_rules import rules_with
from tests.support.turn_frames import turns_frame
from tests.support.turn_reading import parse_turn

DOWN = {"user_feedback": "thumbs_down"}


def said(name: str, value: str | float, stage: str | None = None) -> Verdict:
    return Verdict(name=name, stage=stage, **({"text": value} if isinstance(value, str) else {"score": value}))


def signals(turn: ChatTurn, **options: Any) -> dict[str, bool]:
    return {one.name: one.explicit for one in find_signals([turn], **options).get(turn.trace_id, ())}


@pytest.mark.parametrize(
    ("verdict", "signal"),
    [
        (said("prompt_safety", "unsafe"), "failed_verdict"),
        (said("prompt_safety", "safe"), None),
        (said("Prompt-Safety", "unsafe"), "failed_verdict"),
        (said("moderation", "flagged"), "failed_verdict"),
        (said("moderation", "false"), None),
        (said("toxicity", 0.93), "failed_verdict"),
        (said("toxicity", 0.5), None),
        (said("toxicity", "toxic"), "failed_verdict"),
        (said("toxicity", "true"), "failed_verdict"),
        (said("toxicity", "false"), None),
        (said("toxicity", "non-toxic"), None),
        (said("groundedness", 0.2, "grounding_check"), "failed_verdict"),
        (said("groundedness", 0.5), None),
        (said("groundedness", "fail"), "failed_verdict"),
        (said("faithfulness", 0.41), "failed_verdict"),
        (said("hallucination", 0.9), "failed_verdict"),
        (said("answer_pii", "phone"), "failed_verdict"),
        (said("pii", "phone", "bedrock_generate"), "failed_verdict"),
        (said("pii", "phone", "pii_detection"), "noted_verdict"),
        (said("pii", "none"), None),
        (said("pii", 2.0), "noted_verdict"),
        (said("pii", 0.0), None),
        (said("pii_types", "email"), "noted_verdict"),
        (said("pii_detected", "true"), "noted_verdict"),
        (said("sentiment", "negative", "sentiment_analysis"), "noted_verdict"),
        (said("sentiment", "neutral"), None),
        (said("sentiment_score", -0.8), "noted_verdict"),
        (said("sentiment_score", 0.1), None),
        (said("politeness", "unsafe"), None),
        (said("politeness", -7.0), None),
    ],
)
def test_a_verdict_is_a_signal_by_what_the_rules_say_of_its_name(verdict, signal):
    found = signals(make_turn(verdicts=(verdict,)))
    assert found == ({} if signal is None else {signal: signal == "failed_verdict"})


def test_a_bad_mood_ranks_a_failure_and_makes_none_unless_the_rules_say_so():
    turn = make_turn(verdicts=(said("sentiment", "negative"),))
    assert find_failures([turn]) == []
    old = "[signals.noted_verdict]\nexplicit = false"
    assert len(find_failures([turn], config=rules_with(old, old.replace("false", "true")))) == 1


@pytest.mark.parametrize(
    ("name", "value", "failed"),
    [
        ("faithfulness", "0.41", True),
        ("faithfulness", "0.5", False),
        ("faithfulness", "0.97", False),
        ("Faithfulness", "0.41", True),
        ("AnswerRelevancy", "0.1", True),
        ("context precision", "0", True),
        ("correctness", "1", False),
        ("hallucination", "0.8", True),
        ("hallucination", "0.1", False),
        ("safety", "unsafe", True),
        ("safety", "safe", False),
        ("safety", "no", True),
        ("toxicity", "false", False),
        ("faithfulness", "4", False),
        ("faithfulness", "nan", False),
        ("my_metric", "0.01", False),
    ],
)
@pytest.mark.parametrize("source", ["judge", "code", "human"])
def test_a_judges_score_fails_below_its_threshold(name, value, failed, source):
    turn = make_turn(reviews=(assessment(name, value, source=source),))
    assert signals(turn) == ({"failed_review": True} if failed else {})


def test_the_sentence_gives_score_and_threshold():
    turn = make_turn(
        reviews=(assessment("faithfulness", "0.41", source="judge"),),
        verdicts=(said("prompt_safety", "unsafe"), said("toxicity", 0.93)),
    )
    review, verdict = find_signals([turn])[turn.trace_id]
    assert review.evidence == "a judge said no to 'faithfulness' (0.41, below 0.5)"
    assert verdict.evidence == (
        "the trace's verdicts say no to 'prompt_safety' ('unsafe'), 'toxicity' (0.93, above 0.5)"
    )


def test_a_threshold_on_another_scale_is_written_on_that_scale():
    rules = rules_with("\nfaithfulness = 0.5", "\nfaithfulness = 3")
    for score, failed in (("2", True), ("3", False), ("5", False)):
        turn = make_turn(reviews=(assessment("faithfulness", score, source="judge"),))
        assert bool(signals(turn, config=rules)) is failed
    assert off_scale_rows(turns_frame([turn]), rules) == []


def test_a_score_off_the_scale_of_its_threshold_neither_fails_nor_passes_and_is_told():
    turns = [
        make_turn(**DOWN, reviews=(assessment("correctness", "4", source="judge"),)),
        make_turn(reviews=(assessment("correctness", "87"),)),
        make_turn(verdicts=(said("toxicity", 93.0), said("pii", 3.0), said("politeness", 9.0))),
        make_turn(reviews=(assessment("correctness", "0.9"),)),
    ]
    (failure,) = find_failures(turns)
    assert [one.rule for one in failure.considered if one.stage == "generation"] == [None]
    rows = {row["name"]: row for row in off_scale_rows(turns_frame(turns), read_rules())}
    assert {name: row["scores"] for name, row in rows.items()} == {"correctness": 2, "toxicity": 1}
    assert (rows["correctness"]["lowest"], rows["correctness"]["highest"]) == ("4.0", "87.0")
    assert "write it on their scale into [verdicts]" in rows["toxicity"]["said"]


@pytest.mark.parametrize(
    ("fields", "stage", "basis"),
    [
        ({"reviews": (assessment("faithfulness", "0.41", source="judge"),)}, "generation", "judge"),
        ({"reviews": (assessment("faithfulness", "0.41"),)}, "generation", "review"),
        ({"reviews": (assessment("groundedness", "0.1", source="code"),)}, "generation", "judge"),
        ({"reviews": (assessment("context_precision", "0.1", source="judge"),)}, "retrieval", "judge"),
        ({"reviews": (assessment("ContextRecall", "0.1", source="judge"),)}, "retrieval", "judge"),
        ({"reviews": (assessment("retrieval_relevance", "0.1", source="judge"),)}, "retrieval", "judge"),
        ({"reviews": (assessment("answer_relevancy", "0.1", source="judge"),)}, "unknown", None),
        ({"verdicts": (said("prompt_safety", "unsafe"),)}, "guardrail", "judge"),
        ({"verdicts": (said("toxicity", 0.9),)}, "guardrail", "judge"),
        ({"verdicts": (said("toxicity", 0.9, "guardrails"),)}, "guardrail", "judge"),
        ({"verdicts": (said("toxicity", 0.9, "bedrock_generate"),)}, "generation", "judge"),
        ({"verdicts": (said("answer_toxicity", 0.9),)}, "generation", "judge"),
        ({"verdicts": (said("response_safety", "unsafe"),)}, "generation", "judge"),
        ({"verdicts": (said("faithfulness", 0.1),)}, "generation", "judge"),
        ({"verdicts": (said("context_precision", 0.1),)}, "retrieval", "judge"),
        ({"verdicts": (said("guardrail_action", "intervened", "guardrails"),)}, "guardrail", "judge"),
        ({**DOWN, "tools": (ToolCall(name="order_lookup", failed=True),)}, "infrastructure", "fact"),
    ],
)
def test_a_verdict_is_evidence_against_the_stage_it_speaks_of(fields, stage, basis):
    (failure,) = find_failures([make_turn(**fields)])
    assert (failure.blame.stage, failure.blame.basis) == (stage, basis)


def test_a_judges_score_counts_for_the_judges_share_and_a_good_one_clears_of_guesses():
    low = blame_turn(make_turn(reviews=(assessment("faithfulness", "0.41", source="judge"),)))
    assert low.confidence == pytest.approx(0.85 * read_rules().judge_factor)
    confirmed = {"expected_intent": "order_status", "expected_documents": ("a.md",), **DOWN}
    assert blame_turn(make_turn(**confirmed)).stage == "generation"
    good = (assessment("correctness", "0.9", source="judge"),)
    assert blame_turn(make_turn(**confirmed, reviews=good)).stage == "unknown"


def test_a_person_overrules_a_verdict_on_the_trace():
    toxic = (said("toxicity", 0.9),)
    assert signals(make_turn(verdicts=toxic, reviews=(assessment("toxicity", "false"),))) == {}
    by_judge = (assessment("toxicity", "false", source="judge"),)
    assert signals(make_turn(verdicts=toxic, reviews=by_judge)) == {"failed_verdict": True}


def test_a_tool_whose_last_call_failed_is_named_and_one_that_worked_when_tried_again_is_not():
    calls = [ToolCall(name="order_lookup", failed=failed, error="boom 5551234567") for failed in (True, False)]
    assert signals(make_turn(tools=(calls[0], calls[1]))) == {}
    turn = make_turn(**DOWN, tools=(calls[1], calls[0], ToolCall(name="stock", failed=False)))
    (failure,) = find_failures([turn])
    assert (failure.blame.stage, failure.blame.rule, failure.blame.loop) == ("infrastructure", "tool_failed", "none")
    assert failure.blame.evidence == "the last call of 'order_lookup' failed"
    assert "tool_failed" in {row["signal"] for row in signal_rows([failure])}
    assert "boom" not in json.dumps(why_rows([failure]))


def test_what_verdicts_and_tools_are_called_is_never_quoted_unless_it_is_a_plain_name():
    hostile = "call me +49 151 2345 6789 | <b>zebra</b>"
    turn = make_turn(
        **DOWN,
        verdicts=(said("pii_types", hostile), said("moderation", "unsafe", hostile), said(hostile, "unsafe")),
        tools=(ToolCall(name=hostile, failed=True),),
    )
    (failure,) = find_failures([turn])
    told = json.dumps(why_rows([failure]))
    assert "'moderation' ('unsafe')" in told
    assert not any(word in told for word in ("zebra", "2345", "<"))


EVERY_KIND = st.sampled_from(
    [
        {},
        {"state": "ERROR"},
        {"candidates": ()},
        {"candidates": (), "candidate_count": None},
        {"guardrail_blocked": True},
        {"intent_confidence": 0.1},
        {"verdicts": (said("toxicity", 0.9),)},
        {"reviews": (assessment("groundedness", "0.1", source="judge"),)},
        {"tools": (ToolCall(name="t", failed=True),)},
    ]
)


@given(
    EVERY_KIND,
    st.builds(
        Verdict,
        name=st.text(max_size=20),
        text=st.one_of(st.none(), st.text(max_size=20), st.sampled_from(["unsafe", "true", "fail", "no"])),
        score=st.one_of(st.none(), st.floats()),
        stage=st.sampled_from([None, "guardrails", "bedrock_generate", "other"]),
    ).filter(
        lambda one: (
            plain_name(one.name) not in read_rules().verdicts.names
            and f"{one.stage}/{plain_name(one.name)}" not in read_rules().verdicts.names
        )
    ),
    st.sampled_from([(), make_turn().stages]),
)
def test_a_verdict_of_a_name_that_no_rule_knows_changes_neither_blame_nor_signals(fields, unknown, stages):
    turn = make_turn(**DOWN, **fields, stages=stages)
    (failure,) = find_failures([turn])
    (changed,) = find_failures([replace(turn, verdicts=(*turn.verdicts, unknown))])
    assert (changed.blame, changed.signals, changed.considered) == (failure.blame, failure.signals, failure.considered)


def trace_with(
    spans: list[tuple[str, dict[str, Any]]], *, tags: dict[str, str] | None = None, **fields: Any
) -> ChatTurn:
    start = 1_772_000_000_000_000_000
    root = SpanRecord(
        span_id="root", parent_id=None, name="handle", start_ns=start, end_ns=start + 9_000_000,
        inputs={"message": "where is my parcel"}, outputs="Within two days.",
    )  # fmt: skip
    children = [
        SpanRecord(
            span_id=f"s{number}",
            parent_id="root",
            name=name,
            start_ns=start + number,
            end_ns=start + 10 + number,
            **more,
        )
        for number, (name, more) in enumerate(spans)
    ]
    trace = TraceRecord(
        trace_id="tr-1", timestamp_ms=start // 1_000_000, duration_ms=9, state="OK",
        tags={"release_bundle": "2026.05.01-rc1", "session_id": "sess_1", **(tags or {})},
        spans=(root, *children), **fields,
    )  # fmt: skip
    turn = parse_turn(trace)
    assert isinstance(turn, ChatTurn), turn
    return turn


def test_the_counters_action_and_text_of_a_guardrail_span_are_a_block():
    attributes = {"pii_count": 2, "checks": 5, "action": "BLOCKED", "blocked": "true", "reasons": ["denied_topic"]}
    turn = trace_with([("guardrail_check", {"attributes": attributes})])
    (failure,) = find_failures([turn])
    assert "guardrail_block" in signals(turn)
    assert (failure.blame.stage, failure.blame.rule) == ("guardrail", "blocked")


def test_toxicity_and_personal_data_on_a_trace_are_signals_and_evidence():
    attributes = {"toxicity": 0.93, "prompt_safety": "unsafe", "pii": "PHONE"}
    turn = trace_with([("comprehend.moderation", {"attributes": attributes})])
    assert signals(turn) == {"failed_verdict": True, "noted_verdict": False}
    assert blame_turn(turn).stage == "guardrail"
    tagged = trace_with([], tags={"prompt_safety": "unsafe"})
    assert signals(tagged) == {"failed_verdict": True}


def test_a_judges_score_on_a_trace_is_a_signal_and_evidence_against_the_writing_model():
    judged = AssessmentRecord(
        name="faithfulness", kind="feedback", value=0.41, source_type="LLM_JUDGE", source_id="m", timestamp_ms=1
    )
    turn = trace_with([], assessments=(judged,))
    assert signals(turn) == {"failed_review": True}
    assert (blame_turn(turn).stage, blame_turn(turn).basis) == ("generation", "judge")


def test_a_tool_that_failed_on_a_trace_is_blamed():
    turn = trace_with(
        [("order_lookup", {"span_type": "TOOL", "status": "ERROR", "status_message": "timed out"})],
        tags={"user_feedback": "thumbs_down"},
    )
    assert blame_turn(turn).evidence == "the last call of 'order_lookup' failed"


FAITHFUL = "\nfaithfulness = 0.5"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (FAITHFUL, '\nfaithfulness = "half"', r"verdicts\.below\.faithfulness is 'half', not a number"),
        (FAITHFUL, "\nfaithfulness = nan", r"verdicts\.below\.faithfulness is nan"),
        (FAITHFUL, "\nfaithfulness = 0.5\nFaithfulness = 0.6", r"verdicts\.below\.Faithfulness is given twice"),
        (FAITHFUL, "\nfaithfulnes = 0.5", r"verdicts\.below\.faithfulnes is used by no signal and no evidence"),
        (FAITHFUL, "\nhallucination = 0.5", r"verdicts\.above\.hallucination also stands in verdicts\.below"),
        (FAITHFUL, '\n"a/b/c" = 0.5', r"verdicts\.below\.'a/b/c' is no name: write NAME or STAGE/NAME"),
        ('\npii = ["*"]', "\npii = []", r"verdicts\.fails\.pii is empty"),
        ('\npii = ["*"]', '\npii = "*"', r"verdicts\.fails\.pii is '\*', not a list of names"),
        ("[verdicts.above]", "[verdicts.over]", r"verdicts\.over is unknown; there are above, below, fails, harmless"),
        ('"pii_types", "pii_detected"]', '"pii_kinds"]', r"signals\.noted_verdict\.verdicts names 'pii_kinds', which"),
        (
            'verdicts = ["context_precision", "context_recall"]',
            'verdicts = ["context_recal"]',
            r"stages\.retrieval\.evidence\.verdicts names 'context_recal', which \[verdicts\] gives no meaning",
        ),
    ],
)
def test_a_wrong_meaning_is_refused_by_the_name_of_its_key(old, new, message):
    with pytest.raises(MiningRulesError, match=message):
        rules_with(old, new)


def test_the_digest_knows_a_threshold_and_an_auditor_sees_it():
    assert rules_with(FAITHFUL, "\nfaithfulness = 0.6").digest != read_rules().digest
    rows = {row["name"]: row for row in verdict_rows(read_rules())}
    assert rows["faithfulness"]["fails_below"] == 0.5
    assert rows["pii"] == {"name": "pii", "words_that_fail": "*", "fails_above": 0.0, "fails_below": None}


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("AnswerRelevancy", "answer_relevancy"),
        ("answer-relevancy", "answer_relevancy"),
        (" Answer  Relevancy ", "answer_relevancy"),
        ("answer__relevancy_", "answer_relevancy"),
        ("bedrock_generate/Toxicity", "bedrock_generate/toxicity"),
        ("PII", "pii"),
        ("", ""),
    ],
)
def test_names_are_compared_without_case_spaces_and_dashes(written, plain):
    assert plain_name(written) == plain
