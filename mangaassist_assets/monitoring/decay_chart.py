"""The champion's figures on fresh reviews as a picture: one dot a bundle with its interval, promotion as a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mangaassist_assets.core.plotting import png

if TYPE_CHECKING:
    from mangaassist_assets.monitoring.decay_report import BundleFigures, DecayReport

_BUNDLES_SHOWN = 24
_COLORS = {"reference": "#9aa4b2", "lower": "#b3261e", "not_lower": "#30507a", "too_few": "#c3a13b"}
_MEANING = {
    "reference": "compared with",
    "lower": "lower",
    "not_lower": "not lower",
    "too_few": "too few to judge",
}


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
