"""An endpoint's four functions around `model.onnx` and `tokenizer.json` alone: pooled states of texts."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from mangaassist_assets.models.artifacts import verify_artifact
from mangaassist_assets.models.encoders.tokens import load_tokenizer, pad_id, pad_ids, tokenize
from mangaassist_assets.models.onnx_network import OnnxNetwork
from mangaassist_assets.serving import inference
from mangaassist_assets.serving.inference import input_fn, output_fn

__all__ = ["input_fn", "model_fn", "output_fn", "predict_fn"]


@dataclass(frozen=True, slots=True)
class Model:
    network: OnnxNetwork
    tokenizer: Tokenizer
    pad: int


def model_fn(model_dir: str) -> Model:
    folder = Path(model_dir)
    verify_artifact(folder, os.environ.get(inference.DIGEST_VARIABLE), only=["model.onnx", "tokenizer.json"])
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    return Model(OnnxNetwork(folder / "model.onnx"), tokenizer, pad_id(tokenizer))


def predict_fn(data: inference.InferenceRequest, model: Model) -> dict[str, Any]:
    ids, mask = pad_ids(tokenize(model.tokenizer, data.inputs, max_tokens=64), pad=model.pad)
    (pooled,) = model.network.run({"input_ids": ids, "attention_mask": mask.astype(ids.dtype)}).values()
    return {"pooled": pooled.tolist()}
