"""The datasets of the model pipelines: content-addressed, immutable, one version a release bundle."""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from mangaassist_assets.assets.common import ML_ENGINEERING, image, leave_out, materialized
from mangaassist_assets.assets.declaring import declared_asset
from mangaassist_assets.assets.inputs import through
from mangaassist_assets.datasets.building.declared_reads import INTENT_DATASET_READS, RANKING_DATASET_READS
from mangaassist_assets.partitions import release_bundles
from resources.aws.app_config import AppConfigResource
from resources.search.embeddings import EmbeddingsResource
from resources.search.indexes import SearchResource
from resources.settings.labelling import LabellingResource
from resources.store import StoreResource

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import Snapshot
    from mangaassist_assets.datasets.versions.versions import DatasetVersion


class IntentDatasetSettings(dg.Config):
    """As of when a dataset is built."""

    as_of_ms: int | None = Field(
        default=None,
        ge=0,
        le=253_402_300_799_999,
        description="Nothing written or labelled after this time (ms since the epoch, UTC) counts. By default the time "
        "of the bundle's newest label.",
    )


@declared_asset(
    reads=INTENT_DATASET_READS,
    partitions_def=release_bundles,
    group_name="intent",
    owners=[ML_ENGINEERING],
    kinds={"parquet"},
    code_version="4",
    output_required=False,
)
def intent_dataset(
    context: dg.AssetExecutionContext, config: IntentDatasetSettings, store: StoreResource
) -> Iterator[dg.MaterializeResult[None]]:
    """The intent dataset as of one release bundle: content-addressed, immutable, checked for leaks and for poison.

    One row is one message with its intent, the side it is on for ever (train, validation, test), and where the label
    is from: the corpus, a human review, a judge, or propagated inside a failure cluster. Only the corpus has a test
    side: labels of traffic teach, and each that a person gave tests models that have not seen it. Builds on the labels
    of the bundle before; holds nothing of the golden set, and of the corpus trains on nothing that an earlier version
    was tested on. Nothing is written where no message is left to train on: an observation says why.
    """
    from mangaassist_assets.assets.datasets import dataset_result
    from mangaassist_assets.datasets.building.built_dataset import EmptyDatasetError
    from mangaassist_assets.datasets.building.intent_dataset import IntentDatasetConfig
    from mangaassist_assets.datasets.building.intent_versions import build_intent_version
    from mangaassist_assets.datasets.versions.stored_versions import keep_version

    step = store.step(context)
    try:
        version = build_intent_version(
            step, context.partition_key, config=IntentDatasetConfig(as_of_ms=config.as_of_ms)
        )
    except EmptyDatasetError as error:
        leave_out(context, str(error))
        return
    snapshot = keep_version(step, "intent_dataset", version)
    context.log.info(f"{version.card.examples} examples; {'; '.join(version.card.notes)}")
    yield dataset_result(snapshot, version)


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


@declared_asset(
    reads=(*RANKING_DATASET_READS, through("live_index", "the search index")),
    partitions_def=release_bundles,
    group_name="reranker",
    owners=[ML_ENGINEERING],
    kinds={"parquet"},
    code_version="5",
    output_required=False,
)
def reranker_dataset(
    context: dg.AssetExecutionContext,
    config: RerankerDatasetSettings,
    app_config: AppConfigResource,
    embeddings: EmbeddingsResource,
    labelling: LabellingResource,
    search: SearchResource,
    store: StoreResource,
) -> Iterator[dg.MaterializeResult[None]]:
    """The ranking dataset as of one release bundle: content-addressed, immutable, leak-checked.

    One row is one query and one passage with its relevance. Reviewed turns and corpus messages name relevant
    documents; wrong passages are those that shoppers were shown, those that the live index finds, and a few random
    ones. What the index found is kept beside the rows, so that the version can be rebuilt when the index has moved on.
    Nothing is written where no query is left to train on, as in a store of one passage: an observation says why.
    """
    from mangaassist_assets.assets.datasets import dataset_result
    from mangaassist_assets.datasets.building.built_dataset import EmptyDatasetError
    from mangaassist_assets.datasets.building.ranking_versions import build_ranking_version
    from mangaassist_assets.datasets.building.recorded_searches import live_first_stage, recorded_first_stage
    from mangaassist_assets.datasets.building.reranker_dataset import RankingDatasetConfig
    from mangaassist_assets.datasets.versions.stored_versions import keep_version

    step = store.step(context)
    first_stage = recorded_first_stage(step) or live_first_stage(
        search.index(), embeddings.embedder(), app_config.configuration().routing().retrieval
    )
    try:
        version = build_ranking_version(
            step,
            context.partition_key,
            search_for=first_stage.search_for,
            config=RankingDatasetConfig(**config.model_dump(), reviewers=labelling.named_reviewers()),
            settings=first_stage.settings,
            progress=lambda done, of: _log_tenths(context.log, done, of),
        )
    except EmptyDatasetError as error:
        leave_out(context, str(error))
        return
    snapshot = keep_version(step, "reranker_dataset", version)
    context.log.info(f"{version.card.examples} queries with {version.card.rows} passages")
    yield dataset_result(snapshot, version)


def _log_tenths(log: logging.Logger, done: int, total: int) -> None:
    if done == total or done % max(1, total // 10) == 0:
        log.info(f"{done} of {total} queries have their passages")


def dataset_result(snapshot: "Snapshot", version: "DatasetVersion") -> dg.MaterializeResult[None]:
    """Return the materialization of a dataset version.

    The version is the data version: a card that reads otherwise (an input was stored anew with the same meaning) is no
    reason to train again.
    """
    from mangaassist_assets.datasets.versions.data_card import counts_chart, moment

    card = version.card
    figures = {
        "dagster/row_count": dg.MetadataValue.int(card.rows),
        "examples": dg.MetadataValue.int(card.examples),
        "dataset_version": dg.MetadataValue.text(card.version),
        "dataset_digest": dg.MetadataValue.text(version.digest),
        "as_of": dg.MetadataValue.text("no turns" if card.as_of_ms is None else moment(card.as_of_ms)),
        "data_card": dg.MetadataValue.md(card.to_markdown()),
        "counts": image("examples by side", counts_chart(card)),
    }
    return materialized(snapshot, figures, data_version=card.version[:16])
