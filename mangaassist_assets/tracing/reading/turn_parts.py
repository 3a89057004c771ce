"""The parts of a turn as they are read from a trace through a mapping."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from mangaassist_assets.privacy import clear_named_fields, redact
from mangaassist_assets.tracing.adapters.building import why_failed
from mangaassist_assets.tracing.adapters.tool_calls import result_content
from mangaassist_assets.tracing.contract.names import (
    EXPECTED_INTENT,
    RELEVANT_DOCUMENTS,
    USER_FEEDBACK_ASSESSMENT,
    SpanName,
)
from mangaassist_assets.tracing.contract.records import AssessmentRecord, SpanRecord
from mangaassist_assets.tracing.contract.turns import (
    Feedback,
    Generation,
    Review,
    ReviewSource,
    StageTiming,
    ToolCall,
    Verdict,
)
from mangaassist_assets.tracing.contract.values import decoded
from mangaassist_assets.tracing.reading.trace_view import FactReader
from mangaassist_assets.tracing.reading.typed_values import (
    CONTROL,
    WrongTypeError,
    boolean_of,
    cost_of,
    count_of,
    feedback_of,
    kind_of,
    list_of_names,
    model_of,
    name_of,
    names_of,
)

Redact = Callable[[str], str]

_SOURCES: Mapping[str, ReviewSource] = {"HUMAN": "human", "LLM_JUDGE": "judge", "AI_JUDGE": "judge", "CODE": "code"}
_WORD = re.compile(r"[a-z][a-z_-]{0,39}")
CONTRACT_SPANS: frozenset[str] = frozenset(SpanName)
VERDICT_STAGES = frozenset({"guardrails", "pii_detection", "sentiment_analysis"})
_NO_VERDICTS = frozenset({
    "endpoint_name", "model_family", "model_version", "model", "ruleset_version", "guardrail_version", "blocked",
    "reasons", "reason", "duration_ms", "latency_ms", "guardrail_id", "text", "message",
})  # fmt: skip
_FOREIGN = ("mlflow.", "gen_ai.", "otel.")
_BODY_KEYS = frozenset({"text", "texts", "inputs", "instances", "query", "passages", "documents", "pairs"})
_MOST_STAGES, _MOST_VERDICTS, _MOST_TOOLS = 200, 50, 50
_LONGEST_VERDICT, _LONGEST_FILTERS, _LONGEST_TEXT, _LONGEST_ERROR = 60, 500, 2_000, 500
_FAILURES = frozenset({"error", "true"})
_GENERATION: Mapping[str, Callable[[object], Any]] = {
    "model_id": model_of, "input_tokens": count_of, "output_tokens": count_of, "cache_read_tokens": count_of,
    "cache_write_tokens": count_of, "stop_reason": name_of, "reported_cost_usd": cost_of,
}  # fmt: skip
_LONG_NUMBER = re.compile(r"\d{4,}")


def stages_of(reader: FactReader, redacted: Redact) -> tuple[StageTiming, ...]:
    """Return the timing of each stage, in the order they began; a retried stage is there twice.

    Beside the stages of the mapping these are, under their own names, the spans right below the root and those that
    name an endpoint: whatever else the chatbot does takes its time, too.
    """
    view = reader.view
    root = None if view.root is None else view.root.span_id
    # A tool's span under which the contract's own stands, with the same times, is the same stage.
    covered = {(one.parent_id, one.start_ns, one.end_ns) for one in view.spans if one.span_id in view.stage_of}
    found: list[StageTiming] = []
    for span in sorted(view.spans, key=lambda one: (one.start_ns, one.name)):
        stage = view.stage_of.get(span.span_id)
        endpoint = reader.read("stage", "endpoint_name", name_of, span)
        if stage is None and endpoint is None and (span.parent_id != root or root is None):
            continue
        if stage is None and (span.span_id, span.start_ns, span.end_ns) in covered:
            continue
        found.append(_stage(reader, span, stage or own_name(span.name, redacted), endpoint, redacted))
    if len(found) > _MOST_STAGES:
        reader.note(f"stages: the trace has {len(found)}, the first {_MOST_STAGES} are kept")
    return tuple(found[:_MOST_STAGES])


def _stage(reader: FactReader, span: SpanRecord, name: str, endpoint: str | None, redacted: Redact) -> StageTiming:
    return StageTiming(
        name=name,
        duration_ms=max(0, span.end_ns - span.start_ns) / 1_000_000,
        failed=span.status == "ERROR",
        endpoint_name=endpoint,
        model_family=reader.read("stage", "model_family", name_of, span),
        model_version=reader.read("stage", "model_version", name_of, span),
        request_keys=_request_keys(reader, span),
        chunk_count=reader.read("stage", "chunk_count", count_of, span),
        source_types=reader.read("stage", "source_types", names_of, span) or (),
        filters=reader.read("stage", "filters", lambda value: as_text(value, redacted, _LONGEST_FILTERS), span),
    )


def own_name(name: str, redacted: Redact) -> str:
    """Return what a span of no stage is called: its name without long numbers, harmless and of one line."""
    plain = _LONG_NUMBER.sub("#", CONTROL.sub(" ", name)).strip()[:80]
    return plain if plain and redacted(plain) == plain else "other"


def _request_keys(reader: FactReader, span: SpanRecord) -> tuple[str, ...]:
    """Return the keys of the body that was sent: as the span lists them, else those of its inputs that bodies have."""
    listed = reader.read("stage", "payload", _keys, span)
    if listed is not None:
        return listed
    inputs = decoded(span.inputs)
    return tuple(sorted(_BODY_KEYS & set(inputs))) if isinstance(inputs, Mapping) else ()


def _keys(value: object) -> tuple[str, ...] | None:
    inside = decoded(value)
    if isinstance(inside, Mapping):
        return tuple(sorted(str(key)[:60] for key in inside))[:20]
    found = list_of_names(inside)
    return None if found is None else tuple(sorted(found))


def generations_of(reader: FactReader) -> tuple[Generation, ...]:
    """Return what each span of stage `bedrock_generate` says of its model call, in the order they began."""
    return tuple(
        Generation(**{fact: reader.read("generation", fact, convert, span) for fact, convert in _GENERATION.items()})
        for span in reader.view.by_stage.get(SpanName.BEDROCK_GENERATE, ())
    )


def tools_of(reader: FactReader, redacted: Redact) -> tuple[ToolCall, ...]:
    """Return the calls of tools, in the order they began."""
    spans = reader.view.by_stage.get(SpanName.TOOL_CALL, [])
    if len(spans) > _MOST_TOOLS:
        reader.note(f"tools: the first {_MOST_TOOLS} calls are kept")
    found = tuple(_tool(reader, span, redacted) for span in spans[:_MOST_TOOLS])
    without = sum(one.outcome == "no_result" for one in found)
    if without:
        reader.note(f"result: {without} of {len(found)} calls of tools have none in the trace")
    return found


def _tool(reader: FactReader, span: SpanRecord, redacted: Redact) -> ToolCall:
    failed = span.status == "ERROR" or reader.read("tool", "failed", _says_failed, span) is True
    error = reader.read("tool", "error", lambda value: as_text(value, redacted, _LONGEST_ERROR), span)
    result = reader.read("tool", "result", lambda value: _result(value, redacted), span)
    if failed and error is None:
        error = redacted(why_failed(span)[: 2 * _LONGEST_ERROR])[:_LONGEST_ERROR] or (result or "")[:_LONGEST_ERROR]
    return ToolCall(
        name=own_name(reader.read("tool", "name", name_of, span) or span.name, redacted),
        arguments=reader.read("tool", "arguments", lambda value: as_text(value, redacted, _LONGEST_TEXT), span),
        result=result,
        failed=failed,
        error=error or None,
        # A call whose end is not known begins and ends where the model asked for it.
        duration_ms=(span.end_ns - span.start_ns) / 1_000_000 if span.end_ns > span.start_ns else None,
    )


def _says_failed(value: object) -> bool | None:
    """Return True for the words by which a tool says that it failed, None for any other: a status may be an order's."""
    return True if str(value).strip().lower() in _FAILURES else None


def _result(value: object, redacted: Redact) -> str | None:
    """Return a result as text; of a message that carries one, its content. An empty result is one, too."""
    inside = decoded(value)
    if isinstance(inside, Mapping) and "content" in inside and (inside.get("type") == "tool" or "isError" in inside):
        inside = result_content(inside["content"])
    if inside in ("", {}, []):
        return str(inside)
    return as_text(inside, redacted, _LONGEST_TEXT)


def as_text(value: object, redacted: Redact, longest: int) -> str | None:
    """Return a JSON value as redacted text; one that is too long is cut, and says so."""
    inside = decoded(value)
    if inside is None or inside in ("", {}, []):
        return None
    try:
        inside = clear_named_fields(inside)
        text = (
            inside if isinstance(inside, str) else json.dumps(inside, ensure_ascii=False, sort_keys=True, default=str)
        )
    except RecursionError:
        raise WrongTypeError("is nested too deeply to be kept") from None
    # Cut before it is redacted, or a huge value would cost a second; cut again, for placeholders may be longer.
    clean = redacted(text[: 2 * longest])
    return clean if len(text) <= longest and len(clean) <= longest else f"{clean[:longest]}…"


def guardrails_of(reader: FactReader) -> tuple[bool, tuple[str, ...]]:
    """Return whether any guardrail blocked the turn, and the reasons that were given."""
    spans = reader.view.by_stage.get(SpanName.GUARDRAILS, ())
    blocked = [reader.read("guardrail", "blocked", boolean_of, span) for span in spans]
    reasons = [
        reason for span in spans for reason in reader.read("guardrail", "reasons", names_of, span) or () if reason
    ]
    return any(blocked), tuple(dict.fromkeys(reasons))


def verdicts_of(reader: FactReader, redacted: Redact) -> tuple[Verdict, ...]:
    """Return what was said of the turn under the names of verdicts, and all that spans of such stages say.

    Texts are short words only: what is longer, or says something personal, is no verdict.
    """
    found: dict[Verdict, None] = {}
    named = reader.mapping.verdicts
    for span, said in _where_verdicts_are(reader):
        stage = None if span is None else reader.view.stage_of.get(span.span_id)
        for key, value in said.items():
            name = key.rpartition(".")[2].lower()
            if name not in named and (stage not in VERDICT_STAGES or name in _NO_VERDICTS or key.startswith(_FOREIGN)):
                continue
            who = stage if span is None or stage is not None else own_name(span.name, redacted)
            for text, score in _verdict_values(value, redacted):
                found[Verdict(name=name[:60], text=text, score=score, stage=who)] = None
    if len(found) > _MOST_VERDICTS:
        reader.note(f"verdicts: the first {_MOST_VERDICTS} of {len(found)} are kept")
    return tuple(found)[:_MOST_VERDICTS]


def _where_verdicts_are(reader: FactReader) -> Iterator[tuple[SpanRecord | None, Mapping[str, object]]]:
    yield None, reader.view.trace.tags
    for span in reader.view.spans:
        yield span, span.attributes
        outputs = decoded(span.outputs)
        if isinstance(outputs, Mapping):
            yield span, outputs


def _verdict_values(value: object, redacted: Redact) -> list[tuple[str | None, float | None]]:
    inside = decoded(value)
    if isinstance(inside, bool):
        return [("true" if inside else "false", None)]
    if isinstance(inside, int | float):
        return [(None, float(inside))] if abs(inside) < 1e9 else []
    if isinstance(inside, str):
        word = inside.strip()
        try:
            return [(None, float(word))] if len(word) <= 20 else []
        except ValueError:
            pass
        harmless = len(word) <= _LONGEST_VERDICT and not CONTROL.search(word) and redacted(word) == word
        return [(word.lower(), None)] if word and harmless else []
    entries = inside[:20] if isinstance(inside, list | tuple) else []
    words = (entry for entry in entries if isinstance(entry, str | bool | int))
    return [one for entry in words for one in _verdict_values(entry, redacted)]


def failed_span_of(spans: Sequence[SpanRecord]) -> SpanRecord | None:
    """Return the deepest failed span that began last: its parents fail only because it did."""
    failed = [span for span in spans if span.status == "ERROR"]
    parents = {span.parent_id for span in failed}
    leaves = [span for span in failed if span.span_id not in parents]
    return max(leaves, key=lambda span: span.start_ns, default=None)


def thumb_of(reader: FactReader) -> Feedback | None:
    """Return the thumb of a trace: its tag, or the newest feedback assessment where it has no tag."""
    tagged: Feedback | None = reader.read("turn", "user_feedback", feedback_of)
    if tagged is not None:
        return tagged
    latest = _latest(reader.view.trace.assessments, "feedback", USER_FEEDBACK_ASSESSMENT)
    if latest is None:
        return None
    try:
        return feedback_of(latest.value)
    except WrongTypeError as wrong:
        reader.note(f"user_feedback: the assessment {wrong}")
        return None


def _latest(
    assessments: Sequence[AssessmentRecord], kind: Literal["feedback", "expectation"], name: str
) -> AssessmentRecord | None:
    found = [item for item in assessments if item.kind == kind and item.name == name]
    return max(found, key=lambda item: item.timestamp_ms, default=None)


def review_of(reader: FactReader) -> tuple[str | None, tuple[str, ...], str | None]:
    """Return expected intent, relevant documents and reviewer of the latest human review of each side."""
    human = [item for item in reader.view.trace.assessments if item.source_type == "HUMAN"]
    intent = _latest(human, "expectation", EXPECTED_INTENT)
    documents = _latest(human, "expectation", RELEVANT_DOCUMENTS)
    if intent is not None and (not isinstance(intent.value, str) or not intent.value.strip()):
        reader.note(f"expected_intent: the expectation is {kind_of(intent.value)}, not a name")
        intent = None
    found = None if documents is None else document_ids(documents.value)
    if documents is not None and found is None:
        reader.note("relevant_documents: the expectation is not a list of document ids")
        documents = None
    latest = max((item for item in (intent, documents) if item), key=lambda item: item.timestamp_ms, default=None)
    expected = None if intent is None else str(intent.value).strip()
    return expected, found or (), None if latest is None else latest.source_id


def document_ids(value: object) -> tuple[str, ...] | None:
    """Return the ids of a list, or of a text with one a line or between commas or semicolons, as people type them.

    None where it is neither.
    """
    if isinstance(value, str):
        value = [item.strip() for item in re.split(r"[,;\n]", value) if item.strip()]
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) and item for item in value):
        return None
    return tuple(dict.fromkeys(value))


def reviews_of(assessments: Sequence[AssessmentRecord]) -> tuple[Review, ...]:
    """Return all assessments but the shopper's thumb, oldest first; those whose value is free text are left out."""
    found = [
        Review(
            name=item.name,
            kind=item.kind,
            values=values,
            source=_SOURCES[item.source_type],
            source_id=item.source_id,
            timestamp_ms=item.timestamp_ms,
        )
        for item in assessments
        if item.source_type in _SOURCES
        and not (item.kind == "feedback" and item.name == USER_FEEDBACK_ASSESSMENT)
        and (values := _review_values(item))
    ]
    return tuple(sorted(found, key=lambda one: (one.timestamp_ms, one.name, one.source, one.source_id, one.values)))


def _review_values(item: AssessmentRecord) -> tuple[str, ...]:
    value = item.value
    if item.kind == "expectation":
        if item.name == EXPECTED_INTENT and isinstance(value, str):
            return (value.strip(),) if value.strip() else ()
        return (document_ids(value) or ()) if item.name == RELEVANT_DOCUMENTS else ()
    if isinstance(value, bool):
        return ("true",) if value else ("false",)
    if isinstance(value, int | float):
        return (repr(value),)
    # One word is a verdict (`unsafe`), unless it is somebody's name; more of them are free text.
    verdict = value.strip().lower() if isinstance(value, str) else ""
    return (verdict,) if _WORD.fullmatch(verdict) and redact(verdict).text == verdict else ()
