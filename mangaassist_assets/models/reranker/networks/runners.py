"""Trained rerankers' networks as they serve: ONNX Runtime and a tokenizer, no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.models.encoders.layer_states import SHARED, LayerStates, States, TokenIds
from mangaassist_assets.models.encoders.tokens import length_batches, pad_ids, tokenize
from mangaassist_assets.models.onnx_network import OnnxNetwork
from mangaassist_assets.models.reranker.networks.pair_tokens import PairTokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_TOKENS_PER_BATCH = 2048
_PAIRS_PER_BLOCK = 512
Logits = NDArray[np.float32]


class Runner(Protocol):
    """A network that scores pairs."""

    def logits(self, pairs: Sequence[tuple[str, str]]) -> Logits:
        """Return one logit for each (query, passage), float32 of shape (len(pairs),)."""


class CrossRunner:
    """A cross-encoder: every pair is one text."""

    def __init__(
        self,
        models: Sequence[Path | bytes],
        tokenizer: Tokenizer,
        *,
        max_tokens: int,
        pad_id: int,
        where: Sequence[str | None] = (None,),
    ) -> None:
        (model,) = models
        self._network = OnnxNetwork(model, where=where[0])
        self._tokens = PairTokens(tokenizer, max_tokens=max_tokens)
        self._pad_id = pad_id

    def logits(self, pairs: Sequence[tuple[str, str]]) -> Logits:
        """Return one logit for each (query, passage), float32 of shape (len(pairs),)."""
        logits = np.zeros(len(pairs), dtype=np.float32)
        ids = self._tokens.encode(pairs)
        types = "token_type_ids" in self._network.inputs
        for batch in length_batches([len(one) for one, _ in ids], max_tokens=_TOKENS_PER_BATCH):
            inputs = PairTokens.padded([ids[index] for index in batch], pad=self._pad_id, types=types)
            logits[batch] = self._network.run(inputs)["logits"]
        return logits


class SplitRunner:
    """A split-attention network: texts run alone through the lower layers, and what those say of passages is kept."""

    def __init__(
        self,
        models: Sequence[Path | bytes],
        tokenizer: Tokenizer,
        *,
        query_tokens: int,
        passage_tokens: int,
        pad_id: int,
        passages: LayerStates = SHARED,
        where: Sequence[str | None] = (None, None),
    ) -> None:
        lower, joint = models
        self._lower_layers = OnnxNetwork(lower, where=where[0])
        self._joint_layers = OnnxNetwork(joint, where=where[1])
        self._lower_digest = hashlib.sha256(lower.read_bytes() if isinstance(lower, Path) else lower).hexdigest()
        self._tokenizer = tokenizer
        self._query_tokens, self._passage_tokens = query_tokens, passage_tokens
        self._pad_id = pad_id
        self._passages = passages

    def logits(self, pairs: Sequence[tuple[str, str]]) -> Logits:
        """Return one logit for each (query, passage), float32 of shape (len(pairs),)."""
        blocks = [pairs[start : start + _PAIRS_PER_BLOCK] for start in range(0, len(pairs), _PAIRS_PER_BLOCK)]
        return np.concatenate([np.zeros(0, dtype=np.float32), *(self._block_logits(block) for block in blocks)])

    def _block_logits(self, pairs: Sequence[tuple[str, str]]) -> Logits:
        logits = np.zeros(len(pairs), dtype=np.float32)
        queries = self._ids([query for query, _ in pairs], self._query_tokens)
        passages = self._ids([passage for _, passage in pairs], self._passage_tokens)
        asked = sorted(set(queries))
        query_states = dict(zip(asked, self._lower(asked), strict=True))
        passage_states = self._passages.get(self._lower_digest, sorted(set(passages)), self._lower)
        lengths = [len(query) + len(passage) for query, passage in zip(queries, passages, strict=True)]
        for batch in length_batches(lengths, max_tokens=_TOKENS_PER_BATCH):
            inputs: dict[str, NDArray[Any]] = {}
            for name, texts, states in (("query", queries, query_states), ("passage", passages, passage_states)):
                ids, mask = pad_ids([texts[index] for index in batch], pad=self._pad_id)
                stacked = np.zeros((*ids.shape, states[texts[batch[0]]].shape[-1]), dtype=np.float32)
                for row, index in enumerate(batch):
                    stacked[row, : len(texts[index])] = states[texts[index]]
                inputs |= {f"{name}_states": stacked, f"{name}_ids": ids, f"{name}_mask": mask.astype(np.int64)}
            logits[batch] = self._joint_layers.run(inputs)["logits"]
        return logits

    def _ids(self, texts: Sequence[str], max_tokens: int) -> list[TokenIds]:
        distinct = sorted(set(texts))
        ids = tokenize(self._tokenizer, distinct, max_tokens=max_tokens)
        known = {text: tuple(sequence) for text, sequence in zip(distinct, ids, strict=True)}
        return [known[text] for text in texts]

    def _lower(self, sequences: Sequence[TokenIds]) -> list[States]:
        found: dict[int, States] = {}
        for batch in length_batches([len(one) for one in sequences], max_tokens=_TOKENS_PER_BATCH):
            ids, mask = pad_ids([sequences[index] for index in batch], pad=self._pad_id)
            states = self._lower_layers.run({"input_ids": ids, "attention_mask": mask.astype(np.int64)})["states"]
            for row, index in enumerate(batch):
                found[index] = states[row, : len(sequences[index])].copy()
        return [found[place] for place in range(len(sequences))]
