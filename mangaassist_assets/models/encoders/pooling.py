"""How a classifier pools an encoder's last states so that the first token's state alone carries it.

transformers' classifiers read the first token. An encoder can be given one more layer of its own kind that puts the
mean of all tokens there: its queries and keys are zero, so every token is attended to alike; its values and its output
hand the states on, magnified so that the residual sum does not matter; its feed-forward part adds nothing. What its
layer normalisation makes of the mean are the features.

Whether a layer can be made to do that is found out by trying. MPNet's cannot, for its attention adds a bias by
distance; there, and where layers are not found, the first token's own state is taken.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor, nn

Pooling = Literal["layer", "own_mean", "first"]
"""The mean by a layer of its own, the mean as the architecture's classifier takes it itself, or the first token."""

FEATURE_EPSILON = 1e-12
_MAGNIFIED = 2.0**20
_QUERY_OR_KEY = re.compile(r"(?:^|\.)(?:q_lin|k_lin|query|key|query_proj|key_proj|q|k)$")
_VALUE = re.compile(r"(?:^|\.)(?:v_lin|value|value_proj|v)$")
_OUTPUT = re.compile(r"(?:^|\.)(?:out_lin|output\.dense|attn\.o|o)$")


class NoPoolingLayerError(ValueError):
    """A layer's parts are not known: it cannot be made to pool."""


def mean_pool(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Average hidden states (batch, length, dim) over the positions where the mask is true: (batch, dim)."""
    if mask is None:
        return hidden.mean(dim=1)
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)


def normalised_mean(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Return what a pooling layer says: the mean with mean 0 and variance 1 over its dimensions, shape (batch, dim)."""
    # Written out: an export to ONNX wants to know the size that `layer_norm` is given.
    pooled = mean_pool(hidden, mask).float()
    centred = pooled - pooled.mean(dim=-1, keepdim=True)
    return centred * (centred.square().mean(dim=-1, keepdim=True) + FEATURE_EPSILON).rsqrt()


def make_pooling(layer: nn.Module) -> None:
    """Make a layer put the mean of all tokens into every place.

    Raises:
        NoPoolingLayerError: Its parts have names that are not known.
    """
    import torch
    from torch import nn

    values = outputs = 0
    with torch.no_grad():
        for name, part in layer.named_modules():
            if isinstance(part, nn.LayerNorm):
                part.weight.fill_(1.0)
                if part.bias is not None:
                    part.bias.zero_()
            if not isinstance(part, nn.Linear):
                continue
            part.weight.zero_()
            if part.bias is not None:
                part.bias.zero_()
            if _QUERY_OR_KEY.search(name) or part.in_features != part.out_features:
                continue
            if _VALUE.search(name):
                part.weight.fill_diagonal_(1.0)
                values += 1
            elif _OUTPUT.search(name):
                part.weight.fill_diagonal_(_MAGNIFIED)
                outputs += 1
    if (values, outputs) != (1, 1):
        raise NoPoolingLayerError(f"the parts of a {type(layer).__name__} are not known: it cannot be made to pool")
