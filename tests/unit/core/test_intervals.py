"""Wilson's and Newcombe's intervals against published values, scipy, and what any interval must be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from mangaassist_assets.core.intervals import newcombe_difference, wilson_interval

SHARES = st.integers(1, 5_000).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials)))


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_is_as_published(successes, trials, low, high):
    interval = wilson_interval(successes, trials)
    assert (interval.value, interval.low, interval.high) == (
        pytest.approx(successes / trials),
        pytest.approx(low, abs=5e-5),
        pytest.approx(high, abs=5e-5),
    )


@pytest.mark.parametrize(
    ("now", "before", "low", "high"),
    # Newcombe 1998, "Interval estimation for the difference between independent proportions", table II, method 10.
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((10, 10), (0, 10), 0.6075, 1.0),
        ((5, 56), (0, 29), -0.0381, 0.1926),
    ],
)
def test_newcombe_is_as_published(now, before, low, high):
    interval = newcombe_difference(*now, *before)
    assert (interval.low, interval.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(SHARES)
def test_wilson_is_scipys(share):
    theirs = binomtest(*share).proportion_ci(0.95, method="wilson")
    ours = wilson_interval(*share)
    assert (ours.low, ours.high) == (pytest.approx(theirs.low, abs=1e-9), pytest.approx(theirs.high, abs=1e-9))


@given(SHARES)
def test_an_interval_holds_its_share_within_0_and_1_and_mirrors(share):
    successes, trials = share
    interval = wilson_interval(successes, trials)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    mirrored = wilson_interval(trials - successes, trials)
    assert mirrored.low == pytest.approx(1 - interval.high, abs=1e-12)


@given(SHARES, SHARES)
def test_a_difference_holds_itself_and_turns_its_sign_with_its_sides(now, before):
    forward, backward = newcombe_difference(*now, *before), newcombe_difference(*before, *now)
    assert forward.low <= forward.value <= forward.high
    assert (backward.low, backward.high) == (pytest.approx(-forward.high), pytest.approx(-forward.low))


def test_without_trials_there_is_no_share():
    assert wilson_interval(0, 0) is None
    assert newcombe_difference(1, 2, 0, 0) is None


@pytest.mark.parametrize("share", [(3, 2), (-1, 2)])
def test_what_is_no_share_is_refused(share):
    with pytest.raises(ValueError, match="is no share"):
        wilson_interval(*share)
