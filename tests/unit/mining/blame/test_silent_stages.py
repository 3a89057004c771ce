"""A stage that its trace tells nothing of: it is named, and nothing but a review blames it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.mining.blame.blame import find_failures
from mangaassist_assets.mining.blame.explanations import not_judged_rows, why_rows
from mangaassist_assets.mining.blame.turn_context import best_score
from mangaassist_assets.tracing.contract.turns import ChatTurn, Generation, RankedCandidate, StageTiming, Verdict
from tests.support.mined_turns import assessment, blame_turn, candidate, find_signals, make_turn
from tests.support.mining_rules import rules_with

DOWN = {"user_feedback": "thumbs_down"}
NOTHING: dict[str, Any] = {
    "intent": None,
    "intent_confidence": None,
    "candidates": (),
    "candidate_count": None,
    "answer": None,
    "stages": (),
}
UNRANKED = (RankedCandidate(chunk_id="c", document_id="d", retrieval_rank=1),)


def untold(turn: ChatTurn, **options: Any) -> dict[str, str]:
    (failure,) = find_failures([turn], **options)
    return {one.stage: one.evidence for one in failure.considered if one.verdict == "untold"}


def test_a_trace_that_tells_nothing_says_so_of_every_stage_but_infrastructure():
    assert untold(make_turn(**DOWN, **NOTHING)) == {
        "guardrail": "cannot be blamed: the trace tells no guardrail's verdict",
        "intent": "cannot be blamed: the trace tells neither an intent nor a confidence",
        "retrieval": "cannot be blamed: the trace tells no candidates",
        "reranker": "cannot be blamed: the trace tells neither an order nor scores of a reranker",
        "generation": "cannot be blamed: the trace tells no answer, no tokens and no stop reason",
    }


def test_a_trace_of_our_own_chatbot_leaves_nothing_untold():
    assert untold(make_turn(**DOWN)) == {}


@pytest.mark.parametrize(
    ("told", "stage"),
    [
        ({"intent": "gift_card"}, "intent"),
        ({"intent_confidence": 0.9}, "intent"),
        ({"candidate_count": 7}, "retrieval"),
        ({"candidates": UNRANKED}, "retrieval"),
        ({"reviews": (assessment("retrieval_relevance", "true", source="judge"),)}, "retrieval"),
        ({"reviews": (assessment("context_precision", "0.9", source="judge"),)}, "retrieval"),
        ({"candidates": (candidate("a.md", 1, score=None),)}, "reranker"),
        ({"answer": "Tomorrow."}, "generation"),
        ({"generations": (Generation(output_tokens=7),)}, "generation"),
        ({"generations": (Generation(stop_reason="end_turn"),)}, "generation"),
        ({"reviews": (assessment("faithfulness", "0.9", source="judge"),)}, "generation"),
        ({"stages": (StageTiming(name="guardrails", duration_ms=1),)}, "guardrail"),
        ({"verdicts": (Verdict(name="toxicity", score=0.1),)}, "guardrail"),
        ({"generations": (Generation(stop_reason="guardrail_intervened"),)}, "guardrail"),
        ({"guardrail_reasons": ("checked",)}, "guardrail"),
    ],
)
def test_a_stage_can_be_judged_by_anything_that_the_trace_tells_of_it(told, stage):
    assert stage in untold(make_turn(**DOWN, **NOTHING))
    assert stage not in untold(make_turn(**DOWN, **{**NOTHING, **told}))


@pytest.mark.parametrize(
    ("told", "stage"),
    [
        ({"candidates": UNRANKED}, "reranker"),
        ({"generations": (Generation(model_id="m"),)}, "generation"),
        ({"verdicts": (Verdict(name="politeness", text="no"),)}, "guardrail"),
        ({"reviews": (assessment("context_precision", "4", source="judge"),)}, "retrieval"),
    ],
)
def test_what_says_nothing_of_a_stage_leaves_it_untold(told, stage):
    assert stage in untold(make_turn(**DOWN, **{**NOTHING, **told}))


@pytest.mark.parametrize(
    ("fields", "stage"),
    [
        ({"state": "ERROR"}, "generation"),
        ({"guardrail_blocked": True}, "retrieval"),
        ({"cache_hit": True, **DOWN}, "retrieval"),
        ({"candidate_count": 0}, "reranker"),
    ],
)
def test_a_stage_that_the_turn_did_not_pass_is_not_missing_in_its_trace(fields, stage):
    assert stage not in untold(make_turn(**{**NOTHING, **fields}))


def test_small_talk_needs_no_candidates_on_its_trace():
    rules = rules_with("intents_without_retrieval = []", 'intents_without_retrieval = ["greeting"]')
    turn = make_turn(**DOWN, **{**NOTHING, "intent": "greeting"})
    assert {"retrieval", "reranker"} <= set(untold(turn))
    assert not {"retrieval", "reranker"} & set(untold(turn, config=rules))


def test_an_unknown_blame_names_what_could_not_be_judged():
    told_all, told_little = make_turn(**DOWN), make_turn(**DOWN, candidates=UNRANKED)
    assert blame_turn(told_all).evidence == "no stage has evidence against it: a review would tell"
    assert blame_turn(told_little).evidence.endswith("; the trace tells nothing to judge reranker by")
    (row,) = why_rows(find_failures([told_little]))
    assert "reranker: cannot be blamed: the trace tells neither an order" in str(row["also_considered"])


def test_an_empty_search_is_one_that_the_trace_tells_of():
    def names(**fields: Any) -> list[str]:
        turn = make_turn(candidates=(), **fields)
        return [one.name for one in find_signals([turn]).get(turn.trace_id, ())]

    searched = (StageTiming(name="retrieve_chunks", duration_ms=1.0),)
    assert names(candidate_count=None, stages=searched) == []
    assert names(candidate_count=0, stages=searched) == ["empty_retrieval"]
    assert blame_turn(make_turn(candidates=(), candidate_count=0)).rule == "nothing_found"


def test_expected_documents_say_nothing_of_a_search_whose_chunks_are_not_told():
    expected = {"expected_documents": ("b.md",)}
    silent = make_turn(**DOWN, **{**NOTHING, "candidate_count": 5}, **expected)
    (failure,) = find_failures([silent])
    assert [one.name for one in failure.signals] == ["thumbs_down"]
    assert failure.blame.stage == "unknown"
    assert blame_turn(make_turn(candidates=(), candidate_count=0, **expected)).stage == "retrieval"


def test_a_found_document_was_not_passed_over_where_the_trace_names_no_chunk_that_was_used():
    chunks = (candidate("a.md", 1), candidate("b.md", 2))
    assert find_failures([make_turn(candidates=chunks, expected_documents=("b.md",))]) == []
    assert blame_turn(make_turn(**DOWN, candidates=chunks, expected_documents=("b.md",))).stage == "unknown"
    used = (candidate("a.md", 1, selected=True), candidate("b.md", 2))
    assert blame_turn(make_turn(candidates=used, expected_documents=("b.md",))).stage == "reranker"


def test_a_guess_by_elimination_does_not_blame_a_writing_model_that_the_trace_tells_nothing_of():
    confirmed = {**DOWN, "expected_intent": "order_status", "expected_documents": ("a.md",)}
    assert blame_turn(make_turn(**confirmed)).rule == "thumbs_down_with_right_inputs"
    silent = make_turn(**confirmed, answer=None)
    assert blame_turn(silent).stage == "unknown"
    assert "generation" in untold(silent)


def test_candidates_without_scores_are_no_low_scores():
    assert best_score(make_turn(candidates=UNRANKED)) is None
    odd = replace(UNRANKED[0], retrieval_score=float("nan"))
    assert best_score(make_turn(candidates=(odd,))) is None
    scored = (replace(UNRANKED[0], retrieval_score=0.9),)
    pleased = [make_turn(candidates=scored, user_feedback="thumbs_up") for _ in range(30)]
    (failure,) = find_failures([*pleased, make_turn(**DOWN, candidates=UNRANKED)])
    assert failure.blame.stage == "unknown"


def test_the_bundle_says_how_many_failures_could_not_be_judged_and_what_their_traces_lack():
    failures = find_failures(
        [
            *(make_turn(**DOWN, candidates=(), candidate_count=None) for _ in range(2)),
            *(make_turn(**DOWN) for _ in range(3)),
        ]
    )
    rows = {row["stage"]: row for row in not_judged_rows(failures)}
    assert rows["retrieval"]["said"] == (
        "retrieval: 2 of 5 failures could not be judged: the traces tell no candidates"
    )
    assert (rows["retrieval"]["not_judged"], rows["retrieval"]["share"]) == (2, 0.4)
    assert set(rows) == {"retrieval", "reranker"}
    assert not_judged_rows([]) == []


ABOUT: dict[str, dict[str, Any]] = {
    "guardrail": {"stages": (), "verdicts": (), "guardrail_blocked": False, "guardrail_reasons": ()},
    "intent": {"intent": None, "intent_confidence": None},
    "retrieval": {"candidates": (), "candidate_count": None, "guardrail_blocked": False},
    "reranker": {"candidates": UNRANKED},
    "generation": {"answer": None, "generations": ()},
}
REVERSED = tuple(candidate(f"{rank}.md", rank, rerank_rank=9 - rank, selected=rank == 8) for rank in range(1, 9))


@given(
    st.sampled_from(sorted(ABOUT)),
    st.fixed_dictionaries(
        {
            "state": st.sampled_from(["OK", "OK", "ERROR"]),
            "intent": st.sampled_from([None, "a"]),
            "intent_confidence": st.sampled_from([None, 0.1, 0.9]),
            "expected_intent": st.sampled_from([None, "a", "b"]),
            "expected_documents": st.sampled_from([(), ("a.md",), ("8.md",), ("z.md",)]),
            "candidates": st.sampled_from([(), UNRANKED, REVERSED, (candidate("a.md", 1, selected=True),)]),
            "answer": st.sampled_from([None, "", "Tomorrow."]),
            "generations": st.sampled_from(
                [(), (Generation(stop_reason="max_tokens"),), (Generation(output_tokens=0),)]
            ),
            "guardrail_blocked": st.booleans(),
            "guardrail_reasons": st.sampled_from([(), ("ungrounded",), ("injection",)]),
            "cache_hit": st.sampled_from([None, True]),
            "verdicts": st.sampled_from([(), (Verdict(name="prompt_safety", text="unsafe"),)]),
        }
    ),
)
def test_a_stage_that_the_trace_tells_nothing_of_is_blamed_by_reviews_only(stage, fields):
    turn = make_turn(**DOWN, **{**fields, **ABOUT[stage]})
    blame = blame_turn(turn)
    assert blame.stage != stage or blame.basis in ("review", "judge")
    if blame.basis == "judge":
        assert turn.reviews or turn.verdicts
