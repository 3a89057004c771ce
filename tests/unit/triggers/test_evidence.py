"""Evidence of a rise: numbers that can be checked by hand, and what holds of all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.triggers.evidence import (
    Reference,
    fiercest,
    find_rise,
    log_ratio,
    vote_weights,
)


def test_the_ratio_is_the_likelihood_of_a_risen_share_over_the_average_of_what_the_votes_before_leave_open():
    # After 1 thumbs-down of 2: odds 1, so a rise to the double is a share of 2/3; Beta(1.5, 1.5) has the mean 1/2.
    found = log_ratio(np.array(1.0), np.array(2.0), np.array(1.0), np.array(1.0), odds=(2.0,))
    assert np.exp(found) == pytest.approx((2 / 3) / (1 / 2))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 300), st.integers(1, 300), st.integers(1, 12))
def test_without_a_rise_the_ratio_has_the_mean_one_over_what_is_open(down, up, votes):
    before = np.array(float(down)), np.array(float(down + up))
    from scipy.stats import betabinom

    counts = np.arange(votes + 1)
    chances = betabinom.pmf(counts, votes, down + 0.5, up + 0.5)
    ratios = np.exp(log_ratio(*before, counts.astype(float), np.full(votes + 1, float(votes)), odds=(1.5, 2.0, 5.0)))
    assert float((chances * ratios).sum()) == pytest.approx(1.0, rel=1e-6)


def test_a_rise_is_placed_where_it_began():
    downs = np.array([number % 10 == 0 for number in range(400)] + [number % 2 == 0 for number in range(100)])
    rise = find_rise(
        downs, np.ones(500), Reference(down=50.0, votes=500.0), block=20, odds=(2.0, 5.0), least=100.0, most=5_000.0
    )
    assert rise.start == 400
    assert rise.since == Reference(down=50.0, votes=100.0)
    assert rise.before.share == pytest.approx(0.1)


def test_without_enough_before_there_is_no_start():
    assert (
        find_rise(
            np.ones(40, dtype=bool), np.ones(40), Reference(down=0, votes=0), block=20, odds=(2.0,), least=100, most=1e4
        )
        is None
    )


def test_later_votes_of_a_shopper_count_less_and_change_no_earlier_one():
    weights = vote_weights(["a", "b", "a", "a"], correlation=0.1)
    assert weights.tolist() == pytest.approx([1.0, 1.0, 2 / 1.1 - 1, 3 / 1.2 - 2 / 1.1])
    assert vote_weights(["a", "b", "a"], correlation=0.1).tolist() == weights[:3].tolist()


def test_the_fiercest_are_those_who_complained_twice_those_with_most_first():
    shoppers = ["a", "a", "a", "b", "b", *map(str, range(15))]
    downs = np.array([True] * 5 + [True] * 5 + [False] * 10)
    # A share of 1 % of 17 shoppers is 0.17 of one, and two standard deviations more are 0.99.
    assert fiercest(shoppers, downs, share=0.01) == {"a"}
    assert fiercest(shoppers, downs, share=0.5) == {"a", "b"}
    assert not fiercest(shoppers, downs, share=0.0)
