"""What the datasets of all model pipelines share while they are built: configuration, rows, and the lack of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self, TypeVar

import polars as pl

from mangaassist_assets.datasets.building.splits import DEFAULT_SHARES, SplitShares
from mangaassist_assets.datasets.guards.limits import Caps
from mangaassist_assets.datasets.versions.data_card import Provenance
from mangaassist_assets.datasets.versions.versions import DatasetVersion, seal_version
from mangaassist_assets.privacy import Vocabulary

_NOT_SETTINGS = ("vocabulary", "as_of_ms")
ConfigT = TypeVar("ConfigT", bound="DatasetConfig")


class EmptyDatasetError(ValueError):
    """Nothing is left to train on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetConfig:
    """Sides and limits of a dataset.

    `vocabulary` are the store's own words, which are no personal data. Nothing that was written or labelled after
    `as_of_ms` (milliseconds since the epoch) counts; None for no such time.
    """

    shares: SplitShares = DEFAULT_SHARES
    caps: Caps = field(default_factory=Caps)
    vocabulary: Vocabulary | None = None
    as_of_ms: int | None = None

    def settings(self) -> dict[str, Any]:
        """Return what decides the rows besides the inputs, as JSON values."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in _NOT_SETTINGS}
        return {name: _as_setting(value) for name, value in values.items()}

    def with_settings(self, settings: Mapping[str, Any], *, as_of_ms: int | None) -> Self:
        """Return the configuration that a data card records; the vocabulary comes from the knowledge.

        What is not in a card of before has its default.
        """
        recorded = {
            name: type(getattr(self, name))(**settings[name])
            if isinstance(value, dict)
            else _from_setting(settings[name])
            for name, value in self.settings().items()
            if name in settings
        }
        return replace(self, as_of_ms=as_of_ms, **recorded)


def _as_setting(value: Any) -> Any:  # noqa: ANN401 - a field of any configuration
    if isinstance(value, tuple):
        return list(value)
    return value if isinstance(value, int) else asdict(value)


def _from_setting(value: Any) -> Any:  # noqa: ANN401 - see above
    return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltDataset:
    """The rows of a dataset, and what was left out and why.

    `searches` is what the live index found for a ranking dataset: query and tenant -> chunk ids, best first; with it
    in place of the index the same dataset is made again.
    """

    rows: pl.DataFrame
    provenance: Provenance
    searches: Mapping[tuple[str, str | None], tuple[str, ...]] = field(default_factory=dict)

    def seal(
        self,
        *,
        as_of: str | None = None,
        notes: Sequence[str] = (),
        inputs: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
        base_source: str = "corpus",
    ) -> DatasetVersion:
        """Return the immutable version with its data card, as of a release bundle.

        `settings` are added to the configuration's own; the other arguments are those of `Provenance` and
        `seal_version`.
        """
        provenance = replace(
            self.provenance,
            as_of=as_of,
            notes=(*self.provenance.notes, *notes),
            inputs=inputs or {},
            settings={**self.provenance.settings, **(settings or {})},
        )
        return seal_version(self.rows, provenance, base_source=base_source)


def refuse_empty(rows: pl.DataFrame, excluded: Mapping[str, int], *, example: str, of: str) -> None:
    """Raise where no row is in train.

    Raises:
        EmptyDatasetError: says how many were left out for which reason.
    """
    if not (rows["split"] == "train").any():
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(excluded.items()) if count) or "none"
        raise EmptyDatasetError(f"no {example} to train on of {of}; left out: {reasons}")
