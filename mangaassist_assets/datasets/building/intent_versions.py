"""How an intent dataset is put together from the store, now or as it was."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import polars as pl

from mangaassist_assets.core.bundles import bundles_until, previous_bundle
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
from mangaassist_assets.datasets.guards.poisoning import ShopperHistory, shopper_history
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
from mangaassist_assets.labelling.people.policy import person_key
from mangaassist_assets.labelling.stored_labels import LabellersReport, read_labellers
from mangaassist_assets.retrieval.stored_knowledge import read_vocabulary
from mangaassist_assets.tracing.erasure import erased_users
from mangaassist_assets.tracing.ingestion.stored_turns import read_turn_frame
from mangaassist_assets.tracing.ingestion.turn_frames import TURN_SCHEMA

_PEOPLE_NAMED = 5
_TRACE = ("trace_id", "user_key", "session_id", "timestamp_ms")


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
    traces = _traces(reads, included, erased)
    conflicts = from_json(list[LabelConflict], reads.read(stored, CONFLICTS_FILE))
    named = {one for label in (*labels, *carried) for one in label.sources}.union(*(one.trace_ids for one in conflicts))
    there = set(traces.filter(pl.col("trace_id").is_in(list(named)))["trace_id"])
    labellers = read_labellers(reads, stored)
    dropped = {one.trace_id for one in carried if not _counts(one, labellers)}
    still_counting = [one for one in carried if one.trace_id not in dropped]
    labels, carried = _grounded(labels, there), _grounded(still_counting, there - dropped)
    if config.as_of_ms is None:
        config = replace(config, as_of_ms=_newest_ms([*labels, *carried], traces))
    config = replace(config, vocabulary=read_vocabulary(reads))
    known = traces if config.as_of_ms is None else traces.filter(pl.col("timestamp_ms") <= config.as_of_ms)
    earlier = earlier_versions(reads, "intent_dataset", bundle, as_of_ms=config.as_of_ms)
    golden = read_golden(reads)
    dataset = build_intent_dataset(
        read_corpus(reads),
        [*carried, *labels],
        conflicts=_still_there(conflicts, there),
        golden_texts=golden,
        pinned=pinned_sides(last) if last is not None else None,
        holdout_history=holdout_history_of(earlier, cross_fitted=True),
        history=_history(known, [*carried, *labels]) if known.height else None,
        confirmed=labellers.confirmed,
        config=config,
    )
    refuse_leaks(find_leaks(dataset.rows, golden=golden, earlier=earlier, as_of_ms=config.as_of_ms, cross_fitted=True))
    tests = dataset.rows.filter(pl.col("label_kind") == "human")
    by = tests["labeller"].value_counts(sort=True).sort("count", "labeller", descending=[True, False])
    given = ", ".join(f"{labeller} {count}" for labeller, count in by.head(_PEOPLE_NAMED).iter_rows())
    return dataset.seal(
        as_of=bundle,
        notes=[
            f"builds on the labels of {before}" if before else "builds on the corpus alone",
            f"kept apart from {len(golden)} messages of the golden set" if golden else "there is no golden set",
            f"{tests.height} labels of people, each to learn from and, in its fold, to test a model that never saw it",
            *([f"labels of people by reviewer: {given}"] if given else []),
        ],
        inputs=reads.inputs(own_rows=to_parquet(dataset.rows)),
    )


def _counts(label: IntentLabel, labellers: LabellersReport) -> bool:
    """Whether a label of a bundle before still counts: its reviewer may be listed no more, or be held back since."""
    if label.kind != "human":
        return True
    person = person_key(label.labeller)
    listed = not labellers.reviewers or person in map(person_key, labellers.reviewers)
    return listed and person not in map(person_key, labellers.held_back)


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


def _traces(store: SnapshotStore, bundles: Collection[str], erased: Collection[str]) -> pl.DataFrame:
    """Return who wrote which trace of the bundles and when, the oldest bundle first, without erased users."""
    of_others = ~pl.col("user_key").is_in(sorted(erased)).fill_null(value=False)
    found = [read_turn_frame(store, bundle, columns=_TRACE, where=of_others) for bundle in bundles]
    return pl.concat([pl.DataFrame(schema={name: TURN_SCHEMA[name] for name in _TRACE}), *found])


def _history(traces: pl.DataFrame, labels: Collection[IntentLabel]) -> ShopperHistory:
    """Return what is known of the shoppers behind labels; of the others only when the first trace of all was."""
    sources = pl.col("trace_id").is_in(list({one for label in labels for one in label.sources}))
    writers = {label.user_key for label in labels}.union(traces.filter(sources)["user_key"])
    of_writers = pl.col("user_key").is_in(list(writers - {None})).fill_null(value=False)
    first_of_all = pl.col("timestamp_ms") == pl.col("timestamp_ms").min()
    return shopper_history(traces.filter(sources | of_writers | first_of_all).iter_rows())


def _newest_ms(labels: Collection[IntentLabel], traces: pl.DataFrame) -> int | None:
    times = [max(label.timestamp_ms, label.labelled_ms) for label in labels]
    return max(times or traces["timestamp_ms"], default=None)
