"""Fine-tuning the upper layers of a sentence encoder from a logistic head (LP-FT: Kumar et al., ICLR 2022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.models.encoders.frozen_layers import FrozenLayers
from mangaassist_assets.models.encoders.tokens import length_batches
from mangaassist_assets.models.intent.heads import Features, LinearHead, negative_log_likelihood
from mangaassist_assets.training.objective import LoopSettings, ParameterGroup, Validation

if TYPE_CHECKING:
    from torch import Tensor

    from mangaassist_assets.models.encoders.encoder import Encoder
    from mangaassist_assets.training.compute import Compute

_FEATURE_TOKENS_PER_BATCH = 4096
_WEIGHT_DECAY = 0.01
_HEAD_RATE = 10.0
_HEAD = "head."


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentTrainingConfig:
    """How the intent classifier is trained.

    The defaults were chosen on hwu64 with ten messages an intent, and looked at on all of it by its `valid`.

    Attributes:
        seed: Of batch order and dropout. On CPU, with one number of threads, training repeats exactly.
        max_tokens: Longer messages are cut.
        inverse_regularisation: scikit-learn's C of the logistic head on a start's features, of length one.
        tuned_inverse_regularisation: The same of the head on fine-tuned features, which lie nearer to their intents'.
        class_balance: 0 weighs every message the same, 1 every intent the same.
        name_weight: What an intent's name weighs as one more message of it, of which a mean one weighs 1; 0 leaves
            names out, as is right for names that say nothing.
        fine_tune: Whether to fine-tune at all; without it only the logistic head is trained.
        fine_tuned_layers: How many of the upper layers learn; the others, and the embeddings, stay.
        epochs: At most so many passes over the training messages.
        patience: Stop after so many epochs without a better validation.
        max_steps: At most so many optimiser steps, whatever the epochs say.
        batch_tokens: Positions a step, padding included: a batch of short messages has more of them than one of long
            ones. Every message counts the same in an epoch, whatever batch it is in, and the learning rate is that of
            a step; a message longer than this is a batch of its own.
        encoder_learning_rate: Peak learning rate of the layers; the head's is ten times that.
        token_dropout: Probability of a token but the first to be hidden, at a step, from the layers that learn.
        minimum_validation: With fewer validation messages of known intents nothing is selected or calibrated on them.
        in_scope_share: Share of the in-scope messages that the out-of-scope threshold has to let through, where there
            are too few messages of no intent to weigh both errors.
        minimum_out_of_scope: With fewer validation messages of no intent the threshold is set by `in_scope_share`.
        refit: Whether the model that validation chose is trained again on training and validation messages together,
            and its layers become the mean of both trainings'. Temperature and threshold stay those of the held-out run.
            Nothing is refitted where validation is too small to choose by.
        checkpoint_seconds: A checkpoint is due when so much time has passed since the last one.
        checkpoint_steps: ... or when so many steps have; None leaves it to the time.
    """

    seed: int = 0
    max_tokens: int = 64
    inverse_regularisation: float = 10.0
    tuned_inverse_regularisation: float = 3.0
    class_balance: float = 0.25
    name_weight: float = 1.0
    fine_tune: bool = True
    fine_tuned_layers: int = 3
    epochs: int = 4
    patience: int = 2
    max_steps: int = 1500
    batch_tokens: int = 320
    encoder_learning_rate: float = 4e-4
    token_dropout: float = 0.1
    minimum_validation: int = 30
    in_scope_share: float = 0.95
    minimum_out_of_scope: int = 30
    refit: bool = True
    checkpoint_seconds: float = 30.0
    checkpoint_steps: int | None = None

    def __post_init__(self) -> None:
        """Refuse sizes that cannot work, with the field's name."""
        for name in (
            "fine_tuned_layers",
            "epochs",
            "patience",
            "max_steps",
            "batch_tokens",
            "minimum_validation",
            "minimum_out_of_scope",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"IntentTrainingConfig.{name} must be at least 1, got {getattr(self, name)}")
        if not 8 <= self.max_tokens <= 512:
            raise ValueError(f"IntentTrainingConfig.max_tokens must lie in 8..512, got {self.max_tokens}")
        for name in ("inverse_regularisation", "tuned_inverse_regularisation", "encoder_learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"IntentTrainingConfig.{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.token_dropout < 1:
            raise ValueError(f"IntentTrainingConfig.token_dropout must lie in [0, 1), got {self.token_dropout}")
        if not 0 <= self.name_weight <= 100:
            raise ValueError(f"IntentTrainingConfig.name_weight must lie in 0..100, got {self.name_weight}")
        if not 0.5 <= self.in_scope_share < 1.0:
            raise ValueError(f"IntentTrainingConfig.in_scope_share must lie in [0.5, 1), got {self.in_scope_share}")

    def deciding(self) -> dict[str, Any]:
        """Return what decides the weights and thresholds: all but when checkpoints are written."""
        return {name: value for name, value in asdict(self).items() if not name.startswith("checkpoint_")}

    def loop(self) -> LoopSettings:
        """Return the settings of the training loop."""
        return LoopSettings(
            seed=self.seed,
            epochs=self.epochs,
            max_steps=self.max_steps,
            patience=self.patience,
            checkpoint_seconds=self.checkpoint_seconds,
            checkpoint_steps=self.checkpoint_steps,
        )


@dataclass(frozen=True, slots=True)
class LabelledFrozenLayers:
    """Messages after the frozen layers, with their class numbers and loss weights, both of shape (examples,)."""

    frozen: FrozenLayers
    targets: NDArray[np.int64]
    weights: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.frozen)


def frozen_layer_count(encoder: Encoder, fine_tuned: int) -> int:
    """Return how many lower layers stay as they are; none where the architecture's cannot be run apart."""
    return max(0, encoder.layer_count - fine_tuned) if encoder.splits else 0


def pooled_features(
    encoder: Encoder, frozen: FrozenLayers, indices: Sequence[int], *, token_dropout: float = 0.0
) -> Tensor:
    """Run the layers that learn: features of shape (len(indices), dim)."""
    return encoder.features(*frozen.last_hidden(indices, token_dropout=token_dropout))


def all_features(encoder: Encoder, frozen: FrozenLayers) -> Features:
    """Return the features of every example, without dropout or gradient: float32 of shape (examples, dim)."""
    import torch

    encoder.train(training=False)
    features = np.zeros((len(frozen), encoder.dim), dtype=np.float32)
    lengths = [frozen.length(index) for index in range(len(frozen))]
    with torch.no_grad():
        for batch in length_batches(lengths, max_tokens=_FEATURE_TOKENS_PER_BATCH):
            features[batch] = pooled_features(encoder, frozen, batch).cpu().numpy()
    return features


def learned_weights(encoder: Encoder, start: int) -> dict[str, Tensor]:
    """Return a copy of the weights of the layers from `start` on, under the encoder's names."""
    return {name: value.detach().clone() for name, value in encoder.parameters_from(start).items()}


class IntentObjective:
    """The upper layers of an encoder together with a copy of a head, as the training loop learns them.

    The loop leaves the encoder with the best epoch's layers. The trained head is not handed out: fitting a new one on
    the new features does better.
    """

    def __init__(
        self,
        encoder: Encoder,
        head: LinearHead,
        training: LabelledFrozenLayers,
        validation: LabelledFrozenLayers | None,
        *,
        config: IntentTrainingConfig,
        compute: Compute,
    ) -> None:
        import torch

        self._encoder = encoder
        self._training = training
        self._validation = validation
        self._config = config
        self._start = frozen_layer_count(encoder, config.fine_tuned_layers)
        self._weight = torch.tensor(head.weight, device=compute.device, requires_grad=True)
        self._bias = torch.tensor(head.bias, device=compute.device, requires_grad=True)
        self._targets = torch.from_numpy(training.targets).to(compute.device)
        self._weights = torch.from_numpy(training.weights).to(compute.device)
        self._lengths = np.array([training.frozen.length(index) for index in range(len(training))])
        batches = len(token_batches(self._lengths, max_tokens=config.batch_tokens, seed=(config.seed, 0)))
        self._normaliser = float(training.weights.sum(dtype=np.float64)) / batches

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Return the layers, and the head at ten times their rate."""
        self._encoder.model.requires_grad_(requires_grad=False)
        layers: dict[str, Tensor] = dict(self._encoder.parameters_from(self._start))
        for parameter in layers.values():
            parameter.requires_grad_()
        rate = self._config.encoder_learning_rate
        head: Mapping[str, Tensor] = {f"{_HEAD}weight": self._weight, f"{_HEAD}bias": self._bias}
        return (
            ParameterGroup(parameters=layers, learning_rate=rate, weight_decay=_WEIGHT_DECAY),
            ParameterGroup(parameters=head, learning_rate=_HEAD_RATE * rate, clipped=False),
        )

    def batches(self, epoch: int) -> Sequence[Sequence[int]]:
        """Return batches of messages of one length, as far as there are enough of it, in random order."""
        return token_batches(self._lengths, max_tokens=self._config.batch_tokens, seed=(self._config.seed, epoch))

    def normaliser(self, batch: Sequence[int]) -> float:
        """Return the weight of a mean batch, the same for all: so that every message counts as much as any other."""
        del batch
        return self._normaliser

    def loss(self, share: Sequence[int]) -> Tensor:
        """Return the weighted sum of cross-entropies."""
        from torch.nn import functional

        dropped = self._config.token_dropout
        features = pooled_features(self._encoder, self._training.frozen, share, token_dropout=dropped)
        logits = functional.linear(features, self._weight, self._bias).float()
        each = functional.cross_entropy(logits, self._targets[share], reduction="none")
        return (each * self._weights[share]).sum()

    def train_mode(self, *, training: bool) -> None:
        """Switch dropout."""
        self._encoder.train(training=training)

    def validate(self) -> Validation | None:
        """Return accuracy, and where it is equal the loss; None with fewer messages than `minimum_validation`."""
        if self._validation is None or len(self._validation) < self._config.minimum_validation:
            return None
        head = LinearHead(self._weight.detach().cpu().numpy(), self._bias.detach().cpu().numpy())
        logits = head.logits(all_features(self._encoder, self._validation.frozen))
        accuracy = float((logits.argmax(axis=1) == self._validation.targets).mean())
        loss = negative_log_likelihood(logits, self._validation.targets)
        return Validation(
            score=(accuracy, round(-loss, 6)), figures={"validation_accuracy": accuracy, "validation_loss": loss}
        )


def token_batches(lengths: NDArray[np.int64], *, max_tokens: int, seed: Sequence[int]) -> list[list[int]]:
    """Return every index once, in batches of at most `max_tokens` positions with their padding, in random order.

    Messages are sorted by length, of one length in random order, and cut into batches: nearly nothing is padding. The
    number of batches depends on the lengths alone.
    """
    generator = np.random.default_rng(list(seed))
    order = np.lexsort((generator.permutation(len(lengths)), lengths))
    batches: list[list[int]] = [[]]
    for index in order.tolist():
        if batches[-1] and (len(batches[-1]) + 1) * int(lengths[index]) > max_tokens:
            batches.append([])
        batches[-1].append(index)
    return [batches[place] for place in generator.permutation(len(batches)).tolist()]
