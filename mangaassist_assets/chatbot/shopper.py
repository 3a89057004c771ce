"""The simulated shopper: what is true of a turn, and what thumb it gets, drawn repeatably.

Every decision comes from a generator seeded by the seed, the bundle and the utterance itself, so it depends on
neither threads nor the order of turns.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass

from mangaassist_assets.chatbot.orchestrator import ChatReply
from mangaassist_assets.datasets.sources.utterances import Utterance
from mangaassist_assets.tracing.contract.turns import Feedback

AnswerCheck = Callable[[Utterance, ChatReply], bool | None]
"""Says whether an answer is right; None where that cannot be known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopperBehaviour:
    """How people press thumbs; all are probabilities.

    Most people who are served well say nothing (`thumbs_up_rate`), most who are not say so (`thumbs_down_rate`), and
    some misjudge what they got (`feedback_noise`: a good turn is taken for a bad one, or a bad one for a good one).
    """

    thumbs_up_rate: float = 0.15
    thumbs_down_rate: float = 0.8
    feedback_noise: float = 0.05

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} must be between 0 and 1, not {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What is true of a turn.

    `answer_correct` is what can be said of the answer by itself: None where nobody can tell, or where intent or
    documents were wrong already.
    """

    wrong_intent: bool
    missing_documents: bool
    failing: bool
    answer_correct: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement(Truth):
    """What is true of a turn and what its shopper said of it. `delay_ms` is how long the thumb took."""

    feedback: Feedback | None
    delay_ms: int


def generator_for(seed: int, release_bundle: str, utterance: Utterance) -> random.Random:
    """Return the random generator of one utterance."""
    content = f"{seed}\x1f{release_bundle}\x1f{utterance.line_number}\x1f{utterance.text}"
    digest = hashlib.sha256(content.encode("utf-8", "surrogatepass")).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


def true_of(utterance: Utterance, reply: ChatReply, *, answer_check: AnswerCheck | None = None) -> Truth:
    """Compare a reply with what the utterance knows to be true.

    An utterance without `intent` or without `relevant_documents` gives no signal for that side. A turn in ERROR fails.
    The answer itself is judged where `answer_check` is given and everything before it was right.
    """
    wrong_intent = utterance.intent is not None and reply.intent is not None and reply.intent != utterance.intent
    missing = bool(utterance.relevant_documents) and not set(utterance.relevant_documents) & set(reply.used_documents)
    # A turn that was refused used no document on purpose; it still failed the shopper who asked something answerable.
    failing = wrong_intent or missing or reply.state == "ERROR"
    answer_correct: bool | None = None
    if answer_check is not None and not failing and not reply.blocked:
        answer_correct = answer_check(utterance, reply)
        failing = answer_correct is False
    return Truth(wrong_intent=wrong_intent, missing_documents=missing, failing=failing, answer_correct=answer_correct)


def judge(
    utterance: Utterance,
    reply: ChatReply,
    behaviour: ShopperBehaviour,
    generator: random.Random,
    *,
    answer_check: AnswerCheck | None = None,
) -> Judgement:
    """Return what is true of a turn, and draw what its shopper does."""
    truth = true_of(utterance, reply, answer_check=answer_check)
    draws = [generator.random() for _ in range(2)]
    seen_as_failing = truth.failing != (draws[0] < behaviour.feedback_noise)
    feedback: Feedback | None = None
    if seen_as_failing and draws[1] < behaviour.thumbs_down_rate:
        feedback = "thumbs_down"
    elif not seen_as_failing and draws[1] < behaviour.thumbs_up_rate:
        feedback = "thumbs_up"
    return Judgement(**asdict(truth), feedback=feedback, delay_ms=generator.randrange(3_000, 60_000))
