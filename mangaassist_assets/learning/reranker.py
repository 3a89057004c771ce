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
from numpy.typing import NDArray

from mangaassist_assets.learning.encoders import PACKAGED_MINILM, BaseModelError, load_base, tokenize
from mangaassist_assets.learning.examples import RankingExample
from mangaassist_assets.learning.heads import fit_temperature, negative_log_likelihood
from mangaassist_assets.learning.metrics import order_by_scores, reciprocal_rank
from mangaassist_assets.learning.pair_training import (
    CandidateList,
    PairTable,
    RerankerTrainingConfig,
    calibrate,
    fit_pairs,
    training_lists,
)
from mangaassist_assets.learning.progress import ProgressCallback, TrainingProgress, ignore_progress
from mangaassist_assets.learning.reranker_model import (
    Reranker,
    idf_weights,
    special_tokens,
    write_reranker_artifact,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from mangaassist_assets.learning.pair_network import PairNetwork

__all__ = [
    "Reranker",
    "RerankerTrainingConfig",
    "RerankerTrainingError",
    "RerankerTrainingResult",
    "TrainingProgress",
    "train_reranker",
]


class RerankerTrainingError(ValueError):
    """The examples cannot train a reranker; the message says what is wrong with them and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankerTrainingResult:
    """A trained, sealed reranker.

    `metrics` holds sizes and, where there are validation queries, MRR@10 of the first stage, of the start and of the
    trained network, and their listwise losses, which decide. `kept` says which of the latter two is in the artifact.
    """

    directory: Path
    digest: str
    metrics: Mapping[str, float]
    training_losses: tuple[float, ...]
    kept: Literal["start", "trained"]


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
    if not usable:
        raise RerankerTrainingError(
            f"none of the {len(train)} training examples has both a relevant and an irrelevant passage: "
            "review some queries, or bootstrap with messages that name their relevant documents"
        )
    judged = [example for example in validation if _teaches(example)][: config.max_validation_queries]
    decisive = len(judged) >= config.minimum_validation
    metrics = {
        "train_queries": float(len(usable)),
        "train_queries_that_teach_nothing": float(len(train) - len(usable)),
        "validation_queries": float(len(judged)),
    }
    kept: Literal["start", "trained"] = "start"
    losses: list[float] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network, tokenizer, origin = _start(config, base, start_from, train if corpus is None else corpus, own=corpus)
        report(TrainingProgress(stage="features"))
        # Without enough validation queries, training queries calibrate: they flatter a little, but select nothing.
        judging = judged if decisive else (judged + usable)[: config.minimum_validation]
        judging_table = PairTable(
            [CandidateList(example.query, example.passages) for example in judging], network, tokenizer, config
        )
        scores = judging_table.scores()
        if judged:
            metrics["validation_mrr_first_stage"] = _mrr_first_stage(judged)
            metrics["validation_mrr_start"] = metrics["validation_mrr"] = _mrr(judged, scores)
            metrics["validation_loss_start"] = _list_loss(judged, scores)
        if config.epochs:
            before = {name: value.clone() for name, value in network.state_dict().items()}
            table = PairTable(training_lists(usable, config), network, tokenizer, config)
            losses = fit_pairs(network, table, config=config, progress=report)
            trained_scores = judging_table.scores()
            if judged:
                metrics["validation_mrr_trained"] = _mrr(judged, trained_scores)
                metrics["validation_loss_trained"] = _list_loss(judged, trained_scores)
            if decisive and metrics["validation_loss_trained"] > metrics["validation_loss_start"]:
                network.load_state_dict(before)
            else:
                kept, scores = "trained", trained_scores
                metrics |= {"validation_mrr": metrics["validation_mrr_trained"]} if judged else {}
        calibrate(network, scores, judging)

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


def _mrr(examples: Sequence[RankingExample], scores: Sequence[NDArray[np.float64]]) -> float:
    """MRR@10 of the leading examples that `scores` belongs to."""
    values = []
    for example, row in zip(examples, scores, strict=False):
        order = order_by_scores(row.tolist(), example.first_stage_ranks)
        values.append(reciprocal_rank([example.relevances[place] for place in order]))
    return float(np.mean(values))


def _list_loss(examples: Sequence[RankingExample], scores: Sequence[NDArray[np.float64]]) -> float:
    """Mean listwise loss at the scale that suits the scores best: says more about a few dozen queries than MRR does."""
    table = np.full((len(examples), max(len(example.passages) for example in examples)), -np.inf, dtype=np.float32)
    for row, values in enumerate(scores[: len(examples)]):
        table[row, : len(values)] = values
    targets = np.array([int(np.argmax(np.array(example.relevances) > 0)) for example in examples], dtype=np.int64)
    return negative_log_likelihood(table, targets, temperature=fit_temperature(table, targets))


def _mrr_first_stage(examples: Sequence[RankingExample]) -> float:
    flat = [np.zeros(len(example.passages)) for example in examples]
    return _mrr(examples, flat)
