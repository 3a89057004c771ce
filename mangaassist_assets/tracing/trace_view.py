"""A trace as a mapping sees it: its root, the spans of each stage, and what stands at a place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from mangaassist_assets.tracing.mapping import Place, Section, TraceMapping
from mangaassist_assets.tracing.names import SpanName
from mangaassist_assets.tracing.records import SpanRecord, TraceRecord
from mangaassist_assets.tracing.shapes.values import decoded
from mangaassist_assets.tracing.typed_values import WrongTypeError

T = TypeVar("T")
_MOST_PROBLEMS = 50


class TraceView:
    """The spans of a trace by stage. Never raises: what is odd about them stands in `problems`."""

    def __init__(self, trace: TraceRecord, mapping: TraceMapping) -> None:
        """Find the root and the spans of each stage."""
        self.trace = trace
        self.problems: list[str] = []
        self.spans = sorted(trace.spans, key=lambda span: (span.start_ns, span.span_id))
        self.by_stage: dict[str, list[SpanRecord]] = {}
        self.stage_of: dict[str, str] = {}
        for span in self.spans:
            stages = mapping.stages_of(span.name, span.span_type)
            # One's own name before a pattern or a type: a retriever that is also a tool is a retriever.
            stage = str(span.name) if span.name in stages else next(iter(stages), None)
            if stage is not None:
                self.by_stage.setdefault(stage, []).append(span)
                self.stage_of[span.span_id] = stage
            if len(stages) > 1 and stage != span.name:
                self.tell(f"stages: a span is of {' and of '.join(stages)} by its name; {stage} has it")
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
            self.tell("spans: their parents form a cycle, so the first span counts as the root")
            return self.spans[0]
        return None

    def tell(self, problem: str) -> None:
        """Keep what is odd, once."""
        if len(self.problems) < _MOST_PROBLEMS and problem not in self.problems:
            self.problems.append(problem)

    def last(self, stage: str) -> SpanRecord | None:
        """Return the last span of a stage: a retried stage leaves several, and the last is what the turn used."""
        found = self.by_stage.get(stage)
        return found[-1] if found else None

    def at(self, place: Place, span: SpanRecord | None = None) -> list[object]:
        """Return what stands at a place; several values only where it looks at every span."""
        if place.part is None:
            source = self.trace.tags if place.where == "tags" else self.trace.metadata
            # Another tool's id of a user is kept apart from its metadata when a trace is read.
            found = [_walk(source, place.path)]
            if place.path == ("mlflow.trace.user",) and found == [None]:
                found = [self.trace.user_key]
        else:
            part = place.part
            found = [_walk(getattr(one, part), place.path) for one in self._spans_at(place.where, span)]
        return [one for one in found if one is not None]

    def _spans_at(self, where: str, span: SpanRecord | None) -> Sequence[SpanRecord]:
        if where == "any":
            return self.spans
        one = self.root if where == "root" else span if where == "span" else self.last(where)
        return () if one is None else (one,)


def _walk(value: object, path: Sequence[str]) -> object:
    """Return what a path leads to in a JSON value, or None; JSON in texts is looked into."""
    for key in path:
        value = decoded(value)
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list | tuple) and key.lstrip("-").isdecimal() and len(key) < 6:
            index = int(key)
            value = value[index] if -len(value) <= index < len(value) else None
        else:
            return None
    return value


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
        for place, value in self._values(section, fact, convert, span):
            self.sources.setdefault(f"{section}.{fact}", str(place))
            return value
        return None

    def tell(self, problem: str) -> None:
        """Keep what was odd."""
        self.view.tell(problem)

    def _values(
        self, section: Section, fact: str, convert: Callable[[object], T | None], span: SpanRecord | None
    ) -> Iterator[tuple[Place, T]]:
        for place in self.mapping.places[section].get(fact, ()):
            values: list[T] = []
            for raw in self.view.at(place, span):
                try:
                    value = convert(raw)
                except WrongTypeError as wrong:
                    self.tell(f"{fact}: {place} {wrong}")
                    continue
                if value is not None and value not in values:
                    values.append(value)
            if len(values) > 1:
                self.tell(f"{fact}: {place} holds {len(values)} different values; the first counts")
            if values:
                yield place, values[0]
