"""The reranker lane: dataset, challenger, and its evaluation against the champion."""

import dagster as dg

from mangaassist_assets.assets.common import ML_ENGINEERING, TRAINING_POOL, materialized
from mangaassist_assets.assets.corpus import training_corpus
from mangaassist_assets.assets.lanes import RERANKER
from mangaassist_assets.assets.traces import tagged_traces
from mangaassist_assets.partitions import release_bundles
from resources.app_config import AppConfigResource
from resources.embeddings import EmbeddingsResource
from resources.mlflow_tracking import MlflowResource
from resources.search import SearchResource
from resources.store import StoreResource


@dg.asset(
    partitions_def=release_bundles,
    deps=[training_corpus, tagged_traces, "live_index"],
    group_name="reranker",
    owners=[ML_ENGINEERING],
    kinds={"parquet"},
    code_version="1",
)
def reranker_dataset(
    context: dg.AssetExecutionContext,
    app_config: AppConfigResource,
    embeddings: EmbeddingsResource,
    search: SearchResource,
    store: StoreResource,
) -> dg.MaterializeResult[None]:
    """The ranking dataset as of one release bundle: content-addressed, immutable, leak-checked.

    One row is one query and one passage with its relevance. Reviewed turns bring their own candidates as hard
    negatives; corpus messages that name relevant documents are searched for on the live index.
    """
    from mangaassist_assets.assets.reading import bundles_by_start, read_chunks, read_corpus, read_turns
    from mangaassist_assets.assets.training import ranking_version
    from mangaassist_assets.datasets.leakage import refuse_leaks

    bundle = context.partition_key
    snapshots = store.snapshots()
    starts = bundles_by_start(snapshots)
    own = starts.get(bundle)
    included = [name for name, start in starts.items() if own is not None and (start, name) <= (own, bundle)]
    version = ranking_version(
        read_corpus(snapshots),
        [turn for name in included for turn in read_turns(snapshots, name)],
        read_chunks(snapshots),
        search=search,
        embeddings=embeddings,
        app_config=app_config,
        as_of=bundle,
    )
    refuse_leaks(version.frame, text_column="query")
    snapshot = snapshots.write("reranker_dataset", version.files(), partition=bundle)
    context.log.info(f"{version.card.examples} queries with {version.card.rows} passages")
    return materialized(
        snapshot,
        {
            "dagster/row_count": dg.MetadataValue.int(version.card.rows),
            "queries": dg.MetadataValue.int(version.card.examples),
            "dataset_digest": dg.MetadataValue.text(version.digest),
            "data_card": dg.MetadataValue.md(version.card.to_markdown()),
        },
    )


@dg.asset(
    partitions_def=release_bundles,
    deps=[reranker_dataset],
    group_name="reranker",
    owners=[ML_ENGINEERING],
    kinds={"pytorch", "mlflow"},
    pool=TRAINING_POOL,
    code_version="1",
)
def reranker(
    context: dg.AssetExecutionContext, mlflow: MlflowResource, store: StoreResource
) -> dg.MaterializeResult[None]:
    """The challenger: a cross-encoder fine-tuned on this bundle's dataset, tracked and registered in MLflow.

    Training is repeated only if the dataset or the settings changed: the same content is the same model version.
    """
    from mangaassist_assets.assets.reading import read_dataset_version
    from mangaassist_assets.assets.registration import challenger_result
    from mangaassist_assets.assets.training import train_ranking

    bundle = context.partition_key
    version = read_dataset_version(store.snapshots(), RERANKER, bundle)
    model = train_ranking(context, mlflow, store, dataset=version, bundle=bundle)
    return challenger_result(context, mlflow, store, RERANKER, model)


@dg.asset(
    partitions_def=release_bundles,
    deps=[reranker, reranker_dataset],
    group_name="reranker",
    owners=[ML_ENGINEERING],
    kinds={"mlflow", "json"},
    code_version="1",
)
def reranker_evaluation(
    context: dg.AssetExecutionContext, mlflow: MlflowResource, store: StoreResource
) -> dg.MaterializeResult[None]:
    """Champion and challenger on the same held-out queries (nDCG@10, paired), and the gate's verdict on them."""
    from mangaassist_assets.assets.evaluation import evaluate_rankings, evaluation_result

    evaluation = evaluate_rankings(mlflow, store, bundle=context.partition_key)
    return evaluation_result(context, mlflow, store, RERANKER, evaluation)
