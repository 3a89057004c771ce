"""How much each token of a query says: its rarity in the knowledge."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def idf_weights(sequences: Sequence[Sequence[int]], *, vocab_size: int, special: Sequence[int]) -> NDArray[np.float32]:
    """Return log((N + 1) / (document frequency + 1/2)) of each token, shape (vocab_size,); 0 for special tokens."""
    frequencies = Counter(token for sequence in sequences for token in set(sequence))
    weights = np.full(vocab_size, math.log((len(sequences) + 1) / 0.5), dtype=np.float32)
    for token, frequency in frequencies.items():
        weights[token] = math.log((len(sequences) + 1) / (frequency + 0.5))
    weights[list(special)] = 0.0
    return np.maximum(weights, 0.0)


def special_tokens(tokenizer: Tokenizer, pad_id: int) -> list[int]:
    """Return the ids that carry no content: padding and what frames every text."""
    return sorted({pad_id, *tokenizer.encode("").ids})
