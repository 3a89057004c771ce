"""Claims about guardrail metrics: what a better challenger must not have paid with, measured or not."""

import numpy as np
import pytest

from mangaassist_assets.evaluation.gate.decision import GateConfig, GateDecision, GuardrailFigures
from mangaassist_assets.evaluation.gate.gate import judge
from mangaassist_assets.evaluation.gate.guardrail_metrics import ACCEPTED, CALIBRATION, LATENCY, REFUSED, SIZE
from mangaassist_assets.evaluation.results import FixedSet, GateInput, ModelResults, ScopeResults, TrafficSample

EXAMPLES = 1000
CHAMPION = np.where(np.arange(EXAMPLES) < 100, 0.0, 1.0)
CHALLENGER = np.where(np.arange(EXAMPLES) < 50, 0.0, 1.0)


SAMPLE = TrafficSample(inclusion_probabilities=np.full(EXAMPLES, 0.1), turns=10 * EXAMPLES)


def decide(champion=None, challenger=None, *, binary=True, fixed=None, **settings) -> GateDecision:
    """Judge a challenger that is better over all, with these further fields of both models."""
    return judge(
        GateInput(
            metric="accuracy",
            binary=binary,
            champion=ModelResults(version="1", outcomes=CHAMPION, **(champion or {})),
            challenger=ModelResults(version="2", outcomes=CHALLENGER, **(challenger or {})),
            sample=SAMPLE,
            fixed=fixed or {},
        ),
        config=GateConfig(**settings),
    )


def scope(refused: int, *, of: int, accepted: int = EXAMPLES) -> dict[str, ScopeResults]:
    return {
        "scope": ScopeResults(
            in_scope_accepted=np.arange(EXAMPLES) < accepted, out_of_scope_refused=np.arange(of) < refused
        )
    }


def guardrail_of(decision: GateDecision, name: str) -> GuardrailFigures:
    (found,) = [one for one in decision.guardrails if one.name == name]
    return found


def test_what_was_not_measured_is_said_and_does_not_hold() -> None:
    decision = decide()
    assert {guardrail.judgement for guardrail in decision.guardrails} == {"not_measured"}
    assert decision.verdict == "pass"
    assert any(reason.startswith("not measured: ") and LATENCY in reason for reason in decision.reasons)


def test_the_report_names_the_model_that_was_not_measured() -> None:
    decision = decide({"size_bytes": 10})
    assert guardrail_of(decision, SIZE).why == "no artifact's size of the challenger"


def test_sure_wrong_answers_break_calibration() -> None:
    honest = np.where(CHALLENGER > 0, 0.9, 0.4)
    decision = decide({"confidences": np.where(CHAMPION > 0, 0.9, 0.4)}, {"confidences": np.full(EXAMPLES, 0.999)})
    assert guardrail_of(decision, CALIBRATION).judgement == "broken"
    assert decision.verdict == "fail"
    assert "expected calibration error" in guardrail_of(decision, CALIBRATION).why
    kept = decide({"confidences": np.where(CHAMPION > 0, 0.9, 0.4)}, {"confidences": honest})
    assert guardrail_of(kept, CALIBRATION).judgement == "held"
    assert kept.verdict == "pass"


def test_a_guardrail_metric_of_lower_is_better_shows_its_figures_as_they_are() -> None:
    decision = decide({"confidences": np.full(EXAMPLES, 0.9)}, {"confidences": np.full(EXAMPLES, 0.95)})
    guardrail = guardrail_of(decision, CALIBRATION)
    assert guardrail.champion == pytest.approx(float(((0.9 - CHAMPION) ** 2).mean()))
    assert guardrail.challenger == pytest.approx(float(((0.95 - CHALLENGER) ** 2).mean()))
    assert guardrail.low is not None
    assert guardrail.high is not None
    assert guardrail.low < guardrail.challenger - guardrail.champion < guardrail.high


def test_confidence_in_figures_on_a_scale_is_not_measured() -> None:
    sure = {"confidences": np.full(EXAMPLES, 0.9)}
    assert guardrail_of(decide(sure, sure, binary=False), CALIBRATION).judgement == "not_measured"


def test_fewer_refusals_out_of_scope_break_the_guardrail_and_more_do_not() -> None:
    assert guardrail_of(decide(scope(180, of=200), scope(150, of=200)), REFUSED).judgement == "broken"
    assert decide(scope(180, of=200), scope(150, of=200)).verdict == "fail"
    assert guardrail_of(decide(scope(150, of=200), scope(180, of=200)), REFUSED).judgement == "held"


def test_refusing_everything_breaks_the_guardrail_of_accepted_messages() -> None:
    decision = decide(scope(150, of=200), scope(200, of=200, accepted=600))
    assert guardrail_of(decision, REFUSED).judgement == "held"
    assert guardrail_of(decision, ACCEPTED).judgement == "broken"


def test_a_proven_loss_within_the_margin_is_a_price_that_may_be_paid() -> None:
    guardrail = guardrail_of(decide(scope(150, of=200), scope(150, of=200, accepted=990)), ACCEPTED)
    assert guardrail.high is not None
    assert guardrail.high < 0.0
    assert guardrail.judgement == "held"


@pytest.mark.parametrize("examples", [0, 1, 9])
def test_too_few_out_of_scope_examples_are_not_judged_and_do_not_fail(examples: int) -> None:
    decision = decide(scope(examples, of=examples), scope(0, of=examples))
    assert guardrail_of(decision, REFUSED).judgement == "not_judged"
    assert decision.verdict == "pass"
    assert any(reason.startswith("not judged: ") for reason in decision.reasons)


def test_scope_of_different_examples_is_refused() -> None:
    with pytest.raises(ValueError, match="out_of_scope_refused"):
        decide(scope(5, of=20), scope(5, of=21))


def knows(intents: np.ndarray, accepted: np.ndarray, *, said: bool = True) -> dict[str, ScopeResults]:
    """Return the scope of a model that knows some examples' intents and accepts some of those."""
    return {
        "scope": ScopeResults(
            in_scope_accepted=accepted[intents],
            out_of_scope_refused=np.ones(20, dtype=bool),
            in_scope=intents if said else None,
        )
    }


def test_models_that_know_different_intents_are_compared_on_the_examples_of_both() -> None:
    places = np.arange(EXAMPLES)
    everything = np.ones(EXAMPLES, dtype=bool)
    guardrail = guardrail_of(decide(knows(places < 600, everything), knows(places >= 200, places >= 300)), ACCEPTED)
    assert guardrail.why.startswith("paired on 400 examples")
    assert (guardrail.champion, guardrail.challenger) == (1.0, 0.75)
    assert guardrail.judgement == "broken"


def test_where_it_is_not_said_which_examples_are_in_scope_unequal_numbers_are_not_compared() -> None:
    places = np.arange(EXAMPLES)
    everything = np.ones(EXAMPLES, dtype=bool)
    decision = decide(knows(places < 600, everything, said=False), knows(places < 900, everything, said=False))
    assert guardrail_of(decision, ACCEPTED).judgement == "not_measured"
    assert decision.verdict == "pass"


def test_flags_of_scope_must_fit_the_examples() -> None:
    places = np.arange(EXAMPLES)
    scope = ScopeResults(
        in_scope_accepted=np.ones(5, dtype=bool),
        out_of_scope_refused=np.ones(5, dtype=bool),
        in_scope=places < 6,
    )
    with pytest.raises(ValueError, match="champion's in_scope_accepted must have one entry for each of 6"):
        decide({"scope": scope})


def latencies(median: float, requests: int = 300) -> dict[str, np.ndarray]:
    return {"latencies_ms": np.random.default_rng(int(median * 10)).gamma(20.0, median / 20.0, size=requests)}


def test_a_challenger_twice_as_slow_is_stopped() -> None:
    decision = decide(latencies(10.0), latencies(20.0))
    assert guardrail_of(decision, LATENCY).judgement == "broken"
    assert decision.verdict == "fail"
    assert "ratio" in guardrail_of(decision, LATENCY).why


def test_a_challenger_as_fast_holds_the_latency() -> None:
    assert guardrail_of(decide(latencies(10.0), latencies(10.1)), LATENCY).judgement == "held"


def test_a_latency_at_the_limit_is_not_proven_to_break_it() -> None:
    base = latencies(10.0)["latencies_ms"]
    decision = decide({"latencies_ms": base}, {"latencies_ms": 1.25 * np.random.default_rng(0).permutation(base)})
    assert guardrail_of(decision, LATENCY).judgement == "undecided"
    assert decision.verdict == "pass"


def test_few_requests_or_a_clock_too_coarse_are_not_judged() -> None:
    assert guardrail_of(decide(latencies(10.0, 39), latencies(50.0, 39)), LATENCY).judgement == "not_judged"
    frozen = {"latencies_ms": np.zeros(100)}
    assert guardrail_of(decide(frozen, latencies(10.0)), LATENCY).judgement == "not_judged"


def test_noise_that_hits_both_models_in_the_same_request_is_no_difference() -> None:
    noise = np.random.default_rng(1).gamma(0.3, 200.0, size=300)
    together = guardrail_of(decide({"latencies_ms": 10.0 + noise}, {"latencies_ms": 10.5 + noise}), LATENCY)
    assert together.low is not None
    assert together.high is not None
    assert together.high - together.low < 0.05


def test_the_size_limit_is_a_fact_and_needs_no_proof() -> None:
    assert guardrail_of(decide({"size_bytes": 100}, {"size_bytes": 150}), SIZE).judgement == "held"
    grown = decide({"size_bytes": 100}, {"size_bytes": 151})
    assert guardrail_of(grown, SIZE).judgement == "broken"
    assert grown.verdict == "fail"
    assert decide({"size_bytes": 100}, {"size_bytes": 151}, max_size_ratio=2.0).verdict == "pass"


def test_a_further_figure_must_not_lose_more_than_a_slice_may() -> None:
    figures = np.linspace(0.2, 1.0, EXAMPLES)
    ranks, lower = ({"other_figures": {"mrr@10": figures - loss}} for loss in (0.0, 0.06))
    decision = decide(ranks, lower)
    assert guardrail_of(decision, "mrr@10").judgement == "broken"
    assert decision.verdict == "fail"
    assert guardrail_of(decide(lower, ranks), "mrr@10").judgement == "held"
    within = decide(ranks, {"other_figures": {"mrr@10": figures - 0.01}})
    assert guardrail_of(within, "mrr@10").judgement == "held"
    assert decision.figures["champion_mrr@10"] == pytest.approx(0.6)


def test_a_fixed_set_guards_against_regression_whatever_the_traffic_asks() -> None:
    def right(count: int) -> np.ndarray:
        return (np.arange(200) < count).astype(float)

    lost = decide(fixed={"golden set": FixedSet(champion=right(190), challenger=right(160))})
    assert guardrail_of(lost, "accuracy on the golden set").judgement == "broken"
    assert lost.verdict == "fail"
    kept = decide(fixed={"golden set": FixedSet(champion=right(190), challenger=right(189))})
    assert guardrail_of(kept, "accuracy on the golden set").judgement == "held"
    assert kept.verdict == "pass"
    few = decide(fixed={"golden set": FixedSet(champion=np.ones(4), challenger=np.zeros(4))})
    assert guardrail_of(few, "accuracy on the golden set").judgement == "not_judged"


def test_chance_rarely_breaks_any_of_many_guardrail_metrics() -> None:
    generator = np.random.default_rng(2)
    broken = 0
    for _ in range(100):
        models = [
            {
                "confidences": np.clip(0.8 + 0.1 * generator.standard_normal(EXAMPLES), 0, 1),
                "other_figures": {name: generator.random(EXAMPLES) for name in ("mrr@10", "recall@3")},
                "scope": ScopeResults(
                    in_scope_accepted=generator.random(EXAMPLES) < 0.9, out_of_scope_refused=generator.random(60) < 0.7
                ),
            }
            for _ in range(2)
        ]
        decision = judge(
            GateInput(
                metric="accuracy",
                binary=True,
                champion=ModelResults(version="1", outcomes=CHAMPION, **models[0]),
                challenger=ModelResults(version="2", outcomes=CHAMPION, **models[1]),
                sample=SAMPLE,
            ),
            config=GateConfig(resamples=500),
        )
        broken += any(guardrail.judgement == "broken" for guardrail in decision.guardrails)
    assert broken <= 11  # 5 % of 100, and three standard deviations


def test_the_order_of_the_requests_changes_nothing() -> None:
    generator = np.random.default_rng(3)
    champion = generator.integers(8, 12, size=200).astype(float)
    challenger = champion + generator.gamma(2.0, 2.0, size=200)
    order = generator.permutation(200)
    there = decide({"latencies_ms": champion}, {"latencies_ms": challenger})
    again = decide({"latencies_ms": champion[order]}, {"latencies_ms": challenger[order]})
    assert guardrail_of(there, LATENCY) == guardrail_of(again, LATENCY)
