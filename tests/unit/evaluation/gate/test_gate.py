"""Claims about the gate: what passes, what fails, and what is not known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.evaluation.gate.decision import GateConfig, GateDecision, PromotionLevel
from mangaassist_assets.evaluation.gate.gate import judge
from mangaassist_assets.evaluation.results import GateInput, ModelResults, TrafficSample


def results(champion, challenger, *, binary=True, slices=None, unknown=None, **other) -> GateInput:
    """Return evidence of outcomes; `other` fields of both models are given as pairs (champion's, challenger's)."""
    models = [
        ModelResults(
            version=str(place + 1),
            outcomes=np.asarray(outcomes, dtype=float),
            **{name: values[place] for name, values in other.items()},
        )
        for place, outcomes in enumerate((champion, challenger))
    ]
    return GateInput(
        metric="accuracy" if binary else "ndcg@10",
        binary=binary,
        champion=models[0],
        challenger=models[1],
        slices=slices or {},
        unknown_to_champion=None if unknown is None else np.asarray(unknown),
        sample=drawn(len(champion)),
    )


def drawn(size: int) -> TrafficSample:
    """Return the sample in which each example stands for ten turns."""
    return TrafficSample(inclusion_probabilities=np.full(size, 0.1), turns=10 * size)


def classified(truth: list[str], champion: list[str], challenger: list[str]) -> GateDecision:
    """Judge two classifiers' answers, over all and on each true intent."""
    right = [[a == b for a, b in zip(truth, answers, strict=True)] for answers in (champion, challenger)]
    return judge(results(*right, slices={"intent": tuple(truth)}))


def ranked(champion, challenger, slices=None) -> GateDecision:
    """Judge two rankers by a figure of each query."""
    return judge(results(champion, challenger, binary=False, slices=None if slices is None else {"topic": slices}))


def predictions(truth: list[str], wrong: set[int]) -> list[str]:
    return ["nonsense" if place in wrong else intent for place, intent in enumerate(truth)]


TRUTH = ["order"] * 60 + ["return"] * 60 + ["rare"] * 2


def test_a_significantly_better_challenger_passes() -> None:
    champion = predictions(TRUTH, set(range(20)))
    decision = classified(TRUTH, champion, TRUTH)
    assert decision.verdict == "pass"
    assert decision.figures["gained"] == 20
    assert decision.needed_examples is None


def test_a_significantly_worse_challenger_fails() -> None:
    decision = classified(TRUTH, TRUTH, predictions(TRUTH, set(range(20))))
    assert decision.verdict == "fail"
    assert decision.reasons[0].startswith("the challenger is worse")


def test_one_ruined_intent_fails_a_challenger_that_is_better_overall() -> None:
    champion = predictions(TRUTH, set(range(60)))
    challenger = predictions(TRUTH, set(range(60, 75)))
    decision = classified(TRUTH, champion, challenger)
    assert decision.figures["p_better"] < 0.001
    assert decision.verdict == "fail"
    assert any("'return'" in reason for reason in decision.reasons)


def test_a_gain_of_chance_is_insufficient_evidence_and_says_what_it_would_take() -> None:
    champion = predictions(TRUTH, {0, 1, 2, 70})
    challenger = predictions(TRUTH, {3, 71})
    decision = classified(TRUTH, champion, challenger)
    assert decision.verdict == "insufficient_evidence"
    assert decision.needed_examples is not None
    assert decision.needed_examples > len(TRUTH)
    assert any(str(decision.needed_examples) in reason for reason in decision.reasons)


def test_the_same_model_never_passes() -> None:
    decision = classified(TRUTH, TRUTH, TRUTH)
    assert decision.verdict == "insufficient_evidence"
    assert any("no gain is proven" in reason for reason in decision.reasons)


def test_how_many_examples_are_needed_is_planned_for_a_gain_worth_seeing_not_for_the_one_that_was_seen() -> None:
    needed = []
    for gained in (5, 6, 7):
        champion = predictions(TRUTH, set(range(gained)))
        challenger = predictions(TRUTH, set(range(70, 74)))
        needed.append(classified(TRUTH, champion, challenger).needed_examples)
    assert None not in needed
    assert max(needed) < 1.5 * min(needed)
    champion, challenger = (predictions(TRUTH, {place}) for place in (0, 70))
    strict = judge(results(*([a == b for a, b in zip(TRUTH, one, strict=True)] for one in (champion, challenger))))
    wide = judge(
        results(*([a == b for a, b in zip(TRUTH, one, strict=True)] for one in (champion, challenger))),
        config=GateConfig(worth_seeing=0.1),
    )
    assert strict.needed_examples is not None
    assert wide.needed_examples is not None
    assert wide.needed_examples < strict.needed_examples


def test_a_tiny_test_set_never_passes_however_good_it_looks() -> None:
    truth = ["order"] * 10 + ["return"] * 10
    decision = classified(truth, predictions(truth, set(range(20))), truth)
    assert decision.figures["p_better"] < 0.001
    assert decision.verdict == "insufficient_evidence"
    assert decision.needed_examples == 30


def test_an_empty_test_set_is_insufficient_evidence() -> None:
    assert classified([], [], []).verdict == "insufficient_evidence"
    assert ranked([], []).verdict == "insufficient_evidence"


def test_slices_with_too_few_reviews_are_counted_and_do_not_hold_a_good_challenger() -> None:
    decision = classified(TRUTH, predictions(TRUTH, set(range(20))), predictions(TRUTH, {120}))
    assert [item.judgement for item in decision.slices if item.name == "rare"] == ["undecided"]
    assert any("too few reviews to tell" in reason for reason in decision.reasons)
    assert decision.verdict == "pass"


def test_a_slice_that_looks_bad_without_a_proof_asks_a_person() -> None:
    truth = ["order"] * 300 + ["return"] * 12
    champion = predictions(truth, set(range(20)))
    challenger = predictions(truth, set(range(300, 305)))
    decision = classified(truth, champion, challenger)
    assert decision.verdict == "needs_sign_off"
    assert any("'return' looks bad" in reason for reason in decision.reasons)
    assert decision.reasons[0].startswith("the challenger is better")


def test_examples_that_are_no_sample_of_the_traffic_prove_nothing_about_it() -> None:
    given = replace(results(np.zeros(300), np.ones(300)), sample=None)
    decision = judge(given)
    assert decision.figures["p_better"] < 1e-6
    assert decision.verdict == "insufficient_evidence"
    assert "no probability sample" in decision.reasons[0]
    failures = TrafficSample(inclusion_probabilities=np.full(300, np.nan), turns=3000)
    assert judge(replace(given, sample=failures)).verdict == "insufficient_evidence"


def test_a_gain_must_be_proven_at_the_level_that_the_budget_leaves() -> None:
    champion = predictions(TRUTH, set(range(12)))
    given = results(*([a == b for a, b in zip(TRUTH, one, strict=True)] for one in (champion, TRUTH)))
    assert judge(given).verdict == "pass"
    late = judge(given, promotion=PromotionLevel(level=0.0005, look=30, budget=0.1, spent=0.09))
    assert late.verdict == "insufficient_evidence"
    assert any("look 30 at this champion" in reason and "0.0095 is left" in reason for reason in late.reasons)


def test_messages_of_one_shopper_are_no_independent_proofs() -> None:
    champion = np.ones(200)
    champion[:16] = 0.0
    given = results(champion, np.ones(200))
    assert judge(given).verdict == "pass"
    one_hand = replace(given, shoppers=tuple(f"s{max(0, place - 15)}" for place in range(200)))
    assert judge(one_hand).verdict == "insufficient_evidence"


def test_slices_too_small_to_test_do_not_weaken_the_test_of_others() -> None:
    small = [f"rare {number}" for number in range(200)]
    truth = ["order"] * 60 + ["return"] * 12 + small
    challenger = predictions(truth, set(range(60, 72)))
    champion = predictions(truth, set(range(40)))
    decision = classified(truth, champion, challenger)
    assert decision.verdict == "fail"
    assert any("'return'" in reason for reason in decision.reasons)


def test_chance_alone_rarely_fails_a_slice() -> None:
    generator = np.random.default_rng(0)
    truth = [f"intent {number % 20}" for number in range(400)]
    failed = 0
    for _ in range(60):
        champion = predictions(truth, set(np.flatnonzero(generator.random(400) < 0.2)))
        challenger = predictions(truth, set(np.flatnonzero(generator.random(400) < 0.2)))
        failed += any(item.judgement == "worse" for item in classified(truth, champion, challenger).slices)
    assert failed / 60 <= 0.1


def test_a_better_ranking_passes_and_a_worse_one_fails() -> None:
    generator = np.random.default_rng(0)
    champion = generator.choice([1.0, 0.5, 0.2], size=200)
    better = np.minimum(1.0, champion + generator.choice([0.0, 0.5], size=200))
    assert ranked(champion, better).verdict == "pass"
    assert ranked(better, champion).verdict == "fail"


def test_rankings_that_differ_by_chance_are_insufficient_evidence() -> None:
    generator = np.random.default_rng(0)
    champion, challenger = generator.random(60), generator.random(60)
    decision = ranked(champion, challenger + 0.01)
    assert decision.verdict == "insufficient_evidence"
    assert decision.figures["difference_low"] < 0 < decision.figures["difference_high"]


def test_a_ruined_slice_fails_a_better_ranking() -> None:
    champion = [0.2] * 80 + [1.0] * 20
    challenger = [1.0] * 80 + [0.1] * 20
    slices = ["catalogue"] * 80 + ["policies"] * 20
    assert ranked(champion, challenger).verdict == "pass"
    assert ranked(champion, challenger, slices=slices).verdict == "fail"


@pytest.mark.parametrize(
    "settings",
    [
        {"alpha": 0.0},
        {"alpha": 0.7},
        {"power": 1.0},
        {"sign_off": 0.3},
        {"false_promotions_a_year": 0.0},
        {"resamples": 1},
        {"slice_margin": 0.0},
        {"scope_margin": 1.5},
        {"max_latency_ratio": float("nan")},
        {"max_size_ratio": 0.0},
        {"minimum_requests": 0},
        {"seed": -1},
    ],
)
def test_levels_and_limits_that_are_none_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="GateConfig"):
        GateConfig(**settings)


def test_a_gain_on_new_intents_does_not_pay_for_a_proven_loss_on_known_ones() -> None:
    unknown = np.arange(400) < 100
    champion = np.where(unknown, 0.0, 1.0)
    challenger = np.ones(400)
    challenger[100:130] = 0.0  # 30 of 300 known ones lost, 100 new ones gained
    decision = judge(results(champion, challenger, unknown=unknown))
    assert decision.figures["p_better"] < 1e-6
    assert decision.verdict == "fail"
    assert decision.figures["champion_on_known"] == 1.0
    assert decision.figures["challenger_on_known"] == pytest.approx(0.9)


def test_new_intents_do_not_block_where_no_loss_on_known_ones_is_proven() -> None:
    unknown = np.arange(140) < 100
    champion, challenger = (~unknown).astype(float), np.ones(140)
    challenger[120] = 0.0
    decision = judge(results(champion, challenger, unknown=unknown))
    assert decision.verdict == "pass"
    (known,) = [guardrail for guardrail in decision.guardrails if "known to the champion" in guardrail.name]
    assert known.judgement == "undecided"
    assert judge(results(np.zeros(60), np.ones(60), unknown=np.ones(60, dtype=bool))).verdict == "pass"


def test_one_example_is_insufficient_evidence_for_either_metric() -> None:
    for binary in (True, False):
        for pair in ((0.0, 1.0), (1.0, 0.0)):
            decision = judge(results([pair[0]], [pair[1]], binary=binary, slices={"language": ("ja",)}))
            assert decision.verdict == "insufficient_evidence"


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"champion": [1, 0], "challenger": [1]}, "the challenger's outcomes"),
        ({"champion": [1, 0], "challenger": [1, np.nan]}, "place 1"),
        ({"champion": [1, 0.5], "challenger": [1, 0]}, "0 or 1"),
        ({"champion": [[1, 0]], "challenger": [1]}, "one value an example"),
        ({"slices": {"language": ("ja",)}}, "slices of 'language'"),
        ({"unknown": [True]}, "unknown_to_champion"),
        ({"confidences": (np.array([0.5, 1.5]), None)}, r"champion's confidences must lie in \[0, 1\]"),
        ({"confidences": (None, np.array([0.5, np.nan]))}, "challenger's confidences"),
        ({"confidences": (None, np.array([0.5]))}, "challenger's confidences"),
        ({"other_figures": ({"mrr@10": np.ones(2)}, {})}, "same other figures"),
        ({"other_figures": ({"mrr@10": np.ones(3)}, {"mrr@10": np.ones(2)})}, "mrr@10"),
        ({"latencies_ms": (np.array([-1.0]), None)}, "negative"),
        ({"size_bytes": (0, 10)}, "size_bytes"),
        ({"shoppers": ("a",)}, "shoppers must have one entry"),
        ({"sample": TrafficSample(inclusion_probabilities=np.array([0.5, 0.0]), turns=9)}, "inclusion probabilities"),
        ({"sample": TrafficSample(inclusion_probabilities=np.array([0.5]), turns=9)}, "inclusion_probabilities"),
        ({"sample": TrafficSample(inclusion_probabilities=np.array([0.5, 0.5]), turns=1)}, "cannot be of 1 turns"),
    ],
)
def test_evidence_that_cannot_be_right_is_refused_by_name(bad, named) -> None:
    values = {"champion": [1, 0], "challenger": [1, 1], **bad}
    whole = {name: values.pop(name) for name in ("shoppers", "sample") if name in values}
    with pytest.raises(ValueError, match=named):
        judge(replace(results(values.pop("champion"), values.pop("challenger"), **values), **whole))


@st.composite
def pairs(draw, *, binary: bool = True) -> GateInput:
    """Two models' outcomes, with languages and lengths, sometimes lopsided enough for any verdict."""
    size = draw(st.integers(1, 400))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rates = [draw(st.sampled_from([0.1, 0.5, 0.8, 0.95, 1.0])) for _ in range(2)]
    champion, challenger = (
        (generator.random(size) < rate).astype(float) if binary else generator.random(size) ** rate for rate in rates
    )
    slices = {
        "language": tuple(generator.choice(["en", "ja", ""], size=size, p=[0.6, 0.3, 0.1]).tolist()),
        "length": tuple(generator.choice(["short", "long"], size=size).tolist()),
    }
    return results(champion, challenger, binary=binary, slices=slices)


FAST = GateConfig()


def swapped(given: GateInput) -> GateInput:
    return replace(given, champion=given.challenger, challenger=given.champion)


@given(st.one_of(pairs(), pairs(binary=False)))
def test_of_two_models_at_most_one_passes_against_the_other(given: GateInput) -> None:
    there, back = judge(given, config=FAST), judge(swapped(given), config=FAST)
    assert "pass" not in {there.verdict, back.verdict} or there.verdict != back.verdict
    if there.verdict == "pass":
        assert back.verdict == "fail"


def shuffled(given: GateInput, seed: int) -> GateInput:
    order = np.random.default_rng(seed).permutation(len(given.champion.outcomes))
    return replace(
        given,
        champion=replace(given.champion, outcomes=given.champion.outcomes[order]),
        challenger=replace(given.challenger, outcomes=given.challenger.outcomes[order]),
        slices={name: tuple(values[place] for place in order) for name, values in given.slices.items()},
    )


def rounded(decision: GateDecision) -> dict[str, object]:
    """Return a decision's values with numbers to nine decimals: sums depend on the order in their last bit."""

    def plain(value: object) -> object:
        if isinstance(value, float):
            return round(value, 9)
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list) else value

    return plain(decision.to_dict())


@given(st.one_of(pairs(), pairs(binary=False)), st.integers(0, 100))
def test_the_order_of_the_examples_changes_nothing(given: GateInput, seed: int) -> None:
    assert rounded(judge(given, config=FAST)) == rounded(judge(shuffled(given, seed), config=FAST))


@given(pairs(), st.integers(1, 3000))
def test_examples_on_which_both_agree_never_turn_a_failure_into_a_pass(given: GateInput, more: int) -> None:
    def longer(model: ModelResults) -> ModelResults:
        return replace(model, outcomes=np.concatenate([model.outcomes, np.ones(more)]))

    padded = replace(
        given,
        champion=longer(given.champion),
        challenger=longer(given.challenger),
        slices={},
        sample=drawn(len(given.champion.outcomes) + more),
    )
    if judge(replace(given, slices={}), config=FAST).verdict == "fail":
        # Near the level it may become "insufficient_evidence": the unseen win and loss weigh less among more examples.
        assert judge(padded, config=FAST).verdict in {"fail", "insufficient_evidence"}


@given(st.one_of(pairs(), pairs(binary=False)))
def test_a_pass_rests_on_a_proven_gain_and_on_no_slice_that_looks_bad(given: GateInput) -> None:
    decision = judge(given, config=FAST)
    if decision.verdict == "pass":
        assert decision.figures["p_better"] <= FAST.alpha
        assert {item.judgement for item in decision.slices} <= {"non_inferior", "undecided"}
        proven = [item for item in decision.slices if item.judgement == "non_inferior"]
        assert all(item.low >= -FAST.slice_margin - 1e-9 for item in proven)


def test_the_same_evidence_gives_the_same_decision() -> None:
    generator = np.random.default_rng(0)
    given = results(generator.random(300), generator.random(300), binary=False)
    assert judge(given) == judge(given)
