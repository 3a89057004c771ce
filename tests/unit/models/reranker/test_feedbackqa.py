"""Claims about FeedbackQA as the reranker's benchmark reads it."""

from pathlib import Path

import numpy as np
import pytest

from mangaassist_assets.models.examples import RankingExample
from tests.support.feedbackqa import FirstStage, held_from_train, ranking_questions, rated_answers


class ByNumber(FirstStage):
    """Finds passages in the order of their numbers, without a model."""

    def __init__(self) -> None:
        """Load nothing."""

    def cosines(self, queries: list[str], passages: list[str]) -> np.ndarray:
        return np.tile(-np.arange(len(passages), dtype=np.float64), (len(queries), 1))


@pytest.fixture(scope="module")
def who(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue("shared_data") / "feedbackqa" / "WHO"
    return folder


def test_an_answer_that_was_not_found_is_learned_from_but_not_given_away(who: Path) -> None:
    learned = ranking_questions(who, "train", ByNumber(), limit=50)
    asked = ranking_questions(who, "valid", ByNumber(), limit=50)
    assert all(sum(one.relevances) >= 1 for one in learned)
    assert {len(one.passages) for one in asked} == {20}
    assert any(sum(one.relevances) == 0 for one in asked)
    late = next(one for one in learned if len(one.passages) == 21)
    assert late.first_stage_ranks[-1] > 20
    assert late.relevances[-1] == 1.0


def test_settings_are_chosen_on_a_tenth_of_train_that_no_other_question_joins(who: Path) -> None:
    learned = ranking_questions(who, "train", ByNumber())
    held = [one for one in learned if held_from_train(one)]
    assert 0.05 < len(held) / len(learned) < 0.15
    again = RankingExample(
        example_id="copy",
        query=f"  {held[0].query.upper()} ",
        passages=("x",),
        relevances=(1.0,),
        first_stage_ranks=(1,),
    )
    assert held_from_train(again)


def test_grades_are_means_of_two_people_and_differ_within_a_question(who: Path) -> None:
    rated = rated_answers(who)
    assert 30 < len(rated) <= 43
    assert all(0 <= gain <= 3 for one in rated for gain in one.gains)
    assert all(len(set(one.gains)) > 1 for one in rated)
