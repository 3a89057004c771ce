"""Claims about the difference on traffic: unbiased, by shopper, and never too sure."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.evaluation.results import TrafficSample
from mangaassist_assets.evaluation.weighted_difference import weighted, weighted_difference
from tests.support.gate_simulation import Planted, draw_traffic, review


def compared(champion, challenger, *, sample=None, shoppers=()):
    champion, challenger = (np.asarray(values, dtype=float) for values in (champion, challenger))
    return weighted_difference(champion, challenger, weighted(len(champion), sample=sample, shoppers=shoppers))


def test_without_a_sample_it_is_the_plain_difference() -> None:
    item = compared([1, 0, 0, 1], [1, 1, 1, 0])
    assert (item.champion, item.challenger, item.difference) == (0.5, 0.75, 0.25)
    assert (item.examples, item.shoppers, item.discordant) == (4, 4, 3)


def test_a_drawn_example_stands_for_others_and_a_chosen_one_for_itself() -> None:
    sample = TrafficSample(inclusion_probabilities=np.array([0.1, 0.1, np.nan, np.nan]), turns=22)
    item = compared([0, 0, 0, 0], [1, 0, 1, 1], sample=sample)
    assert item.difference == pytest.approx((10 + 1 + 1) / 22)


def test_over_many_samples_it_is_the_difference_of_the_traffic_whatever_failures_were_reviewed() -> None:
    generator = np.random.default_rng(1)
    planted = Planted(turns=800, audits=120, failures=120, disagreement=0.2, gain=0.05)
    traffic = draw_traffic(planted, generator)
    truth = float((traffic.challenger_right.astype(float) - traffic.champion_right).mean())
    found, plain = [], []
    for _ in range(300):
        reviewed = review(traffic, planted, generator)
        champion, challenger = (
            right[reviewed.places].astype(float) for right in (traffic.champion_right, traffic.challenger_right)
        )
        sample = TrafficSample(inclusion_probabilities=reviewed.inclusion_probabilities, turns=planted.turns)
        found.append(compared(champion, challenger, sample=sample).difference)
        plain.append(float((challenger - champion).mean()))
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - truth) < 4 * error
    assert abs(np.mean(plain) - truth) > 20 * error


def test_a_shopper_who_writes_ten_times_alike_is_one_shopper() -> None:
    champion = np.zeros(40)
    challenger = np.repeat([1.0, 0.0, 1.0, 0.0], 10)
    alone = compared(champion, challenger)
    together = compared(champion, challenger, shoppers=[f"s{place // 10}" for place in range(40)])
    assert together.difference == alone.difference
    assert together.deviation > 2 * alone.deviation
    assert together.freedom == pytest.approx(3.0)
    assert together.p_better() > alone.p_better()


def test_a_sample_that_happens_to_hold_no_loss_proves_no_more_than_it_can() -> None:
    none = compared(np.ones(20), np.ones(20))
    assert none.p_better(-0.05) > 0.05
    assert compared(np.ones(400), np.ones(400)).p_better(-0.05) < 0.01
    assert none.p_better() == pytest.approx(0.5)


def test_p_values_belong_to_the_interval() -> None:
    generator = np.random.default_rng(2)
    item = compared(generator.random(80), generator.random(80))
    low, high = item.interval(0.9)
    assert item.p_better(low) == pytest.approx(0.05)
    assert item.p_worse(-high) == pytest.approx(0.05)


@given(st.integers(2, 60), st.integers(0, 2**32 - 1))
def test_the_order_changes_nothing_and_models_that_change_places_change_the_sign(size: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    champion, challenger = generator.random(size), generator.random(size)
    probabilities = np.where(generator.random(size) < 0.5, generator.random(size) * 0.9 + 0.1, np.nan)
    shoppers = [f"s{number}" for number in generator.integers(0, 5, size)]
    order = generator.permutation(size)

    def item(rows, first, second):
        sample = TrafficSample(inclusion_probabilities=probabilities[rows], turns=size * 12)
        return compared(first[rows], second[rows], sample=sample, shoppers=[shoppers[row] for row in rows])

    there, again = item(np.arange(size), champion, challenger), item(order, champion, challenger)
    assert (there.difference, there.deviation) == pytest.approx((again.difference, again.deviation))
    back = item(order, challenger, champion)
    assert (back.difference, back.p_worse()) == pytest.approx((-there.difference, there.p_better()))


def test_needed_examples_fall_with_the_square_of_the_effect() -> None:
    generator = np.random.default_rng(3)
    item = compared((generator.random(300) < 0.7).astype(float), (generator.random(300) < 0.7).astype(float))
    small, large = (item.needed_examples(effect, alpha=0.05, power=0.8) for effect in (0.05, 0.1))
    assert small == pytest.approx(4 * large, rel=0.02)
