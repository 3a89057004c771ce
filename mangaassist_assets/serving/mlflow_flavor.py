"""The loader that MLflow calls for our models: `mlflow.pyfunc.load_model("models:/<name>@champion")`.

It verifies before it loads: the artifact must have the digest that MLmodel names. Answers are the model's own, the same
as an endpoint's; here they only become columns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mangaassist_assets.models.artifacts import ArtifactMismatchError, artifact_kind
from mangaassist_assets.models.model_types import ServableModel, load_model_type

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

ARTIFACT_FOLDER = "artifact"
"""Folder of the sealed artifact in the model's, beside MLmodel."""

DIGEST_OPTION = "artifact_sha256"
"""The option in MLmodel that names the artifact's digest."""


class TextModel:
    """Any model type that is asked one text a row: a frame with the column `text`."""

    def __init__(self, model: ServableModel) -> None:
        """Take a loaded model."""
        self._model = model

    def predict(self, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Return the frame of `columns`, a row for each of the input's.

        Raises:
            InputError: A text or a parameter cannot be used.
        """
        import pandas as pd

        inputs = self.inputs(model_input)
        answer = self._model.answer(inputs, dict(params or {})) if inputs else {"predictions": []}
        return pd.DataFrame(self.columns(answer))

    def inputs(self, frame: pd.DataFrame) -> list[Any]:
        """Return the inputs of the rows, as a request carries them."""
        return frame["text"].tolist()  # type: ignore[no-any-return]

    def columns(self, answer: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Return an answer as columns; of a model type we know nothing about, each prediction as JSON."""
        return {"prediction": [json.dumps(one, ensure_ascii=False) for one in answer["predictions"]]}


class IntentModel(TextModel):
    """An intent classifier: `label` and `score` of the best intent, `out_of_scope`, and `best`, the `top_k` of them."""

    def columns(self, answer: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Return an answer as columns; a model without a threshold takes every message for one of its intents."""
        predictions = answer["predictions"]
        decisions = answer.get("decisions") or [{"in_scope": True}] * len(predictions)
        return {
            "label": [str(labels[0]["label"]) for labels in predictions],
            "score": [float(labels[0]["score"]) for labels in predictions],
            "out_of_scope": [not decision["in_scope"] for decision in decisions],
            "best": [
                [{"label": one["label"], "score": float(one["score"])} for one in labels] for labels in predictions
            ],
        }


class RerankerModel(TextModel):
    """A reranker: columns `text` (query) and `text_pair` (passage), `score` is the probability of relevance."""

    def inputs(self, frame: pd.DataFrame) -> list[Any]:
        """Return query and passage of each row."""
        return frame[["text", "text_pair"]].to_dict("records")  # type: ignore[no-any-return]

    def columns(self, answer: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Return the score of each pair."""
        return {"score": [float(one["score"]) for one in answer["predictions"]]}


_MODELS = {"intent_classifier": IntentModel, "reranker": RerankerModel}


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> TextModel:
    """Verify and load the artifact in a model's folder; MLflow calls this by its name.

    Raises:
        ArtifactMismatchError: MLmodel names no digest, or the artifact is damaged or another one.
        UnknownModelTypeError: Nobody knows its kind.
    """
    directory = Path(path) / ARTIFACT_FOLDER
    digest = (model_config or {}).get(DIGEST_OPTION)
    if not isinstance(digest, str) or not digest:
        raise ArtifactMismatchError(
            f"{Path(path) / 'MLmodel'} names no {DIGEST_OPTION}: what lies in {directory} cannot be checked, so it is "
            "not loaded"
        )
    kind = artifact_kind(directory)
    return _MODELS.get(kind, TextModel)(load_model_type(kind).load(directory, digest))
