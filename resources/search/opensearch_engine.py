"""Index generations in OpenSearch or OpenSearch Serverless: one index each, an alias, the seal in the index's `_meta`.

In a cluster a chunk's document id is the SHA-256 of its chunk id, so that writing it twice writes it once. Vector
collections of OpenSearch Serverless take no ids of ours: there the field `chunk_id` is the identity, and a write
that was repeated shows in the count, which the builder compares before it seals.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from mangaassist_assets.retrieval.documents.text import keyword_query
from mangaassist_assets.retrieval.errors import (
    AliasMovedError,
    LiveGenerationError,
    SealedGenerationError,
    SearchIndexError,
    TenantlessGenerationError,
    UnknownGenerationError,
    UnsealedGenerationError,
)
from mangaassist_assets.retrieval.tenants import tenant_key

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from opensearchpy import OpenSearch

    from mangaassist_assets.retrieval.tenants import TenantScope
    from mangaassist_assets.retrieval.types import Chunk, GenerationState, Hit, Vectors

Engine = Literal["lucene", "faiss"]
_FIELDS = ["chunk_id", "document_id", "title", "text"]
_META = "mangaassist"
_TENANT_KEY = "tenant_key"
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


@contextmanager
def _speaking(about: str) -> Iterator[None]:
    """Turn what the client raises, but for what the caller handles itself, into an error of the search index."""
    from opensearchpy.exceptions import NotFoundError, OpenSearchException

    try:
        yield
    except NotFoundError:
        raise
    except OpenSearchException as error:
        raise SearchIndexError(f"OpenSearch failed at {about}: {str(error)[:500]}") from error


class OpenSearchIndex:
    """A `SearchIndex` in OpenSearch. Thread-safe, and safe beside other processes."""

    def __init__(
        self, client: OpenSearch, *, layout: OpenSearchLayout, visibility_timeout_seconds: float = 180.0
    ) -> None:
        self._client = client
        self._layout = layout
        self._visibility_timeout = visibility_timeout_seconds
        self._added: dict[str, int] = {}
        self._knowing_tenants: set[str] = set()

    @property
    def settings(self) -> Mapping[str, str]:
        """What shapes the search results: part of a generation's identity."""
        engine = self._layout.engine
        return {
            "engine": f"opensearch-{engine}",
            "layout": "2",
            "vector": f"hnsw-{_SPACES[engine]}",
            "analyzer": "cjk-1",
        }

    def create_generation(self, generation: str, *, dimension: int) -> None:
        """Create an empty index; an unfinished one of the same name is replaced.

        Raises:
            SealedGenerationError: If a finished generation of that name exists.
        """
        state = self.state(generation)
        if state is not None:
            if state.sealed:
                raise SealedGenerationError(
                    f"the generation {generation} is finished and must not change: delete it first, or use it as it is"
                )
            self._client.indices.delete(index=generation)
        index_settings: dict[str, Any] = {"knn": True}
        if not self._layout.serverless:
            index_settings |= {"number_of_shards": 1, "number_of_replicas": self._layout.replicas}
        created_at = int(datetime.now(UTC).timestamp() * 1000)
        body = {
            "settings": {"index": index_settings, "analysis": _ANALYSIS},
            "mappings": {
                "dynamic": "strict",
                "_meta": {_META: _meta(created_at, dimension, sealed=False, tenants=True)},
                "properties": {
                    "chunk_id": {"type": "keyword"},
                    "document_id": {"type": "keyword"},
                    "position": {"type": "integer"},
                    "content_hash": {"type": "keyword"},
                    "title": {"type": "text", "index": False},
                    "text": {"type": "text", "index": False},
                    "keywords": {"type": "text", "analyzer": "mangaassist"},
                    _TENANT_KEY: {"type": "keyword"},
                    "attributes": {"type": "keyword", "ignore_above": _MAX_KEYWORD_BYTES},
                    "vector": {
                        "type": "knn_vector",
                        "dimension": dimension,
                        "method": {
                            "name": "hnsw",
                            "engine": self._layout.engine,
                            "space_type": _SPACES[self._layout.engine],
                            "parameters": {"ef_construction": 128, "m": 16},
                        },
                    },
                },
            },
        }
        with _speaking(f"creating {generation}"):
            self._client.indices.create(index=generation, body=body)
        self._added[generation] = 0

    def add(self, generation: str, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        """Add chunks with their vectors, shape (len(chunks), dimension).

        Raises:
            UnknownGenerationError: If there is no such generation.
            SealedGenerationError: If it is finished.
            SearchIndexError: If OpenSearch refused some, with the reason of the first.
        """
        from opensearchpy.helpers import streaming_bulk

        state = self._known(generation)
        if state.sealed:
            raise SealedGenerationError(f"the generation {generation} is finished: nothing can be added to it")
        if vectors.shape != (len(chunks), state.dimension):
            raise ValueError(
                f"{len(chunks)} chunks for the generation {generation} of dimension {state.dimension} came with "
                f"vectors of shape {vectors.shape}"
            )
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

    def seal(self, generation: str) -> None:
        """Wait until searches see all chunks and mark the generation finished; a finished one stays as it is."""
        state = self._known(generation)
        if state.sealed:
            return
        self.count(generation)
        meta = _meta(state.created_at, state.dimension, sealed=True, tenants=state.knows_tenants)
        self._client.indices.put_mapping(index=generation, body={"_meta": {_META: meta}})
        self._added.pop(generation, None)

    def state(self, generation: str) -> GenerationState | None:
        """Return what is known of a generation, or None where there is none of that name."""
        with _speaking(f"describing {generation}"):
            mappings = self._client.indices.get_mapping(index=generation, params=_MAY_BE_MISSING)
        return _state(generation, mappings.get(generation, {}))

    def count(self, generation: str) -> int:
        """Return how many chunks a generation holds, those just added by this object included."""
        self._known(generation)
        if not self._layout.serverless:
            self._client.indices.refresh(index=generation)
            return self._visible(generation)
        # Serverless cannot be told to refresh: wait for what this object wrote.
        added = self._added.get(generation, 0)
        return _wait_for(lambda: self._visible(generation), at_least=added, seconds=self._visibility_timeout)

    def vector_search(
        self,
        generation: str,
        vector: NDArray[np.float32],
        *,
        scope: TenantScope,
        limit: int,
        filters: Mapping[str, str] | None = None,
    ) -> list[Hit]:
        """Return the nearest chunks by cosine similarity (HNSW), best first; the score is OpenSearch's."""
        nearest: dict[str, Any] = {"vector": vector.tolist(), "k": max(limit, _MIN_CANDIDATES)}
        if conditions := self._conditions(generation, scope, filters):
            # Applied while the graph is walked: what is not admitted takes no place of what is.
            nearest["filter"] = {"bool": {"filter": conditions}}
        return self._search(generation, {"knn": {"vector": nearest}}, limit)

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
        words = keyword_query(query)
        if not words:
            self._known(generation)
            return []
        match: dict[str, Any] = {"bool": {"must": [{"match": {"keywords": {"query": words}}}]}}
        if conditions := self._conditions(generation, scope, filters):
            match["bool"]["filter"] = conditions
        return self._search(generation, match, limit)

    def generations(self) -> list[str]:
        """Return the names of all generations, unfinished ones included, oldest first."""
        mappings = self._client.indices.get_mapping(index="*")
        states = [state for name, mapping in mappings.items() if (state := _state(name, mapping)) is not None]
        return [state.generation for state in sorted(states, key=lambda state: (state.created_at, state.generation))]

    def live_generation(self) -> str | None:
        """Return the generation the alias names, or None before the first swap.

        Raises:
            SearchIndexError: If the alias names several indexes, which only another program can have done.
        """
        with _speaking(f"reading the alias {self._layout.alias}"):
            answer = self._client.indices.get_alias(name=self._layout.alias, params=_MAY_BE_MISSING)
        named = [] if "error" in answer else sorted(answer)
        if len(named) > 1:
            raise SearchIndexError(
                f"the alias {self._layout.alias} names {', '.join(named)}: remove it from all but one of them"
            )
        return named[0] if named else None

    def swap_live(self, generation: str, *, expected: str | None) -> None:
        """Point the alias at `generation` if it still names `expected`, in one call that OpenSearch checks itself.

        Raises:
            AliasMovedError: If it names another one by now.
            UnknownGenerationError: If there is no such generation.
            UnsealedGenerationError: If it was never finished.
            TenantlessGenerationError: If it does not know tenants.
        """
        from opensearchpy.exceptions import TransportError

        state = self._known(generation)
        if not state.sealed:
            raise UnsealedGenerationError(f"the generation {generation} is not finished: seal it before it goes live")
        if not state.knows_tenants:
            raise TenantlessGenerationError(generation)
        live = self.live_generation()
        if live != expected:
            raise AliasMovedError(expected=expected, actual=live)
        if live == generation:
            return
        alias = self._layout.alias
        # OpenSearch refuses a second write index of one alias, and `must_exist` a swap from where it is no more:
        # together they make the whole call fail where somebody else was quicker.
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

    def delete_generation(self, generation: str) -> None:
        """Remove a generation.

        Raises:
            LiveGenerationError: If it is the live one.
            UnknownGenerationError: If there is no such generation.
        """
        if self.live_generation() == generation:
            raise LiveGenerationError(f"the generation {generation} is live: swap to another one before you delete it")
        self._known(generation)
        self._client.indices.delete(index=generation)

    def _actions(self, generation: str, chunks: Sequence[Chunk], vectors: Vectors) -> Iterator[dict[str, Any]]:
        for chunk, vector in zip(chunks, vectors, strict=True):
            action: dict[str, Any] = {
                "_op_type": "index",
                "_index": generation,
                "_source": {
                    "chunk_id": chunk.chunk_id,
                    "document_id": chunk.document_id,
                    "position": chunk.position,
                    "content_hash": chunk.content_hash,
                    "title": chunk.title,
                    "text": chunk.text,
                    "keywords": f"{chunk.title}\n{chunk.text}",
                    _TENANT_KEY: tenant_key(chunk.tenant),
                    "attributes": [f"{key}={value}" for key, value in sorted(chunk.metadata.items())],
                    "vector": vector.tolist(),
                },
            }
            if not self._layout.serverless:
                action["_id"] = hashlib.sha256(chunk.chunk_id.encode()).hexdigest()
            yield action

    def _search(self, generation: str, query: Mapping[str, Any], limit: int) -> list[Hit]:
        from opensearchpy.exceptions import NotFoundError

        from mangaassist_assets.retrieval.types import Hit

        try:
            with _speaking(f"searching {generation}"):
                answer = self._client.search(index=generation, body={"query": query, "size": limit, "_source": _FIELDS})
        except NotFoundError:
            self._known(generation)
            raise
        return [Hit(**hit["_source"], score=float(hit["_score"])) for hit in answer["hits"]["hits"]]

    def _conditions(
        self, generation: str, scope: TenantScope, filters: Mapping[str, str] | None
    ) -> list[dict[str, Any]]:
        conditions: list[dict[str, Any]] = []
        keys = scope.admitted_keys()
        if keys is not None:
            # A generation that knew tenants once always does; where the field is missing a filter would match nothing.
            if generation not in self._knowing_tenants:
                if not self._known(generation).knows_tenants:
                    raise TenantlessGenerationError(generation)
                self._knowing_tenants.add(generation)
            conditions.append({"terms": {_TENANT_KEY: list(keys)}})
        conditions += [{"term": {"attributes": f"{key}={value}"}} for key, value in sorted((filters or {}).items())]
        return conditions

    def _visible(self, generation: str) -> int:
        return int(self._client.count(index=generation)["count"])

    def _known(self, generation: str) -> GenerationState:
        state = self.state(generation)
        if state is None:
            raise UnknownGenerationError(
                f"there is no generation {generation[:80]!r} in OpenSearch; there are "
                f"{', '.join(self.generations()) or 'none'}"
            )
        return state


def _meta(created_at: int, dimension: int, *, sealed: bool, tenants: bool) -> dict[str, Any]:
    return {"created_at": created_at, "dimension": dimension, "sealed": sealed, "tenants": tenants}


def _state(generation: str, mapping: Mapping[str, Any]) -> GenerationState | None:
    from mangaassist_assets.retrieval.types import GenerationState

    meta = mapping.get("mappings", {}).get("_meta", {}).get(_META)
    if meta is None:
        # Somebody else's index.
        return None
    return GenerationState(
        generation=generation,
        dimension=int(meta["dimension"]),
        sealed=bool(meta["sealed"]),
        created_at=int(meta["created_at"]),
        knows_tenants=meta.get("tenants") is True,
    )


def _wait_for(measure: Callable[[], int], *, at_least: int, seconds: float) -> int:
    """Return a figure once it has reached a value, or what it is when the time is up."""
    deadline = time.monotonic() + seconds
    while (value := measure()) < at_least and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return value
