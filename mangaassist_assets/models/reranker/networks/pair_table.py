"""Candidate lists that a network can score: their texts as numbers, and as the frozen lower layers leave them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.models.encoders.frozen_layers import FrozenLayers
from mangaassist_assets.models.encoders.pretrained import padded
from mangaassist_assets.models.encoders.tokens import length_batches, tokenize
from mangaassist_assets.models.reranker.lists import CandidateList

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor, device

    from mangaassist_assets.models.reranker.networks.pair_network import PairNetwork, Segments

_TOKENS_PER_BATCH = 2048
Pair = tuple[str, str]


class PairTexts(Protocol):
    """Texts that a network can score in pairs."""

    def logits(self, pairs: Sequence[Pair]) -> Tensor:
        """Return one logit for each (query, passage), shape (len(pairs),); with gradient where there is one."""


class SplitTexts:
    """Distinct queries and passages after the frozen lower layers of a network: each runs through them once."""

    def __init__(
        self,
        queries: Sequence[str],
        passages: Sequence[str],
        network: PairNetwork,
        tokenizer: Tokenizer,
        *,
        query_tokens: int,
        passage_tokens: int,
    ) -> None:
        asked, read = sorted(set(queries)), sorted(set(passages))
        self.network = network
        self._query_places = {text: place for place, text in enumerate(asked)}
        self._passage_places = {text: place for place, text in enumerate(read)}
        self._query_ids = tokenize(tokenizer, asked, max_tokens=query_tokens)
        self._passage_ids = tokenize(tokenizer, read, max_tokens=passage_tokens)
        self._queries = FrozenLayers(network.encoder, self._query_ids, layers=network.apart_layers)
        self._passages = FrozenLayers(network.encoder, self._passage_ids, layers=network.apart_layers)

    def of(self, network: PairNetwork) -> SplitTexts:
        """Return the same texts, to be scored by another network with the same lower layers."""
        twin = copy.copy(self)
        twin.network = network
        return twin

    def logits(self, pairs: Sequence[Pair]) -> Tensor:
        """Score pairs in batches of similar length, so that little is computed on padding; shape (len(pairs),)."""
        import torch

        asked = [self._query_places[query] for query, _ in pairs]
        read = [self._passage_places[passage] for _, passage in pairs]
        lengths = [
            len(self._query_ids[one]) + len(self._passage_ids[other]) for one, other in zip(asked, read, strict=True)
        ]
        parts: list[Tensor] = []
        order: list[int] = []
        for batch in length_batches(lengths, max_tokens=_TOKENS_PER_BATCH):
            order += batch
            queries = self._segments(self._queries, self._query_ids, [asked[index] for index in batch])
            passages = self._segments(self._passages, self._passage_ids, [read[index] for index in batch])
            parts.append(self.network(queries, passages).float())
        return torch.cat(parts)[_back(order, self.network.device)]

    def apart_logits(self, queries: Sequence[str], passages: Sequence[str]) -> Tensor:
        """Score every query with every passage, each encoded alone; shape (len(queries), len(passages))."""
        return self.network.apart_logits(
            self._segments(self._queries, self._query_ids, [self._query_places[one] for one in queries]),
            self._segments(self._passages, self._passage_ids, [self._passage_places[one] for one in passages]),
        )

    def _segments(self, frozen: FrozenLayers, ids: Sequence[Sequence[int]], places: Sequence[int]) -> Segments:
        from mangaassist_assets.models.reranker.networks.pair_network import Segments

        states, mask = frozen.hidden(places)
        tokens, _ = padded([ids[place] for place in places], self.network.encoder)
        return Segments(states, tokens, mask)


class PairTable:
    """Candidate lists with their texts, scored by a network that may learn."""

    def __init__(self, lists: Sequence[CandidateList], texts: PairTexts) -> None:
        self._texts = texts
        self._lists = lists

    def __len__(self) -> int:
        return len(self._lists)

    def list_logits(self, places: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Score some of the lists.

        Returns:
            Logits, what is wanted, and which entries exist (boolean): each of shape (len(places), longest list), on
            the network's device. Entries that do not exist are 0.
        """
        import torch

        chosen = [self._lists[place] for place in places]
        width = max(len(one.passages) for one in chosen)
        wanted = np.zeros((len(chosen), width), dtype=np.float32)
        present = np.zeros((len(chosen), width), dtype=np.bool_)
        for row, one in enumerate(chosen):
            present[row, : len(one.passages)] = True
            wanted[row, : len(one.passages)] = one.wanted
        logits = self._texts.logits([(one.query, passage) for one in chosen for passage in one.passages])
        there = torch.from_numpy(present).to(logits.device)
        table = torch.zeros(present.shape, dtype=logits.dtype, device=logits.device).masked_scatter(there, logits)
        return table, torch.from_numpy(wanted).to(logits.device), there

    def crossed_logits(self, places: Sequence[int], company: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Score the queries of some lists with the passages of all lists of their company, each text encoded apart.

        Returns:
            As `list_logits`, of shape (len(places), distinct passages). A passage that answers a query and stands
            beside another one is neither right nor wrong for it: it does not exist in that row.
        """
        import torch

        if not isinstance(self._texts, SplitTexts):
            raise TypeError("only a split-attention network encodes texts apart")
        chosen = [self._lists[place] for place in places]
        passages = sorted({passage for place in company for passage in self._lists[place].passages})
        wanted = np.zeros((len(chosen), len(passages)), dtype=np.float32)
        present = np.ones(wanted.shape, dtype=np.bool_)
        for row, one in enumerate(chosen):
            own = dict(zip(one.passages, one.wanted, strict=True))
            wanted[row] = [own.get(passage, 0.0) for passage in passages]
            present[row] = [passage in own or passage not in one.answers for passage in passages]
        logits = self._texts.apart_logits([one.query for one in chosen], passages)
        return logits, torch.from_numpy(wanted).to(logits.device), torch.from_numpy(present).to(logits.device)

    def scores(self) -> list[NDArray[np.float64]]:
        """Score every passage of every list without learning; the network must be in evaluation mode."""
        import torch

        with torch.no_grad():
            flat = self._texts.logits([(one.query, passage) for one in self._lists for passage in one.passages])
        ends = np.cumsum([len(one.passages) for one in self._lists])
        return list(np.split(flat.double().cpu().numpy(), ends[:-1]))


def _back(order: Sequence[int], device: device) -> Tensor:
    """Return the places that put what was computed in an order back into the one that was asked for."""
    import torch

    return torch.from_numpy(np.argsort(np.array(order, dtype=np.int64))).to(device)
