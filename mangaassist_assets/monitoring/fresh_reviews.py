"""Which reviewed messages a champion can be judged on again: what people labelled after its dataset was closed.

They are read out of the newest dataset version, so they went through the same redaction, agreement, trust and caps as
what it was promoted on; what it learned from, or nearly, is left out and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

from mangaassist_assets.core.bundles import bundles_by_start
from mangaassist_assets.datasets.versions.stored_versions import read_dataset
from mangaassist_assets.models.learned import BOOTSTRAP, Learned, own_dataset, without_erased
from mangaassist_assets.models.pipelines import ModelPipeline
from mangaassist_assets.monitoring.decay_report import AUDITED
from mangaassist_assets.tracing.ingestion.stored_turns import read_turn_frame

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.models.pipelines import ModelPipeline
    from mangaassist_assets.models.registration.registry import ModelVersion

ITSELF = "messages that this champion answered"
OTHERS = "messages that another model answered"
UNKNOWN = "messages of which the trace does not say who answered"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewRows:
    """Rows of the model pipeline's dataset, on the side `test`, of one bundle, that came to be reviewed in one way.

    Those that were `AUDITED` have an `inclusion_probability`.
    """

    release_bundle: str
    selection: str
    frame: pl.DataFrame = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshReviews:
    """What a champion can be judged on.

    `promotion` are the labels it was judged on before it was promoted, `later` those of bundles since, the oldest
    first. `as_of_ms` is when its dataset was closed, None for the bootstrap, which has no turns; `excluded` counts
    later examples that are left out, by reason.
    """

    promotion: tuple[ReviewRows, ...]
    later: tuple[ReviewRows, ...]
    as_of_ms: int | None
    excluded: Mapping[str, int]


def fresh_reviews(
    store: SnapshotStore,
    pipeline: ModelPipeline,
    champion: ModelVersion,
    *,
    tested_by_folds: Collection[str] | None = None,
) -> FreshReviews:
    """Gather what a champion can be judged on.

    `tested_by_folds` are the examples that models of its folds answered before it was promoted; None where it was
    judged on the test side of its dataset.

    Raises:
        ChampionDatasetGoneError: the dataset version it was trained on is not in the store.
    """
    own, as_of_ms = own_dataset(store, pipeline, champion)
    text_column = pipeline.dataset.text_columns[0]
    learned = Learned.of(own, text_column) if own is not None else Learned.of_corpus(store)
    excluded: Counter[str] = Counter()
    kept: list[ReviewRows] = []
    newest = _newest_dataset(store, pipeline)
    if newest is not None:
        reviewed = newest.filter(pl.col("label_kind") == "human")
        fresh = _since(reviewed, own, as_of_ms)
        judgeable = fresh.filter(pl.col("split").is_in(pipeline.dataset.judged_sides))
        excluded["on a side whose passages are not the retriever's"] += _examples(fresh) - _examples(judgeable)
        reasons = dict(learned.reasons(judgeable, text_column))
        excluded.update(reasons.values())
        chosen = judgeable.filter(~pl.col("example_id").is_in(list(reasons)))
        kept = list(_grouped(store, chosen, champion, pipeline.served_by))
    promotion: tuple[ReviewRows, ...] = ()
    if own is not None:
        reviewed = own.filter(pl.col("label_kind") == "human")
        on_test_side = pl.col("split") == "test"
        by_folds = pl.col("example_id").is_in(list(tested_by_folds or ()))
        held_out = reviewed.filter(on_test_side if tested_by_folds is None else by_folds)
        frame = held_out.with_columns(pl.lit("test").alias("split"))
        promotion = tuple(_at_promotion(frame, champion.tags.get("release_bundle", BOOTSTRAP)))
    return FreshReviews(
        promotion=promotion,
        later=tuple(kept),
        as_of_ms=as_of_ms,
        excluded={reason: count for reason, count in sorted(excluded.items()) if count},
    )


def _newest_dataset(store: SnapshotStore, pipeline: ModelPipeline) -> pl.DataFrame | None:
    """Return the dataset of the newest bundle that has one; each holds the reviews of those before."""
    for bundle in reversed(bundles_by_start(store)):
        if store.find(pipeline.dataset_asset, partition=bundle) is not None:
            return without_erased(store, read_dataset(store, pipeline.dataset_asset, bundle).frame)
    return None


def _since(reviewed: pl.DataFrame, own: pl.DataFrame | None, as_of_ms: int | None) -> pl.DataFrame:
    if own is None:
        return reviewed
    if as_of_ms is None or "timestamp_ms" not in reviewed.columns:
        return reviewed.filter(~pl.col("release_bundle").is_in(own["release_bundle"].drop_nulls().unique().to_list()))
    return reviewed.filter(pl.col("timestamp_ms") > as_of_ms)


def _at_promotion(held_out: pl.DataFrame, bundle: str) -> Iterator[ReviewRows]:
    """Yield what a champion was judged on: each bundle has an audit sample of its own, all others are of one kind."""
    audited, others = _by_audit(held_out)
    for (of_bundle,), rows in audited.group_by("release_bundle", maintain_order=True):
        yield ReviewRows(release_bundle=str(of_bundle), selection=AUDITED, frame=rows)
    if len(others):
        yield ReviewRows(release_bundle=bundle, selection=OTHERS, frame=others)


def _by_audit(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows that an audit sample drew, and the others: all, where it is not told."""
    if "inclusion_probability" not in frame.columns:
        return frame.clear(), frame
    drawn = pl.col("inclusion_probability").is_not_null()
    return frame.filter(drawn), frame.filter(~drawn)


def _grouped(
    store: SnapshotStore, frame: pl.DataFrame, champion: ModelVersion, served_by: str | None
) -> Iterator[ReviewRows]:
    starts = bundles_by_start(store)
    judged = frame.with_columns(pl.lit("test").alias("split"))
    for bundle in (one for one in starts if one in set(frame["release_bundle"].drop_nulls())):
        audited, rows = _by_audit(judged.filter(pl.col("release_bundle") == bundle))
        if len(audited):
            yield ReviewRows(release_bundle=bundle, selection=AUDITED, frame=audited)
        judged_traces = rows["source_trace_id"].unique().to_list()
        served = _served_by(store, bundle, served_by, judged_traces)
        selections = {trace_id: _selection(served.get(trace_id), champion.version) for trace_id in judged_traces}
        for selection in (OTHERS, ITSELF, UNKNOWN):
            traces = [trace_id for trace_id, found in selections.items() if found == selection]
            own = rows.filter(pl.col("source_trace_id").is_in(traces, nulls_equal=True))
            if len(own):
                yield ReviewRows(release_bundle=bundle, selection=selection, frame=own)


def _selection(version: str | None, champion_version: str) -> str:
    if version is None:
        return UNKNOWN
    return ITSELF if version == champion_version else OTHERS


def _served_by(store: SnapshotStore, bundle: str, column: str | None, trace_ids: Collection[str]) -> dict[str, str]:
    """Return by trace which version answered."""
    if column is None or store.find("tagged_traces", partition=bundle) is None:
        return {}
    judged = pl.col("trace_id").is_in(list(trace_ids)) & pl.col(column).is_not_null()
    return dict(read_turn_frame(store, bundle, columns=["trace_id", column], where=judged).iter_rows())


def _examples(frame: pl.DataFrame) -> int:
    return frame["example_id"].n_unique()
