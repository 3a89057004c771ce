"""Index generations behind one alias: what holds in every engine. An engine only creates, writes, searches and deletes.

A generation is immutable once it is sealed, the alias names the live one, and no search goes without a scope.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.retrieval.documents.text import keyword_query
from mangaassist_assets.retrieval.errors import AliasMovedError, KnowledgeError, SearchIndexError
from mangaassist_assets.retrieval.tenants import TenantScope, tenant_key
from mangaassist_assets.retrieval.types import Chunk, GenerationState, Hit, Vectors

_GENERATION_NAME = re.compile(r"[0-9a-z][0-9a-z_-]{0,62}")


class SearchIndex(ABC):
    """Index generations of one engine. Thread-safe, and safe beside other processes.

    Every method that names a generation, but `create_generation` and `state`, raises `SearchIndexError` where there is
    none of that name. What an engine implements is only asked about generations that there are (but `_state` and the
    searches, which return None for others), after the checks that all engines share.
    """

    engine: ClassVar[str]
    """What the engine is called in messages."""
    location: str
    """Where the generations are, for messages."""

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, str]:
        """What shapes the search results (engine, analyzer, layout): part of a generation's identity."""

    def create_generation(self, generation: str, *, dimension: int) -> None:
        """Create an empty physical index; an unfinished one of the same name is replaced.

        Raises:
            ValueError: If that is no name for a generation.
            SearchIndexError: If a finished generation of that name exists.
        """
        if not _GENERATION_NAME.fullmatch(generation):
            raise ValueError(
                f"{generation[:80]!r} is no name for a generation: use up to 63 of a-z, 0-9, - and _, starting with a "
                "letter or digit"
            )
        state = self.state(generation)
        if state is not None and state.sealed:
            raise SearchIndexError(
                f"the generation {generation} is finished and must not change: delete it first, or use it as it is"
            )
        created_at = int(datetime.now(UTC).timestamp() * 1000)
        with self._asking(f"creating {generation}"):
            if state is not None:
                self._delete(generation)
            self._create(
                GenerationState(generation=generation, dimension=dimension, sealed=False, created_at=created_at)
            )

    def add(self, generation: str, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        """Add chunks with their vectors, shape (len(chunks), dimension).

        Raises:
            ValueError: If the vectors have another shape.
            SearchIndexError: If the generation is finished.
        """
        state = self._known(generation)
        if state.sealed:
            raise SearchIndexError(f"the generation {generation} is finished: nothing can be added to it")
        if vectors.shape != (len(chunks), state.dimension):
            raise ValueError(
                f"{len(chunks)} chunks for the generation {generation} of dimension {state.dimension} came with "
                f"vectors of shape {vectors.shape}"
            )
        if chunks:
            with self._asking(f"adding to {generation}"):
                self._add(generation, chunks, vectors)

    def seal(self, generation: str) -> None:
        """Finish a generation: searches see all its chunks from now on. A finished one stays as it is."""
        state = self._known(generation)
        if not state.sealed:
            with self._asking(f"sealing {generation}"):
                self._seal(state)

    def state(self, generation: str) -> GenerationState | None:
        """Return what is known of a generation, or None where there is none of that name."""
        if not _GENERATION_NAME.fullmatch(generation):
            return None
        with self._asking(f"describing {generation}"):
            return self._state(generation)

    def count(self, generation: str) -> int:
        """Return how many chunks a generation holds, those just added by this object included."""
        self._known(generation)
        with self._asking(f"counting {generation}"):
            return self._count(generation)

    def vector_search(
        self, generation: str, vector: NDArray[np.float32], *, scope: TenantScope, limit: int
    ) -> list[Hit]:
        """Return the nearest chunks by cosine similarity, best first; the score is the engine's."""
        return self._found(generation, lambda: self._vector_search(generation, vector, scope.admitted_keys(), limit))

    def keyword_search(self, generation: str, query: str, *, scope: TenantScope, limit: int) -> list[Hit]:
        """Return the best chunks by BM25, best first. Any text is a valid query; there are no operators."""
        words = keyword_query(query)
        if not words:
            self._known(generation)
            return []
        return self._found(generation, lambda: self._keyword_search(generation, words, scope.admitted_keys(), limit))

    def generations(self) -> list[str]:
        """Return the names of all generations, unfinished ones included, oldest first."""
        with self._asking("listing its generations"):
            states = sorted(self._states(), key=lambda state: (state.created_at, state.generation))
        return [state.generation for state in states]

    def live_generation(self) -> str | None:
        """Return the generation that the alias names, or None before the first swap."""
        with self._asking("reading the alias"):
            return self._live_generation()

    def swap_live(self, generation: str, *, expected: str | None) -> None:
        """Point the alias at `generation` if it still names `expected`.

        Raises:
            AliasMovedError: If it names another one by now.
            SearchIndexError: If the generation was never finished.
        """
        with self._asking(f"moving the alias to {generation}"), self._alias_lock():
            if not self._known(generation).sealed:
                raise SearchIndexError(f"the generation {generation} is not finished: seal it before it goes live")
            live = self._live_generation()
            if live != expected:
                raise AliasMovedError(expected=expected, actual=live)
            if live != generation:
                self._move_alias(generation, expected=expected)

    def delete_generation(self, generation: str) -> None:
        """Remove a physical generation.

        Raises:
            SearchIndexError: If it is the live one.
        """
        with self._asking(f"deleting {generation}"), self._alias_lock():
            if self._live_generation() == generation:
                raise SearchIndexError(f"the generation {generation} is live: swap to another one before you delete it")
            self._known(generation)
            self._delete(generation)

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

    def _unknown(self, generation: str) -> SearchIndexError:
        return SearchIndexError(
            f"there is no generation {generation[:80]!r} in {self.location}; there are "
            f"{', '.join(self.generations()) or 'none'}"
        )

    @contextmanager
    def _asking(self, about: str) -> Iterator[None]:
        """Turn what the engine's client raises into an error of the search index."""
        try:
            yield
        except KnowledgeError:
            raise
        except self._errors() as error:
            raise SearchIndexError(f"{self.engine} failed at {about}: {str(error)[:500]}") from error

    @abstractmethod
    def _errors(self) -> tuple[type[Exception], ...]:
        """Return what the engine's client raises."""

    @abstractmethod
    def _create(self, state: GenerationState) -> None: ...

    @abstractmethod
    def _add(self, generation: str, chunks: Sequence[Chunk], vectors: Vectors) -> None: ...

    @abstractmethod
    def _seal(self, state: GenerationState) -> None:
        """Build or refresh the vector and keyword indexes so that searches see all chunks, and mark it finished."""

    @abstractmethod
    def _state(self, generation: str) -> GenerationState | None: ...

    @abstractmethod
    def _states(self) -> Iterable[GenerationState]: ...

    @abstractmethod
    def _count(self, generation: str) -> int: ...

    @abstractmethod
    def _vector_search(
        self, generation: str, vector: NDArray[np.float32], tenant_keys: Sequence[str] | None, limit: int
    ) -> list[Hit] | None:
        """Search among chunks of these tenants, of all for None: the others take no place of what is admitted."""

    @abstractmethod
    def _keyword_search(
        self, generation: str, words: str, tenant_keys: Sequence[str] | None, limit: int
    ) -> list[Hit] | None:
        """Search as `_vector_search` does; `words` are not empty and hold no operators."""

    @abstractmethod
    def _live_generation(self) -> str | None: ...

    @abstractmethod
    def _alias_lock(self) -> AbstractContextManager[object]:
        """Return what keeps others from moving the alias, where `_move_alias` cannot see to it by itself."""

    @abstractmethod
    def _move_alias(self, generation: str, *, expected: str | None) -> None:
        """Point the alias at a generation; raises AliasMovedError where it does not name `expected` any more."""

    @abstractmethod
    def _delete(self, generation: str) -> None: ...


def indexed_fields(chunk: Chunk) -> dict[str, Any]:
    """Return what an engine stores of a chunk beside its vector: `keywords` to search by, `tenant_key` to filter by."""
    return {
        "chunk_id": chunk.chunk_id,
        "document_id": chunk.document_id,
        "title": chunk.title,
        "text": chunk.text,
        "position": chunk.position,
        "content_hash": chunk.content_hash,
        "keywords": f"{chunk.title}\n{chunk.text}",
        "tenant_key": tenant_key(chunk.tenant),
    }
