"""The extractive generator: the sentences of the best passage that speak of the question.

It stands where Bedrock's Claude stands on AWS. It copies, it never follows: what a passage says cannot make it do
anything.
"""

from __future__ import annotations

import re
from collections import Counter

from mangaassist_assets.chatbot.parts import Generation, GenerationRequest

MODEL_ID = "local-extractive"

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
_WORD = re.compile(r"[a-z0-9]+|[ぁ-んァ-ヶー一-龠々]")
_STOP_WORDS = frozenset(
    (
        *("a", "an", "and", "are", "as", "at", "be", "by", "can", "do", "does", "for", "from", "have", "how", "i"),
        *("if", "in", "is", "it", "my", "of", "on", "or", "that", "the", "this", "to", "was", "what", "when"),
        *("where", "which", "will", "with", "you", "your"),
    )
)
_MAXIMUM_SCANNED = 20_000


class ExtractiveGenerator:
    """Answers with up to `sentences` sentences of the best passage, in the order they stand there."""

    def __init__(self, sentences: int = 2) -> None:
        if sentences < 1:
            raise ValueError(f"sentences must be at least 1, not {sentences}")
        self._sentences = sentences

    def generate(self, request: GenerationRequest) -> Generation:
        """Return the extract; without passages the answer is empty and `stop_reason` is `no_passages`."""
        input_tokens = _count_tokens(request.system) + _count_tokens(request.user)
        if not request.passages:
            return Generation(
                text="", model_id=MODEL_ID, input_tokens=input_tokens, output_tokens=0, stop_reason="no_passages"
            )
        text = _extract(request.passages[0].text, request.question, self._sentences)
        words = text.split()
        # One token is at most one word here: the limit is kept without a tokenizer.
        stopped = len(words) > request.maximum_tokens
        if stopped:
            text = " ".join(words[: request.maximum_tokens])
        return Generation(
            text=text,
            model_id=MODEL_ID,
            input_tokens=input_tokens,
            output_tokens=_count_tokens(text),
            stop_reason="max_tokens" if stopped else "end_turn",
        )


def sentences_of(text: str) -> list[str]:
    """Return the sentences of a text, as far as the generator looks at it."""
    return [part.strip() for part in _SENTENCE_END.split(text[:_MAXIMUM_SCANNED]) if part and part.strip()]


def _extract(passage: str, question: str, count: int) -> str:
    sentences = sentences_of(passage)
    asked = _terms(question[:_MAXIMUM_SCANNED])
    scored = []
    for position, sentence in enumerate(sentences):
        terms = _terms(sentence)
        overlap = sum(min(number, asked[term]) for term, number in terms.items() if term in asked)
        scored.append((-overlap / (1 + sum(terms.values())) ** 0.5, position))
    best = sorted(position for _, position in sorted(scored)[:count])
    return " ".join(sentences[position] for position in best)


def _terms(text: str) -> Counter[str]:
    return Counter(word for word in _WORD.findall(text.lower()) if word not in _STOP_WORDS)


def _count_tokens(text: str) -> int:
    return len(text.split())
