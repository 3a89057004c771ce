"""The frozen lower part of an encoder, run once per example.

Fine-tuning only the upper layers costs a fraction of the whole if what the lower layers say about each example is kept:
they see no gradient and no dropout, so their output never changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from typing import TYPE_CHECKING

import numpy as np

from mangaassist_assets.models.encoders.pretrained import padded
from mangaassist_assets.models.encoders.tokens import length_batches

if TYPE_CHECKING:
    from torch import Tensor

    from mangaassist_assets.models.encoders.encoder import Encoder

_TOKENS_PER_BATCH = 4096
_BYTES_KEPT = 512 * 1024 * 1024


class FrozenLayers:
    """A fixed list of token sequences after the first `layers` layers of an encoder.

    The states are kept in memory, on the encoder's device, up to 512 MiB of float32; a larger set is computed batch by
    batch each time it is asked for. Where nothing is frozen, or the architecture's layers cannot be run apart, only the
    sequences are kept.
    """

    def __init__(self, encoder: Encoder, sequences: Sequence[Sequence[int]], *, layers: int) -> None:
        self._encoder = encoder
        self._sequences = sequences
        self._layers = layers
        lengths = [len(sequence) for sequence in sequences]
        self._starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])
        self._apart = layers > 0 and encoder.splits
        self._kept: Tensor | None = None
        if self._apart and int(self._starts[-1]) * encoder.dim * 4 <= _BYTES_KEPT:
            self._kept = self._compute_all()

    def __len__(self) -> int:
        return len(self._sequences)

    def take(self, places: Sequence[int]) -> FrozenLayers:
        """Return some of the examples as a list of their own, in this order; what is kept is shared."""
        taken = copy(self)
        taken._sequences = [self._sequences[place] for place in places]  # noqa: SLF001
        taken._starts = np.append(self._starts[list(places)], self._starts[-1])  # noqa: SLF001
        return taken

    def length(self, index: int) -> int:
        """Return the number of tokens of one example."""
        return len(self._sequences[index])

    def last_hidden(self, indices: Sequence[int], *, token_dropout: float = 0.0) -> tuple[Tensor, Tensor | None]:
        """Run the layers above: last hidden states (batch, longest, dim), and the mask, None without padding.

        With gradient and dropout as the encoder has them at the time; what lies below the first layer has no gradient.
        Where the encoder has dropout on, each token but the first is hidden from the layers above with the probability
        `token_dropout`, as if it were padding.
        """
        given, mask = self.hidden(indices) if self._apart else self._padded(indices)
        if token_dropout and self._encoder.training:
            mask = mask & _some(mask, 1.0 - token_dropout)
        needed = None if bool(mask.all()) else mask
        if self._apart:
            return self._encoder.upper(given, needed, layers=self._layers), needed
        return self._encoder(given, needed), needed

    def hidden(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return hidden states (batch, longest, dim), zeros where there is padding, and the boolean mask of the rest.

        The mask has the shape (batch, longest); both are on the encoder's device.
        """
        import torch

        device = self._encoder.device
        if self._kept is None:
            ids, mask = self._padded(indices)
            return run_lower_layers(self._encoder, self._layers, ids, mask), mask
        lengths = np.array([len(self._sequences[index]) for index in indices])
        places = np.arange(int(lengths.max()))
        exists = places < lengths[:, None]
        # The row after the last one is of zeros; all padding is taken from there.
        rows = np.where(exists, self._starts[list(indices)][:, None] + places, self._starts[-1])
        return self._kept[torch.from_numpy(rows).to(device)], torch.from_numpy(exists).to(device)

    def _padded(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        return padded([self._sequences[index] for index in indices], self._encoder)

    def _compute_all(self) -> Tensor:
        import torch

        kept = torch.zeros(int(self._starts[-1]) + 1, self._encoder.dim, device=self._encoder.device)
        for index, states in lower_layer_states(self._encoder, self._layers, self._sequences):
            kept[self._starts[index] : self._starts[index + 1]] = states
        return kept


def _some(mask: Tensor, share: float) -> Tensor:
    """Return where a token stays: the first one always, each other one with the probability `share`."""
    import torch

    stays = torch.rand(mask.shape, device=mask.device) < share
    stays[:, 0] = True
    return stays


def run_lower_layers(encoder: Encoder, layers: int, ids: Tensor, mask: Tensor) -> Tensor:
    """Return the states after the first `layers` layers, without dropout or gradient."""
    import torch

    training = encoder.training
    encoder.train(training=False)
    with torch.no_grad():
        states = encoder.lower(ids, mask, layers=layers)
    encoder.train(training=training)
    return states


def lower_layer_states(
    encoder: Encoder, layers: int, sequences: Sequence[Sequence[int]]
) -> Iterator[tuple[int, Tensor]]:
    """Yield place and states, shape (len(sequence), dim), of each sequence after the first `layers` layers."""
    lengths = [len(sequence) for sequence in sequences]
    for batch in length_batches(lengths, max_tokens=_TOKENS_PER_BATCH):
        ids, mask = padded([sequences[index] for index in batch], encoder)
        states = run_lower_layers(encoder, layers, ids, mask)
        for row, index in enumerate(batch):
            yield index, states[row, : lengths[index]]
