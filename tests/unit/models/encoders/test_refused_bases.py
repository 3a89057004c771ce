"""Claims about base models that cannot be used: each is refused with its name, the reason and what to do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mangaassist_assets.models.encoders.pretrained import BaseModelError, load_base
from tests.support.tiny_encoders import VOCABULARY, tiny_tokenizer

TinyBase = Callable[[str], Path]


@pytest.fixture
def bert(tiny_base: TinyBase, tmp_path: Path) -> Path:
    """A folder of its own, for a test to spoil."""
    return Path(shutil.copytree(tiny_base("bert"), tmp_path / "base"))


def refused(folder: Path, because: str) -> None:
    with pytest.raises(BaseModelError, match=because) as caught:
        load_base(str(folder))
    assert str(folder) in str(caught.value)


def configured(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def test_a_whole_one_is_taken(bert: Path) -> None:
    assert load_base(str(bert)).encoder.vocab_size == VOCABULARY


def test_pickled_weights_are_not_read(bert: Path) -> None:
    torch.save(load_file(bert / "model.safetensors"), bert / "pytorch_model.bin")
    (bert / "model.safetensors").unlink()
    refused(bert, r"pytorch_model\.bin, which may run code when it is read: convert it to safetensors")


def test_an_empty_folder_lacks_a_configuration(tmp_path: Path) -> None:
    refused(tmp_path, r"lacks config\.json")


@pytest.mark.parametrize("model_type", ["bert", "invented"])
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_of_a_checkpoint_is_never_run(bert: Path, tmp_path: Path, model_type: str, file: str) -> None:
    marker = tmp_path / "it-ran"
    code = f"from pathlib import Path\nPath({str(marker)!r}).touch()\n"
    (bert / "modeling_theirs.py").write_text(code + "class Theirs:\n    pass\n")
    theirs = "modeling_theirs.Theirs"
    configured(bert, model_type=model_type)
    (bert / "tokenizer.json").unlink()
    wanted = json.loads((bert / file).read_text())
    auto_map = {"AutoConfig": theirs, "AutoModel": theirs, "AutoTokenizer": [theirs, theirs]}
    (bert / file).write_text(json.dumps(wanted | {"auto_map": auto_map}))
    with pytest.raises(BaseModelError):
        load_base(str(bert))
    assert not marker.exists()


def test_code_of_its_own_is_named_as_the_reason(bert: Path) -> None:
    configured(bert, auto_map={"AutoModel": "modeling_theirs.Theirs"})
    refused(bert, r"wants code of its own \(auto_map in config\.json\), which is never run")


def test_a_type_that_transformers_does_not_know_is_named(bert: Path) -> None:
    configured(bert, model_type="invented")
    refused(bert, "model_type 'invented', which transformers does not know")


@pytest.mark.parametrize("content", ["", "{", "\xff", "[]", "7", "{}", '{"model_type": 7}', " " * 1_000_001])
def test_a_configuration_that_is_none_is_refused(bert: Path, content: str) -> None:
    (bert / "config.json").write_text(content, encoding="latin-1")
    refused(bert, r"config\.json")


def test_an_encoder_decoder_is_refused(bert: Path) -> None:
    from transformers import T5Config, T5Model

    sizes = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
    T5Model(T5Config(vocab_size=VOCABULARY, **sizes)).save_pretrained(bert)
    refused(bert, "is a t5, not an encoder")


def test_a_model_that_reads_from_left_to_right_is_refused(bert: Path) -> None:
    from transformers import GPT2Config, GPT2Model

    GPT2Model(GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2)).save_pretrained(bert)
    refused(bert, "is a gpt2 that reads from left to right: use an encoder")


def test_a_tokenizer_with_more_tokens_than_embeddings_is_refused(bert: Path) -> None:
    tokenizer = tiny_tokenizer(0)
    tokenizer.add_tokens([f"new{number}" for number in range(VOCABULARY)])
    tokenizer.save(str(bert / "tokenizer.json"))
    refused(bert, f"its tokenizer does not fit, it has token [0-9]+, the encoder's last embedding is {VOCABULARY - 1}")


@pytest.mark.parametrize("content", ["", "{", "{}", '{"model": 3}', "[]"])
def test_a_tokenizer_that_is_none_is_refused(bert: Path, content: str) -> None:
    (bert / "tokenizer.json").write_text(content)
    refused(bert, r"tokenizer\.json holds no tokenizer")


def test_without_any_tokenizer_it_is_refused(bert: Path) -> None:
    for file in bert.glob("*token*"):
        file.unlink()
    refused(bert, r"has no tokenizer\.json, and no vocabulary to make it of")


def test_a_weight_that_is_missing_is_named(bert: Path) -> None:
    weights = load_file(bert / "model.safetensors")
    del weights["encoder.layer.1.output.dense.bias"]
    save_file(weights, bert / "model.safetensors", metadata={"format": "pt"})
    refused(bert, r"do not fit its config\.json, missing \['encoder\.layer\.1\.output\.dense\.bias'\]")


def test_weights_of_another_size_are_refused(bert: Path) -> None:
    configured(bert, intermediate_size=48)
    refused(bert, r"another shape \[.*encoder\.layer\.0\.intermediate\.dense\.bias")


@pytest.mark.parametrize("damage", [lambda content: content[:-64], lambda _: b"", lambda content: b"\xff" + content])
def test_damaged_weights_are_refused(bert: Path, damage: Callable[[bytes], bytes]) -> None:
    file = bert / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    refused(bert, "cannot be read")


def test_a_shard_that_its_index_names_but_the_folder_lacks_is_refused(bert: Path) -> None:
    names = dict.fromkeys(load_file(bert / "model.safetensors"), "model-00001-of-00001.safetensors")
    (bert / "model.safetensors").unlink()
    (bert / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    refused(bert, "cannot be read")


@pytest.mark.parametrize("shard", ["shard.bin", "../shard.safetensors"])
def test_an_index_cannot_name_pickled_shards_or_others_folders(bert: Path, shard: str) -> None:
    weights = load_file(bert / "model.safetensors")
    torch.save(weights, bert / shard) if shard.endswith(".bin") else save_file(weights, bert / shard, {"format": "pt"})
    (bert / "model.safetensors").unlink()
    (bert / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": dict.fromkeys(weights, shard)})
    )
    refused(bert, "which is no safetensors file beside it")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": [1]}'])
def test_an_index_of_shards_that_is_none_is_refused(bert: Path, content: str) -> None:
    (bert / "model.safetensors").unlink()
    (bert / "model.safetensors.index.json").write_text(content)
    refused(bert, "is no index of weights")


def test_a_configuration_without_sizes_of_an_encoder_is_refused(bert: Path) -> None:
    configured(bert, num_attention_heads=5)
    refused(bert, "cannot be read")


@pytest.mark.parametrize("prompts", ['{"prompts": [1]}', '{"prompts": {"query": 7}}', "[]", "{"])
def test_prompts_that_are_no_texts_are_refused(bert: Path, prompts: str) -> None:
    (bert / "config_sentence_transformers.json").write_text(prompts)
    refused(bert, "config_sentence_transformers")


def test_a_name_that_is_neither_a_folder_nor_reachable_says_what_to_use(tmp_path: Path) -> None:
    refused(tmp_path / "absent", "neither a directory nor reachable .*packaged-minilm")
