"""The intent lane: dataset, challenger, and its evaluation against the champion."""

import dagster as dg

from mangaassist_assets.assets.clusters import failure_clusters
from mangaassist_assets.assets.common import ML_ENGINEERING, TRAINING_POOL, materialized
from mangaassist_assets.assets.corpus import training_corpus
from mangaassist_assets.assets.lanes import INTENT
from mangaassist_assets.assets.traces import tagged_traces
from mangaassist_assets.partitions import release_bundles
from resources.embeddings import EmbeddingsResource
from resources.mlflow_tracking import MlflowResource
from resources.store import StoreResource


@dg.asset(
    partitions_def=release_bundles,
    deps=[training_corpus, tagged_traces, failure_clusters],
    group_name="intent",
    owners=[ML_ENGINEERING],
    kinds={"parquet"},
    code_version="1",
)
def intent_dataset(
    context: dg.AssetExecutionContext, embeddings: EmbeddingsResource, store: StoreResource
) -> dg.MaterializeResult[None]:
    """The intent dataset as of one release bundle: content-addressed, immutable, leak-checked.

    One row is one message with its intent, the side it is on for ever (train, validation, test), and where the label
    is from: the corpus, a human review, or propagated inside a failure cluster. Builds on the labels of the bundle
    before.
    """
    from mangaassist_assets.assets.reading import (
        previous_bundle,
        read_clusters,
        read_corpus,
        read_dataset,
        read_turns,
        read_vocabulary,
    )
    from mangaassist_assets.datasets.intent_dataset import (
        IntentDatasetConfig,
        build_intent_dataset,
        carried_labels,
        pinned_sides,
    )
    from mangaassist_assets.datasets.labels import labels_from_reviews, propagate_labels
    from mangaassist_assets.datasets.leakage import refuse_leaks

    bundle = context.partition_key
    snapshots = store.snapshots()
    turns = read_turns(snapshots, bundle)
    clusters = read_clusters(snapshots, bundle)
    before = previous_bundle(snapshots, bundle, having="intent_dataset")
    earlier = read_dataset(snapshots, "intent_dataset", before)[0] if before else None
    reviews = labels_from_reviews(turns)
    vectors = embeddings.embedder().embed([turn.learnable_text for turn in turns])
    propagated = propagate_labels(clusters, turns, vectors, reviews)
    carried = carried_labels(earlier) if earlier is not None else []
    dataset = build_intent_dataset(
        read_corpus(snapshots),
        [*carried, *reviews.labels, *propagated.labels],
        conflicts=reviews.conflicts,
        pinned=pinned_sides(earlier) if earlier is not None else None,
        config=IntentDatasetConfig(vocabulary=read_vocabulary(snapshots)),
    )
    version = dataset.seal(as_of=bundle, notes=[f"builds on the labels of {before}"] if before else [])
    refuse_leaks(version.frame)
    snapshot = snapshots.write("intent_dataset", version.files(), partition=bundle)
    context.log.info(
        f"{version.card.examples} examples: {len(reviews.labels)} reviewed and {len(propagated.labels)} propagated "
        f"labels of this bundle, {len(carried)} of earlier ones"
    )
    return materialized(
        snapshot,
        {
            "dagster/row_count": dg.MetadataValue.int(version.card.rows),
            "dataset_digest": dg.MetadataValue.text(version.digest),
            "builds_on": dg.MetadataValue.text(before or "the corpus alone"),
            "data_card": dg.MetadataValue.md(version.card.to_markdown()),
        },
    )


@dg.asset(
    partitions_def=release_bundles,
    deps=[intent_dataset],
    group_name="intent",
    owners=[ML_ENGINEERING],
    kinds={"pytorch", "mlflow"},
    pool=TRAINING_POOL,
    code_version="1",
)
def intent_classifier(
    context: dg.AssetExecutionContext, mlflow: MlflowResource, store: StoreResource
) -> dg.MaterializeResult[None]:
    """The challenger: a DistilBERT fine-tuned on this bundle's dataset, tracked and registered in MLflow.

    Training is repeated only if the dataset or the settings changed: the same content is the same model version.
    """
    from mangaassist_assets.assets.reading import read_dataset_version
    from mangaassist_assets.assets.registration import challenger_result
    from mangaassist_assets.assets.training import train_intent

    bundle = context.partition_key
    version = read_dataset_version(store.snapshots(), INTENT, bundle)
    model = train_intent(context, mlflow, store, dataset=version, bundle=bundle)
    return challenger_result(context, mlflow, store, INTENT, model)


@dg.asset(
    partitions_def=release_bundles,
    deps=[intent_classifier, intent_dataset],
    group_name="intent",
    owners=[ML_ENGINEERING],
    kinds={"mlflow", "json"},
    code_version="1",
)
def intent_evaluation(
    context: dg.AssetExecutionContext, mlflow: MlflowResource, store: StoreResource
) -> dg.MaterializeResult[None]:
    """Champion and challenger on the same held-out messages, and the gate's verdict on them.

    Paired: both predict every message of the dataset's test side, which neither was trained on. The verdict is
    `pass`, `fail` or `insufficient_evidence`, with figures and the intents it looked at.
    """
    from mangaassist_assets.assets.evaluation import evaluate_intents, evaluation_result

    evaluation = evaluate_intents(mlflow, store, bundle=context.partition_key)
    return evaluation_result(context, mlflow, store, INTENT, evaluation)
