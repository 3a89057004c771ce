"""A judge's labels: taken only as far as the judge agrees with people where both spoke.

A language model is asked about queued turns that nobody reviewed, and about reviewed ones to see how it fares. What it
says of its own confidence filters its answers; what a label is trusted with is the agreement that was measured.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from mangaassist_assets.core.text_keys import normalise_text
from mangaassist_assets.labelling.disagreement import Disagreement, answer_of, disagreement, in_order
from mangaassist_assets.labelling.error_estimate import ErrorRate, error_rate
from mangaassist_assets.labelling.intent_labels import IntentLabel, label_of
from mangaassist_assets.tracing.contract.turns import ChatTurn


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentJudgement:
    """One answer of a judge.

    `intent` is one of those offered, or None where the model says it cannot tell or its answer was refused; `refused`
    then says why in words that hold nothing of the message or of the answer. `confidence` is the model's own, 0 to 1.
    """

    intent: str | None
    confidence: float
    refused: str | None = None


class IntentJudge(Protocol):
    """A language model that reads messages as data, never as instructions."""

    @property
    def model_id(self) -> str:
        """The model behind it, for provenance."""

    def judge(self, messages: Sequence[str], intents: Mapping[str, Sequence[str]]) -> Sequence[IntentJudgement]:
        """Return one judgement for each redacted message.

        Args:
            messages: redacted messages.
            intents: what may be answered: intent -> a few redacted example messages.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgingConfig:
    """When a judge is believed.

    It must have answered `minimum_common` messages that people reviewed, and agreed on `minimum_agreement` of them.
    Answers it is less sure of than `minimum_confidence` are none. It is shown up to `measured_on` reviewed messages.
    """

    minimum_common: int = 20
    minimum_agreement: float = 0.8
    minimum_confidence: float = 0.5
    measured_on: int = 60


DEFAULT_JUDGING = JudgingConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """What a judge said and what came of it.

    `disagreement_rate` is over the messages that both it and people answered, None without a judge. `kept_out` says
    why none of its labels is used, `skipped` counts messages without a label by reason. `judgements` are its answers
    by `judgement_key`: with them nothing is asked twice.
    """

    model_id: str | None = None
    labels: tuple[IntentLabel, ...] = ()
    disagreement_rate: ErrorRate | None = None
    kept_out: str | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)
    disagreements: tuple[Disagreement, ...] = ()
    judgements: Mapping[str, IntentJudgement] = field(default_factory=dict)


NO_JUDGE = Judging()


def judge_labels(
    judge: IntentJudge,
    queued: Sequence[ChatTurn],
    reviewed: Mapping[str, IntentLabel],
    *,
    intents: Mapping[str, Sequence[str]],
    earlier: Mapping[str, IntentJudgement] | None = None,
    config: JudgingConfig = DEFAULT_JUDGING,
) -> Judging:
    """Ask the judge about queued turns and measure it on reviewed ones.

    Args:
        judge: the language model.
        queued: turns of the review queue; those that people reviewed are left to people.
        reviewed: people's labels by trace id.
        intents: what may be answered, each with a few redacted example messages.
        earlier: judgements of an earlier call, by `judgement_key`.
        config: thresholds.

    Raises:
        ValueError: the judge gave another number of answers than it got messages.
    """
    if len(intents) < 2:
        return Judging(model_id=judge.model_id, kept_out="fewer than two intents are known, there is nothing to choose")
    measured = _measured(reviewed, intents, config)
    unreviewed = sorted((turn for turn in queued if turn.trace_id not in reviewed), key=lambda one: one.trace_id)
    texts = [*(label.text for label in measured), *(turn.learnable_text for turn in unreviewed)]
    judgements = _ask(judge, texts, intents, earlier or {})
    skipped: Counter[str] = Counter()
    common = [
        (label, answer)
        for label in measured
        if _usable(answer := judgements[judgement_key(judge.model_id, label.text, intents)], config) is None
    ]
    wrong = [(label, answer) for label, answer in common if answer.intent != label.intent]
    rate = error_rate(len(wrong), len(common))
    kept_out = _kept_out(common, wrong, config)
    newest = max((label.labelled_ms for label, _ in common), default=0)
    labels: list[IntentLabel] = []
    for turn in unreviewed:
        answer = judgements[judgement_key(judge.model_id, turn.learnable_text, intents)]
        reason = _usable(answer, config) or ("the judge is not believed" if kept_out else None)
        if reason is None and answer.intent is not None:
            confidence, newest_ms = round(1.0 - rate.bound, 4), max(newest, turn.timestamp_ms)
            labels.append(
                label_of(
                    turn,
                    answer.intent,
                    "judge",
                    labeller=judge.model_id,
                    labelled_ms=newest_ms,
                    confidence=confidence,
                )
            )
        elif reason is not None:
            skipped[reason] += 1
    return Judging(
        model_id=judge.model_id,
        labels=tuple(labels),
        disagreement_rate=rate,
        kept_out=kept_out,
        skipped=dict(sorted(skipped.items())),
        disagreements=in_order(_against_people(label, answer, judge.model_id) for label, answer in wrong),
        judgements=judgements,
    )


def judgement_key(model_id: str, text: str, intents: Mapping[str, Sequence[str]]) -> str:
    """Return what identifies a judgement: the model, the message and the intents on offer, but no word of them."""
    content = "\x1f".join([model_id, text, *sorted(intents)])
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def _measured(
    reviewed: Mapping[str, IntentLabel], intents: Mapping[str, Sequence[str]], config: JudgingConfig
) -> list[IntentLabel]:
    """Return reviewed messages to measure the judge on: each message once, chosen by hash so that no one can choose."""
    by_text = {
        normalise_text(label.text): label
        for label in sorted(reviewed.values(), key=lambda one: one.trace_id, reverse=True)
        if label.intent in intents
    }
    hashed = sorted(by_text.values(), key=lambda one: hashlib.sha256(one.trace_id.encode()).hexdigest())
    return sorted(hashed[: config.measured_on], key=lambda one: one.trace_id)


def _ask(
    judge: IntentJudge,
    texts: Sequence[str],
    intents: Mapping[str, Sequence[str]],
    earlier: Mapping[str, IntentJudgement],
) -> dict[str, IntentJudgement]:
    keys = {judgement_key(judge.model_id, text, intents): text for text in texts}
    known = {key: earlier[key] for key in keys if key in earlier}
    open_keys = sorted(key for key in keys if key not in known)
    answers = judge.judge([keys[key] for key in open_keys], intents) if open_keys else []
    if len(answers) != len(open_keys):
        raise ValueError(f"the judge {judge.model_id} gave {len(answers)} answers to {len(open_keys)} messages")
    offered = [_as_offered(answer, intents) for answer in answers]
    return known | dict(zip(open_keys, offered, strict=True))


def _as_offered(answer: IntentJudgement, intents: Mapping[str, Sequence[str]]) -> IntentJudgement:
    if answer.intent is None or answer.intent in intents:
        return answer
    return IntentJudgement(intent=None, confidence=0.0, refused="the answer is none of the intents it was offered")


def _usable(answer: IntentJudgement, config: JudgingConfig) -> str | None:
    """Return why an answer is none, or None if it is one."""
    if answer.refused is not None:
        return "the judge's answer was refused"
    if answer.intent is None:
        return "the judge could not tell"
    if not answer.confidence >= config.minimum_confidence:
        return "the judge is not sure"
    return None


def _kept_out(common: Sequence[object], wrong: Sequence[object], config: JudgingConfig) -> str | None:
    if len(common) < config.minimum_common:
        return (
            f"it answered {len(common)} messages that people reviewed, at least {config.minimum_common} are needed to "
            "measure it"
        )
    agreement = 1 - len(wrong) / len(common)
    if agreement < config.minimum_agreement:
        return f"it agrees with people on {agreement:.0%} of {len(common)} messages, not {config.minimum_agreement:.0%}"
    return None


def _against_people(label: IntentLabel, answer: IntentJudgement, model_id: str) -> Disagreement:
    person = answer_of(label)
    judged = replace(person, intent=str(answer.intent), kind="judge", by=model_id)
    return disagreement("judge", (person, judged), outcome=f"the person's answer counts: {label.intent}")
