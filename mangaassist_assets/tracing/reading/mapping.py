"""Where the facts of a turn are found in a trace, as data: stages by span names, facts by places.

The packaged file `trace_mapping.toml` knows the reference chatbot, MangaAssist's orchestrator and what neighbours
write; a file of one's own is laid over it and names only what differs. An unknown key, a place that leads nowhere by
its form, a list without a place: each is an error that names it, since a misspelled place would silently find nothing.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, TypeGuard, get_args

from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.tracing.contract.names import SpanName

PACKAGED_MAPPING: Final = Path(__file__).with_name("trace_mapping.toml")
MAPPING_VARIABLE: Final = "MANGAASSIST_TRACE_MAPPING"
MAPPING_SCHEMA: Final = 1
TYPE_PREFIX: Final = "type:"
_MAXIMUM_BYTES = 1_000_000
_LONGEST = 500
_REMEMBERED = 4_096
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")

Section = Literal["turn", "generation", "search", "tool", "stage", "guardrail"]
Part = Literal["inputs", "outputs", "attributes"]
_PARTS: tuple[Part, ...] = get_args(Part)

FACTS: Final[Mapping[Section, frozenset[str]]] = {
    "turn": frozenset({
        "release_bundle", "session_id", "message", "answer", "user_id", "response_id", "tenant", "team", "intent",
        "intent_confidence", "intent_model_version", "shadow_intent", "shadow_confidence", "shadow_model_version",
        "reranker_version", "prompt_version", "bedrock_model_id", "guardrail_ruleset_version",
        "routing_policy_version", "index_generation", "embedding_model_id", "experiment_id", "cache_hit",
        "user_feedback", "candidate_count", "selected_ids",
    }),
    "generation": frozenset({
        "model_id", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "stop_reason",
        "reported_cost_usd",
    }),
    "search": frozenset({
        "chunk_ids", "document_ids", "retrieval_ranks", "retrieval_scores", "scores", "rerank_ranks", "rerank_scores",
    }),
    "tool": frozenset({"name", "arguments", "result", "failed", "error"}),
    "stage": frozenset({
        "endpoint_name", "model_family", "model_version", "chunk_count", "source_types", "filters", "payload",
    }),
    "guardrail": frozenset({"blocked", "reasons"}),
}  # fmt: skip


class TraceMappingError(OperatorError, ValueError):
    """A mapping file that cannot be used; the message names the file, the key and what is wrong."""


@dataclass(frozen=True, slots=True)
class Place:
    """One place in a trace: `where` is tags, metadata, root, any, span or a stage; `path` leads on into JSON."""

    where: str
    part: Part | None
    path: tuple[str, ...]
    text: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Keep the text: it is asked for with every fact that is read."""
        start = self.where if self.part is None else f"{self.where}.{self.part}"
        object.__setattr__(self, "text", "/".join((start, *(key.replace("/", "~1") for key in self.path))))

    def __str__(self) -> str:
        """Return the place as mapping files write it."""
        return self.text


@dataclass(frozen=True, slots=True)
class SpanPattern:
    """Which spans are of a stage: by name, with `*`, or by MLflow's span type."""

    text: str
    span_type: str | None
    name: re.Pattern[str] | None

    def matches(self, name: str, span_type: str | None) -> bool:
        """Return whether a span of this name and type is meant."""
        if self.name is None:
            return span_type is not None and span_type.upper() == self.span_type
        return self.name.fullmatch(name) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceMapping:
    """All of a mapping. `digest` is the SHA-256 of what it says; `file` names the file laid over the packaged one."""

    stages: Mapping[str, tuple[SpanPattern, ...]]
    places: Mapping[Section, Mapping[str, tuple[Place, ...]]]
    verdicts: frozenset[str]
    digest: str
    file: str
    _seen: dict[tuple[str, str | None], tuple[str, ...]] = field(default_factory=dict, compare=False, repr=False)

    def stages_of(self, name: str, span_type: str | None) -> tuple[str, ...]:
        """Return the stages that a span of this name and type is of, in the order of the mapping."""
        found = self._seen.get((name, span_type))
        if found is None:
            # A name says more than a type: a retriever that one's file calls `vector_search` is nothing else.
            found = self._matching(name, None) or self._matching(name, span_type)
            # Names may be made up for each trace: what is remembered has an end.
            if len(self._seen) < _REMEMBERED:
                self._seen[name, span_type] = found
        return found

    def _matching(self, name: str, span_type: str | None) -> tuple[str, ...]:
        return tuple(
            stage for stage, patterns in self.stages.items() if any(one.matches(name, span_type) for one in patterns)
        )


def read_mapping(path: Path | None = None) -> TraceMapping:
    """Read a mapping file and lay it over the packaged one; None is the packaged one alone.

    Raises:
        TraceMappingError: The file is missing, is not TOML, or a key of it is wrong; names the first that is.
    """
    return _packaged() if path is None else _mapping(_parsed(PACKAGED_MAPPING), _parsed(path), path.name)


def parse_place(text: str, stages: frozenset[str] | set[str] = frozenset(SpanName)) -> Place:
    """Return the place that a text names.

    Raises:
        ValueError: It names none; says how one is written.
    """
    start, *path = text.split("/")
    keys = tuple(key.replace("~1", "/") for key in path)
    if not all(keys):
        raise ValueError(f"{text!r} has an empty key")
    if start in ("tags", "metadata"):
        if not keys:
            raise ValueError(f"{text!r} names no key: write {start}/NAME")
        return Place(start, None, keys)
    where, dot, part = start.rpartition(".")
    if not dot or part not in _PARTS:
        raise ValueError(f"{text!r} is no place: begin with tags/, metadata/, or WHERE.inputs, .outputs, .attributes")
    if where not in {"root", "any", "span", *stages}:
        raise ValueError(f"{text!r} names no stage: there are root, any, span, {', '.join(sorted(stages))}")
    if part == "attributes" and not keys:
        raise ValueError(f"{text!r} names no attribute: write {start}/NAME")
    return Place(where, next(one for one in _PARTS if one == part), keys)


@cache
def _packaged() -> TraceMapping:
    return _mapping(_parsed(PACKAGED_MAPPING), {}, PACKAGED_MAPPING.name)


def _parsed(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAXIMUM_BYTES + 1)
    except OSError as error:
        raise TraceMappingError(f"the trace mapping {path} cannot be read: {error.strerror or error}") from error
    if len(data) > _MAXIMUM_BYTES:
        raise TraceMappingError(
            f"the trace mapping {path} is longer than {_MAXIMUM_BYTES} bytes: is it the right file?"
        )
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise TraceMappingError(f"the trace mapping {path} is not TOML in UTF-8: {error}") from error


def _mapping(packaged: Mapping[str, Any], own: Mapping[str, Any], file: str) -> TraceMapping:
    base, over = _File(PACKAGED_MAPPING.name).checked(packaged), _File(file).checked(own) if own else {}
    stages = _joined(base["stages"], over.get("stages", {}))
    # A span name that one's own file gives to a stage is no other stage's any more.
    for stage, patterns in over.get("stages", {}).items():
        for other in set(stages) - {stage}:
            if other not in over["stages"]:
                stages[other] = [one for one in stages[other] if one not in patterns]
    said: dict[str, Any] = {
        "stages": {name: stages[name] for name in (*over.get("stages", {}), *stages)},
        **{section: _joined(base[section], over.get(section, {})) for section in FACTS},
        "verdicts": sorted({*base["verdicts"]["names"], *over.get("verdicts", {}).get("names", [])}),
    }
    wrong = _File(file)
    return TraceMapping(
        stages={name: tuple(_pattern(one) for one in patterns) for name, patterns in said["stages"].items()},
        places={
            section: {
                fact: tuple(wrong.place(text, f"{section}.{fact}", section, set(stages)) for text in texts)
                for fact, texts in said[section].items()
            }
            for section in FACTS
        },
        verdicts=frozenset(said["verdicts"]),
        # The order of the stages counts: the first that matches a span has it.
        digest=hashlib.sha256(canonical_json({**said, "stages": list(said["stages"].items())})).hexdigest(),
        file=file,
    )


def _joined(base: Mapping[str, list[str]], own: Mapping[str, list[str]]) -> dict[str, list[str]]:
    return {key: list(dict.fromkeys([*own.get(key, []), *base.get(key, [])])) for key in (*base, *own)}


def _pattern(text: str) -> SpanPattern:
    if text.startswith(TYPE_PREFIX):
        return SpanPattern(text, text.removeprefix(TYPE_PREFIX).upper(), None)
    return SpanPattern(text, None, re.compile(translate(text)))


@dataclass(frozen=True, slots=True)
class _File:
    """Checks one file; `name` is what messages call it."""

    name: str

    def checked(self, content: Mapping[str, Any]) -> dict[str, dict[str, list[str]]]:
        known = {"schema", "stages", "verdicts", *FACTS}
        for key in sorted(set(content) - known):
            raise self._wrong(key[:60], f"is unknown; there are {', '.join(sorted(known))}")
        if content.get("schema") != MAPPING_SCHEMA or isinstance(content.get("schema"), bool):
            raise self._wrong("schema", f"is {content.get('schema')!r}; this platform reads {MAPPING_SCHEMA}")
        tables: dict[str, dict[str, list[str]]] = {}
        for section in sorted(set(content) - {"schema"}):
            table = content[section]
            if not isinstance(table, dict):
                raise self._wrong(section, "is not a table")
            tables[section] = {key: self._texts(value, f"{section}.{key[:60]}") for key, value in table.items()}
            self._keys(section, tables[section])
        self._no_span_twice(tables.get("stages", {}))
        return tables

    def place(self, text: str, where: str, section: Section, stages: set[str]) -> Place:
        try:
            found = parse_place(text, stages)
        except ValueError as why:
            raise self._wrong(where, str(why)) from None
        if found.where == "span" and section == "turn":
            raise self._wrong(where, f"{text!r}: there is no span at hand for facts of the turn; name a stage")
        return found

    def _keys(self, section: str, table: Mapping[str, list[str]]) -> None:
        if section == "stages":
            for key in table:
                if not _NAME.fullmatch(key):
                    raise self._wrong(f"stages.{key[:60]}", "is no name: use small letters, digits and underscores")
            return
        known = {"names"} if section == "verdicts" else next(FACTS[one] for one in FACTS if one == section)
        for key in sorted(set(table) - known):
            raise self._wrong(f"{section}.{key[:60]}", f"is unknown; there are {', '.join(sorted(known))}")

    def _texts(self, value: object, where: str) -> list[str]:
        if not _are_texts(value):
            raise self._wrong(where, "is not a list of texts")
        if not value:
            raise self._wrong(where, "names no place: give one, or leave the line out")
        return value

    def _no_span_twice(self, stages: Mapping[str, list[str]]) -> None:
        owner: dict[str, str] = {}
        for stage, patterns in stages.items():
            for pattern in patterns:
                if owner.setdefault(pattern, stage) != stage:
                    raise self._wrong(
                        f"stages.{stage}", f"names {pattern!r}, which stages.{owner[pattern]} has already"
                    )

    def _wrong(self, key: str, why: str) -> TraceMappingError:
        return TraceMappingError(f"trace mapping {self.name}: {key} {why}")


def _are_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(one, str) and 0 < len(one) <= _LONGEST for one in value)
