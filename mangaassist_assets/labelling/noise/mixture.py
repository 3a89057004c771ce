"""Wrong labels told from hard messages: a mixture of what a model finds likely and of what nobody would say.

What a model contradicts is not what is wrong: it errs too. Its errors look like its own confusion, though: the label
it misses is one that it finds nearly as likely. A wrong label does not care what the message says. So a label's
likelihood is a mixture of three: the model's probability of it, made as sharp as the data allow; a slip to any other
intent; and a slip to the nearest one. The weights of the slips are the noise. They are found by expectation and
maximisation (Dempster, Laird & Rubin 1977), for given probabilities the one highest point; the sharpness on a grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.arrays import Floats

CONFUSION_SHARE = 0.15
"""How much of the model's own confusion may be taken for noise, or noise for confusion: both bounds are wider by it.

Where two intents overlap, no likelihood tells a hard message from a wrong label. Measured in `bench_label_noise`.
"""
_SHARPNESSES = (4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 18.0, 20.0, 23.0, 26.0, 30.0, 35.0, 40.0, 50.0)
_LOOKED_AT = 4
_SMALLEST = 1e-9
_QUICK, _LONG = 60, 300
_HALVINGS = 14
_HALF_OF_95 = 1.9207
"""Half of the 95 % quantile of chi-squared with one degree of freedom: how far the log-likelihood may fall."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseShare:
    """A share of wrong labels with its bounds (95 %), and how many labels it is of."""

    labels: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseFit:
    """What the mixture says of each label.

    Attributes:
        share: How many are wrong.
        wrong: The probability that a label is wrong, shape (n,).
        likelihood_ratios: How much likelier a label is as a slip than as a right one, shape (n,).
        confusion: How unsure the model itself is of each message, 0 to 1, shape (n,).
        probabilities: The model's, of each intent, shape (n, intents).
        model: Which of the models it is, by place.
        sharpness: How sharp its outputs are made.
    """

    share: NoiseShare
    model: int
    sharpness: float
    wrong: Floats
    likelihood_ratios: Floats
    confusion: Floats
    probabilities: Floats


def fit_noise(outputs: Sequence[Floats], given: NDArray[np.int64], nearest: NDArray[np.int64]) -> NoiseFit:
    """Fit the mixture to labels and to what models that have not seen them say.

    Args:
        outputs: for each model to choose from its outputs, out of fold, shape (n, intents).
        given: the labels, shape (n,), n at least 1.
        nearest: for each intent the one that it is most easily taken for, shape (intents,).
    """
    quick = [
        (_fitted(parts := _parts(scores, sharpness, given, nearest), steps=_QUICK)[1], model, sharpness, parts)
        for model, scores in enumerate(outputs)
        for sharpness in _SHARPNESSES
    ]
    quick.sort(key=lambda one: -one[0])
    looked_at = quick[:_LOOKED_AT]
    fits = [_fitted(parts, steps=_LONG) for _, _, _, parts in looked_at]
    best = max(range(len(fits)), key=lambda at: fits[at][1])
    weights, likelihood = fits[best]
    _, model, sharpness, (right, any_other, next_one) = looked_at[best]
    probabilities = softmax(outputs[model], sharpness)
    noise = float(weights[1] + weights[2])
    to_any = float(weights[1]) / noise if noise > _SMALLEST else 0.5
    slip = to_any * any_other + (1.0 - to_any) * next_one
    confusion = 1.0 - probabilities.max(axis=1)

    def log_likelihood(share: float) -> float:
        return max(_fitted(parts, steps=_QUICK, noise=share)[1] for _, _, _, parts in looked_at)

    low, high = _bounds(log_likelihood, noise, likelihood)
    return NoiseFit(
        share=_with_confusion(len(given), noise, low, high, confusion),
        wrong=noise * slip / ((1.0 - noise) * right + noise * slip),
        likelihood_ratios=slip / right,
        confusion=confusion,
        probabilities=probabilities,
        model=model,
        sharpness=sharpness,
    )


def noise_from_outside(
    fit: NoiseFit, outputs: Sequence[Floats], given: NDArray[np.int64], nearest: NDArray[np.int64]
) -> NoiseShare:
    """Return the noise of other labels by a fit: as sharp, but with slips of any kind.

    Args:
        fit: of the labels that the models learned from.
        outputs: what each of the models of `fit` says of the other messages, shape (m, intents).
        given: their labels, shape (m,), m at least 1.
        nearest: as `fit_noise`.
    """
    right, any_other, next_one = _parts(outputs[fit.model], fit.sharpness, given, nearest)
    confusion = 1.0 - softmax(outputs[fit.model], fit.sharpness).max(axis=1)
    # Whose labels these are need not slip as the others do.
    return noise_of_ratios((any_other + next_one) / 2.0 / right, confusion)


def noise_of(fit: NoiseFit, rows: NDArray[np.int64]) -> NoiseShare:
    """Return the noise of some of the labels that were fitted, such as one person's; `rows` has at least one."""
    return noise_of_ratios(fit.likelihood_ratios[rows], fit.confusion[rows])


def noise_of_ratios(ratios: Floats, confusion: Floats) -> NoiseShare:
    """Return the noise of labels by `NoiseFit.likelihood_ratios` and `NoiseFit.confusion` of theirs, shape (n,)."""

    def log_likelihood(share: float) -> float:
        return float(np.log(np.maximum(1.0 - share + share * ratios, _SMALLEST)).sum())

    noise = _highest(log_likelihood)
    low, high = _bounds(log_likelihood, noise, log_likelihood(noise))
    return _with_confusion(len(ratios), noise, low, high, confusion)


def softmax(outputs: Floats, sharpness: float) -> Floats:
    """Return probabilities of intents, shape (n, intents), of outputs of the same shape."""
    powers = np.exp((outputs - outputs.max(axis=1, keepdims=True)) * sharpness)
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _parts(outputs: Floats, sharpness: float, given: NDArray[np.int64], nearest: NDArray[np.int64]) -> list[Floats]:
    """Return how likely each label is if it is right, a slip to any intent, a slip to the nearest, each (n,)."""
    probabilities = softmax(outputs, sharpness)
    intents = probabilities.shape[1]
    taken_for = np.zeros((intents, intents))
    taken_for[np.arange(intents), nearest] = 1.0
    rows = np.arange(len(given))
    right = probabilities[rows, given]
    any_other = (1.0 - right) / (intents - 1)
    next_one = (probabilities @ taken_for)[rows, given]
    return [np.maximum(part, _SMALLEST) for part in (right, any_other, next_one)]


def _fitted(parts: Sequence[Floats], *, steps: int, noise: float | None = None) -> tuple[Floats, float]:
    """Return the weights of the parts that make the labels likeliest, and the log-likelihood; `noise` may be fixed."""
    stacked = np.stack(parts)
    weights = np.array([0.9, 0.05, 0.05]) if noise is None else np.array([1.0 - noise, noise / 2, noise / 2])
    before = -np.inf
    for _ in range(steps):
        mixed = weights @ stacked
        likelihood = float(np.log(mixed).sum())
        if likelihood - before < 1e-4:
            break
        before = likelihood
        shares = weights * (stacked / mixed).mean(axis=1)
        if noise is not None:
            slips = shares[1] + shares[2]
            shares = np.array([1.0 - noise, *(shares[1:] * (noise / slips if slips else 0.0))])
        weights = shares
    return weights, likelihood


def _highest(log_likelihood: Callable[[float], float]) -> float:
    """Return where a concave function on [0, 1] is highest (golden section)."""
    low, high = 0.0, 1.0
    golden = (np.sqrt(5.0) - 1.0) / 2.0
    for _ in range(2 * _HALVINGS):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if log_likelihood(left) >= log_likelihood(right):
            high = right
        else:
            low = left
    found = (low + high) / 2.0
    return float(max((0.0, found, 1.0), key=log_likelihood))


def _bounds(log_likelihood: Callable[[float], float], at: float, highest: float) -> tuple[float, float]:
    """Return between which shares the log-likelihood is within reach of the highest (Wilks 1938)."""

    def reached(share: float) -> bool:
        return log_likelihood(share) >= highest - _HALF_OF_95

    def edge(inside: float, outside: float) -> float:
        if reached(outside):
            return outside
        for _ in range(_HALVINGS):
            middle = (inside + outside) / 2.0
            inside, outside = (middle, outside) if reached(middle) else (inside, middle)
        return (inside + outside) / 2.0

    return edge(at, 0.0), edge(at, 1.0)


def _with_confusion(labels: int, noise: float, low: float, high: float, confusion: Floats) -> NoiseShare:
    margin = CONFUSION_SHARE * float(confusion.mean())
    return NoiseShare(
        labels=labels,
        rate=round(noise, 4),
        low=round(max(0.0, low - margin), 4),
        high=round(min(1.0, high + margin), 4),
    )
