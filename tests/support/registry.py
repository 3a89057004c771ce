"""Registered models for tests: a registry in memory that can go away before its next change, and plain artifacts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from mangaassist_assets.models.artifacts import seal_artifact
from mangaassist_assets.models.registration.registry import ModelVersion, RegistryError
from resources.mlflow.runs import TrainingRun


def log_directory(run: TrainingRun, directory: Path, artifact_path: str) -> str:
    """Store a directory with a run and return its URI."""
    run.client.log_artifacts(run.run_id, str(directory), artifact_path)
    return f"{run.artifact_uri.rstrip('/')}/{artifact_path}"


class RegistryGoneError(ConnectionError):
    """What a killed run leaves behind is what was done before this."""


class MemoryMlflow:
    """What `promote` and the `models` commands use of `MlflowResource`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._versions: dict[str, list[ModelVersion]] = {}
        self._aliases: dict[tuple[str, str], str] = {}
        self.run_files: dict[tuple[str, str], bytes] = {}
        self.gone_before: str | None = None

    def add(
        self,
        name: str,
        *,
        kind: str = "intent_classifier",
        sealed: bool = True,
        alias: str | None = None,
        run_id: str | None = None,
        **tags: str,
    ) -> ModelVersion:
        """Register an artifact of its own as the next version."""
        number = str(len(self._versions.get(name, ())) + 1)
        directory = self._folder / name / number
        directory.mkdir(parents=True)
        (directory / "weights.txt").write_text(f"{name} {number}")
        digest = seal_artifact(directory, kind) if sealed else None  # type: ignore[arg-type]
        made = ModelVersion(
            name=name, version=number, source=directory.as_uri(), run_id=run_id, artifact_sha256=digest, tags=tags
        )
        self._versions.setdefault(name, []).append(made)
        if alias is not None:
            self._aliases[name, alias] = number
        return made

    def weights(self, version: ModelVersion) -> Path:
        """Return the one file of an artifact."""
        return self.artifact_directory(version) / "weights.txt"

    def registry(self) -> MemoryMlflow:
        return self

    def versions(self, name: str) -> list[ModelVersion]:
        return list(self._versions.get(name, ()))

    def get(self, name: str, version: str) -> ModelVersion:
        for one in self._versions.get(name, ()):
            if one.version == version:
                return one
        raise RegistryError(f"registered model {name} has no version {version}")

    def version_by_alias(self, name: str, alias: str) -> ModelVersion | None:
        version = self._aliases.get((name, alias))
        return None if version is None else self.get(name, version)

    def set_alias(self, name: str, alias: str, version: str) -> bool:
        self._perhaps_gone("alias")
        moved = self._aliases.get((name, alias)) != version
        self._aliases[name, alias] = version
        return moved

    def delete_alias(self, name: str, alias: str) -> None:
        del self._aliases[name, alias]

    def set_tags(self, name: str, version: str, tags: dict[str, str]) -> None:
        self._perhaps_gone("tags")
        self._versions[name] = [
            replace(one, tags={**one.tags, **tags}) if one.version == version else one for one in self._versions[name]
        ]

    def artifact_directory(self, version: ModelVersion) -> Path:
        directory = self._folder / version.name / version.version
        if not directory.is_dir():
            raise RegistryError(f"artifact of {version.name} version {version.version} is gone")
        return directory

    def read_run_file(self, run_id: str, artifact_file: str) -> bytes | None:
        return self.run_files.get((run_id, artifact_file))

    def write_run_file(self, run_id: str, artifact_file: str, content: bytes) -> None:
        self._perhaps_gone("run file")
        self.run_files[run_id, artifact_file] = content

    def model_version_url(self, name: str, version: str) -> str:
        return f"http://mlflow.invalid/#/models/{name}/versions/{version}"

    def _perhaps_gone(self, step: str) -> None:
        if self.gone_before == step:
            self.gone_before = None
            raise RegistryGoneError(step)


def stored_verdict(
    bundle: str, start_ms: int, word: str, *, challenger: str, champion: str, **fields: Any
) -> dict[str, Any]:
    """Return an evaluation as far as a promotion reads it."""
    return {
        "release_bundle": bundle,
        "bundle_start_ms": start_ms,
        "verdict": word,
        "challenger_version": challenger,
        "champion_version": champion,
        "reasons": [f"the gate says {word}"],
        **fields,
    }
