"""The MLflow model registry as values: a version is found again by the hash of its artifact."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from mangaassist_assets.models.artifacts import ArtifactMismatchError, verify_artifact
from mangaassist_assets.models.registration.registry import (
    ARTIFACT_PATH_TAG,
    ModelVersion,
    RegistryError,
    artifact_uri,
)
from resources.mlflow.rest import all_pages

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowModelVersion

ARTIFACT_TAG = "artifact_sha256"
MODEL_TAG = "logged_model_id"
# MLflow's page shows a model's versions by this tag of the logged model.
_VERSIONS_TAG = "mlflow.modelVersions"
_LONGEST_DESCRIPTION = 5_000


class ModelRegistry:
    """Registered models."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def register(
        self,
        name: str,
        *,
        run_id: str,
        artifact_uri: str,
        artifact_sha256: str,
        tags: Mapping[str, str],
        model_id: str | None = None,
        artifact_path: str | None = None,
        description: str | None = None,
    ) -> ModelVersion:
        """Register an artifact; the version that holds the same artifact already is returned instead.

        Args:
            name: Of the registered model, which is made if there is none.
            run_id: The run that trained it.
            artifact_uri: The folder that MLflow loads: the sealed artifact itself, or the folder around it.
            artifact_sha256: The digest of the sealed artifact.
            tags: Written with the version, which is never there without them.
            model_id: The MLflow model whose folder it is, see `model_files.log_model`.
            artifact_path: Where in the folder the sealed artifact lies, None if the folder is it.
            description: Markdown that the version's page shows: the short form of its card. MLflow's databases take
                5,000 characters; what is beyond is left out.
        """
        from mlflow.exceptions import MlflowException

        existing = self.by_artifact(name, artifact_sha256)
        if existing is not None:
            if model_id is not None and existing.tags.get(MODEL_TAG) == model_id:
                self._link_versions(model_id, name)
            return existing
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        created = self._client.create_model_version(
            name,
            source=artifact_uri,
            run_id=run_id,
            tags={
                **tags,
                ARTIFACT_TAG: artifact_sha256,
                **({ARTIFACT_PATH_TAG: artifact_path} if artifact_path else {}),
                # MLflow's own store keeps no link from a version to its model.
                **({MODEL_TAG: model_id} if model_id else {}),
            },
            model_id=model_id,
            description=description[:_LONGEST_DESCRIPTION] if description else None,
            # A version of plain artifacts is READY when it is created; waiting would only log that it waits.
            await_creation_for=0,
        )
        if model_id is not None:
            self._link_versions(model_id, name)
        return _version(created)

    def _link_versions(self, model_id: str, name: str) -> None:
        """Let the page of a logged model show the versions made of it, as MLflow's own `register_model` does.

        After the version, so a process killed in between leaves a version without this link; registering again adds it.
        """
        model = self._client.get_logged_model(model_id)
        others = [one for one in json.loads(model.tags.get(_VERSIONS_TAG, "[]")) if one["name"] != name]
        ours = [
            {"name": name, "version": item.version}
            for item in self.versions(name)
            if item.source == model.artifact_location
        ]
        self._client.set_logged_model_tags(model_id, {_VERSIONS_TAG: json.dumps([*others, *ours])})

    def by_artifact(self, name: str, artifact_sha256: str) -> ModelVersion | None:
        """Return the oldest version whose artifact has this digest."""
        return next((item for item in self.versions(name) if item.artifact_sha256 == artifact_sha256), None)

    def versions(self, name: str) -> list[ModelVersion]:
        """Return all versions of a model, oldest first; an unknown model has none."""
        found = all_pages(
            lambda token: self._client.search_model_versions(f"name='{name}'", max_results=200, page_token=token)
        )
        return sorted(map(_version, found), key=lambda item: int(item.version))

    def by_alias(self, name: str, alias: str) -> ModelVersion | None:
        """Return the version an alias names, or None where there is no such model or alias."""
        from mlflow.exceptions import MlflowException

        try:
            return _version(self._client.get_model_version_by_alias(name, alias))
        except MlflowException as error:
            # MLflow says INVALID_PARAMETER_VALUE for an alias that does not exist.
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def get(self, name: str, version: str) -> ModelVersion:
        """Return one version.

        Raises:
            RegistryError: There is no such version.
        """
        from mlflow.exceptions import MlflowException

        try:
            return _version(self._client.get_model_version(name, version))
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise RegistryError(f"registered model {name} has no version {version}") from error
            raise

    def set_alias(self, name: str, alias: str, version: str) -> bool:
        """Let an alias name a version; returns whether it named another one before."""
        current = self.by_alias(name, alias)
        if current is not None and current.version == version:
            return False
        self._client.set_registered_model_alias(name, alias, version)
        return True

    def set_tags(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        for key, value in tags.items():
            self._client.set_model_version_tag(name, version, key, value)

    def delete_tags(self, name: str, version: str, keys: Collection[str]) -> None:
        """Remove tags of a version that it has."""
        for key in keys:
            self._client.delete_model_version_tag(name, version, key)


def artifact_directory(version: ModelVersion, cache: Path | None = None) -> Path:
    """Return the directory of a version's sealed artifact on this machine.

    A `file://` source is used in place; any other is downloaded once into `cache`, in a folder named by the digest.
    Whoever loads it checks the digest; a downloaded one is checked here, so that a damaged copy is fetched again.

    Raises:
        RegistryError: The directory is gone.
        ArtifactMismatchError: What was downloaded is not what was registered.
    """
    uri = artifact_uri(version)
    parts = urlsplit(uri)
    if parts.scheme in ("", "file"):
        directory = Path(unquote(parts.path))
        if not directory.is_dir():
            raise RegistryError(
                f"artifact of {version.name} version {version.version} is not at {uri}: the home directory "
                "was moved or cleaned"
            )
        return directory
    return _download(version, uri, cache or Path(tempfile.gettempdir()) / "mangaassist-artifacts")


def _download(version: ModelVersion, uri: str, cache: Path) -> Path:
    import shutil

    import mlflow

    target = cache / (version.artifact_sha256 or f"{version.name}-{version.version}")
    if target.is_dir() and _is_whole(target, version):
        return target
    cache.mkdir(parents=True, exist_ok=True)
    # Downloaded beside and renamed: a killed download leaves no half artifact under the final name.
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        downloaded = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder))
        if version.artifact_sha256:
            verify_artifact(downloaded, version.artifact_sha256)
        if target.is_dir() and not _is_whole(target, version):
            shutil.move(str(target), Path(folder) / "damaged")
        if not target.is_dir():
            shutil.move(str(downloaded), target)
    return target


def _is_whole(directory: Path, version: ModelVersion) -> bool:
    try:
        verify_artifact(directory, version.artifact_sha256)
    except ArtifactMismatchError:
        return False
    return True


def _version(found: MlflowModelVersion) -> ModelVersion:
    return ModelVersion(
        name=found.name,
        version=str(found.version),
        source=found.source or "",
        run_id=found.run_id or None,
        artifact_sha256=found.tags.get(ARTIFACT_TAG),
        tags=dict(found.tags),
    )
