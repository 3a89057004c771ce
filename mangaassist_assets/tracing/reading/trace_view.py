"""A trace as a mapping sees it: its root, the spans of each stage, and what stands at a place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from mangaassist_assets.tracing.contract.names import SpanName
from mangaassist_assets.tracing.contract.records import SpanRecord, TraceRecord
from mangaassist_assets.tracing.contract.values import decoded
from mangaassist_assets.tracing.reading.duplicate_stages import distinct_stages
from mangaassist_assets.tracing.reading.mapping import Part, Place, Section, TraceMapping
from mangaassist_assets.tracing.reading.typed_values import WrongTypeError

T = TypeVar("T")
_MOST_PROBLEMS = 50


class TraceView:
    """The spans of a trace by stage. Never raises: what is odd about them stands in `problems`."""

    def __init__(self, trace: TraceRecord, mapping: TraceMapping, made: frozenset[str] = frozenset()) -> None:
        """Find the root and the spans of each stage; `made` are the ids of spans that an adapter added."""
        self.trace = trace
        self.problems: list[str] = []
        self.by_stage: dict[str, list[SpanRecord]] = {}
        self.stage_of: dict[str, str] = {}
        # Tools that one answer asks for begin together: what an adapter added stands in the order it was added.
        added = {span.span_id: place for place, span in enumerate(trace.spans) if span.span_id in made}
        spans = sorted(trace.spans, key=lambda span: (span.start_ns, added.get(span.span_id, -1), span.span_id))
        typed: set[str] = set()
        for span in spans:
            stages = mapping.stages_of(span.name, span.span_type)
            if stages and not mapping.stages_of(span.name, None):
                typed.add(span.span_id)
            # One's own name before a pattern: a retriever that is also a tool is a retriever.
            stage = str(span.name) if span.name in stages else next(iter(stages), None)
            if stage is not None:
                self.stage_of[span.span_id] = stage
            if len(stages) > 1 and stage != span.name:
                self.note(f"stages: a span is of {' and of '.join(stages)} by its name; {stage} has it")
        distinct = distinct_stages(spans, self.stage_of, made=made, typed=frozenset(typed))
        self.spans, self._within = distinct.spans, distinct.within
        self._attributes = frozenset(key for span in self.spans for key in span.attributes)
        self.stage_of = {key: stage for key, stage in self.stage_of.items() if key not in distinct.demoted}
        for span in self.spans:
            if (stage := self.stage_of.get(span.span_id)) is not None:
                self.by_stage.setdefault(stage, []).append(span)
        self.root = self._root()
        if self.root is not None:
            self.by_stage.setdefault(str(SpanName.CHAT_TURN), [self.root])
            self.stage_of.setdefault(self.root.span_id, str(SpanName.CHAT_TURN))

    def _root(self) -> SpanRecord | None:
        """Return the span that is the turn: one of the stage `chat_turn`, else the first without a parent here.

        A parent that is not in the trace is somewhere else, a browser or a gateway: its child is a root.
        """
        named = self.by_stage.get(SpanName.CHAT_TURN)
        if named:
            return named[0]
        ids = {span.span_id for span in self.spans}
        roots = [span for span in self.spans if span.parent_id is None or span.parent_id not in ids]
        if roots:
            return roots[0]
        if self.spans:
            self.note("spans: their parents form a cycle, so the first span counts as the root")
            return self.spans[0]
        return None

    def note(self, problem: str) -> None:
        """Keep a problem, once."""
        if len(self.problems) < _MOST_PROBLEMS and problem not in self.problems:
            self.problems.append(problem)

    def last(self, stage: str) -> SpanRecord | None:
        """Return the last span of a stage: a retried stage leaves several, and the last is what the turn used."""
        found = self.by_stage.get(stage)
        return found[-1] if found else None

    def spans_of(self, stage: str) -> Sequence[SpanRecord]:
        """Return the last span of a stage, and those within it that describe the same, the last first."""
        last = self.last(stage)
        return () if last is None else (last, *reversed(self._within.get(last.span_id, ())))

    def at(self, place: Place, span: SpanRecord | None = None) -> Sequence[object]:
        """Return what stands at a place; several values only where it looks at every span."""
        where, part = place.where, place.part
        if part is None:
            return self._beside_spans(place)
        if where == "any":
            if part == "attributes" and place.path[0] not in self._attributes:
                return ()
            found = [_walk(_part(each, part), place.path) for each in self.spans]
            return [one for one in found if one is not None]
        asked = (span,) if where == "span" else (self.root,) if where == "root" else self.spans_of(where)
        for one in asked:
            # Most places are attributes that this span has not: this is what a reading does most.
            if one is None or (part == "attributes" and place.path[0] not in one.attributes):
                continue
            value = _walk(_part(one, part), place.path)
            if value is not None:
                return (value,)
        return ()

    def _beside_spans(self, place: Place) -> Sequence[object]:
        source = self.trace.tags if place.where == "tags" else self.trace.metadata
        found = _walk(source, place.path) if place.path[0] in source else None
        # The id of a user is kept apart from the other metadata when a trace is read.
        if found is None and place.path == _USER:
            found = self.trace.user_key
        return () if found is None else (found,)


_USER = ("mlflow.trace.user",)


def _part(span: SpanRecord, part: Part) -> object:
    return span.attributes if part == "attributes" else span.inputs if part == "inputs" else span.outputs


def _walk(value: object, path: Sequence[str]) -> object:
    """Return what a path leads to in a JSON value, or None; JSON in texts is looked into."""
    for key in path:
        # Most steps are a look into a plain dictionary: a turn takes hundreds of them.
        if type(value) is not dict:
            value = decoded(value)
            if isinstance(value, list | tuple):
                value = _entry(value, key)
                continue
            if not isinstance(value, Mapping):
                return None
        value = value.get(key)
        if value is None:
            return None
    return value


def _entry(entries: Sequence[object], key: str) -> object:
    if not (key.lstrip("-").isdecimal() and len(key) < 6):
        return None
    index = int(key)
    return entries[index] if -len(entries) <= index < len(entries) else None


@dataclass(slots=True)
class FactReader:
    """Reads facts of a trace through a mapping, and keeps where each was found and what was odd.

    `sources` has the place of each fact that was found, by `section.fact`. A problem begins with the fact's name; it
    quotes nothing of the trace.
    """

    view: TraceView
    mapping: TraceMapping
    sources: dict[str, str] = field(default_factory=dict)

    @property
    def problems(self) -> tuple[str, ...]:
        """What was odd, in the order it was met."""
        return tuple(self.view.problems)

    def read(
        self, section: Section, fact: str, convert: Callable[[object], T | None], span: SpanRecord | None = None
    ) -> T | None:
        """Return the first value of the right type among the places of a fact, or None."""
        at = self.view.at
        for place in self.mapping.places[section].get(fact, ()):
            if (found := at(place, span)) and (value := self._first(fact, place, found, convert)) is not None:
                self.sources.setdefault(f"{section}.{fact}", place.text)
                return value
        return None

    def note(self, problem: str) -> None:
        """Keep a problem."""
        self.view.note(problem)

    def _first(
        self, fact: str, place: Place, found: Sequence[object], convert: Callable[[object], T | None]
    ) -> T | None:
        values: list[T] = []
        for raw in found:
            try:
                value = convert(raw)
            except WrongTypeError as wrong:
                self.note(f"{fact}: {place} {wrong}")
                continue
            if value is not None and value not in values:
                values.append(value)
        if len(values) > 1:
            self.note(f"{fact}: {place} holds {len(values)} different values; the first counts")
        return values[0] if values else None
