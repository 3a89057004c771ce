"""The passages that stand beside one query: right ones, hard wrong ones, random wrong ones.

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
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.text_keys import normalise_text
from mangaassist_assets.datasets.building.reviewed_queries import KnownQuery
from mangaassist_assets.mining.naming.words import word_overlap
from mangaassist_assets.retrieval.tenants import TenantScope
from mangaassist_assets.retrieval.types import Chunk

NegativeKind = Literal["shown", "live", "random"]
"""Shown to the shopper in the reviewed turn, found by the live index now, or drawn at random."""

_SHINGLE = 4
_OLD_CHUNK = "not in the knowledge any more"
_FOREIGN = "of another tenant"


@dataclass(frozen=True, slots=True, kw_only=True)
class FalseNegativeGuard:
    """From which share of common four-letter sequences (Jaccard) a passage is too close to an answer to be wrong.

    `near_identical` holds for every passage; `above_answer` for one that the retriever ranks above every answer.
    """

    near_identical: float = 0.8
    above_answer: float = 0.6

    def __post_init__(self) -> None:
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


@dataclass(frozen=True, slots=True)
class Passage:
    """One passage of a query; `negative_kind` is None for an answer, `rank` the first stage's, counted from 1."""

    chunk: Chunk
    negative_kind: NegativeKind | None
    rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryPassages:
    """What a reranker is given to order for one query, as the first stage ranked it, and the answers it never saw.

    `missed` are passages of expected documents of which the first stage brought up none.
    """

    listed: Sequence[Passage]
    missed: Sequence[Chunk] = ()


class PassageChoice:
    """Chooses passages query by query, and counts those that are neither right nor wrong."""

    def __init__(
        self,
        pool: PassagePool,
        *,
        live: Callable[[KnownQuery], Sequence[str]],
        train_negatives: int,
        random_negatives: int,
    ) -> None:
        """Prepare for the queries of one dataset.

        Args:
            pool: the knowledge.
            live: what the live index finds for a query and its tenant: chunk ids, best first.
            train_negatives: hard negatives of a training query, at most.
            random_negatives: random negatives of a training query.
        """
        self._pool = pool
        self._live = live
        self._train_negatives = train_negatives
        self._random_negatives = random_negatives
        self._left_out: Counter[str] = Counter()
        self._chunks_of: defaultdict[str, list[Chunk]] = defaultdict(list)
        for chunk in pool.chunks.values():
            self._chunks_of[chunk.document_id].append(chunk)

    @property
    def left_out(self) -> dict[str, int]:
        """Why passages were left out: reason -> count."""
        return dict(sorted(self._left_out.items()))

    def passages(self, query: KnownQuery) -> QueryPassages | str:
        """Return the passages of a query in the retriever's order, or the reason why it has none.

        Where the retriever missed every expected document of a training query, the passage closest to the query stands
        behind what it found, to learn from. On the other sides nothing is put to what was found.
        """
        training = query.candidate.split == "train"
        found = self._found(query, training=training)
        answers = [Passage(one.chunk, None, one.rank) for one in found if one.chunk.document_id in query.documents]
        behind = max((one.rank for one in found), default=0) + 1
        brought_up = {one.chunk.document_id for one in answers}
        missed: list[Chunk] = []
        if not (training and answers):
            missed = self._closest_chunks(query, query.documents - brought_up)
        if not answers and not missed:
            known = any(document in self._chunks_of for document in query.documents)
            return "relevant document is of another tenant" if known else "relevant document is not in the index"
        best = min((one.rank for one in answers), default=behind)
        right = [*(one.chunk for one in answers), *missed]
        if training and missed:
            answers, missed = [Passage(missed[0], None, behind)], []
            right = [one.chunk for one in answers]
            behind += 1
        hard = list(self._hard_negatives(query, found, right, best=best))
        if training:
            hard = hard[: self._train_negatives]
        drawn = self._drawn(query, found, right, behind) if training else []
        if not hard and not drawn:
            return "no other passage to tell the relevant one from"
        listed = sorted([*answers, *hard, *drawn], key=lambda one: (one.rank, one.chunk.chunk_id))
        return QueryPassages(listed=listed, missed=missed)

    def _found(self, query: KnownQuery, *, training: bool) -> list[Passage]:
        """Return what the first stage found, best first: in training both lists, to be judged one whole list."""
        scope = query.scope
        shown = list(self._entries(query.shown, "shown", scope))
        if not training and len(shown) > 1:
            return shown
        ranks = {one: rank for rank, one in enumerate(self._live(query), start=1)}
        live = list(self._entries(ranks, "live", scope))
        if not training:
            return live
        known = {one.chunk.chunk_id for one in shown}
        both = [*shown, *(one for one in live if one.chunk.chunk_id not in known)]
        return sorted(both, key=lambda one: (one.rank, one.negative_kind != "shown", one.chunk.chunk_id))

    def _entries(self, ranks: Mapping[str, int], source: NegativeKind, scope: TenantScope) -> Iterator[Passage]:
        for chunk_id, rank in sorted(ranks.items(), key=lambda entry: (entry[1], entry[0])):
            chunk = self._pool.chunks.get(chunk_id)
            if chunk is None:
                self._left_out[_OLD_CHUNK] += 1
            elif not scope.admits(chunk.tenant):
                self._left_out[_FOREIGN] += 1
            else:
                yield Passage(chunk, source, rank)

    def _hard_negatives(
        self, query: KnownQuery, found: Sequence[Passage], right: Sequence[Chunk], *, best: int
    ) -> Iterator[Passage]:
        """Yield what was found and is wrong; `best` is the rank of the best answer."""
        for one in found:
            if one.chunk.document_id in query.documents:
                continue
            why = self._pool.why_no_negative(one.chunk, right, above=one.rank < best)
            if why is None:
                yield one
            else:
                self._left_out[why] += 1

    def _drawn(self, query: KnownQuery, found: Sequence[Passage], right: Sequence[Chunk], behind: int) -> list[Passage]:
        known = {one.chunk.chunk_id for one in found}
        scope = query.scope

        def refuse(chunk: Chunk) -> bool:
            return (
                not scope.admits(chunk.tenant)
                or chunk.document_id in query.documents
                or chunk.chunk_id in known
                or self._pool.why_no_negative(chunk, right) is not None
            )

        drawn = self._pool.draw(query.candidate.example_id, self._random_negatives, refuse=refuse)
        return [Passage(chunk, "random", behind + place) for place, chunk in enumerate(drawn)]

    def _closest_chunks(self, query: KnownQuery, documents: Collection[str]) -> list[Chunk]:
        """Return of each document the chunk that shares most words with the query, the closest first."""

        def distance(chunk: Chunk) -> tuple[float, str, int]:
            shared = word_overlap(query.text, f"{chunk.title} {chunk.text}")
            return (-round(shared, 9), chunk.document_id, chunk.position)

        closest = []
        for name in documents:
            admitted = [chunk for chunk in self._chunks_of.get(name, ()) if query.scope.admits(chunk.tenant)]
            closest += sorted(admitted, key=distance)[:1]
        return sorted(closest, key=distance)


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
