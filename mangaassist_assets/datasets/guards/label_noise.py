"""Label noise by confident learning: how many labels are probably wrong, and which ones to look at.

A model that never saw a label says what it would have given; where it is as sure of another intent as it usually is of
messages that carry that intent, the label counts as wrong (Northcutt, Jiang & Chuang 2021, "Confident Learning:
Estimating Uncertainty in Dataset Labels").
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.intervals import wilson_interval

MINIMUM_EXAMPLES = 20
MINIMUM_OF_INTENT = 5
_PENALTIES = (0.3, 1.0, 3.0, 10.0)
_SHARPNESSES = (5.0, 8.0, 12.0, 16.0, 20.0, 25.0, 30.0, 40.0)
_SMALLEST = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """An example whose label is probably wrong: what it has, what is likelier, and by how much (0 to 1)."""

    example_id: str
    given: str
    likely: str
    margin: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseReport:
    """How noisy the labels are.

    `examples` were judged, `unjudged` belong to intents with fewer than `MINIMUM_OF_INTENT` examples, of which nothing
    can be said. `estimated_rate` with `low` and `high` (95 %, Wilson) is the share of suspects, None where there is no
    estimate; `why` then says why. It leans upwards: a message that two intents could answer counts as well.
    `suspects` come with the widest margin first.
    """

    examples: int
    unjudged: int
    estimated_rate: float | None
    low: float | None
    high: float | None
    suspects: tuple[Suspect, ...] = ()
    why: str | None = None


def find_label_noise(
    example_ids: Sequence[str],
    intents: Sequence[str],
    vectors: NDArray[np.float32],
    *,
    folds: int = 5,
    seed: int = 0,
) -> NoiseReport:
    """Estimate the share of wrong labels and name the suspects.

    The examples in any order give the same report.

    Args:
        example_ids: distinct ids.
        intents: the label of each example.
        vectors: of their messages, float32 of shape (n, d), rows of length one.
        folds: how many models are trained; each judges the examples it was not trained on.
        seed: says which example is judged by which model.

    Raises:
        ValueError: lengths differ, an id comes twice, a vector is not finite, or fewer than two folds.
    """
    _check(example_ids, intents, vectors, folds)
    order = sorted(range(len(example_ids)), key=lambda row: example_ids[row])
    ids = [example_ids[row] for row in order]
    names = sorted(set(intents))
    given = np.array([names.index(intents[row]) for row in order], dtype=np.int64)
    counts = np.bincount(given, minlength=len(names))
    judged = counts[given] >= MINIMUM_OF_INTENT
    examples = int(judged.sum())
    why = _no_estimate(examples, len(names))
    if why is not None:
        return NoiseReport(
            examples=examples, unjudged=len(ids) - examples, estimated_rate=None, low=None, high=None, why=why
        )
    probabilities = _out_of_fold(vectors[order], given, _folds(ids, given, folds, seed), len(names))
    likely = _confident_intents(probabilities, given)
    rows = np.arange(len(ids))
    margins = np.round(probabilities[rows, likely] - probabilities[rows, given], 4)
    found = np.flatnonzero(judged & (likely >= 0) & (margins > 0)).tolist()
    interval = wilson_interval(len(found), examples)
    suspects = [
        Suspect(example_id=ids[row], given=names[given[row]], likely=names[likely[row]], margin=float(margins[row]))
        for row in found
    ]
    return NoiseReport(
        examples=examples,
        unjudged=len(ids) - examples,
        estimated_rate=round(len(found) / examples, 4),
        low=None if interval is None else round(interval.low, 4),
        high=None if interval is None else round(interval.high, 4),
        suspects=tuple(sorted(suspects, key=lambda one: (-one.margin, one.example_id))),
    )


def _check(example_ids: Sequence[str], intents: Sequence[str], vectors: NDArray[np.float32], folds: int) -> None:
    if not len(example_ids) == len(intents) == len(vectors):
        msg = f"{len(example_ids)} example ids, {len(intents)} intents and {len(vectors)} vectors: give one of each"
        raise ValueError(msg)
    if len(set(example_ids)) != len(example_ids):
        twice = Counter(example_ids).most_common(1)[0][0]
        raise ValueError(f"example {twice} comes twice")
    if folds < 2:
        msg = f"{folds} folds: an example can only be judged by a model that was trained on others, give 2 or more"
        raise ValueError(msg)
    if not np.isfinite(vectors).all():
        raise ValueError("a vector is not finite: embed the messages again")


def _no_estimate(judged: int, intents: int) -> str | None:
    if intents < 2:
        return "fewer than two intents: no other one could be the right one"
    if judged < MINIMUM_EXAMPLES:
        return f"{judged} examples of intents with {MINIMUM_OF_INTENT} or more, at least {MINIMUM_EXAMPLES} are needed"
    return None


def _folds(ids: Sequence[str], given: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """Deal the examples of each intent round the folds, in an order that depends on nothing but id and seed."""
    of_intent: defaultdict[int, list[int]] = defaultdict(list)
    shuffled = sorted(range(len(ids)), key=lambda row: hashlib.sha256(f"{seed}\n{ids[row]}".encode()).hexdigest())
    for row in shuffled:
        of_intent[int(given[row])].append(row)
    fold = np.zeros(len(ids), dtype=np.int64)
    dealt = 0
    for intent in sorted(of_intent):
        for row in of_intent[intent]:
            fold[row] = dealt % folds
            dealt += 1
    return fold


def _out_of_fold(
    vectors: NDArray[np.float32], given: NDArray[np.int64], fold: NDArray[np.int64], intents: int
) -> NDArray[np.float64]:
    """Return for each example the probabilities of a model that was not trained on it, shape (n, intents).

    The model is a ridge regression on the intents with a softmax over its outputs: solved at once, where a logistic
    head takes a hundred times as long for the same accuracy. Of the penalties and sharpnesses those are taken that give
    the labels the highest likelihood.
    """
    wide = vectors.astype(np.float64)
    rows = np.arange(len(given))
    best, lowest = np.zeros((len(given), intents)), np.inf
    for scores in _ridge_scores(wide, given, fold, intents):
        for sharpness in _SHARPNESSES:
            powers = np.exp((scores - scores.max(axis=1, keepdims=True)) * sharpness)
            probabilities = powers / powers.sum(axis=1, keepdims=True)
            loss = round(float(-np.log(np.maximum(probabilities[rows, given], _SMALLEST)).mean()), 6)
            if loss < lowest:
                best, lowest = probabilities, loss
    return np.round(best, 6)


def _ridge_scores(
    vectors: NDArray[np.float64], given: NDArray[np.int64], fold: NDArray[np.int64], intents: int
) -> list[NDArray[np.float64]]:
    """Return the out-of-fold outputs for each penalty, each of shape (n, intents)."""
    targets = np.eye(intents)[given]
    found = [np.zeros((len(given), intents)) for _ in _PENALTIES]
    for number in np.unique(fold).tolist():
        own = fold == number
        centre, shares = vectors[~own].mean(axis=0), targets[~own].mean(axis=0)
        inputs = vectors[~own] - centre
        square, product = inputs.T @ inputs, inputs.T @ (targets[~own] - shares)
        for scores, penalty in zip(found, _PENALTIES, strict=True):
            weights = np.linalg.solve(square + penalty * np.eye(len(square)), product)
            scores[own] = (vectors[own] - centre) @ weights + shares
    return found


def _confident_intents(probabilities: NDArray[np.float64], given: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the likeliest intent among those whose own threshold it reaches, -1 where there is none.

    An intent's threshold is the mean probability of it over the examples labelled with it.
    """
    intents = probabilities.shape[1]
    thresholds = np.array([probabilities[given == intent, intent].mean() for intent in range(intents)])
    # Rounded alike, so that an intent whose examples all score the same reaches its own mean.
    reached = np.where(probabilities >= np.round(thresholds, 6), probabilities, -1.0)
    best = reached.argmax(axis=1)
    return np.where(reached.max(axis=1) >= 0.0, best, -1)
