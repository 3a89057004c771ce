"""Knowledge: documents, chunks, embeddings, index generations, and the alias that makes one of them live."""

import dagster as dg
from pydantic import Field

from mangaassist_assets.assets.common import ML_ENGINEERING, PLATFORM, PRODUCTION_POOL, materialized, table
from resources.search.embeddings import EmbeddingsResource
from resources.search.indexes import SearchResource
from resources.settings.knowledge import KnowledgeResource
from resources.store import StoreResource


class KnowledgeSettings(dg.Config):
    """What may be asked of a reading of the knowledge."""

    without_tenants: bool = Field(
        default=False,
        description="Do not ask what was a tenant's before: where no document names one, everybody sees everything.",
    )


class LiveIndexSettings(dg.Config):
    """What is kept when the alias moves."""

    kept_generations: int = Field(
        default=5,
        ge=1,
        description="Newest finished index generations that stay after a swap; the live one and the one before it "
        "always do. A deleted one is built again from its chunks where it is needed.",
    )


@dg.asset(group_name="knowledge", owners=[PLATFORM], kinds={"parquet"}, code_version="2")
def knowledge_chunks(
    context: dg.AssetExecutionContext, config: KnowledgeSettings, knowledge: KnowledgeResource, store: StoreResource
) -> dg.MaterializeResult[None]:
    """Passages of the knowledge documents, the unit of retrieval.

    One row is one chunk of a document of the knowledge folder (.md, .txt, .html, .csv, .jsonl). What could not be read
    is in the rejects file with its place and reason, and so is a document or row that is not certainly somebody's.
    Titles, authors and characters are the store's vocabulary, which redaction leaves alone.
    """
    from collections import Counter
    from dataclasses import asdict

    from mangaassist_assets.assets.reading import CHUNKS_FILE, VOCABULARY_FILE, read_chunks
    from mangaassist_assets.core.snapshots import canonical_json
    from mangaassist_assets.retrieval.chunking import chunk_documents, chunks_to_parquet
    from mangaassist_assets.retrieval.documents.documents import read_knowledge
    from mangaassist_assets.retrieval.tenants import opened_documents
    from mangaassist_assets.retrieval.vocabulary import store_phrases

    snapshots = store.snapshots()
    attribute = knowledge.named_tenant_attribute()
    reading = read_knowledge(knowledge.path(), tenant_attribute=attribute)
    chunks = chunk_documents(reading.documents)
    compared = not config.without_tenants and snapshots.find("knowledge_chunks") is not None
    before = read_chunks(snapshots, tenantless=True) if compared else []
    opened = opened_documents(
        {chunk.document_id: chunk.tenant for chunk in before},
        {chunk.document_id: chunk.tenant for chunk in chunks},
        attribute=attribute,
    )
    if opened:
        context.log.warning(f"{len(opened)} documents of a tenant are everybody's now, such as {opened[0]}")
    phrases = store_phrases(chunks)
    snapshot = snapshots.write(
        "knowledge_chunks",
        {
            CHUNKS_FILE: chunks_to_parquet(chunks),
            VOCABULARY_FILE: canonical_json(phrases),
            "rejects.json": canonical_json([asdict(reject) for reject in reading.rejects]),
        },
    )
    context.log.info(
        f"{len(chunks)} chunks of {len(reading.documents)} documents, {len(reading.rejects)} things could not be read"
    )
    return materialized(
        snapshot,
        {
            "dagster/row_count": dg.MetadataValue.int(len(chunks)),
            "documents": dg.MetadataValue.int(len(reading.documents)),
            "opened_documents": dg.MetadataValue.json(opened[:50]),
            "documents_by_tenant": table(
                [
                    {"tenant": tenant, "documents": count}
                    for tenant, count in Counter(one.tenant or "(none)" for one in reading.documents).most_common()
                ]
            ),
            "vocabulary": dg.MetadataValue.int(len(phrases)),
            "rejects": table(
                [{"file": one.file, "place": one.place, "reason": one.reason} for one in reading.rejects[:50]]
            ),
        },
    )


@dg.asset(deps=[knowledge_chunks], group_name="knowledge", owners=[ML_ENGINEERING], kinds={"numpy"}, code_version="1")
def chunk_embeddings(
    context: dg.AssetExecutionContext, embeddings: EmbeddingsResource, store: StoreResource
) -> dg.MaterializeResult[None]:
    """One vector a chunk, in the order of `knowledge_chunks`, of length one.

    Vectors are cached by model and content: only new content is embedded.
    """
    from mangaassist_assets.assets.reading import EMBEDDINGS_CARD_FILE, VECTORS_FILE, read_chunks, vectors_to_bytes
    from mangaassist_assets.core.snapshots import canonical_json
    from mangaassist_assets.retrieval.embedding_cache import EmbeddingCache, embed_chunks

    snapshots = store.snapshots()
    chunks = read_chunks(snapshots)
    embedder = embeddings.embedder()
    vectors, report = embed_chunks(chunks, embedder, EmbeddingCache(store.cache("embeddings")))
    card = {
        "model_id": embedder.model_id,
        "dimension": embedder.dimension,
        "chunks_digest": snapshots.latest("knowledge_chunks").digest,
    }
    snapshot = snapshots.write(
        "chunk_embeddings", {VECTORS_FILE: vectors_to_bytes(vectors), EMBEDDINGS_CARD_FILE: canonical_json(card)}
    )
    context.log.info(f"{report.embedded} chunks embedded, {report.reused} reused")
    return materialized(
        snapshot,
        {
            "dagster/row_count": dg.MetadataValue.int(len(chunks)),
            "embedding_model_id": dg.MetadataValue.text(embedder.model_id),
            "dimension": dg.MetadataValue.int(embedder.dimension),
            "embedded": dg.MetadataValue.int(report.embedded),
            "reused": dg.MetadataValue.int(report.reused),
        },
    )


@dg.asset(deps=[chunk_embeddings], group_name="knowledge", owners=[PLATFORM], kinds={"search"}, code_version="2")
def search_index(
    context: dg.AssetExecutionContext, search: SearchResource, store: StoreResource
) -> dg.MaterializeResult[None]:
    """The candidate index generation: one physical index of all chunks, built beside the live one.

    Its name comes from its content (chunks, vectors' model, index settings), so unchanged knowledge builds nothing.
    The alias does not move here.
    """
    from mangaassist_assets.assets.reading import GENERATION_FILE, read_chunks, read_embeddings
    from mangaassist_assets.core.snapshots import canonical_json
    from mangaassist_assets.retrieval.generations import GenerationSettings, build_generation

    snapshots = store.snapshots()
    chunks = read_chunks(snapshots)
    vectors, card = read_embeddings(snapshots)
    index = search.index()
    report = build_generation(chunks, vectors, index, settings=GenerationSettings(embedding_model_id=card.model_id))
    snapshot = snapshots.write(
        "search_index",
        {GENERATION_FILE: canonical_json({"generation": report.generation, "model_id": card.model_id})},
    )
    context.log.info(f"generation {report.generation}: {report.chunks} chunks, {'built' if report.built else 'there'}")
    return materialized(
        snapshot,
        {
            "generation": dg.MetadataValue.text(report.generation),
            "live_generation": dg.MetadataValue.text(index.live_generation() or "none yet"),
            "dagster/row_count": dg.MetadataValue.int(report.chunks),
            "built": dg.MetadataValue.bool(report.built),
        },
    )


@dg.asset(deps=[search_index], group_name="knowledge", owners=[ML_ENGINEERING], kinds={"search"}, code_version="1")
def retrieval_evaluation(
    context: dg.AssetExecutionContext,
    embeddings: EmbeddingsResource,
    search: SearchResource,
    store: StoreResource,
) -> dg.MaterializeResult[None]:
    """How well the candidate generation finds labelled documents, beside the live one on the same queries.

    One row is one query whose relevant documents are known: bootstrap utterances and reviewed turns of all bundles.
    Vector search, keyword search and their fusion are scored alone (recall@k, MRR@10, nDCG@10). Each query finds what
    a shopper of its tenant would; those whose documents that shopper must not see are left out and counted.
    """
    from mangaassist_assets.assets.reading import (
        EVALUATION_FILE,
        GENERATION_FILE,
        labelled_queries,
        read_chunks,
        read_json,
        retrieval_figures,
    )
    from mangaassist_assets.core.snapshots import canonical_json
    from mangaassist_assets.retrieval.evaluation import answerable_queries, evaluate_retrieval

    snapshots = store.snapshots()
    candidate = read_json(snapshots, snapshots.latest("search_index"), GENERATION_FILE)["generation"]
    index = search.index()
    live = index.live_generation()
    labelled = labelled_queries(snapshots)
    queries = answerable_queries(labelled, read_chunks(snapshots))
    state = None if live is None else index.state(live)
    # One that knows no tenants cannot be searched as shoppers search: there is nothing to compare the candidate with.
    compared = live if state is not None and state.knows_tenants else None
    figures = {
        generation: retrieval_figures(
            evaluate_retrieval(queries, generation, index=index, embedder=embeddings.embedder())
        )
        for generation in (dict.fromkeys([candidate, compared or candidate]) if queries else ())
    }
    snapshot = snapshots.write(
        "retrieval_evaluation",
        {
            EVALUATION_FILE: canonical_json(
                {
                    "candidate": candidate,
                    "live": live,
                    "queries": len(queries),
                    "queries_of_others": len(labelled) - len(queries),
                    "figures": figures,
                }
            )
        },
    )
    fused = figures.get(candidate, {}).get("fused")
    context.log.info(f"{len(queries)} labelled queries; fused search on {candidate}: {fused or 'nothing to measure'}")
    return materialized(
        snapshot,
        {
            "queries": dg.MetadataValue.int(len(queries)),
            "queries_of_others": dg.MetadataValue.int(len(labelled) - len(queries)),
            "candidate": dg.MetadataValue.text(candidate),
            "live": dg.MetadataValue.text(live or "none yet"),
            "figures": table(
                [
                    {"generation": generation, "search": kind, **values}
                    for generation, by_kind in figures.items()
                    for kind, values in by_kind.items()
                ]
            ),
        },
    )


@dg.asset(
    deps=[retrieval_evaluation],
    group_name="knowledge",
    owners=[PLATFORM],
    kinds={"search"},
    pool=PRODUCTION_POOL,
    code_version="1",
)
def live_index(
    context: dg.AssetExecutionContext, config: LiveIndexSettings, search: SearchResource, store: StoreResource
) -> dg.MaterializeResult[None]:
    """The generation that answers shoppers: what the alias names.

    The alias moves in one piece, and only if it still names the generation that was live when this began. Nothing is
    swapped when the candidate is live already. After a swap old generations are deleted, never the live one nor the
    one before it.
    """
    from mangaassist_assets.assets.reading import GENERATION_FILE, read_json
    from mangaassist_assets.retrieval.generations import go_live

    snapshots = store.snapshots()
    candidate = read_json(snapshots, snapshots.latest("search_index"), GENERATION_FILE)["generation"]
    swap = go_live(search.index(), candidate, keep=config.kept_generations, logger=context.log)
    context.log.info(f"live: {candidate}" + (f", before: {swap.previous}" if swap.swapped else " (as before)"))
    return dg.MaterializeResult(
        data_version=dg.DataVersion(candidate),
        metadata={
            "generation": dg.MetadataValue.text(candidate),
            "previous_generation": dg.MetadataValue.text(swap.previous or "none"),
            "swapped": dg.MetadataValue.bool(swap.swapped),
            "pruned": dg.MetadataValue.json(list(swap.pruned)),
        },
    )
