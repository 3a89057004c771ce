"""The searches that a ranking dataset is built with: on the live index, and as they were recorded beside its rows.

The index moves on; with the recorded searches in its place the same dataset is built again.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from mangaassist_assets.core.declared_inputs import InputGoneError, StepStore
from mangaassist_assets.datasets.building.reranker_dataset import DEFAULT_RANKING_DATASET
from mangaassist_assets.datasets.versions.data_card import DataCard
from mangaassist_assets.datasets.versions.versions import CARD_FILE
from mangaassist_assets.retrieval.pipeline import live_pipeline
from mangaassist_assets.retrieval.search_index import SearchIndex
from mangaassist_assets.retrieval.tenants import TenantScope
from mangaassist_assets.retrieval.types import Embedder, Hit, RetrievalRouting

SEARCHES_FILE = "searches.parquet"

Search = Callable[[str, TenantScope], Sequence[Hit]]
"""The first stage of retrieval for one query, in the scope of the shopper who asks: best first."""
SearchFor = Callable[[Sequence[str]], Search]
"""Given all queries that will be asked, so that they are embedded at once, returns the first stage."""

_SCHEMA = pl.Schema({"query": pl.String(), "rank": pl.Int64(), "chunk_id": pl.String(), "tenant": pl.String()})


def live_search(index: SearchIndex, embedder: Embedder, routing: RetrievalRouting) -> SearchFor:
    """Return what prepares the first stage on the live index for queries, which are embedded at once."""

    def search_for(queries: Sequence[str]) -> Search:
        pipeline = live_pipeline(index, embedder, routing, queries=queries)
        return lambda query, scope: [one.hit for one in pipeline.search(query, scope=scope).candidates]

    return search_for


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstStage:
    """What finds the passages of a ranking dataset; `settings` say on its data card what decides the searches."""

    search_for: SearchFor
    settings: Mapping[str, Any]


def live_first_stage(index: SearchIndex, embedder: Embedder, routing: RetrievalRouting) -> FirstStage:
    """Return the first stage on the live index."""
    depths = {name: value for name, value in asdict(routing).items() if name != "selected_chunks"}
    settings = {"index_generation": index.live_generation(), "embedding_model_id": embedder.model_id, **depths}
    return FirstStage(search_for=live_search(index, embedder, routing), settings=settings)


def recorded_first_stage(step: StepStore) -> FirstStage | None:
    """Return the first stage as it was when the version that is rebuilt was made; None where none is rebuilt."""
    searches, card = step.recorded(SEARCHES_FILE), step.recorded(CARD_FILE)
    if searches is None or card is None:
        return None
    own = DEFAULT_RANKING_DATASET.settings()
    settings = {name: value for name, value in DataCard.from_json(card).settings.items() if name not in own}
    return FirstStage(search_for=recorded_search(searches), settings=settings)


def searches_to_parquet(searches: Mapping[tuple[str, str | None], Sequence[str]]) -> bytes:
    """Return searches as rows of query, rank (from 1; 0 and no chunk where nothing was found), chunk id, and tenant.

    Without any tenant there is no such column: what earlier versions stored comes out as it was.
    """
    rows = [
        (query, rank, chunk_id, tenant)
        for (query, tenant), chunk_ids in sorted(searches.items(), key=lambda item: (item[0][0], item[0][1] or ""))
        for rank, chunk_id in (enumerate(chunk_ids, start=1) if chunk_ids else [(0, None)])
    ]
    frame = pl.DataFrame(rows, schema=_SCHEMA, orient="row")
    if frame["tenant"].is_null().all():
        frame = frame.drop("tenant")
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=3)
    return buffer.getvalue()


def recorded_search(content: bytes) -> SearchFor:
    """Return the first stage as it answered when a version was built, out of its `SEARCHES_FILE`."""
    found: dict[tuple[str, str | None], list[Hit]] = {}
    for row in pl.read_parquet(io.BytesIO(content)).sort("query", "rank").iter_rows(named=True):
        hits = found.setdefault((row["query"], row.get("tenant")), [])
        if (chunk_id := row["chunk_id"]) is not None:
            hits.append(Hit(chunk_id=chunk_id, document_id="", title="", text="", score=0.0))

    def search(query: str, scope: TenantScope) -> list[Hit]:
        if (query, scope.tenant) not in found:
            raise InputGoneError(
                "a query is to be searched for that was not searched for when the version was built: the code that "
                "builds the dataset changed; rebuild with the release of this repository that built it"
            )
        return found[query, scope.tenant]

    return lambda _: search
