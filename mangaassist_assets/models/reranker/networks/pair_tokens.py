"""Pairs of texts as token numbers, without torch: what `sentence_transformers.CrossEncoder` makes of them too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.models.encoders.tokens import clean_text, pad_ids

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PairIds = tuple[list[int], list[int]]
"""Token numbers, and token types: 0 for the query, 1 for the passage."""


class PairTokens:
    """Query and passage in one text of at most `max_tokens` tokens; of what is too long the longer part loses its end.

    The tokenizer's truncation is a state of it: it should be no one else's.
    """

    def __init__(self, tokenizer: Tokenizer, *, max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        tokenizer.enable_truncation(max_tokens, strategy="longest_first")

    def encode(self, pairs: Sequence[tuple[str, str]]) -> list[PairIds]:
        """Return the tokens of each pair."""
        cleaned = [tuple(clean_text(text, max_tokens=self._max_tokens) for text in pair) for pair in pairs]
        return [(encoding.ids, encoding.type_ids) for encoding in self._tokenizer.encode_batch(cleaned)]

    @staticmethod
    def padded(pairs: Sequence[PairIds], *, pad: int, types: bool) -> dict[str, NDArray[Any]]:
        """Return arrays of shape (len(pairs), longest) under the names that transformers gives them."""
        ids, mask = pad_ids([ids for ids, _ in pairs], pad=pad)
        arrays: dict[str, NDArray[Any]] = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
        if types:
            arrays["token_type_ids"], _ = pad_ids([kinds for _, kinds in pairs], pad=0)
        return arrays
