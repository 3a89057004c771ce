"""Traffic with a known truth, and what people reviewed of it: two models that are equally good, better, worse, …

Intents are as large as hwu64's (64, of which 53 equally large), with languages, tenants and lengths beside them.
Messages of one shopper resemble each other, some messages are sent by many, and failures of the champion are reviewed
beside an audit sample, as the review queue does. Rankings have one relevant passage among 20 candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.evaluation.results import FixedSet, GateInput, ModelResults, ScopeResults, TrafficSample

Floats = NDArray[np.float64]

HWU64_SIZES = (19,) * 53 + (3, 7, 7, 8, 8, 8, 9, 10, 11, 12, 16)
OTHER_SLICES = {
    "language": {"en": 0.8, "ja": 0.2},
    "tenant": {"north": 0.4, "south": 0.3, "east": 0.2, "west": 0.1},
    "length": {"long": 0.2, "middle": 0.3, "short": 0.5},
}
_CHAMPION_RIGHT = 0.7
_COMPLAINS, _COMPLAINS_WRONGLY = 0.8, 0.04


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """What is true about a pair of models, and what people reviewed.

    Attributes:
        turns: Of the traffic.
        audits: Expected size of the audit sample.
        failures: Reviews of turns that shoppers complained about, those first on which the models differ.
        messages_a_shopper: Mean number.
        icc: Correlation of the messages of one shopper, of whether the models differ and of who is right.
        repeated: Share of turns that send one of the few messages that many shoppers send.
        disagreement: Share of turns that only one of the two has right, or ranks elsewhere.
        gain: True mean difference, challenger minus champion; in rankings, of wins minus losses.
        hurt: Slice by dimension and name on which `hurt_gain` holds instead of `gain`.
        hurt_gain: True mean difference there.
        intents: Sizes of the intents, in proportion.
        sampled: Whether the gate is told of the sample; without, each review counts alike.
        guardrails: Whether to add confidences, scope, latencies and a fixed set, drawn alike for both models.
    """

    turns: int = 2000
    audits: int = 300
    failures: int = 0
    messages_a_shopper: int = 3
    icc: float = 0.0
    repeated: float = 0.0
    disagreement: float = 0.08
    gain: float = 0.0
    hurt: tuple[str, str] | None = None
    hurt_gain: float = 0.0
    intents: tuple[int, ...] = HWU64_SIZES
    sampled: bool = True
    guardrails: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """All turns: shopper, slices, who wins (1 the challenger, -1 the champion, 0 nobody), whether nobody's is right."""

    shoppers: NDArray[np.int64]
    slices: dict[str, tuple[str, ...]]
    direction: NDArray[np.int64]
    both_right: NDArray[np.bool_]
    complained: NDArray[np.bool_]
    message: NDArray[np.int64]

    @property
    def champion_right(self) -> NDArray[np.bool_]:
        """Whether the champion answers rightly."""
        return np.where(self.direction == 0, self.both_right, self.direction < 0)

    @property
    def challenger_right(self) -> NDArray[np.bool_]:
        """Whether the challenger answers rightly."""
        return np.where(self.direction == 0, self.both_right, self.direction > 0)


def draw_traffic(planted: Planted, generator: np.random.Generator) -> Traffic:
    """Draw the turns of a bundle."""
    turns = planted.turns
    count = max(1, turns // planted.messages_a_shopper)
    shoppers = generator.integers(0, count, turns)
    slices = _slices(planted, generator)
    gain = np.full(turns, planted.gain)
    if planted.hurt is not None:
        dimension, name = planted.hurt
        gain[np.array(slices[dimension]) == name] = planted.hurt_gain
    # Where a gain is larger than what the models differ by, they must differ more.
    rate = np.maximum(planted.disagreement, np.abs(gain))
    wins = (1 + gain / rate) / 2
    differs = _alike(rate, shoppers, planted.icc, generator)
    won = _alike(wins, shoppers, planted.icc, generator)
    direction = np.where(differs, np.where(won, 1, -1), 0)
    agreed_right = (_CHAMPION_RIGHT - rate * (1 - wins)) / (1 - rate)
    both_right = generator.random(turns) < agreed_right
    message = np.arange(turns)
    if planted.repeated:
        popular = generator.integers(0, turns, max(1, turns // 50))
        sends = generator.random(turns) < planted.repeated
        message = np.where(sends, generator.choice(popular, turns), message)
        direction, both_right = direction[message], both_right[message]
        slices = {name: tuple(np.array(values)[message].tolist()) for name, values in slices.items()}
    right = np.where(direction == 0, both_right, direction < 0)
    complained = generator.random(turns) < np.where(right, _COMPLAINS_WRONGLY, _COMPLAINS)
    return Traffic(
        shoppers=shoppers,
        slices=slices,
        direction=direction,
        both_right=both_right,
        complained=complained,
        message=message,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed:
    """Turns that people reviewed, a message once: its place, and its inclusion probability, NaN where not drawn.

    A message that was drawn several times stands for as many turns as its copies do together.
    """

    places: NDArray[np.intp]
    inclusion_probabilities: Floats


def review(traffic: Traffic, planted: Planted, generator: np.random.Generator) -> Reviewed:
    """Draw the audit sample, and take failures beside it."""
    turns = planted.turns
    probability = min(1.0, planted.audits / turns)
    audited = generator.random(turns) < probability
    failed = np.flatnonzero(traffic.complained)
    worth = generator.random(len(failed)) + 0.5 * (traffic.direction[failed] != 0)
    other = np.zeros(turns, dtype=np.bool_)
    other[failed[np.argsort(-worth)[: planted.failures]]] = True
    places, stands_for = [], []
    first: dict[int, int] = {}
    for place in np.flatnonzero(audited | other).tolist():
        weight = 0.0 if other[place] else 1 / probability
        message = int(traffic.message[place])
        if message in first:
            stands_for[first[message]] += weight
            continue
        first[message] = len(places)
        places.append(place)
        stands_for.append(weight)
    weights = np.array(stands_for)
    with np.errstate(divide="ignore"):
        probabilities = np.where(weights > 0, np.minimum(1.0, 1 / weights), np.nan)
    return Reviewed(places=np.array(places, dtype=np.intp), inclusion_probabilities=probabilities)


def intent_results(planted: Planted, generator: np.random.Generator) -> GateInput:
    """Draw traffic, reviews of it, and what two classifiers did on them."""
    traffic = draw_traffic(planted, generator)
    return intent_input(traffic, review(traffic, planted, generator), planted, generator)


def intent_input(traffic: Traffic, reviewed: Reviewed, planted: Planted, generator: np.random.Generator) -> GateInput:
    """Return what two classifiers did on reviewed turns."""
    rows = reviewed.places
    return GateInput(
        metric="accuracy",
        binary=True,
        champion=_model("1", traffic.champion_right[rows].astype(float), planted, generator),
        challenger=_model("2", traffic.challenger_right[rows].astype(float), planted, generator),
        slices=_at(traffic, rows),
        shoppers=tuple(f"shopper-{number}" for number in traffic.shoppers[rows]),
        sample=_sample(reviewed, planted),
        fixed={"corpus": _fixed(generator)} if planted.guardrails else {},
    )


def ranking_results(planted: Planted, generator: np.random.Generator) -> GateInput:
    """Draw traffic, reviews of it, and where two rerankers put the relevant passage."""
    traffic = draw_traffic(planted, generator)
    reviewed = review(traffic, planted, generator)
    direction = traffic.direction[reviewed.places]
    ranks = np.minimum(generator.geometric(0.45, size=(2, len(direction))), 20)
    better, worse = ranks.min(axis=0), ranks.max(axis=0)
    champion = np.where(direction == 0, ranks[0], np.where(direction > 0, worse, better))
    challenger = np.where(direction == 0, ranks[0], np.where(direction > 0, better, worse))
    return GateInput(
        metric="ndcg@10",
        binary=False,
        champion=_ranker("1", champion),
        challenger=_ranker("2", challenger),
        slices=_at(traffic, reviewed.places),
        shoppers=tuple(f"shopper-{number}" for number in traffic.shoppers[reviewed.places]),
        sample=_sample(reviewed, planted),
    )


def _at(traffic: Traffic, rows: NDArray[np.intp]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(values[row] for row in rows) for name, values in traffic.slices.items()}


def _sample(reviewed: Reviewed, planted: Planted) -> TrafficSample | None:
    if not planted.sampled:
        return None
    return TrafficSample(inclusion_probabilities=reviewed.inclusion_probabilities, turns=planted.turns)


def _alike(means: Floats, shoppers: NDArray[np.int64], icc: float, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Draw flags with these means; those of one shopper are equal with a chance of `icc`, else independent."""
    own = generator.random(len(means))
    shared = generator.random(int(shoppers.max()) + 1)[shoppers]
    # Two flags of a shopper are both drawn from the shared number with the chance icc: their correlation.
    return np.where(generator.random(len(means)) < np.sqrt(icc), shared, own) < means


def _slices(planted: Planted, generator: np.random.Generator) -> dict[str, tuple[str, ...]]:
    shares = np.array(planted.intents) / sum(planted.intents)
    intents = generator.choice(len(shares), size=planted.turns, p=shares)
    slices = {"intent": tuple(f"intent {number:02d}" for number in intents)}
    for dimension, parts in OTHER_SLICES.items():
        drawn = generator.choice(list(parts), size=planted.turns, p=list(parts.values()))
        slices[dimension] = tuple(drawn.tolist())
    return slices


def _fixed(generator: np.random.Generator) -> FixedSet:
    right = generator.random((2, 200)) < 0.9
    return FixedSet(champion=right[0].astype(float), challenger=right[1].astype(float))


def _model(version: str, outcomes: Floats, planted: Planted, generator: np.random.Generator) -> ModelResults:
    if not planted.guardrails:
        return ModelResults(version=version, outcomes=outcomes)
    size = len(outcomes)
    return ModelResults(
        version=version,
        outcomes=outcomes,
        confidences=np.clip(0.6 * outcomes + 0.3 + 0.15 * generator.standard_normal(size), 0.0, 1.0),
        scope=ScopeResults(
            in_scope_accepted=generator.random(size) < 0.97, out_of_scope_refused=generator.random(size // 5) < 0.8
        ),
        latencies_ms=generator.gamma(8.0, 1.5, size=400),
        size_bytes=10_000_000,
    )


def _ranker(version: str, ranks: NDArray[np.int64]) -> ModelResults:
    seen = ranks <= 10
    return ModelResults(
        version=version,
        outcomes=np.where(seen, 1 / np.log2(ranks + 1), 0.0),
        other_figures={"mrr@10": np.where(seen, 1 / ranks, 0.0)},
    )
