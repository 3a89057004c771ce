"""Whether an extractive answer is right, for the simulated reviewer: the texts of the knowledge decide."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mangaassist_assets.chatbot.generation import sentences_of
from mangaassist_assets.chatbot.orchestrator import ChatReply
from mangaassist_assets.datasets.sources.utterances import Utterance

_PLACEHOLDER = re.compile(r"\[[A-Z][A-Z_]+(?:_[0-9a-z]{2})?\]")


@dataclass(frozen=True, slots=True)
class ExtractCheck:
    """Whether an extractive answer is right: nothing but whole sentences of documents that answer.

    `passages` are the texts of each document. Nobody can tell without relevant documents, or of an answer that was
    redacted, as those read back from traces are.
    """

    passages: Mapping[str, Iterable[str]]

    def __call__(self, utterance: Utterance, reply: ChatReply) -> bool | None:
        """Return whether the answer is right, None where nobody can tell."""
        if not utterance.relevant_documents or _PLACEHOLDER.search(reply.answer):
            return None
        known = {
            sentence
            for document in utterance.relevant_documents
            for text in self.passages.get(document, ())
            for sentence in sentences_of(text)
        }
        rest = reply.answer.strip()
        if not rest:
            return False
        while rest:
            # The longest, because one sentence may begin like another.
            said = max((sentence for sentence in known if rest.startswith(sentence)), key=len, default="")
            if not said:
                return False
            rest = rest.removeprefix(said).lstrip()
        return True
