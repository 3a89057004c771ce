"""What one would serve without this platform: transformers' pipeline on the artifact's folder, by the same server."""

import os
from typing import Any

import torch
from transformers import Pipeline, pipeline

from mangaassist_assets.serving.inference import BadRequestError, InferenceRequest, input_fn, output_fn

__all__ = ["BadRequestError", "input_fn", "model_fn", "output_fn", "predict_fn"]


def model_fn(model_dir: str) -> Pipeline:
    """Return the pipeline, on as many threads as ONNX Runtime has in the other process."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    return pipeline("text-classification", model=model_dir, device="cpu")


def predict_fn(data: InferenceRequest, model: Pipeline) -> dict[str, Any]:
    """Answer with the best labels."""
    return {"predictions": model(list(data.inputs), top_k=int(data.parameters.get("top_k", 5)), truncation=True)}
