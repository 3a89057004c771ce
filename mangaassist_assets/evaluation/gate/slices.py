"""The gate's slices: is the challenger provably worse on one, and does one look so bad that a person should see it?

Two questions, two rules. *Worse* is a proof that a slice lost more than the margin, with Holm's correction over all
slices of all dimensions: among 70 slices chance alone would else find a loss. *Suspicious* is no proof: a slice of
twenty messages that lost thirty points can prove nothing, and still somebody should look. Each slice's difference is
therefore pulled towards the overall one by as much as it is uncertain, and those that are then more likely than not
beyond the margin are shown to a person, who may sign.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from mangaassist_assets.core.arrays import Floats
from mangaassist_assets.evaluation.gate.decision import GateConfig, SliceFigures, SliceJudgement
from mangaassist_assets.evaluation.significance import holm
from mangaassist_assets.evaluation.weighted_difference import Places, Weighted, WeightedDifference, weighted_difference

_LEAST_DISCORDANT = 2
"""On fewer examples on which the models differ nothing is tested, nor suspected."""


def judge_slices(
    champion: Floats,
    challenger: Floats,
    slices: Mapping[str, Sequence[str]],
    *,
    how: Weighted,
    overall: float,
    config: GateConfig,
) -> tuple[SliceFigures, ...]:
    """Judge every slice of every dimension, by dimension and name.

    `slices` has by dimension the slice of each example; an empty name belongs to none. `overall` is the difference over
    all.
    """
    members = [
        (dimension, name, places)
        for dimension in sorted(slices)
        for name, places in sorted(_members(slices[dimension]).items())
    ]
    compared = [weighted_difference(champion[rows], challenger[rows], how.at(rows)) for _, _, rows in members]
    tested = [row for row, item in enumerate(compared) if item.discordant >= _LEAST_DISCORDANT]
    p_worse = [item.p_worse(config.slice_margin) for item in compared]
    corrected = dict(zip(tested, holm([p_worse[row] for row in tested]), strict=True))
    figures = []
    for row, ((dimension, name, _), item) in enumerate(zip(members, compared, strict=True)):
        low, high = item.interval(config.confidence)
        p_corrected, p_non_inferior = corrected.get(row, 1.0), item.p_better(-config.slice_margin)
        likely = item.loss_probability(config.slice_margin, expected=overall, spread=config.slice_spread)
        judgement = _judgement(item, p_corrected, p_non_inferior, likely, config)
        wanted = None
        if judgement == "undecided":
            wanted = item.needed_examples(config.slice_margin, alpha=config.alpha, power=config.power)
        figures.append(
            SliceFigures(
                dimension=dimension,
                name=name,
                examples=item.examples,
                champion=item.champion,
                challenger=item.challenger,
                difference=item.difference,
                low=low,
                high=high,
                p_worse=p_worse[row],
                p_worse_corrected=p_corrected,
                p_non_inferior=p_non_inferior,
                loss_probability=likely,
                judgement=judgement,
                needed_examples=wanted,
            )
        )
    return tuple(figures)


def _members(names: Sequence[str]) -> dict[str, Places]:
    places: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(names):
        if name:
            places[name].append(place)
    return {name: np.array(rows, dtype=np.intp) for name, rows in places.items()}


def _judgement(
    item: WeightedDifference, p_worse: float, p_non_inferior: float, likely: float, config: GateConfig
) -> SliceJudgement:
    if p_worse <= config.alpha:
        return "worse"
    if item.discordant >= _LEAST_DISCORDANT and likely >= config.sign_off:
        return "suspicious"
    return "non_inferior" if p_non_inferior <= config.alpha else "undecided"
