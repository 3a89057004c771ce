"""A champion's life with a known truth: weekly bundles of traffic, audit samples, and failures reviewed beside them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.labelling.queue.audit_sample import inclusion_probabilities
from mangaassist_assets.monitoring.decay_report import AUDITED, Reviews

Floats = NDArray[np.float64]

FAILURES = "failures"
_FAILS, _FAILS_RIGHTLY = 0.5, 0.04
"""Share of wrong, and of right answers after which a turn counts as failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What is true about a champion, and what people reviewed.

    Attributes:
        accuracy: On the traffic at promotion.
        reference: Audited reviews at promotion, expected.
        weeks: Bundles after it.
        turns: Of the traffic a week; at promotion as many in proportion to what was audited.
        audits: Audited reviews a week, expected.
        failures: Reviews of failed turns a week beside them, the most there are.
        loss: Of accuracy, from the bundle `loss_from` on, counted from 1.
        messages_a_shopper: In a year, mean number; the same shoppers come all year.
        icc: Correlation of the messages of one shopper, of whether the answer is right.
    """

    accuracy: float = 0.85
    reference: int = 400
    weeks: int = 52
    turns: int = 320
    audits: int = 40
    failures: int = 0
    loss: float = 0.0
    loss_from: int = 1
    messages_a_shopper: int = 3
    icc: float = 0.0


def live(life: Life, generator: np.random.Generator) -> tuple[list[Reviews], list[Reviews]]:
    """Draw the reviews at promotion and those of all bundles after it, the oldest first."""
    before = max(1, life.turns * life.reference // life.audits)
    promotion = _reviewed(life, np.full(before, life.accuracy), np.zeros(before, dtype=int), "at promotion", generator)
    weeks = np.repeat(np.arange(1, life.weeks + 1), life.turns)
    right = life.accuracy - np.where(weeks >= life.loss_from, life.loss, 0.0)
    return promotion, _reviewed(life, right, weeks, "after it", generator)


def _reviewed(
    life: Life, accuracy: Floats, weeks: NDArray[np.int64], when: str, generator: np.random.Generator
) -> list[Reviews]:
    turns = len(accuracy)
    shoppers = generator.integers(0, max(1, turns // life.messages_a_shopper), turns)
    shared = generator.random(int(shoppers.max()) + 1)[shoppers]
    # Two answers to a shopper both follow the shared number with the chance icc: their correlation.
    right = np.where(generator.random(turns) < np.sqrt(life.icc), shared, generator.random(turns)) < accuracy
    failed = generator.random(turns) < np.where(right, _FAILS_RIGHTLY, _FAILS)
    draws, order = generator.random((2, turns))
    found: list[Reviews] = []
    starts = np.searchsorted(weeks, np.arange(weeks[0], weeks[-1] + 2))
    for start, end in pairwise(starts):
        own = slice(start, end)
        sizes = np.bincount(failed[own], minlength=2)
        # A stratum without turns is as good as one with a turn that nobody draws.
        by_stratum = inclusion_probabilities(np.maximum(sizes, 1), (end - start) * life.audits / life.turns)
        probabilities = by_stratum[failed[own].astype(int)]
        drawn = np.flatnonzero(draws[own] < probabilities)
        others = np.flatnonzero(failed[own] & ~(draws[own] < probabilities))
        complaints = others[np.argsort(order[own][others])][: life.failures]
        bundle = f"week {weeks[start]:02d}"
        for selection, rows in ((AUDITED, drawn), (FAILURES, complaints)):
            if len(rows):
                found.append(
                    Reviews(
                        release_bundle=bundle,
                        selection=selection,
                        outcomes=right[own][rows].astype(np.float64),
                        weights=1 / probabilities[rows] if selection == AUDITED else None,
                        shoppers=[f"{when} {number}" for number in shoppers[own][rows]],
                    )
                )
    return found
