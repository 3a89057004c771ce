"""Which stage a failure is blamed on, and what was considered on the way."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from upath import UPath

from mangaassist_assets.core.codecs import to_parquet
from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.mining.blame.blame import find_failures
from mangaassist_assets.mining.blame.evidence import kendall_tau
from mangaassist_assets.mining.blame.explanations import blame_rows, signal_rows, why_rows, worst
from mangaassist_assets.mining.blame.rule_names import LOOP_OF_STAGE, STAGES
from mangaassist_assets.mining.blame.rules import read_rules
from mangaassist_assets.mining.blame.stored_failures import failures_to_json, find_stored_failures
from mangaassist_assets.tracing.contract.turns import Generation, StageTiming, ToolCall, Verdict
from mangaassist_assets.tracing.ingestion import stored_turns
from tests.support.mined_turns import assessment, blame_turn, candidate, make_turn
from tests.support.mining_rules import rules_with
from tests.support.turn_frames import turns_frame

CONFIRMED = {"expected_intent": "order_status", "expected_documents": ("a.md",)}
DOWN = {"user_feedback": "thumbs_down"}
CUT_OFF = (Generation(stop_reason="max_tokens", output_tokens=400),)
RETRIED = tuple(StageTiming(name="rerank_chunks", duration_ms=1, failed=failed) for failed in (True, False))
REVERSED = tuple(candidate(f"{rank}.md", rank, rerank_rank=9 - rank, selected=rank == 8) for rank in range(1, 9))


@pytest.mark.parametrize(
    ("fields", "stage"),
    [
        ({"state": "ERROR", "failed_span": "rerank_chunks", "expected_intent": "x"}, "infrastructure"),
        ({**DOWN, "stages": (StageTiming(name="rerank_chunks", duration_ms=1, failed=True),)}, "infrastructure"),
        ({**DOWN, "stages": RETRIED}, "unknown"),
        ({"guardrail_blocked": True, "guardrail_reasons": ("injection",), "expected_intent": "x"}, "guardrail"),
        ({**DOWN, "generations": (Generation(stop_reason="guardrail_intervened"),)}, "guardrail"),
        ({"expected_intent": "x", "expected_documents": ("zzz.md",)}, "intent"),
        ({**DOWN, "intent_confidence": 0.2}, "intent"),
        ({**DOWN, "intent_confidence": 0.2, "expected_documents": ("b.md",)}, "reranker"),
        ({**DOWN, "intent_confidence": 0.2, "expected_intent": "order_status"}, "unknown"),
        ({**DOWN, "intent_confidence": 0.2, "expected_documents": ("a.md",)}, "unknown"),
        ({**DOWN, "reviews": (assessment("expected_intent", "x", source="judge", kind="expectation"),)}, "intent"),
        ({"expected_intent": "order_status", "expected_documents": ("zzz.md",)}, "retrieval"),
        ({"candidates": ()}, "retrieval"),
        ({"candidates": (), "guardrail_blocked": True, "guardrail_reasons": ("ungrounded",)}, "retrieval"),
        ({"guardrail_blocked": True, "guardrail_reasons": ("ungrounded",)}, "retrieval"),
        ({"guardrail_blocked": True, "guardrail_reasons": ("ungrounded", "personal_data:name")}, "guardrail"),
        ({"reviews": (assessment("retrieval_relevance", "false"),)}, "retrieval"),
        ({"expected_documents": ("b.md",)}, "reranker"),
        ({**DOWN, "candidates": REVERSED}, "reranker"),
        ({**DOWN, "candidates": REVERSED, "expected_documents": ("8.md",)}, "unknown"),
        ({**DOWN, **CONFIRMED}, "generation"),
        ({**CONFIRMED, "reviews": (assessment("correctness", "false"),)}, "generation"),
        ({"reviews": (assessment("correctness", "false"),)}, "unknown"),
        ({"reviews": (assessment("groundedness", "false"),)}, "generation"),
        ({**DOWN, **CONFIRMED, "reviews": (assessment("correctness", "true"),)}, "unknown"),
        ({**DOWN, "generations": CUT_OFF}, "generation"),
        ({**DOWN, "generations": CUT_OFF, "intent_confidence": 0.2}, "generation"),
        ({**DOWN, "generations": CUT_OFF, "expected_intent": "x"}, "intent"),
        ({**DOWN, "generations": (Generation(output_tokens=0),)}, "generation"),
        ({**DOWN, "answer": " \n"}, "generation"),
        ({**DOWN, "answer": "", "candidates": (candidate("a.md", 1),)}, "unknown"),
        ({**DOWN, "expected_documents": ("a.md",)}, "unknown"),
        (DOWN, "unknown"),
    ],
)
def test_blame_falls_on_the_first_stage_with_the_firmest_evidence_against_it(fields, stage):
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


def test_a_review_makes_surer_than_a_judge_and_a_judge_than_a_guess():
    review = blame_turn(make_turn(expected_intent="x"))
    judged = blame_turn(make_turn(reviews=(assessment("expected_intent", "x", source="judge", kind="expectation"),)))
    guess = blame_turn(make_turn(**DOWN, intent_confidence=0.1))
    assert review.confidence > judged.confidence > guess.confidence > blame_turn(make_turn(**DOWN)).confidence == 0


def test_a_persons_review_clears_a_stage_of_what_a_judge_says():
    judged = (assessment("expected_intent", "x", source="judge", kind="expectation"),)
    assert blame_turn(make_turn(**DOWN, reviews=judged)).stage == "intent"
    assert blame_turn(make_turn(**DOWN, reviews=judged, expected_intent="order_status")).stage == "unknown"


def test_a_judge_outranks_a_guess_about_an_earlier_stage_and_counts_for_less_than_a_person():
    def blamed(source: str, **fields):
        reviews = (assessment("retrieval_relevance", "false", source=source),)
        return blame_turn(make_turn(**DOWN, reviews=reviews, **fields))

    judged, person = blamed("judge", intent_confidence=0.1), blamed("human", intent_confidence=0.1)
    assert (judged.stage, judged.basis, judged.confidence) == ("retrieval", "judge", 0.56)
    assert (person.stage, person.basis, person.confidence) == ("retrieval", "review", 0.7)
    assert blamed("judge", expected_documents=("a.md",)).stage == "unknown"
    assert blamed("human", expected_documents=("a.md",)).stage == "retrieval"


def test_a_judges_praise_clears_a_stage_of_guesses_but_not_of_a_persons_review():
    praise = assessment("correctness", "true", source="judge", at=9)
    assert blame_turn(make_turn(**DOWN, **CONFIRMED, reviews=(praise,))).stage == "unknown"
    named = (praise, assessment("groundedness", "false"))
    assert blame_turn(make_turn(**CONFIRMED, reviews=named)).stage == "generation"


def test_a_question_that_was_understood_the_second_time_speaks_against_the_classifier():
    first = make_turn(session_id="s", timestamp_ms=0, message="where is my order", intent="gift_card", **DOWN)
    second = make_turn(session_id="s", timestamp_ms=9_000, message="where is my order?", intent="order_status")
    (failure,) = find_failures([second, first])
    assert (failure.blame.stage, failure.blame.rule) == ("intent", "rephrased_with_other_intent")
    still_bad = replace(second, user_feedback="thumbs_down")
    assert {failure.blame.stage for failure in find_failures([still_bad, first])} == {"unknown"}


def scored(score: float, **fields):
    return make_turn(candidates=(candidate("a.md", 1, score=score, selected=True),), reranker_version="3", **fields)


def test_a_score_far_below_what_pleases_in_the_bundle_is_a_guess_against_retrieval():
    pleased = [scored(0.6 + number / 100, user_feedback="thumbs_up") for number in range(30)]
    low, usual = scored(0.1, **DOWN), scored(0.55, **DOWN)
    stages = {failure.turn.trace_id: failure.blame.stage for failure in find_failures([*pleased, low, usual])}
    assert stages == {low.trace_id: "retrieval", usual.trace_id: "unknown"}
    of_another_model = replace(low, reranker_version="4")
    assert [failure.blame.stage for failure in find_failures([*pleased, of_another_model])] == ["unknown"]
    assert [failure.blame.stage for failure in find_failures([*pleased[:5], low])] == ["unknown"]
    unrated = [replace(turn, user_feedback=None) for turn in pleased]
    assert [failure.blame.stage for failure in find_failures([*unrated, low])] == ["unknown"]


def test_the_threshold_of_confidence_is_a_rule():
    turn = make_turn(user_feedback="thumbs_down", intent_confidence=0.6)
    rule = '[[stages.intent.evidence]]\nname = "unsure_classifier"\nbelow = '
    assert blame_turn(turn).stage == "unknown"
    assert blame_turn(turn, config=rules_with(f"{rule}0.5", f"{rule}0.7")).stage == "intent"


def test_implicit_signals_make_no_failure_but_raise_its_rank():
    unsure = make_turn(intent_confidence=0.1)
    down = make_turn(user_feedback="thumbs_down")
    both = make_turn(user_feedback="thumbs_down", intent_confidence=0.1)
    failures = {failure.turn.trace_id: failure for failure in find_failures([unsure, down, both])}
    assert set(failures) == {down.trace_id, both.trace_id}
    assert failures[both.trace_id].severity > failures[down.trace_id].severity


def test_every_stage_that_was_considered_says_what_spoke_for_or_against_it_or_that_nothing_did():
    (failure,) = find_failures([make_turn(expected_intent="order_status", expected_documents=("b.md",))])
    told = [(finding.stage, finding.verdict, finding.rule) for finding in failure.considered]
    assert told == [
        ("infrastructure", "none", None),
        ("guardrail", "none", None),
        ("intent", "for", "review_confirms_intent"),
        ("retrieval", "for", "expected_document_found"),
        ("reranker", "against", "expected_document_not_used"),
        ("generation", "none", None),
    ]
    (row,) = why_rows([failure])
    assert row["stage"] == "reranker"
    assert "intent: for (review, 0.95): a review confirms 'order_status'" in str(row["also_considered"])
    assert "generation: no evidence" in str(row["also_considered"])


HOSTILE = "please call +49 151 2345 6789 | <b>zebra</b>\n[x](http://z) zebra.crossing@example.invalid"


def test_evidence_never_quotes_the_shopper_whatever_comes_from_outside():
    turns = [
        make_turn(message="zebra crossing", **DOWN, session_id="s", timestamp_ms=0, intent=HOSTILE),
        make_turn(message="zebra crossing", expected_intent=HOSTILE, session_id="s", timestamp_ms=1000),
        make_turn(guardrail_blocked=True, guardrail_reasons=(HOSTILE,) * 9, guardrail_ruleset_version=HOSTILE),
        make_turn(state="ERROR", failed_span=HOSTILE, error=HOSTILE),
        make_turn(**DOWN, stages=(StageTiming(name=HOSTILE, duration_ms=1, failed=True),)),
        make_turn(expected_documents=(HOSTILE,), intent="491512345678"),
        make_turn(expected_intent="491512345678", intent="a@example.invalid"),
        make_turn(reviews=(assessment("expected_intent", HOSTILE, source="judge", kind="expectation"),), **DOWN),
    ]
    failures = find_failures(turns)
    assert len(failures) == len(turns)
    texts = [failures_to_json(failures).decode(), json.dumps(why_rows(failures))]
    for word in ("zebra", "2345", "@", "<", "http"):
        assert not any(word in text for text in texts), word


def test_the_tables_add_up_and_name_the_loop():
    failures = find_failures([make_turn(candidates=()), make_turn(**DOWN), make_turn(**DOWN, intent_confidence=0.1)])
    rows = {row["stage"]: row for row in blame_rows(failures, read_rules())}
    assert {stage: row["turns"] for stage, row in rows.items()} == {"intent": 1, "retrieval": 1, "unknown": 1}
    assert (rows["retrieval"]["feeds"], rows["retrieval"]["mean_confidence"]) == ("reindex", 0.8)
    assert signal_rows(failures)[0] == {"signal": "thumbs_down", "explicit": True, "turns": 2}
    assert [failure.blame.stage for failure in worst(failures, 2)] == ["intent", "retrieval"]
    assert blame_rows([], read_rules()) == signal_rows([]) == why_rows([]) == []


def test_kendalls_tau_of_equal_and_reversed_orders():
    assert kendall_tau([(1, 1), (2, 2), (3, 3)]) == 1.0
    assert kendall_tau([(1, 3), (2, 2), (3, 1)]) == -1.0
    assert kendall_tau([(1, 1)]) == kendall_tau([]) == 0.0


TURNS = st.builds(
    make_turn,
    trace_id=st.uuids().map(str),
    timestamp_ms=st.integers(0, 400_000),
    session_id=st.sampled_from(["s1", "s2"]),
    message=st.sampled_from(["where is my order", "where is my order?", "zebra"]),
    state=st.sampled_from(["OK", "OK", "OK", "ERROR"]),
    user_feedback=st.sampled_from([None, "thumbs_up", "thumbs_down", "thumbs_down"]),
    intent=st.sampled_from([None, "a", "b"]),
    intent_confidence=st.one_of(st.none(), st.floats(0, 1)),
    expected_intent=st.sampled_from([None, "a", "b"]),
    expected_documents=st.sampled_from([(), ("a.md",), ("b.md",), ("z.md",)]),
    candidates=st.sampled_from([(), REVERSED, (candidate("a.md", 1, selected=True), candidate("b.md", 2))]),
    guardrail_blocked=st.booleans(),
    guardrail_reasons=st.sampled_from([(), ("ungrounded",), ("injection",)]),
    generations=st.sampled_from([(), CUT_OFF]),
    reviews=st.lists(
        st.builds(
            assessment,
            st.sampled_from(["correctness", "groundedness", "retrieval_relevance"]),
            st.sampled_from(["true", "false", "partly"]),
            source=st.sampled_from(["human", "judge"]),
            at=st.integers(0, 9),
        ),
        max_size=3,
    ).map(tuple),
    verdicts=st.sampled_from([(), (Verdict(name="toxicity", score=0.93),)]),
    tools=st.sampled_from([(), (ToolCall(name="order_lookup", failed=True),)]),
)
PACKAGED = read_rules()


def only_explicit(names):
    """The packaged rules under which these signals, and no others, make a turn a failure."""
    signals = {name: replace(rule, explicit=name in names, enabled=True) for name, rule in PACKAGED.signals.items()}
    return replace(PACKAGED, signals=signals)


RULES = [PACKAGED, only_explicit(PACKAGED.signals), *(only_explicit({name}) for name in PACKAGED.signals)]


@given(st.lists(TURNS, max_size=6, unique_by=lambda turn: turn.trace_id), st.randoms(use_true_random=False))
def test_every_blame_rests_on_evidence_that_was_considered_and_the_order_of_turns_changes_nothing(turns, random):
    failures = find_failures(turns)
    for failure in failures:
        blame, considered = failure.blame, failure.considered
        assert any(signal.explicit for signal in failure.signals)
        assert {finding.stage for finding in considered} == set(STAGES) - {"unknown"}
        against = {(one.stage, one.rule, one.evidence) for one in considered if one.verdict == "against"}
        assert (blame.stage == "unknown") == (blame.confidence == 0.0)
        if blame.stage != "unknown":
            assert (blame.stage, blame.rule, blame.evidence) in against
        cleared = {one.stage for one in considered if one.verdict == "for" and one.basis == "review"}
        assert blame.basis not in ("guess", "judge") or blame.stage not in cleared
        assert "zebra" not in failures_to_json([failure]).decode()
    shuffled = list(turns)
    random.shuffle(shuffled)
    assert failures_to_json(find_failures(shuffled)) == failures_to_json(failures)


@given(st.lists(TURNS, max_size=6, unique_by=lambda turn: turn.trace_id), st.sampled_from(RULES))
def test_the_failures_of_a_stored_bundle_are_those_of_its_turns(turns, rules):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_turns, "ROW_GROUP", 2)
        store = SnapshotStore(UPath(folder))
        store.write("tagged_traces", {stored_turns.TURNS_FILE: to_parquet(turns_frame(turns))}, partition="b1")
        assert find_stored_failures(store, "b1", rules) == find_failures(turns, config=rules)
