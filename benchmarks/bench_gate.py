"""How often the gate is right and wrong, on traffic whose truth is known. Prints one JSON line.

Each scenario draws the traffic of a bundle anew (`tests/support/gate_simulation.py`: shoppers whose messages are alike,
messages that many send, failures that people review beside an audit sample) and counts verdicts, beside three other
rules on the very same reviews:

- `naive`: the challenger has more of them right;
- `all_alike`: McNemar's exact test, each review an independent one of the traffic, as the gate was before;
- `one_look`: the gate's own estimate at alpha, without a budget.

`false_pass_bound` is how many passes of equals the level allows, but for one time in a hundred. `year` counts years of
weekly looks in which any equal was promoted: a new challenger each week, or one whose test side grows.
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

from mangaassist_assets.evaluation.gate.budget import Look, promotion_level
from mangaassist_assets.evaluation.gate.decision import GateConfig, GateDecision, PromotionLevel
from mangaassist_assets.evaluation.gate.gate import judge
from mangaassist_assets.evaluation.results import GateInput
from tests.support.gate_simulation import Planted, Reviewed, draw_traffic, intent_input, intent_results, ranking_results
from tests.support.gate_simulation import review as review_traffic

Draw = Callable[[Planted, np.random.Generator], GateInput]
CONFIG = GateConfig(resamples=500)
WEEK_MS = 7 * 86_400_000

EQUALS: dict[str, Planted] = {
    "audits alone": Planted(),
    **{f"{count} failures reviewed": Planted(audits=100, failures=count) for count in (0, 100, 200, 400)},
    "600 turns, 80 audits, 80 failures": Planted(turns=600, audits=80, failures=80),
    "often apart (25 %)": Planted(turns=600, audits=80, failures=80, disagreement=0.25),
    **{
        f"six messages a shopper, icc {icc:g}": Planted(audits=150, failures=100, messages_a_shopper=6, icc=icc)
        for icc in (0.1, 0.25, 0.5)
    },
    **{f"{share:.0%} repeated messages": Planted(audits=150, failures=100, repeated=share) for share in (0.25, 0.5)},
    "all guardrail metrics": Planted(failures=100, guardrails=True),
}
PLANTED: dict[str, Planted] = {
    **{f"2 points worse, {count} failures": Planted(audits=100, failures=count, gain=-0.02) for count in (0, 200, 400)},
    **{
        f"{points} points better, 80 audits, 80 failures": Planted(
            turns=600, audits=80, failures=80, disagreement=max(0.16, 1.5 * points / 100), gain=points / 100
        )
        for points in (8, 11, 14)
    },
    "8 points better, 200 audits, 100 failures": Planted(audits=200, failures=100, disagreement=0.16, gain=0.08),
    "5 points better, one intent of 20 loses 30": Planted(
        turns=1280, audits=1280, gain=0.05, hurt=("intent", "intent 03"), hurt_gain=-0.3
    ),
    "5 points better, none loses": Planted(turns=1280, audits=1280, gain=0.05),
    "5 points better, Japanese loses 10": Planted(
        turns=4000, audits=1000, failures=100, gain=0.05, hurt=("language", "ja"), hurt_gain=-0.1
    ),
}


def rules(results: GateInput, decision: GateDecision) -> dict[str, bool]:
    """Return which rules would promote the challenger."""
    from scipy.stats import binomtest

    gained, lost = int(decision.figures["gained"]), int(decision.figures["lost"])
    alike = binomtest(gained, gained + lost, alternative="greater").pvalue if gained + lost else 1.0
    return {
        "naive": float(results.challenger.outcomes.mean()) > float(results.champion.outcomes.mean()),
        "all_alike": alike <= CONFIG.alpha,
        "one_look": decision.figures["p_better"] <= CONFIG.alpha,
    }


def simulate(draw: Draw, planted: Planted, *, trials: int, seed: int) -> dict[str, float]:
    """Return the shares of verdicts at a first look, and of the other rules' promotions."""
    generator = np.random.default_rng(seed)
    first = promotion_level([], champion="1", challenger="2", evidence="", now_ms=0, config=CONFIG)
    counts: Counter[str] = Counter()
    for _ in range(trials):
        results = draw(planted, generator)
        decision = judge(results, promotion=first, config=CONFIG)
        counts[decision.verdict] += 1
        counts.update(name for name, promoted in rules(results, decision).items() if promoted)
    names = ("pass", "needs_sign_off", "fail", "insufficient_evidence", "naive", "all_alike", "one_look")
    return {name: round(counts[name] / trials, 4) for name in names}


def a_year_of_new_challengers(planted: Planted, generator: np.random.Generator) -> tuple[bool, bool]:
    """Look each week at a new equal; return whether the gate promoted one, and whether alpha at each look would."""
    gate = alike = False
    looks: list[Look] = []
    for week in range(52):
        level = _next_level(looks, challenger=str(week), week=week)
        decision = judge(intent_results(planted, generator), promotion=level, config=CONFIG)
        gate |= decision.verdict == "pass"
        alike |= decision.figures["p_better"] <= CONFIG.alpha
    return gate, alike


def a_year_of_one_challenger(planted: Planted, generator: np.random.Generator) -> tuple[bool, bool]:
    """Look each week at the same equal as its reviews grow from a few to all."""
    gate = alike = False
    traffic = draw_traffic(planted, generator)
    whole = review_traffic(traffic, planted, generator)
    order = generator.permutation(len(whole.places))
    looks: list[Look] = []
    for week in range(52):
        rows = order[: max(30, len(order) * (week + 1) // 52)]
        share = len(rows) / len(order)
        part = Reviewed(places=whole.places[rows], inclusion_probabilities=whole.inclusion_probabilities[rows] * share)
        level = _next_level(looks, challenger="2", week=week)
        decision = judge(intent_input(traffic, part, planted, generator), promotion=level, config=CONFIG)
        gate |= decision.verdict == "pass"
        alike |= decision.figures["p_better"] <= CONFIG.alpha
    return gate, alike


def _next_level(looks: list[Look], *, challenger: str, week: int) -> PromotionLevel:
    named = {"champion": "1", "challenger": challenger, "evidence": str(week)}
    level = promotion_level(looks, **named, now_ms=week * WEEK_MS, config=CONFIG)
    looks.append(Look(**named, judged_ms=week * WEEK_MS, level=level.level))
    return level


def years(count: int) -> dict[str, dict[str, float]]:
    """Return the shares of years in which an equal was promoted, by the gate and with alpha at each look."""
    planted = Planted(turns=1200, audits=150, failures=80, disagreement=0.15, intents=(1,) * 8)
    found = {}
    for seed, (name, run) in enumerate(
        {
            "a new equal each week": a_year_of_new_challengers,
            "one equal, more reviews": a_year_of_one_challenger,
        }.items()
    ):
        generator = np.random.default_rng(500 + seed)
        outcomes = [run(planted, generator) for _ in range(count)]
        found[name] = {
            "gate": round(sum(gate for gate, _ in outcomes) / count, 4),
            "alpha_at_each_look": round(sum(alike for _, alike in outcomes) / count, 4),
        }
    return found


def latencies(trials: int) -> dict[str, float]:
    """Return how often a challenger of so many times the latency is stopped, at 60 and at 400 requests."""
    found = {}
    for requests in (60, 400):
        for ratio in (1.0, 1.25, 1.5):
            generator = np.random.default_rng(requests)
            stopped = 0
            for _ in range(trials):
                results = intent_results(Planted(turns=60, audits=60), generator)
                noise = generator.gamma(8.0, 1.5, size=(2, requests))
                timed = {"champion": noise[0], "challenger": ratio * noise[1]}
                decision = judge(_timed(results, timed), config=CONFIG)
                stopped += any(one.judgement == "broken" and "latency" in one.name for one in decision.guardrails)
            found[f"{ratio:g} times as slow, {requests} requests"] = round(stopped / trials, 4)
    return found


def _timed(results: GateInput, timed: dict[str, Any]) -> GateInput:
    from dataclasses import replace

    return replace(
        results,
        champion=replace(results.champion, latencies_ms=timed["champion"]),
        challenger=replace(results.challenger, latencies_ms=timed["challenger"]),
    )


def speed(repeats: int) -> float:
    """Return milliseconds that a decision on 3,000 reviews with 73 slices takes."""
    results = intent_results(Planted(turns=3000, audits=3000, guardrails=True), np.random.default_rng(0))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        judge(results)
        times.append(time.perf_counter() - start)
    return round(1000 * statistics.median(times), 1)


def main() -> None:
    """Run all scenarios."""
    from scipy.stats import binom

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000, help="bundles of equals")
    parser.add_argument("--planted-trials", type=int, default=300, help="bundles of each planted difference")
    parser.add_argument("--years", type=int, default=200, help="years of weekly looks")
    options = parser.parse_args()
    start = time.perf_counter()
    equals = {
        name: simulate(intent_results, planted, trials=options.trials, seed=seed)
        for seed, (name, planted) in enumerate(EQUALS.items())
    }
    rankings = Planted(audits=150, failures=100, disagreement=0.3)
    equals["rankings"] = simulate(ranking_results, rankings, trials=options.trials, seed=99)
    planted = {
        name: simulate(intent_results, plan, trials=options.planted_trials, seed=100 + seed)
        for seed, (name, plan) in enumerate(PLANTED.items())
    }
    ours = max(shares["pass"] for shares in equals.values())
    before = max(shares["all_alike"] for shares in equals.values())
    print(
        json.dumps(
            {
                "benchmark": "gate",
                "alpha": CONFIG.alpha,
                "trials": options.trials,
                "planted_trials": options.planted_trials,
                "largest_false_pass": ours,
                "false_pass_bound": float(binom.ppf(0.99, options.trials, CONFIG.alpha)) / options.trials,
                "baseline_all_alike_false_pass": before,
                "ratio": round(before / ours, 1) if ours else None,
                "equals": equals,
                "planted": planted,
                "year": years(options.years),
                "latency": latencies(options.planted_trials),
                "milliseconds": speed(9),
                "seconds": round(time.perf_counter() - start, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
