"""Requests to an MLflow server for which MLflow's client has no call, or none that is quick enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import requests
    from mlflow import MlflowClient

_Found = TypeVar("_Found", covariant=True)  # noqa: PLC0105 - of the page above all


class Page(Protocol[_Found]):
    """One page of what MLflow's client finds."""

    token: str | None

    def __iter__(self) -> Iterator[_Found]:
        """Yield what is on the page."""


def all_pages(search: Callable[[str | None], Page[_Found]]) -> Iterator[_Found]:
    """Yield what all pages of a search hold; `search` takes the token of a page, None for the first."""
    token: str | None = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return


class SendRequest(Protocol):
    """Sends one request to a server, with its credentials."""

    def __call__(self, path: str, method: str, **options: Any) -> requests.Response:  # noqa: ANN401 - of http_request
        """Return the answer, whatever its status; `options` are those of MLflow's `http_request`."""


def request_sender(client: MlflowClient) -> SendRequest | None:
    """Return what sends requests to the server of a client; None where its store is a database or a folder.

    They go through MLflow's own `http_request` with the credentials of the client's store, so that plugins which sign
    requests, such as sagemaker-mlflow for ARNs, keep working.
    """
    from mlflow.store.tracking.rest_store import RestStore

    # Private, as no public call leads from a client to its store, and only the store knows a plugin's credentials.
    from mlflow.tracking._tracking_service.utils import _get_store
    from mlflow.utils.rest_utils import http_request

    store = _get_store(client.tracking_uri)  # type: ignore[no-untyped-call]
    if not isinstance(store, RestStore):
        return None

    def send(path: str, method: str, **options: Any) -> requests.Response:  # noqa: ANN401 - of http_request
        answer: requests.Response = http_request(store.get_host_creds(), path, method, **options)  # type: ignore[no-untyped-call]
        return answer

    return send
