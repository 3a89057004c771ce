"""Claims about pretrained encoders: the exact fold, the names, the tokenizer, the texts it takes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mangaassist_assets.models.encoders import pretrained as encoders
from mangaassist_assets.models.encoders.pretrained import (
    BaseModelError,
    clean_text,
    length_batches,
    load_base,
    pad_ids,
    sentence_features,
    tokenize,
    write_encoder,
)
from tests.support.timing import growth

TEXTS = ["Where is volume 3?", "does the sequel of the blue lantern come out in paperback this spring", "返品", ""]


def packaged() -> Path:
    return encoders._packaged_minilm_directory()


def test_the_folded_encoder_has_the_hidden_states_of_the_published_bert_and_is_a_distilbert(tmp_path: Path) -> None:
    from transformers import BertModel, DistilBertModel

    base = load_base()
    ids, mask = pad_ids(tokenize(base.tokenizer, TEXTS, max_tokens=64))
    weights = dict(base.encoder.state_dict())
    write_encoder(tmp_path, weights, base.encoder.shape.to_config(), base.tokenizer)
    with torch.no_grad():
        ours = base.encoder(ids, mask)
        bert = BertModel.from_pretrained(packaged(), add_pooling_layer=False).eval()
        published = bert(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        distilbert = DistilBertModel.from_pretrained(tmp_path).eval()
        folded = distilbert(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    # BERT adds its three embeddings in another order: that rounding, a few 1e-6 after six layers, is all that differs.
    assert (ours - published)[mask].abs().max() < 1e-5
    assert (ours - folded)[mask].abs().max() < 1e-6


def test_changed_weights_are_refused_with_their_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(packaged(), tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    monkeypatch.setattr(encoders, "_packaged_minilm_directory", lambda: tmp_path / "model")
    with pytest.raises(BaseModelError, match=r"model\.safetensors has SHA-256 .* expected 53aa5117"):
        load_base()


def test_a_directory_is_a_base_too(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copy(packaged() / name, tmp_path)
    sequences = tokenize(load_base().tokenizer, TEXTS, max_tokens=32)
    here, there = load_base().encoder, load_base(str(tmp_path)).encoder
    assert (sentence_features(here, sequences) == sentence_features(there, sequences)).all()


def test_a_directory_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"lacks config\.json, model\.safetensors, tokenizer\.json"):
        load_base(str(tmp_path))


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    for name in ("model.safetensors", "tokenizer.json"):
        shutil.copy(packaged() / name, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(BaseModelError, match="model_type 'gpt2'"):
        load_base(str(tmp_path))


def test_weights_that_do_not_fit_the_configuration_are_refused(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(packaged() / name, tmp_path)
    weights = load_file(packaged() / "model.safetensors")
    del weights["encoder.layer.5.output.dense.bias"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(BaseModelError, match=r"missing \['transformer\.layer\.5\.ffn\.lin2\.bias'\]"):
        load_base(str(tmp_path))


def test_padding_does_not_change_a_sentence() -> None:
    base = load_base()
    sequences = tokenize(base.tokenizer, TEXTS, max_tokens=64)
    together = sentence_features(base.encoder, sequences)
    alone = np.concatenate([sentence_features(base.encoder, [sequence]) for sequence in sequences])
    assert np.abs(together - alone).max() < 1e-5


def test_the_tokenizer_neither_pads_nor_truncates_to_128() -> None:
    tokenizer = load_base().tokenizer
    short, long = tokenize(tokenizer, ["hello", "hello " * 300], max_tokens=512)
    assert len(short) == 3
    assert len(long) == 302


def test_a_cut_text_keeps_its_separator() -> None:
    tokenizer = load_base().tokenizer
    (cut,) = tokenize(tokenizer, ["hello " * 300], max_tokens=16)
    assert len(cut) == 16
    assert cut[0] == tokenizer.token_to_id("[CLS]")
    assert cut[-1] == tokenizer.token_to_id("[SEP]")


@pytest.mark.parametrize(
    "text", ["", " \t\n", "\x00\x01\x02", "\ud800 lone surrogate", "進撃", "a" * 100_000, " " * 100_000]
)
def test_any_string_becomes_tokens(text: str) -> None:
    (ids,) = tokenize(load_base().tokenizer, [text], max_tokens=64)
    assert 2 <= len(ids) <= 64


def test_a_hundred_long_texts_are_cut_before_they_are_tokenized() -> None:
    tokenizer = load_base().tokenizer

    def work(times: int) -> None:
        tokenize(tokenizer, ["where is my order " * times] * 100, max_tokens=64)

    assert growth(work, 60, 11_000, enough=5) < 5


def test_cleaning_keeps_what_tokens_can_hold() -> None:
    assert clean_text("  a\n b\t", max_tokens=8) == "a b"
    assert len(clean_text("word " * 10_000, max_tokens=8)) == 8 * 16


def test_length_batches_cover_every_index_within_their_budget() -> None:
    lengths = [5, 1, 9, 3, 3, 100, 2]
    batches = list(length_batches(lengths, max_tokens=12))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= 12 for batch in batches)
