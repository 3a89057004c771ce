"""The reading of a trace under the trace contract, whose names are in `contract.names`.

`read_trace` is the only way from a trace to a `ChatTurn`. Where each fact is found is a mapping (`mapping`). A trace
without bundle, session or message goes to quarantine with its reason: counted, kept, never dropped, never trained on.
Any other fact of a wrong type is a missing part and a problem of the reading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mangaassist_assets.core.bundles import bundle_defect
from mangaassist_assets.privacy import Vocabulary, conversation_key, is_pseudonym, kept_id, redact, user_key
from mangaassist_assets.tracing.adapters import Converted, in_contract_shape
from mangaassist_assets.tracing.adapters.building import why_failed
from mangaassist_assets.tracing.contract.names import Tag
from mangaassist_assets.tracing.contract.records import TraceRecord
from mangaassist_assets.tracing.contract.turns import ChatTurn
from mangaassist_assets.tracing.reading.candidates import candidates_of
from mangaassist_assets.tracing.reading.mapping import TraceMapping, read_mapping
from mangaassist_assets.tracing.reading.trace_view import FactReader, TraceView
from mangaassist_assets.tracing.reading.turn_parts import (
    CONTRACT_SPANS,
    failed_span_of,
    generations_of,
    guardrails_of,
    own_name,
    review_of,
    reviews_of,
    stages_of,
    thumb_of,
    tools_of,
    verdicts_of,
)
from mangaassist_assets.tracing.reading.typed_values import (
    boolean_of,
    given_name_of,
    model_of,
    name_of,
    said_by,
    share_of,
)

CONTRACT_VERSION = 8
"""Goes up when the same trace would be read as another turn: what is ingested is then read again."""
_READ_APART = (Tag.RELEASE_BUNDLE, Tag.SESSION_ID, Tag.CACHE_HIT, Tag.USER_FEEDBACK)
_MODELS = (Tag.BEDROCK_MODEL_ID, Tag.EMBEDDING_MODEL_ID)
_NAMED_TAGS = tuple(tag for tag in Tag if tag not in _READ_APART)
_OTHER_FACTS: Mapping[str, Callable[[object], object]] = {
    "intent_confidence": share_of, "team": given_name_of, "response_id": given_name_of, "shadow_intent": name_of,
    "shadow_confidence": share_of, "shadow_model_version": name_of,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A trace that breaks the contract. Holds no text of the conversation."""

    trace_id: str
    timestamp_ms: int
    reason: str
    release_bundle: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceReading:
    """One finished trace under the contract: a turn or its reason for quarantine, and which parts were there.

    `tags` and `spans` are the names of the contract that the trace has; `user_key` is a pseudonym or None. `problems`
    say what was odd, by fact, and quote nothing; `sources` has the place of each fact, by `section.fact`.
    """

    outcome: ChatTurn | Quarantined
    state: str
    tags: frozenset[str]
    spans: frozenset[str]
    user_key: str | None
    problems: tuple[str, ...] = ()
    sources: dict[str, str] = field(default_factory=dict)


def read_trace(
    trace: TraceRecord,
    *,
    pseudonym_key: bytes | None = None,
    vocabulary: Vocabulary | None = None,
    mapping: TraceMapping | None = None,
) -> TraceReading:
    """Read one finished trace under the contract, whatever tool wrote it.

    Message, answer and error are redacted again here, so a turn is free of personal data whoever wrote the trace.

    Args:
        trace: The trace.
        pseudonym_key: The installation's secret. With it a user id that some other tool wrote plainly becomes a
            pseudonym, and placeholders are the same in all turns of a session; without it such an id is dropped.
        vocabulary: The store's own words, which are no personal data.
        mapping: Where the facts of a turn are found, by default the packaged mapping.
    """
    converted, reader = _reader_of(trace, mapping)
    user = reader.read("turn", "user_id", given_name_of)
    pseudonyms = (one for one in converted.users if isinstance(one, str) and is_pseudonym(one))
    user_pseudonym = user_key(user, pseudonym_key) or next(pseudonyms, None)
    tags: dict[Tag, object] = {}
    turn, reason = _Parsing(reader, converted, tags, pseudonym_key, vocabulary).turn(user_pseudonym)
    outcome: ChatTurn | Quarantined = turn
    if reason is not None:
        outcome = Quarantined(
            trace_id=trace.trace_id,
            timestamp_ms=trace.timestamp_ms,
            reason=reason,
            release_bundle=_valid_bundle_or_none(turn.release_bundle or None),
        )
    return TraceReading(
        outcome=outcome,
        state=trace.state,
        tags=frozenset(str(tag) for tag, value in tags.items() if value is not None),
        spans=CONTRACT_SPANS & set(reader.view.by_stage),
        user_key=user_pseudonym,
        problems=reader.problems,
        sources=reader.sources,
    )


def identifying_tags(trace: TraceRecord, mapping: TraceMapping | None = None) -> dict[str, str]:
    """Return release bundle and session as a trace names them: the tags by which it is found."""
    _, reader = _reader_of(trace, mapping)
    bundle = _valid_bundle_or_none(reader.read("turn", Tag.RELEASE_BUNDLE, name_of))
    session = reader.read("turn", Tag.SESSION_ID, name_of)
    if reader.sources.get(f"turn.{Tag.SESSION_ID}", "").startswith("metadata/"):
        # MLflow finds a trace by its own session, too; a tag that the file has not would be one more to keep alike.
        session = None
    found = {Tag.RELEASE_BUNDLE: bundle, Tag.SESSION_ID: session}
    return {str(tag): value for tag, value in found.items() if value is not None}


def _valid_bundle_or_none(key: str | None) -> str | None:
    return key if bundle_defect(key) is None else None


def _reader_of(trace: TraceRecord, mapping: TraceMapping | None) -> tuple[Converted, FactReader]:
    where = mapping or read_mapping()
    converted = in_contract_shape(trace)
    return converted, FactReader(TraceView(converted.trace, where, converted.made), where)


@dataclass(frozen=True, slots=True)
class _Parsing:
    """One trace on its way to a turn; `tags` collects the facts that are tags of the contract."""

    reader: FactReader
    converted: Converted
    tags: dict[Tag, object]
    key: bytes | None
    vocabulary: Vocabulary | None

    def turn(self, user: str | None) -> tuple[ChatTurn, str | None]:
        """Return what the trace says as a turn, and why it cannot be one; what it has counts for the coverage."""
        reader, trace = self.reader, self.converted.trace
        bundle, session_id = self._named(Tag.RELEASE_BUNDLE), self._named(Tag.SESSION_ID)
        conversation = None if self.key is None else conversation_key(session_id or "", self.key)

        def redacted(text: str) -> str:
            return redact(text, conversation=conversation, vocabulary=self.vocabulary).text

        facts: dict[str, Any] = {str(tag): self._named(tag) for tag in _NAMED_TAGS}
        facts |= {name: reader.read("turn", name, convert) for name, convert in _OTHER_FACTS.items()}
        state = self._state()
        cache_hit = reader.read("turn", Tag.CACHE_HIT, boolean_of)
        # What failed was answered by nothing, whatever the cache held.
        self.tags[Tag.CACHE_HIT] = cache_hit = cache_hit if state == "OK" or cache_hit is None else False
        self.tags[Tag.USER_FEEDBACK] = thumb = thumb_of(reader)
        message = self._text("message", "user", self.converted.message)
        reason = self._broken(bundle, session_id, message)
        failed = failed_span_of(trace.spans) if state == "ERROR" else None
        answer = self._text("answer", "assistant", self.converted.answer)
        candidates = candidates_of(reader)
        blocked, reasons = guardrails_of(reader)
        expected_intent, expected_documents, reviewer = review_of(reader)
        turn = ChatTurn(
            trace_id=trace.trace_id,
            timestamp_ms=trace.timestamp_ms,
            duration_ms=max(0, trace.duration_ms),
            state=state,
            release_bundle=bundle or "",
            session_id=kept_id(session_id or "", self.key or b"", prefix="s"),
            user_key=user,
            message=redacted(message or ""),
            answer=None if answer is None else redacted(answer),
            cache_hit=cache_hit,
            candidates=candidates.chunks,
            candidate_count=candidates.count,
            guardrail_blocked=blocked,
            guardrail_reasons=reasons,
            failed_span=None
            if failed is None
            else reader.view.stage_of.get(failed.span_id) or own_name(failed.name, redacted),
            error=None if failed is None else redacted(why_failed(failed)[:500]) or None,
            user_feedback=thumb,
            expected_intent=expected_intent,
            expected_documents=expected_documents,
            reviewer=reviewer,
            reviews=reviews_of(trace.assessments),
            stages=stages_of(reader, redacted),
            generations=generations_of(reader),
            tools=tools_of(reader, redacted),
            verdicts=verdicts_of(reader, redacted),
            shape=self.converted.shape,
            **{**facts, "tenant": self._harmless(facts["tenant"]), "team": self._harmless(facts["team"])},
        )
        return turn, reason

    def _broken(self, bundle: str | None, session_id: str | None, message: str | None) -> str | None:
        if bundle is None:
            return self._missing(Tag.RELEASE_BUNDLE)
        if _valid_bundle_or_none(bundle) is None:
            return "release_bundle is not a valid bundle key"
        if session_id is None:
            return self._missing(Tag.SESSION_ID)
        if self.converted.trace.state == "IN_PROGRESS":
            return "the trace never ended: its state is IN_PROGRESS"
        return self._missing("message") if message is None else None

    def _named(self, tag: Tag) -> str | None:
        found = self.reader.read("turn", tag, model_of if tag in _MODELS else given_name_of)
        self.tags[tag] = found
        return found

    def _harmless(self, customer: str | None) -> str | None:
        """Return what a tenant or team is called; one that is called by an address is kept as a pseudonym."""
        return None if customer is None else kept_id(customer, self.key or b"", prefix="t", names=False)

    def _text(self, fact: str, role: str, converted: str | None) -> str | None:
        """Return a text of the turn: what an adapter knows of a root that is a model call, else as mapped."""
        found = None
        if converted is None or not self.converted.is_root_call:
            found = self.reader.read("turn", fact, said_by(role))
        if found is None and converted is not None:
            self.reader.sources[f"turn.{fact}"] = f"the model calls, as {self.converted.shape} writes them"
        return converted if found is None else found

    def _missing(self, fact: str) -> str:
        """Return why a trace cannot do: what is wrong with the fact, or where it was looked for."""
        if self.reader.view.root is None:
            return f"{fact} is missing: the trace has no spans" if fact == "message" else f"{fact} is missing"
        wrong = [one for one in self.reader.problems if one.startswith(f"{fact}: ")]
        if wrong:
            return f"{fact} cannot be read: {wrong[0].removeprefix(f'{fact}: ')}"
        places = self.reader.mapping.places["turn"].get(fact, ())
        return f"{fact} is missing: nothing at {places[0]} nor at {len(places) - 1} other places of the trace mapping"

    def _state(self) -> Literal["OK", "ERROR"]:
        state = self.converted.trace.state
        if state in ("OK", "ERROR"):
            return state
        root = self.reader.view.root
        self.reader.note("state: the trace has none, so that of its root counts")
        return "ERROR" if root is not None and root.status == "ERROR" else "OK"
