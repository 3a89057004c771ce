"""What a gate needs to know about two models that answered the same held-out examples, as plain values.

A model type fills these in; the gate reads them and knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mangaassist_assets.core.arrays import Flags, Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeResults:
    """How well a model separates messages of its intents from others.

    Attributes:
        in_scope_accepted: For each example of a known intent, whether the model took it for one: shape (n,).
        out_of_scope_refused: For each example of no intent, whether the model refused it: shape (m,), m may be 0.
        in_scope: Which test examples `in_scope_accepted` is about, shape (examples,) with n of them set. Two models
            that know different intents are compared on the examples of both; None where both are about the same.
    """

    in_scope_accepted: Flags
    out_of_scope_refused: Flags
    in_scope: Flags | None = None


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
class GateInput:
    """Two models on the same examples.

    Attributes:
        metric: What `outcomes` are the mean of: `accuracy`, `ndcg@10`.
        binary: Whether outcomes are 0 or 1, which an exact test suits.
        champion: The model in production.
        challenger: The model that wants to replace it.
        slices: By dimension (`intent`, `language`, `tenant`, `length`) the slice of each example: sequences as long as
            `outcomes`. An empty name belongs to no slice.
        unknown_to_champion: Examples whose right answer the champion cannot give, for it never learned it: shape
            (examples,). They count as its errors, and are shown apart. None where there are none.
    """

    metric: str
    binary: bool
    champion: ModelResults
    challenger: ModelResults
    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unknown_to_champion: Flags | None = None
