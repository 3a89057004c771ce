"""Finding and deleting a user's traces in MLflow, with their spans, tags and assessments."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from mangaassist_assets.privacy import is_pseudonym
from mangaassist_assets.tracing.erasure import InvalidUserKeyError
from resources.mlflow.traces.records import USER
from resources.mlflow.traces.search import infos

if TYPE_CHECKING:
    from mlflow import MlflowClient

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
