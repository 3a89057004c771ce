"""What a gate needs to know about two models that answered the same held-out examples, as plain values.

A model type fills these in; the gate reads them and knows no model.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from mangaassist_assets.core.arrays import Flags, Floats

DEFAULT_REQUESTS = 400
"""Of each model: with 60, a p95 that is half as long again is seen every second to tenth time only."""
ENOUGH_REQUESTS = 60
DEFAULT_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeResults:
    """How a model separated messages of its intents from others.

    Attributes:
        in_scope_accepted: For each example of a known intent, whether the model took it for one: shape (n,).
        out_of_scope_refused: For each example of no intent, whether the model refused it: shape (m,), m may be 0.
        in_scope: Which test examples `in_scope_accepted` is about, shape (examples,) with n of them set. Two models
            that know different intents are compared on the examples of both; None where both are about the same.
        out_of_scope: Which test examples `out_of_scope_refused` is about, likewise; None where that is not told.
    """

    in_scope_accepted: Flags
    out_of_scope_refused: Flags
    in_scope: Flags | None = None
    out_of_scope: Flags | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelResults:
    """One model on the test examples.

    Attributes:
        version: Of the registered model.
        outcomes: The deciding figure of each example, higher is better: 0 or 1 for right or wrong, nDCG@10 of a query.
            Shape (examples,).
        other_figures: Further figures of each example by name, judged beside the deciding one (`mrr@10`).
        confidences: Probability the model gave its own answer, shape (examples,), or None where there is none.
        scope: In and out of scope, or None for a model that answers everything.
        latencies_ms: Time of each of a number of requests, shape (requests,), taken in one run with the other model's,
            request by request in turns; None where it was not measured.
        size_bytes: Of the artifact.
    """

    version: str
    outcomes: Floats
    other_figures: Mapping[str, Floats] = field(default_factory=dict)
    confidences: Floats | None = None
    scope: ScopeResults | None = None
    latencies_ms: Floats | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficSample:
    """How examples that people reviewed stand for the traffic they are from.

    Attributes:
        inclusion_probabilities: Chance of each example to be drawn into the audit sample, shape (examples,), in (0, 1];
            NaN for one that was reviewed for another reason (it failed, somebody chose it): it stands for itself alone.
        turns: How many turns there are in all, those of the examples among them.
    """

    inclusion_probabilities: Floats
    turns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedSet:
    """Two models on examples that stay the same from gate to gate (golden set, corpus); a guard against regression."""

    champion: Floats
    challenger: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class GateInput:
    """Two models on the same examples.

    `outcomes` have the mean `metric`; `binary` ones are 0 or 1, which an exact test suits. `slices` has by dimension
    (`intent`, `language`, `tenant`, `length`) the slice of each example, an empty name for none. `unknown_to_champion`
    marks examples whose right answer the champion never learned, shape (examples,): they count as its errors, and are
    shown apart; None where every answer was known. `shoppers` says who wrote each example; empty names, and no names at
    all, are of a shopper each. `sample` is None where the examples are no sample of the traffic. `fixed` has fixed sets
    by name.
    """

    metric: str
    binary: bool
    champion: ModelResults
    challenger: ModelResults
    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unknown_to_champion: Flags | None = None
    shoppers: tuple[str, ...] = ()
    sample: TrafficSample | None = None
    fixed: Mapping[str, FixedSet] = field(default_factory=dict)


class Answering(Protocol):
    """A loaded model."""

    def answer(self, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> object:
        """Answer the inputs of a request."""


def latencies_in_turns(
    champion: Answering,
    challenger: Answering,
    requests: Sequence[Sequence[Any]],
    *,
    count: int = DEFAULT_REQUESTS,
    seconds: float = DEFAULT_SECONDS,
) -> tuple[Floats, Floats] | None:
    """Time requests of both models, in milliseconds: champion's and challenger's, each of shape (at most count,).

    Every request is asked of both once before, untimed: what is loaded or kept at the first call counts for neither.
    Then they are asked in turns, and who is first changes from request to request. After `seconds` that many requests
    are enough, `ENOUGH_REQUESTS` at least.

    Returns:
        None where there is no request.
    """
    if not requests:
        return None
    both = (champion, challenger)
    for inputs in requests[:count]:
        for model in both:
            model.answer(inputs, {})
    taken = np.zeros((2, count), dtype=np.float64)
    begun = time.perf_counter()
    for turn in range(count):
        if turn >= ENOUGH_REQUESTS and time.perf_counter() - begun > seconds:
            taken = taken[:, :turn]
            break
        inputs = requests[turn % len(requests)]
        for place in (0, 1) if turn % 2 == 0 else (1, 0):
            started = time.perf_counter()
            both[place].answer(inputs, {})
            taken[place, turn] = (time.perf_counter() - started) * 1_000
    return taken[0], taken[1]
