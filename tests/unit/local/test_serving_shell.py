from __future__ import annotations

import asyncio
import json
import logging
import types

import pytest
from starlette.responses import Response

from mangaassist_assets.serving.server import MAX_WAITING, ModelHost


class BadRequestError(ValueError):
    pass


def parse(body: bytes, _content_type: str) -> object:
    try:
        return json.loads(body)
    except ValueError as error:
        raise BadRequestError(f"not JSON: {error}") from error


def predict(data: object, _model: object) -> object:
    if data == "unfit":
        raise BadRequestError("unfit for the model")
    if data == "secret":
        raise RuntimeError(f"cannot answer {data}")
    return data


@pytest.fixture
def host() -> ModelHost:
    module = types.ModuleType("entry")
    module.BadRequestError = BadRequestError  # type: ignore[attr-defined]
    module.input_fn = parse  # type: ignore[attr-defined]
    module.predict_fn = predict  # type: ignore[attr-defined]
    module.output_fn = lambda prediction, accept: (json.dumps(prediction).encode(), accept)  # type: ignore[attr-defined]
    return ModelHost(module, object())


def ask(host: ModelHost, body: bytes) -> tuple[int, object]:
    response = asyncio.run(host.answer(body, "application/json", "application/json"))
    return response.status_code, json.loads(bytes(response.body))


def test_an_answer_passes_through_all_four_functions(host: ModelHost) -> None:
    assert ask(host, b'{"inputs": ["x"]}') == (200, {"inputs": ["x"]})


@pytest.mark.parametrize("body", [b"{", b'"unfit"'])
def test_a_bad_request_is_the_clients_error_with_its_reason(host: ModelHost, body: bytes) -> None:
    status, content = ask(host, body)
    assert status == 400
    assert content["error"]["type"] == "BadRequestError"  # type: ignore[index]
    assert content["error"]["message"]  # type: ignore[index]


def test_an_error_of_the_model_is_answered_with_its_message_and_logged_without_it(
    host: ModelHost, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        status, content = ask(host, b'"secret"')
    assert (status, content) == (500, {"error": {"type": "RuntimeError", "message": "cannot answer secret"}})
    assert "RuntimeError while answering" in caplog.text
    assert "predict" in caplog.text
    assert "cannot answer secret" not in caplog.text


def test_more_waiting_requests_than_the_limit_are_turned_away(host: ModelHost) -> None:
    async def flood() -> list[Response]:
        return await asyncio.gather(*(host.answer(b"1", "a/b", "a/b") for _ in range(MAX_WAITING + 5)))

    statuses = [response.status_code for response in asyncio.run(flood())]
    assert statuses.count(503) == 5
    assert statuses.count(200) == MAX_WAITING
