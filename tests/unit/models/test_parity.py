"""Claims about a smaller form of a model that is to stand for it."""

import numpy as np
import pytest

from mangaassist_assets.models.parity import ParityBound, label_parity, order_parity, spread

RANDOM = np.random.default_rng(3)
BOUND = ParityBound(changed_decisions=0.01, difference=0.1, least_decisions=100)


def probabilities(rows: int = 200) -> np.ndarray:
    values = RANDOM.uniform(size=(rows, 5))
    values[np.arange(rows), RANDOM.integers(0, 5, rows)] += 3
    return values / values.sum(axis=1, keepdims=True)


def test_what_decides_alike_by_nearly_the_same_numbers_holds() -> None:
    reference = probabilities()
    found = label_parity(reference, reference + RANDOM.normal(0, 0.005, reference.shape), bound=BOUND)
    assert found.holds
    assert found.equal_decisions == 1.0
    assert 0 < found.largest_difference < 0.1


@pytest.mark.parametrize(("changed", "holds"), [(2, True), (3, False)])
def test_one_decision_in_a_hundred_may_change_and_no_more(changed: int, holds: bool) -> None:
    reference = np.tile([0.51, 0.49], (200, 1))
    candidate = reference.copy()
    candidate[:changed] = [0.49, 0.51]
    found = label_parity(reference, candidate, bound=BOUND)
    assert found.holds is holds
    assert found.equal_decisions == 1 - changed / 200
    assert found.reason == ("" if holds else "1.50% of 200 decisions change, 1.00% may")


def test_a_probability_far_off_breaks_parity_though_the_decision_stays() -> None:
    reference = probabilities()
    candidate = reference.copy()
    candidate[7] *= 0.5
    found = label_parity(reference, candidate, bound=BOUND)
    assert found.equal_decisions == 1.0
    assert "a score changes by" in found.reason


def test_numbers_that_are_none_break_parity() -> None:
    reference = probabilities()
    assert not label_parity(reference, np.full_like(reference, np.nan), bound=BOUND).holds


@pytest.mark.parametrize("rows", [0, 99])
def test_too_few_decisions_show_nothing(rows: int) -> None:
    reference = probabilities(rows)
    found = label_parity(reference, reference, bound=BOUND)
    assert found.reason == f"it was seen on {rows} decisions, at least 100 are needed"
    assert not found.enough


def test_inputs_are_taken_evenly_out_of_many() -> None:
    assert spread(range(10), 5) == [0, 2, 4, 6, 8]
    assert spread("abc", 3) == ["a", "b", "c"]
    assert len(spread(range(886))) == 400


def test_scope_is_part_of_the_decision_and_labels_outside_of_it_are_not() -> None:
    reference = probabilities(100)
    within = np.ones(100, dtype=np.bool_)
    other = within.copy()
    other[:5] = False
    assert label_parity(reference, reference, scope=(within, other), bound=BOUND).equal_decisions == 0.95
    unlike = reference.copy()
    unlike[:5] = reference[:5, ::-1]
    assert label_parity(reference, unlike, scope=(other, other), bound=BOUND).equal_decisions == 1.0


def test_each_two_passages_of_a_list_are_a_decision() -> None:
    reference = [[0.9, 0.5, 0.1]] * 50
    turned = [[0.9, 0.52, 0.53]] + [[0.9, 0.5, 0.1]] * 49
    found = order_parity(reference, turned, bound=ParityBound(difference=1.0))
    assert found.decisions == 150
    assert found.equal_decisions == pytest.approx(149 / 150)
    assert found.holds
    assert found.largest_difference == pytest.approx(0.43)


def test_passages_that_the_reference_scores_alike_have_no_order() -> None:
    found = order_parity([[0.5, 0.5, 0.1]] * 50, [[0.5, 0.51, 0.1]] * 50, bound=BOUND)
    assert (found.decisions, found.equal_decisions) == (100, 1.0)


def test_lists_of_other_lengths_are_an_error() -> None:
    with pytest.raises(ValueError, match="answer differently many"):
        order_parity([[0.5, 0.4]], [[0.5]])
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        order_parity([[0.5, 0.4]], [])
