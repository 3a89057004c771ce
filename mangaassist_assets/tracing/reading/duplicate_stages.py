"""Stages that are in a trace twice: as a span of the application, and as what an adapter made of a client's span.

The application's span stands, since it has the true times; what it lacks is filled in from the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mangaassist_assets.tracing.contract.names import Attribute, SpanName
from mangaassist_assets.tracing.contract.records import SpanRecord
from mangaassist_assets.tracing.contract.values import decoded, mapping

_CALL_IDS = (Attribute.TOOL_CALL_ID, "gen_ai.tool.call.id", "toolUseId", "tool_use_id")
# Each call is compared with each span: a trace of more calls than this is no shopper's turn.
_MOST_CALLS, _DEEPEST = 200, 500
_TOOL_NAMES = (Attribute.TOOL_NAME, "tool.name", "gen_ai.tool.name")


@dataclass(frozen=True, slots=True, kw_only=True)
class DistinctStages:
    """Spans of which no two are the same stage of the same thing.

    `spans` are those that are left, in their order; the `demoted` among them are no stage. `within` has the spans that
    describe the same stage as one around them, by its id: it lacks what they say.
    """

    spans: Sequence[SpanRecord]
    demoted: frozenset[str]
    within: Mapping[str, Sequence[SpanRecord]]


def distinct_stages(
    spans: Sequence[SpanRecord], stage_of: Mapping[str, str], *, made: frozenset[str], typed: frozenset[str]
) -> DistinctStages:
    """Return the spans with each stage there once.

    A made span is dropped where a span of the application is the same stage. A retriever inside a node that is named
    as the retrieval belongs to that. What encloses several made spans of its stage, or the tools that it calls, is no
    stage.

    `spans` are in the order they began, `stage_of` has the stages by their ids; `made` are the ids of those that an
    adapter added, `typed` of those that have their stage by MLflow's type alone.
    """
    if not made and not typed:
        return DistinctStages(spans=spans, demoted=frozenset(), within={})
    own = {span.span_id: span for span in spans if span.span_id not in made}
    added = [span for span in spans if span.span_id in made and span.span_id in stage_of]
    inside: dict[str, list[SpanRecord]] = {}
    within: dict[str, list[SpanRecord]] = {}
    for span in spans:
        if span.span_id not in made and span.span_id not in typed:
            continue
        around = _of_same_stage(span, own, stage_of)
        if around is not None and (span.span_id in made or around.span_id not in typed):
            (inside if span.span_id in made else within).setdefault(around.span_id, []).append(span)
    wrappers = {owner for owner in within if stage_of[owner] == SpanName.TOOL_CALL}
    within = {owner: ones for owner, ones in within.items() if owner not in wrappers}
    nested = {one.span_id for ones in within.values() for one in ones}
    twins = {ones[0].span_id: own[owner] for owner, ones in inside.items() if len(ones) == 1 and owner not in wrappers}
    calls = [span for span in added if stage_of[span.span_id] == SpanName.TOOL_CALL and span.span_id not in twins]
    tools = [one for one in own.values() if stage_of.get(one.span_id) == SpanName.TOOL_CALL]
    twins |= _twins_of_tools(calls, [one for one in tools if one.span_id not in wrappers], own)
    filled = {
        twins[span.span_id].span_id: _filled(twins[span.span_id], span) for span in added if span.span_id in twins
    }
    return DistinctStages(
        spans=[filled.get(one.span_id, one) for one in spans if one.span_id not in twins],
        demoted=frozenset(wrappers | nested | {owner for owner, ones in inside.items() if len(ones) > 1}),
        within=within,
    )


def _of_same_stage(span: SpanRecord, own: Mapping[str, SpanRecord], stage_of: Mapping[str, str]) -> SpanRecord | None:
    """Return the nearest span above of the same stage, as far up as the application's own spans go."""
    seen: set[str] = set()
    stage, above = stage_of.get(span.span_id), span.parent_id
    while stage is not None and above is not None and above not in seen and above in own and len(seen) < _DEEPEST:
        if stage_of.get(above) == stage:
            return own[above]
        seen.add(above)
        above = own[above].parent_id
    return None


def _filled(own: SpanRecord, made: SpanRecord) -> SpanRecord:
    said = dict(made.attributes)
    if own.inputs is not None:
        said.pop(Attribute.TOOL_ARGUMENTS, None)
    if own.outputs is not None:
        said.pop(Attribute.TOOL_RESULT, None)
    failed = made.status == "ERROR" and own.status != "ERROR"
    return replace(
        own,
        attributes={**said, **own.attributes},
        status=made.status if failed else own.status,
        status_message=made.status_message if failed else own.status_message,
    )


def _twins_of_tools(
    calls: Sequence[SpanRecord], tools: Sequence[SpanRecord], own: Mapping[str, SpanRecord]
) -> dict[str, SpanRecord]:
    """Return the application's span of each call that has one; a span is of one call only.

    The surest signs first, for all calls: the id, then name and arguments, then the name, then the arguments.
    """
    free = [_Call.of_application(one) for one in tools[:_MOST_CALLS]]
    asked = {one.span_id: _Call.of_model(one) for one in calls[:_MOST_CALLS]}
    found: dict[str, SpanRecord] = {}
    for is_same in (_same_id, _same_name_and_arguments, _same_name, _same_arguments):
        for span_id, call in asked.items():
            if span_id in found:
                continue
            since = own.get(call.span.parent_id or "", call.span).start_ns
            twin = next((one for one in free if one.span.start_ns >= since and is_same(call, one)), None)
            if twin is not None:
                found[span_id] = twin.span
                free.remove(twin)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """What a span says of a tool's call: its id, the names it may have, the arguments or what may be them."""

    span: SpanRecord
    call_id: str | None
    names: tuple[object, ...]
    arguments: tuple[object, ...]

    @classmethod
    def of_model(cls, span: SpanRecord) -> _Call:
        said = span.attributes
        return cls(
            span, _call_id(span), (said.get(Attribute.TOOL_NAME),), (decoded(said.get(Attribute.TOOL_ARGUMENTS)),)
        )

    @classmethod
    def of_application(cls, span: SpanRecord) -> _Call:
        inputs = decoded(span.inputs)
        inside = map(decoded, inputs.values()) if isinstance(inputs, Mapping) else ()
        names = (span.name, *(span.attributes.get(key) for key in _TOOL_NAMES))
        return cls(span, _call_id(span), names, (inputs, *inside))


def _call_id(span: SpanRecord) -> str | None:
    outputs = mapping(span.outputs)
    places = (place.get(key) for place in (span.attributes, outputs) for key in _CALL_IDS)
    return next((one for one in places if isinstance(one, str) and one), None)


def _same_id(asked: _Call, own: _Call) -> bool:
    return asked.call_id is not None and own.call_id == asked.call_id


def _same_name(asked: _Call, own: _Call) -> bool:
    return None in (asked.call_id, own.call_id) and asked.names[0] in own.names


def _same_arguments(asked: _Call, own: _Call) -> bool:
    wanted = asked.arguments[0]
    try:
        return None in (asked.call_id, own.call_id) and bool(wanted) and wanted in own.arguments
    except RecursionError:  # lists in lists, a thousand deep
        return False


def _same_name_and_arguments(asked: _Call, own: _Call) -> bool:
    return _same_name(asked, own) and _same_arguments(asked, own)
