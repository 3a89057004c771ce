"""Whether a version answers as production asks: the real inference code on the artifact, before it is deployed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mangaassist_assets.serving.endpoint_schemas import EndpointSchemas
from mangaassist_assets.serving.inference import (
    JSON_CONTENT_TYPE,
    LoadedModel,
    input_fn,
    load_model,
    output_fn,
    predict_fn,
)

_MESSAGE_CHARACTERS = 300


def artifact_breaches(
    directory: Path, schemas: EndpointSchemas, forms: Iterable[str], *, name: str, version: str, sha256: str | None
) -> list[str]:
    """Load an artifact as a container does, and return where its answers break the contract; nothing if nowhere.

    Args:
        directory: The sealed artifact.
        schemas: Of the endpoint that it is to serve.
        forms: The forms of request that it has to answer.
        name: Of the registered model.
        version: Its version.
        sha256: The digest that the registry names.
    """
    try:
        model = load_model(directory, name=name, version=version, sha256=sha256)
    except Exception as error:  # noqa: BLE001 - a version that cannot be loaded, for whatever reason, cannot serve
        return [f"it cannot be loaded: {type(error).__name__}: {error}"]
    return contract_breaches(model, schemas, forms)


def contract_breaches(model: LoadedModel, schemas: EndpointSchemas, forms: Iterable[str]) -> list[str]:
    """Ask a loaded model the examples of each form, and return where its answers break the response schema."""
    return [
        f"asked {_shown(request)}: {problem}"
        for form in forms
        for request in schemas.examples(form)
        for problem in _problems(model, schemas, form, request)
    ]


def _problems(model: LoadedModel, schemas: EndpointSchemas, form: str, request: Mapping[str, Any]) -> list[str]:
    body = json.dumps(request).encode("ascii")
    try:
        answer = output_fn(predict_fn(input_fn(body, JSON_CONTENT_TYPE), model), JSON_CONTENT_TYPE)
    except Exception as error:  # noqa: BLE001 - the model's errors, of any kind, are what is looked for
        return [f"{type(error).__name__}: {str(error)[:_MESSAGE_CHARACTERS]}"]
    return schemas.problems(form, request, json.loads(answer))


def _shown(request: Mapping[str, Any]) -> str:
    """Return the outline of a request: its members, and how many of what each holds."""
    return "{" + ", ".join(f'"{name}": {_outline(value)}' for name, value in request.items()) + "}"


def _outline(value: object) -> str:
    if isinstance(value, list):
        return f"[{_outline(value[0])}, …]" if value else "[]"
    return '"…"' if isinstance(value, str) else json.dumps(value)[:40]
