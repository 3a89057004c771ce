"""The MLflow server in one process on a socket that the supervisor hands over.

`mlflow server` imports MLflow twice, once to start itself again under uvicorn, which takes the longest part of its
start, and the second process outlives a killed first. This does the same steps in one process.
"""

from __future__ import annotations

import argparse
import gc
import os
import socket
from pathlib import Path

from mangaassist_assets.core.request_guard import ALLOWED_HOSTS_VARIABLE, OWN_NAMES, RequestGuard, allowed_names
from mangaassist_assets.local.ports import port_of

# A text shown as Markdown may name images of anywhere: looking at it would tell its author who looks, and when.
CONTENT_POLICY = "img-src 'self' data: blob:"


def main() -> None:
    """Serve until SIGTERM; the database's schema is created or upgraded first."""
    parser = argparse.ArgumentParser(description="MLflow server of the local stand-ins")
    parser.add_argument("--fd", type=int, required=True, help="the inherited listening socket")
    parser.add_argument("--folder", type=Path, required=True, help="holds mlflow.db and artifacts/")
    parser.add_argument("--store-uri", help="SQLAlchemy URL of another database than the folder's mlflow.db")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    database: str = arguments.store_uri or f"sqlite:///{folder / 'mlflow.db'}"
    artifacts = (folder / "artifacts").as_uri()

    # The job runner is a second process for features nobody uses here; MLflow reads these when it is imported.
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    # Else the first span with a price makes the server ask the internet for a list, for seconds where there is none.
    os.environ.setdefault("MLFLOW_MODEL_CATALOG_URI", "")
    os.environ["_MLFLOW_SGI_NAME"] = "uvicorn"
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # it would be a client of itself

    listener = socket.socket(fileno=arguments.fd)
    port = port_of(listener)
    names = allowed_names(os.environ.get(ALLOWED_HOSTS_VARIABLE))
    # The guard in front is the stricter of the two, and MLflow's own must not refuse what it lets through.
    os.environ["MLFLOW_SERVER_ALLOWED_HOSTS"] = ",".join([*(f"{name}:{port}" for name in OWN_NAMES), *names])
    os.environ["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] = ",".join(
        f"{scheme}://{name}" for name in names for scheme in ("http", "https")
    )

    import uvicorn
    from mlflow.server import constants
    from mlflow.server.handlers import initialize_backend_stores

    os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = database
    os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = artifacts
    initialize_backend_stores(database, database, artifacts)

    from mlflow.server.fastapi_app import app

    # An answer with spans is made of a hundred thousand objects that all go away together; looking through them again
    # and again for cycles took a third of its time.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)

    # MLflow says itself which of its pages may be framed: a notebook shows traces so.
    guarded = RequestGuard(app, port=port, pages=True, names=names, policy=CONTENT_POLICY, framed=True)
    config = uvicorn.Config(guarded, access_log=False, log_level="warning", timeout_graceful_shutdown=5)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
