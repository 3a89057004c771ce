"""Guardrails: what the ruleset refuses, before and after the answer, as reasons in the order of the checks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from mangaassist_assets.chatbot.configuration.documents import GuardrailsDocument
from mangaassist_assets.privacy import find_personal_data

# The longest text the patterns look at: a message over the limit is refused for its length anyway.
_MAXIMUM_SCANNED = 20_000


def check_message(rules: GuardrailsDocument, message: str) -> tuple[str, ...]:
    """Check a shopper's message: `empty_message`, `message_too_long`, `blocked_pattern:<number from 1>`."""
    # The classifier refuses a text that says nothing: it is no failure of the classifier's.
    reasons: list[str] = [] if message.strip() else ["empty_message"]
    if len(message) > rules.maximum_message_characters:
        reasons.append("message_too_long")
    scanned = message[:_MAXIMUM_SCANNED]
    for number, pattern in enumerate(_compiled(rules.blocked_patterns), start=1):
        if pattern.search(scanned):
            reasons.append(f"blocked_pattern:{number}")
    return tuple(reasons)


def check_answer(
    rules: GuardrailsDocument, answer: str, relevances: Sequence[float | None], *, passages: Sequence[str] = ()
) -> tuple[str, ...]:
    """Check an answer: `personal_data:<kind>` and `ungrounded`.

    Args:
        rules: The ruleset.
        answer: The generated answer.
        relevances: Relevance probabilities of the selected passages, in any order; no passage at all is ungrounded.
            None where no reranker judged: nothing is known against such a passage.
        passages: Texts of the store's own knowledge that the answer was made of: what they say is public, be it an
            author's name or the shop's address.
    """
    reasons: list[str] = []
    if rules.block_personal_data_in_answer:
        found = find_personal_data(answer)
        private = {one.kind for one in found if not any(answer[one.start : one.end] in text for text in passages)}
        reasons += [f"personal_data:{kind.lower()}" for kind in sorted(private)]
    if all(one is not None and one < rules.minimum_best_relevance for one in relevances):
        reasons.append("ungrounded")
    return tuple(reasons)


@lru_cache(maxsize=8)
def _compiled(patterns: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns)
