"""Claims about how often the gate is wrong, on models whose truth is known. The full simulation is a benchmark."""

from collections import Counter

import numpy as np
import pytest

from mangaassist_assets.evaluation.gate.decision import GateConfig
from mangaassist_assets.evaluation.gate.gate import judge
from tests.support.gate_simulation import Planted, intent_results, ranking_results

CONFIG = GateConfig(resamples=1000)


def verdicts(draw, planted: Planted, *, trials: int, seed: int = 0) -> Counter[str]:
    generator = np.random.default_rng(seed)
    return Counter(judge(draw(planted, generator), config=CONFIG).verdict for _ in range(trials))


def most_by_chance(trials: int, rate: float) -> int:
    """Return how many of the trials an event of this rate stays within, but for one time in a thousand."""
    from scipy.stats import binom

    return int(binom.ppf(0.999, trials, rate))


@pytest.mark.parametrize(("draw", "disagreement"), [(intent_results, 0.08), (ranking_results, 0.3)])
def test_a_retrained_equal_passes_no_more_often_than_the_level_says(draw, disagreement) -> None:
    found = verdicts(draw, Planted(examples=600, disagreement=disagreement), trials=100)
    assert found["pass"] <= most_by_chance(100, CONFIG.alpha)


@pytest.mark.parametrize("disagreement", [0.04, 0.06, 0.1])
def test_a_loss_of_two_points_at_three_thousand_examples_is_failed_with_power(disagreement) -> None:
    found = verdicts(intent_results, Planted(disagreement=disagreement, gain=-0.02), trials=40)
    assert found["fail"] / 40 >= 0.8
    assert found["pass"] == 0


def test_a_gain_of_three_points_passes_on_a_test_set_like_hwu64() -> None:
    found = verdicts(intent_results, Planted(examples=1076, disagreement=0.06, gain=0.03), trials=40)
    assert found["pass"] / 40 >= 0.8


def test_a_gain_passes_with_a_few_hundred_examples_in_eighteen_intents() -> None:
    planted = Planted(examples=400, disagreement=0.1, gain=0.06, intents=(1,) * 18)
    assert verdicts(intent_results, planted, trials=40)["pass"] / 40 >= 0.8


def test_a_loss_of_the_margin_in_one_language_passes_no_more_often_than_the_level_says() -> None:
    planted = Planted(disagreement=0.08, gain=0.03, hurt=("language", "ja"), hurt_gain=-0.05)
    assert verdicts(intent_results, planted, trials=60)["pass"] <= most_by_chance(60, CONFIG.alpha)


def test_few_examples_are_insufficient_evidence_for_equals() -> None:
    found = verdicts(intent_results, Planted(examples=60), trials=60)
    assert found["insufficient_evidence"] >= 60 - most_by_chance(60, 0.1)
