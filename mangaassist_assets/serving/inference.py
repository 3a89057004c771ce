"""The inference contract: the four functions of a SageMaker container, for every kind of artifact we serve.

The local endpoint process and the SageMaker Hugging Face toolkit both call `model_fn` once and then `input_fn`,
`predict_fn` and `output_fn` for every request. Nothing is loaded that was not verified: the artifact's digest must be
the one in `MANGAASSIST_MODEL_SHA256`, where the deployment sets it.

Requests and answers are JSON, Hugging Face shapes in an envelope that says which model answered:

* intent: `{"inputs": ["text", …], "parameters": {"top_k": 5}}` →
  `{"predictions": [[{"label": "…", "score": 0.93}, …], …], "decisions": [{"intent": "…", "in_scope": true, …}, …],
  "model": {"name": "…", "version": "3", "sha256": "…"}}`
* reranker: `{"inputs": [{"text": "query", "text_pair": "passage"}, …]}` →
  `{"predictions": [{"label": "relevant", "score": 0.87}, …], "model": {…}}`
* any other family: what its model's `answer` says, and `"model"`
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mangaassist_assets.learning.artifacts import artifact_kind
from mangaassist_assets.learning.families import InputError, ServableModel
from mangaassist_assets.learning.family_registry import load_family

NAME_VARIABLE = "MANGAASSIST_MODEL_NAME"
VERSION_VARIABLE = "MANGAASSIST_MODEL_VERSION"
DIGEST_VARIABLE = "MANGAASSIST_MODEL_SHA256"

JSON_CONTENT_TYPE = "application/json"
MAX_INPUTS = 256
MAX_BODY_BYTES = 6 * 1024 * 1024


class BadRequestError(ValueError):
    """The request is wrong, not the model: the server answers 400 with this message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A loaded model with the identity that every answer carries."""

    model: ServableModel
    name: str
    version: str
    sha256: str

    def identity(self) -> dict[str, str]:
        """Return the `model` object of the answer."""
        return {"name": self.name, "version": self.version, "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """A parsed request: `inputs` as they came, one or more; `parameters` by name."""

    inputs: list[Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)


def model_fn(model_dir: str, context: object = None) -> ServedModel:
    """Verify and load the artifact in a directory.

    Args:
        model_dir: The artifact's directory.
        context: Ignored; the SageMaker toolkit passes one.

    Raises:
        ArtifactMismatchError: The artifact is damaged, or its digest is not `MANGAASSIST_MODEL_SHA256`.
        UnknownFamilyError: No class knows artifacts of its kind.
    """
    del context
    directory = Path(model_dir)
    expected = os.environ.get(DIGEST_VARIABLE) or None
    model = load_family(artifact_kind(directory)).load(directory, expected)
    return ServedModel(
        model=model,
        name=os.environ.get(NAME_VARIABLE, ""),
        version=os.environ.get(VERSION_VARIABLE, ""),
        sha256=model.digest,
    )


def input_fn(body: bytes | bytearray | str, content_type: str, context: object = None) -> InferenceRequest:
    """Parse a request body.

    Raises:
        BadRequestError: Wrong content type, too large, not JSON, or not the envelope.
    """
    del context
    media_type = (content_type or "").split(";")[0].strip().lower()
    if media_type != JSON_CONTENT_TYPE:
        raise BadRequestError(f"content type {media_type!r} is not supported, send {JSON_CONTENT_TYPE}")
    if len(body) > MAX_BODY_BYTES:
        raise BadRequestError(f"the request has {len(body)} bytes, at most {MAX_BODY_BYTES} are allowed")
    try:
        envelope = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"the request is not valid JSON ({type(error).__name__})") from error
    if not isinstance(envelope, dict) or "inputs" not in envelope:
        raise BadRequestError('the request must be an object with "inputs"')
    inputs = envelope["inputs"]
    if isinstance(inputs, str | dict):
        inputs = [inputs]
    if not isinstance(inputs, list) or not inputs:
        raise BadRequestError('"inputs" must be a list with at least one item')
    if len(inputs) > MAX_INPUTS:
        raise BadRequestError(f'"inputs" has {len(inputs)} items, at most {MAX_INPUTS} are allowed')
    parameters = envelope.get("parameters")
    if parameters is None:
        parameters = {}
    if not isinstance(parameters, dict):
        raise BadRequestError('"parameters" must be an object')
    return InferenceRequest(inputs, parameters)


def predict_fn(data: InferenceRequest, model: ServedModel, context: object = None) -> dict[str, Any]:
    """Answer a parsed request.

    Raises:
        BadRequestError: An input is of the wrong type or too long, or a parameter is out of range.
    """
    del context
    try:
        answers = model.model.answer(data.inputs, data.parameters)
    except InputError as error:
        raise BadRequestError(str(error)) from error
    return {**answers, "model": model.identity()}


def output_fn(prediction: Mapping[str, Any], accept: str, context: object = None) -> bytes:
    """Serialise an answer.

    Raises:
        BadRequestError: The client accepts no JSON.
    """
    del context
    accepted = [part.split(";")[0].strip().lower() for part in (accept or "*/*").split(",")]
    if not {"*/*", "application/*", JSON_CONTENT_TYPE} & set(accepted):
        raise BadRequestError(f"cannot answer as {accept!r}, accept {JSON_CONTENT_TYPE}")
    return json.dumps(prediction, allow_nan=False).encode("ascii")
