"""The dataset of the reranker model pipeline."""

import logging
from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from mangaassist_assets.assets.common import ML_ENGINEERING, leave_out
from mangaassist_assets.assets.corpus import training_corpus
from mangaassist_assets.assets.golden import golden_set
from mangaassist_assets.assets.traces import tagged_traces
from mangaassist_assets.partitions import release_bundles
from resources.aws.app_config import AppConfigResource
from resources.search.embeddings import EmbeddingsResource
from resources.search.indexes import SearchResource
from resources.store import StoreResource


class RerankerDatasetSettings(dg.Config):
    """What may be asked of the dataset of one bundle."""

    as_of_ms: int | None = Field(
        default=None,
        ge=0,
        description="Nothing written after this time (ms since the epoch, UTC) is in it; empty takes the newest "
        "review of the bundle and those before.",
    )
    train_negatives: int = Field(default=15, ge=1, description="Hard wrong passages of a training query, at most.")
    random_negatives: int = Field(default=2, ge=0, description="Random wrong passages of a training query.")


@dg.asset(
    partitions_def=release_bundles,
    deps=[training_corpus, golden_set, tagged_traces, "live_index"],
    group_name="reranker",
    owners=[ML_ENGINEERING],
    kinds={"parquet"},
    code_version="2",
    output_required=False,
)
def reranker_dataset(
    context: dg.AssetExecutionContext,
    config: RerankerDatasetSettings,
    app_config: AppConfigResource,
    embeddings: EmbeddingsResource,
    search: SearchResource,
    store: StoreResource,
) -> Iterator[dg.MaterializeResult[None]]:
    """The ranking dataset as of one release bundle: content-addressed, immutable, leak-checked.

    One row is one query and one passage with its relevance. Reviewed turns and corpus messages name relevant
    documents; wrong passages are those that shoppers were shown, those that the live index finds, and a few random
    ones. What the index found is kept beside the rows, so that the version can be rebuilt when the index has moved on.
    Nothing is written where no query is left to train on, as in a store of one passage: an observation says why.
    """
    from mangaassist_assets.assets.dataset_results import dataset_result
    from mangaassist_assets.datasets.building.built_dataset import EmptyDatasetError
    from mangaassist_assets.datasets.building.ranking_versions import build_ranking_version
    from mangaassist_assets.datasets.building.recorded_searches import first_stage_settings, live_search
    from mangaassist_assets.datasets.building.reranker_dataset import RankingDatasetConfig
    from mangaassist_assets.datasets.versions.stored_versions import write_version

    snapshots = store.snapshots()
    first_stage = (search.index(), embeddings.embedder(), app_config.configuration().routing().retrieval)
    try:
        version = build_ranking_version(
            snapshots,
            context.partition_key,
            search_for=live_search(*first_stage),
            config=RankingDatasetConfig(**config.model_dump()),
            settings=first_stage_settings(*first_stage),
            progress=lambda done, of: _log_tenths(context.log, done, of),
        )
    except EmptyDatasetError as error:
        leave_out(context, str(error))
        return
    snapshot = write_version(snapshots, "reranker_dataset", version, partition=context.partition_key)
    context.log.info(f"{version.card.examples} queries with {version.card.rows} passages")
    yield dataset_result(snapshot, version)


def _log_tenths(log: logging.Logger, done: int, total: int) -> None:
    if done == total or done % max(1, total // 10) == 0:
        log.info(f"{done} of {total} queries have their passages")
