"""The passages that stand beside one query: right ones, hard wrong ones, random wrong ones."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mangaassist_assets.datasets.building.hard_negatives import NegativeKind, PassagePool
from mangaassist_assets.datasets.building.reviewed_queries import KnownQuery
from mangaassist_assets.mining.naming.words import word_overlap
from mangaassist_assets.retrieval.tenants import TenantScope
from mangaassist_assets.retrieval.types import Chunk

_OLD_CHUNK = "not in the knowledge any more"
_FOREIGN = "of another tenant"


@dataclass(frozen=True, slots=True)
class Passage:
    """One passage of a query; `negative_kind` is None for an answer, `rank` the first stage's, counted from 1."""

    chunk: Chunk
    negative_kind: NegativeKind | None
    rank: int


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

    def passages(self, query: KnownQuery) -> list[Passage] | str:
        """Return the passages of a query in the retriever's order, or the reason why it has none."""
        training = query.candidate.split == "train"
        found = self._found(query, training=training)
        answers = [Passage(one.chunk, None, one.rank) for one in found if one.chunk.document_id in query.documents]
        behind = max((one.rank for one in found), default=0) + 1
        if not answers:
            best = self._closest_chunk(query)
            if best is None:
                known = any(document in self._chunks_of for document in query.documents)
                return "relevant document is of another tenant" if known else "relevant document is not in the index"
            answers = [Passage(best, None, behind)]
            behind += 1
        hard = list(self._hard_negatives(query, found, answers))
        if training:
            hard = hard[: self._train_negatives]
        drawn = self._drawn(query, found, answers, behind) if training else []
        if not hard and not drawn:
            return "no other passage to tell the relevant one from"
        return sorted([*answers, *hard, *drawn], key=lambda one: (one.rank, one.chunk.chunk_id))

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
        self, query: KnownQuery, found: Sequence[Passage], answers: Sequence[Passage]
    ) -> Iterator[Passage]:
        right = [one.chunk for one in answers]
        best = min(one.rank for one in answers)
        for one in found:
            if one.chunk.document_id in query.documents:
                continue
            why = self._pool.why_no_negative(one.chunk, right, above=one.rank < best)
            if why is None:
                yield one
            else:
                self._left_out[why] += 1

    def _drawn(
        self, query: KnownQuery, found: Sequence[Passage], answers: Sequence[Passage], behind: int
    ) -> list[Passage]:
        known = {one.chunk.chunk_id for one in found}
        right = [one.chunk for one in answers]
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

    def _closest_chunk(self, query: KnownQuery) -> Chunk | None:
        scope = query.scope
        options = [
            chunk
            for document in sorted(query.documents)
            for chunk in self._chunks_of.get(document, ())
            if scope.admits(chunk.tenant)
        ]
        return min(
            options,
            key=lambda one: (
                -round(word_overlap(query.text, f"{one.title} {one.text}"), 9),
                one.document_id,
                one.position,
            ),
            default=None,
        )
