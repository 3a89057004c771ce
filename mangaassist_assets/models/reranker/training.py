"""Training the reranker from queries with labelled passages.

The network starts as a sound reranker (see `pair_network`), so training only has to improve on it: by default a
listwise softmax over one relevant and a few irrelevant passages of the same query, on the upper layers, with the lower
ones frozen and run once. Where there are enough validation queries they choose the start, base or champion, the epoch,
and whether training helped at all: it never makes a reranker worse than what it started from, as far as they can see.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from mangaassist_assets.models.artifact_output import ArtifactWriteError
from mangaassist_assets.models.encoders.pretrained import PACKAGED_MINILM
from mangaassist_assets.models.examples import RankingExample
from mangaassist_assets.models.reranker.calibration import CalibrationFigures
from mangaassist_assets.models.reranker.model import Reranker, write_reranker_artifact
from mangaassist_assets.models.reranker.pair_training import (
    RerankerTrainingConfig,
    RerankerTrainingError,
    draw_lists,
    labelled_passages,
)
from mangaassist_assets.models.reranker.selection import RerankerCandidate, RerankerChoice
from mangaassist_assets.models.reranker.start import base_start, champion_start, set_word_weights
from mangaassist_assets.training.checkpoints import Checkpoints
from mangaassist_assets.training.compute import Compute
from mangaassist_assets.training.objective import EpochRecord
from mangaassist_assets.training.progress import ProgressCallback, TrainingProgress, ignore_progress

__all__ = [
    "Reranker",
    "RerankerCandidate",
    "RerankerTrainingConfig",
    "RerankerTrainingError",
    "RerankerTrainingResult",
    "TrainingProgress",
    "train_reranker",
]


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
        calibration: How honest the probabilities are; None where there is one query or none.
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
    calibration: CalibrationFigures | None = None


def train_reranker(
    train: Sequence[RankingExample],
    validation: Sequence[RankingExample],
    *,
    config: RerankerTrainingConfig,
    output: Path,
    base: str = PACKAGED_MINILM,
    start_from: Path | None = None,
    corpus: Sequence[str] | None = None,
    teacher: Path | None = None,
    teacher_logits: Mapping[str, Sequence[float]] | None = None,
    checkpoints: Checkpoints | None = None,
    checkpoint_steps: int | None = None,
    progress: ProgressCallback | None = None,
) -> RerankerTrainingResult:
    """Train a reranker and write it, sealed, to `output`.

    In a process group all workers call this with the same data; worker 0 writes the artifact.

    Args:
        train: Queries with passages; those without both a relevant and an irrelevant one teach nothing: counted.
        validation: Chooses start and epoch, and decides whether training helped; may be empty.
        config: How to train.
        output: The artifact's directory; must not exist or be empty.
        base: A pretrained *sentence* encoder, see `encoders.load_base`.
        start_from: Artifact of a reranker to go on from (the champion); with enough validation queries only if it is
            no worse on them than the base.
        corpus: Texts that say how rare a token is: the chunks of the index. None takes the training passages, or keeps
            what the model in `start_from` knows.
        teacher: Artifact of the reranker whose logits `distillation` wants.
        teacher_logits: In place of `teacher`, logits of any other model by example id, parallel to the passages.
        checkpoints: Where a killed training goes on from; None for none.
        checkpoint_steps: A checkpoint every so many steps; None leaves it to the time.
        progress: Called with each stage and epoch.

    Raises:
        RerankerTrainingError: No usable example, one whose fields do not fit together, or no teacher to learn from.
        BaseModelError: The base model is missing, changed, or no sentence encoder.
        ArtifactMismatchError: `start_from` or `teacher` is damaged.
        ArtifactWriteError: The artifact cannot be written; nothing of it is left.
        TrainingDivergedError: The loss became no number.
        FileExistsError: `output` holds files.
    """
    for example in (*train, *validation):
        _check_example(example)
    usable = [example for example in train if _teaches(example)]
    if not usable:
        raise RerankerTrainingError(
            f"none of the {len(train)} training examples has both a relevant and an irrelevant passage: "
            "review some queries, or bootstrap with messages that name their relevant documents"
        )
    judged = [example for example in validation if _teaches(example)][: config.max_validation_queries]
    lists = draw_lists(usable, config, teacher=_teacher(usable, config, teacher, teacher_logits))
    training = RerankerChoice(
        usable=usable,
        judged=judged,
        lists=lists,
        config=config,
        compute=Compute.detect(),
        report=progress or ignore_progress,
    )
    import torch

    with torch.random.fork_rng(devices=[]):
        starts = [] if start_from is None else [champion_start(start_from)]
        if not starts or training.decisive:
            starts.append(base_start(base, joint_layers=config.joint_layers))
        for start in starts:
            if corpus is not None or start.name == "base":
                set_word_weights(start, [text for one in train for text in one.passages] if corpus is None else corpus)
            start.network.to(training.compute.device)
        chosen, texts = training.choose_start(starts)
        loop = training.fit(chosen, texts, checkpoints=checkpoints, checkpoint_steps=checkpoint_steps)
    metrics = {
        "train_queries": float(len(usable)),
        "train_queries_that_teach_nothing": float(len(train) - len(usable)),
        "validation_queries": float(len(judged)),
        "training_pairs": float(training.pairs),
        **training.metrics,
    }
    training.report(TrainingProgress(stage="write", figures=metrics))
    network = chosen.network.cpu()
    digest = _written_by_lead(
        training.compute,
        lambda: write_reranker_artifact(
            output,
            network=network,
            tokenizer=chosen.tokenizer,
            query_tokens=config.query_tokens,
            passage_tokens=config.passage_tokens,
            provenance={"start": chosen.origin, "kept": training.kept, "training": asdict(config)},
        ),
    )
    return RerankerTrainingResult(
        directory=output,
        digest=digest,
        metrics=metrics,
        training_losses=() if loop is None else loop.step_losses,
        kept=training.kept,
        costs=training.costs,
        history=() if loop is None else loop.history,
        started_from=chosen.origin,
        best_epoch=None if loop is None else loop.best_epoch,
        resumed_from=0 if loop is None else loop.resumed_from,
        candidates=tuple(training.candidates),
        calibration=training.calibration,
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


def _teacher(
    examples: Sequence[RankingExample],
    config: RerankerTrainingConfig,
    artifact: Path | None,
    logits: Mapping[str, Sequence[float]] | None,
) -> dict[str, dict[str, float]] | None:
    """Return by example id and passage what a distilled reranker shall say; None where the labels say it."""
    if config.loss != "distillation":
        return None
    if logits is None:
        if artifact is None:
            raise RerankerTrainingError(
                "the loss `distillation` needs a teacher: give a reranker's artifact or logits, or take another loss"
            )
        teacher = Reranker.load(artifact)
        logits = {
            example.example_id: teacher.logits([(example.query, passage) for passage in example.passages]).tolist()
            for example in examples
        }
    for example in examples:
        given = logits.get(example.example_id, ())
        if len(given) != len(example.passages) or not all(math.isfinite(value) for value in given):
            raise RerankerTrainingError(
                f"example {example.example_id!r}: the teacher must give one finite logit for each of "
                f"{len(example.passages)} passages, got {len(given)}"
            )
    return {
        example.example_id: dict(zip(example.passages, logits[example.example_id], strict=True)) for example in examples
    }


def _written_by_lead(compute: Compute, write: Callable[[], str]) -> str:
    """Let worker 0 write, and return the digest to all workers; where it cannot write, none goes on."""
    if compute.workers == 1:
        return write()
    import torch
    from torch import distributed

    message = torch.zeros(32, dtype=torch.uint8, device=compute.device)
    try:
        if compute.leads:
            message.copy_(torch.frombuffer(bytearray.fromhex(write()), dtype=torch.uint8))
    finally:
        distributed.broadcast(message, src=0)
    digest = bytes(message.cpu().tolist()).hex()
    if not int(digest, 16):
        raise ArtifactWriteError("worker 0 could not write the artifact: see its own error")
    return digest
