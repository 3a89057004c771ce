"""Claims about how often the gate is wrong, on traffic whose truth is known. The full simulation is a benchmark."""

from collections import Counter

import numpy as np
import pytest

from mangaassist_assets.evaluation.gate.budget import Look, promotion_level
from mangaassist_assets.evaluation.gate.decision import GateConfig
from mangaassist_assets.evaluation.gate.gate import judge
from tests.support.gate_simulation import Planted, intent_results, ranking_results

CONFIG = GateConfig(resamples=200)


def verdicts(draw, planted: Planted, *, trials: int, seed: int = 0) -> Counter[str]:
    generator = np.random.default_rng(seed)
    return Counter(judge(draw(planted, generator), config=CONFIG).verdict for _ in range(trials))


def most_by_chance(trials: int, rate: float) -> int:
    """Return how many of the trials an event of this rate stays within, but for one time in a thousand."""
    from scipy.stats import binom

    return int(binom.ppf(0.999, trials, rate))


@pytest.mark.parametrize(
    ("draw", "planted"),
    [
        (intent_results, Planted()),
        (intent_results, Planted(audits=100, failures=400)),
        (intent_results, Planted(audits=150, failures=100, messages_a_shopper=6, icc=0.5)),
        (intent_results, Planted(audits=150, failures=100, repeated=0.5)),
        (ranking_results, Planted(audits=150, failures=100, disagreement=0.3)),
    ],
    ids=["audits", "many failures", "shoppers alike", "repeated messages", "rankings"],
)
def test_a_retrained_equal_passes_no_more_often_than_the_level_says(draw, planted) -> None:
    found = verdicts(draw, planted, trials=80)
    assert found["pass"] + found["needs_sign_off"] <= most_by_chance(80, CONFIG.alpha)
    assert found["fail"] <= most_by_chance(80, 2 * CONFIG.alpha)


def test_reviews_of_failures_alone_would_pass_equals_and_the_gate_does_not_take_them_for_a_sample() -> None:
    planted = Planted(audits=100, failures=200, sampled=False)
    generator = np.random.default_rng(0)
    decisions = [judge(intent_results(planted, generator), config=CONFIG) for _ in range(20)]
    assert all(decision.figures["p_better"] <= CONFIG.alpha for decision in decisions)
    assert {decision.verdict for decision in decisions} == {"insufficient_evidence"}
    assert "no probability sample of the traffic" in decisions[0].reasons[0]


def test_a_worse_model_does_not_pass_by_reviews_of_the_champions_failures() -> None:
    found = verdicts(intent_results, Planted(audits=150, failures=400, gain=-0.02), trials=60)
    assert found["pass"] + found["needs_sign_off"] <= most_by_chance(60, 0.01)


def test_a_clear_gain_passes_with_eighty_audits_and_eighty_failures() -> None:
    planted = Planted(turns=600, audits=80, failures=80, disagreement=0.25, gain=0.14)
    assert verdicts(intent_results, planted, trials=40)["pass"] / 40 >= 0.75


def test_an_intent_of_twenty_that_loses_thirty_points_is_shown_to_a_person() -> None:
    planted = Planted(turns=1280, audits=1280, gain=0.05, hurt=("intent", "intent 03"), hurt_gain=-0.3)
    found = verdicts(intent_results, planted, trials=30)
    assert found["pass"] / 30 <= 0.25
    unhurt = verdicts(intent_results, Planted(turns=1280, audits=1280, gain=0.05), trials=30)
    assert unhurt["pass"] / 30 >= 0.9


def test_a_year_of_weekly_looks_at_equals_rarely_promotes_one() -> None:
    generator = np.random.default_rng(0)
    planted = Planted(turns=600, audits=60, failures=30, disagreement=0.15, intents=(1,) * 4)
    promoted, years = 0, 8
    for _ in range(years):
        looks: list[Look] = []
        for week in range(52):
            named = {"champion": "1", "challenger": str(week), "evidence": str(week)}
            now = week * 7 * 86_400_000
            level = promotion_level(looks, **named, now_ms=now, config=CONFIG)
            looks.append(Look(**named, judged_ms=now, level=level.level))
            if judge(intent_results(planted, generator), promotion=level, config=CONFIG).verdict == "pass":
                promoted += 1
                break
    assert promoted <= most_by_chance(years, CONFIG.false_promotions_a_year)
