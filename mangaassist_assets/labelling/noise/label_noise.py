"""Label noise: how many labels are wrong, whose they are, and which ones to look at.

A model that never saw a label says what it would have given. How that is told from the model's own errors is `mixture`.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.arrays import Floats
from mangaassist_assets.labelling.noise.mixture import NoiseFit, NoiseShare, fit_noise, noise_from_outside, noise_of

MINIMUM_EXAMPLES = 20
MINIMUM_OF_INTENT = 5
FOLDS = 5
"""How many models are trained; each judges the examples it was not trained on."""
_PENALTIES = (0.3, 1.0, 3.0, 10.0)
_SUSPECT_FROM = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """An example whose label is probably wrong: what it has, what is likelier, and the probability that it is wrong."""

    example_id: str
    given: str
    likely: str
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GiverNoise:
    """The labels of one person: how many there are, how many are suspects, and how many of those judged are wrong.

    `noise` is None where none of them could be judged.
    """

    labels: int
    suspects: int
    noise: NoiseShare | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseReport:
    """How noisy the labels are.

    `examples` were judged, `unjudged` belong to intents with fewer than `MINIMUM_OF_INTENT` examples, of which nothing
    can be said. `estimated_rate` with `low` and `high` (95 %) is the share of wrong labels, None where there is no
    estimate; `why` then says why. `suspects` come with the surest first. `by_giver` is the same for each person.
    """

    examples: int
    unjudged: int
    estimated_rate: float | None
    low: float | None
    high: float | None
    suspects: tuple[Suspect, ...] = ()
    by_giver: Mapping[str, GiverNoise] = field(default_factory=dict)
    why: str | None = None


def find_label_noise(
    example_ids: Sequence[str],
    intents: Sequence[str],
    vectors: NDArray[np.float32],
    *,
    givers: Sequence[Collection[str]] | None = None,
) -> NoiseReport:
    """Estimate the share of wrong labels and name the suspects.

    The examples in any order give the same report.

    Args:
        example_ids: distinct ids.
        intents: the label of each example.
        vectors: of their messages, float32 of shape (n, d), rows of length one.
        givers: the people who gave each label; nobody for one of a corpus.

    Raises:
        ValueError: lengths differ, an id comes twice, or a vector is not finite.
    """
    _check(example_ids, intents, vectors)
    order = sorted(range(len(example_ids)), key=lambda row: example_ids[row])
    ids = [example_ids[row] for row in order]
    names = sorted(set(intents))
    given = np.array([names.index(intents[row]) for row in order], dtype=np.int64)
    people = [() if givers is None else sorted(set(givers[row])) for row in order]
    counts = np.bincount(given, minlength=len(names))
    judged = np.flatnonzero(counts[given] >= MINIMUM_OF_INTENT)
    unjudged = len(ids) - len(judged)
    why = _no_estimate(len(judged), len(names))
    if why is not None:
        return NoiseReport(
            examples=len(judged),
            unjudged=unjudged,
            estimated_rate=None,
            low=None,
            high=None,
            by_giver=_by_giver(people, judged, (), None),
            why=why,
        )
    fold = stratified_folds(ids, given)
    outputs = [scores[judged] for scores in out_of_fold(vectors[order], given, fold, len(names))]
    fit = fit_noise(outputs, given[judged], nearest_intents(vectors[order], given, len(names)))
    found = np.flatnonzero(np.round(fit.wrong, 4) > _SUSPECT_FROM).tolist()
    likely = _likeliest_other(fit.probabilities, given[judged])
    suspects = [
        Suspect(
            example_id=ids[judged[row]],
            given=names[given[judged[row]]],
            likely=names[likely[row]],
            probability=round(float(fit.wrong[row]), 4),
        )
        for row in found
    ]
    return NoiseReport(
        examples=len(judged),
        unjudged=unjudged,
        estimated_rate=fit.share.rate,
        low=fit.share.low,
        high=fit.share.high,
        suspects=tuple(sorted(suspects, key=lambda one: (-one.probability, one.example_id))),
        by_giver=_by_giver(people, judged, found, fit),
    )


def judge_from_outside(
    intents: Sequence[str],
    vectors: NDArray[np.float32],
    asked: Sequence[str],
    asked_vectors: NDArray[np.float32],
    *,
    ids: Sequence[str],
) -> NoiseShare:
    """Return the noise of labels (`asked`) by what models say that learned from others (`intents`).

    How sharp the models are, and what a slip looks like, is what out-of-fold answers say of the others' labels.

    Args:
        intents: the labels to learn from, two intents at least.
        vectors: of their messages, shape (n, d), rows of length one.
        asked: the labels to judge, of the same intents, one at least.
        asked_vectors: of their messages, shape (m, d).
        ids: distinct, of those to learn from: they are dealt out by them.
    """
    names = sorted(set(intents))
    given = np.array([names.index(one) for one in intents], dtype=np.int64)
    own = np.array([names.index(one) for one in asked], dtype=np.int64)
    nearest = nearest_intents(vectors, given, len(names))
    outputs = out_of_fold(vectors, given, stratified_folds(ids, given), len(names))
    fit = fit_noise(outputs, given, nearest)
    return noise_from_outside(fit, ridge_outputs(vectors, given, asked_vectors, len(names)), own, nearest)


def out_of_fold(
    vectors: NDArray[np.float32], given: NDArray[np.int64], fold: NDArray[np.int64], intents: int
) -> list[Floats]:
    """Return for each penalty the outputs of models that were not trained on an example, each of shape (n, intents).

    A model is a ridge regression on the intents: solved at once, where a logistic head takes a hundred times as long
    for the same accuracy.
    """
    found = [np.zeros((len(given), intents)) for _ in _PENALTIES]
    for number in np.unique(fold).tolist():
        own = fold == number
        said = ridge_outputs(vectors[~own], given[~own], vectors[own], intents)
        for scores, outputs in zip(found, said, strict=True):
            scores[own] = outputs
    return found


def ridge_outputs(
    vectors: NDArray[np.float32], given: NDArray[np.int64], asked: NDArray[np.float32], intents: int
) -> list[Floats]:
    """Return for each penalty what a model that learned `vectors` says of `asked`, shape (len(asked), intents)."""
    learned, targets = vectors.astype(np.float64), np.eye(intents)[given]
    centre, shares = learned.mean(axis=0), targets.mean(axis=0)
    inputs = learned - centre
    square, product = inputs.T @ inputs, inputs.T @ (targets - shares)
    weights = [np.linalg.solve(square + penalty * np.eye(len(square)), product) for penalty in _PENALTIES]
    return [(asked.astype(np.float64) - centre) @ one + shares for one in weights]


def nearest_intents(vectors: NDArray[np.float32], given: NDArray[np.int64], intents: int) -> NDArray[np.int64]:
    """Return for each intent the one whose messages are most like its own on average, shape (intents,)."""
    means = np.zeros((intents, vectors.shape[1]))
    np.add.at(means, given, vectors.astype(np.float64))
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    alike = np.round(means @ means.T, 6)
    np.fill_diagonal(alike, -2.0)
    nearest: NDArray[np.int64] = alike.argmax(axis=1)
    return nearest


def _by_giver(
    people: Sequence[Sequence[str]], judged: NDArray[np.int64], suspects: Collection[int], fit: NoiseFit | None
) -> dict[str, GiverNoise]:
    rows_of: defaultdict[str, list[int]] = defaultdict(list)
    for row, example in enumerate(judged.tolist()):
        for one in people[example]:
            rows_of[one].append(row)
    suspected = set(suspects)
    return {
        person: GiverNoise(
            labels=count,
            suspects=len(suspected.intersection(rows_of[person])),
            noise=noise_of(fit, np.array(rows_of[person])) if fit is not None and rows_of[person] else None,
        )
        for person, count in sorted(Counter(one for behind in people for one in behind).items())
    }


def _likeliest_other(probabilities: Floats, given: NDArray[np.int64]) -> NDArray[np.int64]:
    others = probabilities.copy()
    others[np.arange(len(given)), given] = -1.0
    likeliest: NDArray[np.int64] = others.argmax(axis=1)
    return likeliest


def _check(example_ids: Sequence[str], intents: Sequence[str], vectors: NDArray[np.float32]) -> None:
    if not len(example_ids) == len(intents) == len(vectors):
        msg = f"{len(example_ids)} example ids, {len(intents)} intents and {len(vectors)} vectors: give one of each"
        raise ValueError(msg)
    if len(set(example_ids)) != len(example_ids):
        twice = Counter(example_ids).most_common(1)[0][0]
        raise ValueError(f"example {twice} comes twice")
    if not np.isfinite(vectors).all():
        raise ValueError("a vector is not finite: embed the messages again")


def _no_estimate(judged: int, intents: int) -> str | None:
    if intents < 2:
        return "fewer than two intents: no other one could be the right one"
    if judged < MINIMUM_EXAMPLES:
        return f"{judged} examples of intents with {MINIMUM_OF_INTENT} or more, at least {MINIMUM_EXAMPLES} are needed"
    return None


def stratified_folds(ids: Sequence[str], given: NDArray[np.int64]) -> NDArray[np.int64]:
    """Deal the examples of each intent round the folds, in an order that depends on nothing but the id."""
    of_intent: defaultdict[int, list[int]] = defaultdict(list)
    shuffled = sorted(range(len(ids)), key=lambda row: hashlib.sha256(f"0\n{ids[row]}".encode()).hexdigest())
    for row in shuffled:
        of_intent[int(given[row])].append(row)
    fold = np.zeros(len(ids), dtype=np.int64)
    dealt = 0
    for intent in sorted(of_intent):
        for row in of_intent[intent]:
            fold[row] = dealt % FOLDS
            dealt += 1
    return fold
