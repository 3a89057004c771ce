"""Messages of no intent: how they are recognised, and where the line is drawn.

The score is the largest logit before the softmax (Hendrycks et al., ICML 2022): a probability says how an intent
compares with the others, and is high for a message that merely resembles one intent more than all others; the logit
says how much it resembles it. It costs nothing and needs nothing stored beside the threshold. On hwu64 with intents
held out it separated best of all that were tried, and on messages of another domain within 0.003 of the best: energy,
distances to intents, nearest neighbours (`benchmarks/bench_intent_training.py` measures them all).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.models.intent.heads import Features

Scores = NDArray[np.float64]

ThresholdSource = Literal["both_errors", "in_scope_share", "cross_validation", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeRule:
    """Messages with a score below the threshold are refused; None refuses nothing.

    `source` says what the threshold was set by: messages of both kinds, the share of in-scope messages that it lets
    through, the same on held-out parts of the training messages, or nothing.
    """

    threshold: float | None = None
    source: ThresholdSource = "none"

    def accepts(self, scores: Scores) -> NDArray[np.bool_]:
        """Return which messages are taken for one of the intents, shape of `scores`."""
        if self.threshold is None:
            return np.ones(len(scores), dtype=np.bool_)
        return np.asarray(scores >= self.threshold, dtype=np.bool_)


def scope_scores(logits: Features) -> Scores:
    """Return for each message how much it looks like one of the intents: (n, intents) → (n,), higher is more."""
    return np.asarray(logits.max(axis=1), dtype=np.float64)


def share_threshold(in_scope: Scores, share: float) -> float:
    """Return the highest threshold that lets at least `share` of the in-scope messages through."""
    ordered = np.sort(in_scope)
    # Rounded first: (1 - 0.95) * 100 is 5.000000000000004, and not always on this side.
    return float(ordered[int(np.floor(round((1.0 - share) * len(ordered), 9)))])


def balanced_threshold(in_scope: Scores, out_of_scope: Scores) -> float:
    """Return the threshold with the least sum of both error rates; of several the lowest, which refuses least."""
    scores = np.unique(np.concatenate([in_scope, out_of_scope]))
    refused_in = np.searchsorted(np.sort(in_scope), scores, side="left") / len(in_scope)
    accepted_out = 1.0 - np.searchsorted(np.sort(out_of_scope), scores, side="left") / len(out_of_scope)
    errors = np.round(refused_in + accepted_out, 9)
    # Between two scores, so that no rounding at the boundary decides about a message that was seen.
    best = int(np.argmin(errors))
    return float(scores[0] if best == 0 else (scores[best - 1] + scores[best]) / 2.0)


def separation(in_scope: Scores, out_of_scope: Scores) -> float:
    """Return the area under the ROC curve: how often an in-scope message scores above one of no intent."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([in_scope, out_of_scope]))[: len(in_scope)]
    return float((ranks.sum() - len(in_scope) * (len(in_scope) + 1) / 2) / (len(in_scope) * len(out_of_scope)))


def scope_rule(
    in_scope: Scores,
    out_of_scope: Scores,
    *,
    share: float,
    minimum_out_of_scope: int,
    held_out: Literal["validation", "cross_validation"] = "validation",
) -> ScopeRule:
    """Draw the line.

    `in_scope` are scores of messages of the model's intents that it was not trained on (none, no line), from where
    `held_out` says. With at least `minimum_out_of_scope` messages of no intent both errors are balanced, otherwise
    `share` of the in-scope messages is let through.
    """
    if not len(in_scope):
        return ScopeRule()
    if len(out_of_scope) >= minimum_out_of_scope:
        return ScopeRule(threshold=balanced_threshold(in_scope, out_of_scope), source="both_errors")
    source: ThresholdSource = "in_scope_share" if held_out == "validation" else "cross_validation"
    return ScopeRule(threshold=share_threshold(in_scope, share), source=source)
