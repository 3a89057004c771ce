"""Claims about batches by token budget, the frozen layers, and what fine-tuning may change."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.models.artifacts import ArtifactWriteError, whole_or_nothing
from mangaassist_assets.models.encoders.frozen_layers import FrozenLayers
from mangaassist_assets.models.encoders.pretrained import PretrainedEncoder, load_base
from mangaassist_assets.models.encoders.tokens import tokenize
from mangaassist_assets.models.intent.fine_tuning import (
    IntentObjective,
    IntentTrainingConfig,
    LabelledFrozenLayers,
    token_batches,
)
from mangaassist_assets.models.intent.heads import LinearHead, fit_linear_head
from mangaassist_assets.models.intent.writing import read_classifier
from mangaassist_assets.training.compute import Compute
from tests.support.intent_training import MESSAGES, QUICK, examples, train_on
from tests.support.tiny_encoders import WIDTH

LENGTHS = st.lists(st.integers(2, 64), min_size=1, max_size=300).map(lambda found: np.array(found, dtype=np.int64))


@pytest.fixture(scope="module")
def base(tiny_base: Callable[[str], Path]) -> PretrainedEncoder:
    return load_base(str(tiny_base("bert")))


@given(LENGTHS, st.integers(1, 400), st.integers(0, 5))
def test_every_message_is_in_one_batch_and_no_batch_is_over_its_budget(
    lengths: np.ndarray, budget: int, epoch: int
) -> None:
    batches = token_batches(lengths, max_tokens=budget, seed=(0, epoch))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * lengths[batch].max() <= budget for batch in batches)
    assert batches == token_batches(lengths, max_tokens=budget, seed=(0, epoch))
    assert len(batches) == len(token_batches(lengths, max_tokens=budget, seed=(1, 9)))


def test_batches_of_one_length_are_nearly_free_of_padding_and_differ_from_epoch_to_epoch() -> None:
    lengths = np.random.default_rng(0).integers(4, 24, size=2_000)
    batches = token_batches(lengths, max_tokens=320, seed=(0, 1))
    positions = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    assert positions / int(lengths.sum()) < 1.02
    assert batches != token_batches(lengths, max_tokens=320, seed=(0, 2))


def test_every_message_counts_the_same_whatever_batch_it_is_in(base: PretrainedEncoder) -> None:
    texts = ["hi", "hello", "where is my parcel", "please tell me when the parcel that i ordered will arrive at home"]
    frozen = FrozenLayers(base.encoder, tokenize(base.tokenizer, texts, max_tokens=64), layers=1)
    training = LabelledFrozenLayers(frozen, np.array([0, 0, 1, 1]), np.ones(4, dtype=np.float32))
    head = LinearHead(np.zeros((2, WIDTH), dtype=np.float32), np.zeros(2, dtype=np.float32))
    config = IntentTrainingConfig(fine_tuned_layers=1, batch_tokens=20)
    objective = IntentObjective(base.encoder, head, training, training, config=config, compute=Compute())
    batches = objective.batches(1)
    assert len({len(batch) for batch in batches}) > 1
    assert len({objective.normaliser(batch) for batch in batches}) == 1
    assert objective.normaliser(batches[0]) == pytest.approx(4 / len(batches))
    objective.train_mode(training=False)
    assert float(objective.loss([0]).detach()) == pytest.approx(np.log(2), abs=1e-5)


@pytest.mark.parametrize("layers", [0, 1])
def test_tokens_are_hidden_at_random_in_training_only_and_never_the_first(base: PretrainedEncoder, layers: int) -> None:
    import torch

    texts = ["where is my parcel that i ordered"] * 50 + ["hi"] * 50
    frozen = FrozenLayers(base.encoder, tokenize(base.tokenizer, texts, max_tokens=64), layers=layers)
    everything = range(len(texts))
    tokens = torch.tensor([[place < frozen.length(one) for place in range(frozen.length(0))] for one in everything])
    as_asked, mask = frozen.last_hidden(everything, token_dropout=0.5)
    assert torch.equal(mask, tokens)
    base.encoder.train(training=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _, mask = frozen.last_hidden(everything, token_dropout=0.5)
    base.encoder.train(training=False)
    assert mask is not None
    assert mask[:, 0].all()
    assert not (mask & ~tokens).any()
    assert 0.4 < float(mask[:, 1:].sum() / tokens[:, 1:].sum()) < 0.6
    changed, _ = frozen.last_hidden(everything)
    assert torch.equal(as_asked, changed)


@pytest.mark.parametrize("name", ["bert", "modernbert", "electra"])
def test_frozen_layers_and_embeddings_stay_as_they_were(
    tiny_base: Callable[[str], Path], name: str, tmp_path: Path
) -> None:
    import torch

    config = replace(QUICK, epochs=1, max_steps=2)
    base = str(tiny_base(name))
    train_on(examples(MESSAGES), [], config=config, base=base, output=tmp_path / "model")
    before = load_base(base).encoder
    weights = read_classifier(tmp_path / "model").pretrained.encoder.model.state_dict()
    changed = {one for one, weight in before.model.state_dict().items() if not torch.equal(weight, weights[one])}
    assert changed
    if before.splits:
        assert changed <= set(before.parameters_from(1))
    assert not [one for one in changed if one.startswith("embeddings.")]


def test_another_seed_gives_other_weights(tiny_base: Callable[[str], Path], tmp_path: Path) -> None:
    config = replace(QUICK, epochs=1, max_steps=2)
    base = str(tiny_base("bert"))
    first, second, again = (
        train_on(
            examples(MESSAGES), [], config=replace(config, seed=seed), base=base, output=tmp_path / str(turn)
        ).digest
        for turn, seed in enumerate((0, 1, 0))
    )
    assert first == again != second


@pytest.mark.parametrize(
    ("setting", "fine_tunes"),
    [({"token_dropout": 0.5}, True), ({"tuned_inverse_regularisation": 1.0}, True), ({"token_dropout": 0.5}, False)],
)
def test_hidden_tokens_and_the_last_heads_penalty_change_fine_tuned_models_only(
    tiny_base: Callable[[str], Path], tmp_path: Path, setting: dict[str, float], fine_tunes: bool
) -> None:
    config = replace(QUICK, epochs=1, max_steps=2, fine_tune=fine_tunes)
    usual, other = (
        read_classifier(
            train_on(
                examples(MESSAGES), [], config=one, base=str(tiny_base("bert")), output=tmp_path / str(turn)
            ).directory
        ).head.weight
        for turn, one in enumerate((config, replace(config, **setting)))
    )
    assert np.array_equal(usual, other) is not fine_tunes


def test_where_a_head_begins_does_not_move_its_optimum() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(60, 8)).astype(np.float32)
    targets = generator.integers(0, 3, size=60)
    options = {"classes": 3, "weights": np.ones(60, dtype=np.float32), "inverse_regularisation": 10.0}
    begun = LinearHead(generator.normal(size=(3, 8)).astype(np.float32), np.ones(3, dtype=np.float32))
    from_zero = fit_linear_head(features, targets, **options)
    from_elsewhere = fit_linear_head(features, targets, initial=begun, **options)
    assert np.abs(from_zero.weight - from_elsewhere.weight).max() < 1e-2


def test_an_artifact_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    output = tmp_path / "model"
    output.mkdir()
    left_by_a_killed_process = tmp_path / ".model.1"
    left_by_a_killed_process.mkdir()

    def write_until_the_disk_is_full() -> None:
        with whole_or_nothing(output) as beside:
            (beside / "first.json").write_text("{}")
            raise OSError(28, "No space left on device")

    with pytest.raises(ArtifactWriteError, match="No space left"):
        write_until_the_disk_is_full()
    assert list(tmp_path.iterdir()) == [output]
    assert list(output.iterdir()) == []
    with whole_or_nothing(output) as beside:
        (beside / "first.json").write_text("{}")
    assert [path.name for path in output.iterdir()] == ["first.json"]


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_tokens": 0},
        {"token_dropout": 1.0},
        {"tuned_inverse_regularisation": 0.0},
        {"in_scope_share": 1.0},
        {"in_scope_share": 0.1},
        {"minimum_out_of_scope": 0},
    ],
)
def test_new_settings_that_cannot_work_are_refused_by_name(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        IntentTrainingConfig(**settings)
