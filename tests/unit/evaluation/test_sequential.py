"""Evidence of a loss is a likelihood ratio that may be looked at as often as one likes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.evaluation.sequential import (
    Figures,
    even_worth,
    evidence_of_loss,
    mean_interval,
    needed_examples,
)

LOSS = 0.08


def figures(*periods, weights=None, shoppers=None):
    values = np.concatenate([np.asarray(one, dtype=np.float64) for one in periods])
    return Figures(
        values=values,
        weights=np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64),
        shoppers=np.arange(len(values)) if shoppers is None else np.asarray(shoppers),
        periods=np.repeat(np.arange(len(periods)), [len(one) for one in periods]),
    )


def share(right, of):
    return [1.0] * right + [0.0] * (of - right)


def test_one_later_period_is_the_likelihood_ratio_of_two_normal_means_and_half_of_it_waits():
    found = evidence_of_loss(figures(share(340, 400), share(150, 200)), loss=LOSS)
    # One right and one wrong answer are reckoned in.
    mean = 491 / 602
    halfway = mean - LOSS / 2
    deviation = math.sqrt(mean * (1 - mean) / 400 + halfway * (1 - halfway) / 200)
    # The spread is that of as many shoppers as figures: n / (n - 1).
    assert found.deviation == pytest.approx(deviation, rel=2e-3)
    fallen = math.exp(-((-0.1 + LOSS) ** 2) / (2 * found.deviation**2) + (-0.1) ** 2 / (2 * found.deviation**2))
    assert found.evidence == pytest.approx(fallen / 2 + 1 / 2)
    assert (found.since, found.difference, found.change) == (1, pytest.approx(-0.1), pytest.approx(-0.1))


def test_before_anything_is_compared_there_is_no_evidence():
    found = evidence_of_loss(figures(share(30, 40)), loss=LOSS)
    assert (found.evidence, found.since, found.deviation) == (pytest.approx(1.0), None, math.inf)


def test_the_period_since_which_the_mean_is_lower_is_named():
    found = evidence_of_loss(figures(share(340, 400), *[share(43, 50)] * 6, *[share(30, 50)] * 3), loss=LOSS)
    assert found.since == 7
    assert found.change == pytest.approx(0.6 - (340 + 6 * 43) / 700)
    assert found.evidence > 100


def test_as_good_as_before_speaks_against_a_loss():
    assert evidence_of_loss(figures(share(850, 1000), share(850, 1000)), loss=LOSS).evidence < 0.51


def test_messages_of_one_shopper_count_as_little_more_than_one():
    apart = figures(share(340, 400), share(150, 200))
    together = figures(share(340, 400), share(150, 200), shoppers=np.repeat(np.arange(60), 10))
    assert evidence_of_loss(together, loss=LOSS).deviation > 2 * evidence_of_loss(apart, loss=LOSS).deviation


def test_equal_weights_in_any_unit_tell_as_much_and_unequal_ones_less():
    assert even_worth(np.full(10, 7.0)).tolist() == pytest.approx([1.0] * 10)
    assert even_worth(np.array([1.0] * 5 + [9.0] * 5)).sum() == pytest.approx(50**2 / 410)


def test_weights_undo_a_draw_that_was_not_even():
    # Of 1,000 turns 100 are wrong; half of those and a tenth of the others are drawn.
    weights = even_worth(np.array([2.0] * 50 + [10.0] * 90))
    mean, low, high = mean_interval(np.array([0.0] * 50 + [1.0] * 90), weights, confidence=0.9)
    assert mean == pytest.approx(0.9)
    assert low < 0.9 < high


@pytest.mark.parametrize("reference", [700, 3_000])
def test_the_number_of_examples_that_is_named_has_the_power_that_is_promised(reference):
    generator = np.random.default_rng(0)
    planned = evidence_of_loss(figures(generator.random(reference) < 0.85), loss=LOSS)
    needed = needed_examples(planned, reference=reference, loss=LOSS, alpha=0.05, power=0.8)

    def seen():
        before = generator.random(reference) < 0.85
        steps = np.array_split(generator.random(needed) < 0.77, 10)
        whole = figures(before, *steps)
        return any(evidence_of_loss(whole.until(step), loss=LOSS).evidence >= 20 for step in range(1, 11))

    assert sum(seen() for _ in range(150)) / 150 == pytest.approx(0.8, abs=0.1)


def test_too_small_a_reference_is_said_to_be_the_reason():
    planned = evidence_of_loss(figures(share(85, 100)), loss=LOSS)
    assert needed_examples(planned, reference=100, loss=LOSS, alpha=0.05, power=0.8) is None


drawn = st.lists(st.lists(st.sampled_from([0.0, 0.4, 1.0]), min_size=1, max_size=30), min_size=1, max_size=6)


@given(drawn)
def test_any_figures_give_evidence_that_does_not_depend_on_their_order(periods):
    found = evidence_of_loss(figures(*periods), loss=LOSS)
    turned = evidence_of_loss(figures(*[one[::-1] for one in periods]), loss=LOSS)
    assert math.isfinite(found.evidence)
    assert found.evidence >= 1 / len(periods) * (1 - 1e-9)
    assert turned.evidence == pytest.approx(found.evidence)


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=40), st.floats(0.02, 0.98))
def test_an_interval_is_around_its_mean(values, confidence):
    mean, low, high = mean_interval(np.array(values), np.ones(len(values)), confidence=confidence)
    assert 0 <= low <= mean <= high <= 1
