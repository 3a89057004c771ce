"""Pairs of models with a known truth, for the gate: equally good, better, worse, or worse on one slice alone.

Test sets look like hwu64's: 64 intents of which 53 are equally large; languages, tenants and lengths beside them.
Messages differ in difficulty, and the models differ where messages are hard. Rankings have one relevant passage among
20 candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.evaluation.results import GateInput, ModelResults, ScopeResults

Floats = NDArray[np.float64]

HWU64_SIZES = (19,) * 53 + (3, 7, 7, 8, 8, 8, 9, 10, 11, 12, 16)
OTHER_SLICES = {
    "language": {"en": 0.8, "ja": 0.2},
    "tenant": {"north": 0.4, "south": 0.3, "east": 0.2, "west": 0.1},
    "length": {"long": 0.2, "middle": 0.3, "short": 0.5},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """What is true about a pair of models.

    Attributes:
        examples: Size of the test set.
        disagreement: Share of examples that only one of the two has right, or ranks elsewhere.
        gain: True mean difference, challenger minus champion; of right answers, or, in rankings, of the share of
            disagreements that are wins minus that of losses, times `disagreement`.
        hurt: Slice by dimension and name on which `hurt_gain` holds instead of `gain`.
        hurt_gain: True mean difference there.
        intents: Sizes of the intents, in proportion.
        guardrails: Whether to add confidences, scope and latencies, drawn alike for both models.
    """

    examples: int = 3000
    disagreement: float = 0.08
    gain: float = 0.0
    hurt: tuple[str, str] | None = None
    hurt_gain: float = 0.0
    intents: tuple[int, ...] = HWU64_SIZES
    guardrails: bool = False


def intent_results(planted: Planted, generator: np.random.Generator) -> GateInput:
    """Draw a test set and what two classifiers did on it."""
    slices = _slices(planted, generator)
    champion_right, direction = _disagreements(planted, slices, generator)
    champion = np.where(direction == 0, champion_right, (direction < 0).astype(float))
    challenger = np.where(direction == 0, champion_right, (direction > 0).astype(float))
    return GateInput(
        metric="accuracy",
        binary=True,
        champion=_model("1", champion, planted, generator),
        challenger=_model("2", challenger, planted, generator),
        slices=slices,
    )


def ranking_results(planted: Planted, generator: np.random.Generator) -> GateInput:
    """Draw queries and where two rerankers put the relevant passage."""
    slices = _slices(planted, generator)
    _, direction = _disagreements(planted, slices, generator)
    ranks = np.minimum(generator.geometric(0.45, size=(2, planted.examples)), 20)
    better, worse = ranks.min(axis=0), ranks.max(axis=0)
    champion = np.where(direction == 0, ranks[0], np.where(direction > 0, worse, better))
    challenger = np.where(direction == 0, ranks[0], np.where(direction > 0, better, worse))
    return GateInput(
        metric="ndcg@10",
        binary=False,
        champion=_ranker("1", champion),
        challenger=_ranker("2", challenger),
        slices=slices,
    )


def _slices(planted: Planted, generator: np.random.Generator) -> dict[str, tuple[str, ...]]:
    shares = np.array(planted.intents) / sum(planted.intents)
    intents = generator.choice(len(shares), size=planted.examples, p=shares)
    slices = {"intent": tuple(f"intent {number:02d}" for number in intents)}
    for dimension, parts in OTHER_SLICES.items():
        drawn = generator.choice(list(parts), size=planted.examples, p=list(parts.values()))
        slices[dimension] = tuple(drawn.tolist())
    return slices


def _disagreements(
    planted: Planted, slices: dict[str, tuple[str, ...]], generator: np.random.Generator
) -> tuple[Floats, NDArray[np.int64]]:
    """Return what both would answer where they agree, and 1 for a win of the challenger, -1 for a loss, else 0."""
    easiness = generator.beta(9.0, 1.0, size=planted.examples)
    weight = easiness * (1 - easiness)
    rate = np.minimum(0.95, planted.disagreement * weight / weight.mean())
    gain = np.full(planted.examples, planted.gain)
    if planted.hurt is not None:
        dimension, name = planted.hurt
        gain[np.array(slices[dimension]) == name] = planted.hurt_gain
    # Where a gain is larger than what the models differ by, they must differ more.
    rate = np.minimum(0.95, rate * np.maximum(1.0, np.abs(gain) / planted.disagreement))
    wins = (1 + np.clip(gain / np.maximum(planted.disagreement, np.abs(gain)), -1, 1)) / 2
    differs = generator.random(planted.examples) < rate
    direction = np.where(generator.random(planted.examples) < wins, 1, -1) * differs
    return (generator.random(planted.examples) < easiness).astype(float), direction


def _model(version: str, outcomes: Floats, planted: Planted, generator: np.random.Generator) -> ModelResults:
    if not planted.guardrails:
        return ModelResults(version=version, outcomes=outcomes)
    size = planted.examples
    return ModelResults(
        version=version,
        outcomes=outcomes,
        confidences=np.clip(0.6 * outcomes + 0.3 + 0.15 * generator.standard_normal(size), 0.0, 1.0),
        scope=ScopeResults(
            in_scope_accepted=generator.random(size) < 0.97, out_of_scope_refused=generator.random(size // 5) < 0.8
        ),
        latencies_ms=generator.gamma(8.0, 1.5, size=200),
        size_bytes=10_000_000,
    )


def _ranker(version: str, ranks: NDArray[np.int64]) -> ModelResults:
    seen = ranks <= 10
    return ModelResults(
        version=version,
        outcomes=np.where(seen, 1 / np.log2(ranks + 1), 0.0),
        other_figures={"mrr@10": np.where(seen, 1 / ranks, 0.0)},
    )
