"""Claims about slices: which are asked for proof, which are tested, and what a hurt one does to the verdict."""

import numpy as np
import pytest

from mangaassist_assets.evaluation.gate.decision import GateConfig
from mangaassist_assets.evaluation.gate.gate import judge
from mangaassist_assets.evaluation.gate.slices import judge_slices
from mangaassist_assets.evaluation.gate.slices import testable as slices_to_test
from mangaassist_assets.evaluation.results import GateInput, ModelResults
from tests.support.gate_simulation import Planted, intent_results, ranking_results


def judged(champion, challenger, slices, *, binary=True, **settings):
    figures = judge_slices(
        np.asarray(champion, dtype=float),
        np.asarray(challenger, dtype=float),
        slices,
        binary=binary,
        config=GateConfig(**settings),
    )
    return {(item.dimension, item.label): item for item in figures}


def outcomes(size: int, wrong: range) -> np.ndarray:
    answers = np.ones(size)
    answers[list(wrong)] = 0.0
    return answers


LANGUAGES = {"language": ("en",) * 1000 + ("ja",) * 500}


def test_a_large_slice_without_a_loss_is_proven_non_inferior() -> None:
    found = judged(outcomes(1500, range(60)), outcomes(1500, range(30, 60)), LANGUAGES)
    assert {item.judgement for item in found.values()} == {"non_inferior"}
    assert found["language", "en"].low > -0.05


def test_a_large_slice_with_a_provable_loss_is_worse_even_within_the_margin() -> None:
    found = judged(np.ones(1500), outcomes(1500, range(1000, 1010)), LANGUAGES)
    assert found["language", "ja"].judgement == "worse"
    assert found["language", "ja"].low > -0.05


def test_a_loss_that_is_neither_proven_nor_refuted_is_undecided_and_says_how_many_examples_it_takes() -> None:
    champion, challenger = np.ones(1500), np.ones(1500)
    champion[1000:1026] = 0.0
    challenger[1026:1066] = 0.0  # ja: 26 gained, 40 lost
    slices = {"language": LANGUAGES["language"]}
    item = judged(champion, challenger, slices)["language", "ja"]
    assert item.judgement == "undecided"
    assert item.p_worse_corrected > 0.05
    assert item.needed_examples is not None
    assert item.needed_examples > 500


def results(champion, challenger, slices) -> GateInput:
    models = [ModelResults(version=str(place), outcomes=values) for place, values in enumerate((champion, challenger))]
    return GateInput(metric="accuracy", binary=True, champion=models[0], challenger=models[1], slices=slices)


def test_a_gain_over_all_does_not_pass_while_a_slice_is_undecided() -> None:
    champion, challenger = np.ones(1500), np.ones(1500)
    champion[:80] = 0.0
    champion[1000:1026] = 0.0
    challenger[1026:1066] = 0.0
    decision = judge(results(champion, challenger, LANGUAGES))
    assert decision.figures["p_better"] < 0.001
    assert decision.verdict == "insufficient_evidence"
    assert any("'ja'" in reason for reason in decision.reasons)
    assert decision.needed_examples is not None
    assert decision.needed_examples > 1500


def test_whether_a_slice_is_asked_does_not_depend_on_how_it_turned_out() -> None:
    slices = {"language": ("en",) * 900 + ("ja",) * 600, "length": ("short", "long", "long") * 500}
    asked = set()
    for seed in range(20):
        generator = np.random.default_rng(seed)
        champion = np.ones(1500)
        challenger = np.ones(1500)
        # The same number of disagreements, wherever they fall and whoever wins them.
        places = generator.choice(1500, size=90, replace=False)
        winners = generator.random(90) < generator.random()
        champion[places[winners]] = 0.0
        challenger[places[~winners]] = 0.0
        found = judged(champion, challenger, slices)
        asked.add(frozenset(key for key, item in found.items() if item.judgement != "too_small"))
    assert asked == {frozenset({("language", "en"), ("language", "ja"), ("length", "long"), ("length", "short")})}


def test_small_slices_of_a_dimension_are_judged_together() -> None:
    names = ("north",) * 1000 + tuple(f"shop {number}" for number in range(20)) * 25
    champion, challenger = outcomes(1500, range(30)), outcomes(1500, range(30, 60))
    found = judged(champion, challenger, {"tenant": names})
    pool = found["tenant", "20 small slices together"]
    assert (pool.pooled, pool.examples, pool.judgement) == (20, 500, "non_inferior")
    assert found["tenant", "shop 3"].judgement == "too_small"


def test_a_loss_spread_over_small_slices_is_seen_in_their_pool() -> None:
    names = ("north",) * 1000 + tuple(f"shop {number}" for number in range(20)) * 25
    champion = outcomes(1500, range(100))
    challenger = outcomes(1500, range(1000, 1025))
    found = judged(champion, challenger, {"tenant": names})
    assert found["tenant", "20 small slices together"].judgement == "worse"
    assert all(found["tenant", f"shop {number}"].judgement == "too_small" for number in range(20))


def test_a_pool_of_all_examples_is_left_to_the_overall_test() -> None:
    names = tuple(f"intent {number}" for number in range(30)) * 20
    found = judged(outcomes(600, range(20)), outcomes(600, range(20, 40)), {"intent": names})
    assert not any(item.pooled for item in found.values())


def test_an_empty_name_belongs_to_no_slice() -> None:
    found = judged(np.ones(200), np.ones(200), {"language": ("ja",) * 150 + ("",) * 50})
    assert [(item.label, item.examples) for item in found.values()] == [("ja", 150)]


def test_only_slices_that_some_outcome_could_prove_worse_share_the_correction() -> None:
    config = GateConfig()
    assert slices_to_test([100, 3, 50, 4], binary=True, config=config) == [0, 2]
    assert slices_to_test([5], binary=True, config=config) == [0]
    assert slices_to_test([4], binary=True, config=config) == []
    # Resampling 10,000 times cannot tell p-values below 1 in 10,001.
    assert len(slices_to_test([50] * 2000, binary=False, config=config)) == 500


def test_quiet_slices_do_not_protect_a_ruined_one() -> None:
    names = ("return",) * 20 + tuple(f"intent {number}" for number in range(100)) * 20
    champion, challenger = np.ones(2020), np.ones(2020)
    challenger[:8] = 0.0
    champion[20:120] = 0.0  # one gain in each other intent
    found = judged(champion, challenger, {"intent": names})
    assert found["intent", "return"].p_worse_corrected == pytest.approx(2.0**-8)
    assert found["intent", "return"].judgement == "worse"


def test_chance_rarely_finds_any_slice_worse() -> None:
    generator = np.random.default_rng(5)
    found = 0
    for _ in range(100):
        drawn = intent_results(Planted(examples=800, disagreement=0.2), generator)
        found += any(item.judgement == "worse" for item in judge(drawn).slices)
    assert found <= 11  # 5 % of 100, and three standard deviations


def test_a_ruined_slice_of_rankings_is_worse_and_a_sound_one_is_not() -> None:
    generator = np.random.default_rng(0)
    champion = generator.choice([1.0, 0.63, 0.5], size=800)
    challenger = champion + 0.02
    challenger[600:] = champion[600:] - generator.choice([0.0, 0.2], size=200)
    found = judged(champion, challenger, {"language": ("en",) * 600 + ("ja",) * 200}, binary=False)
    assert found["language", "ja"].judgement == "worse"
    assert found["language", "en"].judgement == "non_inferior"


def test_a_slice_in_which_no_query_differs_is_judged_with_the_variance_of_all() -> None:
    champion = np.ones(800)
    challenger = champion.copy()
    challenger[:600:2] = 0.4
    champion[1:600:2] = 0.4
    found = judged(champion, challenger, {"language": ("en",) * 600 + ("ja",) * 200}, binary=False)
    quiet = found["language", "ja"]
    assert quiet.difference == 0.0
    assert quiet.low < 0.0 < quiet.high


@pytest.mark.parametrize("draw", [intent_results, ranking_results])
def test_a_challenger_that_is_much_worse_in_one_language_never_passes(draw) -> None:
    generator = np.random.default_rng(0)
    planted = Planted(examples=2000, disagreement=0.2, gain=0.1, hurt=("language", "ja"), hurt_gain=-0.15)
    decisions = [judge(draw(planted, generator), config=GateConfig(resamples=1000)) for _ in range(20)]
    assert not any(decision.verdict == "pass" for decision in decisions)
    assert sum(decision.figures["difference"] > 0 for decision in decisions) >= 18
