"""Claims about the figures of classifiers."""

import numpy as np
import pytest

from mangaassist_assets.evaluation.metrics import (
    Confusion,
    classification_figures,
    expected_calibration_error,
    order_by_scores,
)

TRUTH = ["order", "order", "order", "return", "return", "greeting"]
PREDICTED = ["order", "order", "return", "return", "order", "other"]


def test_classification_figures_agree_with_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    figures = classification_figures(TRUTH, PREDICTED)
    names = [figure.intent for figure in figures.intents]
    precision, recall, f1, support = precision_recall_fscore_support(TRUTH, PREDICTED, labels=names, zero_division=0)
    assert figures.accuracy == accuracy_score(TRUTH, PREDICTED)
    assert [figure.precision for figure in figures.intents] == pytest.approx(list(precision))
    assert [figure.recall for figure in figures.intents] == pytest.approx(list(recall))
    assert [figure.f1 for figure in figures.intents] == pytest.approx(list(f1))
    assert [figure.support for figure in figures.intents] == list(support)


def test_an_intent_that_never_occurs_does_not_lower_the_macro_average() -> None:
    figures = classification_figures(TRUTH, PREDICTED)
    occurring = [figure.f1 for figure in figures.intents if figure.support]
    assert figures.macro_f1 == pytest.approx(np.mean(occurring))
    assert {figure.intent for figure in figures.intents} == {"order", "return", "greeting", "other"}


def test_confusions_are_listed_most_frequent_first() -> None:
    figures = classification_figures(["a", "a", "b"], ["b", "b", "a"])
    assert figures.confusions == (
        Confusion(expected="a", predicted="b", count=2),
        Confusion(expected="b", predicted="a", count=1),
    )


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    assert expected_calibration_error([0.9] * 10, [True] * 9 + [False]) == pytest.approx(0.0)
    assert expected_calibration_error([1.0] * 10, [True] * 5 + [False] * 5) == pytest.approx(0.5)


def test_a_confidence_that_is_no_probability_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        expected_calibration_error([1.5], [True])


def test_equal_scores_keep_the_first_stage_order() -> None:
    assert order_by_scores([0.5, 0.9, 0.5], [3, 2, 1]) == [1, 2, 0]


@pytest.mark.parametrize(("truth", "predicted"), [([], []), (["a"], ["a", "b"])])
def test_unequal_or_empty_input_is_refused_by_name(truth: list[str], predicted: list[str]) -> None:
    with pytest.raises(ValueError, match=r"truth.*predictions"):
        classification_figures(truth, predicted)
