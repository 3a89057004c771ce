"""Losses over candidate lists, one number a list, so that lists can be summed over workers and divided once.

Tables have shape (lists, longest list); `present` says which of their entries exist. What does not exist may hold
anything, infinities too, and never reaches a loss or a gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from torch import Tensor

RankingLoss = Literal["listwise", "pairwise", "binary", "distillation"]
RANKING_LOSSES: tuple[RankingLoss, ...] = get_args(RankingLoss)


def ranking_loss(kind: RankingLoss, logits: Tensor, wanted: Tensor, present: Tensor) -> Tensor:
    """Return the loss of each list, shape (lists,).

    Args:
        kind: `listwise`, `pairwise`, `binary`, or `distillation`.
        logits: The network's scores.
        wanted: Relevances in [0, 1]; for `distillation` the teacher's logits.
        present: Boolean; every list has at least one entry.
    """
    losses = {
        "listwise": listwise_softmax,
        "pairwise": pairwise_logistic,
        "binary": binary_cross_entropy,
        "distillation": margin_mse,
    }
    return losses[kind](logits, wanted, present)


def listwise_softmax(logits: Tensor, relevances: Tensor, present: Tensor) -> Tensor:
    """Cross-entropy of the softmax over a list with its relevances as a distribution (ListNet, Cao et al. 2007)."""
    import torch

    shares = relevances.masked_fill(~present, 0.0)
    shares = shares / shares.sum(dim=1, keepdim=True).clamp(min=1e-9)
    chances = torch.log_softmax(logits.masked_fill(~present, -torch.inf), dim=1)
    return -(shares * chances.masked_fill(~present, 0.0)).sum(dim=1)


def pairwise_logistic(logits: Tensor, relevances: Tensor, present: Tensor) -> Tensor:
    """Mean logistic loss of each pair that has an order (RankNet, Burges et al. 2005); 0 where no pair has one."""
    from torch.nn import functional

    ordered = (relevances[:, :, None] > relevances[:, None, :]) & present[:, :, None] & present[:, None, :]
    scores = logits.masked_fill(~present, 0.0)
    losses = functional.softplus(scores[:, None, :] - scores[:, :, None]) * ordered
    return losses.sum(dim=(1, 2)) / ordered.sum(dim=(1, 2)).clamp(min=1)


def binary_cross_entropy(logits: Tensor, relevances: Tensor, present: Tensor) -> Tensor:
    """Mean cross-entropy of each passage's own probability: what `BinaryCrossEntropyLoss` does with pairs."""
    from torch.nn import functional

    losses = functional.binary_cross_entropy_with_logits(
        logits.masked_fill(~present, 0.0), relevances.masked_fill(~present, 0.0), reduction="none"
    )
    return (losses * present).sum(dim=1) / present.sum(dim=1)


def margin_mse(logits: Tensor, teacher: Tensor, present: Tensor) -> Tensor:
    """Mean squared difference of the margins of every two passages (Hofstätter et al. 2020), half of it.

    Only differences count, so student and teacher may have scores of different origins.
    """
    ours, theirs = (
        (scores[:, :, None] - scores[:, None, :])
        for scores in (logits.masked_fill(~present, 0.0), teacher.masked_fill(~present, 0.0))
    )
    both = present[:, :, None] & present[:, None, :]
    pairs = (both.sum(dim=(1, 2)) - present.sum(dim=1)).clamp(min=1)
    return 0.5 * ((ours - theirs).square() * both).sum(dim=(1, 2)) / pairs
