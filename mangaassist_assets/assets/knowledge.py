"""Knowledge: documents, chunks, embeddings, index generations, and the alias that makes one of them live."""

import dagster as dg
from pydantic import Field

from mangaassist_assets.assets.common import ML_ENGINEERING, PLATFORM, PRODUCTION_POOL, materialized, metadata
from resources.search.embeddings import EmbeddingsResource
from resources.search.indexes import SearchResource
from resources.settings.knowledge import KnowledgeResource
from resources.store import StoreResource


class KnowledgeSettings(dg.Config):
    """How the knowledge is read."""

    without_tenants: bool = Field(
        default=False,
        description="Do not compare with the tenants of before: where no document names one, all see everything.",
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
    from mangaassist_assets.retrieval.knowledge_chunks import chunk_knowledge
    from mangaassist_assets.retrieval.stored_knowledge import read_chunks

    snapshots = store.snapshots()
    compared = not config.without_tenants and snapshots.find("knowledge_chunks") is not None
    found = chunk_knowledge(
        knowledge.path(),
        tenant_attribute=knowledge.named_tenant_attribute(),
        before=read_chunks(snapshots) if compared else (),
    )
    if found.opened:
        context.log.warning(f"{len(found.opened)} documents of a tenant are everybody's now, such as {found.opened[0]}")
    snapshot = snapshots.write("knowledge_chunks", found.files())
    context.log.info(
        f"{len(found.chunks)} chunks of {len(found.reading.documents)} documents, {len(found.reading.rejects)} things "
        "could not be read"
    )
    return materialized(
        snapshot, {**found.figures(), "opened_documents": dg.MetadataValue.json(list(found.opened[:50]))}
    )


@dg.asset(deps=[knowledge_chunks], group_name="knowledge", owners=[ML_ENGINEERING], kinds={"numpy"}, code_version="1")
def chunk_embeddings(
    context: dg.AssetExecutionContext, embeddings: EmbeddingsResource, store: StoreResource
) -> dg.MaterializeResult[None]:
    """One vector a chunk, in the order of `knowledge_chunks`, of length one.

    Vectors are cached by model and content: only new content is embedded.
    """
    from mangaassist_assets.core.snapshots import canonical_json
    from mangaassist_assets.retrieval.embedding_cache import embed_chunks
    from mangaassist_assets.retrieval.stored_knowledge import (
        EMBEDDINGS_CARD_FILE,
        VECTORS_FILE,
        read_chunks,
        vectors_to_bytes,
    )

    snapshots = store.snapshots()
    chunks = read_chunks(snapshots)
    embedder = embeddings.embedder()
    vectors, report = embed_chunks(chunks, embedder, store.embedding_cache())
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
            "dagster/row_count": len(chunks),
            "embedding_model_id": embedder.model_id,
            "dimension": embedder.dimension,
            "embedded": report.embedded,
            "reused": report.reused,
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
    from mangaassist_assets.core.snapshots import canonical_json
    from mangaassist_assets.retrieval.generations import GenerationSettings, build_generation
    from mangaassist_assets.retrieval.stored_knowledge import GENERATION_FILE, read_chunks, read_embeddings

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
            "generation": report.generation,
            "live_generation": index.live_generation() or "none yet",
            "dagster/row_count": report.chunks,
            "built": report.built,
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
    from mangaassist_assets.core.snapshots import canonical_json
    from mangaassist_assets.datasets.sources.training_corpus import labelled_queries
    from mangaassist_assets.retrieval.evaluation import EVALUATION_FILE, evaluate_candidate
    from mangaassist_assets.retrieval.stored_knowledge import read_candidate, read_chunks

    snapshots = store.snapshots()
    evaluation = evaluate_candidate(
        read_candidate(snapshots),
        labelled_queries(snapshots),
        read_chunks(snapshots),
        index=search.index(),
        embedder=embeddings.embedder(),
    )
    snapshot = snapshots.write("retrieval_evaluation", {EVALUATION_FILE: canonical_json(evaluation)})
    context.log.info(str(evaluation))
    return materialized(snapshot, evaluation.figures())


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
    from mangaassist_assets.retrieval.generations import go_live
    from mangaassist_assets.retrieval.stored_knowledge import read_candidate

    candidate = read_candidate(store.snapshots())
    swap = go_live(search.index(), candidate, keep=config.kept_generations, logger=context.log)
    context.log.info(f"live: {candidate}" + (f", before: {swap.previous}" if swap.swapped else " (as before)"))
    return dg.MaterializeResult(
        data_version=dg.DataVersion(candidate),
        metadata=metadata(
            {
                "generation": candidate,
                "previous_generation": swap.previous or "none",
                "swapped": swap.swapped,
                "pruned": ", ".join(swap.pruned) or "none",
            }
        ),
    )
