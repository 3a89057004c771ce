"""Planted faults: the reference chatbot with one stage broken on purpose, to measure whether mining finds the stage.

Each fault wraps one part and leaves the others alone. Which turns it touches depends on the message and the seed only,
so the same traffic is touched in the same places however many threads drive it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from mangaassist_assets.chatbot.configuration.documents import (
    Configuration,
    ExperimentsDocument,
    GuardrailsDocument,
    PromptsDocument,
    RoutingDocument,
)
from mangaassist_assets.chatbot.orchestrator import Chatbot
from mangaassist_assets.chatbot.parts import Endpoint, Generation, GenerationRequest, Generator, StageError, TraceSink
from mangaassist_assets.chatbot.retrieval import Retriever
from mangaassist_assets.mining.blame.rule_names import Stage
from mangaassist_assets.privacy import Vocabulary
from mangaassist_assets.retrieval.search_index import SearchIndex
from mangaassist_assets.retrieval.tenants import TenantScope
from mangaassist_assets.retrieval.types import Embedder, Hit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SENTENCE_ENDS = (".", "!", "?", "。", "！", "？")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatbotParts:
    """What a chatbot is put together from."""

    intent: Endpoint
    index: SearchIndex
    embedder: Embedder
    reranker: Endpoint
    configuration: Configuration
    generator: Generator
    endpoints: Callable[[str], Endpoint] | None = None

    def chatbot(self, sink: TraceSink, *, pseudonym_key: bytes, vocabulary: Vocabulary | None = None) -> Chatbot:
        """Return the chatbot of these parts."""
        return Chatbot(
            intent=self.intent,
            retriever=Retriever(index=self.index, embedder=self.embedder, reranker=self.reranker),
            configuration=self.configuration,
            generator=self.generator,
            endpoints=self.endpoints,
            sink=sink,
            pseudonym_key=pseudonym_key,
            vocabulary=vocabulary,
        )


class Fault(Protocol):
    """One way to break one stage."""

    @property
    def stage(self) -> Stage:
        """The stage that a failure is to be blamed on."""

    def plant(self, parts: ChatbotParts) -> ChatbotParts:
        """Return the parts with the one that is broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailingPart:
    """Infrastructure: one part does not answer on a share of the turns."""

    stage: ClassVar[Stage] = "infrastructure"
    part: Literal["intent", "reranker", "generator"] = "generator"
    share: float = 0.4
    seed: int = 0
    message: str = "timed out after 30 s"

    def plant(self, parts: ChatbotParts) -> ChatbotParts:
        """Return the parts with the one that fails."""
        if self.part == "intent":
            return replace(parts, intent=_FailingEndpoint(parts.intent, self))
        if self.part == "reranker":
            return replace(parts, reranker=_FailingEndpoint(parts.reranker, self))
        return replace(parts, generator=_FailingGenerator(parts.generator, self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Overblocking:
    """Guardrail: patterns that refuse harmless messages."""

    stage: ClassVar[Stage] = "guardrail"
    patterns: tuple[str, ...]

    def plant(self, parts: ChatbotParts) -> ChatbotParts:
        """Return the parts with the rule set that refuses too much."""
        return replace(parts, configuration=_OverblockingConfiguration(parts.configuration, self.patterns))


@dataclass(frozen=True, slots=True, kw_only=True)
class SwappedIntents:
    """Intent: labels are taken for others, as confidently as before."""

    stage: ClassVar[Stage] = "intent"
    swaps: Mapping[str, str]

    def plant(self, parts: ChatbotParts) -> ChatbotParts:
        """Return the parts with the classifier that mixes labels up."""
        return replace(parts, intent=_SwappingEndpoint(parts.intent, self.swaps))


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingDocuments:
    """Retrieval: documents that the index lost; all of them where `documents` is None."""

    stage: ClassVar[Stage] = "retrieval"
    documents: frozenset[str] | None = None

    def plant(self, parts: ChatbotParts) -> ChatbotParts:
        """Return the parts with the index that lost documents."""
        return replace(parts, index=_ForgetfulIndex(parts.index, self.documents))


@dataclass(frozen=True, slots=True, kw_only=True)
class InvertedScores:
    """Reranker: what is relevant scores low on a share of the turns, and what is not scores high."""

    stage: ClassVar[Stage] = "reranker"
    share: float = 1.0
    seed: int = 0

    def plant(self, parts: ChatbotParts) -> ChatbotParts:
        """Return the parts with the reranker that ranks upside down."""
        return replace(parts, reranker=_InvertedEndpoint(parts.reranker, self))


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongAnswers:
    """Generation: on a share of the turns the answer is cut off within a sentence, about something else, or empty."""

    stage: ClassVar[Stage] = "generation"
    kind: Literal["truncated", "off_topic", "empty"] = "truncated"
    share: float = 0.4
    seed: int = 0
    off_topic: str = "The old lighthouse was painted white in the spring."

    def plant(self, parts: ChatbotParts) -> ChatbotParts:
        """Return the parts with the generator that answers badly."""
        return replace(parts, generator=_BadGenerator(parts.generator, self))


def touches(text: str, *, share: float, seed: int) -> bool:
    """Return whether a fault of this share and seed touches the turn of a message."""
    digest = hashlib.sha256(f"fault\0{seed}\0{text}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


class _FailingEndpoint:
    def __init__(self, endpoint: Endpoint, fault: FailingPart) -> None:
        self._endpoint = endpoint
        self._fault = fault

    @property
    def name(self) -> str:
        return self._endpoint.name

    def invoke(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        if touches(_message_of(payload), share=self._fault.share, seed=self._fault.seed):
            raise StageError(f"endpoint {self.name} {self._fault.message}")
        return self._endpoint.invoke(payload)


class _FailingGenerator:
    def __init__(self, generator: Generator, fault: FailingPart) -> None:
        self._generator = generator
        self._fault = fault

    def generate(self, request: GenerationRequest) -> Generation:
        if touches(request.question, share=self._fault.share, seed=self._fault.seed):
            raise StageError(f"the language model {self._fault.message}")
        return self._generator.generate(request)


class _OverblockingConfiguration:
    def __init__(self, configuration: Configuration, patterns: tuple[str, ...]) -> None:
        self._configuration = configuration
        self._patterns = patterns

    def prompts(self) -> PromptsDocument:
        return self._configuration.prompts()

    def routing(self) -> RoutingDocument:
        return self._configuration.routing()

    def experiments(self) -> ExperimentsDocument:
        return self._configuration.experiments()

    def guardrails(self) -> GuardrailsDocument:
        rules = self._configuration.guardrails()
        patterns = (*rules.blocked_patterns, *self._patterns)
        return GuardrailsDocument.model_validate(rules.model_dump() | {"blocked_patterns": patterns})


class _SwappingEndpoint:
    def __init__(self, endpoint: Endpoint, swaps: Mapping[str, str]) -> None:
        self._endpoint = endpoint
        self._swaps = swaps

    @property
    def name(self) -> str:
        return self._endpoint.name

    def invoke(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        answer = self._endpoint.invoke(payload)
        swapped = {**answer, "intent": self._swaps.get(answer["intent"], answer["intent"])}
        if "predictions" in answer:
            swapped["predictions"] = [
                [{**entry, "label": self._swaps.get(entry["label"], entry["label"])} for entry in ranked]
                for ranked in answer["predictions"]
            ]
        return swapped


class _ForgetfulIndex:
    def __init__(self, index: SearchIndex, documents: Collection[str] | None) -> None:
        self._index = index
        self._documents = documents

    def live_generation(self) -> str | None:
        return self._index.live_generation()

    def vector_search(
        self,
        generation: str,
        vector: NDArray[np.float32],
        *,
        scope: TenantScope,
        limit: int,
    ) -> list[Hit]:
        hits = self._index.vector_search(generation, vector, scope=scope, limit=_more(limit))
        return self._kept(hits, limit)

    def keyword_search(
        self,
        generation: str,
        query: str,
        *,
        scope: TenantScope,
        limit: int,
    ) -> list[Hit]:
        hits = self._index.keyword_search(generation, query, scope=scope, limit=_more(limit))
        return self._kept(hits, limit)

    def _kept(self, hits: list[Hit], limit: int) -> list[Hit]:
        if self._documents is None:
            return []
        return [hit for hit in hits if hit.document_id not in self._documents][:limit]


class _InvertedEndpoint:
    def __init__(self, endpoint: Endpoint, fault: InvertedScores) -> None:
        self._endpoint = endpoint
        self._fault = fault

    @property
    def name(self) -> str:
        return self._endpoint.name

    def invoke(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        answer = self._endpoint.invoke(payload)
        if not touches(_message_of(payload), share=self._fault.share, seed=self._fault.seed):
            return answer
        inverted = [{**entry, "score": 1.0 - entry["score"]} for entry in answer["predictions"]]
        return {**answer, "predictions": inverted}


class _BadGenerator:
    def __init__(self, generator: Generator, fault: WrongAnswers) -> None:
        self._generator = generator
        self._fault = fault

    def generate(self, request: GenerationRequest) -> Generation:
        good = self._generator.generate(request)
        if not request.passages or not touches(request.question, share=self._fault.share, seed=self._fault.seed):
            return good
        if self._fault.kind == "empty":
            return replace(good, text="", output_tokens=0)
        if self._fault.kind == "off_topic":
            return replace(good, text=self._fault.off_topic, output_tokens=len(self._fault.off_topic.split()))
        words = good.text.split()
        kept = words[: max(1, len(words) // 2)]
        while len(kept) > 1 and kept[-1].endswith(_SENTENCE_ENDS):
            kept.pop()
        return replace(good, text=" ".join(kept), output_tokens=len(kept), stop_reason="max_tokens")


def _message_of(payload: Mapping[str, Any]) -> str:
    """Return the shopper's message in a request to the classifier or to the reranker."""
    return str(payload["text"] if "text" in payload else payload["inputs"][0]["text"])


def _more(limit: int) -> int:
    """Return how many hits to ask for, so that enough are left without the lost documents."""
    return min(200, limit * 4)
