"""Two models on the same examples, compared on groups of them, for slices and guardrail metrics alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.arrays import Floats
from mangaassist_assets.evaluation.gate.decision import GateConfig
from mangaassist_assets.evaluation.non_inferiority import mean_bounds, proportion_bounds
from mangaassist_assets.evaluation.significance import (
    BootstrapDifference,
    mcnemar_p_value,
    paired_bootstrap,
    sign_flip_p_value,
)

Places = NDArray[np.intp]

_SIDES: tuple[Literal["greater"], Literal["less"]] = ("greater", "less")


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupComparison:
    """One group of examples: means of both models, the difference with its interval, both p-values, its variance.

    `p_worse` belongs to "not worse", `p_non_inferior` to "worse by the margin or more". `discordant` counts the
    examples on which the models differ. For right or wrong the variance is their share, otherwise the differences'.
    """

    examples: int
    discordant: int
    champion: float
    challenger: float
    difference: float
    low: float
    high: float
    p_worse: float
    p_non_inferior: float
    variance: float


def compare_groups(
    champion: Floats,
    challenger: Floats,
    groups: Sequence[Places],
    *,
    margin: float,
    binary: bool,
    config: GateConfig,
) -> list[GroupComparison]:
    """Compare two models on every group.

    Right or wrong is compared by McNemar's exact test and Tango's score; figures on a scale by the sign-flip test and
    Student's bound. The latter reckons with the variance of all examples where a group's own is smaller: a group in
    which no query happens to differ is no proof that none ever does.

    Figures are of each example, higher is better, shape (examples,); groups are the places of their examples, not
    empty.
    """
    if not groups:
        return []
    differences = challenger - champion
    sizes = np.array([len(places) for places in groups], dtype=np.float64)
    means = np.array([differences[places].mean() for places in groups])
    if binary:
        gained = np.array([(differences[places] > 0).sum() for places in groups], dtype=np.float64)
        lost = np.array([(differences[places] < 0).sum() for places in groups], dtype=np.float64)
        bounds = proportion_bounds(gained, lost, sizes, margin=margin, confidence=config.confidence)
        variances = (gained + lost) / sizes
        p_worse = [
            mcnemar_p_value(int(up), int(down), alternative="less") for up, down in zip(gained, lost, strict=True)
        ]
    else:
        variances = np.array([differences[places].var(ddof=1) if len(places) > 1 else 0.0 for places in groups])
        deviations = np.sqrt(np.maximum(variances, differences.var()))
        bounds = mean_bounds(means, deviations, sizes, margin=margin, confidence=config.confidence)
        p_worse = [
            sign_flip_p_value(differences[places], alternative="less", resamples=config.resamples, seed=config.seed)
            for places in groups
        ]
    return [
        GroupComparison(
            examples=len(places),
            discordant=int((differences[places] != 0).sum()),
            champion=float(champion[places].mean()),
            challenger=float(challenger[places].mean()),
            difference=float(means[row]),
            low=float(bounds.low[row]),
            high=float(bounds.high[row]),
            p_worse=float(p_worse[row]),
            p_non_inferior=float(bounds.p_non_inferior[row]),
            variance=float(variances[row]),
        )
        for row, places in enumerate(groups)
    ]


def smallest_p_value(discordant: int, *, binary: bool, config: GateConfig) -> float:
    """Return the smallest p-value that "worse" can have where the models differ on so many examples."""
    return max(2.0**-discordant, 0.0 if binary else 1 / (config.resamples + 1))


def resampled_difference(champion: Floats, challenger: Floats, *, config: GateConfig) -> BootstrapDifference:
    """Return the paired bootstrap of all examples, its p-values at least those of the sign-flip test.

    The percentile bootstrap is too bold on few or skewed examples: with one it has nothing to vary. The sign-flip test
    is exact where two models are equally good.
    """
    result = paired_bootstrap(
        champion, challenger, resamples=config.resamples, confidence=config.confidence, seed=config.seed
    )
    differences = challenger - champion
    better, worse = (
        sign_flip_p_value(differences, alternative=side, resamples=config.resamples, seed=config.seed)
        for side in _SIDES
    )
    return replace(result, p_better=max(result.p_better, better), p_worse=max(result.p_worse, worse))
