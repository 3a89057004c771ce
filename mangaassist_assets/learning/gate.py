"""The gate: may this challenger replace the champion?

Three verdicts. `pass` needs proof that the challenger is better overall, and no slice on which it is provably worse.
`fail` needs proof that it is worse, overall or on a slice. Everything else is `insufficient_evidence`, which never
promotes and says how many examples would be needed. Slices too small for a test ever to speak are listed, not hidden.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.learning.metrics import check_parallel
from mangaassist_assets.learning.significance import (
    holm,
    mcnemar_p_value,
    mcnemar_sample_size,
    mean_difference_sample_size,
    paired_bootstrap,
)

Verdict = Literal["pass", "fail", "insufficient_evidence"]
SliceJudgement = Literal["not_worse", "worse", "too_small"]

_LISTED_NAMES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """What counts as proof.

    Attributes:
        alpha: One-sided level of the overall test, and of the family of slice tests after Holm's correction.
        power: Chance of seeing the observed difference that `needed_examples` is computed for.
        minimum_examples: With fewer test examples the verdict is never `pass`.
        resamples: Bootstrap samples of the ranking gate.
        seed: Of the bootstrap.
    """

    alpha: float = 0.05
    power: float = 0.8
    minimum_examples: int = 30
    resamples: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse levels that are none."""
        if not 0 < self.alpha < 0.5 or not 0 < self.power < 1:
            raise ValueError(f"GateConfig: alpha must lie in (0, 0.5) and power in (0, 1): {self.alpha}, {self.power}")
        if self.minimum_examples < 1 or self.resamples < 100:
            raise ValueError("GateConfig: minimum_examples must be at least 1, resamples at least 100")


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceFigures:
    """One slice of the test set: mean figure of each model, one-sided p-value of "worse" raw and after Holm."""

    name: str
    examples: int
    champion: float
    challenger: float
    p_worse: float
    p_worse_corrected: float
    judgement: SliceJudgement


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
    needed_examples: int | None = None
    config: GateConfig = field(default_factory=GateConfig)

    @property
    def too_small_slices(self) -> tuple[str, ...]:
        """Names of the slices that no outcome could have proven worse."""
        return tuple(item.name for item in self.slices if item.judgement == "too_small")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "metric": self.metric,
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "figures": dict(self.figures),
            "needed_examples": self.needed_examples,
            "slices": [asdict(item) for item in self.slices],
            "too_small_slices": list(self.too_small_slices),
            "config": asdict(self.config),
        }

    def markdown(self) -> str:
        """Return the verdict, its reasons and a table of slices, those that changed most first."""
        lines = [f"**{self.verdict}** ({self.metric})", "", *(f"- {reason}" for reason in self.reasons), ""]
        lines += ["| figure | value |", "|---|---:|"]
        lines += [f"| {name} | {value:.4g} |" for name, value in self.figures.items()]
        if self.slices:
            lines += ["", "| slice | examples | champion | challenger | change | p worse (Holm) | judgement |"]
            lines += ["|---|---:|---:|---:|---:|---:|---|"]
            ordered = sorted(self.slices, key=lambda item: (item.challenger - item.champion, item.name))
            lines += [
                f"| {_cell(item.name)} | {item.examples} | {item.champion:.3f} | {item.challenger:.3f} "
                f"| {item.challenger - item.champion:+.3f} | {item.p_worse_corrected:.3g} | {item.judgement} |"
                for item in ordered
            ]
        return "\n".join(lines) + "\n"


def intent_gate(
    truth: Sequence[str],
    champion_predictions: Sequence[str],
    challenger_predictions: Sequence[str],
    *,
    config: GateConfig | None = None,
) -> GateDecision:
    """Judge two classifiers on the same messages by McNemar's exact test, overall and on each true intent.

    An empty test set is insufficient evidence.

    Raises:
        ValueError: Sequences of different lengths.
    """
    settings = config or GateConfig()
    if not truth and not champion_predictions and not challenger_predictions:
        return _nothing_to_judge("accuracy", settings)
    check_parallel(
        truth=truth, champion_predictions=champion_predictions, challenger_predictions=challenger_predictions
    )
    champion = np.array([a == b for a, b in zip(truth, champion_predictions, strict=True)], dtype=np.float64)
    challenger = np.array([a == b for a, b in zip(truth, challenger_predictions, strict=True)], dtype=np.float64)
    gained, lost = _discordant(champion, challenger)
    size = len(truth)
    figures = {
        "examples": float(size),
        "champion": float(champion.mean()),
        "challenger": float(challenger.mean()),
        "difference": float(challenger.mean() - champion.mean()),
        "gained": float(gained),
        "lost": float(lost),
        "p_better": mcnemar_p_value(gained, lost, alternative="greater"),
        "p_worse": mcnemar_p_value(gained, lost, alternative="less"),
    }
    needed = mcnemar_sample_size(
        gain_rate=gained / size, loss_rate=lost / size, alpha=settings.alpha, power=settings.power
    )
    slices = _judge_slices(truth, champion, challenger, settings)
    return _decide("accuracy", figures, slices, needed, settings)


def ranking_gate(
    champion_metric_per_example: Sequence[float] | NDArray[np.float64],
    challenger_metric_per_example: Sequence[float] | NDArray[np.float64],
    *,
    config: GateConfig | None = None,
    slices: Sequence[str] | None = None,
    metric: str = "mrr@10",
) -> GateDecision:
    """Judge two rankers on the same queries by the paired bootstrap of a per-query figure.

    Args:
        champion_metric_per_example: One figure a query, for example `metrics.reciprocal_rank`.
        challenger_metric_per_example: The same queries' figures, in the same order.
        config: What counts as proof.
        slices: The slice of each query; judged by a sign test on better and worse queries.
        metric: Name for the report.

    An empty test set is insufficient evidence.

    Raises:
        ValueError: Sequences of different lengths, or a figure that is not finite.
    """
    settings = config or GateConfig()
    if not len(champion_metric_per_example) and not len(challenger_metric_per_example):
        return _nothing_to_judge(metric, settings)
    champion = np.asarray(champion_metric_per_example, dtype=np.float64)
    challenger = np.asarray(challenger_metric_per_example, dtype=np.float64)
    bootstrap = paired_bootstrap(champion, challenger, resamples=settings.resamples, seed=settings.seed)
    gained, lost = _discordant(champion, challenger)
    figures = {
        "examples": float(len(champion)),
        "champion": float(champion.mean()),
        "challenger": float(challenger.mean()),
        "difference": bootstrap.difference,
        "difference_low": bootstrap.low,
        "difference_high": bootstrap.high,
        "gained": float(gained),
        "lost": float(lost),
        "p_better": bootstrap.p_better,
        "p_worse": bootstrap.p_worse,
    }
    needed = mean_difference_sample_size(
        difference=bootstrap.difference,
        deviation=float((challenger - champion).std()),
        alpha=settings.alpha,
        power=settings.power,
    )
    judged = () if slices is None else _judge_slices(slices, champion, challenger, settings)
    return _decide(metric, figures, judged, needed, settings)


def _nothing_to_judge(metric: str, config: GateConfig) -> GateDecision:
    return GateDecision(
        metric=metric,
        verdict="insufficient_evidence",
        reasons=(f"there are no test examples: at least {config.minimum_examples} are needed",),
        figures={"examples": 0.0},
        needed_examples=config.minimum_examples,
        config=config,
    )


def _discordant(champion: NDArray[np.float64], challenger: NDArray[np.float64]) -> tuple[int, int]:
    return int((challenger > champion).sum()), int((challenger < champion).sum())


def _judge_slices(
    names: Sequence[str], champion: NDArray[np.float64], challenger: NDArray[np.float64], config: GateConfig
) -> tuple[SliceFigures, ...]:
    """Test every slice that could be proven worse; one too small for that would only weaken the others' correction.

    A slice of n examples has a p-value of at least 2^-n, so whether it can be tested follows from its size alone,
    before any prediction is seen: choosing the tested slices that way keeps Holm's guarantee.
    """
    check_parallel(slices=names, champion=champion)
    places: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(names):
        places[name].append(place)
    testable = _testable({name: len(rows) for name, rows in places.items()}, config.alpha)
    raw = {}
    for name in sorted(places):
        gained, lost = _discordant(champion[places[name]], challenger[places[name]])
        raw[name] = mcnemar_p_value(gained, lost, alternative="less")
    corrected = dict(zip(testable, holm([raw[name] for name in testable]), strict=True))
    figures = []
    for name in sorted(places):
        judgement: SliceJudgement = "too_small"
        if name in corrected:
            judgement = "worse" if corrected[name] <= config.alpha else "not_worse"
        figures.append(
            SliceFigures(
                name=name,
                examples=len(places[name]),
                champion=float(champion[places[name]].mean()),
                challenger=float(challenger[places[name]].mean()),
                p_worse=raw[name],
                p_worse_corrected=corrected.get(name, 1.0),
                judgement=judgement,
            )
        )
    return tuple(figures)


def _testable(sizes: Mapping[str, int], alpha: float) -> list[str]:
    """The largest set of slices of which each could reach significance under Holm's strictest step."""
    chosen: list[str] = []
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        if 2.0 ** -sizes[name] * (len(chosen) + 1) > alpha:
            break
        chosen.append(name)
    return sorted(chosen)


def _decide(
    metric: str,
    figures: Mapping[str, float],
    slices: tuple[SliceFigures, ...],
    needed: int | None,
    config: GateConfig,
) -> GateDecision:
    size = int(figures["examples"])
    worse = [item for item in slices if item.judgement == "worse"]
    small = [item.name for item in slices if item.judgement == "too_small"]
    change = f"{metric} {figures['champion']:.4f} → {figures['challenger']:.4f} on {size} examples"
    reasons = []
    verdict: Verdict = "insufficient_evidence"
    if figures["p_worse"] <= config.alpha:
        verdict = "fail"
        reasons.append(f"the challenger is significantly worse: {change}, p = {figures['p_worse']:.3g}")
    for item in worse:
        verdict = "fail"
        reasons.append(
            f"significantly worse on {item.name!r}: {item.champion:.3f} → {item.challenger:.3f} on {item.examples} "
            f"examples, p = {item.p_worse_corrected:.3g} after Holm's correction"
        )
    if verdict != "fail" and figures["p_better"] <= config.alpha:
        if size >= config.minimum_examples:
            verdict = "pass"
            reasons.append(
                f"the challenger is significantly better: {change}, p = {figures['p_better']:.3g}, and no slice is "
                "significantly worse"
            )
        else:
            reasons.append(
                f"better, but {size} test examples are too few: at least {config.minimum_examples} are needed"
            )
            needed = max(needed or 0, config.minimum_examples)
    elif verdict != "fail":
        reasons.append(f"no significant difference: {change}, p better = {figures['p_better']:.3g}")
        needed = None if needed is None else max(needed, config.minimum_examples)
        reasons.append(
            "there is no gain that more examples could confirm"
            if needed is None
            else f"to see a difference of this size with {config.power:.0%} power takes about {needed} test examples"
        )
    if small:
        listed = ", ".join(small[:_LISTED_NAMES]) + (", …" if len(small) > _LISTED_NAMES else "")
        smallest = math.ceil(math.log2(max(1, len(slices)) / config.alpha))
        reasons.append(
            f"{len(small)} of {len(slices)} slices are too small to judge (about {smallest} examples needed): {listed}"
        )
    return GateDecision(
        metric=metric,
        verdict=verdict,
        reasons=tuple(reasons),
        figures=dict(figures),
        slices=slices,
        needed_examples=needed if verdict == "insufficient_evidence" else None,
        config=config,
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
