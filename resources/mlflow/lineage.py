"""From a dataset's digest to the training runs and model versions that were made of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from mangaassist_assets.lineage.personal_data import TrainedModelVersion
from resources.mlflow.runs import DATASET_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion as MlflowModelVersion

_PAGE = 200


class MlflowTrainingRecords:
    """Runs of the training experiment by the digest they carry, and the model versions that name those runs."""

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self._client = client
        self._experiment_id = experiment_id

    def trained_on(self, digests: Collection[str]) -> list[TrainedModelVersion]:
        """Return the runs of these datasets, deleted ones included, with their model versions."""
        found: list[TrainedModelVersion] = []
        for digest in sorted(digests):
            for run in self._runs_of(digest):
                registered = [self._registered(digest, version) for version in self._versions_of(run.info.run_id)]
                found += registered or [TrainedModelVersion(dataset_digest=digest, run_id=run.info.run_id)]
        return found

    def _runs_of(self, digest: str) -> Iterator[Run]:
        from mlflow.entities import ViewType

        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id],
                f"tags.{DATASET_TAG} = '{digest}'",
                run_view_type=ViewType.ALL,
                max_results=_PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            yield from page
            token = page.token
            if not token:
                return

    def _versions_of(self, run_id: str) -> Iterator[MlflowModelVersion]:
        token: str | None = None
        while True:
            page = self._client.search_model_versions(f"run_id='{run_id}'", max_results=_PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _registered(self, digest: str, version: MlflowModelVersion) -> TrainedModelVersion:
        # A search leaves the aliases out.
        aliases = self._client.get_model_version(version.name, str(version.version)).aliases
        return TrainedModelVersion(
            dataset_digest=digest,
            run_id=version.run_id or "",
            model=version.name,
            version=str(version.version),
            aliases=tuple(sorted(aliases)),
        )
