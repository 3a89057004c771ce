"""Logistic heads on fixed features, and the temperature that makes their confidences honest."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32]

_TEMPERATURES = (0.05, 5.0)
_FOLDS = 5
_MINIMUM_CROSS_VALIDATED = 20


@dataclass(frozen=True, slots=True)
class LinearHead:
    """Logits are `features @ weight.T + bias`: weight of shape (intents, dim), bias of shape (intents,)."""

    weight: Features
    bias: Features

    def logits(self, features: Features) -> Features:
        """Return float32 of shape (examples, intents)."""
        return (features @ self.weight.T + self.bias).astype(np.float32)


def fit_linear_head(
    features: Features,
    targets: NDArray[np.int64],
    *,
    classes: int,
    weights: NDArray[np.float32],
    inverse_regularisation: float,
    initial: LinearHead | None = None,
) -> LinearHead:
    """Fit a multinomial logistic regression with an L2 penalty, by L-BFGS in float64.

    Args:
        features: Shape (examples, dim).
        targets: Class numbers, shape (examples,).
        classes: Number of classes; one that has no example gets a low logit from its bias.
        weights: Loss weight of each example, shape (examples,).
        inverse_regularisation: scikit-learn's C: larger fits the examples more closely.
        initial: Where to begin, from zero by default; it saves steps and does not move the optimum, which is one.
    """
    import torch
    from torch.nn import functional

    x = torch.from_numpy(features).double()
    y = torch.from_numpy(targets)
    w = torch.from_numpy(weights).double()
    first = initial or LinearHead(np.zeros((classes, x.shape[1]), np.float32), np.zeros(classes, np.float32))
    weight = torch.tensor(first.weight, dtype=torch.float64, requires_grad=True)
    bias = torch.tensor(first.bias, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=200, tolerance_grad=1e-6, line_search_fn="strong_wolfe")

    def objective() -> torch.Tensor:
        optimiser.zero_grad()
        losses = functional.cross_entropy(x @ weight.T + bias, y, reduction="none")
        loss = (inverse_regularisation * (w * losses).sum() + 0.5 * weight.square().sum()) / len(y)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(objective)  # type: ignore[no-untyped-call]
    return LinearHead(weight.detach().float().numpy(), bias.detach().float().numpy())


def balanced_weights(intents: Sequence[str], base: Sequence[float], *, exponent: float) -> NDArray[np.float32]:
    """Return loss weights with mean 1, scaled by (examples of the intent) ** -exponent.

    Exponent 0 leaves each example as it is (frequent intents dominate), 1 gives every intent the same total weight.
    """
    if not intents:
        return np.zeros(0, dtype=np.float32)
    counts = Counter(intents)
    raw: NDArray[np.float64] = np.array(
        [weight * counts[intent] ** -exponent for intent, weight in zip(intents, base, strict=True)]
    )
    weights: NDArray[np.float32] = (raw / raw.mean()).astype(np.float32)
    return weights


def cross_validated_logits(
    features: Features,
    targets: NDArray[np.int64],
    *,
    classes: int,
    weights: NDArray[np.float32],
    inverse_regularisation: float,
    seed: int,
) -> tuple[Features, NDArray[np.int64]]:
    """Return logits by heads which did not see the example, with 5-fold cross-validation, and the right classes.

    For want of validation messages. Examples of a class with one example are left out: no head can know it without
    them. Empty when fewer than 20 examples remain.
    """
    counts = np.bincount(targets, minlength=classes)
    places = np.flatnonzero(counts[targets] > 1)
    if len(places) < _MINIMUM_CROSS_VALIDATED:
        return np.zeros((0, classes), dtype=np.float32), np.zeros(0, dtype=np.int64)
    order = np.random.default_rng(seed).permutation(places)
    # Sorted by class, so that dealing the examples out puts each class into as many folds as it has examples.
    order = order[np.argsort(targets[order], kind="stable")]
    logits = np.zeros((len(targets), classes), dtype=np.float32)
    for fold in range(_FOLDS):
        held_out = order[fold::_FOLDS]
        rest = np.setdiff1d(np.arange(len(targets)), held_out)
        head = fit_linear_head(
            features[rest],
            targets[rest],
            classes=classes,
            weights=weights[rest],
            inverse_regularisation=inverse_regularisation,
        )
        logits[held_out] = head.logits(features[held_out])
    return logits[places], targets[places]


def softmax(logits: Features, *, temperature: float = 1.0) -> Features:
    """Return probabilities along the last axis."""
    scaled = logits / temperature
    exponents = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    probabilities: Features = (exponents / exponents.sum(axis=-1, keepdims=True)).astype(np.float32)
    return probabilities


def negative_log_likelihood(logits: Features, targets: NDArray[np.int64], *, temperature: float = 1.0) -> float:
    """Return the mean negative log likelihood in nats."""
    probabilities = softmax(logits, temperature=temperature)[np.arange(len(targets)), targets]
    return float(-np.log(np.maximum(probabilities, 1e-12)).mean())


def fit_temperature(logits: Features, targets: NDArray[np.int64]) -> float:
    """Return the temperature with the least negative log likelihood (Guo et al. 2017), by golden section on its log."""
    ratio = (math.sqrt(5.0) - 1.0) / 2.0
    low, high = (math.log(value) for value in _TEMPERATURES)
    while high - low > 1e-3:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        losses = [negative_log_likelihood(logits, targets, temperature=math.exp(point)) for point in (left, right)]
        low, high = (low, right) if losses[0] <= losses[1] else (left, high)
    return math.exp((low + high) / 2.0)
