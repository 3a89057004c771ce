"""Finding and deleting a user's traces in MLflow, with their spans, tags and assessments."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from mangaassist_assets.privacy import is_pseudonym
from mangaassist_assets.tracing.erasure import InvalidUserKeyError

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from resources.mlflow.tracking import MlflowResource

_PAGE = 500
_TRACES_PER_DELETION = 100


class MlflowUserTraces:
    """The traces of users in one experiment."""

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self._client = client
        self._experiment_id = experiment_id

    @classmethod
    def of(cls, mlflow: MlflowResource) -> MlflowUserTraces:
        """Return the chatbot's traces."""
        return cls(mlflow.client(), mlflow.ensure_experiment(mlflow.traces_experiment))

    def trace_ids_of(self, user_key: str) -> frozenset[str]:
        """Return the traces whose metadata name a user.

        Raises:
            InvalidUserKeyError: The key is no pseudonym, and must not reach the filter.
        """
        if not is_pseudonym(user_key):
            raise InvalidUserKeyError("only a pseudonym ('u-' and 20 hexadecimal digits) names a user in traces")
        found: set[str] = set()
        token: str | None = None
        while True:
            page = self._client.search_traces(
                locations=[self._experiment_id],
                filter_string=f"metadata.`mlflow.trace.user` = '{user_key}'",
                max_results=_PAGE,
                # The oldest first: traces that are written meanwhile do not move the pages behind them.
                order_by=["timestamp_ms ASC"],
                page_token=token,
                include_spans=False,
            )
            found.update(trace.info.trace_id for trace in page)
            token = page.token
            if not token:
                return frozenset(found)

    def delete(self, trace_ids: Collection[str]) -> int:
        """Delete traces; those that are gone already do not count."""
        ids = sorted(trace_ids)
        return sum(
            self._client.delete_traces(
                experiment_id=self._experiment_id, trace_ids=ids[start : start + _TRACES_PER_DELETION]
            )
            for start in range(0, len(ids), _TRACES_PER_DELETION)
        )
