"""The reference chatbot: one message in, one answer out, one trace by the contract.

It is the same code wherever it runs; the parts it is given decide whether Bedrock and SageMaker answer or what
stands in for them. A part that fails ends the turn in ERROR with its span, and the shopper gets the fallback.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from mangaassist_assets.chatbot.configuration.documents import (
    Configuration,
    GuardrailsDocument,
    PromptsDocument,
    RoutingDocument,
)
from mangaassist_assets.chatbot.configuration.experiments import TurnConfiguration, TurnConfigurations
from mangaassist_assets.chatbot.guardrails import check_answer, check_message
from mangaassist_assets.chatbot.parts import (
    Endpoint,
    GenerationRequest,
    Generator,
    StageError,
    TraceSink,
    classification,
    ranked_labels,
    scope_decision,
    served_model,
)
from mangaassist_assets.chatbot.prompts import Prompt, build_prompt
from mangaassist_assets.chatbot.retrieval import Retriever
from mangaassist_assets.chatbot.shadow import Shadows, TurnShadows
from mangaassist_assets.chatbot.tracer import ActiveSpan, TurnTracer
from mangaassist_assets.core.bundles import validate_bundle
from mangaassist_assets.privacy import Vocabulary, conversation_key, kept_id, prompt_record, pseudonym, redact
from mangaassist_assets.retrieval.pipeline import Retrieved
from mangaassist_assets.retrieval.tenants import TenantScope
from mangaassist_assets.tracing.contract.names import NO_EXPERIMENT, Attribute, SpanName, Tag

PROMPT_LIMIT = 4_000
"""Characters of a prompt that a trace keeps whole; of a longer one it keeps hash and preview."""
_SESSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z._:-]{0,127}")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
# What one trace keeps of a message: the guardrails refuse longer ones long before.
_TRACED_CHARACTERS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One message of a shopper.

    `user_id` and `session_id` are as the store knows them; only their pseudonyms leave the chatbot. `event_time_ms`
    replays a message at the time it was written (milliseconds since the epoch); None means now. The same `request_id`
    always makes the same trace id; None makes a new one. `tenant` is whose shopper writes: the answer is made of that
    tenant's documents and of those of no tenant, without one of the latter alone. It is what the store authenticated,
    never something that the shopper says.
    """

    message: str
    session_id: str
    release_bundle: str
    user_id: str | None = None
    event_time_ms: int | None = None
    request_id: str | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatReply:
    """What came of a message, with the pseudonyms it was traced under.

    `intent` and `used_documents` are what a turn that ended early does not have; `error` says why it failed.
    """

    trace_id: str
    timestamp_ms: int
    duration_ms: int
    session_id: str
    user_key: str | None
    state: Literal["OK", "ERROR"]
    answer: str
    intent: str | None
    used_documents: tuple[str, ...]
    blocked: bool
    error: str | None = None


@dataclass(slots=True)
class _Turn:
    """What is known of a turn so far; a stage that fails leaves the rest unset."""

    message: str
    conversation: bytes
    scope: TenantScope
    intent: str | None = None
    answer: str | None = None
    used_documents: tuple[str, ...] = ()
    blocked: bool = False
    error: str | None = None


class Chatbot:
    """Answers messages. One instance serves several threads if its parts do."""

    def __init__(
        self,
        *,
        intent: Endpoint,
        retriever: Retriever,
        configuration: Configuration,
        generator: Generator,
        sink: TraceSink,
        pseudonym_key: bytes,
        endpoints: Callable[[str], Endpoint] | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        self._intent = intent
        self._retriever = retriever
        self._configuration = configuration
        self._generator = generator
        self._sink = sink
        self._key = pseudonym_key
        self._turns = TurnConfigurations(configuration)
        self._endpoints = endpoints
        self._shadows = Shadows(endpoints)
        self._vocabulary = vocabulary

    def flush(self) -> int:
        """Wait until all traces so far are stored and return how many; raises where one could not be."""
        return self._sink.flush()

    def trace_id(self, request_id: str) -> str:
        """Return the trace id of the turn that a request id makes: keyed, so that it tells nothing of the request."""
        digest = hmac.new(self._key, f"trace\0{request_id}".encode("utf-8", "surrogatepass"), hashlib.sha256)
        return f"tr-{digest.hexdigest()[:32]}"

    def answer(self, request: ChatRequest) -> ChatReply:
        """Answer one message.

        Raises:
            InvalidBundleError: The request names no valid release bundle.
            InvalidTenantError: The request's tenant is not the name of one. A stage that fails does not raise: it makes
                a turn in state ERROR. Any other error is written to the trace and goes on to the caller.
        """
        validate_bundle(request.release_bundle)
        scope = TenantScope.of(request.tenant)
        session_id = self._session(request.session_id)
        turn = _Turn(
            message=_CONTROL.sub("", request.message),
            conversation=conversation_key(session_id, self._key),
            scope=scope,
        )
        user_key = None if request.user_id is None else pseudonym(request.user_id, self._key)
        tracer = TurnTracer(
            session_id=session_id,
            release_bundle=request.release_bundle,
            user_key=user_key,
            start_ns=None if request.event_time_ms is None else request.event_time_ms * 1_000_000,
            trace_id=None if request.request_id is None else self.trace_id(request.request_id),
            conversation=turn.conversation,
            vocabulary=self._vocabulary,
        )
        tracer.tag(Tag.EXPERIMENT_ID, NO_EXPERIMENT)
        if scope.tenant is not None:
            tracer.tag(Tag.TENANT, kept_id(scope.tenant, self._key, prefix="t", names=False))
        tracer.tag(Tag.CACHE_HIT, "false")
        fallback: str = PromptsDocument.model_fields["fallback"].default
        try:
            with tracer.span(SpanName.CHAT_TURN, inputs={"message": turn.message[:_TRACED_CHARACTERS]}) as root:
                try:
                    prompts = self._configuration.prompts()
                    fallback = prompts.fallback
                    configured = self._turns.of(prompts, user_key=user_key, session_id=session_id)
                    tracer.tag(Tag.EXPERIMENT_ID, configured.experiment_id)
                    fallback = configured.prompts.fallback
                    self._run(turn, tracer, configured)
                finally:
                    root.outputs = {"answer": fallback if turn.answer is None else turn.answer}
        except StageError as error:
            turn.error = redact(str(error), conversation=turn.conversation).text
        finally:
            trace = tracer.finish(self._sink)
        return ChatReply(
            trace_id=trace.trace_id,
            timestamp_ms=trace.timestamp_ms,
            duration_ms=trace.duration_ms,
            session_id=session_id,
            user_key=user_key,
            state="OK" if turn.error is None else "ERROR",
            answer=fallback if turn.answer is None else turn.answer,
            intent=turn.intent,
            used_documents=turn.used_documents,
            blocked=turn.blocked,
            error=turn.error,
        )

    def _session(self, session_id: str) -> str:
        """Return the session id as it may be kept; one that is not a plain token becomes a pseudonym."""
        keep = kept_id if _SESSION.fullmatch(session_id) else pseudonym
        return keep(session_id, self._key, prefix="s")

    def _run(self, turn: _Turn, tracer: TurnTracer, configured: TurnConfiguration) -> None:
        shadows = self._shadows.of_turn(configured.routing.shadow_mode, tracer.trace_id)
        try:
            self._answer(turn, tracer, configured, shadows)
        finally:
            shadows.trace(tracer)

    def _answer(self, turn: _Turn, tracer: TurnTracer, configured: TurnConfiguration, shadows: TurnShadows) -> None:
        prompts, routing, rules = configured.prompts, configured.routing, configured.guardrails
        tracer.tag(Tag.PROMPT_VERSION, prompts.version)
        tracer.tag(Tag.ROUTING_POLICY_VERSION, routing.version)
        tracer.tag(Tag.GUARDRAIL_RULESET_VERSION, rules.version)
        if reasons := check_message(rules, turn.message):
            with tracer.span(SpanName.GUARDRAILS) as span:
                _put_verdict(span, rules, reasons)
            turn.blocked, turn.answer = True, rules.blocked_answer
            return
        turn.intent = self._classify(turn.message, tracer, self._other(configured.intent_endpoint), shadows)
        reranker = self._other(configured.reranker_endpoint)
        retrieved = self._retriever.retrieve(
            turn.message, routing, tracer, scope=turn.scope, reranker=reranker, shadows=shadows
        )
        prompt = self._build(turn, prompts, retrieved, tracer)
        turn.used_documents = tuple(dict.fromkeys(hit.document_id for hit in prompt.passages))
        answer = self._generate(turn.message, prompt, routing, tracer)
        with tracer.span(SpanName.GUARDRAILS) as span:
            relevances = [item.relevance for item in retrieved.selected]
            reasons = check_answer(rules, answer, relevances, passages=[hit.text for hit in prompt.passages])
            _put_verdict(span, rules, reasons)
        turn.blocked = bool(reasons)
        turn.answer = rules.blocked_answer if reasons else answer or prompts.fallback

    def _other(self, endpoint_name: str | None) -> Endpoint | None:
        """Return the endpoint that an arm names, None where it names none and the champion's answers."""
        if endpoint_name is None:
            return None
        if self._endpoints is None:
            raise StageError(f"an experiment names endpoint {endpoint_name}, which this chatbot has no way to reach")
        return self._endpoints(endpoint_name)

    def _classify(self, message: str, tracer: TurnTracer, other: Endpoint | None, shadows: TurnShadows) -> str:
        endpoint = other or self._intent
        request = {"text": message}
        with tracer.span(SpanName.INTENT_CLASSIFICATION, inputs=request) as span:
            span.set({Attribute.ENDPOINT_NAME: endpoint.name, Attribute.MODEL_FAMILY: "distilbert"})
            shadows.intent(request)
            answer = endpoint.invoke(request)
            model = served_model(answer, endpoint.name)
            tracer.tag(Tag.INTENT_MODEL_VERSION, model.version)
            intent, confidence = classification(answer, endpoint.name)
            tracer.tag(Tag.INTENT, intent)
            span.set(
                {
                    Attribute.INTENT: intent,
                    Attribute.CONFIDENCE: confidence,
                    Attribute.MODEL_VERSION: model.version,
                    Attribute.MODEL_SHA256: model.sha256,
                }
            )
            span.set({Attribute.IN_SCOPE: scope_decision(answer, endpoint.name)})
            ranked = ranked_labels(answer, endpoint.name)
            span.outputs = {"intent": intent, "confidence": confidence, "predictions": ranked}
            return intent

    def _build(self, turn: _Turn, document: PromptsDocument, retrieved: Retrieved, tracer: TurnTracer) -> Prompt:
        with tracer.span(SpanName.BUILD_PROMPT) as span:
            prompt = build_prompt(document, turn.message, [item.hit for item in retrieved.selected])
            record = prompt_record(
                f"{prompt.system}\n\n{prompt.user}",
                PROMPT_LIMIT,
                conversation=turn.conversation,
                vocabulary=self._vocabulary,
            )
            span.set({Attribute.PROMPT_HASH: record.sha256, Attribute.PROMPT_VERSION: document.version})
            kept = {"prompt": record.text} if record.text is not None else {"preview": record.preview}
            span.outputs = {**kept, "characters": record.characters}
            return prompt

    def _generate(self, message: str, prompt: Prompt, routing: RoutingDocument, tracer: TurnTracer) -> str:
        with tracer.span(SpanName.BEDROCK_GENERATE) as span:
            span.set(
                {
                    Attribute.BEDROCK_MODEL_ID: routing.bedrock_model_id,
                    Attribute.TEMPERATURE: routing.temperature,
                    Attribute.MAX_TOKENS: routing.maximum_tokens,
                }
            )
            tracer.tag(Tag.BEDROCK_MODEL_ID, routing.bedrock_model_id)
            generation = self._generator.generate(
                GenerationRequest(
                    system=prompt.system,
                    user=prompt.user,
                    question=message,
                    passages=prompt.passages,
                    model_id=routing.bedrock_model_id,
                    temperature=routing.temperature,
                    maximum_tokens=routing.maximum_tokens,
                )
            )
            # The model that answered, which is not always the one the routing policy named.
            tracer.tag(Tag.BEDROCK_MODEL_ID, generation.model_id)
            span.set(
                {
                    Attribute.BEDROCK_MODEL_ID: generation.model_id,
                    Attribute.INPUT_TOKENS: generation.input_tokens,
                    Attribute.OUTPUT_TOKENS: generation.output_tokens,
                    Attribute.CACHE_READ_TOKENS: generation.cache_read_tokens,
                    Attribute.CACHE_WRITE_TOKENS: generation.cache_write_tokens,
                    Attribute.STOP_REASON: generation.stop_reason,
                }
            )
            span.outputs = {"answer": generation.text}
            return generation.text


def _put_verdict(span: ActiveSpan, rules: GuardrailsDocument, reasons: Sequence[str]) -> None:
    span.set(
        {
            Attribute.RULESET_VERSION: rules.version,
            Attribute.BLOCKED: bool(reasons),
            Attribute.REASONS: list(reasons),
        }
    )
