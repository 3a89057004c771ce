"""Whether a smaller form of a model may stand for it: the same decisions, by numbers that are all but the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityBound:
    """What a candidate may get wrong, and on how many decisions this has to be seen."""

    changed_decisions: float = 0.01
    difference: float = 0.1
    least_decisions: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How a candidate compares with its reference.

    Attributes:
        decisions: How many were compared.
        equal_decisions: Share of them that are equal.
        largest_difference: Between two probabilities or scores of one input.
        reason: Why the candidate may not be used, with the figures; empty where it may.
        bound: What it was held against.
    """

    decisions: int
    equal_decisions: float
    largest_difference: float
    reason: str
    bound: ParityBound

    @property
    def holds(self) -> bool:
        """Whether the candidate may stand for the reference."""
        return not self.reason

    @property
    def enough(self) -> bool:
        """Whether there were enough decisions to tell."""
        return self.decisions >= self.bound.least_decisions


DEFAULT_BOUND = ParityBound()
MOST_COMPARED = 400
"""On so many a form that changes two decisions in a hundred passes once in ten times, one that changes three in 140.

Each is asked alone, as an endpoint is, since a batch changes what eight-bit activations say: more would take minutes.
"""


def spread(inputs: Sequence[T], most: int = MOST_COMPARED) -> list[T]:
    """Return at most so many inputs, evenly out of all of them, in their order."""
    if len(inputs) <= most:
        return list(inputs)
    return [inputs[place * len(inputs) // most] for place in range(most)]


def label_parity(
    reference: ArrayLike,
    candidate: ArrayLike,
    *,
    scope: tuple[ArrayLike, ArrayLike] | None = None,
    bound: ParityBound = DEFAULT_BOUND,
) -> Parity:
    """Compare probabilities of labels, (inputs, labels) each; the decision is the most probable label.

    `scope` says of each input, for reference and candidate, whether it is taken for one of the labels at all; a
    decision is then equal where that is, too.
    """
    ours, theirs = np.asarray(reference, dtype=np.float64), np.asarray(candidate, dtype=np.float64)
    _require_same_shape(ours, theirs)
    equal = ours.argmax(axis=1) == theirs.argmax(axis=1) if ours.size else np.zeros(0, dtype=np.bool_)
    if scope is not None:
        within, also_within = (np.asarray(one, dtype=np.bool_) for one in scope)
        equal = (within == also_within) & (equal | ~within)
    return _parity(equal, np.abs(ours - theirs).ravel(), bound)


def order_parity(
    reference: Sequence[ArrayLike], candidate: Sequence[ArrayLike], *, bound: ParityBound = DEFAULT_BOUND
) -> Parity:
    """Compare scores of lists of passages; each two passages of a list are a decision which of them is first.

    Two that the reference scores alike have no order that could change.
    """
    equal, differences = [np.zeros(0, dtype=np.bool_)], [np.zeros(0)]
    for one, other in zip(reference, candidate, strict=True):
        ours, theirs = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
        _require_same_shape(ours, theirs)
        first, second = np.triu_indices(len(ours), k=1)
        order = np.sign(ours[first] - ours[second])
        equal.append((order == np.sign(theirs[first] - theirs[second]))[order != 0])
        differences.append(np.abs(ours - theirs))
    return _parity(np.concatenate(equal), np.concatenate(differences), bound)


def _require_same_shape(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> None:
    if ours.shape != theirs.shape:
        raise ValueError(f"reference and candidate answer differently many: shapes {ours.shape} and {theirs.shape}")


def _parity(equal: NDArray[np.bool_], differences: NDArray[np.float64], bound: ParityBound) -> Parity:
    decisions = len(equal)
    changed = (decisions - int(equal.sum())) / max(1, decisions)
    difference = float(differences.max(initial=0.0))
    reason = ""
    if decisions < bound.least_decisions:
        reason = f"it was seen on {decisions} decisions, at least {bound.least_decisions} are needed"
    elif changed > bound.changed_decisions:
        reason = f"{changed:.2%} of {decisions} decisions change, {bound.changed_decisions:.2%} may"
    elif not difference <= bound.difference:
        reason = f"a score changes by {difference:.3g}, {bound.difference:.3g} is allowed"
    return Parity(
        decisions=decisions,
        equal_decisions=float(equal.mean()) if decisions else 0.0,
        largest_difference=difference,
        reason=reason,
        bound=bound,
    )
