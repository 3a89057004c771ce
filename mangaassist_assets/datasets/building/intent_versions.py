"""How an intent dataset is put together from the store, now or as it was."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator
from dataclasses import replace

import polars as pl

from mangaassist_assets.core.bundles import TURNS_ASSET, bundles_until, previous_bundle
from mangaassist_assets.core.codecs import from_json
from mangaassist_assets.core.declared_inputs import StepStore
from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.datasets.building.declared_reads import INTENT_DATASET_READS
from mangaassist_assets.datasets.building.intent_dataset import (
    IntentDatasetConfig,
    build_intent_dataset,
    carried_labels,
    pinned_sides,
)
from mangaassist_assets.datasets.guards.leakage import find_leaks, holdout_history_of, refuse_leaks
from mangaassist_assets.datasets.guards.poisoning import shopper_history
from mangaassist_assets.datasets.sources.golden_set import read_golden
from mangaassist_assets.datasets.sources.training_corpus import read_corpus
from mangaassist_assets.datasets.versions.stored_versions import earlier_versions, read_dataset
from mangaassist_assets.datasets.versions.versions import DatasetVersion, to_parquet
from mangaassist_assets.labelling.intent_labels import (
    CONFLICTS_FILE,
    LABELS_FILE,
    IntentLabel,
    LabelConflict,
    labels_from_parquet,
)
from mangaassist_assets.retrieval.stored_knowledge import read_vocabulary
from mangaassist_assets.tracing.erasure import erased_users
from mangaassist_assets.tracing.ingestion.stored_turns import TURNS_FILE

Trace = tuple[str, "str | None", str, int]


def build_intent_version(snapshots: SnapshotStore, bundle: str, *, config: IntentDatasetConfig) -> DatasetVersion:
    """Build the intent dataset of a bundle out of the store: the same snapshots, the same bytes.

    Args:
        snapshots: the store, or one that is pinned to what was the latest once.
        bundle: the release bundle; its labels and those that the version before kept are in it.
        config: sides and limits; an `as_of_ms` of None becomes the time of the newest label, or of the newest turn
            where there are no labels. The vocabulary is the store's.

    Raises:
        EmptyDatasetError: no message is left in train.
        SnapshotMissingError: the labels of the bundle were never materialized.
        LeakageError: what was built leaks all the same; names the examples.
    """
    reads = StepStore(snapshots, INTENT_DATASET_READS, output="intent_dataset", bundle=bundle)
    included = bundles_until(reads, bundle)
    erased = erased_users(snapshots)
    stored = reads.latest("intent_labels", partition=bundle)
    labels = _of_others(labels_from_parquet(reads.read(stored, LABELS_FILE)), erased)
    before = previous_bundle(reads, bundle, having="intent_dataset")
    last = read_dataset(reads, "intent_dataset", before).frame if before else None
    carried = _of_others(carried_labels(last), erased) if last is not None else []
    traces = [trace for name in included for trace in _traces(reads, name) if trace[1] not in erased]
    there = {trace[0] for trace in traces}
    labels, carried = _grounded(labels, there), _grounded(carried, there)
    if config.as_of_ms is None:
        config = replace(config, as_of_ms=_newest_ms([*labels, *carried], traces))
    config = replace(config, vocabulary=read_vocabulary(reads))
    known = [trace for trace in traces if config.as_of_ms is None or trace[3] <= config.as_of_ms]
    earlier = earlier_versions(reads, "intent_dataset", bundle, as_of_ms=config.as_of_ms)
    golden = read_golden(reads)
    dataset = build_intent_dataset(
        read_corpus(reads),
        [*carried, *labels],
        conflicts=_still_there(from_json(list[LabelConflict], reads.read(stored, CONFLICTS_FILE)), there),
        golden_texts=golden,
        pinned=pinned_sides(last) if last is not None else None,
        holdout_history=holdout_history_of(earlier),
        history=shopper_history(known) if known else None,
        config=config,
    )
    refuse_leaks(find_leaks(dataset.rows, golden=golden, earlier=earlier, as_of_ms=config.as_of_ms))
    return dataset.seal(
        as_of=bundle,
        notes=[
            f"builds on the labels of {before}" if before else "builds on the corpus alone",
            f"kept apart from {len(golden)} messages of the golden set" if golden else "there is no golden set",
        ],
        inputs=reads.inputs(own_rows=to_parquet(dataset.rows)),
    )


def _of_others(labels: Collection[IntentLabel], erased: Collection[str]) -> list[IntentLabel]:
    return [label for label in labels if label.user_key not in erased]


def _grounded(labels: Collection[IntentLabel], there: Collection[str]) -> list[IntentLabel]:
    """Return labels with those sources that are still there; a label that rests on nothing any more goes.

    What an erased user wrote is no ground for a label of what somebody else wrote.
    """
    grounded = [
        replace(label, sources=tuple(one for one in label.sources if one == label.trace_id or one in there))
        for label in labels
    ]
    return [label for label in grounded if label.sources]


def _still_there(conflicts: Collection[LabelConflict], there: Collection[str]) -> list[LabelConflict]:
    """Return conflicts with those traces that are still there; a conflict without any trace left goes."""
    known = [replace(one, trace_ids=tuple(trace for trace in one.trace_ids if trace in there)) for one in conflicts]
    return [one for one in known if one.trace_ids]


def _traces(store: SnapshotStore, bundle: str) -> Iterator[Trace]:
    """Yield who wrote which trace of a bundle and when; of the turns only these columns are read."""
    content = store.read(store.latest(TURNS_ASSET, partition=bundle), TURNS_FILE)
    columns = ["trace_id", "user_key", "session_id", "timestamp_ms"]
    yield from pl.read_parquet(io.BytesIO(content), columns=columns).select(columns).iter_rows()


def _newest_ms(labels: Collection[IntentLabel], traces: Collection[Trace]) -> int | None:
    times = [max(label.timestamp_ms, label.labelled_ms) for label in labels]
    return max(times or [timestamp_ms for _, _, _, timestamp_ms in traces], default=None)
