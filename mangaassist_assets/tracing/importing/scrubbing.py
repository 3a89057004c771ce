"""Taking personal data and secrets out of an imported trace, before anything of it is written anywhere.

Text is redacted wherever it stands, in JSON that is kept as text as well, whose escapes would hide Japanese from the
patterns. Users become pseudonyms, so their turns stay together; identifiers of the platform stay as they are, for a
hash or a chunk id may look like a phone number. A model's stream is redacted as a whole: cut into events, an address
is in none of them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from mangaassist_assets.privacy import (
    Kind,
    field_kind,
    is_generated,
    is_pseudonym,
    kept_id,
    pseudonym,
    redact,
    redact_number,
)
from mangaassist_assets.tracing.adapters.stream_events import CHUNK_ATTRIBUTE, streamed_text, streamed_tool_uses
from mangaassist_assets.tracing.contract.names import Attribute, Tag
from mangaassist_assets.tracing.contract.records import SpanEvent
from mangaassist_assets.tracing.contract.values import decoded, mapping
from mangaassist_assets.tracing.importing.imported_trace import (
    INPUTS,
    OUTPUTS,
    ImportedAssessment,
    ImportedSpan,
    ImportedTrace,
)
from mangaassist_assets.tracing.importing.parsing import Part

REMOVED = "[REDACTED]"
PROFILE = "[PROFILE]"
_DEEPEST_TEXT = 8
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_HOME = re.compile(r"(?<![A-Za-z0-9])(/home/|/Users/|[A-Za-z]:\\Users\\)[^/\\\s\"':]{1,64}")
_IDENTIFIER = re.compile(r"[0-9A-Za-z._:/#+-]{1,250}")
_ATTRIBUTE_NAME = re.compile(r"[a-z]{1,20}(?:[._][a-z]{1,20}){1,5}")
_WORD = re.compile(r"(?!.*[0-9]{7})[A-Za-z_$][A-Za-z0-9_./:$-]{0,80}")
# Names of attributes, tags and fields that hold a user, in lower case: those of MLflow, LiteLLM and OpenTelemetry's
# semantic conventions. What else a name says of its value is `field_kind`'s.
USER_NAMES = frozenset({
    "user", "user_id", "userid", "user.id", "end_user", "end_user_id", "enduser.id", "customer_id", "username",
    "user_name", "user_api_key_user_id", "user_api_key_end_user_id", "mlflow.user", "mlflow.trace.user",
    "mlflow.auth.userid", "mlflow.auth.username", "mlflow.gateway.caller",
})  # fmt: skip
_SESSIONS = frozenset({
    "session", "session_id", "session.id", "sessionid", "conversation_id", "gen_ai.conversation.id",
    "litellm_session_id", "mlflow.trace.session",
})  # fmt: skip
# These hold ids of the platform, in this spelling. What a tool was asked and answered is text, even one word.
_IDENTIFIERS = frozenset({
    *Attribute, *Tag, "gen_ai.provider.name", "gen_ai.system", "mlflow.llm.provider", "mlflow.sourceRun",
    "mlflow.spanType",
}) - {
    Tag.SESSION_ID, Tag.USER_FEEDBACK, Attribute.FILTERS, Attribute.REASONS, Attribute.TOOL_ARGUMENTS,
    Attribute.TOOL_RESULT,
}  # fmt: skip
# Some models are called like people.
_MODEL_KEYS = ("model", "model_id", "modelid", "model_name", "model_group")
_MEASURED = re.compile(r"(?:_|\.|-)(?:n|m|u)s\Z|time|nano|bytes|seed|hash|version|(?:_|\.|\A)(?:id|at)\Z")
_SHORT = 4_000
_PREVIEW = 2_000
LONGEST_TEXT = 100_000
_CHUNK_NAME = re.compile(r"contentBlock\w*|content_block\w*|message\w*|chunk|streaming_chunk|mlflow\.chunk\.item\.\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrubber:
    """Scrubs traces with one installation's key, so that the same user is the same pseudonym in every file."""

    key: bytes

    def trace(self, trace: ImportedTrace) -> ImportedTrace:
        """Return the trace without personal data and secrets; ids, times, states and structure stay."""
        spans = tuple(self._span(span) for span in trace.spans)
        inputs, outputs = _changed(trace.spans, spans, INPUTS), _changed(trace.spans, spans, OUTPUTS)
        previews = {"mlflow.traceInputs": inputs, "mlflow.traceOutputs": outputs}
        return replace(
            trace,
            original_id=None if trace.original_id is None else kept_id(trace.original_id, self.key, prefix="t"),
            client_request_id=self._optional(trace.client_request_id),
            # A preview is cut, and a cut address is not found: it is made again where the whole text had changed.
            request_preview=self._preview(trace.request_preview, inputs),
            response_preview=self._preview(trace.response_preview, outputs),
            tags=self._texts(trace.tags),
            metadata=self._texts(trace.metadata)
            | {
                key: _cut(again, trace.metadata[key])
                for key, again in previews.items()
                if again is not None and key in trace.metadata
            },
            spans=spans,
            assessments=tuple(self._assessment(one) for one in trace.assessments),
        )

    def part(self, part: Part) -> Part:
        """Return a part of a file with its trace scrubbed."""
        return replace(part, trace=self.trace(part.trace))

    def text(self, value: str, depth: int = 0) -> str:
        """Return a text redacted; JSON in it is redacted value by value, and stays JSON."""
        if depth > _DEEPEST_TEXT:
            return REMOVED
        found = decoded(value)
        if found is not value and isinstance(found, Mapping | list | str):
            clean = self.value(found, depth + 1)
            return value if clean == found else json.dumps(clean, ensure_ascii=False)
        if "\\u" in value:
            # Cut JSON, such as a preview.
            spelled = _ESCAPE.sub(_unescaped, value)
            clean = _redacted(spelled)
            return value if clean == spelled else clean
        return _redacted(value)

    def value(self, value: object, depth: int = 0, key: str | None = None) -> object:
        """Return a JSON value with texts and keys redacted, users as pseudonyms, secrets removed."""
        if key is not None and (removed := _removed(key, value)) is not None:
            return removed
        if isinstance(value, Mapping):
            return {
                _label(str(name)): REMOVED if _is_match(str(name), value) else self.value(item, depth, str(name))
                for name, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.value(item, depth, key) for item in value]
        if isinstance(value, str):
            return self._named(key, value, depth)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self._named_number(key, value)
        return value

    def _named(self, key: str | None, value: str, depth: int) -> str:
        name = (key or "").lower()
        if not value:
            return value
        if name in USER_NAMES and not value.startswith(("{", "[")):
            return self._user(value)
        if name in _SESSIONS:
            return kept_id(value, self.key, prefix="s")
        if key is not None and (key in _IDENTIFIERS or name.endswith(_MODEL_KEYS)) and _IDENTIFIER.fullmatch(value):
            return value
        return self.text(value, depth)

    def _named_number(self, key: str | None, value: float) -> object:
        name = (key or "").lower()
        if name in USER_NAMES:
            return self._user(str(value))
        # A time or a length in nanoseconds has as many digits as a card.
        return value if _MEASURED.search(name) else redact_number(value)

    def _user(self, value: str) -> str:
        return value if is_pseudonym(value) else pseudonym(value, self.key)

    def _optional(self, value: str | None) -> str | None:
        return None if value is None else self.text(value)

    def _preview(self, value: str | None, again: object) -> str | None:
        return self._optional(value) if value is None or again is None else _cut(again, value)

    def _texts(self, values: Mapping[str, str]) -> dict[str, str]:
        return {
            _label(key): removed if (removed := _removed(key, value)) is not None else self._named(key, value, 0)
            for key, value in values.items()
        }

    def _span(self, span: ImportedSpan) -> ImportedSpan:
        attributes = self._object(span.attributes)
        return replace(
            span,
            name=_label(span.name),
            status_message=self.text(span.status_message),
            attributes=attributes,
            events=self._events(span.events, answered=span.attributes.get(OUTPUTS) != attributes.get(OUTPUTS)),
            links=tuple(replace(link, attributes=self._object(link.attributes)) for link in span.links),
        )

    def _object(self, value: Mapping[str, object]) -> dict[str, object]:
        return {_label(name): self.value(item, 0, name) for name, item in value.items()}

    def _events(self, events: Sequence[SpanEvent], *, answered: bool) -> tuple[SpanEvent, ...]:
        """Return events redacted; `answered`: the answer that they may be pieces of held personal data."""
        pieces = {
            index: piece
            for index, event in enumerate(events)
            if (piece := streamed_text(mapping(event.attributes.get(CHUNK_ATTRIBUTE)))) is not None
        }
        whole = "".join(piece for _, piece in sorted(pieces.items(), key=lambda one: events[one[0]].timestamp_ns))
        clean = _redacted(whole)
        rest = clean if clean != whole else None
        # The arguments of a tool come in pieces, too, each harmless on its own.
        arguments = [json.dumps(use.arguments, ensure_ascii=False, default=str) for use in streamed_tool_uses(events)]
        answered = answered or any(_redacted(one) != one for one in arguments)
        scrubbed: list[SpanEvent] = []
        for index, event in enumerate(events):
            attributes = self._object(event.attributes)
            if index in pieces and rest is not None:
                chunk = _with_text(mapping(event.attributes.get(CHUNK_ATTRIBUTE)), rest)
                attributes[CHUNK_ATTRIBUTE] = json.dumps(self.value(chunk), ensure_ascii=False)
                rest = ""
            elif answered and index not in pieces and _CHUNK_NAME.fullmatch(event.name):
                attributes = {name: REMOVED if isinstance(one, str) else one for name, one in attributes.items()}
            scrubbed.append(replace(event, name=_label(event.name), attributes=attributes))
        return tuple(scrubbed)

    def _assessment(self, one: ImportedAssessment) -> ImportedAssessment:
        source = one.source_id
        if source and one.source_type == "HUMAN" and (self.text(source) != source or "@" in source or " " in source):
            source = self._user(source)
        elif source is not None:
            source = self.text(source)
        return replace(
            one,
            name=_label(one.name),
            value=self.value(one.value),
            source_id=source,
            rationale=self._optional(one.rationale),
            metadata=self._texts(one.metadata),
            error=None if one.error is None else self._texts(one.error),
        )


def _removed(key: str, value: object) -> str | None:
    """Return what stands for a value whose name calls it personal or a secret; None where it does not."""
    if not value or isinstance(value, bool) or key.lower() in USER_NAMES:
        return None
    kind = field_kind(key)
    return None if kind is None else PROFILE if kind is Kind.PROFILE else REMOVED


def _is_match(name: str, finding: Mapping[str, object]) -> bool:
    """Return whether a field repeats what a guardrail of Bedrock found: `piiEntities[].match` and its like."""
    return name == "match" and not finding.keys().isdisjoint({"action", "type", "regex", "detected"})


def _cut(value: object, before: str) -> str:
    return json.dumps(value, ensure_ascii=False)[: max(len(before), 40)]


def _label(value: str) -> str:
    """Return a key or the name of a span redacted; one word of a program, such as `max`, is nobody's name."""
    return value if _WORD.fullmatch(value) else _redacted(value)


def _redacted(value: str) -> str:
    if is_generated(value) or _ATTRIBUTE_NAME.fullmatch(value):
        return value
    return _redacted_short(value) if len(value) <= _SHORT else _redacted_any(value)


def _redacted_any(value: str) -> str:
    if len(value) > LONGEST_TEXT:
        # As with prompts over the limit: equal texts stay equal, the beginning can be read.
        digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
        # More is redacted than shown, so that nothing is cut before it is found.
        preview = _redacted_any(value[: 2 * _PREVIEW])[:_PREVIEW]
        return f"{preview}… [{len(value)} characters, sha256 {digest}]"
    return _HOME.sub(lambda match: f"{match.group(1)}[NAME]", redact(value).text)


@lru_cache(maxsize=8_192)
def _redacted_short(value: str) -> str:
    """Traces say the same again and again: names, prompts, system messages."""
    return _redacted_any(value)


def _unescaped(match: re.Match[str]) -> str:
    code = int(match.group(1), 16)
    return match.group(0) if 0xD800 <= code <= 0xDFFF else chr(code)


def _changed(before: Sequence[ImportedSpan], after: Sequence[ImportedSpan], key: str) -> object:
    for old, new in zip(before, after, strict=True):
        if old.parent_id is None and old.attributes.get(key) != new.attributes.get(key):
            return new.attributes.get(key)
    return None


def _with_text(value: object, piece: str) -> object:
    if isinstance(value, Mapping):
        return {
            key: piece
            if key in ("text", "content", "outputText", "generation", "completion") and isinstance(item, str)
            else _with_text(item, piece)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_with_text(item, piece) for item in value]
    return value
