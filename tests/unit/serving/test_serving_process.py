"""Claims about what the process of an endpoint loads."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from mangaassist_assets.models.artifacts import seal_artifact
from mangaassist_assets.models.examples import IntentExample
from mangaassist_assets.models.onnx_export import export_onnx
from mangaassist_assets.models.reranker.model import Reranker
from tests.support.intent_training import QUICK, train_on
from tests.support.serving_process import first_answer
from tests.support.tiny_encoders import MeanPooled, tiny_batch, tiny_encoder
from tests.support.tiny_ranker import train_tiny, write_tiny_base

TRAINING_ONLY = {"torch", "transformers", "sentence_transformers", "safetensors", "onnxscript"}
PLATFORM = {"polars", "pyarrow", "pandas", "scipy", "sklearn", "matplotlib", "jsonschema", "mlflow", "boto3", "dagster"}


def test_a_model_of_onnx_is_answered_without_torch_and_without_the_platforms_libraries(tmp_path: Path) -> None:
    network = MeanPooled(tiny_encoder("bert")).eval()
    axes = {0: "batch", 1: "length"}
    dynamic = {"input_ids": axes, "attention_mask": axes, "pooled": {0: "batch"}}
    batch = tiny_batch(2, 5, pad=0)
    (tmp_path / "model.onnx").write_bytes(export_onnx(network, batch, outputs=["pooled"], dynamic=dynamic))
    tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, "[CLS]": 2, "[SEP]": 3, "volume": 7, "?": 8}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    seal_artifact(tmp_path, "pooled_text")

    found = first_answer(tmp_path, {"text": "volume 3"}, entry_point="tests.support.onnx_entry_point")

    ids = torch.tensor([[2, 7, 8, 3]])
    with torch.no_grad():
        expected = network(ids, torch.ones_like(ids)).numpy()
    np.testing.assert_allclose(found.answer["pooled"], expected, atol=1e-5)
    assert not (TRAINING_ONLY | PLATFORM) & found.modules


def test_an_intent_classifier_is_answered_without_torch(tiny_base: Callable[[str], Path], tmp_path: Path) -> None:
    messages = [("hello", "greeting"), ("good morning", "greeting"), ("send it back", "return"), ("refund", "return")]
    result = train_on(
        [IntentExample(example_id=text, text=text, intent=intent) for text, intent in messages],
        [],
        config=replace(QUICK, fine_tune=False),
        base=str(tiny_base("bert")),
        output=tmp_path / "intent",
    )
    found = first_answer(result.directory, {"text": "good morning"}, entry_point="mangaassist_assets.serving.inference")
    assert found.answer["intent"] == "greeting"
    assert not (TRAINING_ONLY | PLATFORM) & found.modules


@pytest.mark.parametrize("network", ["split-attention", "cross-encoder"])
def test_a_reranker_is_answered_without_torch(network: str, tmp_path: Path) -> None:
    result = train_tiny(tmp_path, base=write_tiny_base(tmp_path / "base"), network=network, checkpoints=False)
    pairs = [("is there a crane", "what the shop says about the crane"), ("voucher", "parcel")]
    request = {"inputs": [{"text": query, "text_pair": passage} for query, passage in pairs]}
    found = first_answer(result.directory, request, entry_point="mangaassist_assets.serving.inference")
    np.testing.assert_allclose(found.answer["scores"], Reranker.load(result.directory).score(pairs), atol=1e-6)
    assert found.answer["model"]["family"] == network
    assert not (TRAINING_ONLY | PLATFORM) & found.modules
