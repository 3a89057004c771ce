"""The split-attention network: two segments, apart in the lower layers, together in the upper ones.

A cross-encoder with a fresh head knows nothing and needs far more pairs than a store's reviews bring. This one starts
from what the pretrained encoder already knows about pairs:

* Query and passage run apart through the lower layers and meet in the upper `joint_layers` (MacAvaney et al.,
  "Efficient Document Re-Ranking for Transformers by Precomputing Term Representations", SIGIR 2020). What the lower
  layers say about a passage does not depend on the query, so it can be kept between requests.
* Attention across the two segments passes a gate per head, added to its logits; it starts nearly closed, so that an
  untrained network sees each segment as the sentence encoder does, and training opens it where it helps.
* The head reads how the final states of the two segments relate: cosine of their means (the bi-encoder), the
  IDF-weighted best match of each query token (Khattab & Zaharia's MaxSim, SIGIR 2020), the IDF-weighted share of query
  tokens that occur in the passage, and a linear view of the query's states that starts at zero.

This module imports torch when it is imported: import it inside functions only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch  # noqa: TID253 - nn.Module classes need it; this module is only ever imported inside functions
from torch import Tensor, nn  # noqa: TID253 - as above
from torch.nn import functional  # noqa: TID253 - as above

from mangaassist_assets.models.encoders.encoder import Encoder
from mangaassist_assets.models.encoders.pooling import mean_pool
from mangaassist_assets.models.reranker.training_config import Network
from mangaassist_assets.training.objective import ParameterGroup

# Where the gates and the head's weights start. The weights are those a listwise fit gives on public question-passage
# data (feedbackqa), rounded; they make an untrained network a sound reranker.
GATE_START = -4.0
HEAD_START = (10.0, 10.0, 1.5)

_HEAD_LEARNING_RATE = 0.1
_GATE_LEARNING_RATE = 0.05
_FRESH_RATE_RATIO = 10.0
_WEIGHT_DECAY = 0.01


@dataclass(frozen=True, slots=True)
class Segments:
    """Texts after the lower layers: `states` (batch, length, dim), `ids` and boolean `mask` (batch, length)."""

    states: Tensor
    ids: Tensor
    mask: Tensor

    def to(self, device: torch.device) -> Segments:
        """Return the same texts on a device."""
        return Segments(self.states.to(device), self.ids.to(device), self.mask.to(device))


class PairNetwork(nn.Module):
    """Scores (query, passage) pairs; see the module's docstring."""

    kind: ClassVar[Network] = "split-attention"
    idf: Tensor

    def __init__(self, encoder: Encoder, *, joint_layers: int) -> None:
        """Put a fresh head on an encoder, whose weights are shared.

        Raises:
            ValueError: The encoder's layers cannot be run apart under a mask of its own, or there are not more of them
                than shall be joint.
        """
        super().__init__()
        if not encoder.splits:
            raise ValueError(f"the layers of a {encoder.model.config.model_type} cannot be run apart")
        if not 1 <= joint_layers < encoder.layer_count:
            raise ValueError(
                f"joint_layers must lie in 1..{encoder.layer_count - 1} for an encoder of {encoder.layer_count} "
                f"layers, got {joint_layers}"
            )
        self.encoder = encoder
        self.model = encoder.model
        self.joint_layers = joint_layers
        heads = int(encoder.model.config.num_attention_heads)
        self.gates = nn.Parameter(torch.full((heads,), GATE_START))
        self.segments = nn.Parameter(torch.zeros(2, encoder.dim))
        self.interactions = nn.Parameter(torch.tensor(HEAD_START))
        self.query_view = nn.Parameter(torch.zeros(encoder.dim))
        self.register_buffer("idf", torch.ones(encoder.vocab_size))
        if not self._heeds_masks():
            raise ValueError(f"a {encoder.model.config.model_type} takes no mask between two tokens")

    @property
    def apart_layers(self) -> int:
        """How many lower layers see each segment alone."""
        return self.encoder.layer_count - self.joint_layers

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.idf.device

    def own_state(self) -> dict[str, Tensor]:
        """Return what the network has beside the encoder: gates, segments, head and word weights."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("model.")}

    def parameter_groups(self, learning_rate: float) -> list[ParameterGroup]:
        """Return what learns, joint layers, fresh vectors, gates and the head's weights, each at its own rate."""
        self.requires_grad_(requires_grad=False)
        layers: dict[str, Tensor] = dict(self.encoder.parameters_from(self.apart_layers))
        groups = [
            ParameterGroup(parameters=layers, learning_rate=learning_rate, weight_decay=_WEIGHT_DECAY),
            ParameterGroup(
                parameters={"segments": self.segments, "query_view": self.query_view},
                learning_rate=_FRESH_RATE_RATIO * learning_rate,
                clipped=False,
            ),
            ParameterGroup(parameters={"gates": self.gates}, learning_rate=_GATE_LEARNING_RATE, clipped=False),
            ParameterGroup(
                parameters={"interactions": self.interactions}, learning_rate=_HEAD_LEARNING_RATE, clipped=False
            ),
        ]
        for group in groups:
            for parameter in group.parameters.values():
                parameter.requires_grad_()
        return groups

    def train(self, mode: bool = True) -> PairNetwork:  # noqa: FBT001, FBT002 - nn.Module's own signature
        """Switch dropout, in the encoder's parts too."""
        super().train(mode)
        self.encoder.train(training=mode)
        return self

    def lower(self, ids: Tensor, mask: Tensor) -> Segments:
        """Run the lower layers on texts of shape (batch, length)."""
        return Segments(self.encoder.lower(ids, mask, layers=self.apart_layers), ids, mask)

    def forward(self, queries: Segments, passages: Segments) -> Tensor:
        """Return one logit for each pair, shape (batch,); queries and passages are parallel."""
        query_length = queries.ids.shape[1]
        states = torch.cat([queries.states + self.segments[0], passages.states + self.segments[1]], dim=1)
        mask = torch.cat([queries.mask, passages.mask], dim=1)
        side = torch.cat([torch.zeros_like(queries.ids[0]), torch.ones_like(passages.ids[0])])
        across = (side[:, None] != side[None, :]).to(states.dtype)
        # In full precision: the head multiplies by ten what it reads, whatever the layers computed in.
        states = self._joint(states, mask, across).float()
        features = self._interactions(
            Segments(states[:, :query_length], queries.ids, queries.mask),
            Segments(states[:, query_length:], passages.ids, passages.mask),
        )
        view = (mean_pool(states[:, :query_length], queries.mask) * self.query_view).sum(dim=1)
        return (features * self.interactions).sum(dim=1) + view

    def apart_logits(self, queries: Segments, passages: Segments) -> Tensor:
        """Score every query with every passage as if all gates were closed, shape (queries, passages).

        Each text runs through the upper layers once, not once a pair.
        """
        asked, read = (
            self.encoder.upper(texts.states + segment, texts.mask, layers=self.apart_layers).float()
            for texts, segment in zip((queries, passages), self.segments, strict=True)
        )
        cosine = (
            functional.normalize(mean_pool(asked, queries.mask), dim=-1)
            @ functional.normalize(mean_pool(read, passages.mask), dim=-1).T
        )
        weights = self.idf[queries.ids] * queries.mask
        words = passages.mask & (self.idf[passages.ids] > 0)
        tokens, others = functional.normalize(asked, dim=-1), functional.normalize(read, dim=-1)
        similarity = torch.einsum("qid,pjd->qpij", tokens, others).masked_fill(~words[None, :, None, :], -1.0)
        same = (queries.ids[:, None, :, None] == passages.ids[None, :, None, :]) & words[None, :, None, :]
        total = weights.sum(dim=1).clamp(min=1e-6)[:, None]
        match = (similarity.amax(dim=-1) * weights[:, None, :]).sum(dim=-1) / total
        overlap = (same.any(dim=-1) * weights[:, None, :]).sum(dim=-1) / total
        view = (mean_pool(asked, queries.mask) * self.query_view).sum(dim=1)
        return (torch.stack([cosine, match, overlap], dim=-1) * self.interactions).sum(dim=-1) + view[:, None]

    def _joint(self, states: Tensor, mask: Tensor, across: Tensor) -> Tensor:
        """Run the upper layers: what is absent is seen by nobody, the other segment as far as the gates are open."""
        absent = (~mask).to(states.dtype) * torch.finfo(torch.float32).min
        attention = self.gates[None, :, None, None] * across + absent[:, None, None, :]
        return self.encoder.upper(states, attention, layers=self.apart_layers)

    def _heeds_masks(self) -> bool:
        """Try whether a closed gate hides one segment from the other, and an open one does not."""
        states = torch.randn(1, 4, self.encoder.dim, generator=torch.Generator().manual_seed(0)).to(self.device)
        other = states.clone()
        other[:, 2:] += 1.0
        across = torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 2 + [[1.0, 1.0, 0.0, 0.0]] * 2, device=self.device)
        mask = torch.ones(1, 4, dtype=torch.bool, device=self.device)
        same = []
        try:
            with torch.no_grad():
                for strength in (-1e9, 0.0):
                    first, second = (
                        self._joint(one, mask, strength / GATE_START * across)[:, :2] for one in (states, other)
                    )
                    same.append(torch.allclose(first, second, atol=1e-5))
        except (TypeError, ValueError, RuntimeError, IndexError):
            # An architecture that takes no such mask says so in one of these ways.
            return False
        return same == [True, False]

    def _interactions(self, queries: Segments, passages: Segments) -> Tensor:
        """Return cosine, weighted best match and weighted overlap, shape (batch, 3)."""
        cosine = functional.cosine_similarity(
            mean_pool(queries.states, queries.mask), mean_pool(passages.states, passages.mask)
        )
        weights = self.idf[queries.ids] * queries.mask
        # Special tokens have an IDF of zero: they are neither asked for nor a match.
        words = passages.mask & (self.idf[passages.ids] > 0)
        similarity = functional.normalize(queries.states, dim=-1) @ functional.normalize(
            passages.states, dim=-1
        ).transpose(1, 2)
        best = similarity.masked_fill(~words[:, None, :], -1.0).amax(dim=-1)
        present = ((queries.ids[:, :, None] == passages.ids[:, None, :]) & words[:, None, :]).any(dim=-1)
        total = weights.sum(dim=1).clamp(min=1e-6)
        match = (best * weights).sum(dim=1) / total
        overlap = (present * weights).sum(dim=1) / total
        return torch.stack([cosine, match, overlap], dim=1)
