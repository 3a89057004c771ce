"""An evaluation of the champion on fresh reviews: what counts as decay, what was found, as text and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mangaassist_assets.core.arrays import Floats
from mangaassist_assets.core.markdown import plain
from mangaassist_assets.core.plotting import png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Outcome = Literal["holding", "decayed", "too_few"]
Role = Literal["promotion", "first", "fresh"]

AUDITED = "messages of the audit sample"
"""The selection that stands for the traffic."""

LIMITS = (
    "Figures of the audit sample are those of the traffic: each message weighs one over its inclusion probability. "
    "Other reviewed messages are mostly complaints. They are compared with earlier complaints about the same model or, "
    "where another model answered, about other models, and are a hint at most: more or fewer complaints about other "
    "stages can hide a loss or look like one."
)
_BUNDLES_SHOWN = 24
_COLORS = {True: "#30507a", False: "#9aa4b2"}
_LEAST_EVIDENCE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviews:
    """The champion on the reviewed messages of one bundle that came about in one way.

    Attributes:
        release_bundle: Whose messages.
        selection: How they came to be reviewed; only equal ones are compared. `AUDITED` is a sample of the traffic.
        outcomes: Its figure on each, from 0 to 1, higher is better, shape (reviews,).
        weights: How many turns each stands for, shape (reviews,); None where each stands for itself.
        shoppers: Who wrote each, shape (reviews,), an empty name for a shopper of its own; None where nobody is known.
        confidences: Probability it gave its own answers, shape (reviews,); None where there is none.
        role: `promotion` and `first` are what the `fresh` ones are compared with.
    """

    release_bundle: str
    selection: str
    outcomes: Floats
    weights: Floats | None = None
    shoppers: Sequence[str] | None = None
    confidences: Floats | None = None
    role: Role = "fresh"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecayConfig:
    """What counts as decay.

    Attributes:
        alpha: Chance that a champion which does not decay is ever called decayed, however often one looks.
        power: Chance to see `loss` that sample sizes are given for.
        loss: Of the metric, in its unit, that is worth an alarm: evidence is for a loss of this size against none.
        minimum_reviews: Fresh reviews below which nothing is judged, and reviews to compare with likewise.
        reference_reviews: Compared with are the reviews at promotion and the first bundles after it, until there are so
            many.
    """

    alpha: float = 0.05
    power: float = 0.8
    loss: float = 0.08
    minimum_reviews: int = 30
    reference_reviews: int = 50

    def __post_init__(self) -> None:
        """Refuse levels that are out of range."""
        if not 0 < self.alpha < 0.5 or not 0 < self.power < 1 or not 0 < self.loss < 1:
            raise ValueError(
                f"alpha must lie in (0, 0.5), power and loss in (0, 1): {self.alpha}, {self.power}, {self.loss}"
            )
        if not 2 <= self.minimum_reviews <= self.reference_reviews:
            raise ValueError(
                "minimum_reviews must be at least 2, and reference_reviews no fewer: "
                f"{self.minimum_reviews}, {self.reference_reviews}"
            )

    @property
    def needed_evidence(self) -> float:
        """The evidence that is an alarm."""
        return 1 / self.alpha

    @property
    def confidence(self) -> float:
        """Of the intervals, two-sided; each is that of one look."""
        return 1 - 2 * self.alpha


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleFigures:
    """The reviews of one bundle and one selection.

    `evidence` is that of all reviews up to this bundle; None for what is compared with.
    """

    release_bundle: str
    reviews: int
    score: float
    low: float
    high: float
    evidence: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Fresh reviews against earlier ones of the same selection.

    Attributes:
        selection: How they came to be reviewed.
        reference_reviews: How many are compared with; `reference_score` is their mean.
        fresh_reviews: How many are judged; `fresh_score` is their mean.
        difference: Fresh minus reference, from `low` to `high` by the interval of this look alone; None where one side
            has too few reviews.
        evidence: For a loss since any of the bundles; 1 where nothing was compared.
        since: Bundle since which a loss is likeliest, and by how much the reviews since then differ from those before.
        needed_reviews: About how many fresh ones show a loss of `DecayConfig.loss` that was there from the first; None
            where there are too few to compare with for any number.
        bundles: All after promotion, the oldest first.
    """

    selection: str
    reference_reviews: int
    reference_score: float | None
    fresh_reviews: int
    fresh_score: float | None
    difference: float | None
    low: float | None
    high: float | None
    evidence: float
    since: str | None
    change: float | None
    needed_reviews: int | None
    bundles: tuple[BundleFigures, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceCalibration:
    """Stated confidence against what was right, on the traffic."""

    reviews: int
    mean_confidence: float
    accuracy: float

    @property
    def overconfidence(self) -> float:
        """How much surer it is than right."""
        return self.mean_confidence - self.accuracy


@dataclass(frozen=True, slots=True, kw_only=True)
class DecayReport:
    """What was found: `audited` decides, `others` are shown."""

    metric: str
    outcome: Outcome
    reasons: tuple[str, ...]
    promotion_score: float | None
    fresh_reviews: int
    audited: Comparison
    others: tuple[Comparison, ...] = ()
    calibration: ConfidenceCalibration | None = None
    reference_calibration: ConfidenceCalibration | None = None
    config: DecayConfig = field(default_factory=DecayConfig)

    @property
    def compared_reviews(self) -> int:
        """Fresh reviews of the audit sample that were compared."""
        return self.audited.fresh_reviews if self.audited.difference is not None else 0

    @property
    def level_left(self) -> float:
        """The chance that it alarms from here on although nothing changed is at most this (Ville); 0 at an alarm."""
        left = self.config.alpha * self.audited.evidence
        return left if left < 1 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "schema": 2,
            **asdict(self),
            "compared_reviews": self.compared_reviews,
            "evidence": self.audited.evidence,
            "level": self.config.alpha,
            "needed_evidence": self.config.needed_evidence,
            "level_left": self.level_left,
        }

    def markdown(self) -> str:
        """Return the report for people, with what it shows and what it cannot show."""
        config = self.config
        level = (
            f"Evidence for a loss of {100 * config.loss:.0f} points: {self.audited.evidence:.3g}, and "
            f"{config.needed_evidence:.3g} is an alarm. Level: {config.alpha:.0%} over the champion's life, at any "
            f"number of looks; left of it are {self.level_left:.1%}, the chance of a false alarm from here on."
        )
        lines = [f"**{self.outcome}**: {plain('; '.join(self.reasons))}.", "", level]
        for one in (self.audited, *self.others):
            lines += _table(one, self.metric)
        for name, stated in (("earlier", self.reference_calibration), ("fresh", self.calibration)):
            if stated is not None:
                figures = f"{stated.mean_confidence:.1%} sure, {stated.accuracy:.1%} right"
                lines += ["", f"Calibration on {stated.reviews} {name} reviews of the audit sample: {figures}."]
        if self.promotion_score is not None:
            lines += ["", f"Promoted with {plain(self.metric)} {self.promotion_score:.3f} on its tests."]
        return "\n".join([*lines, "", LIMITS])


def _table(one: Comparison, metric: str) -> list[str]:
    if not one.bundles and not one.reference_reviews:
        return []
    lines = ["", f"Of {plain(one.selection)}, {one.reference_reviews} to compare with, {one.fresh_reviews} fresh:", ""]
    lines += [f"| bundle | reviews | {plain(metric)} | interval | evidence up to it |", "|---|---:|---:|---|---:|"]
    for bundle in one.bundles:
        evidence = "compared with" if bundle.evidence is None else f"{bundle.evidence:.3g}"
        lines.append(
            f"| {plain(bundle.release_bundle)} | {bundle.reviews} | {bundle.score:.3f} "
            f"| {bundle.low:.3f} to {bundle.high:.3f} | {evidence} |"
        )
    return lines


def decay_chart(report: DecayReport, *, title: str) -> bytes:
    """Return a PNG of the latest bundles, at most 24, oldest first: their scores, and the evidence against the alarm.

    It shows the audit sample; where nothing of it was reviewed, the reviews that there are most of.
    """
    from matplotlib.figure import Figure

    comparison = report.audited
    if not comparison.bundles and report.others:
        comparison = max(report.others, key=lambda one: one.reference_reviews + one.fresh_reviews)
    shown = comparison.bundles[-_BUNDLES_SHOWN:]
    figure = Figure(figsize=(max(6.0, 2.5 + 0.55 * len(shown)), 5.2), layout="constrained", dpi=80)
    scores, evidence = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    _draw_scores(scores, report, comparison, shown)
    _draw_evidence(evidence, report, shown)
    evidence.set_xticks(range(len(shown)), [_label(one) for one in shown], fontsize=7, rotation=30, ha="right")
    evidence.set_xlim(-0.5, max(len(shown), 1) - 0.5)
    scores.set_title(f"{title}: {report.outcome.replace('_', ' ')}", fontsize=10, loc="left")
    for axes in (scores, evidence):
        axes.grid(axis="y", color="#e8ebef")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return png(figure)


def _draw_scores(axes: Axes, report: DecayReport, comparison: Comparison, shown: Sequence[BundleFigures]) -> None:
    for fresh, color in _COLORS.items():
        places = [place for place, one in enumerate(shown) if (one.evidence is not None) == fresh]
        of_kind = [shown[place] for place in places]
        if of_kind:
            axes.errorbar(
                places,
                [one.score for one in of_kind],
                yerr=[[one.score - one.low for one in of_kind], [one.high - one.score for one in of_kind]],
                fmt="o",
                color=color,
                capsize=3,
                label="fresh" if fresh else "compared with",
            )
    if report.promotion_score is not None:
        axes.axhline(report.promotion_score, color="#1b7f3b", linestyle="--", label="promotion, its tests")
    if comparison.reference_score is not None:
        axes.axhline(comparison.reference_score, color="#9aa4b2", linestyle=":", label="all that is compared with")
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=7, loc="lower left", frameon=False)
    else:
        axes.text(0.5, 0.5, "no reviews yet", ha="center", va="center", transform=axes.transAxes)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel(f"{report.metric} on\n{comparison.selection}", fontsize=7)


def _draw_evidence(axes: Axes, report: DecayReport, shown: Sequence[BundleFigures]) -> None:
    points = [(place, one.evidence) for place, one in enumerate(shown) if one.evidence is not None]
    axes.plot(
        [place for place, _ in points],
        [max(evidence, _LEAST_EVIDENCE) for _, evidence in points],
        marker="o",
        markersize=3,
        color=_COLORS[True],
    )
    needed = report.config.needed_evidence
    axes.axhline(needed, color="#b3261e", linestyle="--", label=f"alarm: {needed:.3g}")
    axes.set_yscale("log")
    axes.set_ylim(_LEAST_EVIDENCE / 2, max([10 * needed, *(2 * evidence for _, evidence in points)]))
    axes.set_ylabel("evidence of a loss", fontsize=8)
    axes.legend(fontsize=7, loc="lower left", frameon=False)


def _label(one: BundleFigures) -> str:
    name = one.release_bundle if len(one.release_bundle) <= 24 else f"…{one.release_bundle[-23:]}"
    # A dollar sign would start a formula.
    return f"{name}\n{one.reviews} reviews".replace("$", r"\$")
