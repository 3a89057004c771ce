"""One budget of false promotions: every look at a champion spends of it, and the first ones may spend most.

A level that holds for one test does not hold for a year of weekly tests, of one challenger as its test side grows or of
a new one each week: somebody is lucky. So the levels of all looks at one champion within a year add up to
`false_promotions_a_year` at most; by the union bound that is the chance that any challenger that is no better is
promoted. Four fifths are spent by halves, so that the first look is nearly as sharp as a test that is the only one; the
last fifth is spread evenly over weekly looks, so that no look is hopeless. A promotion starts a new budget.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from mangaassist_assets.evaluation.gate.decision import GateConfig, PromotionLevel

YEAR_MS = 365 * 86_400_000
_LOOKS_A_YEAR = 52
_BY_HALVES = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look of the gate: at which evidence on which pair, when (milliseconds since the epoch, UTC), at what level.

    `evidence` is the digest of what was compared: the same evidence again is the same look.
    """

    champion: str
    challenger: str
    evidence: str
    judged_ms: int
    level: float


def promotion_level(
    looks: Collection[Look], *, champion: str, challenger: str, evidence: str, now_ms: int, config: GateConfig
) -> PromotionLevel:
    """Return the level of a look at a challenger, after the looks there were.

    Looks at other champions do not count, nor those of more than a year ago. A look that was taken before is taken
    again at the level that it had.
    """
    earlier = sorted(
        (one for one in looks if one.champion == champion and now_ms - one.judged_ms < YEAR_MS),
        key=lambda one: (one.judged_ms, one.challenger, one.evidence),
    )
    budget = config.false_promotions_a_year
    spent = 0.0
    for number, look in enumerate(earlier, start=1):
        if (look.challenger, look.evidence) == (challenger, evidence):
            return PromotionLevel(level=look.level, look=number, budget=budget, spent=spent)
        spent += look.level
    number = len(earlier) + 1
    planned = budget * (_BY_HALVES * 0.5**number + (1 - _BY_HALVES) / _LOOKS_A_YEAR)
    level = min(planned, config.alpha, max(0.0, budget - spent))
    return PromotionLevel(level=level, look=number, budget=budget, spent=spent)
