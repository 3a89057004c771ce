"""What a language model may say of a message: one of the intents it was offered, or that it does not know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


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
