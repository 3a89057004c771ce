"""The gate's slices: is the challenger worse on one, and is it proven not to be?

Two questions, two rules. *Worse* is tested with Holm's correction, all slices of all dimensions in one family of
tests: among 70 slices chance alone would else find a loss. The family leaves out slices in which the models differ
too rarely for any proof (Tarone 1990, Biometrics 46); the tests are conditional on how often they differ, so that
count may choose, and who won may not. *Non-inferior* is asked of slices that are large enough for an answer, and
`pass` needs it of all of them; such an intersection-union test has its level without correction (Berger 1982), for a
challenger that is bad on one slice must slip through that one's own test.

Which slices are asked follows from their sizes and from how often the models differ over all, never from how a slice
turned out. The largest slices are taken for as long as an equally good challenger would prove itself on all of them
with `slice_power`; the small ones of a dimension are judged together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from mangaassist_assets.core.arrays import Floats
from mangaassist_assets.evaluation.gate.decision import GateConfig, SliceFigures, SliceJudgement
from mangaassist_assets.evaluation.gate.paired_groups import (
    GroupComparison,
    Places,
    compare_groups,
    smallest_p_value,
)
from mangaassist_assets.evaluation.non_inferiority import doubt, non_inferiority_sample_size
from mangaassist_assets.evaluation.significance import holm

_Key = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    dimension: str
    name: str
    places: Places
    pooled: int = 0


def judge_slices(
    champion: Floats, challenger: Floats, slices: Mapping[str, Sequence[str]], *, binary: bool, config: GateConfig
) -> tuple[SliceFigures, ...]:
    """Judge every slice of every dimension, by dimension and name; what is pooled comes last in its dimension.

    `slices` has by dimension the slice of each example; an empty name belongs to none.
    """
    members = {
        (dimension, name): places
        for dimension in sorted(slices)
        for name, places in sorted(_members(slices[dimension]).items())
    }
    differences = challenger - champion
    variance = float((differences != 0).mean()) if binary else float(differences.var())
    doubt_at = partial(doubt, variance=variance, margin=config.slice_margin, alpha=config.alpha, binary=binary)
    groups, asked = _groups(members, len(champion), doubt_at, config)
    compared = compare_groups(
        champion,
        challenger,
        [group.places for group in groups],
        margin=config.slice_margin,
        binary=binary,
        config=config,
    )
    tested = testable([item.discordant for item in compared], binary=binary, config=config)
    corrected = dict(zip(tested, holm([compared[row].p_worse for row in tested]), strict=True))
    needed = partial(non_inferiority_sample_size, margin=config.slice_margin, alpha=config.alpha, binary=binary)
    figures = []
    for row, (group, item) in enumerate(zip(groups, compared, strict=True)):
        judgement = _judgement(item, corrected.get(row, 1.0), asked=row in asked, config=config)
        wanted = None
        if judgement == "too_small":
            wanted = needed(variance=variance, power=(1.0 + config.slice_power) / 2)
        elif judgement == "undecided":
            wanted = needed(
                variance=max(item.variance, variance), power=config.power, difference=min(item.difference, 0.0)
            )
        figures.append(
            SliceFigures(
                dimension=group.dimension,
                name=group.name,
                pooled=group.pooled,
                examples=item.examples,
                champion=item.champion,
                challenger=item.challenger,
                difference=item.difference,
                low=item.low,
                high=item.high,
                p_worse=item.p_worse,
                p_worse_corrected=corrected.get(row, 1.0),
                p_non_inferior=item.p_non_inferior,
                judgement=judgement,
                needed_examples=None if wanted is None else max(wanted, item.examples + 1),
            )
        )
    return tuple(figures)


def testable(discordant: Sequence[int], *, binary: bool, config: GateConfig) -> list[int]:
    """Return the places of the groups that differ most often, of which each can be proven worse in Holm's first step.

    A slice in which no outcome could speak would only weaken the correction of the others.

    `discordant` counts the examples of each group on which the models differ.
    """
    chosen: list[int] = []
    for place in sorted(range(len(discordant)), key=lambda place: (-discordant[place], place)):
        if smallest_p_value(discordant[place], binary=binary, config=config) * (len(chosen) + 1) > config.alpha:
            break
        chosen.append(place)
    return sorted(chosen)


def _members(names: Sequence[str]) -> dict[str, Places]:
    places: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(names):
        if name:
            places[name].append(place)
    return {name: np.array(rows, dtype=np.intp) for name, rows in places.items()}


def _groups(
    members: Mapping[_Key, Places], examples: int, doubt_at: Callable[[int], float], config: GateConfig
) -> tuple[list[_Group], set[int]]:
    """Return all slices and pools, and the places of those that must be proven non-inferior."""
    budget = 1.0 - config.slice_power
    chosen: set[_Key] = set()
    for key in sorted(members, key=lambda key: (-len(members[key]), key)):
        budget -= doubt_at(len(members[key]))
        if budget < 0:
            budget += doubt_at(len(members[key]))
            break
        chosen.add(key)
    groups: list[_Group] = []
    asked: set[int] = set()
    for dimension in sorted({dimension for dimension, _ in members}):
        own = [key for key in members if key[0] == dimension]
        for key in own:
            if key in chosen:
                asked.add(len(groups))
            groups.append(_Group(dimension=dimension, name=key[1], places=members[key]))
        small = [members[key] for key in own if key not in chosen]
        pool = np.sort(np.concatenate(small)) if len(small) > 1 else np.empty(0, dtype=np.intp)
        # All examples together are the overall test, which has its own rule.
        if 0 < len(pool) < examples and doubt_at(len(pool)) <= budget:
            budget -= doubt_at(len(pool))
            asked.add(len(groups))
            groups.append(_Group(dimension=dimension, name="", places=pool, pooled=len(small)))
    return groups, asked


def _judgement(item: GroupComparison, p_worse: float, *, asked: bool, config: GateConfig) -> SliceJudgement:
    if p_worse <= config.alpha:
        return "worse"
    if not asked:
        return "too_small"
    return "non_inferior" if item.p_non_inferior <= config.alpha else "undecided"
