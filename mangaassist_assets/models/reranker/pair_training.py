"""What a reranker learns from: lists of passages, and their texts after the frozen lower layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.models.encoders.frozen_layers import FrozenLayers
from mangaassist_assets.models.encoders.pretrained import length_batches, pad_ids, tokenize
from mangaassist_assets.models.examples import RankingExample
from mangaassist_assets.models.reranker.ranking_losses import RANKING_LOSSES, RankingLoss

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

    from mangaassist_assets.models.reranker.pair_network import PairNetwork

_TOKENS_PER_BATCH = 4096


class RerankerTrainingError(ValueError):
    """The examples cannot train a reranker; the message says what is wrong with them and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankerTrainingConfig:
    """How the reranker is trained. The defaults suit a few hundred questions and take seconds; see `thorough`.

    Attributes:
        seed: Of query order, sampled negatives and dropout.
        joint_layers: Upper layers in which query and passage see each other; these learn. Ignored with `start_from`.
        query_tokens: Longer queries are cut.
        passage_tokens: Longer passages are cut.
        loss: `listwise`, `pairwise`, `binary`, or `distillation` from a teacher's scores.
        negatives: Irrelevant passages beside each relevant one in a training step.
        epochs: Passes over the queries; 0 keeps the start and only calibrates it.
        patience: Stop after so many epochs without a better validation.
        max_training_pairs: At most so many pairs are learned from, over all epochs: it bounds the time.
        batch_queries: Queries a step.
        learning_rate: Peak learning rate of the layers.
        minimum_validation: With fewer usable validation queries nothing is selected on them.
        max_validation_queries: The first so many usable validation queries are used: it bounds the time.
    """

    seed: int = 0
    joint_layers: int = 1
    query_tokens: int = 48
    passage_tokens: int = 96
    loss: RankingLoss = "listwise"
    negatives: int = 3
    epochs: int = 1
    patience: int = 2
    max_training_pairs: int = 800
    batch_queries: int = 8
    learning_rate: float = 1e-4
    minimum_validation: int = 20
    max_validation_queries: int = 60

    @classmethod
    def thorough(cls) -> RerankerTrainingConfig:
        """Return settings for thousands of questions and minutes of time.

        Layers, tokens and rate were chosen on a tenth of feedbackqa's train.
        """
        return cls(joint_layers=2, epochs=2, max_training_pairs=16_000, max_validation_queries=200)

    def __post_init__(self) -> None:
        """Refuse sizes that cannot work, with the field's name."""
        for name in (
            "joint_layers",
            "negatives",
            "patience",
            "max_training_pairs",
            "batch_queries",
            "minimum_validation",
            "max_validation_queries",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"RerankerTrainingConfig.{name} must be at least 1, got {getattr(self, name)}")
        if self.loss not in RANKING_LOSSES:
            raise ValueError(f"RerankerTrainingConfig.loss must be one of {RANKING_LOSSES}, got {self.loss!r}")
        if self.epochs < 0 or not self.learning_rate > 0:
            raise ValueError("RerankerTrainingConfig: epochs cannot be negative, learning_rate must be positive")
        if not 8 <= self.query_tokens <= 256 or not 16 <= self.passage_tokens <= 256:
            raise ValueError("RerankerTrainingConfig: query_tokens must lie in 8..256, passage_tokens in 16..256")


@dataclass(frozen=True, slots=True)
class CandidateList:
    """One query with passages and what is wanted of each: a relevance in [0, 1], or a teacher's logit."""

    query: str
    passages: tuple[str, ...]
    wanted: tuple[float, ...]


def labelled_passages(example: RankingExample) -> dict[str, float]:
    """Return the relevance of each distinct passage that says anything, in the example's order.

    A passage that is there twice, with two labels, has the higher one: it answers, whatever its copy was taken for.
    """
    labelled: dict[str, float] = {}
    for passage, relevance in zip(example.passages, example.relevances, strict=True):
        if passage.strip():
            labelled[passage] = max(relevance, labelled.get(passage, 0.0))
    return labelled


def draw_lists(
    examples: Sequence[RankingExample],
    config: RerankerTrainingConfig,
    *,
    teacher: Mapping[str, Mapping[str, float]] | None = None,
) -> list[list[CandidateList]]:
    """Draw what training will see, epoch by epoch in its order: a relevant passage and some irrelevant ones.

    Irrelevant passages are drawn the more often the better the first stage ranked them: those are what the reranker
    will have to separate from answers. Drawing ahead of training means that only passages that are used are encoded.

    With a `teacher`, its logit by example id and passage is wanted in place of the relevance.
    """
    visits = max(1, config.max_training_pairs // (config.negatives + 1))
    epochs: list[list[CandidateList]] = []
    for epoch in range(1, config.epochs + 1):
        generator = np.random.default_rng((config.seed, epoch))
        order = generator.permutation(len(examples))[:visits]
        visits -= len(order)
        epochs.append([_draw(examples[int(place)], config.negatives, generator, teacher) for place in order])
    return [lists for lists in epochs if lists]


def _draw(
    example: RankingExample,
    negatives: int,
    generator: np.random.Generator,
    teacher: Mapping[str, Mapping[str, float]] | None,
) -> CandidateList:
    labelled = labelled_passages(example)
    ranks = dict(zip(reversed(example.passages), reversed(example.first_stage_ranks), strict=True))
    relevant = [passage for passage, relevance in labelled.items() if relevance > 0]
    irrelevant = [passage for passage, relevance in labelled.items() if relevance <= 0]
    weights = np.array([1.0 / np.sqrt(ranks[passage]) for passage in irrelevant])
    drawn = generator.choice(
        len(irrelevant), size=min(negatives, len(irrelevant)), replace=False, p=weights / weights.sum()
    )
    passages = (
        relevant[int(generator.integers(len(relevant)))],
        *(irrelevant[int(other)] for other in drawn),
    )
    wanted = labelled if teacher is None else teacher[example.example_id]
    return CandidateList(example.query, passages, tuple(wanted[passage] for passage in passages))


class EncodedTexts:
    """Distinct queries and passages after the frozen lower layers of a network: each runs through them once."""

    def __init__(
        self,
        queries: Sequence[str],
        passages: Sequence[str],
        network: PairNetwork,
        tokenizer: Tokenizer,
        config: RerankerTrainingConfig,
    ) -> None:
        asked, read = sorted(set(queries)), sorted(set(passages))
        self.query_places = {text: place for place, text in enumerate(asked)}
        self.passage_places = {text: place for place, text in enumerate(read)}
        self.query_ids = tokenize(tokenizer, asked, max_tokens=config.query_tokens)
        self.passage_ids = tokenize(tokenizer, read, max_tokens=config.passage_tokens)
        self.queries = FrozenLayers(network.encoder, self.query_ids, layers=network.apart_layers)
        self.passages = FrozenLayers(network.encoder, self.passage_ids, layers=network.apart_layers)


class PairTable:
    """Candidate lists whose texts are encoded, scored by a network that may learn."""

    def __init__(self, lists: Sequence[CandidateList], texts: EncodedTexts, network: PairNetwork) -> None:
        self._network = network
        self._texts = texts
        self._lists = [
            (texts.query_places[one.query], [texts.passage_places[passage] for passage in one.passages])
            for one in lists
        ]
        self._wanted = [one.wanted for one in lists]

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
        width = max(len(passages) for _, passages in chosen)
        wanted = np.zeros((len(chosen), width), dtype=np.float32)
        present = np.zeros((len(chosen), width), dtype=np.bool_)
        for row, place in enumerate(places):
            present[row, : len(chosen[row][1])] = True
            wanted[row, : len(chosen[row][1])] = self._wanted[place]
        logits = self._logits([(query, passage) for query, passages in chosen for passage in passages])
        device = logits.device
        there = torch.from_numpy(present).to(device)
        table = torch.zeros(present.shape, dtype=logits.dtype, device=device).masked_scatter(there, logits)
        return table, torch.from_numpy(wanted).to(device), there

    def scores(self) -> list[NDArray[np.float64]]:
        """Score every passage of every list without learning; the network must be in evaluation mode."""
        import torch

        pairs = [(query, passage) for query, passages in self._lists for passage in passages]
        with torch.no_grad():
            flat = self._logits(pairs).double().cpu().numpy()
        ends = np.cumsum([len(passages) for _, passages in self._lists])
        return list(np.split(flat, ends[:-1]))

    def _logits(self, pairs: Sequence[tuple[int, int]]) -> Tensor:
        """Score pairs in batches of similar length, so that little is computed on padding; shape (len(pairs),)."""
        import torch

        from mangaassist_assets.models.reranker.pair_network import Segments

        texts, device = self._texts, self._network.device
        lengths = [len(texts.query_ids[query]) + len(texts.passage_ids[passage]) for query, passage in pairs]
        parts: list[Tensor] = []
        order: list[int] = []
        for batch in length_batches(lengths, max_tokens=_TOKENS_PER_BATCH):
            order += batch
            segments = []
            for ids, frozen, places in (
                (texts.query_ids, texts.queries, [pairs[index][0] for index in batch]),
                (texts.passage_ids, texts.passages, [pairs[index][1] for index in batch]),
            ):
                states, mask = frozen.hidden(places)
                tokens, _ = pad_ids([ids[place] for place in places])
                segments.append(Segments(states, tokens, mask).to(device))
            parts.append(self._network(*segments).float())
        back = torch.from_numpy(np.argsort(np.array(order, dtype=np.int64))).to(device)
        return torch.cat(parts)[back]
