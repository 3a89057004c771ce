"""The serving process: SageMaker's container contract over HTTP, for an endpoint on one machine.

`GET /ping` answers 200 once the model is loaded, `POST /invocations` answers one request at a time. What a request
means is the business of the entry point, a module with SageMaker's four functions: `model_fn(model_dir)`,
`input_fn(body, content_type)`, `predict_fn(data, model)` and `output_fn(prediction, accept)`. On SageMaker its own
toolkit takes this place.

Logs say what failed and where in the code, never what a request said: it is a shopper's message.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import importlib
import logging
import os
import socket
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mangaassist_assets.core.request_guard import Application, RequestGuard, Scope, header

HOST = "127.0.0.1"
ENTRY_POINT = "mangaassist_assets.serving.inference"
MAX_BODY_BYTES = 6_291_456  # SageMaker's limit for real-time invocations
MAX_WAITING = 64
MESSAGE_CHARACTERS = 500
JSON = "application/json"
PING_PATH = "/ping"
KEY_VARIABLE, KEY_HEADER = "MANGAASSIST_INVOCATION_KEY", "x-mangaassist-invocation-key"
"""What the local SageMaker that starts this process says with each request, so that nobody goes around it."""

_logger = logging.getLogger(__name__)


class ModelHost:
    """A loaded model behind its entry point; answers one request at a time in a thread of its own."""

    def __init__(self, entry_point: ModuleType, model: Any) -> None:  # noqa: ANN401 - whatever model_fn returns
        self._entry_point = entry_point
        self._model = model
        self._bad_request: type[Exception] = getattr(entry_point, "BadRequestError", ValueError)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")
        self._waiting = 0

    async def answer(self, body: bytes, content_type: str, accept: str) -> Response:
        """Return the response to one request; errors are responses, too."""
        if self._waiting >= MAX_WAITING:
            return _error(503, "Overloaded", f"{MAX_WAITING} requests are waiting already")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, self._answer, body, content_type, accept
            )
        finally:
            self._waiting -= 1

    def _answer(self, body: bytes, content_type: str, accept: str) -> Response:
        try:
            data = self._entry_point.input_fn(body, content_type)
        except ValueError as error:
            return _error(400, type(error).__name__, str(error))
        try:
            output = self._entry_point.output_fn(self._entry_point.predict_fn(data, self._model), accept)
        except self._bad_request as error:
            return _error(400, type(error).__name__, str(error))
        except Exception as error:  # noqa: BLE001 - the model's errors, of any kind, are answers of status 500
            # Frames only: the message may quote the request.
            frames = "".join(traceback.format_tb(error.__traceback__))
            _logger.error("%s while answering a request\n%s", type(error).__name__, frames)  # noqa: TRY400 - as above
            return _error(500, type(error).__name__, str(error))
        content, media_type = output if isinstance(output, tuple) else (output, JSON)
        return Response(content, media_type=media_type)


def create_app(host: ModelHost, *, max_body_bytes: int = MAX_BODY_BYTES) -> Starlette:
    """Return the application that serves a loaded model."""

    async def ping(_request: Request) -> Response:
        return Response(status_code=200)

    async def invocations(request: Request) -> Response:
        chunks: list[bytes] = []
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > max_body_bytes:
                return _error(413, "RequestTooLarge", f"the request has more than {max_body_bytes} bytes")
            chunks.append(chunk)
        content_type = request.headers.get("content-type", JSON)
        return await host.answer(b"".join(chunks), content_type, request.headers.get("accept", JSON))

    return Starlette(
        routes=[Route(PING_PATH, ping, methods=["GET"]), Route("/invocations", invocations, methods=["POST"])]
    )


def guarded(application: Application, *, port: int, key: str | None) -> RequestGuard:
    """Return the application behind a guard; with a `key` it answers those alone that send it."""

    def only_with_key(scope: Scope) -> str | None:
        if key is None or (scope["type"] == "http" and scope["path"] == PING_PATH):
            return None
        if hmac.compare_digest((header(scope, KEY_HEADER.encode()) or "").encode(), key.encode()):
            return None
        return "it does not come from this endpoint's SageMaker"

    return RequestGuard(application, port=port, pages=False, rules=[only_with_key])


def _error(status: int, kind: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"type": kind, "message": message[:MESSAGE_CHARACTERS]}}, status_code=status)


def main() -> None:
    """Load the model, then serve until SIGTERM; a model that cannot be loaded ends the process with its reason."""
    parser = argparse.ArgumentParser(description="Serve one model under SageMaker's container contract")
    parser.add_argument("--model-dir", type=Path, required=True, help="the model artifact's folder")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", type=int, help="the port on 127.0.0.1")
    where.add_argument("--fd", type=int, help="an inherited listening socket")
    parser.add_argument(
        "--entry-point",
        default=os.environ.get("MANGAASSIST_ENTRY_POINT", ENTRY_POINT),
        help="module with model_fn, input_fn, predict_fn and output_fn (default: %(default)s)",
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Before the entry point imports a numerical library, which reads it once. One endpoint must not take all cores.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 2) // 2)))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

    # Before the entry point is imported, whose business it is not.
    key = os.environ.pop(KEY_VARIABLE, None)
    started = time.monotonic()
    try:
        entry_point = importlib.import_module(arguments.entry_point)
        model = entry_point.model_fn(str(arguments.model_dir))
    except Exception as error:
        _logger.exception("the model in %s cannot be loaded", arguments.model_dir)
        sys.exit(f"cannot serve {arguments.model_dir}: {type(error).__name__}: {error}")
    _logger.info("loaded %s in %.1f s", arguments.model_dir, time.monotonic() - started)

    if arguments.fd is None:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, arguments.port))
    else:
        listener = socket.socket(fileno=arguments.fd)
    app = guarded(create_app(ModelHost(entry_point, model)), port=listener.getsockname()[1], key=key)
    config = uvicorn.Config(app, access_log=False, log_level="warning", timeout_graceful_shutdown=5)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
