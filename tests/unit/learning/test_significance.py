"""Claims about the paired tests."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.learning.significance import (
    holm,
    mcnemar_p_value,
    mcnemar_power,
    mcnemar_sample_size,
    mean_difference_sample_size,
    paired_bootstrap,
)


@pytest.mark.parametrize(("gained", "lost"), [(3, 1), (10, 2), (5, 5), (0, 4), (60, 30), (700, 600), (0, 0)])
@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_mcnemar_is_the_exact_binomial_test(gained: int, lost: int, alternative: str) -> None:
    from scipy.stats import binomtest

    expected = binomtest(gained, gained + lost, 0.5, alternative=alternative).pvalue if gained + lost else 1.0
    assert mcnemar_p_value(gained, lost, alternative=alternative) == pytest.approx(expected, abs=1e-12)


def test_mcnemar_of_a_large_sample_is_quick_and_close() -> None:
    from scipy.stats import binomtest

    expected = binomtest(10_200, 20_000, 0.5, alternative="greater").pvalue
    assert mcnemar_p_value(10_200, 9_800, alternative="greater") == pytest.approx(expected, rel=1e-2)


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        mcnemar_p_value(-1, 2)


def test_power_matches_a_simulation() -> None:
    counts = np.random.default_rng(0).multinomial(125, [0.10, 0.02, 0.88], size=4000)
    p_values = {(a, b): mcnemar_p_value(int(a), int(b), alternative="greater") for a, b, _ in counts}
    seen = np.mean([p_values[a, b] <= 0.05 for a, b, _ in counts])
    assert mcnemar_power(125, gain_rate=0.10, loss_rate=0.02) == pytest.approx(seen, abs=0.02)


def test_the_sample_size_is_the_first_that_has_the_power() -> None:
    needed = mcnemar_sample_size(gain_rate=0.1, loss_rate=0.02, power=0.8)
    assert needed is not None
    assert mcnemar_power(needed, gain_rate=0.1, loss_rate=0.02) >= 0.8
    assert mcnemar_power(needed - 1, gain_rate=0.1, loss_rate=0.02) < 0.8


def test_a_sure_gain_needs_as_many_examples_as_the_exact_test_can_speak_with() -> None:
    assert mcnemar_sample_size(gain_rate=1.0, loss_rate=0.0, alpha=0.05) == 5


def test_no_gain_has_no_sample_size() -> None:
    assert mcnemar_sample_size(gain_rate=0.05, loss_rate=0.05) is None
    assert mean_difference_sample_size(difference=0.0, deviation=0.3) is None


def test_a_small_gain_gets_a_bounded_answer() -> None:
    needed = mcnemar_sample_size(gain_rate=0.0101, loss_rate=0.01)
    assert needed is not None
    assert 1_000_000 < needed <= 10_000_000


def test_the_bootstrap_sees_a_clear_difference_and_repeats_itself() -> None:
    generator = np.random.default_rng(1)
    champion = generator.random(200)
    challenger = champion + 0.1 + 0.2 * generator.standard_normal(200)
    first = paired_bootstrap(champion, challenger, seed=7)
    assert first == paired_bootstrap(champion, challenger, seed=7)
    assert first.low < first.difference < first.high
    assert first.low > 0
    assert first.p_better < 0.01 < first.p_worse


def test_the_bootstrap_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(3)
    covered = 0
    for trial in range(200):
        challenger = generator.normal(0.3, 1.0, size=80)
        result = paired_bootstrap(np.zeros(80), challenger, resamples=800, seed=trial)
        covered += result.low <= 0.3 <= result.high
    assert 0.88 <= covered / 200 <= 0.99


def test_no_difference_proves_nothing() -> None:
    result = paired_bootstrap([0.5] * 20, [0.5] * 20)
    assert (result.p_better, result.p_worse) == (1.0, 1.0)


def test_a_figure_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        paired_bootstrap([0.0, float("nan")], [0.0, 1.0])


def test_holm_corrects_by_rank() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=30))
def test_holm_never_lowers_a_p_value_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(0 <= raw <= corrected <= 1 for raw, corrected in zip(p_values, adjusted, strict=True))
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    assert [adjusted[place] for place in order] == sorted(adjusted)
