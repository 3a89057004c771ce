"""What MLflow holds of a person: traces, which are deleted, and the runs and model versions that datasets led to."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from mangaassist_assets.lineage.personal_data import TrainedModelVersion
from mangaassist_assets.privacy import is_pseudonym
from mangaassist_assets.tracing.erasure import InvalidUserKeyError
from resources.mlflow.rest import all_pages
from resources.mlflow.runs import DATASET_TAG
from resources.mlflow.traces.records import USER
from resources.mlflow.traces.search import infos

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion as MlflowModelVersion

_PAGE = 200
_TRACES_PER_DELETION = 100


class MlflowUserTraces:
    """The traces of users in one experiment."""

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self._client = client
        self._experiment_id = experiment_id

    def trace_ids_of(self, user_key: str) -> frozenset[str]:
        """Return the traces whose metadata name a user.

        Raises:
            InvalidUserKeyError: The key is no pseudonym, and must not reach the filter.
        """
        if not is_pseudonym(user_key):
            raise InvalidUserKeyError("only a pseudonym ('u-' and 20 hexadecimal digits) names a user in traces")
        condition = f"metadata.`{USER}` = '{user_key}'"
        return frozenset(info.trace_id for info in infos(self._client, self._experiment_id, condition))

    def delete(self, trace_ids: Collection[str]) -> int:
        """Delete traces; those that are gone already do not count."""
        ids = sorted(trace_ids)
        return sum(
            self._client.delete_traces(
                experiment_id=self._experiment_id, trace_ids=ids[start : start + _TRACES_PER_DELETION]
            )
            for start in range(0, len(ids), _TRACES_PER_DELETION)
        )


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

        return all_pages(
            lambda token: self._client.search_runs(
                [self._experiment_id],
                f"tags.{DATASET_TAG} = '{digest}'",
                run_view_type=ViewType.ALL,
                max_results=_PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
        )

    def _versions_of(self, run_id: str) -> Iterator[MlflowModelVersion]:
        return all_pages(
            lambda token: self._client.search_model_versions(f"run_id='{run_id}'", max_results=_PAGE, page_token=token)
        )

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
