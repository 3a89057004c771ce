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
from mangaassist_assets.retrieval.search_index import SearchIndex, indexed_fields
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


def connect(
    url: str,
    *,
    auth: Literal["none", "basic", "sigv4"],
    service: Literal["es", "aoss"] = "es",
    username: str | None = None,
    password: str | None = None,
    region_name: str | None = None,
    timeout_seconds: float = 30.0,
) -> OpenSearch:
    """Return a client; nothing is sent yet.

    Args:
        url: Address of the cluster or collection.
        auth: How requests are signed.
        service: AWS's name of the service, for sigv4: `es` or `aoss`.
        username: For basic authentication.
        password: For basic authentication.
        region_name: For sigv4; None for boto3's own resolution.
        timeout_seconds: Longest wait for one request.

    Raises:
        ValueError: If what `auth` needs is missing.
    """
    from opensearchpy import OpenSearch, Urllib3AWSV4SignerAuth, Urllib3HttpConnection

    http_auth: Any = None
    if auth == "basic":
        if not username or not password:
            raise ValueError("basic authentication for OpenSearch needs a username and a password")
        http_auth = (username, password)
    elif auth == "sigv4":
        import boto3

        session = boto3.Session(region_name=region_name)
        credentials = session.get_credentials()
        if credentials is None or session.region_name is None:
            missing = "credentials" if credentials is None else "region"
            raise ValueError(f"no AWS {missing} to sign requests to OpenSearch with: configure them, or set auth")
        http_auth = Urllib3AWSV4SignerAuth(credentials, session.region_name, service)
    return OpenSearch(
        hosts=[url],
        http_auth=http_auth,
        connection_class=Urllib3HttpConnection,
        timeout=timeout_seconds,
        max_retries=3,
        retry_on_status=(429, 502, 503, 504),
        http_compress=True,
        pool_maxsize=16,
    )


class OpenSearchIndex(SearchIndex):
    """A search index in OpenSearch."""

    engine = "OpenSearch"
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
            "layout": "3",
            "vector": f"hnsw-{_SPACES[engine]}",
            "analyzer": "cjk-1",
            "alias": self._layout.alias,
        }

    def _errors(self) -> tuple[type[Exception], ...]:
        from opensearchpy.exceptions import OpenSearchException

        return (OpenSearchException,)

    def _create(self, state: GenerationState) -> None:
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

    def _add(self, generation: str, chunks: Sequence[Chunk], vectors: Vectors) -> None:
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

    def _seal(self, state: GenerationState) -> None:
        self._count(state.generation)
        meta = self._meta(replace(state, sealed=True))
        self._client.indices.put_mapping(index=state.generation, body={"_meta": {_META: meta}})
        self._added.pop(state.generation, None)

    def _state(self, generation: str) -> GenerationState | None:
        mappings = self._client.indices.get_mapping(index=generation, params=_MAY_BE_MISSING)
        return self._state_in(generation, mappings.get(generation, {}))

    def _states(self) -> Iterator[GenerationState]:
        for name, mapping in self._client.indices.get_mapping(index="*").items():
            state = self._state_in(name, mapping)
            if state is not None:
                yield state

    def _count(self, generation: str) -> int:
        if not self._layout.serverless:
            self._client.indices.refresh(index=generation)
            return self._visible(generation)
        # Serverless cannot be told to refresh: wait for what this object wrote.
        added = self._added.get(generation, 0)
        return _wait_for(lambda: self._visible(generation), at_least=added, seconds=self._visibility_timeout)

    def _vector_search(
        self, generation: str, vector: NDArray[np.float32], tenant_keys: Sequence[str] | None, limit: int
    ) -> list[Hit] | None:
        nearest: dict[str, Any] = {"vector": vector.tolist(), "k": max(limit, _MIN_CANDIDATES)}
        if tenant_keys is not None:
            # Applied while the graph is walked.
            nearest["filter"] = {"bool": {"filter": {"terms": {"tenant_key": list(tenant_keys)}}}}
        return self._search(generation, {"knn": {"vector": nearest}}, limit)

    def _keyword_search(
        self, generation: str, words: str, tenant_keys: Sequence[str] | None, limit: int
    ) -> list[Hit] | None:
        match: dict[str, Any] = {"bool": {"must": [{"match": {"keywords": {"query": words}}}]}}
        if tenant_keys is not None:
            match["bool"]["filter"] = {"terms": {"tenant_key": list(tenant_keys)}}
        return self._search(generation, match, limit)

    def _live_generation(self) -> str | None:
        answer = self._client.indices.get_alias(name=self._layout.alias, params=_MAY_BE_MISSING)
        named = [] if "error" in answer else sorted(answer)
        if len(named) > 1:
            # Only another program can have done that.
            raise SearchIndexError(
                f"the alias {self._layout.alias} names {', '.join(named)}: remove it from all but one of them"
            )
        return named[0] if named else None

    def _alias_lock(self) -> AbstractContextManager[object]:
        # OpenSearch checks the move of an alias itself.
        return nullcontext()

    def _move_alias(self, generation: str, *, expected: str | None) -> None:
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
            actual = self._live_generation()
            if actual == expected:
                raise SearchIndexError(f"OpenSearch refused to move the alias {alias}: {str(error)[:500]}") from error
            raise AliasMovedError(expected=expected, actual=actual) from error

    def _delete(self, generation: str) -> None:
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
        }

    def _state_in(self, generation: str, mapping: Mapping[str, Any]) -> GenerationState | None:
        meta = mapping.get("mappings", {}).get("_meta", {}).get(_META)
        if meta is None or meta.get("alias") != self._layout.alias:
            # Somebody else's index.
            return None
        return GenerationState(
            generation=generation,
            dimension=int(meta["dimension"]),
            sealed=bool(meta["sealed"]),
            created_at=int(meta["created_at"]),
        )


def _wait_for(measure: Callable[[], int], *, at_least: int, seconds: float) -> int:
    """Return a figure once it has reached a value, or what it is when the time is up."""
    deadline = time.monotonic() + seconds
    while (value := measure()) < at_least and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return value
