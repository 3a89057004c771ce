"""Traffic with one planted fault: a store whose parts know the truth and slip rarely, and the turns that come of it."""

# ruff: noqa: ARG002  # the parameters are those of the protocols that these parts stand in for

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from mangaassist_assets.chatbot.configuration.documents import RoutingDocument
from mangaassist_assets.chatbot.generation import ExtractiveGenerator
from mangaassist_assets.chatbot.orchestrator import Chatbot, ChatReply, ChatRequest
from mangaassist_assets.chatbot.shopper import ShopperBehaviour
from mangaassist_assets.chatbot.simulation import SimulationConfig, SimulationReport, simulate
from mangaassist_assets.datasets.sources.utterances import Utterance
from mangaassist_assets.mining.blame.blame import FailedTurn, find_failures
from mangaassist_assets.mining.blame.rules import MiningRules
from mangaassist_assets.retrieval.types import Hit
from mangaassist_assets.tracing.contract.records import AssessmentRecord, TraceRecord
from mangaassist_assets.tracing.contract.turns import ChatTurn, RankedCandidate
from tests.support.answer_check import ExtractCheck
from tests.support.chatbot_faults import ChatbotParts, Fault
from tests.support.reviewers import review_failing
from tests.support.store_chatbot import KEY, FixedConfiguration, HashEmbedder, MemoryStream
from tests.support.turn_reading import read_turns

BUNDLE = "2026.03.24-rc2"
INTENTS = ("return_item", "shipping_cost", "gift_card", "order_status", "preorder_question", "store_hours")
_SUBJECTS = ("parcel", "box set", "signed edition", "hardcover", "artbook", "figure", "poster", "magazine")
DOCUMENTS = tuple(f"guides/{intent}-{number}.md" for intent in INTENTS for number in range(4))


def unit(*parts: object) -> float:
    """A number from 0 to 1 that depends on the parts only."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def messages(count: int) -> list[Utterance]:
    """Labelled messages of many shoppers, each with the one document that answers it."""
    start = datetime(2026, 3, 24, 8, tzinfo=UTC)
    found = []
    for number in range(count):
        intent = INTENTS[int(unit("intent", number) * len(INTENTS))]
        document = f"guides/{intent}-{int(unit('document', number) * 4)}.md"
        subject = _SUBJECTS[number % len(_SUBJECTS)]
        found.append(
            Utterance(
                text=f"{intent.replace('_', ' ')} of {subject} lot {number}",
                intent=intent,
                relevant_documents=(document,),
                user_id=f"u{number % 97}",
                session_id=f"session-{number % 211}",
                timestamp=start + timedelta(seconds=40 * number),
                line_number=number,
            )
        )
    return found


def passage(document: str) -> str:
    """The text of a document: two whole sentences that no other document has."""
    name = document.removeprefix("guides/").removesuffix(".md").replace("_", " ")
    return f"This is the rule of the shop about {name}. Whoever asks about {name} is served within two days."


class TruthEndpoint:
    """Knows each message's intent; slips on a small share, and is less sure where it slips."""

    name = "mangaassist-intent"

    def __init__(self, truth: Mapping[str, Utterance], slip: float) -> None:
        self._truth = truth
        self._slip = slip

    def invoke(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        text = payload["text"]
        true = self._truth[text].intent
        sure = 0.55 + 0.44 * unit("sure", text)
        if unit("slip", text) < self._slip:
            true, sure = next(intent for intent in INTENTS if intent != true), 0.25 + 0.4 * unit("sure", text)
        model = {"name": self.name, "version": "1", "sha256": "ab" * 32}
        return {"intent": true, "confidence": sure, "model": model}


class TruthReranker:
    """Gives the document that answers a high relevance, others a low one; slips on a small share."""

    name = "mangaassist-reranker"

    def __init__(self, truth: Mapping[str, Utterance], slip: float) -> None:
        self._truth = truth
        self._slip = slip

    def invoke(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        scores = []
        for pair in payload["inputs"]:
            text, document = pair["text"], pair["text_pair"].split("\n")[0]
            answers = document in self._truth[text].relevant_documents
            if answers and unit("rerank slip", text) < self._slip:
                answers = False
            noise = unit("relevance", text, document)
            near = document.split("-")[0] == self._truth[text].relevant_documents[0].split("-")[0]
            scores.append(0.6 + 0.39 * noise if answers else (0.2 if near else 0.02) + 0.2 * noise)
        predictions = [{"label": "relevant", "score": score} for score in scores]
        return {"predictions": predictions, "model": {"name": self.name, "version": "1", "sha256": "cd" * 32}}


class TruthIndex:
    """Finds the document that answers among its first hits, then those of the same intent, then others."""

    def __init__(self, truth: Mapping[str, Utterance], slip: float) -> None:
        self._truth = truth
        self._slip = slip
        self._asked = ""

    def live_generation(self) -> str:
        return "kb-1"

    def vector_search(self, generation: str, vector: Any, *, scope: Any, limit: int) -> list[Hit]:
        return []

    def keyword_search(self, generation: str, query: str, *, scope: Any, limit: int) -> list[Hit]:
        (relevant,) = self._truth[query].relevant_documents
        lost = unit("retrieval slip", query) < self._slip

        def closeness(document: str) -> float:
            if document == relevant:
                return -1.0 if lost else 2.0 + unit(query, document)
            same = document.split("-", maxsplit=1)[0] == relevant.split("-")[0]
            return (1.0 if same else 0.0) + 1.5 * unit(query, document)

        order = sorted(DOCUMENTS, key=lambda document: -closeness(document))[:limit]
        return [
            Hit(
                chunk_id=f"{document}::0",
                document_id=document,
                title=document,
                text=passage(document),
                score=closeness(document),
            )
            for document in order
        ]


class AssessedSink:
    """Keeps traces and what people say of them, as a tracking server would."""

    def __init__(self) -> None:
        self.traces: dict[str, TraceRecord] = {}
        self.assessments: defaultdict[str, list[AssessmentRecord]] = defaultdict(list)

    def write(self, trace: TraceRecord) -> None:
        self.traces[trace.trace_id] = trace

    def flush(self) -> int:
        return len(self.traces)

    def missing_traces(self, trace_ids: Collection[str], release_bundle: str) -> list[str]:
        return sorted(set(trace_ids) - set(self.traces))

    def record_feedback(self, trace_id: str, feedback: str, *, user_key: str | None, timestamp_ms: int) -> None:
        self._put(trace_id, "user_feedback", "feedback", feedback, user_key or "anonymous")

    def record_review(
        self, trace_id: str, *, expected_intent: str | None, relevant_documents: Sequence[str], reviewer: str
    ) -> None:
        if expected_intent is not None:
            self._put(trace_id, "expected_intent", "expectation", expected_intent, reviewer)
        if relevant_documents:
            self._put(trace_id, "relevant_documents", "expectation", list(relevant_documents), reviewer)

    def record_answer_review(self, trace_id: str, *, correct: bool, reviewer: str) -> None:
        self._put(trace_id, "correctness", "feedback", correct, reviewer)

    def turns(self) -> list[ChatTurn]:
        """The turns as the contract reads them out of the traces with all that was said."""
        reading = read_turns(
            replace(trace, assessments=tuple(self.assessments[trace_id]))
            for trace_id, trace in sorted(self.traces.items())
        )
        assert not reading.quarantined
        return list(reading.turns)

    def _put(self, trace_id: str, name: str, kind: Any, value: object, source_id: str) -> None:
        at = self.traces[trace_id].timestamp_ms + 1_000
        self.assessments[trace_id].append(
            AssessmentRecord(
                name=name, kind=kind, value=value, source_type="HUMAN", source_id=source_id, timestamp_ms=at
            )
        )


def truthful_parts(utterances: Sequence[Utterance], *, slip: float = 0.0) -> ChatbotParts:
    """A store whose parts are right but for a share of slips."""
    truth = {utterance.text: utterance for utterance in utterances}
    return ChatbotParts(
        intent=TruthEndpoint(truth, slip),
        index=TruthIndex(truth, slip),
        embedder=HashEmbedder(),
        reranker=TruthReranker(truth, slip),
        configuration=FixedConfiguration(
            routing=RoutingDocument(version="r1", selected_chunks=2, rerank_candidates=10, keyword_candidates=12)
        ),
        generator=ExtractiveGenerator(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedTraffic:
    """The turns of one bundle, what the simulation counted, and by trace id the stages that truly erred."""

    turns: list[ChatTurn]
    report: SimulationReport
    erred: Mapping[str, frozenset[str]]

    @property
    def failing(self) -> frozenset[str]:
        return frozenset(self.erred)

    def failures(self, config: MiningRules | None = None) -> list[FailedTurn]:
        return find_failures(self.turns, config=config)

    def share_right(self, failures: Sequence[FailedTurn]) -> float:
        """Which share of the blamed failures names a stage that truly erred, whatever was planted."""
        blamed = [one for one in failures if one.blame.stage != "unknown"]
        right = sum(one.blame.stage in self.erred.get(one.turn.trace_id, ()) for one in blamed)
        return right / len(blamed) if blamed else 0.0


class _Asked:
    """A chatbot that remembers which message each turn answered."""

    def __init__(self, chatbot: Chatbot) -> None:
        self._chatbot = chatbot
        self.replies: dict[str, tuple[str, ChatReply]] = {}

    def trace_id(self, request_id: str) -> str:
        return self._chatbot.trace_id(request_id)

    def flush(self) -> int:
        return self._chatbot.flush()

    def answer(self, request: ChatRequest) -> ChatReply:
        reply = self._chatbot.answer(request)
        self.replies[reply.trace_id] = (request.message, reply)
        return reply


def drive(
    utterances: Sequence[Utterance],
    parts: ChatbotParts,
    fault: Fault | None,
    *,
    behaviour: ShopperBehaviour | None = None,
    reviewed: float = 0.4,
    passages: Mapping[str, Sequence[str]] | None = None,
    threads: int = 2,
) -> PlantedTraffic:
    """Drive messages through a chatbot with a fault; a share of the failing turns is reviewed.

    Every message must know its intent and its documents.
    """
    sink = AssessedSink()
    check = ExtractCheck(passages or {document: [passage(document)] for document in DOCUMENTS})
    chatbot = _Asked((fault.plant(parts) if fault else parts).chatbot(sink, pseudonym_key=KEY))
    report = simulate(
        utterances,
        chatbot,  # type: ignore[arg-type]
        MemoryStream(),
        sink,
        release_bundle=BUNDLE,
        config=SimulationConfig(behaviour=behaviour or ShopperBehaviour(), answer_check=check, threads=threads),
    )
    truth = {utterance.text: utterance for utterance in utterances}
    by_trace = {trace_id: truth[message] for trace_id, (message, _) in chatbot.replies.items()}
    driven = {turn.trace_id: turn for turn in sink.turns()}
    review_failing(by_trace, driven, sink, share=reviewed, answer_check=check)
    turns = sink.turns()
    erred = {}
    for turn in turns:
        message, reply = chatbot.replies[turn.trace_id]
        if stages := _erring_stages(turn, truth[message], right=check(truth[message], reply)):
            erred[turn.trace_id] = stages
    assert len(erred) == report.failing
    return PlantedTraffic(turns=turns, report=report, erred=erred)


def _erring_stages(turn: ChatTurn, utterance: Utterance, *, right: bool | None) -> frozenset[str]:
    """The stages that did wrong by what the message truly asks for, empty where the shopper was served well."""
    if turn.state == "ERROR":
        return frozenset({"infrastructure"})
    relevant = set(utterance.relevant_documents)
    if turn.guardrail_blocked and turn.guardrail_reasons != ("ungrounded",):
        used = relevant & {one.document_id for one in turn.candidates if one.selected}
        return frozenset() if used and turn.intent == utterance.intent else frozenset({"guardrail"})
    stages = {"intent"} if turn.intent != utterance.intent else set()
    if not relevant & {one.document_id for one in turn.candidates}:
        stages.add("retrieval")
    elif not relevant & {one.document_id for one in turn.candidates if one.selected}:
        stages.add("reranker")
    if not stages and right is False:
        stages.add("generation")
    return frozenset(stages)


def without_evidence(turn: ChatTurn) -> ChatTurn:
    """The turn as if nobody had reviewed it and its trace said nothing of how it went, but for the shopper's thumb."""
    plain = RankedCandidate(chunk_id="c", document_id="d", retrieval_rank=1, retrieval_score=1.0, selected=True)
    return replace(
        turn,
        state="OK",
        failed_span=None,
        error=None,
        guardrail_blocked=False,
        guardrail_reasons=(),
        intent_confidence=None,
        expected_intent=None,
        expected_documents=(),
        reviewer=None,
        reviews=(),
        candidates=(plain,),
        generations=(),
        stages=(),
        tools=(),
        verdicts=(),
        answer=None,
    )


def share_named(failures: Sequence[FailedTurn], stage: str) -> tuple[float, float]:
    """Which share of the blamed failures names the stage, and which share of all is unknown."""
    blamed = [failure for failure in failures if failure.blame.stage != "unknown"]
    named = sum(failure.blame.stage == stage for failure in blamed)
    return (named / len(blamed) if blamed else 0.0), 1 - len(blamed) / len(failures) if failures else 0.0
