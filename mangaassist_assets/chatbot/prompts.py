"""Filling the prompt: passages and question as data, in slots, by one literal replacement each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mangaassist_assets.chatbot.configuration.documents import PromptsDocument
from mangaassist_assets.retrieval.types import Hit


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A filled prompt and the passages that fitted into it, best first."""

    system: str
    user: str
    passages: tuple[Hit, ...]


def build_prompt(document: PromptsDocument, question: str, passages: Sequence[Hit]) -> Prompt:
    """Fill the prompt.

    Passages are taken in order until `maximum_context_characters` is reached; the first is cut where it alone is
    longer. Slots are replaced literally, so braces in a passage or a question stay what they are.
    """
    kept: list[Hit] = []
    blocks: list[str] = []
    room = document.maximum_context_characters
    for number, hit in enumerate(passages, start=1):
        block = f"[{number}] {hit.title}\n{hit.text}".strip()
        if len(block) > room:
            if kept:
                break
            block = block[:room]
        kept.append(hit)
        blocks.append(block)
        room -= len(block)
    before, after = document.user.split("{context}")
    context = "\n\n".join(blocks)
    # Each half is filled on its own: a passage that contains "{question}" is text, not a slot.
    user = before.replace("{question}", question) + context + after.replace("{question}", question)
    return Prompt(system=document.system, user=user, passages=tuple(kept))
