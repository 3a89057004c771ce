"""The dataset of the intent model pipeline."""

from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from mangaassist_assets.assets.common import ML_ENGINEERING, leave_out
from mangaassist_assets.assets.corpus import training_corpus
from mangaassist_assets.assets.golden import golden_set
from mangaassist_assets.assets.traces import tagged_traces
from mangaassist_assets.partitions import release_bundles
from resources.store import StoreResource


class IntentDatasetSettings(dg.Config):
    """As of when a dataset is built."""

    as_of_ms: int | None = Field(
        default=None,
        ge=0,
        le=253_402_300_799_999,
        description="Nothing written or labelled after this time (ms since the epoch, UTC) counts. By default the time "
        "of the bundle's newest label.",
    )


@dg.asset(
    partitions_def=release_bundles,
    deps=[training_corpus, golden_set, tagged_traces, "intent_labels"],
    group_name="intent",
    owners=[ML_ENGINEERING],
    kinds={"parquet"},
    code_version="2",
    output_required=False,
)
def intent_dataset(
    context: dg.AssetExecutionContext, config: IntentDatasetSettings, store: StoreResource
) -> Iterator[dg.MaterializeResult[None]]:
    """The intent dataset as of one release bundle: content-addressed, immutable, checked for leaks and for poison.

    One row is one message with its intent, the side it is on for ever (train, validation, test), and where the label
    is from: the corpus, a human review, a judge, or propagated inside a failure cluster. Builds on the labels of the
    bundle before; holds nothing of the golden set, and trains on nothing that an earlier version was tested on. Nothing
    is written where no message is left to train on: an observation says why.
    """
    from mangaassist_assets.assets.dataset_results import dataset_result
    from mangaassist_assets.datasets.building.built_dataset import EmptyDatasetError
    from mangaassist_assets.datasets.building.intent_dataset import IntentDatasetConfig
    from mangaassist_assets.datasets.building.intent_versions import build_intent_version
    from mangaassist_assets.datasets.versions.stored_versions import write_version

    bundle = context.partition_key
    snapshots = store.snapshots()
    try:
        version = build_intent_version(snapshots, bundle, config=IntentDatasetConfig(as_of_ms=config.as_of_ms))
    except EmptyDatasetError as error:
        leave_out(context, str(error))
        return
    snapshot = write_version(snapshots, "intent_dataset", version, partition=bundle)
    context.log.info(f"{version.card.examples} examples; {'; '.join(version.card.notes)}")
    yield dataset_result(snapshot, version)
