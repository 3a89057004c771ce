"""What the gate counts as proof, and its decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["pass", "fail", "insufficient_evidence"]
SliceJudgement = Literal["non_inferior", "worse", "undecided", "too_small"]
GuardrailJudgement = Literal["held", "broken", "undecided", "not_judged", "not_measured"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """What counts as proof.

    Attributes:
        alpha: One-sided level of the overall tests, of each proof of non-inferiority, and, after Holm's correction, of
            the family of slices and of the family of guardrail metrics.
        power: Chance of proof that sample sizes are given for.
        minimum_examples: With fewer test examples the verdict is never `pass`.
        slice_margin: Largest loss, in the metric's unit, that a slice may have.
        slice_power: Chance that a challenger which is as good as the champion on every slice proves that on all
            slices which it is asked to; small slices are asked together, so that this holds.
        known_margin: Largest loss on the examples whose answer the champion could know.
        calibration_margin: Largest rise of the Brier score of the stated confidence.
        scope_margin: Largest loss of refused out-of-scope, and of accepted in-scope examples.
        max_latency_ratio: Challenger's p95 latency over the champion's.
        minimum_requests: With fewer timed requests a p95 is not judged.
        max_size_ratio: Challenger's artifact size over the champion's.
        resamples: Of the bootstrap and the sign-flip test.
        seed: Of the resampling.
    """

    alpha: float = 0.05
    power: float = 0.8
    minimum_examples: int = 30
    slice_margin: float = 0.05
    slice_power: float = 0.9
    known_margin: float = 0.03
    calibration_margin: float = 0.01
    scope_margin: float = 0.05
    max_latency_ratio: float = 1.25
    minimum_requests: int = 40
    max_size_ratio: float = 1.5
    resamples: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse levels and limits that are out of range."""
        if not 0 < self.alpha < 0.5 or not 0 < self.power < 1 or not 0 < self.slice_power < 1:
            levels = f"{self.alpha}, {self.power}, {self.slice_power}"
            raise ValueError(f"GateConfig: alpha must lie in (0, 0.5), power and slice_power in (0, 1): {levels}")
        for name in ("slice_margin", "known_margin", "calibration_margin", "scope_margin"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"GateConfig: {name} must lie in (0, 1): {getattr(self, name)}")
        for name in ("max_latency_ratio", "max_size_ratio"):
            if not 0 < getattr(self, name) < float("inf"):
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
    """One slice of the test set, or all small slices of a dimension together.

    `name` is empty where `pooled` small slices are judged together. `low` and `high` are the interval of `difference`,
    challenger minus champion. `p_worse` is the one-sided p-value of "not worse", `p_worse_corrected` the same after
    Holm's correction over all slices of all dimensions on which the models differ often enough for a proof (1 for the
    others), `p_non_inferior` that of "worse by the margin or more". `worse` and `non_inferior` are proofs, `undecided`
    is the lack of both where there should have been one, `too_small` where there could hardly have been one. About
    `needed_examples` of this slice would prove it non-inferior; None where none would.
    """

    dimension: str
    name: str
    pooled: int = 0
    examples: int
    champion: float
    challenger: float
    difference: float
    low: float
    high: float
    p_worse: float
    p_worse_corrected: float
    p_non_inferior: float
    judgement: SliceJudgement
    needed_examples: int | None = None

    @property
    def label(self) -> str:
        """The slice's name, or what is pooled."""
        return f"{self.pooled} small slices together" if self.pooled else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardrailFigures:
    """One thing that a better challenger must not have paid with.

    `held` and `broken` are proofs (or, for sizes, facts). `limit` and `why` are in words. Figures are None where they
    were not measured; `low` and `high` are the interval of the difference, or of the ratio. `p_broken` is the one-sided
    p-value of "not worse" (of "within the limit", for latency) after Holm's correction over the guardrail metrics; None
    where nothing was tested. `pass` needs a `required` one `held`; `needed_examples` is about how many would show that
    it holds.
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
    required: bool = False
    needed_examples: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateDecision:
    """A verdict with everything it rests on.

    `figures` holds the overall numbers; `needed_examples` is None where no number of examples is known to help (no
    observed gain) or none is needed (a verdict was reached).
    """

    metric: str
    verdict: Verdict
    reasons: tuple[str, ...]
    figures: Mapping[str, float]
    slices: tuple[SliceFigures, ...] = ()
    guardrails: tuple[GuardrailFigures, ...] = ()
    needed_examples: int | None = None
    champion_version: str = ""
    challenger_version: str = ""
    config: GateConfig = field(default_factory=GateConfig)

    @property
    def too_small_slices(self) -> tuple[str, ...]:
        """Names of the slices that are too small to be proven non-inferior each."""
        return tuple(item.label for item in self.slices if item.judgement == "too_small")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        values = asdict(self) | {"too_small_slices": self.too_small_slices}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
