"""An evaluation of the champion on fresh reviews: what counts as decay, what was found, as text and as a picture."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from mangaassist_assets.core.arrays import Floats
from mangaassist_assets.core.plotting import png
from mangaassist_assets.evaluation.unpaired import Trend, UnpairedDifference

Outcome = Literal["holding", "decayed", "too_few"]
Role = Literal["promotion", "first", "fresh"]
BundleJudgement = Literal["reference", "lower", "not_lower", "too_few"]


LIMITS = (
    "Reviewed messages are mostly complaints, so these figures say nothing about the accuracy on all traffic and are "
    "not compared with the one at promotion: complaints are compared with earlier complaints about the same model, or, "
    "where another model answered, about other models. More or fewer complaints about other stages can hide a loss or "
    "look like one."
)
_BUNDLES_SHOWN = 24
_COLORS = {"reference": "#9aa4b2", "lower": "#b3261e", "not_lower": "#30507a", "too_few": "#c3a13b"}
_MEANING = {
    "reference": "compared with",
    "lower": "lower",
    "not_lower": "not lower",
    "too_few": "too few to judge",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviews:
    """The champion on the reviewed messages of one bundle that came about in one way.

    Attributes:
        release_bundle: Whose messages.
        selection: How they came to be reviewed; only equal ones are compared.
        outcomes: Its figure on each, higher is better, shape (reviews,).
        confidences: Probability it gave its own answers, shape (reviews,); None where there is none.
        role: `promotion` and `first` are what the `fresh` ones are compared with.
    """

    release_bundle: str
    selection: str
    outcomes: Floats
    confidences: Floats | None = None
    role: Role = "fresh"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecayConfig:
    """What counts as decay.

    Attributes:
        alpha: Chance of a false alarm at one evaluation: three quarters of it for all fresh reviews together, the rest
            for the trend and the bundles one by one, after Holm's correction. Looking again has its own chance.
        power: Chance to see `loss` that sample sizes are given for.
        loss: What is called a loss worth seeing, in the metric's unit; `holding` proves that it is not as large.
        minimum_reviews: Comparable fresh reviews below which nothing is judged, and reference reviews likewise.
        minimum_bundle: Comparable reviews of a bundle below which it is not judged by itself.
        reference_reviews: How many of the first reviews become the reference where promotion has none.
        resamples: Of permutations and bootstrap.
        seed: Of both.
    """

    alpha: float = 0.05
    power: float = 0.8
    loss: float = 0.05
    minimum_reviews: int = 30
    minimum_bundle: int = 10
    reference_reviews: int = 50
    resamples: int = 4_000
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse levels that are out of range."""
        if not 0 < self.alpha < 0.5 or not 0 < self.power < 1 or not 0 < self.loss < 1:
            raise ValueError(
                f"alpha must lie in (0, 0.5), power and loss in (0, 1): {self.alpha}, {self.power}, {self.loss}"
            )
        if min(self.minimum_reviews, self.minimum_bundle, self.reference_reviews) < 2 or self.resamples < 100:
            raise ValueError("at least 2 reviews are needed for anything, and 100 resamples")

    @property
    def whole_alpha(self) -> float:
        """One-sided level for all fresh reviews together."""
        return 0.75 * self.alpha

    @property
    def parts_alpha(self) -> float:
        """One-sided level for the trend and the bundles, together."""
        return 0.25 * self.alpha

    @property
    def confidence(self) -> float:
        """Of the intervals, two-sided."""
        return 1 - 2 * self.alpha


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleFigures:
    """One bundle. `compared` of its `reviews` have a reference; the difference is to that, null where none has."""

    release_bundle: str
    reviews: int
    score: float
    low: float
    high: float
    compared: int
    difference: float | None
    p_lower: float | None
    p_lower_corrected: float | None
    judgement: BundleJudgement


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceCalibration:
    """Stated confidence against what was right. On complaints, overconfidence is what one expects to find."""

    reviews: int
    mean_confidence: float
    accuracy: float
    expected_error: float

    @property
    def overconfidence(self) -> float:
        """How much surer it is than right."""
        return self.mean_confidence - self.accuracy


@dataclass(frozen=True, slots=True, kw_only=True)
class DecayReport:
    """What was found. Figures of the comparison are None where nothing was compared.

    `needed_reviews` fresh reviews would show a loss of `config.loss`; None where the `reference_reviews` are too few
    for any number to do so, and then `needed_reference` would be enough.
    """

    metric: str
    outcome: Outcome
    reasons: tuple[str, ...]
    promotion_score: float | None
    fresh_reviews: int
    compared_reviews: int
    fresh_score: float | None
    reference_reviews: int
    reference_score: float | None
    difference: UnpairedDifference | None
    trend: Trend | None
    bundles: tuple[BundleFigures, ...]
    needed_reviews: int | None
    needed_reference: int | None
    calibration: ConfidenceCalibration | None = None
    reference_calibration: ConfidenceCalibration | None = None
    by_selection: tuple[tuple[str, int, int], ...] = ()
    config: DecayConfig = field(default_factory=DecayConfig)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"schema": 1, **asdict(self), "by_selection": [list(one) for one in self.by_selection]}

    def markdown(self) -> str:
        """Return the report for people, with what it shows and what it cannot show."""
        lines = [f"**{self.outcome}**: {'; '.join(self.reasons)}.", ""]
        if self.bundles:
            lines += [f"| bundle | reviews | {_cell(self.metric)} | interval | against earlier reviews | judged |"]
            lines += ["|---|---:|---:|---|---|---|"]
        for one in self.bundles:
            change = "" if one.difference is None else f"{100 * one.difference:+.1f} points"
            p_value = "" if one.p_lower_corrected is None else f", p = {one.p_lower_corrected:.3g}"
            lines.append(
                f"| {_cell(one.release_bundle)} | {one.reviews} | {one.score:.3f} | {one.low:.3f} to {one.high:.3f} "
                f"| {change}{p_value} | {one.judgement.replace('_', ' ')} |"
            )
        if self.trend is not None:
            slope = f"{100 * self.trend.slope:+.1f} points from bundle to bundle"
            lines += ["", f"Trend: {slope}, p = {self.trend.p_falling:.3g} of not falling, before correction."]
        if self.by_selection:
            lines += ["", "| reviews of | to compare with | fresh |", "|---|---:|---:|"]
            lines += [f"| {_cell(name)} | {earlier} | {later} |" for name, earlier, later in self.by_selection]
        for name, stated in (("earlier", self.reference_calibration), ("fresh", self.calibration)):
            if stated is not None:
                figures = f"{stated.mean_confidence:.1%} sure, {stated.accuracy:.1%} right"
                error = f"expected calibration error {stated.expected_error:.3f}"
                lines += ["", f"Calibration on {stated.reviews} {name} reviews: {figures}, {error}."]
        if self.promotion_score is not None:
            lines += ["", f"Promoted with {_cell(self.metric)} {self.promotion_score:.3f} on its whole test side."]
        level = f"Without decay, at most {self.config.alpha:.0%} of evaluations alarm. The table's p are Holm's."
        return "\n".join([*lines, "", level, "", LIMITS])


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def decay_chart(report: DecayReport, *, title: str) -> bytes:
    """Return a PNG of the latest bundles, at most 24, oldest first."""
    from matplotlib.figure import Figure

    shown = report.bundles[-_BUNDLES_SHOWN:]
    figure = Figure(figsize=(max(6.0, 2.5 + 0.55 * len(shown)), 3.6), layout="constrained", dpi=80)
    axes = figure.subplots()
    for judgement, color in _COLORS.items():
        places = [place for place, one in enumerate(shown) if one.judgement == judgement]
        if not places:
            continue
        of_kind = [shown[place] for place in places]
        axes.errorbar(
            places,
            [one.score for one in of_kind],
            yerr=[
                [max(0.0, one.score - one.low) for one in of_kind],
                [max(0.0, one.high - one.score) for one in of_kind],
            ],
            fmt="o",
            color=color,
            capsize=3,
            label=_MEANING[judgement],
        )
    if report.promotion_score is not None:
        axes.axhline(report.promotion_score, color="#1b7f3b", linestyle="--", label="promotion, whole test side")
    if report.reference_score is not None:
        axes.axhline(report.reference_score, color="#9aa4b2", linestyle=":", label="earlier reviews")
    if shown or report.promotion_score is not None:
        axes.legend(fontsize=7, loc="lower left", frameon=False)
    else:
        axes.text(0.5, 0.5, "no fresh reviews yet", ha="center", va="center", transform=axes.transAxes)
    axes.set_xticks(range(len(shown)), [_label(one) for one in shown], fontsize=7, rotation=30, ha="right")
    axes.set_xlim(-0.5, max(len(shown), 1) - 0.5)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel(f"{report.metric} on reviews", fontsize=8)
    axes.grid(axis="y", color="#e8ebef")
    axes.set_title(f"{title}: {report.outcome.replace('_', ' ')}", fontsize=10, loc="left")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return png(figure)


def _label(one: BundleFigures) -> str:
    name = one.release_bundle if len(one.release_bundle) <= 24 else f"…{one.release_bundle[-23:]}"
    # A dollar sign would start a formula.
    return f"{name}\n{one.reviews} reviews".replace("$", r"\$")
