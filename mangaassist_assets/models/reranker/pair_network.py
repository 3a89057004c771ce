"""The cross-encoder's network: two segments, apart in the lower layers, together in the upper ones.

A cross-encoder with a fresh head knows nothing and needs far more pairs than a store's reviews bring. This one starts
from what the pretrained encoder already knows about pairs:

* Query and passage run apart through the lower layers and meet in the upper `joint_layers` (MacAvaney et al.,
  "Efficient Document Re-Ranking for Transformers by Precomputing Term Representations", SIGIR 2020). What the lower
  layers say about a passage does not depend on the query, so it can be kept between requests.
* Attention across the two segments passes a gate per layer and head, added to its logits; it starts nearly closed, so
  that an untrained network sees each segment as the sentence encoder does, and training opens it where it helps.
* The head reads how the final states of the two segments relate: cosine of their means (the bi-encoder), the
  IDF-weighted best match of each query token (Khattab & Zaharia's MaxSim, SIGIR 2020), the IDF-weighted share of query
  tokens that occur in the passage, and a linear view of the query's states that starts at zero.

This module imports torch when it is imported: import it inside functions only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch  # noqa: TID253 - nn.Module classes need it; this module is only ever imported inside functions
from torch import Tensor, nn  # noqa: TID253 - as above
from torch.nn import functional  # noqa: TID253 - as above

from mangaassist_assets.models.encoders.network import Encoder, NetworkShape, mean_pool

# Where the gates and the head's weights start. The weights are those a listwise fit gives on public question-passage
# data (feedbackqa), rounded; they make an untrained network a sound reranker.
GATE_START = -4.0
HEAD_START = (10.0, 10.0, 1.5)


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

    idf: Tensor

    def __init__(self, shape: NetworkShape, *, joint_layers: int) -> None:
        super().__init__()
        if not 1 <= joint_layers <= shape.n_layers:
            raise ValueError(f"joint_layers must lie in 1..{shape.n_layers}, got {joint_layers}")
        self.encoder = Encoder(shape)
        self.joint_layers = joint_layers
        self.gates = nn.Parameter(torch.full((joint_layers, shape.n_heads), GATE_START))
        self.segments = nn.Parameter(torch.zeros(2, shape.dim))
        self.interactions = nn.Parameter(torch.tensor(HEAD_START))
        self.query_view = nn.Parameter(torch.zeros(shape.dim))
        self.calibration = nn.Parameter(torch.tensor([1.0, 0.0]), requires_grad=False)
        self.register_buffer("idf", torch.ones(shape.vocab_size))

    @property
    def apart_layers(self) -> int:
        """How many lower layers see each segment alone."""
        return self.encoder.shape.n_layers - self.joint_layers

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.idf.device

    def lower(self, ids: Tensor, mask: Tensor) -> Segments:
        """Run the lower layers on texts of shape (batch, length)."""
        states = self.encoder.run_layers(self.encoder.embeddings(ids), mask, start=0, stop=self.apart_layers)
        return Segments(states, ids, mask)

    def forward(self, queries: Segments, passages: Segments) -> Tensor:
        """Return one logit for each pair, shape (batch,); queries and passages are parallel."""
        query_length = queries.ids.shape[1]
        states = torch.cat([queries.states + self.segments[0], passages.states + self.segments[1]], dim=1)
        mask = torch.cat([queries.mask, passages.mask], dim=1)
        side = torch.arange(mask.shape[1], device=mask.device) >= query_length
        across = (side[:, None] != side[None, :]).to(states.dtype)
        absent = torch.zeros_like(mask, dtype=states.dtype).masked_fill(~mask, torch.finfo(states.dtype).min)
        for gate, block in zip(self.gates, list(self.encoder.transformer.layer)[self.apart_layers :], strict=True):
            attention = gate[None, :, None, None] * across + absent[:, None, None, :]
            states = block(states, attention)
        # The head multiplies by ten what it reads, so it reads and adds in full precision, whatever layers computed in:
        # sums of products, for a matrix product would be rounded to bf16 again.
        states = states.float()
        features = self._interactions(
            Segments(states[:, :query_length], queries.ids, queries.mask),
            Segments(states[:, query_length:], passages.ids, passages.mask),
        )
        view = (mean_pool(states[:, :query_length], queries.mask) * self.query_view).sum(dim=1)
        return (features * self.interactions).sum(dim=1) + view

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return calibrated probabilities of relevance; monotone in the logits."""
        return torch.sigmoid(self.calibration[0] * logits + self.calibration[1])

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
