"""The intent classifier: mean-pooled DistilBERT with a logistic head, trained from a handful of messages an intent.

Training follows LP-FT (Kumar et al., ICLR 2022): a logistic head on frozen features first, then the upper layers are
fine-tuned *from that head*, which keeps what pretraining knows better than fine-tuning from a random one; last, the
head is fitted again on the new features. Whichever of the frozen and the fine-tuned model is better on validation is
kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.learning.encoders import PACKAGED_MINILM, PretrainedEncoder, load_base, tokenize
from mangaassist_assets.learning.examples import IntentExample
from mangaassist_assets.learning.fine_tuning import (
    EpochFigures,
    IntentTrainingConfig,
    LabelledTrunk,
    all_features,
    fine_tune,
    layer_weights,
)
from mangaassist_assets.learning.heads import (
    Features,
    LinearHead,
    balanced_weights,
    cross_validated_temperature,
    fit_linear_head,
    fit_temperature,
    negative_log_likelihood,
    softmax,
)
from mangaassist_assets.learning.intent_model import IntentClassifier, LabelScore, write_intent_artifact
from mangaassist_assets.learning.metrics import classification_figures, expected_calibration_error
from mangaassist_assets.learning.progress import ProgressCallback, TrainingProgress, ignore_progress
from mangaassist_assets.learning.trunk import FrozenTrunk

if TYPE_CHECKING:
    from torch import Tensor

    from mangaassist_assets.learning.network import Encoder

__all__ = [
    "EpochFigures",
    "IntentClassifier",
    "IntentTrainingConfig",
    "IntentTrainingError",
    "IntentTrainingResult",
    "LabelScore",
    "TrainingProgress",
    "train_intent_classifier",
]

_LONGEST_INTENT_NAME = 200


class IntentTrainingError(ValueError):
    """The examples cannot train a classifier; the message says what is wrong with them and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentTrainingResult:
    """A trained, sealed classifier.

    `metrics` holds what belongs on a training run: sizes, validation figures of the kept model and of the frozen one,
    and the temperature. `kept` says which of the two won.
    """

    directory: Path
    digest: str
    intents: tuple[str, ...]
    metrics: Mapping[str, float]
    history: tuple[EpochFigures, ...]
    kept: Literal["frozen", "fine_tuned"]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A model that may be kept: the weights of its upper layers, its head, and its logits on validation."""

    kind: Literal["frozen", "fine_tuned"]
    layers: dict[str, Tensor]
    head: LinearHead
    validation_logits: Features


def train_intent_classifier(
    train: Sequence[IntentExample],
    validation: Sequence[IntentExample],
    *,
    config: IntentTrainingConfig,
    output: Path,
    base: str = PACKAGED_MINILM,
    progress: ProgressCallback | None = None,
) -> IntentTrainingResult:
    """Train a classifier and write it, sealed, to `output`.

    Args:
        train: At least one message of each of two intents. Weights scale the loss.
        validation: Selects the epoch and the temperature; may be empty. Messages of intents that `train` lacks cannot
            be recognised: they count as errors in `validation_accuracy` and are used for nothing else.
        config: How to train.
        output: The artifact's directory; must not exist or be empty.
        base: Pretrained encoder, see `encoders.load_base`.
        progress: Told about each stage and epoch.

    Raises:
        IntentTrainingError: No examples, one intent only, or an example that cannot be used.
        BaseModelError: The base model is missing or changed.
        FileExistsError: `output` holds files.
    """
    import torch

    report = progress or ignore_progress
    intents = _checked_intents(train)
    _check_examples(validation)
    pretrained = load_base(base)
    encoder = pretrained.encoder
    if config.fine_tuned_layers > encoder.shape.n_layers:
        raise IntentTrainingError(
            f"fine_tuned_layers is {config.fine_tuned_layers}, but {base!r} has {encoder.shape.n_layers} layers"
        )
    known = [example for example in validation if example.intent in set(intents)]
    unknown = len(validation) - len(known)
    start = encoder.shape.n_layers - config.fine_tuned_layers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        report(TrainingProgress(stage="features"))
        training_set = _labelled(train, intents, pretrained, config, start=start)
        validation_set = _labelled(known, intents, pretrained, config, start=start)
        features = all_features(encoder, training_set.trunk, start=start)
        candidates = [_candidate("frozen", encoder, features, training_set, validation_set, config, len(intents))]
        history: list[EpochFigures] = []
        if config.fine_tune:
            history = fine_tune(
                encoder, candidates[0].head, training_set, validation_set, config=config, progress=report
            )
            tuned_features = all_features(encoder, training_set.trunk, start=start)
            candidates.append(
                _candidate("fine_tuned", encoder, tuned_features, training_set, validation_set, config, len(intents))
            )

    usable = len(known) >= config.minimum_validation
    kept = _better(candidates, validation_set.targets) if usable else candidates[-1]
    if usable:
        temperature = fit_temperature(kept.validation_logits, validation_set.targets)
    else:
        temperature = cross_validated_temperature(
            features,
            training_set.targets,
            classes=len(intents),
            weights=training_set.weights,
            inverse_regularisation=config.inverse_regularisation,
            seed=config.seed,
        )
    metrics = {
        "train_examples": float(len(train)),
        "intents": float(len(intents)),
        "validation_examples": float(len(validation)),
        "validation_examples_of_unknown_intents": float(unknown),
        "temperature": temperature,
    }
    for candidate in candidates:
        figures = _validation_figures(candidate, validation_set.targets, intents, unknown=unknown)
        metrics |= {f"{candidate.kind}_{name}": value for name, value in figures.items()}
        if candidate is kept:
            metrics |= figures
    if usable:
        probabilities = softmax(kept.validation_logits, temperature=temperature)
        right = probabilities.argmax(axis=1) == validation_set.targets
        metrics["validation_calibration_error"] = expected_calibration_error(
            probabilities.max(axis=1).astype(np.float64), right
        )

    report(TrainingProgress(stage="write", figures=metrics))
    encoder.load_state_dict(kept.layers, strict=False)
    digest = write_intent_artifact(
        output,
        encoder=encoder,
        tokenizer=pretrained.tokenizer,
        head=kept.head,
        intents=intents,
        temperature=temperature,
        max_tokens=config.max_tokens,
        provenance={"base": base, "kept": kept.kind, "training": asdict(config)},
    )
    return IntentTrainingResult(
        directory=output,
        digest=digest,
        intents=intents,
        metrics=metrics,
        history=tuple(history),
        kept=kept.kind,
    )


def _checked_intents(train: Sequence[IntentExample]) -> tuple[str, ...]:
    if not train:
        raise IntentTrainingError("there are no training examples: label some messages first")
    _check_examples(train)
    intents = tuple(sorted({example.intent for example in train}))
    if len(intents) < 2:
        raise IntentTrainingError(
            f"all {len(train)} training examples have the intent {intents[0]!r}: a classifier needs at least two"
        )
    return intents


def _check_examples(examples: Sequence[IntentExample]) -> None:
    for example in examples:
        if not example.intent.strip() or len(example.intent) > _LONGEST_INTENT_NAME:
            raise IntentTrainingError(
                f"example {example.example_id!r} has the intent {example.intent[:40]!r}: it must be a name of 1 to "
                f"{_LONGEST_INTENT_NAME} characters"
            )
        if not (np.isfinite(example.weight) and example.weight > 0):
            raise IntentTrainingError(
                f"example {example.example_id!r} has the weight {example.weight}: it must be a positive number"
            )


def _labelled(
    examples: Sequence[IntentExample],
    intents: tuple[str, ...],
    pretrained: PretrainedEncoder,
    config: IntentTrainingConfig,
    *,
    start: int,
) -> LabelledTrunk:
    numbers = {intent: number for number, intent in enumerate(intents)}
    names = [example.intent for example in examples]
    texts = [example.text for example in examples]
    sequences = tokenize(pretrained.tokenizer, texts, max_tokens=config.max_tokens)
    return LabelledTrunk(
        trunk=FrozenTrunk(pretrained.encoder, sequences, layers=start),
        targets=np.array([numbers[name] for name in names], dtype=np.int64),
        weights=balanced_weights(names, [example.weight for example in examples], exponent=config.class_balance),
    )


def _candidate(
    kind: Literal["frozen", "fine_tuned"],
    encoder: Encoder,
    features: Features,
    training: LabelledTrunk,
    validation: LabelledTrunk,
    config: IntentTrainingConfig,
    classes: int,
) -> _Candidate:
    start = encoder.shape.n_layers - config.fine_tuned_layers
    head = fit_linear_head(
        features,
        training.targets,
        classes=classes,
        weights=training.weights,
        inverse_regularisation=config.inverse_regularisation,
    )
    logits = head.logits(all_features(encoder, validation.trunk, start=start))
    return _Candidate(kind, layer_weights(encoder, start), head, logits)


def _better(candidates: Sequence[_Candidate], targets: NDArray[np.int64]) -> _Candidate:
    """The higher validation accuracy wins, then the lower loss after calibration."""

    def key(candidate: _Candidate) -> tuple[float, float]:
        logits = candidate.validation_logits
        loss = negative_log_likelihood(logits, targets, temperature=fit_temperature(logits, targets))
        return float((logits.argmax(axis=1) == targets).mean()), -loss

    return max(candidates, key=key)


def _validation_figures(
    candidate: _Candidate, targets: NDArray[np.int64], intents: tuple[str, ...], *, unknown: int
) -> dict[str, float]:
    if not len(targets):
        return {}
    predictions = candidate.validation_logits.argmax(axis=1)
    figures = classification_figures(
        [intents[number] for number in targets], [intents[number] for number in predictions]
    )
    return {
        "validation_accuracy": figures.accuracy * len(targets) / (len(targets) + unknown),
        "validation_macro_f1": figures.macro_f1,
    }
