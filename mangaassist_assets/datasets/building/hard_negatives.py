"""Wrong answers worth learning from, and the guard that keeps right ones from being taken for wrong.

Hard negatives are what a retriever put beside the answer: what it showed the shopper then, and what the live index
finds now. A few random passages stand beside them, so that a reranker also learns what is plainly beside the point.

Nobody labelled the negatives: an unlabelled passage can be as good an answer as the labelled one, and the better the
retriever, the likelier that is (Qu et al., "RocketQA", NAACL 2021: of the unlabelled top passages they read, about 70 %
were). A passage is therefore no negative if it is of an expected document, has the same words as an answer, nearly the
same words, or much of them while the retriever ranks it above the answer. It is left out rather than called right.

On FeedbackQA's CDC passages (1,265 questions, MiniLM's first 30) that is 1 % of the negatives. Those above the answer
are nearly all right answers from another page of questions; below it, likeness under 0.8 is mostly the same advice for
other readers, told apart by its title: worth learning from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.text_keys import normalise_text
from mangaassist_assets.retrieval.types import Chunk

NegativeKind = Literal["shown", "live", "random"]
"""Shown to the shopper in the reviewed turn, found by the live index now, or drawn at random."""

_SHINGLE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class FalseNegativeGuard:
    """From which share of common four-letter sequences (Jaccard) a passage is too close to an answer to be wrong.

    `near_identical` holds for every passage; `above_answer` for one that the retriever ranks above every answer.
    """

    near_identical: float = 0.8
    above_answer: float = 0.6

    def __post_init__(self) -> None:
        """Refuse shares outside 0 to 1."""
        if not 0 < self.above_answer <= self.near_identical <= 1:
            raise ValueError(
                f"0 < above_answer <= near_identical <= 1 must hold, got above_answer={self.above_answer} and "
                f"near_identical={self.near_identical}"
            )


DEFAULT_GUARD = FalseNegativeGuard()


class PassagePool:
    """The chunks of the knowledge: what may be drawn from, and how much alike two of them are."""

    def __init__(self, chunks: Mapping[str, Chunk], *, guard: FalseNegativeGuard = DEFAULT_GUARD) -> None:
        self.chunks = chunks
        self._guard = guard
        self._ids = sorted(chunks)
        self._hashes = np.array([_hash(chunk_id) for chunk_id in self._ids], dtype=np.uint64)
        self._shingles: dict[str, frozenset[str]] = {}

    def why_no_negative(self, chunk: Chunk, answers: Sequence[Chunk], *, above: bool = False) -> str | None:
        """Return why a passage must not be called wrong, or None where it may.

        Args:
            chunk: a passage of no expected document.
            answers: the relevant passages.
            above: whether the retriever ranks it above every answer.
        """
        if any(chunk.content_hash == answer.content_hash for answer in answers):
            return "same words as an answer"
        closest = max((self.likeness(chunk, answer) for answer in answers), default=0.0)
        if closest >= self._guard.near_identical:
            return "nearly the same words as an answer"
        if above and closest >= self._guard.above_answer:
            return "ranked above the answer with much of its words"
        return None

    def likeness(self, first: Chunk, second: Chunk) -> float:
        """Return the Jaccard similarity of two passages' sets of four-letter sequences, 0 to 1, in any script."""
        a, b = self._shingles_of(first), self._shingles_of(second)
        smaller, larger = sorted((len(a), len(b)))
        # The similarity is at most this; most pairs need no intersection.
        if not larger or smaller / larger < self._guard.above_answer:
            return 0.0
        common = len(a & b)
        return common / (len(a) + len(b) - common)

    def draw(self, query_id: str, count: int, *, refuse: Callable[[Chunk], bool]) -> list[Chunk]:
        """Return random passages for a query: the same ones whenever and in whatever order this is asked.

        Each passage has a place in the query's own order, a hash of both ids (rendezvous hashing): a passage more or
        less in the knowledge changes the draw of those queries only that it comes first for.
        """
        if count <= 0 or not self._ids:
            return []
        places = _mixed(self._hashes ^ np.uint64(_hash(query_id)))
        drawn: list[Chunk] = []
        for index in _ascending(places, likely=4 * count + 16):
            chunk = self.chunks[self._ids[index]]
            if not refuse(chunk):
                drawn.append(chunk)
                if len(drawn) == count:
                    break
        return drawn

    def _shingles_of(self, chunk: Chunk) -> frozenset[str]:
        if chunk.chunk_id not in self._shingles:
            text = normalise_text(chunk.text).replace(" ", "")
            last = max(1, len(text) - _SHINGLE + 1)
            self._shingles[chunk.chunk_id] = frozenset(text[start : start + _SHINGLE] for start in range(last))
        return self._shingles[chunk.chunk_id]


def _ascending(places: NDArray[np.uint64], *, likely: int) -> Iterable[int]:
    """Yield the indexes of the smallest values first; sorts all of them only if more than `likely` are asked for."""
    if len(places) <= likely:
        yield from np.argsort(places, kind="stable").tolist()
        return
    first = np.argpartition(places, likely)[:likely]
    yield from first[np.argsort(places[first], kind="stable")].tolist()
    yield from np.argsort(places, kind="stable")[likely:].tolist()


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).digest()[:8], "big")


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return well-mixed 64-bit hashes of 64-bit values (the finaliser of SplitMix64; Steele et al., OOPSLA 2014)."""
    mixed = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return result
