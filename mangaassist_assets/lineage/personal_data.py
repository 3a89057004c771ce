"""Where somebody's data went: which dataset versions hold it, and which models were trained or evaluated on those.

An erasure takes a user out of what is still to be made. What was made already cannot forget: it is named here, so that
people can decide what to train again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import polars as pl

from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.datasets.versions.stored_versions import StoredVersion, stored_versions
from mangaassist_assets.datasets.versions.versions import EXAMPLES_FILE, from_parquet

Use = Literal["training", "evaluation"]
"""Rows of train and validation decide the weights of a model, those of test only its evaluation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldingVersion:
    """A dataset version with the user's data.

    `examples` are the ids of the user's own examples, `by_split` counts them by side. `rest_on` are examples of other
    people whose labels rest on reviews of the user's messages: they hold nothing the user wrote.
    """

    asset: str
    release_bundle: str
    version: str
    digest: str
    as_of_ms: int | None
    latest: bool
    examples: tuple[str, ...]
    by_split: Mapping[str, int]
    rest_on: tuple[str, ...] = ()

    @property
    def use(self) -> Use:
        """What a model of this version used the user's examples for."""
        return "evaluation" if set(self.by_split) <= {"test"} and not self.rest_on else "training"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModelVersion:
    """A training run and what it registered, None where it registered nothing; `aliases` name it now."""

    dataset_digest: str
    run_id: str
    model: str | None = None
    version: str | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AffectedModel:
    """A model, what it used the user's data for, and the dataset versions that hold the data."""

    trained: TrainedModelVersion
    use: Use
    dataset_versions: tuple[str, ...]

    @property
    def train_again(self) -> bool:
        """Whether it is in use, or may be, and its weights learned from the user."""
        return self.use == "training" and bool(self.trained.aliases)


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalDataLineage:
    """Every dataset version and model with a user's data; names no user."""

    versions: tuple[HoldingVersion, ...]
    models: tuple[AffectedModel, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = {
            "versions": [{**asdict(one), "use": one.use} for one in self.versions],
            "models": [
                {
                    **asdict(one.trained),
                    "use": one.use,
                    "train_again": one.train_again,
                    "dataset_versions": one.dataset_versions,
                }
                for one in self.models
            ],
        }
        plain: dict[str, Any] = json.loads(json.dumps(values))
        return plain

    def to_json(self) -> bytes:
        """Return the lineage as indented JSON."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True).encode()


class TrainingRecords(Protocol):
    """What the tracking server knows of training."""

    def trained_on(self, digests: Collection[str]) -> Sequence[TrainedModelVersion]:
        """Return the runs that were trained on datasets with these digests, with what they registered."""


def personal_data_lineage(
    store: SnapshotStore, users: Collection[str], *, trace_ids: Collection[str] = (), records: TrainingRecords
) -> PersonalDataLineage:
    """Follow users through all stored dataset versions, older ones included, to the models.

    `users` are pseudonyms; `trace_ids` those of their traces that are known from elsewhere.
    """
    # Unchecked: rows that are not what their card says may hold the user all the same.
    stored = [(one, from_parquet(store.read(one.snapshot, EXAMPLES_FILE))) for one in stored_versions(store)]
    known = set(trace_ids) | {trace for _, frame in stored for trace in _traces_of(frame, users)}
    versions = _distinct(
        holding for one, frame in stored if (holding := _holding(one, frame, users, known)) is not None
    )
    found = records.trained_on(sorted({one.digest for one in versions}))
    models = [
        _affected(trained, [one for one in versions if one.digest == trained.dataset_digest])
        for trained in sorted(found, key=lambda one: (one.model or "", _number(one.version), one.run_id))
    ]
    return PersonalDataLineage(versions=tuple(versions), models=tuple(models))


def _traces_of(frame: pl.DataFrame, users: Collection[str]) -> list[str]:
    own = frame.filter(pl.col("user_key").is_in(sorted(users)))
    return own["source_trace_id"].drop_nulls().unique().to_list() if "source_trace_id" in frame.columns else []


def _holding(
    stored: StoredVersion, frame: pl.DataFrame, users: Collection[str], trace_ids: Collection[str]
) -> HoldingVersion | None:
    columns = [name for name in ("source_trace_id", "label_sources") if name in frame.columns]
    rows = frame.select("example_id", "split", "user_key", *columns).unique(subset="example_id").sort("example_id")
    own: list[tuple[str, str]] = []
    rest_on: list[str] = []
    for row in rows.iter_rows(named=True):
        if row["user_key"] in users or row.get("source_trace_id") in trace_ids:
            own.append((row["example_id"], row["split"]))
        elif not set(row.get("label_sources") or ()).isdisjoint(trace_ids):
            rest_on.append(row["example_id"])
    if not own and not rest_on:
        return None
    return HoldingVersion(
        asset=stored.asset,
        release_bundle=stored.snapshot.partition or "",
        version=stored.version,
        digest=stored.card.digest,
        as_of_ms=stored.card.as_of_ms,
        latest=stored.latest,
        examples=tuple(example_id for example_id, _ in own),
        by_split=dict(sorted(Counter(split for _, split in own).items())),
        rest_on=tuple(rest_on),
    )


def _distinct(versions: Iterable[HoldingVersion]) -> list[HoldingVersion]:
    """Return one of several snapshots of the same version: the latest one where it is among them."""
    chosen: dict[tuple[str, str, str], HoldingVersion] = {}
    for one in versions:
        key = (one.asset, one.release_bundle, one.version)
        if key not in chosen or one.latest:
            chosen[key] = one
    return list(chosen.values())


def _affected(trained: TrainedModelVersion, versions: Sequence[HoldingVersion]) -> AffectedModel:
    trained_on = any(one.use == "training" for one in versions)
    return AffectedModel(
        trained=trained,
        use="training" if trained_on else "evaluation",
        dataset_versions=tuple(sorted({one.version for one in versions})),
    )


def _number(version: str | None) -> int:
    return int(version) if version is not None and version.isdecimal() else 0
