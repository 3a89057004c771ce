"""The frozen lower part of an encoder, run once per example.

Fine-tuning only the upper layers costs a fraction of the whole if what the lower layers say about each example is kept:
they see no gradient and no dropout, so their output never changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mangaassist_assets.learning.encoders import length_batches, pad_ids

if TYPE_CHECKING:
    from torch import Tensor

    from mangaassist_assets.learning.network import Encoder

_TOKENS_PER_BATCH = 4096
_BYTES_KEPT = 512 * 1024 * 1024


class FrozenTrunk:
    """Hidden states after the first `layers` layers for a fixed list of token sequences.

    They are kept in memory up to 512 MiB; a larger set is computed batch by batch each time it is asked for.
    """

    def __init__(self, encoder: Encoder, sequences: Sequence[Sequence[int]], *, layers: int) -> None:
        self._encoder = encoder
        self._sequences = sequences
        self._layers = layers
        tokens = sum(len(sequence) for sequence in sequences)
        self._kept: list[Tensor] | None = None
        if tokens * encoder.shape.dim * 4 <= _BYTES_KEPT:
            self._kept = self._compute_all()

    def __len__(self) -> int:
        return len(self._sequences)

    def length(self, index: int) -> int:
        """Return the number of tokens of one example."""
        return len(self._sequences[index])

    def hidden(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return hidden states (batch, longest, dim) and their boolean mask (batch, longest)."""
        import torch

        ids, mask = pad_ids([self._sequences[index] for index in indices])
        if self._kept is None:
            return self._run(ids, mask), mask
        states = torch.zeros(*ids.shape, self._encoder.shape.dim)
        for row, index in enumerate(indices):
            kept = self._kept[index]
            states[row, : len(kept)] = kept
        return states, mask

    def _compute_all(self) -> list[Tensor]:
        import torch

        kept = [torch.empty(0)] * len(self._sequences)
        lengths = [len(sequence) for sequence in self._sequences]
        for batch in length_batches(lengths, max_tokens=_TOKENS_PER_BATCH):
            ids, mask = pad_ids([self._sequences[index] for index in batch])
            states = self._run(ids, mask)
            for row, index in enumerate(batch):
                kept[index] = states[row, : lengths[index]].clone()
        return kept

    def _run(self, ids: Tensor, mask: Tensor) -> Tensor:
        import torch

        training = self._encoder.training
        self._encoder.eval()
        with torch.no_grad():
            states = self._encoder.run_layers(self._encoder.embeddings(ids), mask, start=0, stop=self._layers)
        self._encoder.train(training)
        return states
