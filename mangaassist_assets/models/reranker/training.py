"""Training the reranker from queries with labelled passages.

The network starts as a sound reranker (see `pair_network`), so training only has to improve on it: by default a
listwise softmax over one relevant and a few irrelevant passages of the same query, on the upper layers, with the lower
ones frozen and run once. Where there are enough validation queries they choose the start, base or champion, the epoch,
and whether training helped at all: it never makes a reranker worse than what it started from, as far as they can see.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from mangaassist_assets.models.artifacts import written_by_leader
from mangaassist_assets.models.encoders import PACKAGED_MINILM
from mangaassist_assets.models.examples import RankingExample
from mangaassist_assets.models.model_types import TrainingRequest
from mangaassist_assets.models.reranker.model import Reranker
from mangaassist_assets.models.reranker.pair_training import (
    RerankerTrainingConfig,
    RerankerTrainingError,
    draw_lists,
    labelled_passages,
)
from mangaassist_assets.models.reranker.selection import (
    RerankerCandidate,
    RerankerChoice,
    base_start,
    champion_start,
    set_word_weights,
)
from mangaassist_assets.training.compute import Compute
from mangaassist_assets.training.objective import EpochRecord, TrainingProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankerTrainingResult:
    """A trained, sealed reranker.

    Attributes:
        directory: The artifact.
        digest: Of the artifact.
        metrics: Sizes and, where there are validation queries, listwise loss, MRR@10 and nDCG@10 of the first stage,
            of the start and of the trained network, and the calibration's figures. The same in every run.
        costs: Seconds and pairs a second; different in every run.
        training_losses: Of every step.
        history: Epochs.
        kept: Which of start and trained network is in the artifact.
        started_from: The base's name, or the champion's digest.
        best_epoch: Whose weights the trained network has; None where validation could not choose.
        resumed_from: Step of the checkpoint that training went on from; 0 for none.
        candidates: What there was to choose from.
    """

    directory: Path
    digest: str
    metrics: Mapping[str, float]
    training_losses: tuple[float, ...]
    kept: Literal["start", "trained"]
    costs: Mapping[str, float] = field(default_factory=dict)
    history: tuple[EpochRecord, ...] = ()
    started_from: str = ""
    best_epoch: int | None = None
    resumed_from: int = 0
    candidates: tuple[RerankerCandidate, ...] = ()


def train_reranker(
    request: TrainingRequest[RankingExample],
    *,
    config: RerankerTrainingConfig,
    base: str = PACKAGED_MINILM,
    teacher: Path | Mapping[str, Sequence[float]] | None = None,
    checkpoint_steps: int | None = None,
) -> RerankerTrainingResult:
    """Train a reranker and write it, sealed, to `request.output`.

    In a process group all workers call this with the same data; worker 0 writes the artifact.

    Args:
        request: Queries of `train` without both a relevant and an irrelevant passage teach nothing: they are counted.
            `validation` chooses start and epoch, and decides whether training helped. With enough of it the champion is
            gone on from only if it is no worse than the base. The corpus shows how rare a token is: the chunks of the
            index; an empty one takes the training passages, or keeps the champion's weights.
        config: How to train.
        base: A pretrained *sentence* encoder, see `encoders.load_base`.
        teacher: Artifact of the reranker whose logits `distillation` wants, or logits of any other model by example
            id, parallel to the passages.
        checkpoint_steps: A checkpoint every so many steps; None leaves it to the time.

    Raises:
        RerankerTrainingError: No usable example, one whose fields do not fit together, or no teacher to learn from.
        BaseModelError: The base model is missing, changed, or no sentence encoder.
        ArtifactMismatchError: Champion or teacher is damaged.
        ArtifactWriteError: The artifact cannot be written; nothing of it is left.
        TrainingDivergedError: The loss became infinite or NaN.
        FileExistsError: `output` holds files.
    """
    for example in (*request.train, *request.validation):
        _check_example(example)
    usable = [example for example in request.train if _teaches(example)]
    if not usable:
        raise RerankerTrainingError(
            f"none of the {len(request.train)} training examples has both a relevant and an irrelevant passage: "
            "review some queries, or bootstrap with messages that name their relevant documents"
        )
    judged = [example for example in request.validation if _teaches(example)][: config.max_validation_queries]
    lists = draw_lists(usable, config, teacher=_teacher_logits(usable, config, teacher))
    training = RerankerChoice(
        usable=usable, judged=judged, lists=lists, config=config, compute=Compute.detect(), report=request.progress
    )
    import torch

    with torch.random.fork_rng(devices=[]):
        starts = [] if request.champion is None else [champion_start(request.champion)]
        if not starts or training.decisive:
            starts.append(base_start(base, joint_layers=config.joint_layers))
        for start in starts:
            if request.corpus or start.name == "base":
                passages = (text for one in request.train for text in one.passages)
                set_word_weights(start, request.corpus or passages)
            start.network.to(training.compute.device)
        chosen, texts = training.choose_start(starts)
        loop = training.fit(chosen, texts, checkpoints=request.checkpoints, checkpoint_steps=checkpoint_steps)
    metrics = {
        "train_queries": float(len(usable)),
        "train_queries_that_teach_nothing": float(len(request.train) - len(usable)),
        "validation_queries": float(len(judged)),
        "training_pairs": float(training.pairs),
        **training.metrics,
    }
    training.report(TrainingProgress(stage="write", figures=metrics))
    reranker = Reranker(
        network=chosen.network.cpu(),
        tokenizer=chosen.tokenizer,
        query_tokens=config.query_tokens,
        passage_tokens=config.passage_tokens,
    )
    provenance = {"start": chosen.origin, "kept": training.kept, "training": asdict(config)}
    return RerankerTrainingResult(
        directory=request.output,
        digest=written_by_leader(training.compute, lambda: reranker.write(request.output, provenance=provenance)),
        metrics=metrics,
        training_losses=() if loop is None else loop.step_losses,
        kept=training.kept,
        costs=training.costs,
        history=() if loop is None else loop.history,
        started_from=chosen.origin,
        best_epoch=None if loop is None else loop.best_epoch,
        resumed_from=0 if loop is None else loop.resumed_from,
        candidates=tuple(training.candidates),
    )


def _check_example(example: RankingExample) -> None:
    sizes = {len(example.passages), len(example.relevances), len(example.first_stage_ranks)}
    if len(sizes) != 1 or not example.passages:
        raise RerankerTrainingError(
            f"example {example.example_id!r}: passages, relevances and first_stage_ranks must have one length, at "
            f"least 1: got {len(example.passages)}, {len(example.relevances)}, {len(example.first_stage_ranks)}"
        )
    for name, values, low, high in (
        ("relevances", example.relevances, 0.0, 1.0),
        ("first_stage_ranks", example.first_stage_ranks, 1.0, math.inf),
    ):
        wrong = [value for value in values if not low <= value <= high]  # NaN compares false
        if wrong:
            raise RerankerTrainingError(
                f"example {example.example_id!r}: {name} must lie in {low:g}..{high:g}, got {wrong[0]}"
            )


def _teaches(example: RankingExample) -> bool:
    relevances = labelled_passages(example).values()
    return bool(example.query.strip()) and 0 < sum(relevance > 0 for relevance in relevances) < len(relevances)


def _teacher_logits(
    examples: Sequence[RankingExample],
    config: RerankerTrainingConfig,
    teacher: Path | Mapping[str, Sequence[float]] | None,
) -> dict[str, dict[str, float]] | None:
    """Return by example id and passage what a distilled reranker shall give; None where it learns from labels."""
    if config.loss != "distillation":
        return None
    if teacher is None:
        raise RerankerTrainingError(
            "the loss `distillation` needs a teacher: give a reranker's artifact or logits, or take another loss"
        )
    if isinstance(teacher, Path):
        model = Reranker.load(teacher)
        teacher = {
            example.example_id: model.logits([(example.query, passage) for passage in example.passages]).tolist()
            for example in examples
        }
    for example in examples:
        given = teacher.get(example.example_id, ())
        if len(given) != len(example.passages) or not all(math.isfinite(value) for value in given):
            raise RerankerTrainingError(
                f"example {example.example_id!r}: the teacher must give one finite logit for each of "
                f"{len(example.passages)} passages, got {len(given)}"
            )
    return {
        example.example_id: dict(zip(example.passages, teacher[example.example_id], strict=True))
        for example in examples
    }
