"""Index generations in OpenSearch or OpenSearch Serverless: one index each, an alias, the seal in the index's `_meta`.

In a cluster a chunk's document id is the SHA-256 of its chunk id, so that writing it twice writes it once. Vector
collections of OpenSearch Serverless take no ids of ours: there the field `chunk_id` is the identity, and a write
that was repeated shows in the count, which the builder compares before it seals.

A generation belongs to one alias: stores that share a cluster have an alias each, and never see or delete each other's.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from mangaassist_assets.retrieval.errors import AliasMovedError, SearchIndexError
from mangaassist_assets.retrieval.search_index import SearchFilter, indexed_fields
from mangaassist_assets.retrieval.types import Chunk, GenerationState, Hit, Vectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from opensearchpy import OpenSearch

Engine = Literal["lucene", "faiss"]
_FIELDS = ["chunk_id", "document_id", "title", "text"]
_META = "mangaassist"
_BULK_CHUNKS = 500
# Else the client logs a warning for every question whose answer is no.
_MAY_BE_MISSING = {"ignore": 404}
_POLL_SECONDS = 0.25
# The vectors have length one, so the inner product is the cosine; Serverless knows no cosine for faiss.
_SPACES: Mapping[Engine, str] = {"lucene": "cosinesimil", "faiss": "innerproduct"}
# HNSW finds the first few less surely when it looks for only a few.
_MIN_CANDIDATES = 100
_MAX_KEYWORD_BYTES = 8_191
_ANALYSIS = {
    "analyzer": {
        "mangaassist": {
            "type": "custom",
            "tokenizer": "standard",
            # Japanese in pairs of characters, English without accents and endings.
            "filter": ["cjk_width", "lowercase", "cjk_bigram", "asciifolding", "porter_stem"],
        }
    }
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSearchLayout:
    """How generations are laid out: the alias of the live one, the vector engine, and what kind of service it is."""

    alias: str = "mangaassist-knowledge"
    engine: Engine = "lucene"
    serverless: bool = False
    replicas: int = 1

    def __post_init__(self) -> None:
        if self.serverless and self.engine != "faiss":
            raise ValueError(f"OpenSearch Serverless has no engine {self.engine!r}: set engine to 'faiss'")


class OpenSearchEngine:
    """A `SearchEngine` in OpenSearch. Thread-safe, and safe beside other processes."""

    name = "OpenSearch"
    location = "OpenSearch"

    def __init__(
        self, client: OpenSearch, *, layout: OpenSearchLayout, visibility_timeout_seconds: float = 180.0
    ) -> None:
        self._client = client
        self._layout = layout
        self._visibility_timeout = visibility_timeout_seconds
        self._added: dict[str, int] = {}

    @property
    def settings(self) -> Mapping[str, str]:
        """What shapes the search results, and the alias, so that equal content of two aliases has two indexes."""
        engine = self._layout.engine
        return {
            "engine": f"opensearch-{engine}",
            "layout": "2",
            "vector": f"hnsw-{_SPACES[engine]}",
            "analyzer": "cjk-1",
            "alias": self._layout.alias,
        }

    def errors(self) -> tuple[type[Exception], ...]:
        """Return what the client raises."""
        from opensearchpy.exceptions import OpenSearchException

        return (OpenSearchException,)

    def create(self, state: GenerationState) -> None:
        """Create an empty index."""
        engine = self._layout.engine
        index_settings: dict[str, Any] = {"knn": True}
        if not self._layout.serverless:
            index_settings |= {"number_of_shards": 1, "number_of_replicas": self._layout.replicas}
        body = {
            "settings": {"index": index_settings, "analysis": _ANALYSIS},
            "mappings": {
                "dynamic": "strict",
                "_meta": {_META: self._meta(state)},
                "properties": {
                    "chunk_id": {"type": "keyword"},
                    "document_id": {"type": "keyword"},
                    "position": {"type": "integer"},
                    "content_hash": {"type": "keyword"},
                    "title": {"type": "text", "index": False},
                    "text": {"type": "text", "index": False},
                    "keywords": {"type": "text", "analyzer": "mangaassist"},
                    "tenant_key": {"type": "keyword"},
                    "attributes": {"type": "keyword", "ignore_above": _MAX_KEYWORD_BYTES},
                    "vector": {
                        "type": "knn_vector",
                        "dimension": state.dimension,
                        "method": {
                            "name": "hnsw",
                            "engine": engine,
                            "space_type": _SPACES[engine],
                            "parameters": {"ef_construction": 128, "m": 16},
                        },
                    },
                },
            },
        }
        self._client.indices.create(index=state.generation, body=body)

    def add(self, generation: str, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        """Add chunks with their vectors; raises SearchIndexError with the reason of the first that was refused."""
        from opensearchpy.helpers import streaming_bulk

        failed = [
            item
            for succeeded, item in streaming_bulk(
                self._client,
                self._actions(generation, chunks, vectors),
                chunk_size=_BULK_CHUNKS,
                raise_on_error=False,
                max_retries=3,
            )
            if not succeeded
        ]
        if failed:
            raise SearchIndexError(
                f"OpenSearch refused {len(failed)} of {len(chunks)} chunks of {generation}, the first with: "
                f"{str(next(iter(failed[0].values())).get('error'))[:500]}"
            )
        self._added[generation] = self._added.get(generation, 0) + len(chunks)

    def seal(self, state: GenerationState) -> None:
        """Wait until searches see all chunks, and mark the index in its `_meta`."""
        self.count(state.generation)
        meta = self._meta(replace(state, sealed=True))
        self._client.indices.put_mapping(index=state.generation, body={"_meta": {_META: meta}})
        self._added.pop(state.generation, None)

    def state(self, generation: str) -> GenerationState | None:
        """Return what the index's `_meta` says, or None where there is none of that name and alias."""
        mappings = self._client.indices.get_mapping(index=generation, params=_MAY_BE_MISSING)
        return self._state(generation, mappings.get(generation, {}))

    def states(self) -> Iterator[GenerationState]:
        """Return the state of every generation of the alias."""
        for name, mapping in self._client.indices.get_mapping(index="*").items():
            state = self._state(name, mapping)
            if state is not None:
                yield state

    def count(self, generation: str) -> int:
        """Return how many chunks a generation holds, those just added by this object included."""
        if not self._layout.serverless:
            self._client.indices.refresh(index=generation)
            return self._visible(generation)
        # Serverless cannot be told to refresh: wait for what this object wrote.
        added = self._added.get(generation, 0)
        return _wait_for(lambda: self._visible(generation), at_least=added, seconds=self._visibility_timeout)

    def vector_search(
        self, generation: str, vector: NDArray[np.float32], *, only: SearchFilter, limit: int
    ) -> list[Hit] | None:
        """Return the nearest chunks by cosine similarity (HNSW), best first; the score is OpenSearch's."""
        nearest: dict[str, Any] = {"vector": vector.tolist(), "k": max(limit, _MIN_CANDIDATES)}
        if clauses := _clauses(only):
            # Applied while the graph is walked.
            nearest["filter"] = {"bool": {"filter": clauses}}
        return self._search(generation, {"knn": {"vector": nearest}}, limit)

    def keyword_search(self, generation: str, words: str, *, only: SearchFilter, limit: int) -> list[Hit] | None:
        """Return the best chunks by BM25, best first."""
        match: dict[str, Any] = {"bool": {"must": [{"match": {"keywords": {"query": words}}}]}}
        if clauses := _clauses(only):
            match["bool"]["filter"] = clauses
        return self._search(generation, match, limit)

    def live_generation(self) -> str | None:
        """Return the index that the alias names.

        Raises:
            SearchIndexError: If the alias names several indexes, which only another program can have done.
        """
        answer = self._client.indices.get_alias(name=self._layout.alias, params=_MAY_BE_MISSING)
        named = [] if "error" in answer else sorted(answer)
        if len(named) > 1:
            raise SearchIndexError(
                f"the alias {self._layout.alias} names {', '.join(named)}: remove it from all but one of them"
            )
        return named[0] if named else None

    def alias_lock(self) -> AbstractContextManager[object]:
        """Return nothing: OpenSearch checks the move of an alias itself."""
        return nullcontext()

    def move_alias(self, generation: str, *, expected: str | None) -> None:
        """Move the alias in one call, which fails as a whole where somebody else was quicker."""
        from opensearchpy.exceptions import TransportError

        alias = self._layout.alias
        # OpenSearch refuses a second write index of one alias, and `must_exist` a swap from where it is no more.
        actions: list[dict[str, Any]] = [{"add": {"index": generation, "alias": alias, "is_write_index": True}}]
        if expected is not None:
            actions.insert(0, {"remove": {"index": expected, "alias": alias, "must_exist": True}})
        try:
            self._client.indices.update_aliases(body={"actions": actions})
        except TransportError as error:
            # A second write index is answered with status 500, a missing alias with 404.
            actual = self.live_generation()
            if actual == expected:
                raise SearchIndexError(f"OpenSearch refused to move the alias {alias}: {str(error)[:500]}") from error
            raise AliasMovedError(expected=expected, actual=actual) from error

    def delete(self, generation: str) -> None:
        """Delete an index."""
        self._client.indices.delete(index=generation)
        self._added.pop(generation, None)

    def _actions(self, generation: str, chunks: Sequence[Chunk], vectors: Vectors) -> Iterator[dict[str, Any]]:
        for chunk, vector in zip(chunks, vectors, strict=True):
            action: dict[str, Any] = {
                "_op_type": "index",
                "_index": generation,
                "_source": {**indexed_fields(chunk), "vector": vector.tolist()},
            }
            if not self._layout.serverless:
                action["_id"] = hashlib.sha256(chunk.chunk_id.encode()).hexdigest()
            yield action

    def _search(self, generation: str, query: Mapping[str, Any], limit: int) -> list[Hit] | None:
        from opensearchpy.exceptions import NotFoundError

        try:
            answer = self._client.search(index=generation, body={"query": query, "size": limit, "_source": _FIELDS})
        except NotFoundError:
            return None
        return [Hit(**hit["_source"], score=float(hit["_score"])) for hit in answer["hits"]["hits"]]

    def _visible(self, generation: str) -> int:
        return int(self._client.count(index=generation)["count"])

    def _meta(self, state: GenerationState) -> dict[str, Any]:
        return {
            "alias": self._layout.alias,
            "created_at": state.created_at,
            "dimension": state.dimension,
            "sealed": state.sealed,
            "tenants": state.knows_tenants,
        }

    def _state(self, generation: str, mapping: Mapping[str, Any]) -> GenerationState | None:
        meta = mapping.get("mappings", {}).get("_meta", {}).get(_META)
        if meta is None or meta.get("alias") != self._layout.alias:
            # Somebody else's index.
            return None
        return GenerationState(
            generation=generation,
            dimension=int(meta["dimension"]),
            sealed=bool(meta["sealed"]),
            created_at=int(meta["created_at"]),
            knows_tenants=meta.get("tenants") is True,
        )


def _clauses(only: SearchFilter) -> list[dict[str, Any]]:
    tenants = [] if only.tenant_keys is None else [{"terms": {"tenant_key": list(only.tenant_keys)}}]
    return [*tenants, *({"term": {"attributes": attribute}} for attribute in only.attributes)]


def _wait_for(measure: Callable[[], int], *, at_least: int, seconds: float) -> int:
    """Return a figure once it has reached a value, or what it is when the time is up."""
    deadline = time.monotonic() + seconds
    while (value := measure()) < at_least and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return value
