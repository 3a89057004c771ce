"""Dagster's page behind the guard: `dagster dev`, whose webserver takes what its own page sends and nothing else.

Dagster's webserver asks nobody who they are, takes a mutation by GET, and lets any page open its websocket: an image on
a foreign page, or in a text that a person looks at, was enough to promote a model. `dagster dev` has no option for
another webserver, so its two functions that matter are replaced here, in the processes that this module starts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from mangaassist_assets.core.request_guard import (
    ALLOWED_HOSTS_VARIABLE,
    RequestGuard,
    Scope,
    allowed_names,
    header,
)

MODULE = "mangaassist_assets.local.dagster_page"
PORT_VARIABLE = "MANGAASSIST_DAGSTER_PORT"
GRAPHQL_PATH = "/graphql"
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
# A text shown as Markdown may name images of anywhere: looking at it would tell its author who looks, and when.
CONTENT_POLICY = (
    "img-src 'self' data: blob:; media-src 'self'; frame-src 'self'; frame-ancestors 'none'; form-action 'self'"
)


def only_json(scope: Scope) -> str | None:
    """Refuse what changes something and needs no permission of the page that is asked: anything but a POST of JSON."""
    if scope["type"] == "websocket":
        return None if scope["path"].rstrip("/") == GRAPHQL_PATH else "no websocket is there"
    if scope["method"] in _READING:
        if scope["path"].rstrip("/").endswith(GRAPHQL_PATH) and scope.get("query_string"):
            return "GraphQL is asked by POST with a JSON body"
        return None
    media_type = (header(scope, b"content-type") or "").partition(";")[0].strip().lower()
    if scope["method"] == "POST" and media_type == "application/json":
        return None
    return f"it is {scope['method']} of {media_type[:60] or 'no content type'}, not POST of application/json"


def guarded_app(*arguments: Any, **options: Any) -> RequestGuard:  # noqa: ANN401 - Dagster's own, passed on
    """Return Dagster's web application behind the guard."""
    from dagster_webserver.app import create_app_from_workspace_process_context

    return RequestGuard(
        create_app_from_workspace_process_context(*arguments, **options),
        port=int(os.environ[PORT_VARIABLE]),
        pages=True,
        names=allowed_names(os.environ.get(ALLOWED_HOSTS_VARIABLE)),
        rules=[only_json],
        policy=CONTENT_POLICY,
    )


def _replace(module: object, name: str, value: object) -> None:
    # Of a later Dagster without it: fail, and do not serve without a guard.
    if not hasattr(module, name):
        raise LookupError(f"this Dagster has no {name}: its page would be served without its guard")
    setattr(module, name, value)


def serve_page() -> None:
    """Be `dagster-webserver`, with the guard in front."""
    from dagster_webserver import cli

    _replace(cli, "create_app_from_workspace_process_context", guarded_app)
    cli.main()  # type: ignore[no-untyped-call]


def serve_all() -> None:
    """Be `dagster dev`, with this module in place of its webserver."""
    from dagster._cli import cli, dev
    from dagster_shared.ipc import open_ipc_subprocess

    def start_guarded(parts: list[str], **options: Mapping[str, object]) -> object:
        command = [MODULE if part == "dagster_webserver" else part for part in parts]
        if MODULE not in command and "dagster._daemon" not in command:
            raise LookupError(f"this Dagster starts {parts[1:4]}, which is neither the page nor the daemon")
        return open_ipc_subprocess(command, **options)

    _replace(dev, "open_ipc_subprocess", start_guarded)
    sys.argv[0] = "dagster"
    cli(auto_envvar_prefix="DAGSTER_CLI")


if __name__ == "__main__":
    serve_all() if sys.argv[1:2] == ["dev"] else serve_page()
