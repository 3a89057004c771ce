"""The gate: may this challenger replace the champion?

`pass` needs proof that the challenger is better over all, proof on every slice that is large enough for one that it is
at most a margin worse there, no slice on which it is provably worse, and no broken guardrail metric. `fail` needs proof
of a loss: over all, on a slice, or of a guardrail metric. Everything else is `insufficient_evidence`, which never
promotes and says how many examples would be needed.

A challenger that is no better passes with a chance of at most alpha, whatever else is asked. One that is no worse fails
with a chance of at most alpha over all, alpha on any slice, and alpha by any guardrail metric.
"""

from __future__ import annotations

import numpy as np

from mangaassist_assets.evaluation.gate.decision import (
    GateConfig,
    GateDecision,
    Verdict,
)
from mangaassist_assets.evaluation.gate.guardrail_metrics import judge_guardrails
from mangaassist_assets.evaluation.gate.input_validation import checked
from mangaassist_assets.evaluation.gate.paired_groups import resampled_difference
from mangaassist_assets.evaluation.gate.reasons import gain_proven, missing_proofs, proven_losses, remarks
from mangaassist_assets.evaluation.gate.slices import judge_slices
from mangaassist_assets.evaluation.non_inferiority import proportion_bounds
from mangaassist_assets.evaluation.results import GateInput
from mangaassist_assets.evaluation.significance import (
    mcnemar_p_value,
    mcnemar_sample_size,
    mean_difference_sample_size,
)


def judge(results: GateInput, *, config: GateConfig | None = None) -> GateDecision:
    """Judge two models by what they did on the same examples; the order of the examples does not matter.

    Overall, right or wrong is judged by McNemar's exact test, figures on a scale by the paired bootstrap. Slices and
    guardrail metrics are judged by `slices` and `guardrail_metrics`. The verdict on an empty test set is
    `insufficient_evidence`.

    Raises:
        ValueError: The results are not about the same examples, or hold NaN.
    """
    settings = config or GateConfig()
    results = checked(results)
    if not len(results.champion.outcomes):
        return GateDecision(
            metric=results.metric,
            verdict="insufficient_evidence",
            reasons=(f"there are no test examples: at least {settings.minimum_examples} are needed",),
            figures={"examples": 0.0},
            needed_examples=settings.minimum_examples,
            champion_version=results.champion.version,
            challenger_version=results.challenger.version,
            config=settings,
        )
    figures, needed = _overall(results, settings)
    slices = judge_slices(
        results.champion.outcomes,
        results.challenger.outcomes,
        results.slices,
        binary=results.binary,
        config=settings,
    )
    guardrails = judge_guardrails(results, config=settings)
    losses = proven_losses(results.metric, figures, slices, guardrails, settings)
    missing, wanted = missing_proofs(results.metric, figures, needed, slices, guardrails, settings)
    verdict: Verdict = "fail" if losses else "insufficient_evidence" if missing else "pass"
    better = gain_proven(results.metric, figures, slices, settings)
    counts = [count for count in wanted if count is not None]
    return GateDecision(
        metric=results.metric,
        verdict=verdict,
        reasons=(*(losses or missing or [better]), *remarks(slices, guardrails)),
        figures=figures,
        slices=slices,
        guardrails=guardrails,
        needed_examples=max(counts) if verdict == "insufficient_evidence" and len(counts) == len(wanted) else None,
        champion_version=results.champion.version,
        challenger_version=results.challenger.version,
        config=settings,
    )


def _overall(results: GateInput, config: GateConfig) -> tuple[dict[str, float], int | None]:
    """Return the overall figures, and how many examples would show a gain that these do not, where there is one."""
    champion, challenger = results.champion.outcomes, results.challenger.outcomes
    size = len(champion)
    gained, lost = int((challenger > champion).sum()), int((challenger < champion).sum())
    if results.binary:
        bounds = proportion_bounds(
            *(np.array([float(count)]) for count in (gained, lost, size)),
            margin=config.slice_margin,
            confidence=config.confidence,
        )
        low, high = float(bounds.low[0]), float(bounds.high[0])
        p_better = mcnemar_p_value(gained, lost, alternative="greater")
        p_worse = mcnemar_p_value(gained, lost, alternative="less")
        needed = None
        if p_better > config.alpha:
            needed = mcnemar_sample_size(
                gain_rate=gained / size, loss_rate=lost / size, alpha=config.alpha, power=config.power
            )
    else:
        result = resampled_difference(champion, challenger, config=config)
        low, high, p_better, p_worse = result.low, result.high, result.p_better, result.p_worse
        needed = mean_difference_sample_size(
            difference=result.difference,
            deviation=float((challenger - champion).std()),
            alpha=config.alpha,
            power=config.power,
        )
    figures = {
        "examples": float(size),
        "champion": float(champion.mean()),
        "challenger": float(challenger.mean()),
        "difference": float(challenger.mean() - champion.mean()),
        "difference_low": low,
        "difference_high": high,
        "gained": float(gained),
        "lost": float(lost),
        "p_better": p_better,
        "p_worse": p_worse,
    }
    for name in sorted(results.champion.other_figures):
        figures[f"champion_{name}"] = float(results.champion.other_figures[name].mean())
        figures[f"challenger_{name}"] = float(results.challenger.other_figures[name].mean())
    unknown = results.unknown_to_champion
    if unknown is not None and bool(unknown.any()):
        figures["unknown_to_champion"] = float(unknown.sum())
        figures["challenger_on_unknown"] = float(challenger[unknown].mean())
        if not bool(unknown.all()):
            figures["champion_on_known"] = float(champion[~unknown].mean())
            figures["challenger_on_known"] = float(challenger[~unknown].mean())
    return figures, needed
