"""Claims about slices: which are proven worse, which look bad, and what chance does to seventy of them."""

import numpy as np
import pytest

from mangaassist_assets.evaluation.gate.decision import GateConfig
from mangaassist_assets.evaluation.gate.gate import judge
from mangaassist_assets.evaluation.gate.slices import judge_slices
from mangaassist_assets.evaluation.results import TrafficSample
from mangaassist_assets.evaluation.weighted_difference import weighted
from tests.support.gate_simulation import Planted, intent_results


def judged(champion, challenger, slices, *, sample=None, overall=0.0, **settings):
    figures = judge_slices(
        np.asarray(champion, dtype=float),
        np.asarray(challenger, dtype=float),
        slices,
        how=weighted(len(champion), sample=sample, shoppers=()),
        overall=overall,
        config=GateConfig(**settings),
    )
    return {(item.dimension, item.name): item for item in figures}


def outcomes(size: int, wrong: range) -> np.ndarray:
    answers = np.ones(size)
    answers[list(wrong)] = 0.0
    return answers


LANGUAGES = {"language": ("en",) * 1000 + ("ja",) * 500}


def test_a_large_slice_without_a_loss_is_proven_non_inferior() -> None:
    found = judged(outcomes(1500, range(60)), outcomes(1500, range(30, 60)), LANGUAGES)
    assert {item.judgement for item in found.values()} == {"non_inferior"}
    assert found["language", "en"].low > -0.05


def test_a_proven_loss_within_the_margin_is_a_price_that_may_be_paid() -> None:
    item = judged(np.ones(1500), outcomes(1500, range(1000, 1010)), LANGUAGES)["language", "ja"]
    assert item.high < 0
    assert item.judgement == "non_inferior"


def test_a_proven_loss_beyond_the_margin_is_worse() -> None:
    item = judged(np.ones(1500), outcomes(1500, range(1000, 1060)), LANGUAGES)["language", "ja"]
    assert item.judgement == "worse"
    assert item.p_worse_corrected <= 0.05


def test_what_is_neither_proven_nor_bad_is_undecided_and_says_how_many_examples_would_tell() -> None:
    champion, challenger = np.ones(60), np.ones(60)
    champion[:4] = 0.0
    challenger[10:13] = 0.0
    item = judged(champion, challenger, {"language": ("ja",) * 60})["language", "ja"]
    assert item.judgement == "undecided"
    assert item.needed_examples is not None
    assert item.needed_examples > 60


def test_a_small_slice_that_lost_a_quarter_is_suspicious_and_one_lost_message_is_not() -> None:
    slices = {"intent": ("gift",) * 20 + ("order",) * 400}
    lost = judged(np.ones(420), outcomes(420, range(5)), slices, overall=0.03)
    assert lost["intent", "gift"].judgement == "suspicious"
    assert lost["intent", "gift"].loss_probability > 0.7
    single = judged(np.ones(420), outcomes(420, range(1)), slices, overall=0.03)
    assert single["intent", "gift"].judgement == "undecided"


def test_what_others_show_weighs_where_a_slice_says_little() -> None:
    slices = {"intent": ("gift",) * 6}
    champion, challenger = np.ones(6), outcomes(6, range(2))
    hopeful, bleak = (judged(champion, challenger, slices, overall=value)["intent", "gift"] for value in (0.2, -0.2))
    assert hopeful.loss_probability < bleak.loss_probability


def test_failures_of_the_champion_do_not_hide_the_loss_of_a_slice() -> None:
    # 40 audits of 400 turns: 4 lost. 30 reviewed failures of the champion, all gained: they stand for 30 turns.
    champion = np.concatenate([np.ones(40), np.zeros(30)])
    challenger = np.concatenate([outcomes(40, range(4)), np.ones(30)])
    sample = TrafficSample(inclusion_probabilities=np.concatenate([np.full(40, 0.1), np.full(30, np.nan)]), turns=430)
    item = judged(champion, challenger, {"language": ("ja",) * 70}, sample=sample)["language", "ja"]
    assert item.difference == pytest.approx((30 - 40) / 430)
    assert (challenger - champion).mean() > 0.3


def test_an_empty_name_belongs_to_no_slice() -> None:
    assert judged(np.ones(4), np.ones(4), {"tenant": ("", "", "", "north")}).keys() == {("tenant", "north")}


def test_chance_alone_rarely_makes_any_of_seventy_slices_of_a_better_model_worse_or_suspicious() -> None:
    generator = np.random.default_rng(5)
    planted = Planted(turns=1500, audits=1500, disagreement=0.08, gain=0.05)
    judgements = [{item.judgement for item in judge(intent_results(planted, generator)).slices} for _ in range(40)]
    assert sum("worse" in one for one in judgements) <= 2
    assert sum("suspicious" in one for one in judgements) <= 4
