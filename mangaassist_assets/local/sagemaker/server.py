"""SageMaker and SageMaker Runtime on one machine: the subset of both APIs that this project uses, on the wire.

Plain boto3 talks to it through `AWS_ENDPOINT_URL_SAGEMAKER` and `AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME`. Behind every
endpoint runs the real serving process. SageMaker speaks JSON 1.1 with the operation in X-Amz-Target, the runtime REST
with the body as payload; one server answers both. Started as
`python -m mangaassist_assets.local.sagemaker.server --home FOLDER (--port N | --fd N)`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mangaassist_assets.core.request_guard import Application, RequestGuard, Scope, signed_for
from mangaassist_assets.local.home import Home
from mangaassist_assets.local.ports import listen_on, port_of
from mangaassist_assets.local.sagemaker.api import SageMakerApi
from mangaassist_assets.local.sagemaker.endpoints import Endpoints
from mangaassist_assets.local.sagemaker.errors import ApiError
from mangaassist_assets.local.sagemaker.state import State

TARGET_PREFIX = "SageMaker."
READY_PATH = "/ready"
SIGNED_FOR = "sagemaker"  # both APIs
MAX_API_BYTES = 1_000_000
MAX_INVOCATION_BYTES = 6_291_456  # the service's limit for real-time invocations
THREADS = 64  # each waiting invocation and each health check holds one
CUSTOM_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


def create_app(home: Home) -> Starlette:
    """Return the application; its lifespan brings the home's endpoints back and stops their processes."""
    state = State.load(home.sagemaker / "state.json")
    endpoints = Endpoints(state, folder=home.sagemaker, logs=home.logs)
    api = SageMakerApi(state, endpoints)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(max_workers=THREADS))
        endpoints.recover()
        try:
            yield
        finally:
            await endpoints.close()

    async def call(request: Request) -> Response:
        try:
            operation = _operation(request)
            parameters = _parse(await _body(request, limit=MAX_API_BYTES, code="ValidationException"))
            return _json(api.answer(operation, parameters))
        except ApiError as error:
            return _json({"__type": error.code, "message": error.message}, status=error.status)

    async def invoke(request: Request) -> Response:
        try:
            body = await _body(request, limit=MAX_INVOCATION_BYTES, code="ValidationError")
            passed = {"content-type": request.headers.get("content-type", "application/octet-stream")}
            passed |= {k: v for k in ("accept", CUSTOM_ATTRIBUTES) if (v := request.headers.get(k)) is not None}
            variant, answer = await endpoints.invoke(
                request.path_params["name"],
                body,
                passed,
                target=request.headers.get("x-amzn-sagemaker-target-variant"),
            )
        except ApiError as error:
            return _runtime_error(error)
        headers = {"x-Amzn-Invoked-Production-Variant": variant, "x-amzn-RequestId": str(uuid4())}
        if answer.custom_attributes is not None:
            headers[CUSTOM_ATTRIBUTES] = answer.custom_attributes
        return Response(answer.body, headers=headers, media_type=answer.content_type)

    async def ready(_request: Request) -> Response:
        return Response(status_code=200 if endpoints.is_ready else 503)

    return Starlette(
        routes=[
            Route("/", call, methods=["POST"]),
            Route("/endpoints/{name}/invocations", invoke, methods=["POST"]),
            Route(READY_PATH, ready, methods=["GET"]),
        ],
        lifespan=lifespan,
    )


def guarded(application: Application, *, port: int, access_key: str) -> RequestGuard:
    """Return the application behind a guard: whoever may call it may run code as this user."""

    def only_signed(scope: Scope) -> str | None:
        if scope["type"] == "http" and scope["path"] == READY_PATH:
            return None
        if signed_for(scope, access_key) == SIGNED_FOR:
            return None
        return "it is not signed with this home's access key (its access.key; commands of mangaassist set it)"

    return RequestGuard(application, port=port, pages=False, rules=[only_signed])


def _operation(request: Request) -> str:
    target = request.headers.get("x-amz-target", "")
    if not target.startswith(TARGET_PREFIX):
        raise ApiError("UnknownOperationException", f"X-Amz-Target must name an operation of SageMaker, not {target!r}")
    return target.removeprefix(TARGET_PREFIX)


async def _body(request: Request, *, limit: int, code: str) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise ApiError(code, f"The request has {declared} bytes; at most {limit} are taken.", status=413)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise ApiError(code, f"The request has more than {limit} bytes.", status=413)
        chunks.append(chunk)
    return b"".join(chunks)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        parameters = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise ApiError("SerializationException", f"The request is not JSON: {error}") from error
    if not isinstance(parameters, dict):
        raise ApiError("SerializationException", "The request must be a JSON object.")
    return parameters


def _json(content: dict[str, Any], *, status: int = 200) -> Response:
    return Response(
        json.dumps(content),
        status_code=status,
        media_type="application/x-amz-json-1.1",
        headers={"x-amzn-RequestId": str(uuid4())},
    )


def _runtime_error(error: ApiError) -> Response:
    return Response(
        json.dumps({"Message": error.message, "ErrorCode": error.code, **error.extra}),
        status_code=error.status,
        media_type="application/json",
        headers={"x-amzn-ErrorType": error.code, "x-amzn-RequestId": str(uuid4())},
    )


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="Local stand-in for SageMaker and SageMaker Runtime")
    parser.add_argument("--home", required=True, help="the home directory that keeps its state")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", type=int, help="the port on 127.0.0.1")
    where.add_argument("--fd", type=int, help="an inherited listening socket")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    listener = (
        listen_on(arguments.port, service="SageMaker") if arguments.fd is None else socket.socket(fileno=arguments.fd)
    )
    home = Home.open(arguments.home)
    application = guarded(create_app(home), port=port_of(listener), access_key=home.access_key())
    config = uvicorn.Config(application, access_log=False, log_level="warning", timeout_graceful_shutdown=5)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
