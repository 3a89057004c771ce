"""Claims about the line between messages of known intents and of none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.models.intent.out_of_scope import (
    ScopeRule,
    balanced_threshold,
    scope_rule,
    scope_scores,
    separation,
    share_threshold,
)

SCORES = st.lists(st.integers(-50, 50), min_size=1, max_size=60).map(lambda found: np.array(found, dtype=np.float64))
NOTHING = np.zeros(0)


def test_the_score_is_the_largest_logit() -> None:
    assert scope_scores(np.array([[1.0, 3.0], [-2.0, -4.0]], dtype=np.float32)).tolist() == [3.0, -2.0]


@given(SCORES, st.floats(0.5, 0.99))
def test_the_stated_share_of_known_messages_gets_through(scores: np.ndarray, share: float) -> None:
    accepted = ScopeRule(threshold=share_threshold(scores, share)).accepts(scores)
    assert accepted.mean() >= share - 1e-9


def test_a_share_of_95_percent_refuses_five_of_a_hundred() -> None:
    scores = np.arange(100, dtype=np.float64)
    assert ScopeRule(threshold=share_threshold(scores, 0.95)).accepts(scores).sum() == 95


@given(SCORES, SCORES)
def test_no_other_threshold_makes_fewer_errors_on_both_sides(known: np.ndarray, other: np.ndarray) -> None:
    def errors(threshold: float) -> float:
        return float((known < threshold).mean() + (other >= threshold).mean())

    found = errors(balanced_threshold(known, other))
    assert all(found <= errors(threshold) + 1e-9 for threshold in np.unique(np.concatenate([known, other])))


def test_sides_that_do_not_overlap_are_told_apart_in_the_middle() -> None:
    assert balanced_threshold(np.array([4.0, 6.0]), np.array([0.0, 2.0])) == 3.0


def test_separation_is_the_share_of_pairs_in_the_right_order() -> None:
    known, other = np.array([3.0, 1.0]), np.array([2.0, 1.0])
    assert separation(known, other) == pytest.approx((2 + 0.5) / 4)


def test_enough_messages_of_no_intent_balance_both_errors_and_too_few_keep_the_share() -> None:
    known, other = np.linspace(5, 10, 40), np.linspace(0, 4, 30)
    settings = {"share": 0.95, "minimum_out_of_scope": 30}
    assert scope_rule(known, other, **settings).source == "both_errors"
    few = scope_rule(known, other[:29], **settings)
    assert few.source == "in_scope_share"
    assert few.accepts(known).mean() == pytest.approx(0.95)


def test_without_known_messages_nothing_is_refused() -> None:
    rule = scope_rule(NOTHING, np.zeros(40), share=0.95, minimum_out_of_scope=30)
    assert rule == ScopeRule()
    assert rule.accepts(np.array([-1e9, 0.0])).all()


def test_what_held_out_parts_of_train_say_is_marked_as_such() -> None:
    rule = scope_rule(np.arange(40.0), NOTHING, share=0.9, minimum_out_of_scope=30, held_out="cross_validation")
    assert (rule.threshold, rule.source) == (4.0, "cross_validation")
