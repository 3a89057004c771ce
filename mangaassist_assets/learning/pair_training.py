"""Listwise fine-tuning of a pair network, with the frozen lower layers run once per distinct text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.learning.encoders import pad_ids, tokenize
from mangaassist_assets.learning.examples import RankingExample
from mangaassist_assets.learning.progress import ProgressCallback, TrainingProgress
from mangaassist_assets.learning.trunk import FrozenTrunk

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

    from mangaassist_assets.learning.pair_network import PairNetwork

_HEAD_LEARNING_RATE = 0.1
_GATE_LEARNING_RATE = 0.05
_SCORED_PAIRS_PER_BATCH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankerTrainingConfig:
    """How the reranker is trained. The defaults were chosen on feedbackqa with 300 questions.

    Attributes:
        seed: Of query order, sampled negatives and dropout.
        joint_layers: Upper layers in which query and passage see each other; these learn. Ignored with `start_from`.
        query_tokens: Longer queries are cut.
        passage_tokens: Longer passages are cut.
        negatives: Irrelevant passages beside each relevant one in a training step.
        epochs: Passes over the queries; 0 keeps the start and only calibrates it.
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
    negatives: int = 3
    epochs: int = 1
    max_training_pairs: int = 800
    batch_queries: int = 8
    learning_rate: float = 1e-4
    minimum_validation: int = 20
    max_validation_queries: int = 60

    def __post_init__(self) -> None:
        """Refuse sizes that cannot work, with the field's name."""
        for name in (
            "joint_layers",
            "negatives",
            "max_training_pairs",
            "batch_queries",
            "minimum_validation",
            "max_validation_queries",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"RerankerTrainingConfig.{name} must be at least 1, got {getattr(self, name)}")
        if self.epochs < 0 or self.learning_rate <= 0:
            raise ValueError("RerankerTrainingConfig: epochs cannot be negative, learning_rate must be positive")
        if not 8 <= self.query_tokens <= 256 or not 16 <= self.passage_tokens <= 256:
            raise ValueError("RerankerTrainingConfig: query_tokens must lie in 8..256, passage_tokens in 16..256")


@dataclass(frozen=True, slots=True)
class CandidateList:
    """One query with passages. In training the first passage is the relevant one."""

    query: str
    passages: tuple[str, ...]


class PairTable:
    """Candidate lists with their distinct texts already through the frozen lower layers."""

    def __init__(
        self,
        lists: Sequence[CandidateList],
        network: PairNetwork,
        tokenizer: Tokenizer,
        config: RerankerTrainingConfig,
    ) -> None:
        self._network = network
        queries = sorted({item.query for item in lists})
        passages = sorted({passage for item in lists for passage in item.passages})
        query_places = {text: place for place, text in enumerate(queries)}
        passage_places = {text: place for place, text in enumerate(passages)}
        self._query_ids = tokenize(tokenizer, queries, max_tokens=config.query_tokens)
        self._passage_ids = tokenize(tokenizer, passages, max_tokens=config.passage_tokens)
        self._queries = FrozenTrunk(network.encoder, self._query_ids, layers=network.apart_layers)
        self._passages = FrozenTrunk(network.encoder, self._passage_ids, layers=network.apart_layers)
        self._lists = [
            (query_places[item.query], [passage_places[passage] for passage in item.passages]) for item in lists
        ]

    def __len__(self) -> int:
        return len(self._lists)

    def list_logits(self, places: Sequence[int]) -> Tensor:
        """Score some of the lists: shape (len(places), longest list), -inf where a list is shorter."""
        import torch

        chosen = [self._lists[place] for place in places]
        rows = [row for row, (_, passages) in enumerate(chosen) for _ in passages]
        columns = [column for _, passages in chosen for column in range(len(passages))]
        logits = self._logits([(query, passage) for query, passages in chosen for passage in passages])
        table = torch.full((len(chosen), max(columns) + 1), -torch.inf)
        table[rows, columns] = logits
        return table

    def scores(self) -> list[NDArray[np.float64]]:
        """Score every passage of every list without learning."""
        import torch

        self._network.eval()
        pairs = [(query, passage) for query, passages in self._lists for passage in passages]
        order = sorted(range(len(pairs)), key=lambda index: len(self._passage_ids[pairs[index][1]]))
        flat = np.zeros(len(pairs), dtype=np.float64)
        with torch.no_grad():
            for start in range(0, len(order), _SCORED_PAIRS_PER_BATCH):
                batch = order[start : start + _SCORED_PAIRS_PER_BATCH]
                flat[batch] = self._logits([pairs[index] for index in batch]).numpy()
        ends = np.cumsum([len(passages) for _, passages in self._lists])
        return list(np.split(flat, ends[:-1]))

    def _logits(self, pairs: Sequence[tuple[int, int]]) -> Tensor:
        from mangaassist_assets.learning.pair_network import Segments

        queries, passages = [query for query, _ in pairs], [passage for _, passage in pairs]
        query_states, _ = self._queries.hidden(queries)
        passage_states, _ = self._passages.hidden(passages)
        return self._network(  # type: ignore[no-any-return]
            Segments(query_states, *pad_ids([self._query_ids[place] for place in queries])),
            Segments(passage_states, *pad_ids([self._passage_ids[place] for place in passages])),
        )


def training_lists(examples: Sequence[RankingExample], config: RerankerTrainingConfig) -> list[CandidateList]:
    """Draw what training will see, in its order: a relevant passage and up to `negatives` irrelevant ones each.

    Every example must have both. Drawing ahead of training means that only passages that are used are encoded.
    """
    generator = np.random.default_rng(config.seed)
    visits = max(1, config.max_training_pairs // (config.negatives + 1))
    order = [place for _ in range(config.epochs) for place in generator.permutation(len(examples))][:visits]
    lists = []
    for place in order:
        example = examples[int(place)]
        labelled = list(zip(example.passages, example.relevances, strict=True))
        relevant = [passage for passage, relevance in labelled if relevance > 0]
        irrelevant = [passage for passage, relevance in labelled if relevance <= 0]
        chosen = generator.choice(len(irrelevant), size=min(config.negatives, len(irrelevant)), replace=False)
        first = relevant[int(generator.integers(len(relevant)))]
        lists.append(CandidateList(example.query, (first, *(irrelevant[int(other)] for other in chosen))))
    return lists


def fit_pairs(
    network: PairNetwork, table: PairTable, *, config: RerankerTrainingConfig, progress: ProgressCallback
) -> list[float]:
    """Train the joint layers, gates and head by a listwise softmax, going through the table once; return the losses.

    Draws dropout from torch's global random state, which the caller seeds.
    """
    import torch
    from torch.nn import functional

    network.requires_grad_(requires_grad=False)
    blocks = list(network.encoder.transformer.layer)[network.apart_layers :]
    layers = [parameter for block in blocks for parameter in block.parameters()]
    fresh = [network.segments, network.query_view]
    for parameter in (*layers, *fresh, network.gates, network.interactions):
        parameter.requires_grad_()
    optimiser = torch.optim.AdamW(
        [
            {"params": layers, "lr": config.learning_rate, "weight_decay": 0.01},
            {"params": fresh, "lr": 10 * config.learning_rate, "weight_decay": 0.0},
            {"params": [network.gates], "lr": _GATE_LEARNING_RATE, "weight_decay": 0.0},
            {"params": [network.interactions], "lr": _HEAD_LEARNING_RATE, "weight_decay": 0.0},
        ]
    )
    steps = -(-len(table) // config.batch_queries)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / (0.1 * steps)) * max(0.0, 1.0 - step / steps)
    )
    losses: list[float] = []
    network.train()
    for step in range(steps):
        start = step * config.batch_queries
        logits = table.list_logits(range(start, min(start + config.batch_queries, len(table))))
        loss = functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(layers, 1.0)
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
        figures = {"training_loss": losses[-1]}
        progress(TrainingProgress(stage="fine-tune", epoch=step + 1, epochs=steps, figures=figures))
    network.eval()
    network.requires_grad_(requires_grad=False)
    return losses


def calibrate(
    network: PairNetwork,
    scores: Sequence[NDArray[np.float64]],
    examples: Sequence[RankingExample],
) -> None:
    """Fit scale and shift of the sigmoid (Platt 1999); the scale stays positive, so the order stays."""
    import torch
    from torch.nn import functional

    logits = torch.from_numpy(np.concatenate(scores))
    wanted = torch.tensor(
        [float(relevance > 0) for example in examples for relevance in example.relevances], dtype=torch.float64
    )
    log_scale = torch.zeros((), dtype=torch.float64, requires_grad=True)
    shift = (-logits.mean()).clone().requires_grad_()
    optimiser = torch.optim.LBFGS([log_scale, shift], max_iter=100, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimiser.zero_grad()
        penalty = 0.01 * log_scale.square()
        loss = functional.binary_cross_entropy_with_logits(log_scale.exp() * logits + shift, wanted) + penalty
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(objective)  # type: ignore[no-untyped-call]
    network.calibration.data.copy_(torch.stack([log_scale.detach().exp(), shift.detach()]))
