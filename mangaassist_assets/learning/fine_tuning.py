"""Fine-tuning the upper layers of a sentence encoder from a logistic head (LP-FT: Kumar et al., ICLR 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.learning.encoders import length_batches
from mangaassist_assets.learning.heads import Features, LinearHead, negative_log_likelihood
from mangaassist_assets.learning.progress import ProgressCallback, TrainingProgress
from mangaassist_assets.learning.trunk import FrozenTrunk

if TYPE_CHECKING:
    from torch import Tensor

    from mangaassist_assets.learning.network import Encoder

_FEATURE_TOKENS_PER_BATCH = 4096
_BLOCK_OF_BATCHES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentTrainingConfig:
    """How the intent classifier is trained. The defaults were chosen on hwu64 with ten messages an intent.

    Attributes:
        seed: Of batch order and dropout. On CPU, with one number of threads, training repeats exactly.
        max_tokens: Longer messages are cut.
        inverse_regularisation: scikit-learn's C of the logistic head on features of length one.
        class_balance: 0 weighs every message the same, 1 every intent the same.
        fine_tune: Whether to fine-tune at all; without it only the logistic head is trained.
        fine_tuned_layers: How many of the upper layers learn; the others, and the embeddings, stay.
        epochs: At most so many passes over the training messages.
        patience: Stop after so many epochs without a better validation.
        max_steps: At most so many optimiser steps, whatever the epochs say.
        batch_size: Messages a step.
        encoder_learning_rate: Peak learning rate of the layers; the head's is ten times that.
        minimum_validation: With fewer validation messages of known intents nothing is selected or calibrated on them.
    """

    seed: int = 0
    max_tokens: int = 64
    inverse_regularisation: float = 10.0
    class_balance: float = 0.25
    fine_tune: bool = True
    fine_tuned_layers: int = 3
    epochs: int = 4
    patience: int = 2
    max_steps: int = 1500
    batch_size: int = 32
    encoder_learning_rate: float = 2e-4
    minimum_validation: int = 30

    def __post_init__(self) -> None:
        """Refuse sizes that cannot work, with the field's name."""
        for name in ("fine_tuned_layers", "epochs", "patience", "max_steps", "batch_size", "minimum_validation"):
            if getattr(self, name) < 1:
                raise ValueError(f"IntentTrainingConfig.{name} must be at least 1, got {getattr(self, name)}")
        if not 8 <= self.max_tokens <= 512:
            raise ValueError(f"IntentTrainingConfig.max_tokens must lie in 8..512, got {self.max_tokens}")
        if self.inverse_regularisation <= 0 or self.encoder_learning_rate <= 0:
            raise ValueError("IntentTrainingConfig: inverse_regularisation and encoder_learning_rate must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochFigures:
    """One epoch of fine-tuning; the validation figures are None without a usable validation set."""

    epoch: int
    training_loss: float
    validation_accuracy: float | None
    validation_loss: float | None


@dataclass(frozen=True, slots=True)
class LabelledTrunk:
    """Messages after the frozen layers, with their class numbers and loss weights, both of shape (examples,)."""

    trunk: FrozenTrunk
    targets: NDArray[np.int64]
    weights: NDArray[np.float32]


def pooled_features(encoder: Encoder, trunk: FrozenTrunk, indices: Sequence[int], *, start: int) -> Tensor:
    """Run the layers from `start` on: mean-pooled features of length one, shape (len(indices), dim)."""
    from torch.nn import functional

    from mangaassist_assets.learning.network import mean_pool

    states, mask = trunk.hidden(indices)
    return functional.normalize(mean_pool(encoder.run_layers(states, mask, start=start), mask), dim=-1)


def all_features(encoder: Encoder, trunk: FrozenTrunk, *, start: int) -> Features:
    """Return the features of every example, without dropout or gradient: float32 of shape (examples, dim)."""
    import torch

    encoder.eval()
    features = np.zeros((len(trunk), encoder.shape.dim), dtype=np.float32)
    lengths = [trunk.length(index) for index in range(len(trunk))]
    with torch.no_grad():
        for batch in length_batches(lengths, max_tokens=_FEATURE_TOKENS_PER_BATCH):
            features[batch] = pooled_features(encoder, trunk, batch, start=start).numpy()
    return features


def layer_weights(encoder: Encoder, start: int) -> dict[str, Tensor]:
    """Return a copy of the weights of the layers from `start` on, under the encoder's names."""
    names = tuple(f"transformer.layer.{number}." for number in range(start, encoder.shape.n_layers))
    return {name: value.detach().clone() for name, value in encoder.state_dict().items() if name.startswith(names)}


def fine_tune(
    encoder: Encoder,
    head: LinearHead,
    training: LabelledTrunk,
    validation: LabelledTrunk,
    *,
    config: IntentTrainingConfig,
    progress: ProgressCallback,
) -> list[EpochFigures]:
    """Train the upper layers together with a copy of `head`; leave the encoder with the best epoch's weights.

    Without a usable validation set the last epoch's weights stay. Draws from torch's global random state, which the
    caller seeds. The trained head is not returned: fitting a new one on the new features does better.
    """
    learner = _Learner(encoder, head, len(training.trunk), config)
    usable = len(validation.trunk) >= config.minimum_validation
    generator = np.random.default_rng(config.seed)
    history: list[EpochFigures] = []
    best: tuple[float, float] | None = None
    best_weights: dict[str, Tensor] = {}
    worse = 0
    for epoch in range(1, learner.epochs + 1):
        loss = learner.run_epoch(training, generator)
        accuracy = validation_loss = None
        if usable:
            logits = learner.head().logits(all_features(encoder, validation.trunk, start=learner.start))
            accuracy = float((logits.argmax(axis=1) == validation.targets).mean())
            validation_loss = negative_log_likelihood(logits, validation.targets)
            if best is None or (accuracy, -validation_loss) > best:
                best, best_weights, worse = (accuracy, -validation_loss), layer_weights(encoder, learner.start), 0
            else:
                worse += 1
        figures = EpochFigures(
            epoch=epoch, training_loss=loss, validation_accuracy=accuracy, validation_loss=validation_loss
        )
        history.append(figures)
        numbers = {name: value for name, value in asdict(figures).items() if value is not None and name != "epoch"}
        progress(TrainingProgress(stage="fine-tune", epoch=epoch, epochs=learner.epochs, figures=numbers))
        if worse >= config.patience:
            break
    if best_weights:
        encoder.load_state_dict(best_weights, strict=False)
    encoder.eval()
    return history


class _Learner:
    """The optimiser and what it learns: the layers from `start` on and a head."""

    def __init__(self, encoder: Encoder, head: LinearHead, examples: int, config: IntentTrainingConfig) -> None:
        import torch

        self.start = encoder.shape.n_layers - config.fine_tuned_layers
        self._encoder = encoder
        self._batch_size = config.batch_size
        self._weight = torch.tensor(head.weight, requires_grad=True)
        self._bias = torch.tensor(head.bias, requires_grad=True)
        encoder.requires_grad_(requires_grad=False)
        blocks = list(encoder.transformer.layer)[self.start :]
        self._layers = [parameter for block in blocks for parameter in block.parameters()]
        for parameter in self._layers:
            parameter.requires_grad_()
        rate = config.encoder_learning_rate
        self._optimiser = torch.optim.AdamW(
            [
                {"params": self._layers, "lr": rate, "weight_decay": 0.01},
                {"params": [self._weight, self._bias], "lr": 10 * rate, "weight_decay": 0.0},
            ]
        )
        steps_per_epoch = -(-examples // config.batch_size)
        self._steps_left = steps = min(config.max_steps, config.epochs * steps_per_epoch)
        self.epochs = -(-steps // steps_per_epoch)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimiser, lambda step: min(1.0, (step + 1) / (0.1 * steps)) * max(0.0, 1.0 - step / steps)
        )

    def head(self) -> LinearHead:
        """Return the head as it is now."""
        return LinearHead(self._weight.detach().numpy(), self._bias.detach().numpy())

    def run_epoch(self, training: LabelledTrunk, generator: np.random.Generator) -> float:
        """Go through the training messages once, or until the steps are used up; return the mean loss."""
        import torch
        from torch.nn import functional

        targets, weights = torch.from_numpy(training.targets), torch.from_numpy(training.weights)
        self._encoder.train()
        losses: list[float] = []
        for batch in _shuffled_batches(training.trunk, self._batch_size, generator)[: self._steps_left]:
            features = pooled_features(self._encoder, training.trunk, batch, start=self.start)
            logits = features @ self._weight.T + self._bias
            each = functional.cross_entropy(logits, targets[batch], reduction="none")
            loss = (each * weights[batch]).sum() / weights[batch].sum()
            self._optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self._layers, 1.0)
            self._optimiser.step()
            self._schedule.step()
            losses.append(float(loss.detach()))
        self._steps_left -= len(losses)
        return float(np.mean(losses))


def _shuffled_batches(trunk: FrozenTrunk, size: int, generator: np.random.Generator) -> list[list[int]]:
    """Batches of similar length in random order: random blocks are sorted by length, then cut."""
    order = [int(index) for index in generator.permutation(len(trunk))]
    batches = []
    for start in range(0, len(order), size * _BLOCK_OF_BATCHES):
        block = sorted(order[start : start + size * _BLOCK_OF_BATCHES], key=lambda index: (trunk.length(index), index))
        batches += [block[place : place + size] for place in range(0, len(block), size)]
    return [batches[int(place)] for place in generator.permutation(len(batches))]
