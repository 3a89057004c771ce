"""Shadow mode: a challenger answers the champion's request beside it; its answer is traced and nobody sees it.

Asked by the chatbot and not by SageMaker's shadow variants: those keep the answer from the caller, and it would be in
no trace. Each call has a thread of its own; at most `limit` run at once, what is beyond is skipped and traced as such.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mangaassist_assets.chatbot.configuration.documents import ShadowMode
from mangaassist_assets.chatbot.parts import Endpoint, classification, label_score, predictions, served_model
from mangaassist_assets.chatbot.tracer import TurnTracer, describe_error
from mangaassist_assets.tracing.contract.names import Attribute, ShadowSpan
from mangaassist_assets.tracing.contract.records import AttributeValue

Attributes = Mapping[Attribute, AttributeValue]
Reader = Callable[[Mapping[str, Any], str], Attributes]
Outcome = Literal["answered", "failed", "late", "skipped"]


@dataclass(slots=True)
class _Call:
    """One call of a challenger. Its thread writes, then sets `done`; the turn reads only after that."""

    span: ShadowSpan
    endpoint_name: str
    started_ns: int
    done: threading.Event = field(default_factory=threading.Event)
    ended_ns: int = 0
    outcome: Outcome = "failed"
    attributes: dict[Attribute, AttributeValue] = field(default_factory=dict)


class Shadows:
    """Starts the challengers of all turns of a chatbot."""

    def __init__(self, endpoints: Callable[[str], Endpoint] | None, *, limit: int = 8) -> None:
        self._endpoints = endpoints
        self._slots = threading.BoundedSemaphore(limit)

    def of_turn(self, mode: ShadowMode, trace_id: str) -> TurnShadows:
        """Return the shadows of one turn; whether it is sampled depends on its trace id only."""
        draw = int.from_bytes(hashlib.sha256(f"shadow {trace_id}".encode()).digest()[:8], "big") / 2**64
        return TurnShadows(self, mode, sampled=mode.enabled and draw < mode.sampling_percentage / 100)

    def start(self, call: _Call, payload: Mapping[str, Any], read: Reader) -> None:
        """Run a call beside the turn, or skip it where too many run already."""
        if not self._slots.acquire(blocking=False):
            call.outcome, call.ended_ns = "skipped", call.started_ns
            call.done.set()
            return
        threading.Thread(target=self._run, args=(call, payload, read), name=str(call.span), daemon=True).start()

    def _run(self, call: _Call, payload: Mapping[str, Any], read: Reader) -> None:
        try:
            if self._endpoints is None:
                raise LookupError(f"this chatbot was given no way to reach endpoint {call.endpoint_name}")  # noqa: TRY301
            answer = self._endpoints(call.endpoint_name).invoke(payload)
            call.attributes.update(read(answer, call.endpoint_name))
            call.outcome = "answered"
        except Exception as error:  # noqa: BLE001 - whatever a challenger does, the trace says it and the turn goes on
            call.attributes[Attribute.SHADOW_ERROR] = describe_error(error)
        finally:
            call.ended_ns = time.perf_counter_ns()
            call.done.set()
            self._slots.release()


class TurnShadows:
    """The challengers of one turn. Used by the turn's thread."""

    def __init__(self, shadows: Shadows, mode: ShadowMode, *, sampled: bool) -> None:
        self._shadows = shadows
        self._mode = mode
        self._sampled = sampled
        self._calls: list[_Call] = []

    def intent(self, payload: Mapping[str, Any]) -> None:
        """Ask the challenger of the intent classifier what the champion is asked."""
        self._start(ShadowSpan.INTENT_CLASSIFICATION, self._mode.intent_endpoint, payload, _read_intent)

    def reranker(self, payload: Mapping[str, Any]) -> None:
        """Ask the challenger of the reranker what the champion is asked."""
        self._start(
            ShadowSpan.RERANK_CHUNKS, self._mode.reranker_endpoint, payload, _ranks_reader(len(payload["inputs"]))
        )

    def trace(self, tracer: TurnTracer) -> None:
        """Write a span a challenger under the open one; waits for answers until the deadline of each, never longer.

        The spans are never in ERROR: what a challenger does is no failure of the turn. `shadow_outcome` says it.
        """
        for call in self._calls:
            waited_s = (time.perf_counter_ns() - call.started_ns) / 1e9
            done = call.done.wait(max(0.0, self._mode.deadline_ms / 1_000 - waited_s))
            tracer.add_span(
                call.span,
                started_ns=call.started_ns,
                ended_ns=call.ended_ns if done else time.perf_counter_ns(),
                attributes={
                    Attribute.ENDPOINT_NAME: call.endpoint_name,
                    Attribute.SHADOW_OUTCOME: call.outcome if done else "late",
                    **(call.attributes if done else {}),
                },
            )

    def _start(self, span: ShadowSpan, endpoint_name: str | None, payload: Mapping[str, Any], read: Reader) -> None:
        if endpoint_name is None or not self._sampled:
            return
        call = _Call(span=span, endpoint_name=endpoint_name, started_ns=time.perf_counter_ns())
        self._calls.append(call)
        self._shadows.start(call, payload, read)


def _read_intent(answer: Mapping[str, Any], endpoint: str) -> Attributes:
    model = served_model(answer, endpoint)
    intent, confidence = classification(answer, endpoint)
    return {
        Attribute.SHADOW_MODEL_VERSION: model.version,
        Attribute.SHADOW_INTENT: intent,
        Attribute.SHADOW_CONFIDENCE: confidence,
    }


def _ranks_reader(count: int) -> Reader:
    def read(answer: Mapping[str, Any], endpoint: str) -> Attributes:
        model = served_model(answer, endpoint)
        relevances = [label_score(entry, endpoint)[1] for entry in predictions(answer, endpoint, count=count)]
        order = sorted(range(count), key=lambda index: -relevances[index])
        ranks = {index: rank for rank, index in enumerate(order, start=1)}
        return {
            Attribute.SHADOW_MODEL_VERSION: model.version,
            Attribute.SHADOW_RERANK_SCORES: relevances,
            Attribute.SHADOW_RERANK_RANKS: [ranks[index] for index in range(count)],
        }

    return read
