"""Claims about encoders run in parts, for each architecture, and about what a classifier's features are made of."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mangaassist_assets.models.encoders import frozen_layers as frozen_layers_module
from mangaassist_assets.models.encoders.encoder import Encoder
from mangaassist_assets.models.encoders.frozen_layers import FrozenLayers
from mangaassist_assets.models.encoders.pooling import make_pooling, normalised_mean
from mangaassist_assets.models.encoders.pretrained import load_base
from tests.support.tiny_encoders import ARCHITECTURES, WIDTH, tiny_batch

POOLING = {
    "bert": "layer",
    "distilbert": "layer",
    "roberta": "layer",
    "xlm-roberta": "layer",
    "mpnet": "first",
    "deberta-v3": "layer",
    "deberta-v2 with convolution": "first",
    "modernbert": "own_mean",
    "albert": "first",
    "electra": "first",
}
WHOLE_ONLY = ("deberta-v2 with convolution", "albert", "electra")
APART = [name for name in ARCHITECTURES if name not in WHOLE_ONLY]

TinyBase = Callable[[str], Path]


def loaded(tiny_base: TinyBase, name: str) -> Encoder:
    return load_base(str(tiny_base(name))).encoder


def batch(encoder: Encoder, *, rows: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    made = tiny_batch(rows, 9, pad=encoder.pad_id, seed=3)
    return made["input_ids"], made["attention_mask"].bool()


def sequences(encoder: Encoder) -> list[list[int]]:
    ids, mask = batch(encoder, rows=5)
    return [row[one].tolist() for row, one in zip(ids, mask, strict=True)]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_is_known_which_architectures_run_in_parts_and_how_each_is_pooled(tiny_base: TinyBase, name: str) -> None:
    encoder = loaded(tiny_base, name)
    assert (encoder.splits, encoder.pooling) == (name not in WHOLE_ONLY, POOLING[name])
    assert (encoder.dim, encoder.layer_count) == (WIDTH, 2)


@pytest.mark.parametrize("name", APART)
def test_lower_and_upper_layers_in_a_row_say_what_the_whole_says(tiny_base: TinyBase, name: str) -> None:
    encoder = loaded(tiny_base, name)
    ids, mask = batch(encoder)
    assert not mask.all()
    with torch.no_grad():
        states = encoder.lower(ids, mask, layers=1)
        apart, whole = encoder.upper(states, mask, layers=1), encoder(ids, mask)
        assert (apart - whole)[mask].abs().max() < 1e-5
        assert (states - whole)[mask].abs().max() > 1e-2
        # A row without padding needs no mask.
        alone = encoder.upper(encoder.lower(ids[:1], None, layers=1), None, layers=1)
    assert (alone - whole[:1]).abs().max() < 1e-5


@pytest.mark.parametrize("name", APART)
def test_gradients_of_the_upper_layers_reach_their_parameters_and_no_others(tiny_base: TinyBase, name: str) -> None:
    encoder = loaded(tiny_base, name)
    ids, mask = batch(encoder)
    with torch.no_grad():
        states = encoder.lower(ids, mask, layers=1)
    encoder.upper(states, mask, layers=1)[mask].square().sum().backward()
    reached = {name for name, one in encoder.model.named_parameters() if one.grad is not None}
    learning = set(encoder.parameters_from(1))
    assert reached == learning
    assert learning
    assert all(name.startswith(f"{encoder.layers_name}.1.") for name in learning if ".0." in name or ".1." in name)


@pytest.mark.parametrize("name", WHOLE_ONLY)
def test_where_layers_do_not_run_apart_all_but_the_embeddings_learn(tiny_base: TinyBase, name: str) -> None:
    encoder = loaded(tiny_base, name)
    ids, mask = batch(encoder)
    encoder(ids, mask)[mask].square().sum().backward()
    reached = {name for name, one in encoder.model.named_parameters() if one.grad is not None}
    embeddings = {name for name, _ in encoder.model.named_parameters() if name.startswith("embeddings.")}
    assert embeddings
    assert reached - embeddings <= set(encoder.parameters_from(0))
    assert set(encoder.parameters_from(0)) == {name for name, _ in encoder.model.named_parameters()} - embeddings


@pytest.mark.parametrize("name", ["bert", "modernbert", "deberta-v3", "electra"])
def test_frozen_layers_say_the_same_kept_computed_each_time_and_not_apart(
    tiny_base: TinyBase, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = loaded(tiny_base, name)
    texts = sequences(encoder)
    chosen = [4, 0, 2]
    whole = FrozenLayers(encoder, texts, layers=0)
    kept = FrozenLayers(encoder, texts, layers=1)
    monkeypatch.setattr(frozen_layers_module, "_BYTES_KEPT", 0)
    computed = FrozenLayers(encoder, texts, layers=1)
    calls: list[int] = []
    lower = Encoder.lower

    def counted(self: Encoder, *arguments: object, **options: object) -> object:
        calls.append(1)
        return lower(self, *arguments, **options)

    monkeypatch.setattr(Encoder, "lower", counted)
    with torch.no_grad():
        expected, mask = whole.last_hidden(chosen)
        assert mask is not None
        for frozen, passes in ((kept, 0), (computed, 1)):
            calls.clear()
            found, same_mask = frozen.last_hidden(chosen)
            assert len(calls) == (passes if encoder.splits else 0)
            assert same_mask is not None
            assert torch.equal(mask, same_mask)
            assert (found - expected)[mask].abs().max() < 1e-5


def test_dropout_is_in_the_upper_layers_alone_and_only_while_training(tiny_base: TinyBase) -> None:
    encoder = loaded(tiny_base, "bert")
    frozen = FrozenLayers(encoder, sequences(encoder), layers=1)
    with torch.no_grad():
        still, _ = frozen.last_hidden([0])
        encoder.train(training=True)
        states, _ = frozen.hidden([0])
        first, second = frozen.last_hidden([0])[0], frozen.last_hidden([0])[0]
        assert torch.equal(states, frozen.hidden([0])[0])
        encoder.train(training=False)
        assert not torch.equal(first, second)
        assert torch.equal(frozen.last_hidden([0])[0], still)


@pytest.mark.parametrize("name", [name for name, pooling in POOLING.items() if pooling == "layer"])
def test_one_more_layer_puts_the_normalised_mean_of_all_tokens_into_the_first_place(
    tiny_base: TinyBase, name: str
) -> None:
    from transformers import AutoModel

    encoder = loaded(tiny_base, name)
    ids, mask = batch(encoder)
    config = encoder.model.config
    config.num_hidden_layers = 3
    taller = AutoModel.from_config(config).eval()
    taller.load_state_dict(encoder.model.state_dict(), strict=False)
    make_pooling(list(taller.get_submodule(str(encoder.layers_name)).children())[-1])
    with torch.no_grad():
        wanted = normalised_mean(encoder(ids, mask), mask)
        found = taller(input_ids=ids, attention_mask=mask.long()).last_hidden_state[:, 0]
        features = encoder.features(encoder(ids, mask), mask)
    assert (found - wanted).abs().max() < 1e-4
    assert torch.allclose(features.norm(dim=1), torch.ones(3), atol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_padding_changes_no_features(tiny_base: TinyBase, name: str) -> None:
    encoder = loaded(tiny_base, name)
    ids, mask = batch(encoder)
    with torch.no_grad():
        together = encoder.features(encoder(ids, mask), mask)
        for row in range(len(ids)):
            own = ids[row : row + 1, : int(mask[row].sum())]
            assert (encoder.features(encoder(own, None), None) - together[row]).abs().max() < 1e-5
