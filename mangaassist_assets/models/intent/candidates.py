"""The intent models that may be kept: a logistic head on frozen features, or fine-tuned layers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from mangaassist_assets.models.encoders.frozen_layers import FrozenLayers
from mangaassist_assets.models.encoders.pretrained import PretrainedEncoder, load_base
from mangaassist_assets.models.encoders.tokens import tokenize
from mangaassist_assets.models.examples import IntentExample
from mangaassist_assets.models.intent.examples import IntentTrainingError, UsableExamples
from mangaassist_assets.models.intent.fine_tuning import (
    IntentObjective,
    IntentTrainingConfig,
    LabelledFrozenLayers,
    all_features,
    frozen_layer_count,
    learned_weights,
)
from mangaassist_assets.models.intent.heads import (
    Features,
    LinearHead,
    fit_linear_head,
    fit_temperature,
    negative_log_likelihood,
)
from mangaassist_assets.models.intent.out_of_scope import ScopeRule
from mangaassist_assets.models.intent.writing import TrainedClassifier
from mangaassist_assets.training.checkpoints import Checkpoints
from mangaassist_assets.training.compute import Compute
from mangaassist_assets.training.loop import run_training_loop
from mangaassist_assets.training.objective import LoopResult, ProgressCallback

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

    from mangaassist_assets.models.encoders.encoder import Encoder

CandidateName = Literal["frozen_head", "fine_tuned"]

_SAME_LOSS_DIGITS = 6


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """The base model to start from, with the examples after its frozen layers.

    `layers` is the number of frozen layers, `seconds` what preparing it took.
    """

    pretrained: PretrainedEncoder
    layers: int
    training: LabelledFrozenLayers
    validation: LabelledFrozenLayers
    out_of_scope: FrozenLayers
    seconds: float

    @property
    def encoder(self) -> Encoder:
        """The encoder, in its present state."""
        return self.pretrained.encoder


@dataclass(frozen=True, slots=True, eq=False)
class IntentCandidate:
    """A model that may be kept: the weights of its upper layers, its head, and its logits on validation.

    `features` are those of what it learned from, messages first and then names; `seconds` is what it cost, its start
    included.
    """

    name: CandidateName
    start: Start
    upper: dict[str, Tensor]
    head: LinearHead
    features: Features
    validation_logits: Features
    out_of_scope_logits: Features
    seconds: float

    def restored(self) -> Encoder:
        """Return the start's encoder with this candidate's weights."""
        self.start.encoder.model.load_state_dict(self.upper, strict=False)
        return self.start.encoder

    def classifier(
        self, intents: tuple[str, ...], *, temperature: float, max_tokens: int, scope: ScopeRule
    ) -> TrainedClassifier:
        """Return it as a classifier, the start's encoder with this candidate's weights."""
        self.restored()
        return TrainedClassifier(
            pretrained=self.start.pretrained,
            head=self.head,
            labels=intents,
            temperature=temperature,
            max_tokens=max_tokens,
            scope=scope,
        )

    def calibrated_loss(self, examples: UsableExamples) -> float:
        """Return the validation loss at the best temperature."""
        logits, targets = self.validation_logits, examples.validation_targets
        return negative_log_likelihood(logits, targets, temperature=fit_temperature(logits, targets))


def prepare_start(base: str, examples: UsableExamples, *, config: IntentTrainingConfig, compute: Compute) -> Start:
    """Load the base and run its frozen layers over all examples.

    Raises:
        BaseModelError: The base model is missing or changed.
        IntentTrainingError: More layers should learn than the base has.
    """
    began = time.perf_counter()
    pretrained = load_base(base)
    encoder, tokenizer = pretrained.encoder.to(compute.device), pretrained.tokenizer
    if config.fine_tuned_layers > encoder.layer_count:
        raise IntentTrainingError(
            f"fine_tuned_layers is {config.fine_tuned_layers}, but {base!r} has {encoder.layer_count} layers"
        )
    layers = frozen_layer_count(encoder, config.fine_tuned_layers)
    validation = _frozen(encoder, tokenizer, examples.validation, config, layers)
    ones = np.ones(len(examples.validation), dtype=np.float32)
    return Start(
        pretrained=pretrained,
        layers=layers,
        training=training_layers(encoder, tokenizer, examples, config=config, layers=layers),
        validation=LabelledFrozenLayers(validation, examples.validation_targets, ones),
        out_of_scope=_frozen(encoder, tokenizer, examples.out_of_scope, config, layers),
        seconds=time.perf_counter() - began,
    )


def frozen_candidate(start: Start, examples: UsableExamples, *, config: IntentTrainingConfig) -> IntentCandidate:
    """Fit a logistic head on a start's features."""
    return _candidate("frozen_head", start, None, examples, config, began=time.perf_counter() - start.seconds)


def fine_tuned_candidate(
    first: IntentCandidate,
    examples: UsableExamples,
    *,
    config: IntentTrainingConfig,
    compute: Compute,
    checkpoints: Checkpoints | None,
    progress: ProgressCallback,
) -> tuple[IntentCandidate, LoopResult]:
    """Fine-tune a frozen candidate's upper layers from its head, and fit the head again."""
    began = time.perf_counter() - first.seconds
    start = first.start
    objective = IntentObjective(
        start.encoder, first.head, start.training, start.validation, config=config, compute=compute
    )
    loop = run_training_loop(objective, config.loop(), progress=progress, compute=compute, checkpoints=checkpoints)
    return _candidate("fine_tuned", start, first.head, examples, config, began=began), loop


def better(candidates: Sequence[IntentCandidate], examples: UsableExamples, compute: Compute) -> IntentCandidate:
    """Return the one with the higher validation accuracy, then the lower loss after calibration, then the earlier.

    Without validation the first one. With several workers all take worker 0's.
    """
    best = candidates[0]
    for candidate in candidates[1:]:
        if compute.agreed(_quality(candidate, examples) > _quality(best, examples)):
            best = candidate
    return best


def _quality(candidate: IntentCandidate, examples: UsableExamples) -> tuple[float, float]:
    targets = examples.validation_targets
    if not len(targets):
        return 0.0, 0.0
    accuracy = float((candidate.validation_logits.argmax(axis=1) == targets).mean())
    return accuracy, -round(candidate.calibrated_loss(examples), _SAME_LOSS_DIGITS)


def training_layers(
    encoder: Encoder, tokenizer: Tokenizer, examples: UsableExamples, *, config: IntentTrainingConfig, layers: int
) -> LabelledFrozenLayers:
    """Run the frozen layers over the training messages and, after them, the intents' names."""
    taught = examples.taught(names=config.name_weight > 0)
    return labelled_layers(_frozen(encoder, tokenizer, taught, config, layers), examples, config)


def labelled_layers(
    frozen: FrozenLayers, examples: UsableExamples, config: IntentTrainingConfig
) -> LabelledFrozenLayers:
    """Return what an objective learns from; `frozen` are of `examples.taught`."""
    named = len(frozen) - len(examples.train)
    return LabelledFrozenLayers(
        frozen,
        examples.numbers(examples.taught(names=named > 0)),
        np.append(examples.weights(config.class_balance), np.full(named, config.name_weight, dtype=np.float32)),
    )


def _frozen(
    encoder: Encoder, tokenizer: Tokenizer, given: Sequence[IntentExample], config: IntentTrainingConfig, layers: int
) -> FrozenLayers:
    texts = [example.text for example in given]
    return FrozenLayers(encoder, tokenize(tokenizer, texts, max_tokens=config.max_tokens), layers=layers)


def fitted_head(
    encoder: Encoder,
    training: LabelledFrozenLayers,
    *,
    classes: int,
    inverse_regularisation: float,
    initial: LinearHead | None,
) -> tuple[Features, LinearHead]:
    """Return the features that the encoder as it is now gives the messages, and the head that fits them."""
    features = all_features(encoder, training.frozen)
    head = fit_linear_head(
        features,
        training.targets,
        classes=classes,
        weights=training.weights,
        inverse_regularisation=inverse_regularisation,
        initial=initial,
    )
    return features, head


def _candidate(
    name: CandidateName,
    start: Start,
    initial: LinearHead | None,
    examples: UsableExamples,
    config: IntentTrainingConfig,
    *,
    began: float,
) -> IntentCandidate:
    regularisation = config.tuned_inverse_regularisation if name == "fine_tuned" else config.inverse_regularisation
    features, head = fitted_head(
        start.encoder,
        start.training,
        classes=len(examples.intents),
        inverse_regularisation=regularisation,
        initial=initial,
    )
    return IntentCandidate(
        name=name,
        start=start,
        upper=learned_weights(start.encoder, start.layers),
        head=head,
        features=features,
        validation_logits=head.logits(all_features(start.encoder, start.validation.frozen)),
        out_of_scope_logits=head.logits(all_features(start.encoder, start.out_of_scope)),
        seconds=time.perf_counter() - began,
    )
