"""The inference contract: the four functions of a SageMaker container, for every kind of artifact we serve.

The local endpoint process and the SageMaker Hugging Face toolkit both call `model_fn` once and then `input_fn`,
`predict_fn` and `output_fn` for every request. Nothing is loaded that was not verified: the artifact's digest must be
the one in `MANGAASSIST_MODEL_SHA256`, where the deployment sets it.

Requests and answers are JSON. The files in `schemas` describe them, a folder a kind of model:

* intent: `{"text": "…"}` or Hugging Face's `{"inputs": "…"}`, or a list of texts, and `"parameters": {"top_k": 5}`
  → `{"intent": "…", "confidence": 0.93, "in_scope": true, "predictions": [[{"label": "…", "score": 0.93}, …], …],
  "decisions": [{"intent": "…", "in_scope": true, …}, …], "model": {"name": "…", "version": "3", "sha256": "…"}}`.
  Asked with a list, `intent`, `confidence` and `in_scope` are lists too; `predictions` and `decisions` always are.
* reranker: `{"query": "…", "passages": ["…", …]}` or `{"inputs": [{"text": "query", "text_pair": "passage"}, …]}`
  → `{"scores": [0.87, …], "predictions": [{"label": "relevant", "score": 0.87}, …], "model": {…}}`, in their order;
  `model` also has a `family`, the network that serves: `cross-encoder` or `split-attention`
* any other model type: what its model's `answer` says, and `"model"`
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mangaassist_assets.models.artifacts import artifact_kind
from mangaassist_assets.models.model_types import InputError, ServableModel, load_model_type
from mangaassist_assets.serving.request_forms import (
    FORMS,
    BadRequestError,
    InferenceRequest,
    named_forms,
    parse_request,
    quoted,
)

__all__ = [
    "BadRequestError",
    "InferenceRequest",
    "LoadedModel",
    "input_fn",
    "load_model",
    "model_fn",
    "output_fn",
    "predict_fn",
]

NAME_VARIABLE = "MANGAASSIST_MODEL_NAME"
VERSION_VARIABLE = "MANGAASSIST_MODEL_VERSION"
DIGEST_VARIABLE = "MANGAASSIST_MODEL_SHA256"

JSON_CONTENT_TYPE = "application/json"
MAX_BODY_BYTES = 6 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A loaded model with the identity that every answer carries, and its model type.

    `family` is the architecture that serves, where the model says so.
    """

    model: ServableModel
    name: str
    version: str
    sha256: str
    family: str | None = None
    request_forms: tuple[str, ...] = tuple(FORMS)
    text_fields: tuple[str, ...] = ()

    def identity(self) -> dict[str, str]:
        """Return the `model` object of the answer."""
        family = {} if self.family is None else {"family": self.family}
        return {"name": self.name, "version": self.version, "sha256": self.sha256, **family}


def model_fn(model_dir: str, context: object = None) -> LoadedModel:
    """Verify and load the artifact in a directory.

    Raises:
        ArtifactMismatchError: The artifact is damaged, or its digest is not `MANGAASSIST_MODEL_SHA256`.
        UnknownModelTypeError: No class knows artifacts of its kind.
    """
    del context
    return load_model(
        Path(model_dir),
        name=os.environ.get(NAME_VARIABLE, ""),
        version=os.environ.get(VERSION_VARIABLE, ""),
        sha256=os.environ.get(DIGEST_VARIABLE) or None,
    )


def load_model(directory: Path, *, name: str, version: str, sha256: str | None) -> LoadedModel:
    """Verify and load an artifact under the identity that its answers are to carry.

    Raises:
        ArtifactMismatchError: The artifact is damaged, or its digest is not `sha256`.
        UnknownModelTypeError: No class knows artifacts of its kind.
    """
    model_type = load_model_type(artifact_kind(directory))
    model = model_type.load(directory, sha256)
    return LoadedModel(
        model=model,
        name=name,
        version=version,
        sha256=model.digest,
        family=getattr(model, "family", None),
        request_forms=model_type.request_forms,
        text_fields=model_type.text_fields,
    )


def input_fn(body: bytes | bytearray | str, content_type: str, context: object = None) -> InferenceRequest:
    """Parse a request body.

    Raises:
        BadRequestError: Wrong content type, too large, not JSON, or no request of any form.
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
    return parse_request(envelope)


def predict_fn(
    data: InferenceRequest | Mapping[str, Any], model: LoadedModel, context: object = None
) -> dict[str, Any]:
    """Answer a request: what `input_fn` parsed, or the object that a toolkit's own decoder made of the body.

    Raises:
        BadRequestError: The request is of a form that this model is not asked in, an input is of the wrong type or too
            long, or a parameter is out of range.
    """
    del context
    request = data if isinstance(data, InferenceRequest) else parse_request(data)
    if request.form not in model.request_forms:
        raise BadRequestError(
            f"this endpoint is asked with {named_forms(model.request_forms)}, not with {quoted(FORMS[request.form])}"
        )
    try:
        answers = dict(model.model.answer(request.inputs, request.parameters))
    except InputError as error:
        raise BadRequestError(str(error)) from error
    if request.single:
        answers |= {name: answers[name][0] for name in model.text_fields if name in answers}
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
