"""Claims about proofs that a challenger is at most a margin worse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.evaluation.non_inferiority import (
    doubt,
    least_examples,
    mean_bounds,
    non_inferiority_sample_size,
    proportion_bounds,
    tango_score,
)

ALPHA = 0.05


def one(value: float) -> np.ndarray:
    return np.array([float(value)])


def bounds(gained: int, lost: int, examples: int, *, margin: float = 0.05):
    return proportion_bounds(one(gained), one(lost), one(examples), margin=margin, confidence=0.9)


def test_the_score_is_that_of_the_published_example() -> None:
    # Tango 1998, section 5: 44 patients, one worse under the new treatment and none better, margin 0.1: Z = 1.709.
    assert tango_score(one(0), one(1), one(44), -0.1)[0] == pytest.approx(1.709, abs=5e-4)
    found = bounds(0, 1, 44, margin=0.1)
    assert found.p_non_inferior[0] == pytest.approx(0.044, abs=5e-4)
    assert (found.low[0], found.high[0]) == pytest.approx((-0.096, 0.037), abs=1e-3)


def test_models_that_never_differ_prove_little_on_few_examples() -> None:
    assert bounds(0, 0, 20).p_non_inferior[0] > ALPHA
    assert bounds(0, 0, least_examples(0.05, ALPHA)).p_non_inferior[0] <= ALPHA
    assert bounds(0, 0, least_examples(0.05, ALPHA) - 1).p_non_inferior[0] > ALPHA
    assert bounds(0, 0, 20).low[0] < -0.05


@given(st.integers(1, 300), st.data())
def test_the_interval_holds_the_difference_and_agrees_with_the_test(examples: int, data: st.DataObject) -> None:
    gained = data.draw(st.integers(0, examples))
    lost = data.draw(st.integers(0, examples - gained))
    found = bounds(gained, lost, examples)
    assert -1 <= found.low[0] <= found.difference[0] <= found.high[0] <= 1
    assert 0 <= found.p_non_inferior[0] <= 1
    if abs(found.low[0] + 0.05) > 1e-9:
        assert (found.p_non_inferior[0] <= ALPHA) == (found.low[0] > -0.05)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(100, 300))
def test_swapping_the_models_mirrors_the_interval(gained: int, lost: int, examples: int) -> None:
    there, back = bounds(gained, lost, examples), bounds(lost, gained, examples)
    assert there.low[0] == pytest.approx(-back.high[0], abs=1e-9)


@pytest.mark.parametrize("disagreement", [0.06, 0.1, 0.2])
def test_a_loss_as_large_as_the_margin_is_proven_harmless_at_most_as_often_as_the_level_says(disagreement) -> None:
    rates = [(disagreement - 0.05) / 2, (disagreement + 0.05) / 2, 1 - disagreement]
    counts = np.random.default_rng(0).multinomial(300, rates, size=20_000).astype(float)
    found = proportion_bounds(counts[:, 0], counts[:, 1], np.full(20_000, 300.0), margin=0.05, confidence=0.9)
    assert (found.p_non_inferior <= ALPHA).mean() <= 0.055


@pytest.mark.parametrize(("examples", "disagreement"), [(80, 0.02), (200, 0.06), (300, 0.1), (400, 0.2)])
def test_doubt_is_how_often_an_equally_good_model_fails_to_prove_it(examples, disagreement) -> None:
    rates = [disagreement / 2, disagreement / 2, 1 - disagreement]
    counts = np.random.default_rng(0).multinomial(examples, rates, size=20_000).astype(float)
    found = proportion_bounds(counts[:, 0], counts[:, 1], np.full(20_000, float(examples)), margin=0.05, confidence=0.9)
    seen = (found.p_non_inferior > ALPHA).mean()
    assert doubt(examples, variance=disagreement, margin=0.05, alpha=ALPHA) == pytest.approx(seen, abs=0.03)


@pytest.mark.parametrize(("disagreement", "difference"), [(0.06, 0.0), (0.1, -0.02), (0.2, 0.01)])
def test_the_sample_size_has_about_the_power_it_says(disagreement, difference) -> None:
    needed = non_inferiority_sample_size(
        variance=disagreement, margin=0.05, alpha=ALPHA, power=0.8, difference=difference
    )
    assert needed is not None
    rates = [(disagreement + difference) / 2, (disagreement - difference) / 2, 1 - disagreement]
    counts = np.random.default_rng(1).multinomial(needed, rates, size=20_000).astype(float)
    found = proportion_bounds(counts[:, 0], counts[:, 1], np.full(20_000, float(needed)), margin=0.05, confidence=0.9)
    assert (found.p_non_inferior <= ALPHA).mean() == pytest.approx(0.8, abs=0.03)


def test_no_number_of_examples_proves_a_loss_of_the_margin_harmless() -> None:
    assert non_inferiority_sample_size(variance=0.1, margin=0.05, alpha=ALPHA, power=0.8, difference=-0.05) is None


def test_means_are_bounded_by_students_interval() -> None:
    from scipy.stats import ttest_1samp

    values = np.random.default_rng(0).normal(0.01, 0.3, size=40)
    found = mean_bounds(one(values.mean()), one(values.std(ddof=1)), one(40), margin=0.05, confidence=0.9)
    expected = ttest_1samp(values, -0.05, alternative="greater")
    interval = ttest_1samp(values, 0.0).confidence_interval(0.9)
    assert found.p_non_inferior[0] == pytest.approx(expected.pvalue)
    assert (found.low[0], found.high[0]) == pytest.approx((interval.low, interval.high))


def test_a_certain_mean_is_judged_by_itself() -> None:
    found = mean_bounds(np.array([0.0, -0.2]), np.zeros(2), np.full(2, 50.0), margin=0.05, confidence=0.9)
    assert found.p_non_inferior.tolist() == [0.0, 1.0]
