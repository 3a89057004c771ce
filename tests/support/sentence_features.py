"""Sentence vectors of an encoder, batch by batch, for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.models.encoders.encoder import Encoder
from mangaassist_assets.models.encoders.pretrained import padded
from mangaassist_assets.models.encoders.tokens import length_batches


def sentence_features(
    encoder: Encoder, sequences: Sequence[Sequence[int]], *, tokens_per_batch: int = 4096
) -> NDArray[np.float32]:
    """Return mean-pooled last hidden states, float32 of shape (len(sequences), dim), not normalised."""
    import torch

    from mangaassist_assets.models.encoders.pooling import mean_pool

    features = np.zeros((len(sequences), encoder.dim), dtype=np.float32)
    encoder.train(training=False)
    with torch.inference_mode():
        for batch in length_batches([len(sequence) for sequence in sequences], max_tokens=tokens_per_batch):
            ids, mask = padded([sequences[index] for index in batch], encoder)
            features[batch] = mean_pool(encoder(ids, mask), mask).cpu().numpy()
    return features
