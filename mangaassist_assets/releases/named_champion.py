"""Which version was made champion, by what: the record that an endpoint is deployed by.

The registry's alias can be moved by anybody who reaches MLflow. What goes into production is what a gate, a person's
override or the bootstrap named, with the hash of its artifact.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mangaassist_assets.core.codecs import from_json
from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.core.snapshots import canonical_json

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.models.pipelines import ModelPipeline
    from mangaassist_assets.models.registration.registry import ModelVersion

CHAMPION_FILE = "champion.json"
_BUNDLE_TAG, _BOOTSTRAP = "release_bundle", "bootstrap"


class UnnamedChampionError(OperatorError):
    """The registry's alias names a version that nothing made champion; says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedChampion:
    """A version that was made champion, the SHA-256 of its artifact, and by what; `nothing` where nobody knows."""

    version: str
    artifact_sha256: str | None
    by: Literal["verdict", "override", "bootstrap", "nothing"]

    def files(self) -> dict[str, bytes]:
        """Return the record as it is stored."""
        return {CHAMPION_FILE: canonical_json(self)}

    def names(self, version: ModelVersion) -> bool:
        """Return whether this is a version, artifact and all, that something made champion."""
        same = (self.version, self.artifact_sha256) == (version.version, version.artifact_sha256)
        return same and self.by != "nothing"


def read_named(store: SnapshotStore, asset: str) -> NamedChampion | None:
    """Return what an asset last named champion; None where it named none yet."""
    snapshot = store.find(asset)
    return None if snapshot is None else from_json(NamedChampion, store.read(snapshot, CHAMPION_FILE))


def named_champions(store: SnapshotStore, pipeline: ModelPipeline) -> list[NamedChampion]:
    """Return what the assets of a model pipeline named champion last."""
    assets = [pipeline.champion_asset, *([pipeline.first_asset] if pipeline.first_asset else [])]
    return [named for asset in assets if (named := read_named(store, asset)) is not None]


def is_of_bootstrap(version: ModelVersion) -> bool:
    """Return whether a version was trained by the bootstrap, which makes champions where there are none."""
    return version.tags.get(_BUNDLE_TAG) == _BOOTSTRAP


def require_named(named: Iterable[NamedChampion], pipeline: ModelPipeline, version: ModelVersion) -> None:
    """Let a version pass that was made champion, artifact and all; see `named_champions`.

    Raises:
        UnnamedChampionError: It was not.
    """
    if is_of_bootstrap(version) or any(one.names(version) for one in named):
        return
    raise UnnamedChampionError(
        f"the alias champion of {pipeline.model_name} names version {version.version} with artifact "
        f"{(version.artifact_sha256 or 'unknown')[:12]}, which no verdict, override or bootstrap made champion: "
        f"materialize {pipeline.champion_asset}, or `mangaassist models promote --model {pipeline.group} …` with a "
        "reason"
    )
