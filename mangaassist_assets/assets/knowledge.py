"""Knowledge: documents, chunks, embeddings, index generations, and the alias that makes one of them live."""

from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from mangaassist_assets.assets.common import (
    INDEX_POOL,
    ML_ENGINEERING,
    NIGHTLY,
    PLATFORM,
    PRODUCTION_POOL,
    as_failure,
    leave_out,
    materialized,
)
from mangaassist_assets.assets.declaring import declared_asset
from mangaassist_assets.assets.inputs import (
    CANDIDATE,
    CHUNKS,
    CHUNKS_BEFORE,
    EMBEDDINGS,
    LABELLED_QUERIES,
    VERIFICATION,
)
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
    accept_worse: str | None = Field(
        default=None,
        description="Why a candidate that finds less than the live one goes live all the same, in 10 to 500 "
        "characters. It is kept redacted; Dagster keeps what is typed here as it is, so name nobody.",
    )


@declared_asset(
    outside="the knowledge folder",
    reads=[CHUNKS_BEFORE],
    group_name="knowledge",
    owners=[PLATFORM],
    kinds={"parquet"},
    code_version="2",
)
def knowledge_chunks(
    context: dg.AssetExecutionContext, config: KnowledgeSettings, knowledge: KnowledgeResource, store: StoreResource
) -> dg.MaterializeResult[None]:
    """Passages of the knowledge documents, the unit of retrieval.

    One row is one chunk of a document of the knowledge folder (.md, .txt, .html, .csv, .jsonl). What could not be read
    is in the rejects file with its place and reason, and so is a document or row that is not certainly somebody's.
    Titles, authors and characters are the store's vocabulary, which redaction leaves alone.
    """
    from mangaassist_assets.retrieval.knowledge_chunks import chunk_knowledge

    step = store.step(context)
    found = chunk_knowledge(
        knowledge.path(),
        tenant_attribute=knowledge.named_tenant_attribute(),
        before=[] if config.without_tenants else step.load(CHUNKS_BEFORE),
    )
    if found.opened:
        context.log.warning(f"{len(found.opened)} documents of a tenant are everybody's now, such as {found.opened[0]}")
    snapshot = step.keep(found.files())
    context.log.info(
        f"{len(found.chunks)} chunks of {len(found.reading.documents)} documents, {len(found.reading.rejects)} things "
        "could not be read"
    )
    opened = [{"document": one} for one in found.opened[:50]]
    return materialized(snapshot, {**found.figures(), "opened_documents": opened})


@declared_asset(reads=[CHUNKS], group_name="knowledge", owners=[ML_ENGINEERING], kinds={"numpy"}, code_version="1")
def chunk_embeddings(
    context: dg.AssetExecutionContext, embeddings: EmbeddingsResource, store: StoreResource
) -> dg.MaterializeResult[None]:
    """One vector a chunk, in the order of `knowledge_chunks`, of length one.

    Vectors are cached by model and content: only new content is embedded.
    """
    from mangaassist_assets.retrieval.embedding_cache import embed_chunks
    from mangaassist_assets.retrieval.stored_knowledge import EmbeddingsCard, embeddings_files

    step = store.step(context)
    chunks = step.load(CHUNKS)
    embedder = embeddings.embedder()
    vectors, report = embed_chunks(chunks, embedder, store.embedding_cache())
    card = EmbeddingsCard(
        model_id=embedder.model_id,
        dimension=embedder.dimension,
        chunks_digest=step.latest("knowledge_chunks").digest,
    )
    snapshot = step.keep(embeddings_files(vectors, card))
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


@declared_asset(
    outside="the search index",
    reads=[CHUNKS, EMBEDDINGS],
    group_name="knowledge",
    owners=[PLATFORM],
    kinds={"search"},
    pool=INDEX_POOL,
    code_version="2",
)
def search_index(
    context: dg.AssetExecutionContext, search: SearchResource, store: StoreResource
) -> dg.MaterializeResult[None]:
    """The candidate index generation: one physical index of all chunks, built beside the live one.

    Its name comes from its content (chunks, vectors' model, index settings), so unchanged knowledge builds nothing.
    The alias does not move here.
    """
    from mangaassist_assets.retrieval.generations import GenerationSettings, build_generation
    from mangaassist_assets.retrieval.stored_knowledge import generation_files

    step = store.step(context)
    chunks = step.load(CHUNKS)
    vectors, card = step.load(EMBEDDINGS)
    index = search.index()
    report = build_generation(chunks, vectors, index, settings=GenerationSettings(embedding_model_id=card.model_id))
    snapshot = step.keep(generation_files(report.generation, model_id=card.model_id))
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


@declared_asset(
    outside="the search index",
    reads=[CANDIDATE, CHUNKS, EMBEDDINGS, LABELLED_QUERIES],
    group_name="knowledge",
    owners=[ML_ENGINEERING],
    kinds={"search"},
    code_version="2",
)
def retrieval_evaluation(
    context: dg.AssetExecutionContext,
    embeddings: EmbeddingsResource,
    search: SearchResource,
    store: StoreResource,
) -> dg.MaterializeResult[None]:
    """Whether the candidate generation may go live: what it holds, and what it finds beside the live one.

    Its verification names it, its digest and the generation it was compared with. One row is one query whose relevant
    documents are known: bootstrap utterances and reviewed turns of all bundles. Vector search, keyword search and their
    fusion are scored alone (recall@k, MRR@10, nDCG@10). Each query finds what a shopper of its tenant would; those
    whose documents that shopper must not see are left out and counted.
    """
    from mangaassist_assets.retrieval.evaluation import evaluate_candidate
    from mangaassist_assets.retrieval.generations import verify_generation
    from mangaassist_assets.retrieval.going_live import verification_of

    step, index = store.step(context), search.index()
    candidate, chunks = step.load(CANDIDATE), step.load(CHUNKS)
    vectors, _ = step.load(EMBEDDINGS)
    report = verify_generation(candidate.generation, chunks, vectors, index=index)
    evaluation = evaluate_candidate(
        candidate.generation,
        step.load(LABELLED_QUERIES) if report.passed else [],
        chunks,
        index=index,
        embedder=embeddings.embedder(),
    )
    verification = verification_of(candidate, report, evaluation)
    snapshot = step.keep({**evaluation.files(), **verification.files()})
    context.log.info(f"{candidate.generation}: {'verified' if report.passed else 'refused'}; {evaluation}")
    return materialized(
        snapshot,
        {**evaluation.figures(), "verified": report.passed, "comparison": verification.comparison},
    )


@declared_asset(
    outside="the search index",
    reads=[CANDIDATE, VERIFICATION],
    group_name="knowledge",
    owners=[PLATFORM],
    kinds={"search"},
    pool=PRODUCTION_POOL,
    freshness_policy=NIGHTLY,
    output_required=False,
    code_version="2",
)
def live_index(
    context: dg.AssetExecutionContext, config: LiveIndexSettings, search: SearchResource, store: StoreResource
) -> Iterator[dg.MaterializeResult[None]]:
    """The generation that answers shoppers: what the alias names.

    The alias moves in one piece, to the candidate whose verification names it, and only if it still names the
    generation that the candidate was compared with. Nothing is swapped when the candidate is live already, nor when it
    finds clearly less than what is live and nobody accepted that. After a swap old generations are deleted, never the
    live one nor the one before it.
    """
    from mangaassist_assets.privacy.statements import StatementError, stated_reason
    from mangaassist_assets.retrieval.going_live import NotVerifiedError, go_live
    from mangaassist_assets.retrieval.stored_knowledge import generation_files

    step = store.step(context)
    candidate = step.load(CANDIDATE)
    with as_failure(NotVerifiedError, StatementError):
        accepted = config.accept_worse and stated_reason(config.accept_worse, "a worse index")
        swap = go_live(
            search.index(),
            candidate,
            step.load(VERIFICATION),
            keep=config.kept_generations,
            logger=context.log,
            accept_worse=bool(accepted),
        )
    if swap.held is not None:
        leave_out(context, swap.held)
        return
    live = candidate.generation
    snapshot = step.keep(generation_files(live, model_id=candidate.model_id))
    context.log.info(f"live: {live}" + (f", before: {swap.previous}" if swap.swapped else " (as before)"))
    yield materialized(
        snapshot,
        {
            "generation": live,
            "previous_generation": swap.previous or "none",
            "swapped": swap.swapped,
            "pruned": ", ".join(swap.pruned) or "none",
            "accepted_as_worse": accepted or "no",
        },
        data_version=live,
    )
