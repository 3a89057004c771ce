"""What a mapping reads of traces, fact by fact: where from, what is missing, and lines for what nobody reads."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from mangaassist_assets.privacy import redact
from mangaassist_assets.tracing.adapters import in_contract_shape
from mangaassist_assets.tracing.contract.names import SpanName
from mangaassist_assets.tracing.contract.records import SpanRecord, TraceRecord
from mangaassist_assets.tracing.contract.turns import ChatTurn
from mangaassist_assets.tracing.contract.values import decoded
from mangaassist_assets.tracing.reading.mapping import FACTS, Part, Place, Section, TraceMapping
from mangaassist_assets.tracing.reading.trace_view import TraceView
from mangaassist_assets.tracing.reading.turn_reader import TraceReading, read_trace
from mangaassist_assets.tracing.reading.typed_values import (
    WrongTypeError,
    boolean_of,
    count_of,
    feedback_of,
    list_of_names,
    name_of,
    said_by,
    share_of,
)

_LONGEST_SHOWN = 70
_MOST_PROPOSALS = 3
_OWN_KEYS = ("mlflow.", "import_digest", "original_trace_id", "otel.", "gen_ai.", "service.", "telemetry.")
_PLAIN_ID = re.compile(r"[0-9A-Za-z._:/-]*[.:/_-][0-9A-Za-z._:/-]*[a-zA-Z][0-9A-Za-z._:/-]*")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")


@dataclass(frozen=True, slots=True)
class _Hint:
    """How a key that may hold a fact is recognised: one of the words `says` it, those of `fits` make it likelier."""

    says: frozenset[str]
    fits: frozenset[str]
    convert: Callable[[object], object]


def _hint(says: str, fits: str, convert: Callable[[object], object] = name_of) -> _Hint:
    return _Hint(frozenset(says.split()), frozenset(fits.split()), convert)


_HINTS: Final[Mapping[tuple[Section, str], _Hint]] = {
    ("turn", "release_bundle"): _hint("release bundle deployment build", "id version"),
    ("turn", "session_id"): _hint("session conversation conv thread dialog chat", "id key"),
    ("turn", "message"): _hint("message question query utterance said text", "user shopper", said_by("user")),
    ("turn", "answer"): _hint("answer response reply completion", "text bot", said_by("assistant")),
    ("turn", "user_id"): _hint("user shopper visitor member", "id key"),
    ("turn", "tenant"): _hint("tenant customer store shop organization org", "id name"),
    ("turn", "team"): _hint("team", "id name"),
    ("turn", "intent"): _hint("intent label category", "name predicted top"),
    ("turn", "intent_confidence"): _hint("confidence probability certainty", "intent", share_of),
    ("turn", "intent_model_version"): _hint("intent classifier", "model version"),
    ("turn", "reranker_version"): _hint("reranker rerank", "model version"),
    ("turn", "prompt_version"): _hint("template prompt", "version id"),
    ("turn", "bedrock_model_id"): _hint("bedrock llm", "model id"),
    ("turn", "guardrail_ruleset_version"): _hint("guardrail guardrails ruleset", "version id"),
    ("turn", "routing_policy_version"): _hint("routing route policy", "version id"),
    ("turn", "index_generation"): _hint("index collection", "generation name version"),
    ("turn", "embedding_model_id"): _hint("embedding embed embedder", "model id"),
    ("turn", "experiment_id"): _hint("experiment variant arm", "id name"),
    ("turn", "cache_hit"): _hint("cache cached", "hit", boolean_of),
    ("turn", "user_feedback"): _hint("feedback thumb thumbs rating", "user", feedback_of),
    ("turn", "response_id"): _hint("response request answer", "id"),
    ("turn", "selected_ids"): _hint("selected used kept", "chunk chunks ids docs", list_of_names),
    ("generation", "input_tokens"): _hint("tokens token tok", "input prompt in", count_of),
    ("generation", "output_tokens"): _hint("tokens token tok", "output completion out", count_of),
    ("generation", "stop_reason"): _hint("stop finish", "reason"),
    ("search", "chunk_ids"): _hint("chunk chunks passages candidates docs documents", "ids top", list_of_names),
    ("guardrail", "blocked"): _hint("blocked action verdict intervened", "guardrail", boolean_of),
}
# A version, an id or a limit is no such fact by one word alone.
_NEEDS_BOTH: Final = frozenset({
    "intent_model_version", "reranker_version", "prompt_version", "guardrail_ruleset_version", "index_generation",
    "routing_policy_version", "embedding_model_id", "response_id", "input_tokens", "output_tokens", "user_id",
})  # fmt: skip
_SAID_AT_THE_ROOT: Final = frozenset({"message", "answer"})
_WORDS_OF_STAGE: Final[Mapping[str, frozenset[str]]] = {
    SpanName.INTENT_CLASSIFICATION: frozenset({"intent", "classify", "classifier", "classification", "nlu"}),
    SpanName.RETRIEVE_CHUNKS: frozenset({"retrieve", "retrieval", "retriever", "rag", "fetch"}),
    SpanName.EMBED_QUERY: frozenset({"embed", "embedding", "embeddings"}),
    SpanName.VECTOR_SEARCH: frozenset({"vector", "knn", "semantic", "dense"}),
    SpanName.KEYWORD_SEARCH: frozenset({"keyword", "bm25", "lexical", "sparse"}),
    SpanName.RERANK_CHUNKS: frozenset({"rerank", "reranker", "reranking", "rank"}),
    SpanName.BUILD_PROMPT: frozenset({"prompt", "template"}),
    SpanName.BEDROCK_GENERATE: frozenset({"generate", "generation", "bedrock", "converse", "llm", "completion"}),
    SpanName.GUARDRAILS: frozenset({"guardrail", "guardrails", "moderation", "safety", "guard"}),
    SpanName.TOOL_CALL: frozenset({"tool", "tools"}),
}
_SPANS_OF_SECTION: Final[Mapping[Section, frozenset[str]]] = {
    "generation": frozenset({SpanName.BEDROCK_GENERATE}),
    "search": frozenset({
        SpanName.RETRIEVE_CHUNKS, SpanName.VECTOR_SEARCH, SpanName.KEYWORD_SEARCH, SpanName.RERANK_CHUNKS,
    }),
    "guardrail": frozenset({SpanName.GUARDRAILS}),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FactReport:
    """One fact over the traces: in how many it was found, at which places, and what it was in the first of them."""

    fact: str
    found: int
    places: tuple[str, ...] = ()
    example: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What a mapping reads of some traces.

    `outcomes` count turns by who wrote them and quarantined traces by reason. `spans` are name, stage or None, and
    traces. `proposals` are lines of a mapping file by section, for keys that nothing reads and spans of no stage.
    """

    traces: int
    turns: int
    outcomes: Mapping[str, int]
    facts: tuple[FactReport, ...]
    spans: tuple[tuple[str, str | None, int], ...]
    problems: Mapping[str, int]
    proposals: Mapping[str, tuple[str, ...]]


@dataclass(slots=True)
class _Seen:
    outcomes: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    places: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    examples: dict[str, str] = field(default_factory=dict)
    spans: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    unread: dict[tuple[Place, str | None], object] = field(default_factory=dict)


def inspect(traces: Iterable[TraceRecord], mapping: TraceMapping, *, pseudonym_key: bytes | None = None) -> Inspection:
    """Read traces through a mapping and say what was found where. Values shown are redacted and short."""
    seen = _Seen()
    count = turns = 0
    for trace in traces:
        count += 1
        reading = read_trace(trace, mapping=mapping, pseudonym_key=pseudonym_key)
        turns += isinstance(reading.outcome, ChatTurn)
        _note(seen, trace, reading, mapping)
    facts = tuple(
        FactReport(
            fact=name,
            found=seen.found[name],
            places=tuple(place for place, _ in seen.places[name].most_common(3)),
            example=seen.examples.get(name),
        )
        for section, names in FACTS.items()
        for name in sorted(f"{section}.{fact}" for fact in names)
    )
    return Inspection(
        traces=count,
        turns=turns,
        outcomes=dict(seen.outcomes.most_common()),
        facts=facts,
        spans=tuple((name, stage, traces) for (name, stage), traces in sorted(seen.spans.items(), key=_by_count)),
        problems=dict(seen.problems.most_common()),
        proposals=_proposals(seen, {name for name in seen.found if seen.found[name] == count}),
    )


def _by_count(item: tuple[tuple[str, str | None], int]) -> tuple[int, str]:
    return -item[1], item[0][0]


def _note(seen: _Seen, trace: TraceRecord, reading: TraceReading, mapping: TraceMapping) -> None:
    outcome = reading.outcome
    seen.outcomes[
        f"turn, written by {outcome.shape}" if isinstance(outcome, ChatTurn) else f"quarantined: {outcome.reason}"
    ] += 1
    seen.problems.update(dict.fromkeys(reading.problems, 1))
    view = TraceView(in_contract_shape(trace).trace, mapping)
    for name, place in reading.sources.items():
        seen.found[name] += 1
        seen.places[name][place] += 1
        if name not in seen.examples and (shown := _example(name, outcome)) is not None:
            seen.examples[name] = shown
    seen.spans.update(dict.fromkeys(((_shown(one.name), view.stage_of.get(one.span_id)) for one in view.spans), 1))
    known = _known_keys(mapping)
    for key, stage, value in _keys_of(trace, view):
        if key.path[0] not in known and not key.path[0].startswith(_OWN_KEYS):
            seen.unread.setdefault((key, stage), value)


def _example(name: str, outcome: object) -> str | None:
    """Return what a fact became in the turn: only what is redacted and kept is shown."""
    section, _, fact = name.partition(".")
    if not isinstance(outcome, ChatTurn):
        return None
    value: object = None
    if section == "turn":
        value = getattr(outcome, {"user_id": "user_key"}.get(fact, fact), None)
        if fact == "selected_ids":
            value = [one.chunk_id for one in outcome.candidates if one.selected]
    elif section == "generation" and outcome.generations:
        value = getattr(outcome.generations[-1], fact)
    elif section == "tool" and outcome.tools:
        value = getattr(outcome.tools[-1], fact)
    elif section == "search":
        value = [one.chunk_id for one in outcome.candidates] if fact == "chunk_ids" else None
    elif section == "guardrail":
        value = outcome.guardrail_blocked if fact == "blocked" else list(outcome.guardrail_reasons)
    return None if value is None else _shown(value)


def _shown(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    # A plain id is shown as it is: a model called claude is nobody's name.
    clean = text if _PLAIN_ID.fullmatch(text) else redact(text[: 4 * _LONGEST_SHOWN]).text.replace("\n", " ")
    return clean if len(clean) <= _LONGEST_SHOWN else f"{clean[: _LONGEST_SHOWN - 1]}…"


def _known_keys(mapping: TraceMapping) -> frozenset[str]:
    places = (place for facts in mapping.places.values() for found in facts.values() for place in found)
    return frozenset(place.path[0] for place in places if place.path) | mapping.verdicts


def _keys_of(trace: TraceRecord, view: TraceView) -> Iterator[tuple[Place, str | None, object]]:
    for where, source in (("tags", trace.tags), ("metadata", trace.metadata)):
        for key, value in source.items():
            yield Place(where, None, (key,)), None, value
    parts: tuple[Part, ...] = ("attributes", "inputs", "outputs")
    for span in trace.spans:
        stage = view.stage_of.get(span.span_id)
        for part in parts:
            said = decoded(getattr(span, part))
            if isinstance(said, Mapping):
                for key, value in said.items():
                    if key:
                        yield Place(_where(span, stage, view), part, (str(key),)), stage, value


def _where(span: SpanRecord, stage: str | None, view: TraceView) -> str:
    if view.root is not None and span.span_id == view.root.span_id:
        return "root"
    return stage or "any"


def _proposals(seen: _Seen, always: set[str]) -> dict[str, tuple[str, ...]]:
    """Return lines for the facts that some trace lacks, of the unread keys that fit by name and type.

    A key is proposed for the fact that it fits best, for one only.
    """
    lines: defaultdict[str, list[str]] = defaultdict(list)
    for missing in sorted(set(_WORDS_OF_STAGE) - {stage for _, stage in seen.spans}):
        names = [name for name, of in seen.spans if of is None and _words(name) & _WORDS_OF_STAGE[missing]]
        if names:
            lines["stages"].append(f"{missing} = {_toml(names[:_MOST_PROPOSALS])}")
    places: defaultdict[tuple[Section, str], list[tuple[int, str]]] = defaultdict(list)
    for (place, stage), value in seen.unread.items():
        scores = {
            fact: score
            for fact, hint in _HINTS.items()
            if ".".join(fact) not in always and (score := _score(fact, hint, place, stage, value))
        }
        if scores:
            best = max(scores, key=lambda fact: (scores[fact], fact))
            shown = place if best[0] == "turn" else Place("span", place.part, place.path)
            places[best].append((-scores[best], str(shown)))
    for section, fact in _HINTS:
        if found := [text for _, text in sorted(places[section, fact])]:
            lines[section].append(f"{fact} = {_toml(list(dict.fromkeys(found))[:_MOST_PROPOSALS])}")
    return {section: tuple(found) for section, found in lines.items()}


def _score(fact: tuple[Section, str], hint: _Hint, place: Place, stage: str | None, value: object) -> int:
    """Return how well a key fits a fact by its name, 0 where its name, its span or its type does not."""
    section, name = fact
    words = _words(place.path[0])
    says, fits = len(words & hint.says), len(words & hint.fits)
    if not says or (name in _NEEDS_BOTH and not fits) or not _fits(hint.convert, value):
        return 0
    if section != "turn":
        return says + fits if stage in _SPANS_OF_SECTION[section] else 0
    if name in _SAID_AT_THE_ROOT:
        return says + fits if place.where == "root" else 0
    return says + fits


def _fits(convert: Callable[[object], object], value: object) -> bool:
    try:
        return convert(value) is not None
    except WrongTypeError:
        return False


def _words(name: str) -> frozenset[str]:
    return frozenset(word.lower() for word in _WORD.findall(name))


def _toml(texts: Sequence[str]) -> str:
    return "[" + ", ".join('"' + one.replace("\\", "\\\\").replace('"', '\\"') + '"' for one in texts) + "]"
