"""Claims about the gate: what passes, what fails, and what is not known."""

import json

import numpy as np
import pytest

from mangaassist_assets.learning.gate import GateConfig, intent_gate, ranking_gate


def predictions(truth: list[str], wrong: set[int]) -> list[str]:
    return ["nonsense" if place in wrong else intent for place, intent in enumerate(truth)]


TRUTH = ["order"] * 60 + ["return"] * 60 + ["rare"] * 2


def test_a_significantly_better_challenger_passes() -> None:
    champion = predictions(TRUTH, set(range(20)))
    decision = intent_gate(TRUTH, champion, TRUTH)
    assert decision.verdict == "pass"
    assert decision.figures["gained"] == 20
    assert decision.needed_examples is None


def test_a_significantly_worse_challenger_fails() -> None:
    decision = intent_gate(TRUTH, TRUTH, predictions(TRUTH, set(range(20))))
    assert decision.verdict == "fail"
    assert "significantly worse" in decision.reasons[0]


def test_one_ruined_intent_fails_a_challenger_that_is_better_overall() -> None:
    champion = predictions(TRUTH, set(range(60)))
    challenger = predictions(TRUTH, set(range(60, 75)))
    decision = intent_gate(TRUTH, champion, challenger)
    assert decision.figures["p_better"] < 0.001
    assert decision.verdict == "fail"
    assert any("'return'" in reason for reason in decision.reasons)


def test_a_gain_of_chance_is_insufficient_evidence_and_says_what_it_would_take() -> None:
    champion = predictions(TRUTH, {0, 1, 2, 70})
    challenger = predictions(TRUTH, {3, 71})
    decision = intent_gate(TRUTH, champion, challenger)
    assert decision.verdict == "insufficient_evidence"
    assert decision.needed_examples is not None
    assert decision.needed_examples > len(TRUTH)
    assert any(str(decision.needed_examples) in reason for reason in decision.reasons)


def test_the_same_model_never_passes() -> None:
    decision = intent_gate(TRUTH, TRUTH, TRUTH)
    assert decision.verdict == "insufficient_evidence"
    assert decision.needed_examples is None
    assert any("no gain" in reason for reason in decision.reasons)


def test_a_tiny_test_set_never_passes_however_good_it_looks() -> None:
    truth = ["order"] * 10 + ["return"] * 10
    decision = intent_gate(truth, predictions(truth, set(range(20))), truth)
    assert decision.figures["p_better"] < 0.001
    assert decision.verdict == "insufficient_evidence"
    assert decision.needed_examples == 30


def test_an_empty_test_set_is_insufficient_evidence() -> None:
    assert intent_gate([], [], []).verdict == "insufficient_evidence"
    assert ranking_gate([], []).verdict == "insufficient_evidence"


def test_slices_too_small_to_judge_are_listed() -> None:
    decision = intent_gate(TRUTH, predictions(TRUTH, set(range(20))), predictions(TRUTH, {120, 121}))
    assert decision.too_small_slices == ("rare",)
    assert any("too small" in reason and "rare" in reason for reason in decision.reasons)
    assert decision.verdict == "pass"


def test_slices_too_small_to_judge_do_not_weaken_the_judgement_of_others() -> None:
    small = [f"rare {number}" for number in range(200)]
    truth = ["order"] * 60 + ["return"] * 12 + small
    challenger = predictions(truth, set(range(60, 72)))
    champion = predictions(truth, set(range(40)))
    decision = intent_gate(truth, champion, challenger)
    assert decision.verdict == "fail"
    assert len(decision.too_small_slices) == 200


def test_chance_alone_rarely_fails_a_slice() -> None:
    generator = np.random.default_rng(0)
    truth = [f"intent {number % 20}" for number in range(400)]
    failed = 0
    for _ in range(60):
        champion = predictions(truth, set(np.flatnonzero(generator.random(400) < 0.2)))
        challenger = predictions(truth, set(np.flatnonzero(generator.random(400) < 0.2)))
        failed += any(item.judgement == "worse" for item in intent_gate(truth, champion, challenger).slices)
    assert failed / 60 <= 0.1


def test_sequences_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="challenger_predictions"):
        intent_gate(["a"], ["a"], [])


def test_a_better_ranking_passes_and_a_worse_one_fails() -> None:
    generator = np.random.default_rng(0)
    champion = generator.choice([1.0, 0.5, 0.2], size=200)
    better = np.minimum(1.0, champion + generator.choice([0.0, 0.5], size=200))
    assert ranking_gate(champion, better).verdict == "pass"
    assert ranking_gate(better, champion).verdict == "fail"


def test_rankings_that_differ_by_chance_are_insufficient_evidence() -> None:
    generator = np.random.default_rng(0)
    champion, challenger = generator.random(60), generator.random(60)
    decision = ranking_gate(champion, challenger + 0.01)
    assert decision.verdict == "insufficient_evidence"
    assert decision.figures["difference_low"] < 0 < decision.figures["difference_high"]


def test_a_ruined_slice_fails_a_better_ranking() -> None:
    champion = [0.2] * 80 + [1.0] * 20
    challenger = [1.0] * 80 + [0.1] * 20
    slices = ["catalogue"] * 80 + ["policies"] * 20
    assert ranking_gate(champion, challenger).verdict == "pass"
    assert ranking_gate(champion, challenger, slices=slices).verdict == "fail"


def test_a_decision_is_json_and_a_table() -> None:
    decision = intent_gate(["a|b"] * 40, ["x"] * 40, ["a|b"] * 40)
    restored = json.loads(json.dumps(decision.to_dict(), allow_nan=False))
    assert restored["verdict"] == "pass"
    assert restored["slices"][0]["examples"] == 40
    table = decision.markdown()
    assert "**pass**" in table
    assert "a\\|b | 40 | 0.000 | 1.000 | +1.000" in table


@pytest.mark.parametrize("settings", [{"alpha": 0.0}, {"alpha": 0.7}, {"power": 1.0}, {"resamples": 1}])
def test_levels_that_are_none_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="GateConfig"):
        GateConfig(**settings)
