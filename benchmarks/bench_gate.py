"""How often the gate is right and wrong, on pairs of models whose truth is known. Prints one JSON line.

Test sets look like hwu64's (64 intents; languages, tenants and lengths beside them: tests/support/gate_simulation.py).
Each scenario draws test sets anew and counts verdicts, beside three other rules on the very same evidence:

- `naive`: the challenger's figure is higher;
- `superiority`: significantly better over all and on no slice significantly worse (Holm), as the gate was before it
  asked for non-inferiority;
- `holm`: the gate, with Holm's correction of the proofs of non-inferiority as well;
- `every_slice`: the gate, asking for a proof from every slice on which one is possible at all.

`asked` is the mean number of slices that had to prove non-inferiority. `within_level` says whether equals pass no more
often than alpha, by the binomial bound that holds 99 times in 100. Speed is the median of single calls.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mangaassist_assets.evaluation.gate.decision import GateConfig, GateDecision
from mangaassist_assets.evaluation.gate.gate import judge
from mangaassist_assets.evaluation.non_inferiority import least_examples
from mangaassist_assets.evaluation.results import GateInput
from mangaassist_assets.evaluation.significance import holm
from tests.support.gate_simulation import Planted, intent_results, ranking_results

Draw = Callable[[Planted, np.random.Generator], GateInput]
RESAMPLES = 2_000
EIGHTEEN = (1,) * 18


def rules(decision: GateDecision) -> dict[str, bool]:
    """Return which rules would promote the challenger."""
    alpha = decision.config.alpha
    asked = [item for item in decision.slices if item.judgement in {"non_inferior", "undecided"}]
    smallest = least_examples(decision.config.slice_margin, alpha)
    possible = [item for item in decision.slices if item.examples >= smallest and not item.pooled]
    passed = decision.verdict == "pass"
    return {
        "naive": decision.figures["difference"] > 0,
        "superiority": decision.figures["p_better"] <= alpha
        and not any(item.judgement == "worse" for item in decision.slices),
        "holm": passed and all(p <= alpha for p in holm([item.p_non_inferior for item in asked])),
        "every_slice": passed and all(item.p_non_inferior <= alpha for item in possible),
    }


def simulate(draw: Draw, planted: Planted, *, trials: int, seed: int) -> dict[str, float]:
    """Return the shares of verdicts and of the other rules' promotions."""
    generator = np.random.default_rng(seed)
    config = GateConfig(resamples=RESAMPLES)
    counts: Counter[str] = Counter()
    for _ in range(trials):
        decision = judge(draw(planted, generator), config=config)
        counts[decision.verdict] += 1
        counts.update(name for name, promoted in rules(decision).items() if promoted)
        counts["asked"] += sum(item.judgement in {"non_inferior", "undecided"} for item in decision.slices)
    names = ("pass", "fail", "insufficient_evidence", "naive", "superiority", "holm", "every_slice", "asked")
    return {name: round(counts[name] / trials, 4) for name in names}


def equals(trials: int) -> dict[str, dict[str, Any]]:
    """Retrain the same model: whoever passes is passed by mistake."""
    from scipy.stats import binom

    plans: dict[str, tuple[Draw, Planted]] = {
        f"intent_{examples}_{disagreement:g}": (intent_results, Planted(examples=examples, disagreement=disagreement))
        for examples, disagreement in ((3000, 0.06), (3000, 0.08), (3000, 0.1), (1076, 0.08), (300, 0.08))
    }
    plans["intent_3000_0.08_guardrails"] = (intent_results, Planted(guardrails=True))
    plans["ranking_1000_0.3"] = (ranking_results, Planted(examples=1000, disagreement=0.3))
    plans["ranking_200_0.3"] = (ranking_results, Planted(examples=200, disagreement=0.3))
    bound = float(binom.ppf(0.99, trials, GateConfig().alpha)) / trials
    found: dict[str, dict[str, Any]] = {}
    for seed, (name, (draw, planted)) in enumerate(plans.items()):
        shares = simulate(draw, planted, trials=trials, seed=seed)
        found[name] = {**shares, "within_level": shares["pass"] <= bound}
    return found


def losses_and_gains(trials: int) -> dict[str, dict[str, float]]:
    """Plant losses that must be stopped, and gains that should pass."""
    plans: dict[str, tuple[Draw, Planted]] = {}
    for disagreement in (0.04, 0.06, 0.1):
        plans[f"loss_2_points_{disagreement:g}"] = (intent_results, Planted(disagreement=disagreement, gain=-0.02))
        for points in (2, 3):
            for examples in (3000, 1076):
                planted = Planted(examples=examples, disagreement=disagreement, gain=points / 100)
                plans[f"gain_{points}_points_{examples}_{disagreement:g}"] = (intent_results, planted)
    for points in (5, 8, 12):
        planted = Planted(gain=0.03, hurt=("language", "ja"), hurt_gain=-points / 100)
        plans[f"gain_3_but_japanese_loses_{points}"] = (intent_results, planted)
    for points in (20, 40):
        planted = Planted(gain=0.03, hurt=("intent", "intent 03"), hurt_gain=-points / 100)
        plans[f"gain_3_but_one_intent_of_53_examples_loses_{points}"] = (intent_results, planted)
    plans["gain_5_points_400_in_18_intents"] = (intent_results, Planted(examples=400, gain=0.05, intents=EIGHTEEN))
    for sign, word in ((1, "gain"), (-1, "loss")):
        planted = Planted(examples=1000, disagreement=0.3, gain=0.1 * sign)
        plans[f"ranking_{word}_2.7_points"] = (ranking_results, planted)
    for examples in (20, 60, 100):
        plans[f"equals_{examples}_examples"] = (intent_results, Planted(examples=examples))
    return {
        name: simulate(draw, planted, trials=trials, seed=100 + seed)
        for seed, (name, (draw, planted)) in enumerate(plans.items())
    }


def speed(repeats: int) -> dict[str, float]:
    """Return milliseconds a call takes on 3,000 examples with 73 slices and 10,000 resamples."""
    generator = np.random.default_rng(0)
    cases = {
        "intent_all_guardrails": intent_results(Planted(guardrails=True), generator),
        "ranking": ranking_results(Planted(disagreement=0.3), generator),
    }
    found = {}
    for name, results in cases.items():
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            judge(results)
            times.append(time.perf_counter() - start)
        found[name] = round(1000 * statistics.median(times), 1)
    return found


def main() -> None:
    """Run all scenarios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000, help="test sets of equals")
    parser.add_argument("--planted-trials", type=int, default=300, help="test sets of each planted difference")
    options = parser.parse_args()
    start = time.perf_counter()
    same = equals(options.trials)
    planted = losses_and_gains(options.planted_trials)
    ours = max(shares["pass"] for shares in same.values())
    naive = max(shares["naive"] for shares in same.values())
    print(
        json.dumps(
            {
                "benchmark": "gate",
                "alpha": GateConfig().alpha,
                "trials": options.trials,
                "planted_trials": options.planted_trials,
                "mean_false_pass": round(statistics.mean(shares["pass"] for shares in same.values()), 4),
                "largest_false_pass": ours,
                "baseline_naive_false_pass": naive,
                "ratio": round(naive / ours, 1) if ours else None,
                "all_within_level": all(shares["within_level"] for shares in same.values()),
                "equals": same,
                "planted": planted,
                "milliseconds": speed(9),
                "seconds": round(time.perf_counter() - start, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
