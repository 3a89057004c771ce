"""Simulated traffic: utterances driven through the chatbot, judged by simulated shoppers.

Turns are driven in portions. The traces of a portion are stored before thumbs are put on them, while the next
portion is driven; whatever ends the process loses the thumbs of two portions at most. At the end every trace is
looked up by its id.

The same message of the same bundle and seed makes the same trace id. A simulation that was killed and is started
again therefore drives only what has no trace yet, and puts on the others what they lack.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from mangaassist_assets.chatbot.orchestrator import Chatbot, ChatReply, ChatRequest
from mangaassist_assets.chatbot.shopper import AnswerCheck, Judgement, ShopperBehaviour, generator_for, judge
from mangaassist_assets.core.bundles import validate_bundle
from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.datasets.sources.utterances import Utterance
from mangaassist_assets.tracing.contract.turns import ChatTurn, Feedback
from mangaassist_assets.tracing.feedback.events import FeedbackRecord, feedback_record


class LostTracesError(OperatorError, RuntimeError):
    """Turns were driven whose traces the tracking server does not have."""


class SimulationError(OperatorError, RuntimeError):
    """The simulation ran, but nothing of it can be used."""


class FeedbackPublisher(Protocol):
    """Where feedback events go."""

    def publish(self, events: Sequence[FeedbackRecord]) -> int:
        """Publish all events and return how many; raises if one could not be."""


class TraceFeedback(Protocol):
    """What shoppers put on traces after the turn, and whether the traces are there."""

    def record_feedback(self, trace_id: str, feedback: Feedback, *, user_key: str | None, timestamp_ms: int) -> None:
        """Put a thumb on a trace."""

    def missing_traces(self, trace_ids: Collection[str], release_bundle: str) -> list[str]:
        """Return those of the ids that are not stored as finished traces of the bundle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationReport:
    """What was driven and said. `failing` counts turns that truly failed, whoever complained.

    `already_there` of the turns were driven by an earlier call with the same bundle and seed.
    """

    release_bundle: str
    turns: int
    errors: int
    blocked: int
    failing: int
    wrong_intents: int
    missing_documents: int
    thumbs_up: int
    thumbs_down: int
    traces_stored: int
    seconds: float
    error_examples: tuple[str, ...] = ()
    already_there: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationConfig:
    """How utterances are driven.

    Attributes:
        behaviour: The rates of thumbs.
        seed: The same seed, utterances and replies give the same thumbs.
        threads: Turns driven at the same time.
        portion: Turns between two flushes.
        thumbs_on_traces: Whether thumbs are put on the traces at once. Without, they are published only, as a real
            shop's are, and the asset `recorded_feedback` brings them onto the traces.
        answer_check: Says whether an answer is right; without it nobody judges the answer itself.
    """

    behaviour: ShopperBehaviour = field(default_factory=ShopperBehaviour)
    seed: int = 0
    threads: int = 2
    portion: int = 64
    thumbs_on_traces: bool = True
    answer_check: AnswerCheck | None = None


DEFAULT_SIMULATION = SimulationConfig()


@dataclass(frozen=True, slots=True)
class _Driven:
    utterance: Utterance
    reply: ChatReply
    judgement: Judgement
    earlier: ChatTurn | None


def simulate(
    utterances: Sequence[Utterance],
    chatbot: Chatbot,
    feedback: FeedbackPublisher,
    marks: TraceFeedback,
    *,
    release_bundle: str,
    config: SimulationConfig = DEFAULT_SIMULATION,
    earlier: Mapping[str, ChatTurn] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SimulationReport:
    """Drive the utterances through the chatbot.

    Args:
        utterances: What shoppers wrote; a timestamp replays the message at that time.
        chatbot: The chatbot under test.
        feedback: Gets every thumb as a feedback event.
        marks: Gets thumbs for the traces.
        release_bundle: The bundle the turns belong to.
        config: Of shoppers and run.
        earlier: The bundle's finished turns by trace id; a message whose turn is among them is not driven again.
        progress: Called with (turns done, turns in all).

    Raises:
        LostTracesError: A turn's trace is not on the tracking server; says how many and which.
        SimulationError: Not one turn went through; says what failed.
    """
    validate_bundle(release_bundle)
    started = time.perf_counter()
    known = earlier or {}
    driven: list[_Driven] = []

    def store_and_mark(part: Sequence[_Driven]) -> None:
        chatbot.flush()
        # A thumb goes to the stream before it is put on the trace: one that is there was published.
        feedback.publish([event for item in part if (event := _event(item, release_bundle)) is not None])
        if config.thumbs_on_traces:
            list(thumbs.map(lambda item: _mark(item, marks), part))

    # The background thread stores and marks one portion while the shoppers drive the next.
    with (
        ThreadPoolExecutor(config.threads, thread_name_prefix="shopper") as shoppers,
        ThreadPoolExecutor(config.threads, thread_name_prefix="thumb") as thumbs,
        ThreadPoolExecutor(1, thread_name_prefix="portion") as background,
    ):
        saying: Future[None] | None = None
        for start in range(0, len(utterances), config.portion):
            part = list(
                shoppers.map(
                    lambda utterance: _drive(utterance, chatbot, release_bundle, config, known),
                    utterances[start : start + config.portion],
                )
            )
            if saying is not None:
                saying.result()
            saying = background.submit(store_and_mark, part)
            driven += part
            if progress is not None:
                progress(len(driven), len(utterances))
        if saying is not None:
            saying.result()
    missing = marks.missing_traces([item.reply.trace_id for item in driven], release_bundle)
    if missing:
        raise LostTracesError(
            f"{len(missing)} of {len(driven)} traces of bundle {release_bundle} are not on the tracking server, for "
            f"example {missing[0]}: see the log of the tracking server"
        )
    report = _report(driven, release_bundle, time.perf_counter() - started)
    if report.turns and report.errors == report.turns:
        raise SimulationError(
            f"all {report.turns} turns of bundle {release_bundle} failed, most often: {report.error_examples[0]}"
        )
    return report


def _drive(
    utterance: Utterance,
    chatbot: Chatbot,
    release_bundle: str,
    config: SimulationConfig,
    known: Mapping[str, ChatTurn],
) -> _Driven:
    generator = generator_for(config.seed, release_bundle, utterance)
    alone = f"s{generator.getrandbits(64):016x}"
    request_id = _request_id(config.seed, release_bundle, utterance)
    earlier = known.get(chatbot.trace_id(request_id))
    if earlier is not None:
        reply = reply_of(earlier)
    else:
        request = ChatRequest(
            message=utterance.text,
            session_id=utterance.session_id or alone,
            release_bundle=release_bundle,
            user_id=utterance.user_id,
            event_time_ms=None if utterance.timestamp is None else int(utterance.timestamp.timestamp() * 1000),
            request_id=request_id,
            tenant=utterance.tenant,
        )
        reply = chatbot.answer(request)
    judgement = judge(utterance, reply, config.behaviour, generator, answer_check=config.answer_check)
    return _Driven(utterance, reply, judgement, earlier)


def _request_id(seed: int, release_bundle: str, utterance: Utterance) -> str:
    """Return what makes a message the same one: what was written, by whom, when and on which line of its file."""
    moment = "" if utterance.timestamp is None else utterance.timestamp.isoformat()
    who = (utterance.user_id or "", utterance.session_id or "", *([utterance.tenant] if utterance.tenant else []))
    return "\x1f".join((str(seed), release_bundle, str(utterance.line_number), *who, moment, utterance.text))


def traces_of(
    utterances: Sequence[Utterance], chatbot: Chatbot, *, release_bundle: str, seed: int
) -> dict[str, Utterance]:
    """Return the utterances by the ids of the traces that `simulate` makes of them."""
    return {chatbot.trace_id(_request_id(seed, release_bundle, one)): one for one in utterances}


def reply_of(turn: ChatTurn) -> ChatReply:
    """Return the reply that a stored turn was."""
    selected = sorted(
        (one for one in turn.candidates if one.selected), key=lambda one: one.rerank_rank or one.retrieval_rank
    )
    return ChatReply(
        trace_id=turn.trace_id,
        timestamp_ms=turn.timestamp_ms,
        duration_ms=turn.duration_ms,
        session_id=turn.session_id,
        user_key=turn.user_key,
        state=turn.state,
        answer=turn.answer or "",
        intent=turn.intent,
        used_documents=tuple(dict.fromkeys(one.document_id for one in selected)),
        blocked=turn.guardrail_blocked,
        error=turn.error or "the turn ended in ERROR" if turn.state == "ERROR" else None,
    )


def _mark(item: _Driven, marks: TraceFeedback) -> None:
    """Put the thumb of a turn on its trace, where it lacks it."""
    if (thumb := _new_thumb(item)) is not None:
        reply = item.reply
        marks.record_feedback(reply.trace_id, thumb, user_key=reply.user_key, timestamp_ms=_pressed_at(item))


def _new_thumb(item: _Driven) -> Feedback | None:
    """Return the thumb that the trace does not have yet."""
    there = item.earlier is not None and item.earlier.user_feedback is not None
    return None if there else item.judgement.feedback


def _event(item: _Driven, release_bundle: str) -> FeedbackRecord | None:
    reply, thumb = item.reply, _new_thumb(item)
    if thumb is None:
        return None
    return feedback_record(
        event_id=f"fb-{reply.trace_id}",
        trace_id=reply.trace_id,
        session_id=reply.session_id,
        user_key=reply.user_key,
        release_bundle=release_bundle,
        feedback=thumb,
        timestamp=datetime.fromtimestamp(_pressed_at(item) / 1000, UTC),
    )


def _pressed_at(item: _Driven) -> int:
    """Return when the thumb was pressed: some time after a replayed turn, at once after a live one."""
    delay = item.judgement.delay_ms if item.utterance.timestamp is not None else 0
    return item.reply.timestamp_ms + item.reply.duration_ms + delay


def _report(driven: Sequence[_Driven], release_bundle: str, seconds: float) -> SimulationReport:
    errors = Counter(item.reply.error for item in driven if item.reply.error is not None)
    thumbs = Counter(item.judgement.feedback for item in driven)
    return SimulationReport(
        release_bundle=release_bundle,
        turns=len(driven),
        errors=sum(errors.values()),
        blocked=sum(item.reply.blocked for item in driven),
        failing=sum(item.judgement.failing for item in driven),
        wrong_intents=sum(item.judgement.wrong_intent for item in driven),
        missing_documents=sum(item.judgement.missing_documents for item in driven),
        thumbs_up=thumbs["thumbs_up"],
        thumbs_down=thumbs["thumbs_down"],
        traces_stored=len(driven),
        seconds=round(seconds, 3),
        error_examples=tuple(message for message, _ in errors.most_common(3)),
        already_there=sum(item.earlier is not None for item in driven),
    )
