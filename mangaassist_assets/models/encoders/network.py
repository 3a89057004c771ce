"""The DistilBERT network in plain PyTorch, parameter for parameter the one of transformers.

Why not `transformers.DistilBertModel` itself: importing transformers takes several times as long as importing torch,
every endpoint process and every training run would pay it, and its internals moved between version 4 (the SageMaker
container) and 5 (here). The parameter names below are DistilBERT's, so `DistilBertModel.from_pretrained` reads what we
write; a test holds the two implementations together.

This module imports torch when it is imported: import it inside functions only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch  # noqa: TID253 - nn.Module classes need it; this module is only ever imported inside functions
from torch import Tensor, nn  # noqa: TID253 - as above
from torch.nn import functional  # noqa: TID253 - as above


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkShape:
    """Sizes of a DistilBERT network, with the names of DistilBERT's `config.json`.

    `token_types` is 0 for DistilBERT proper and 2 for the BERT form that a cross-encoder needs.
    """

    vocab_size: int
    dim: int
    n_layers: int
    n_heads: int
    hidden_dim: int
    max_position_embeddings: int = 512
    token_types: int = 0
    dropout: float = 0.1

    def to_config(self) -> dict[str, Any]:
        """Return the shape as a JSON object that transformers accepts as a DistilBERT configuration."""
        config = asdict(self) | {"attention_dropout": self.dropout}
        return config | {
            "model_type": "distilbert",
            "architectures": ["DistilBertModel"],
            "activation": "gelu",
            "sinusoidal_pos_embds": False,
            "pad_token_id": 0,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> NetworkShape:
        """Read the shape from a `config.json` of DistilBERT or BERT form.

        Raises:
            ValueError: The configuration describes another architecture, or lacks a size.
        """
        kind = config.get("model_type")
        if kind == "distilbert":
            names = {"dim": "dim", "n_layers": "n_layers", "n_heads": "n_heads", "hidden_dim": "hidden_dim"}
            names["dropout"] = "dropout"
            activation, token_types = config.get("activation", "gelu"), int(config.get("token_types", 0))
        elif kind == "bert":
            names = {"dim": "hidden_size", "n_layers": "num_hidden_layers", "n_heads": "num_attention_heads"}
            names |= {"hidden_dim": "intermediate_size", "dropout": "hidden_dropout_prob"}
            activation, token_types = config.get("hidden_act", "gelu"), int(config.get("type_vocab_size", 2))
        else:
            raise ValueError(f"model_type {kind!r} is not supported: use a DistilBERT or BERT checkpoint")
        if activation != "gelu":
            raise ValueError(f"activation {activation!r} is not supported: only exact gelu is implemented")
        missing = [name for name in (*names.values(), "vocab_size") if name not in config]
        if missing:
            raise ValueError(f"config.json lacks {', '.join(missing)}")
        sizes = {ours: config[theirs] for ours, theirs in names.items()}
        return cls(
            vocab_size=int(config["vocab_size"]),
            max_position_embeddings=int(config.get("max_position_embeddings", 512)),
            token_types=token_types,
            **sizes,
        )


class Embeddings(nn.Module):
    """Word plus position (plus token type) embeddings, normalised."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(shape.vocab_size, shape.dim, padding_idx=0)
        self.position_embeddings = nn.Embedding(shape.max_position_embeddings, shape.dim)
        self.token_type_embeddings = nn.Embedding(shape.token_types, shape.dim) if shape.token_types else None
        self.LayerNorm = nn.LayerNorm(shape.dim, eps=1e-12)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, ids: Tensor, types: Tensor | None = None) -> Tensor:
        """Return hidden states of shape (batch, length, dim) for token ids of shape (batch, length)."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        hidden = self.word_embeddings(ids) + self.position_embeddings(positions)
        if self.token_type_embeddings is not None:
            hidden = hidden + self.token_type_embeddings(torch.zeros_like(ids) if types is None else types)
        return self.dropout(self.LayerNorm(hidden))  # type: ignore[no-any-return]


class SelfAttention(nn.Module):
    """Multi-head self-attention over the positions where the mask is true."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.n_heads = shape.n_heads
        self.dropout = shape.dropout
        self.q_lin = nn.Linear(shape.dim, shape.dim)
        self.k_lin = nn.Linear(shape.dim, shape.dim)
        self.v_lin = nn.Linear(shape.dim, shape.dim)
        self.out_lin = nn.Linear(shape.dim, shape.dim)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return shape (batch, length, dim).

        `mask` is either boolean of shape (batch, length), the positions that exist, or float of shape (batch or 1,
        heads or 1, length, length), added to the attention logits.
        """
        batch, length, dim = hidden.shape
        query, key, value = (
            projection(hidden).view(batch, length, self.n_heads, dim // self.n_heads).transpose(1, 2)
            for projection in (self.q_lin, self.k_lin, self.v_lin)
        )
        context = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask[:, None, None, :] if mask.dim() == 2 else mask,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out_lin(context.transpose(1, 2).reshape(batch, length, dim))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """The two-layer perceptron of a block."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.lin1 = nn.Linear(shape.dim, shape.hidden_dim)
        self.lin2 = nn.Linear(shape.hidden_dim, shape.dim)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return shape (batch, length, dim)."""
        return self.dropout(self.lin2(functional.gelu(self.lin1(hidden))))  # type: ignore[no-any-return]


class Block(nn.Module):
    """One transformer layer with normalisation after each residual sum."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.attention = SelfAttention(shape)
        self.sa_layer_norm = nn.LayerNorm(shape.dim, eps=1e-12)
        self.ffn = FeedForward(shape)
        self.output_layer_norm = nn.LayerNorm(shape.dim, eps=1e-12)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return shape (batch, length, dim)."""
        hidden = self.sa_layer_norm(self.attention(hidden, mask) + hidden)
        return self.output_layer_norm(self.ffn(hidden) + hidden)  # type: ignore[no-any-return]


class Layers(nn.Module):
    """The stack of blocks; a class of its own only because DistilBERT's parameter names have this level."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Block(shape) for _ in range(shape.n_layers))


class Encoder(nn.Module):
    """DistilBERT without a head. Its layers can be run in part, so that frozen ones are computed once."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        self.embeddings = Embeddings(shape)
        self.transformer = Layers(shape)

    def run_layers(self, hidden: Tensor, mask: Tensor, *, start: int, stop: int | None = None) -> Tensor:
        """Run layers `start` to `stop` (exclusive) on hidden states of shape (batch, length, dim)."""
        for block in list(self.transformer.layer)[start:stop]:
            hidden = block(hidden, mask)
        return hidden

    def forward(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
        """Return the last hidden states, shape (batch, length, dim)."""
        return self.run_layers(self.embeddings(ids, types), mask, start=0)


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Average hidden states (batch, length, dim) over the positions where the mask is true: (batch, dim)."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)
