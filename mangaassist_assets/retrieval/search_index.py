"""Index generations behind one alias: what holds in every engine. An engine only creates, writes, searches and deletes.

A generation is immutable once it is sealed, the alias names the live one, and no search goes without a scope.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.retrieval.documents.text import keyword_query
from mangaassist_assets.retrieval.errors import (
    AliasMovedError,
    KnowledgeError,
    LiveGenerationError,
    SealedGenerationError,
    SearchIndexError,
    TenantlessGenerationError,
    UnknownGenerationError,
    UnsealedGenerationError,
)
from mangaassist_assets.retrieval.tenants import TenantScope, tenant_key
from mangaassist_assets.retrieval.types import Chunk, GenerationState, Hit, Vectors

_GENERATION_NAME = re.compile(r"[0-9a-z][0-9a-z_-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchFilter:
    """What a search may find, applied before it ranks: what is left out takes no place of what is admitted.

    `tenant_keys` are those that a chunk may have, None where any will do. `attributes` are `key=value`s that a chunk
    must have, all of them.
    """

    tenant_keys: tuple[str, ...] | None
    attributes: tuple[str, ...]


class SearchEngine(Protocol):
    """What holds the generations. `SearchIndex` has checked what it is asked, and maps what it raises.

    Searches return None where there is no such generation; everything else is only asked about those that there are.
    """

    @property
    def name(self) -> str:
        """What it is called, for messages."""

    @property
    def location(self) -> str:
        """Where the generations are, for messages."""

    @property
    def settings(self) -> Mapping[str, str]:
        """What shapes the search results (engine, analyzer, layout): part of a generation's identity."""

    def errors(self) -> tuple[type[Exception], ...]:
        """Return what its client raises."""

    def create(self, state: GenerationState) -> None:
        """Create an empty physical index."""

    def add(self, generation: str, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        """Add chunks with their vectors."""

    def seal(self, state: GenerationState) -> None:
        """Build or refresh the vector and keyword indexes so that searches see all chunks, and mark it finished."""

    def state(self, generation: str) -> GenerationState | None:
        """Return what is known of a generation."""

    def states(self) -> Iterable[GenerationState]:
        """Return what is known of every generation, in any order."""

    def count(self, generation: str) -> int:
        """Return how many chunks a generation holds, those just added included."""

    def vector_search(
        self, generation: str, vector: NDArray[np.float32], *, only: SearchFilter, limit: int
    ) -> list[Hit] | None:
        """Return the nearest chunks by cosine similarity, best first."""

    def keyword_search(self, generation: str, words: str, *, only: SearchFilter, limit: int) -> list[Hit] | None:
        """Return the best chunks by BM25, best first; `words` are not empty and hold no operators."""

    def live_generation(self) -> str | None:
        """Return the generation that the alias names."""

    def alias_lock(self) -> AbstractContextManager[object]:
        """Return what keeps others from moving the alias, where `move_alias` cannot see to it by itself."""

    def move_alias(self, generation: str, *, expected: str | None) -> None:
        """Point the alias at a generation; raises AliasMovedError where it does not name `expected` any more."""

    def delete(self, generation: str) -> None:
        """Remove a generation."""


class SearchIndex:
    """Index generations of one engine. Thread-safe, and safe beside other processes.

    Every method that names a generation, but `create_generation` and `state`, raises `UnknownGenerationError` where
    there is none of that name.
    """

    def __init__(self, engine: SearchEngine) -> None:
        self._engine = engine
        self._knowing_tenants: set[str] = set()

    @property
    def settings(self) -> Mapping[str, str]:
        """What shapes the search results: part of a generation's identity."""
        return self._engine.settings

    def create_generation(self, generation: str, *, dimension: int) -> None:
        """Create an empty physical index; an unfinished one of the same name is replaced.

        Raises:
            ValueError: If that is no name for a generation.
            SealedGenerationError: If a finished generation of that name exists.
        """
        if not _GENERATION_NAME.fullmatch(generation):
            raise ValueError(
                f"{generation[:80]!r} is no name for a generation: use up to 63 of a-z, 0-9, - and _, starting with a "
                "letter or digit"
            )
        state = self.state(generation)
        if state is not None and state.sealed:
            raise SealedGenerationError(
                f"the generation {generation} is finished and must not change: delete it first, or use it as it is"
            )
        created_at = int(datetime.now(UTC).timestamp() * 1000)
        with self._asking(f"creating {generation}"):
            if state is not None:
                self._engine.delete(generation)
            self._engine.create(
                GenerationState(
                    generation=generation, dimension=dimension, sealed=False, created_at=created_at, knows_tenants=True
                )
            )

    def add(self, generation: str, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        """Add chunks with their vectors, shape (len(chunks), dimension).

        Raises:
            ValueError: If the vectors have another shape.
            SealedGenerationError: If the generation is finished.
        """
        state = self._known(generation)
        if state.sealed:
            raise SealedGenerationError(f"the generation {generation} is finished: nothing can be added to it")
        if vectors.shape != (len(chunks), state.dimension):
            raise ValueError(
                f"{len(chunks)} chunks for the generation {generation} of dimension {state.dimension} came with "
                f"vectors of shape {vectors.shape}"
            )
        if chunks:
            with self._asking(f"adding to {generation}"):
                self._engine.add(generation, chunks, vectors)

    def seal(self, generation: str) -> None:
        """Finish a generation: searches see all its chunks from now on. A finished one stays as it is."""
        state = self._known(generation)
        if not state.sealed:
            with self._asking(f"sealing {generation}"):
                self._engine.seal(state)

    def state(self, generation: str) -> GenerationState | None:
        """Return what is known of a generation, or None where there is none of that name."""
        if not _GENERATION_NAME.fullmatch(generation):
            return None
        with self._asking(f"describing {generation}"):
            return self._engine.state(generation)

    def count(self, generation: str) -> int:
        """Return how many chunks a generation holds, those just added by this object included."""
        self._known(generation)
        with self._asking(f"counting {generation}"):
            return self._engine.count(generation)

    def vector_search(
        self,
        generation: str,
        vector: NDArray[np.float32],
        *,
        scope: TenantScope,
        limit: int,
        filters: Mapping[str, str] | None = None,
    ) -> list[Hit]:
        """Return the nearest chunks by cosine similarity, best first; the score is the engine's."""
        only = self._filter(generation, scope, filters)
        return self._found(generation, lambda: self._engine.vector_search(generation, vector, only=only, limit=limit))

    def keyword_search(
        self,
        generation: str,
        query: str,
        *,
        scope: TenantScope,
        limit: int,
        filters: Mapping[str, str] | None = None,
    ) -> list[Hit]:
        """Return the best chunks by BM25, best first. Any text is a valid query; there are no operators."""
        only = self._filter(generation, scope, filters)
        words = keyword_query(query)
        if not words:
            self._known(generation)
            return []
        return self._found(generation, lambda: self._engine.keyword_search(generation, words, only=only, limit=limit))

    def generations(self) -> list[str]:
        """Return the names of all generations, unfinished ones included, oldest first."""
        with self._asking("listing its generations"):
            states = sorted(self._engine.states(), key=lambda state: (state.created_at, state.generation))
        return [state.generation for state in states]

    def live_generation(self) -> str | None:
        """Return the generation that the alias names, or None before the first swap."""
        with self._asking("reading the alias"):
            return self._engine.live_generation()

    def swap_live(self, generation: str, *, expected: str | None) -> None:
        """Point the alias at `generation` if it still names `expected`.

        Raises:
            AliasMovedError: If it names another one by now.
            UnsealedGenerationError: If the generation was never finished.
            TenantlessGenerationError: If it does not know tenants.
        """
        with self._asking(f"moving the alias to {generation}"), self._engine.alias_lock():
            state = self._known(generation)
            if not state.sealed:
                raise UnsealedGenerationError(
                    f"the generation {generation} is not finished: seal it before it goes live"
                )
            if not state.knows_tenants:
                raise TenantlessGenerationError(generation)
            live = self._engine.live_generation()
            if live != expected:
                raise AliasMovedError(expected=expected, actual=live)
            if live != generation:
                self._engine.move_alias(generation, expected=expected)

    def delete_generation(self, generation: str) -> None:
        """Remove a physical generation.

        Raises:
            LiveGenerationError: If it is the live one.
        """
        with self._asking(f"deleting {generation}"), self._engine.alias_lock():
            if self._engine.live_generation() == generation:
                raise LiveGenerationError(
                    f"the generation {generation} is live: swap to another one before you delete it"
                )
            self._known(generation)
            self._engine.delete(generation)

    def _filter(self, generation: str, scope: TenantScope, filters: Mapping[str, str] | None) -> SearchFilter:
        keys = scope.admitted_keys()
        # A generation that knew tenants once always does; in one that does not, a filter would match nothing.
        if keys is not None and generation not in self._knowing_tenants:
            if not self._known(generation).knows_tenants:
                raise TenantlessGenerationError(generation)
            self._knowing_tenants.add(generation)
        return SearchFilter(tenant_keys=keys, attributes=_attributes(filters or {}))

    def _found(self, generation: str, search: Callable[[], list[Hit] | None]) -> list[Hit]:
        with self._asking(f"searching {generation}"):
            hits = search()
        if hits is None:
            raise self._unknown(generation)
        return hits

    def _known(self, generation: str) -> GenerationState:
        state = self.state(generation)
        if state is None:
            raise self._unknown(generation)
        return state

    def _unknown(self, generation: str) -> UnknownGenerationError:
        return UnknownGenerationError(
            f"there is no generation {generation[:80]!r} in {self._engine.location}; there are "
            f"{', '.join(self.generations()) or 'none'}"
        )

    @contextmanager
    def _asking(self, about: str) -> Iterator[None]:
        """Turn what the engine's client raises into an error of the search index."""
        try:
            yield
        except KnowledgeError:
            raise
        except self._engine.errors() as error:
            raise SearchIndexError(f"{self._engine.name} failed at {about}: {str(error)[:500]}") from error


def indexed_fields(chunk: Chunk) -> dict[str, Any]:
    """Return what an engine stores of a chunk beside its vector.

    `keywords` is what keyword search reads, `tenant_key` and `attributes` what filters read.
    """
    return {
        "chunk_id": chunk.chunk_id,
        "document_id": chunk.document_id,
        "title": chunk.title,
        "text": chunk.text,
        "position": chunk.position,
        "content_hash": chunk.content_hash,
        "keywords": f"{chunk.title}\n{chunk.text}",
        "tenant_key": tenant_key(chunk.tenant),
        "attributes": list(_attributes(chunk.metadata)),
    }


def _attributes(metadata: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{key}={value}" for key, value in sorted(metadata.items()))
