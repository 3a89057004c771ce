"""How often champion health alarms without decay, and how soon it finds a loss. Prints one JSON line.

Each champion's life is simulated (`tests/support/decay_simulation.py`): weekly bundles of traffic, an audit sample of
some 40 turns each that holds more of the failed ones, failures reviewed beside it, the same shoppers all year. It is
looked at after every bundle, by champion health and, on the very same reviews, by the rule before it:

- `alpha_at_each_look`: Fisher's exact test of all fresh reviews against the reference, each look at alpha. Of the audit
  sample, each review an independent one.

`quiet` are shares of years with an alarm; `false_alarm_bound` is how many the level allows, but for one time in a
hundred. `found` are shares of losses of eight points that were found within about 400 audited reviews (ten bundles) of
where they began, and `within_800`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mangaassist_assets.monitoring.decay import judge_decay, with_references
from mangaassist_assets.monitoring.decay_report import AUDITED, DecayConfig, DecayReport, Reviews
from tests.support.decay_simulation import Life, live

CONFIG = DecayConfig()
QUIET: dict[str, Life] = {
    "reference of 400": Life(),
    "shoppers alike (icc 0.25)": Life(icc=0.25),
    "shoppers alike, 20 messages each": Life(icc=0.25, messages_a_shopper=20),
    "20 failures a week beside": Life(failures=20, icc=0.25),
    "reference of 50": Life(reference=50, icc=0.25),
    "accuracy 0.70": Life(accuracy=0.7, icc=0.25),
    "accuracy 0.97, 12 audits a week": Life(accuracy=0.97, icc=0.25, audits=12, turns=100),
}
LOSSES: dict[str, Life] = {
    **{
        f"from the first, reference of {reference}": Life(loss=0.08, reference=reference)
        for reference in (100, 200, 400, 600, 800, 1600)
    },
    "from the first, reference of 400, accuracy 0.70": Life(loss=0.08, accuracy=0.7),
    "from the first, reference of 800, accuracy 0.70": Life(loss=0.08, accuracy=0.7, reference=800),
    "from the first, reference of 400, accuracy 0.95": Life(loss=0.08, accuracy=0.95),
    "from the first, reference of 800, shoppers alike": Life(loss=0.08, reference=800, icc=0.25),
    "after 400 reviews, reference of 400": Life(loss=0.08, loss_from=11),
    "after 1,000 reviews, reference of 400": Life(loss=0.08, loss_from=26),
}


def first_alarms(report: DecayReport, reviews: list[Reviews]) -> tuple[float, float]:
    """Return at which bundle after promotion champion health, and the rule before it, would first have alarmed."""
    path = [one.evidence or 1.0 for one in report.audited.bundles]
    return _first(np.array(path) >= CONFIG.needed_evidence), _first(_fisher(reviews) <= CONFIG.alpha)


def _fisher(reviews: list[Reviews]) -> np.ndarray:
    """Return the p-value of "not lower" of all fresh reviews up to each bundle, 1 where they are too few."""
    from scipy.stats import hypergeom

    audited = [one for one in reviews if one.selection == AUDITED]
    reference = np.concatenate([one.outcomes for one in audited if one.role != "fresh"])
    later = [one for one in audited if one.role != "promotion"]
    fresh = [one.outcomes if one.role == "fresh" else np.zeros(0) for one in later]
    count = np.cumsum([len(one) for one in fresh])
    right = np.cumsum([one.sum() for one in fresh])
    both = len(reference) + count
    found = hypergeom.cdf(right, both, reference.sum() + right, count)
    return np.where(count < CONFIG.minimum_reviews, 1.0, found)


def _first(alarms: np.ndarray) -> float:
    return float(np.argmax(alarms)) + 1 if alarms.any() else np.inf


def simulate(life: Life, *, lives: int, seed: int) -> np.ndarray:
    """Return the bundles of the first alarms, shape (lives, 2); infinite where there is none."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(lives):
        marked = with_references(*live(life, generator), config=CONFIG)
        report = judge_decay(marked, metric="accuracy", binary=True, config=CONFIG)
        found.append(first_alarms(report, marked))
    return np.array(found)


def quiet(life: Life, *, lives: int, seed: int) -> dict[str, float]:
    """Return the shares of years with an alarm."""
    ours, before = np.isfinite(simulate(life, lives=lives, seed=seed)).mean(axis=0)
    return {"champion_health": round(float(ours), 4), "alpha_at_each_look": round(float(before), 4)}


def found(life: Life, *, lives: int, seed: int) -> dict[str, float]:
    """Return the shares of losses that are found within ten and within twenty bundles; alarms before them find none."""
    begun = life.loss_from - 1
    alarms = simulate(replace(life, weeks=begun + 20), lives=lives, seed=seed)
    waited = np.where(alarms > begun, alarms - begun, np.inf)
    shares = {"champion_health": waited[:, 0], "alpha_at_each_look": waited[:, 1]}
    return {
        **{name: round(float((weeks <= 10).mean()), 4) for name, weeks in shares.items()},
        "within_800": round(float((waited[:, 0] <= 20).mean()), 4),
    }


def speed(repeats: int) -> float:
    """Return milliseconds that a judgement of a year with 52 bundles takes."""
    marked = with_references(*live(Life(failures=20, icc=0.25), np.random.default_rng(0)))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        judge_decay(marked, metric="accuracy", binary=True)
        times.append(time.perf_counter() - start)
    return round(1000 * statistics.median(times), 1)


def main() -> None:
    """Run all scenarios."""
    from scipy.stats import binom

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--years", type=int, default=1000, help="years without decay, of each kind")
    parser.add_argument("--losses", type=int, default=500, help="lives with a loss, of each kind")
    options = parser.parse_args()
    start = time.perf_counter()
    years = {name: quiet(life, lives=options.years, seed=seed) for seed, (name, life) in enumerate(QUIET.items())}
    losses = {
        name: found(life, lives=options.losses, seed=100 + seed) for seed, (name, life) in enumerate(LOSSES.items())
    }
    ours = max(shares["champion_health"] for shares in years.values())
    before = max(shares["alpha_at_each_look"] for shares in years.values())
    print(
        json.dumps(
            {
                "benchmark": "decay",
                "alpha": CONFIG.alpha,
                "years": options.years,
                "losses": options.losses,
                "largest_false_alarms": ours,
                "false_alarm_bound": float(binom.ppf(0.99, options.years, CONFIG.alpha)) / options.years,
                "baseline_alpha_at_each_look": before,
                "ratio": round(before / ours, 1) if ours else None,
                "quiet": years,
                "found": losses,
                "milliseconds": speed(9),
                "seconds": round(time.perf_counter() - start, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
