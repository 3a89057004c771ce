"""Training the reranker from queries with labelled passages.

The network starts as a sound reranker (see `pair_network`), so training only has to improve on it: a listwise softmax
over one relevant and a few irrelevant passages of the same query, on the upper layers, with the lower ones frozen and
run once. Start and result are compared on validation queries and the better one is kept: training never makes a
reranker worse than what it started from, as far as validation can see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from mangaassist_assets.learning.encoders import PACKAGED_MINILM, BaseModelError, load_base, tokenize
from mangaassist_assets.learning.examples import RankingExample
from mangaassist_assets.learning.metrics import order_by_scores, reciprocal_rank
from mangaassist_assets.learning.progress import ProgressCallback, TrainingProgress, ignore_progress
from mangaassist_assets.learning.reranker_model import (
    Reranker,
    idf_weights,
    special_tokens,
    write_reranker_artifact,
)
from mangaassist_assets.learning.trunk import FrozenTrunk

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

    from mangaassist_assets.learning.pair_network import PairNetwork

_HEAD_LEARNING_RATE = 0.1
_GATE_LEARNING_RATE = 0.05
_EVALUATED_PAIRS_PER_BATCH = 32


class RerankerTrainingError(ValueError):
    """The examples cannot train a reranker; the message says what is wrong with them and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankerTrainingConfig:
    """How the reranker is trained. The defaults were chosen on feedbackqa with 300 questions.

    Attributes:
        seed: Of query order, sampled negatives and dropout.
        joint_layers: Upper layers in which query and passage see each other; these learn. Ignored with `start_from`.
        query_tokens: Longer queries are cut.
        passage_tokens: Longer passages are cut.
        negatives: Irrelevant passages beside each relevant one in a training step.
        epochs: Passes over the queries; 0 only calibrates the start.
        max_training_pairs: At most so many pairs are learned from, over all epochs: it bounds the time.
        batch_queries: Queries a step.
        learning_rate: Peak learning rate of the layers.
        minimum_validation: With fewer usable validation queries nothing is selected on them.
    """

    seed: int = 0
    joint_layers: int = 1
    query_tokens: int = 48
    passage_tokens: int = 112
    negatives: int = 3
    epochs: int = 1
    max_training_pairs: int = 1600
    batch_queries: int = 8
    learning_rate: float = 1e-4
    minimum_validation: int = 20

    def __post_init__(self) -> None:
        """Refuse sizes that cannot work, with the field's name."""
        for name in ("joint_layers", "negatives", "max_training_pairs", "batch_queries", "minimum_validation"):
            if getattr(self, name) < 1:
                raise ValueError(f"RerankerTrainingConfig.{name} must be at least 1, got {getattr(self, name)}")
        if self.epochs < 0 or self.learning_rate <= 0:
            raise ValueError("RerankerTrainingConfig: epochs cannot be negative, learning_rate must be positive")
        if not 8 <= self.query_tokens <= 256 or not 16 <= self.passage_tokens <= 256:
            raise ValueError("RerankerTrainingConfig: query_tokens must lie in 8..256, passage_tokens in 16..256")


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankerTrainingResult:
    """A trained, sealed reranker.

    `metrics` holds sizes and, where there are validation queries, MRR@10 of the first stage, of the start and of the
    trained network. `kept` says which of the latter two is in the artifact.
    """

    directory: Path
    digest: str
    metrics: Mapping[str, float]
    training_losses: tuple[float, ...]
    kept: Literal["start", "trained"]


@dataclass(frozen=True, slots=True)
class _Query:
    """One usable example by places in the tables of distinct texts."""

    query: int
    relevant: tuple[int, ...]
    irrelevant: tuple[int, ...]


class _PairTable:
    """The distinct texts of a set of examples after the frozen lower layers, and the examples as places in it."""

    def __init__(
        self,
        examples: Sequence[RankingExample],
        network: PairNetwork,
        tokenizer: Tokenizer,
        config: RerankerTrainingConfig,
    ) -> None:
        self._network = network
        query_texts = sorted({example.query for example in examples})
        passage_texts = sorted({passage for example in examples for passage in example.passages})
        query_places = {text: place for place, text in enumerate(query_texts)}
        passage_places = {text: place for place, text in enumerate(passage_texts)}
        self._query_ids = tokenize(tokenizer, query_texts, max_tokens=config.query_tokens)
        self._passage_ids = tokenize(tokenizer, passage_texts, max_tokens=config.passage_tokens)
        self._queries = FrozenTrunk(network.encoder, self._query_ids, layers=network.apart_layers)
        self._passages = FrozenTrunk(network.encoder, self._passage_ids, layers=network.apart_layers)
        self.examples = [
            (
                query_places[example.query],
                [passage_places[passage] for passage in example.passages],
            )
            for example in examples
        ]

    def logits(self, pairs: Sequence[tuple[int, int]]) -> Tensor:
        """Score (query place, passage place) pairs: shape (len(pairs),)."""
        from mangaassist_assets.learning.encoders import pad_ids
        from mangaassist_assets.learning.pair_network import Segments

        queries, passages = [query for query, _ in pairs], [passage for _, passage in pairs]
        query_states, _ = self._queries.hidden(queries)
        passage_states, _ = self._passages.hidden(passages)
        return self._network(  # type: ignore[no-any-return]
            Segments(query_states, *pad_ids([self._query_ids[place] for place in queries])),
            Segments(passage_states, *pad_ids([self._passage_ids[place] for place in passages])),
        )

    def scores(self) -> list[np.ndarray[tuple[int], np.dtype[np.float64]]]:
        """Score every passage of every example without learning."""
        import torch

        self._network.eval()
        pairs = [(query, passage) for query, passages in self.examples for passage in passages]
        order = sorted(range(len(pairs)), key=lambda index: len(self._passage_ids[pairs[index][1]]))
        flat = np.zeros(len(pairs), dtype=np.float64)
        with torch.no_grad():
            for start in range(0, len(order), _EVALUATED_PAIRS_PER_BATCH):
                batch = order[start : start + _EVALUATED_PAIRS_PER_BATCH]
                flat[batch] = self.logits([pairs[index] for index in batch]).numpy()
        ends = np.cumsum([len(passages) for _, passages in self.examples])
        return list(np.split(flat, ends[:-1]))


def train_reranker(
    train: Sequence[RankingExample],
    validation: Sequence[RankingExample],
    *,
    config: RerankerTrainingConfig,
    output: Path,
    base: str = PACKAGED_MINILM,
    start_from: Path | None = None,
    corpus: Sequence[str] | None = None,
    progress: ProgressCallback | None = None,
) -> RerankerTrainingResult:
    """Train a reranker and write it, sealed, to `output`.

    Args:
        train: Queries with passages; those without both a relevant and an irrelevant one teach nothing: counted.
        validation: Decides whether training helped; may be empty.
        config: How to train.
        output: The artifact's directory; must not exist or be empty.
        base: A pretrained *sentence* encoder, see `encoders.load_base`. Not used with `start_from`.
        start_from: Artifact of a reranker to go on from (the champion).
        corpus: Texts that say how rare a token is: the chunks of the index. None takes the training passages, or keeps
            what the model in `start_from` knows.
        progress: Told about each stage and epoch.

    Raises:
        RerankerTrainingError: No usable example, or one whose fields do not fit together.
        BaseModelError: The base model is missing, changed, or no sentence encoder.
        ArtifactMismatchError: `start_from` is damaged.
        FileExistsError: `output` holds files.
    """
    import torch

    report = progress or ignore_progress
    for example in (*train, *validation):
        _check_example(example)
    usable = [example for example in train if _teaches(example)]
    if not usable and config.epochs:
        raise RerankerTrainingError(
            f"none of the {len(train)} training examples has both a relevant and an irrelevant passage: "
            "review some queries, or bootstrap with weak_ranking_examples"
        )
    judged = [example for example in validation if _teaches(example)]
    network, tokenizer, origin = _start(config, base, start_from, train if corpus is None else corpus, own=corpus)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        report(TrainingProgress(stage="features"))
        training_table = _PairTable(usable, network, tokenizer, config) if usable else None
        validation_table = _PairTable(judged, network, tokenizer, config) if judged else None
        metrics = {
            "train_queries": float(len(usable)),
            "train_queries_that_teach_nothing": float(len(train) - len(usable)),
            "validation_queries": float(len(judged)),
        }
        start_scores = validation_table.scores() if validation_table else []
        kept: Literal["start", "trained"] = "start"
        losses: list[float] = []
        if judged:
            metrics["validation_mrr_first_stage"] = _mrr_first_stage(judged)
            metrics["validation_mrr_start"] = metrics["validation_mrr"] = _mrr(judged, start_scores)
        if training_table is not None and config.epochs:
            before = {name: value.clone() for name, value in network.state_dict().items()}
            losses = _fit(network, training_table, usable, config, report)
            kept = "trained"
            if validation_table is not None:
                trained_scores = validation_table.scores()
                metrics["validation_mrr_trained"] = metrics["validation_mrr"] = _mrr(judged, trained_scores)
                worse = metrics["validation_mrr_trained"] < metrics["validation_mrr_start"]
                if worse and len(judged) >= config.minimum_validation:
                    network.load_state_dict(before)
                    kept, metrics["validation_mrr"] = "start", metrics["validation_mrr_start"]
        table, examples = training_table, usable
        if validation_table is not None and len(judged) >= config.minimum_validation:
            table, examples = validation_table, judged
        if table is not None:
            _calibrate(network, table.scores(), examples)

    report(TrainingProgress(stage="write", figures=metrics))
    digest = write_reranker_artifact(
        output,
        network=network,
        tokenizer=tokenizer,
        query_tokens=config.query_tokens,
        passage_tokens=config.passage_tokens,
        provenance={"start": origin, "kept": kept, "training": asdict(config)},
    )
    return RerankerTrainingResult(
        directory=output, digest=digest, metrics=metrics, training_losses=tuple(losses), kept=kept
    )


def _check_example(example: RankingExample) -> None:
    sizes = {len(example.passages), len(example.relevances), len(example.first_stage_ranks)}
    if len(sizes) != 1 or not example.passages:
        raise RerankerTrainingError(
            f"example {example.example_id!r}: passages, relevances and first_stage_ranks must have one length, at "
            f"least 1: got {len(example.passages)}, {len(example.relevances)}, {len(example.first_stage_ranks)}"
        )


def _teaches(example: RankingExample) -> bool:
    relevant = sum(relevance > 0 for relevance in example.relevances)
    return 0 < relevant < len(example.relevances)


def _start(
    config: RerankerTrainingConfig,
    base: str,
    start_from: Path | None,
    corpus: Sequence[RankingExample] | Sequence[str],
    *,
    own: Sequence[str] | None,
) -> tuple[PairNetwork, Tokenizer, str]:
    import torch

    from mangaassist_assets.learning.pair_network import PairNetwork

    if start_from is not None:
        champion = Reranker.load(start_from)
        network, tokenizer, origin = champion.network, champion.tokenizer, champion.digest
    else:
        pretrained = load_base(base)
        if any(name.startswith("classifier.") for name in pretrained.extra_weights):
            raise BaseModelError(
                f"base model {base!r} is a published cross-encoder with a head of its own: the reranker starts from a "
                "sentence encoder, for example sentence-transformers/all-MiniLM-L6-v2"
            )
        if config.joint_layers > pretrained.encoder.shape.n_layers:
            raise RerankerTrainingError(
                f"joint_layers is {config.joint_layers}, but {base!r} has {pretrained.encoder.shape.n_layers} layers"
            )
        network = PairNetwork(pretrained.encoder.shape, joint_layers=config.joint_layers)
        network.encoder.load_state_dict(pretrained.encoder.state_dict())
        tokenizer, origin = pretrained.tokenizer, base
    if start_from is None or own is not None:
        texts = {text for item in corpus for text in (item.passages if isinstance(item, RankingExample) else (item,))}
        weights = idf_weights(
            tokenize(tokenizer, sorted(texts), max_tokens=256),
            vocab_size=network.encoder.shape.vocab_size,
            special=special_tokens(tokenizer),
        )
        network.idf.copy_(torch.from_numpy(weights))
    return network, tokenizer, origin


def _fit(
    network: PairNetwork,
    table: _PairTable,
    examples: Sequence[RankingExample],
    config: RerankerTrainingConfig,
    report: ProgressCallback,
) -> list[float]:
    import torch
    from torch.nn import functional

    queries = [
        _Query(
            query=query,
            relevant=tuple(place for place, value in zip(places, example.relevances, strict=True) if value > 0),
            irrelevant=tuple(place for place, value in zip(places, example.relevances, strict=True) if value <= 0),
        )
        for (query, places), example in zip(table.examples, examples, strict=True)
    ]
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
    visits = min(config.epochs * len(queries), max(1, config.max_training_pairs // (config.negatives + 1)))
    generator = np.random.default_rng(config.seed)
    order = np.concatenate([generator.permutation(len(queries)) for _ in range(config.epochs)])[:visits]
    steps = -(-visits // config.batch_queries)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / (0.1 * steps)) * max(0.0, 1.0 - step / steps)
    )
    losses: list[float] = []
    network.train()
    for step in range(steps):
        chosen = [queries[int(place)] for place in order[step * config.batch_queries :][: config.batch_queries]]
        pairs, owners = _sampled_pairs(chosen, config.negatives, generator)
        logits = table.logits(pairs)
        rows = torch.full((len(chosen), config.negatives + 1), -torch.inf)
        rows[owners] = logits
        loss = functional.cross_entropy(rows, torch.zeros(len(chosen), dtype=torch.long))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(layers, 1.0)
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
        report(TrainingProgress(stage="fine-tune", epoch=step + 1, epochs=steps, figures={"training_loss": losses[-1]}))
    network.eval()
    network.requires_grad_(requires_grad=False)
    return losses


def _sampled_pairs(
    queries: Sequence[_Query], negatives: int, generator: np.random.Generator
) -> tuple[list[tuple[int, int]], tuple[list[int], list[int]]]:
    """One relevant passage (column 0) and up to `negatives` others of each query, with their places in the table."""
    pairs: list[tuple[int, int]] = []
    rows: list[int] = []
    columns: list[int] = []
    for row, query in enumerate(queries):
        relevant = query.relevant[int(generator.integers(len(query.relevant)))]
        count = min(negatives, len(query.irrelevant))
        others = generator.choice(len(query.irrelevant), size=count, replace=False)
        passages = [relevant, *(query.irrelevant[int(place)] for place in others)]
        pairs += [(query.query, passage) for passage in passages]
        rows += [row] * len(passages)
        columns += range(len(passages))
    return pairs, (rows, columns)


def _calibrate(
    network: PairNetwork,
    scores: Sequence[np.ndarray[tuple[int], np.dtype[np.float64]]],
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


def _mrr(examples: Sequence[RankingExample], scores: Sequence[np.ndarray[tuple[int], np.dtype[np.float64]]]) -> float:
    values = []
    for example, row in zip(examples, scores, strict=True):
        order = order_by_scores(row.tolist(), example.first_stage_ranks)
        values.append(reciprocal_rank([example.relevances[place] for place in order]))
    return float(np.mean(values))


def _mrr_first_stage(examples: Sequence[RankingExample]) -> float:
    flat = [np.zeros(len(example.passages)) for example in examples]
    return _mrr(examples, flat)
