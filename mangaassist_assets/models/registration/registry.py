"""Registered models as the platform sees them: a version is found again by the hash of its artifact."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore

CHAMPION = "champion"
CHALLENGER = "challenger"

ARTIFACT_PATH_TAG = "artifact_path"
BUNDLE_START_TAG = "bundle_start_ms"

MODEL_FILE = "model.json"
EVALUATION_FILE = "evaluation.json"
"""What the evaluation of a challenger stores, beside the snapshot of the challenger itself."""


class RegistryError(RuntimeError):
    """The registry holds something else than what was asked of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One version of a registered model.

    `source` is the URI of the folder that MLflow loads; `artifact_uri(version)` of the sealed artifact in it.
    """

    name: str
    version: str
    source: str
    run_id: str | None
    artifact_sha256: str | None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """A registered challenger, as its training asset stored it."""

    name: str
    version: str
    run_id: str
    artifact_uri: str
    artifact_sha256: str
    dataset_digest: str
    release_bundle: str | None
    bundle_start_ms: int

    @staticmethod
    def read(store: SnapshotStore, asset: str, release_bundle: str) -> TrainedModel:
        """Return what the training asset registered for a bundle."""
        return TrainedModel(**store.read_json(store.latest(asset, partition=release_bundle), MODEL_FILE))


class VersionRegistry(Protocol):
    """The versions of registered models and their tags."""

    def versions(self, name: str) -> Sequence[ModelVersion]:
        """Return all versions of a model, oldest first; an unknown model has none."""

    def get(self, name: str, version: str) -> ModelVersion:
        """Return one version.

        Raises:
            RegistryError: There is no such version.
        """

    def set_tags(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""

    def delete_tags(self, name: str, version: str, keys: Collection[str]) -> None:
        """Remove tags of a version that it has."""


class ModelStore(Protocol):
    """The registry with its aliases, and the artifacts of versions."""

    def registry(self) -> VersionRegistry:
        """Return the versions."""

    def version_by_alias(self, name: str, alias: str) -> ModelVersion | None:
        """Return the version that an alias names, or None."""

    def set_alias(self, name: str, alias: str, version: str) -> bool:
        """Let an alias name a version; returns whether it named another one before."""

    def artifact_directory(self, version: ModelVersion) -> Path:
        """Return the directory of a version's artifact on this machine.

        Raises:
            RegistryError: The artifact is gone.
        """


def artifact_uri(version: ModelVersion) -> str:
    """Return where a version's sealed artifact lies; that is what an endpoint is deployed from.

    A version whose tag `artifact_path` is missing was registered before artifacts lay inside an MLflow model: its
    source is the artifact.

    Raises:
        RegistryError: The tag leaves the version's folder.
    """
    path = version.tags.get(ARTIFACT_PATH_TAG, "")
    if not path:
        return version.source
    if any(part in ("", ".", "..") for part in path.split("/")) or "\\" in path:
        raise RegistryError(
            f"tag {ARTIFACT_PATH_TAG} of {version.name} version {version.version} is {path!r}: it must name a folder "
            "inside the version's source"
        )
    return f"{version.source.rstrip('/')}/{path}"
