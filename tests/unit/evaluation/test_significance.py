"""Claims about the paired tests."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.evaluation.significance import (
    holm,
    mcnemar_p_value,
    mcnemar_power,
    mcnemar_sample_size,
    mean_difference_sample_size,
    paired_bootstrap,
    sign_flip_p_value,
)


@pytest.mark.parametrize(
    ("gained", "lost"), [(3, 1), (10, 2), (5, 5), (0, 4), (60, 30), (700, 600), (10_200, 9_800), (0, 0)]
)
@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_mcnemar_is_the_exact_binomial_test(gained: int, lost: int, alternative: str) -> None:
    from scipy.stats import binomtest

    expected = binomtest(gained, gained + lost, 0.5, alternative=alternative).pvalue if gained + lost else 1.0
    assert mcnemar_p_value(gained, lost, alternative=alternative) == pytest.approx(expected, abs=1e-12)


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


def test_the_bootstrap_does_not_depend_on_the_order_of_the_examples() -> None:
    generator = np.random.default_rng(4)
    for champion in (generator.random(500), generator.choice([0.0, 0.5, 1.0], size=500)):
        challenger = generator.choice([0.0, 0.5, 1.0], size=500)
        order = generator.permutation(500)
        there = paired_bootstrap(champion, challenger, resamples=500)
        again = paired_bootstrap(champion[order], challenger[order], resamples=500)
        assert (there.low, there.high, there.p_better) == pytest.approx((again.low, again.high, again.p_better))


def test_drawing_few_values_at_once_is_the_same_bootstrap() -> None:
    generator = np.random.default_rng(4)
    coarse = generator.choice([-0.5, 0.0, 0.5, 1.0], size=400, p=[0.2, 0.5, 0.2, 0.1])
    fine = coarse + 1e-6 * generator.random(400)
    one, other = (paired_bootstrap(np.zeros(400), values, resamples=20_000) for values in (coarse, fine))
    assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=2e-3)
    assert one.p_worse == pytest.approx(other.p_worse, abs=5e-3)


def test_sign_flips_of_equal_differences_are_mcnemars_test() -> None:
    differences = np.array([0.3] * 3 + [-0.3] * 9 + [0.0] * 20)
    assert sign_flip_p_value(differences, alternative="less") == pytest.approx(
        mcnemar_p_value(3, 9, alternative="less")
    )
    larger = np.array([0.3] * 30 + [-0.3] * 44)
    assert sign_flip_p_value(larger, alternative="less") == pytest.approx(
        mcnemar_p_value(30, 44, alternative="less"), abs=0.01
    )


def test_sign_flips_weigh_how_much_was_won_and_lost() -> None:
    differences = np.array([0.01] * 10 + [-0.9] * 6)
    assert sign_flip_p_value(differences, alternative="less") < 0.05
    assert sign_flip_p_value(differences, alternative="greater") > 0.95


@pytest.mark.parametrize("size", [12, 60, 500])
def test_sign_flips_have_their_level(size: int) -> None:
    generator = np.random.default_rng(6)
    trials = 400
    found = sum(
        sign_flip_p_value(generator.standard_t(3, size=size) ** 3, alternative="greater", resamples=999) <= 0.05
        for _ in range(trials)
    )
    assert found <= 0.05 * trials + 3 * (0.05 * 0.95 * trials) ** 0.5


def test_no_difference_at_all_is_no_sign_of_one() -> None:
    assert sign_flip_p_value(np.zeros(10), alternative="less") == 1.0


def test_holm_corrects_by_rank() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=30))
def test_holm_never_lowers_a_p_value_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(0 <= raw <= corrected <= 1 for raw, corrected in zip(p_values, adjusted, strict=True))
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    assert [adjusted[place] for place in order] == sorted(adjusted)
