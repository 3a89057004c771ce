"""Claims about networks written as ONNX: what they say, what is in the file, and what is refused."""

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from mangaassist_assets.models.onnx_export import ExportError, export_onnx
from mangaassist_assets.models.onnx_network import OnnxNetwork
from tests.support.tiny_encoders import ARCHITECTURES, WIDTH, MeanPooled, tiny_batch, tiny_encoder

AXES = {0: "batch", 1: "length"}
INPUTS = {"input_ids": AXES, "attention_mask": AXES}
DYNAMIC = {**INPUTS, "pooled": {0: "batch"}}
ROOT = Path(__file__).parents[3]


@cache
def exported(name: str) -> tuple[nn.Module, int, bytes]:
    encoder = tiny_encoder(name)
    pad = encoder.config.pad_token_id or 0
    network = MeanPooled(encoder).eval()
    return network, pad, export_onnx(network, tiny_batch(3, 7, pad=pad), outputs=["pooled"], dynamic=DYNAMIC)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_architecture_says_as_onnx_what_it_says_in_torch_for_any_batch_and_length(name: str) -> None:
    network, pad, model = exported(name)
    onnx_network = OnnxNetwork(model, threads=1)
    for rows, length in ((1, 1), (1, 9), (2, 33), (5, 4), (2, 100)):
        batch = tiny_batch(rows, length, pad=pad, seed=length)
        found = onnx_network.run({key: value.numpy() for key, value in batch.items()})["pooled"]
        with torch.no_grad():
            np.testing.assert_allclose(found, network(**batch).numpy(), atol=1e-5)


def test_padding_changes_nothing_of_what_an_exported_network_says() -> None:
    _, pad, model = exported("xlm-roberta")
    network = OnnxNetwork(model, threads=1)
    ids = np.arange(10, 15)[None]
    padded = np.concatenate([ids, np.full((1, 6), pad)], axis=1)
    alone = network.run({"input_ids": ids, "attention_mask": np.ones_like(ids)})["pooled"]
    among = network.run({"input_ids": padded, "attention_mask": (padded != pad).astype(np.int64)})["pooled"]
    np.testing.assert_allclose(among, alone, atol=1e-5)


def test_the_bytes_name_no_machine() -> None:
    _, _, model = exported("bert")
    parsed = onnx.load_from_string(model)
    assert (parsed.producer_name, parsed.producer_version, parsed.doc_string) == ("", "", "")
    for part in (str(ROOT), str(Path(torch.__file__).parents[1]), ".py"):
        assert part.encode() not in model


def test_export_leaves_each_modules_mode_and_the_random_numbers_as_they_were() -> None:
    encoder = tiny_encoder("bert").train()
    encoder.embeddings.eval()
    network = MeanPooled(encoder)
    modes = [module.training for module in network.modules()]
    state = torch.get_rng_state()
    export_onnx(network, tiny_batch(2, 5, pad=0), outputs=["pooled"], dynamic=DYNAMIC)
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


class AnswersWholeBatchesOtherwise(nn.Module):
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        sums = (input_ids * attention_mask).float().sum(dim=1)
        return sums if bool(attention_mask.all()) else sums + 1


class KeepsTheLengthOfItsExample(nn.Module):
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return (input_ids * attention_mask).float().sum(dim=1) / len(input_ids.unbind(dim=1))


@pytest.mark.parametrize("network", [AnswersWholeBatchesOtherwise(), KeepsTheLengthOfItsExample()])
def test_what_was_taken_for_constant_is_found(network: nn.Module) -> None:
    with pytest.raises(ExportError, match=rf"{type(network).__name__} as ONNX (says something else|cannot be checked)"):
        export_onnx(network, tiny_batch(3, 4, pad=0), outputs=["pooled"], dynamic=DYNAMIC)


class HasNoOnnxForm(nn.Module):
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return torch.special.bessel_j0(input_ids.float() * attention_mask).sum(dim=1)


def test_an_operation_without_onnx_form_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ExportError, match=r"HasNoOnnxForm cannot be exported .*bessel_j0"):
        export_onnx(HasNoOnnxForm(), tiny_batch(2, 4, pad=0), outputs=["pooled"], dynamic=DYNAMIC)
    assert capsys.readouterr().out == ""


class HasMoreWeightsThanAFileHolds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(1_000_000, 600, device="meta")


def test_a_network_too_large_for_one_file_is_refused_before_it_is_written() -> None:
    with pytest.raises(ExportError, match=r"has 2400000000 bytes of weights, an ONNX file at most"):
        export_onnx(HasMoreWeightsThanAFileHolds(), tiny_batch(2, 4, pad=0), outputs=["pooled"], dynamic=DYNAMIC)


def test_a_refused_network_is_named_with_its_architecture() -> None:
    network = MeanPooled(tiny_encoder("mpnet"))
    with pytest.raises(ExportError, match=r"MeanPooled \(mpnet\) cannot be exported to ONNX: .*nonsense"):
        export_onnx(network, {"nonsense": torch.ones(1)}, outputs=["pooled"], dynamic={})


def test_a_network_with_several_outputs_has_them_by_name() -> None:
    encoder = tiny_encoder("bert").eval()
    batch = tiny_batch(2, 5, pad=0)
    names = ["pooler_output", "last_hidden_state"]
    model = export_onnx(encoder, batch, outputs=names, dynamic={**INPUTS, "last_hidden_state": AXES})
    found = OnnxNetwork(model, threads=1).run({key: value.numpy() for key, value in batch.items()})
    assert found["pooler_output"].shape == (2, WIDTH)
    assert found["last_hidden_state"].shape == (2, 5, WIDTH)
