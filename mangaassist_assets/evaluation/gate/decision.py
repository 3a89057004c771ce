"""What the gate counts as proof, and its decision."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["pass", "fail", "needs_sign_off", "insufficient_evidence"]
SliceJudgement = Literal["non_inferior", "worse", "suspicious", "undecided"]
GuardrailJudgement = Literal["held", "broken", "undecided", "not_judged", "not_measured"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """What counts as proof.

    Attributes:
        alpha: One-sided level of the proof of a loss over all, of each proof of non-inferiority, and, after Holm's
            correction, of the family of slices and of the family of guardrail metrics. A proof of a gain is never
            easier; how much harder it is follows from `false_promotions_a_year`.
        false_promotions_a_year: Chance that any challenger that is no better is promoted within a year: the budget
            that all looks at a champion share.
        power: Chance of proof that sample sizes are given for.
        worth_seeing: The gain, in the metric's unit, that sample sizes are planned for.
        minimum_examples: With fewer test examples the verdict is never `pass`.
        slice_margin: Largest loss, in the metric's unit, that a slice may have.
        sign_off: With a slice that lost more than its margin with at least this probability, a person decides.
        slice_spread: Standard deviation of the true differences of slices around the overall one, which that
            probability reckons with.
        known_margin: Largest loss on the examples whose answer the champion could know, and on each fixed set.
        calibration_margin: Largest rise of the Brier score of the stated confidence.
        scope_margin: Largest loss of refused out-of-scope, and of accepted in-scope examples.
        max_latency_ratio: Challenger's p95 latency over the champion's.
        minimum_requests: With fewer timed requests a p95 is not judged.
        max_size_ratio: Challenger's artifact size over the champion's.
        resamples: Of the bootstrap of latencies.
        seed: Of the resampling.
    """

    alpha: float = 0.05
    false_promotions_a_year: float = 0.1
    power: float = 0.8
    worth_seeing: float = 0.05
    minimum_examples: int = 30
    slice_margin: float = 0.05
    sign_off: float = 0.7
    slice_spread: float = 0.15
    known_margin: float = 0.03
    calibration_margin: float = 0.01
    scope_margin: float = 0.05
    max_latency_ratio: float = 1.25
    minimum_requests: int = 40
    max_size_ratio: float = 1.5
    resamples: int = 2_000
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse levels and limits that are out of range."""
        if not 0 < self.alpha < 0.5 or not 0 < self.power < 1 or not 0.5 <= self.sign_off < 1:
            levels = f"{self.alpha}, {self.power}, {self.sign_off}"
            raise ValueError(
                f"GateConfig: alpha must lie in (0, 0.5), power in (0, 1) and sign_off in [0.5, 1): {levels}"
            )
        margins = ("slice_margin", "known_margin", "calibration_margin", "scope_margin")
        for name in ("false_promotions_a_year", "worth_seeing", "slice_spread", *margins):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"GateConfig: {name} must lie in (0, 1): {getattr(self, name)}")
        for name in ("max_latency_ratio", "max_size_ratio"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"GateConfig: {name} must be positive and finite: {getattr(self, name)}")
        if self.minimum_examples < 1 or self.minimum_requests < 2 or self.resamples < 100 or self.seed < 0:
            raise ValueError(
                "GateConfig: minimum_examples must be at least 1, minimum_requests at least 2, resamples at least 100 "
                "and seed at least 0"
            )

    @property
    def confidence(self) -> float:
        """Of the intervals: two-sided, so that an end on the right side of a limit is proof at level alpha."""
        return 1.0 - 2.0 * self.alpha


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceFigures:
    """One slice of the traffic.

    `low` and `high` are the interval of `difference`, challenger minus champion. `p_worse` is the one-sided p-value of
    "at most the margin worse", `p_worse_corrected` the same after Holm's correction over all slices on which the models
    differ, `p_non_inferior` that of "worse by the margin or more". `loss_probability` is how likely it lost more than
    the margin, given all slices. `worse` and `non_inferior` are proofs; `suspicious` is a loss that is likely, but not
    proven; `undecided` is neither, and about `needed_examples` of this slice would show a loss of its margin.
    """

    dimension: str
    name: str
    examples: int
    champion: float
    challenger: float
    difference: float
    low: float
    high: float
    p_worse: float
    p_worse_corrected: float
    p_non_inferior: float
    loss_probability: float
    judgement: SliceJudgement
    needed_examples: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardrailFigures:
    """One thing that a better challenger must not have paid with.

    `held` and `broken` are proofs (or, for sizes, facts). `limit` and `why` are in words. Figures are None where they
    were not measured; `low` and `high` are the interval of the difference, or of the ratio. `p_broken` is the one-sided
    p-value of "within the limit" after Holm's correction over the guardrail metrics; None where nothing was tested.
    """

    name: str
    judgement: GuardrailJudgement
    limit: str
    why: str
    champion: float | None = None
    challenger: float | None = None
    low: float | None = None
    high: float | None = None
    p_broken: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionLevel:
    """At what level this look at a challenger must prove a gain, out of the budget that all looks share.

    `look` counts from 1 since the champion was promoted, within a year; `spent` is what earlier looks took of `budget`,
    `left` what is left after this one.
    """

    level: float
    look: int
    budget: float
    spent: float

    @property
    def left(self) -> float:
        """What further looks within the year may spend."""
        return max(0.0, self.budget - self.spent - self.level)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateDecision:
    """A verdict with everything it rests on.

    `figures` holds the overall numbers; `needed_examples` is None where none are needed. `promotion` is the level at
    which the gain had to be proven.
    """

    metric: str
    verdict: Verdict
    reasons: tuple[str, ...]
    figures: Mapping[str, float]
    promotion: PromotionLevel
    slices: tuple[SliceFigures, ...] = ()
    guardrails: tuple[GuardrailFigures, ...] = ()
    needed_examples: int | None = None
    champion_version: str = ""
    challenger_version: str = ""
    config: GateConfig = field(default_factory=GateConfig)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        values = asdict(self)
        values["promotion"]["left"] = self.promotion.left
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
