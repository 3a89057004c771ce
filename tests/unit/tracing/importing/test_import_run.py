"""Importing: written once, whole, whatever the order, the duplicates and the moment at which it was killed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.tracing.importing.import_run import (
    ImportCounts,
    ImportIncompleteError,
    RefusedTraceError,
    SpansToWrite,
    StoredTrace,
    import_spooled,
)
from mangaassist_assets.tracing.importing.imported_trace import (
    DIGEST_TAG,
    ImportedAssessment,
    ImportedSpan,
    ImportedTrace,
    UnreadableTraceError,
    digest_of,
)
from mangaassist_assets.tracing.importing.merging import MAXIMUM_SPANS, merged
from mangaassist_assets.tracing.importing.parsing import ImportReject, Part
from mangaassist_assets.tracing.importing.spool import spool
from tests.support.examples import examples


def span(number: int, **more: Any) -> ImportedSpan:
    fields: dict[str, Any] = {
        "parent_id": None if number == 1 else f"{1:016x}",
        "name": f"span {number}",
        "start_ns": number * 10_000_000,
        "end_ns": number * 10_000_000 + 5_000_000,
        **more,
    }
    return ImportedSpan(span_id=f"{number:016x}", **fields)


def assessment(name: str, **more: Any) -> ImportedAssessment:
    fields: dict[str, Any] = {
        "name": name,
        "kind": "feedback",
        "value": True,
        "source_type": "HUMAN",
        "source_id": "r",
        "created_ms": 1,
        "updated_ms": 1,
        **more,
    }
    return ImportedAssessment(assessment_id=f"a-{name}", original_id=f"native-{name}", **fields)


def whole(number: int, *spans: ImportedSpan, **more: Any) -> ImportedTrace:
    fields: dict[str, Any] = {
        "state": "OK",
        "timestamp_ms": 10,
        "duration_ms": 5,
        "tags": {"release_bundle": "b"},
        **more,
    }
    return ImportedTrace(trace_id=f"tr-{number:032x}", complete=True, spans=spans or (span(1), span(2)), **fields)


def part(number: int, *spans: ImportedSpan) -> ImportedTrace:
    return ImportedTrace(trace_id=f"tr-{number:032x}", spans=spans)


class Killed(BaseException):
    """The process ends here."""


@dataclass
class MemoryStore:
    """Keeps traces as an MLflow server does: spans by id, tags and metadata by key, assessments once each."""

    spans: dict[str, dict[str, ImportedSpan]] = field(default_factory=dict)
    infos: dict[str, ImportedTrace] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    assessments: dict[str, list[str]] = field(default_factory=dict)
    elsewhere: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    lost: bool = False
    dies_after: int | None = None
    writes: int = 0

    def _write(self) -> None:
        if self.dies_after is not None and self.writes >= self.dies_after:
            raise Killed
        self.writes += 1

    def stored(self, trace_ids: Sequence[str]) -> Mapping[str, StoredTrace]:
        if self.lost:
            return {}
        return {one: self._stored(one) for one in trace_ids if one in self.spans or one in self.elsewhere}

    def _stored(self, trace_id: str) -> StoredTrace:
        info = self.infos.get(trace_id)
        return StoredTrace(
            trace_id=trace_id,
            here=trace_id not in self.elsewhere,
            state=(info.state if info else None) or "OK",
            timestamp_ms=(info.timestamp_ms if info else None) or 0,
            duration_ms=info.duration_ms if info else None,
            settled=info is not None,
            tags=dict(self.tags.get(trace_id, {})),
            metadata=dict(info.metadata) if info else {},
            assessment_ids=frozenset(self.assessments.get(trace_id, [])),
        )

    def stored_spans(self, trace_id: str) -> Mapping[str, bool]:
        return {one.span_id: one.end_ns is not None for one in self.spans[trace_id].values()}

    def write_spans(self, spans: Sequence[SpansToWrite]) -> None:
        self._write()
        if any(one.trace_id in self.refused for one in spans):
            raise RefusedTraceError("the MLflow server refused it: HTTP 422, no code")
        for one in spans:
            self.spans.setdefault(one.trace_id, {}).update({span.span_id: span for span in one.spans})
            if any(span.parent_id is None for span in one.spans):
                self.tags.setdefault(one.trace_id, {}).update(one.tags)

    def write_info(self, trace: ImportedTrace) -> None:
        self._write()
        known = self.infos.get(trace.trace_id)
        metadata = {**(known.metadata if known else {}), **trace.metadata}
        self.infos[trace.trace_id] = replace(trace, metadata=metadata)
        self.tags.setdefault(trace.trace_id, {}).update(trace.tags)
        there = self.assessments.setdefault(trace.trace_id, [])
        there += [one.assessment_id for one in trace.assessments if one.assessment_id not in there]

    def write_overriding(self, trace_id: str, one: ImportedAssessment) -> None:
        self._write()
        assert one.overrides in self.assessments[trace_id]
        assert one.assessment_id not in self.assessments[trace_id], "a server refuses an id that is there"
        self.assessments[trace_id].append(one.assessment_id)

    def set_tag(self, trace_id: str, key: str, value: str) -> None:
        self._write()
        self.tags[trace_id][key] = value

    def content(self) -> object:
        return self.spans, self.tags, {key: sorted(value) for key, value in self.assessments.items()}


def run(
    store: MemoryStore, *traces: ImportedTrace, progress: Any = None, rejects: list[ImportReject] | None = None
) -> ImportCounts:
    kept = [] if rejects is None else rejects
    with spool() as spooled:
        for number, one in enumerate(traces, start=1):
            spooled.add(Part(line_number=number, trace=one))
        spooled.close_input()
        return import_spooled(spooled, store, on_reject=kept.append, progress=progress)


def test_every_trace_is_written_once_and_counted():
    store = MemoryStore()
    seen: list[tuple[int, int]] = []
    traces = [whole(number, assessments=(assessment("x"),)) for number in range(1, 151)]
    counts = run(store, *traces, progress=lambda done, total: seen.append((done, total)))
    assert (counts.traces, counts.written, counts.spans, counts.assessments) == (150, 150, 300, 150)
    assert counts.bundles == {"b": 150}
    assert seen[-1] == (150, 150)
    assert len(seen) > 2
    before = store.writes
    again = run(store, *traces)
    assert (again.written, again.already_there, again.spans, again.assessments) == (0, 150, 0, 0)
    assert store.writes == before


def test_a_trace_that_is_refused_takes_no_other_with_it():
    store = MemoryStore(refused={f"tr-{7:032x}"})
    rejects: list[ImportReject] = []
    counts = run(store, *(whole(number) for number in range(1, 21)), rejects=rejects)
    assert (counts.written, counts.rejected) == (19, 1)
    assert [one.line_number for one in rejects] == [7]


def test_a_trace_of_another_experiment_is_left_alone():
    store = MemoryStore(elsewhere={f"tr-{1:032x}"})
    rejects: list[ImportReject] = []
    assert run(store, whole(1), whole(2), rejects=rejects).written == 1
    assert rejects == [ImportReject(line_number=1, reason="the server has a trace of this id in another experiment")]


@pytest.mark.parametrize(
    "trace",
    [
        whole(1, client_request_id="x" * 51),
        whole(1, metadata={"mlflow.trace.session": "x" * 251}),
        whole(1, assessments=(assessment("x", source_id="x" * 251),)),
        whole(1, span(1, attributes={"mlflow.spanType": "x" * 501})),
    ],
)
def test_what_the_server_cannot_keep_is_rejected_before_it_is_written(trace):
    store = MemoryStore()
    counts = run(store, trace, whole(2))
    assert (counts.written, counts.rejected) == (1, 1)
    assert trace.trace_id not in store.spans


OVERRIDDEN = (assessment("old", valid=False), assessment("new", overrides="a-old"), assessment("other"))
TRACES = (
    whole(1, assessments=OVERRIDDEN),
    whole(2),
    part(3, span(2)),
    part(3, span(1)),
    whole(4, metadata={"m": "1"}, assessments=(assessment("x"),)),
)


@pytest.mark.parametrize("moment", range(12))
def test_an_import_killed_at_any_write_is_finished_by_the_next_one(moment):
    expected = MemoryStore()
    run(expected, *TRACES)
    store = MemoryStore(dies_after=moment)
    killed = False
    try:
        run(store, *TRACES)
    except Killed:
        killed = True
    assert killed == (moment < expected.writes)
    store.dies_after = None
    counts = run(store, *TRACES)
    assert store.content() == expected.content()
    assert counts.written + counts.completed + counts.already_there == 4
    assert run(store, *TRACES).already_there == 4


def test_what_is_there_is_kept_and_what_is_lacking_is_added():
    store = MemoryStore()
    first = whole(
        1, span(1), tags={"release_bundle": "b", "user_feedback": "thumbs_up"}, assessments=(assessment("x"),)
    )
    run(store, first)
    store.tags[first.trace_id]["user_feedback"] = "thumbs_down"
    later = whole(
        1,
        span(1, name="renamed"),
        span(2),
        tags={"release_bundle": "b", "user_feedback": "thumbs_up", "intent": "order"},
        assessments=(assessment("x"), assessment("y")),
    )
    counts = run(store, later)
    assert (counts.completed, counts.spans, counts.assessments) == (1, 1, 1)
    tags = {key: value for key, value in store.tags[first.trace_id].items() if key != DIGEST_TAG}
    assert tags == {"release_bundle": "b", "user_feedback": "thumbs_down", "intent": "order"}
    assert store.spans[first.trace_id][f"{1:016x}"].name == "span 1"
    assert store.assessments[first.trace_id] == ["a-x", "a-y"]


def test_an_assessment_that_the_server_has_by_its_own_id_is_not_doubled():
    store = MemoryStore()
    run(store, whole(1))
    store.assessments[f"tr-{1:032x}"] = ["native-x"]
    counts = run(store, whole(1, assessments=(assessment("x"),)))
    assert (counts.completed, counts.assessments) == (1, 0)
    assert store.assessments[f"tr-{1:032x}"] == ["native-x"]


def test_a_replaced_assessment_without_its_successor_does_not_come_back_to_life():
    store = MemoryStore()
    counts = run(store, whole(1, assessments=(assessment("old", valid=False), assessment("kept"))))
    assert store.assessments[f"tr-{1:032x}"] == ["a-kept"]
    assert (counts.assessments, counts.superseded_assessments) == (1, 1)


def test_a_trace_in_progress_stays_so_until_a_later_import_finishes_it():
    store = MemoryStore()
    counts = run(store, part(1, span(1, end_ns=None), span(2)))
    trace_id = f"tr-{1:032x}"
    assert counts.in_progress == 1
    assert store.infos[trace_id].state == "IN_PROGRESS"
    counts = run(store, part(1, span(1), span(2)))
    assert (counts.completed, counts.spans, counts.in_progress) == (1, 1, 0)
    assert store.infos[trace_id].state == "OK"
    run(store, part(1, span(1, end_ns=None)))
    assert store.infos[trace_id].state == "OK"
    assert store.spans[trace_id][f"{1:016x}"].end_ns is not None


def test_what_cannot_be_read_back_is_an_error():
    store = MemoryStore()
    store.lost = True
    with pytest.raises(ImportIncompleteError, match=r"2 traces were written and cannot be read back, tr-0+1 for one"):
        run(store, whole(1), whole(2))


def test_a_trace_without_spans_or_with_too_many_is_rejected():
    with pytest.raises(UnreadableTraceError, match="no spans"):
        merged([replace(whole(1), spans=())])
    with pytest.raises(UnreadableTraceError, match="more than 20,000 spans"):
        merged([part(1, *(span(number) for number in range(1, MAXIMUM_SPANS + 2)))])


def test_a_trace_gets_the_tags_that_its_spans_tell():
    store = MemoryStore()
    genai = {"gen_ai.operation.name": "chat", "gen_ai.conversation.id": "s-4", "resource.release_bundle": "b4"}
    carried = {"mlflow.traceTag.release_bundle": "b5", "mlflow.traceTag.intent": "order"}
    counts = run(store, part(1, span(1, attributes=genai)), part(2, span(1, attributes=carried)))
    assert counts.bundles == {"b4": 1, "b5": 1}
    found = {
        trace_id[-1]: {key: one for key, one in tags.items() if key != DIGEST_TAG}
        for trace_id, tags in store.tags.items()
    }
    assert found == {
        "1": {"session_id": "s-4", "release_bundle": "b4"},
        "2": {"release_bundle": "b5", "intent": "order"},
    }
    there = run(MemoryStore(), whole(3, span(1, attributes=genai), tags={"release_bundle": "told"}))
    assert there.bundles == {"told": 1}


def test_duplicate_lines_are_counted_and_change_nothing():
    with spool() as spooled:
        for number, one in enumerate((whole(1), whole(2), whole(1)), start=1):
            spooled.add(Part(line_number=number, trace=one))
        spooled.close_input()
        assert (spooled.count(), spooled.duplicates()) == (2, 1)


PARTS = st.lists(
    st.sampled_from(
        [
            part(1, span(1)),
            part(1, span(1, end_ns=None)),
            part(1, span(2)),
            part(1, span(3), span(2)),
            whole(1, span(1), span(2), assessments=(assessment("x"),)),
            whole(1, span(1, end_ns=None), state="IN_PROGRESS"),
        ]
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=examples(200), deadline=None)
@given(PARTS, st.randoms(use_true_random=False))
def test_the_order_of_parts_changes_neither_spans_nor_state(parts, random):
    other = list(parts)
    random.shuffle(other)
    first, second = merged(parts), merged(other)
    assert (first.spans, first.state, first.tags, first.assessments) == (
        second.spans,
        second.state,
        second.tags,
        second.assessments,
    )
    assert merged([first, *other]).spans == first.spans
    if first == second:
        assert digest_of(first) == digest_of(second)
    in_parts, at_once = MemoryStore(), MemoryStore()
    for one in parts:
        run(in_parts, one)
    run(at_once, *parts)
    assert in_parts.spans == at_once.spans
