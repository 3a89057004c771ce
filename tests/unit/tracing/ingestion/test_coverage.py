"""Coverage of the trace contract: shares over what can be expected, and what the thresholds say of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.tracing.contract.names import SpanName, Tag
from mangaassist_assets.tracing.ingestion.coverage import (
    Coverage,
    CoverageThresholds,
    Threshold,
    TracePresence,
    coverage,
    judge,
)

ALL_TAGS = frozenset(str(tag) for tag in Tag)
ALL_SPANS = frozenset(str(span) for span in SpanName)


def row(number: int = 1, **more: Any) -> TracePresence:
    fields: dict[str, Any] = {"tags": ALL_TAGS, "spans": ALL_SPANS, "state": "OK", "candidates": 5, **more}
    return TracePresence(trace_id=f"tr-{number}", **fields)


def without(spans: set[str] | None = None, tags: set[str] | None = None) -> dict[str, Any]:
    return {"spans": ALL_SPANS - (spans or set()), "tags": ALL_TAGS - (tags or set())}


def test_full_traces_are_covered_fully():
    found = coverage([row(1), row(2)])
    assert (found.traces, found.in_progress) == (2, 0)
    assert all(share.value in (1.0, None) and share.overall == 1.0 for share in found.shares)
    assert judge(found, CoverageThresholds(minimum_traces=1)).severity is None


@pytest.mark.parametrize(
    ("trace", "kind", "name"),
    [
        (row(blocked=True, **without({"bedrock_generate"})), "span", "bedrock_generate"),
        (row(blocked=True, **without({"intent_classification"}, {"intent"})), "tag", "intent"),
        (row(candidates=0, **without({"rerank_chunks"}, {"reranker_version"})), "span", "rerank_chunks"),
        (row(candidates=0, **without({"rerank_chunks"}, {"reranker_version"})), "tag", "reranker_version"),
        (row(state="ERROR", **without({"guardrails", "build_prompt"})), "span", "guardrails"),
        (row(**without(tags={"user_feedback"})), "tag", "user_feedback"),
        (row(**without({"retrieve_chunks", "vector_search"}, {"index_generation"})), "tag", "index_generation"),
    ],
)
def test_what_cannot_be_expected_of_a_trace_does_not_count_against_it(trace, kind, name):
    share = coverage([trace]).share(kind, name)
    assert (share.expected, share.value, share.present) == (0, None, 0)


@pytest.mark.parametrize(
    ("trace", "kind", "name"),
    [
        (row(**without({"bedrock_generate"})), "span", "bedrock_generate"),
        (row(**without({"rerank_chunks"})), "span", "rerank_chunks"),
        (row(state="ERROR", **without(tags={"session_id"})), "tag", "session_id"),
        (row(blocked=True, **without({"guardrails"})), "span", "guardrails"),
        (row(**without({"retrieve_chunks"})), "span", "retrieve_chunks"),
    ],
)
def test_what_is_missing_where_it_is_expected_counts_with_an_example(trace, kind, name):
    share = coverage([trace, row(2)]).share(kind, name)
    assert (share.expected, share.met, share.value, share.example) == (2, 1, 0.5, "tr-1")


def test_traces_in_progress_are_counted_apart():
    found = coverage([row(state="IN_PROGRESS", **without({"chat_turn"})), row()])
    assert (found.traces, found.in_progress, found.share("span", "chat_turn").value) == (1, 1, 1.0)


def covered(missing: int, of: int, **lack: Any) -> Coverage:
    return coverage([row(number, **(without(**lack) if number < missing else {})) for number in range(of)])


def test_one_trace_without_its_bundle_warns_and_one_in_five_is_an_error():
    judged = judge(covered(1, 100, tags={"release_bundle"}))
    assert (judged.severity, judged.enough) == ("warn", True)
    assert judged.shortfalls[0].describe() == (
        "tag release_bundle: 99 of 100 traces (99.0%), at least 100.0% expected; missing for example in tr-0"
    )
    assert judge(covered(20, 100, tags={"release_bundle"})).severity == "error"


def test_what_other_tools_do_not_know_only_warns():
    assert judge(covered(100, 100, spans={"guardrails"}, tags={"intent"})).severity == "warn"


def test_errors_come_first_then_the_lowest_share():
    judged = judge(covered(50, 100, spans={"guardrails"}, tags={"session_id", "intent"}))
    assert judged.shortfalls[0].share.name == "session_id"
    assert [one.severity for one in judged.shortfalls] == ["error", "warn", "warn"]


def test_too_few_traces_are_no_evidence():
    judged = judge(covered(5, 5, tags={"session_id"}))
    assert (judged.enough, judged.severity) == (False, None)
    assert judge(coverage([])).enough is False


def test_a_threshold_must_make_sense_and_name_something_of_the_contract():
    with pytest.raises(ValueError, match="error_below <= warn_below"):
        Threshold(kind="tag", name="intent", warn_below=0.5, error_below=0.9)
    rules = CoverageThresholds(minimum_traces=1, thresholds=(Threshold(kind="tag", name="nope", warn_below=1.0),))
    with pytest.raises(KeyError, match="tag nope is not in the trace contract"):
        judge(coverage([row()]), rules)


@given(
    st.lists(
        st.builds(
            TracePresence,
            trace_id=st.text(max_size=3),
            tags=st.frozensets(st.sampled_from(sorted(ALL_TAGS))),
            spans=st.frozensets(st.sampled_from(sorted(ALL_SPANS))),
            state=st.sampled_from(["OK", "ERROR", "IN_PROGRESS"]),
            candidates=st.none() | st.integers(0, 3),
            blocked=st.booleans(),
        ),
        max_size=20,
    )
)
def test_every_share_is_a_share(rows):
    found = coverage(rows)
    assert found.traces + found.in_progress == len(rows)
    for share in found.shares:
        assert 0 <= share.met <= share.expected <= found.traces
        assert share.met <= share.present <= found.traces
        assert (share.example is None) == (share.met == share.expected)
