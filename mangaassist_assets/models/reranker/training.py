"""Training the reranker from queries with labelled passages.

A split-attention network starts as a sound reranker (see `pair_network`), and so does a published cross-encoder:
training only has to improve on it. How much is done follows the number of usable queries and the budget. Where there
are enough validation queries, nDCG@10 on them, which the gate decides on too, chooses the start, base or champion, the
epoch, whether training helped at all, and the network: it never makes a reranker worse than what it started from, as
far as they can see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from mangaassist_assets.models.artifacts import artifact_settings, written_by_leader
from mangaassist_assets.models.encoders import PACKAGED_MINILM
from mangaassist_assets.models.examples import RankingExample
from mangaassist_assets.models.model_types import TrainingRequest
from mangaassist_assets.models.precision import ONNX_SETTINGS, ServedPrecision
from mangaassist_assets.models.reranker.examples import check_example, teacher_logits, teaches
from mangaassist_assets.models.reranker.lists import draw_lists
from mangaassist_assets.models.reranker.networks.starts import (
    RerankerStart,
    base_start,
    champion_start,
    cross_start,
    set_word_weights,
)
from mangaassist_assets.models.reranker.networks.writing import write_reranker
from mangaassist_assets.models.reranker.selection import (
    Attempt,
    Judging,
    RerankerCandidate,
    RerankerTraining,
    calibration_metrics,
    is_worse,
)
from mangaassist_assets.models.reranker.training_config import (
    NETWORK_CHOICES,
    Network,
    NetworkChoice,
    RerankerTrainingConfig,
    RerankerTrainingError,
)
from mangaassist_assets.training.compute import Compute
from mangaassist_assets.training.objective import EpochRecord, TrainingProgress

_ENOUGH_FOR_A_FRESH_HEAD = 3000


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankerTrainingResult:
    """A trained, sealed reranker.

    Attributes:
        directory: The artifact.
        digest: Of the artifact.
        metrics: Sizes and, where there are validation queries, how many of them have nothing to find in their list,
            listwise loss, MRR@10 and nDCG@10 of the first stage, of the start and of the trained network, and the
            calibration's figures. The same in every run.
        costs: Seconds and pairs a second; different in every run.
        training_losses: Of every step.
        history: Epochs.
        served: In which form the artifact's ONNX files serve, and why; only worker 0 knows.
        kept: Which of start and trained network is in the artifact.
        started_from: The base's name, or the champion's digest.
        network: Which kind of network is in the artifact.
        best_epoch: Whose weights the trained network has; None where validation could not choose.
        resumed_from: Step of the checkpoint that training went on from; 0 for none.
        candidates: What there was to choose from.
    """

    directory: Path
    digest: str
    metrics: Mapping[str, float]
    training_losses: tuple[float, ...]
    served: ServedPrecision | None
    kept: Literal["start", "trained"]
    costs: Mapping[str, float] = field(default_factory=dict)
    history: tuple[EpochRecord, ...] = ()
    started_from: str = ""
    network: Network = "split-attention"
    best_epoch: int | None = None
    resumed_from: int = 0
    candidates: tuple[RerankerCandidate, ...] = ()


def train_reranker(
    request: TrainingRequest[RankingExample],
    *,
    config: RerankerTrainingConfig,
    base: str = PACKAGED_MINILM,
    network: NetworkChoice = "split-attention",
    cross_encoder: str | None = None,
    teacher: Path | Mapping[str, Sequence[float]] | None = None,
    checkpoint_steps: int | None = None,
) -> RerankerTrainingResult:
    """Train a reranker and write it, sealed, to `request.output`.

    In a process group all workers call this with the same data; worker 0 writes the artifact.

    Args:
        request: Queries of `train` without both a relevant and an irrelevant passage teach nothing: they are counted.
            `validation` chooses start, epoch and network, and decides whether training helped. With enough of it the
            champion is gone on from only if it is no worse than the base; a champion of another network only teaches.
            The corpus shows how rare a token is: the chunks of the index; an empty one takes the training passages, or
            keeps the champion's weights.
        config: How to train.
        base: A pretrained *sentence* encoder, see `encoders.load_base`.
        network: What to train; `auto` trains a split-attention network, and a cross-encoder where there is a published
            one or the champion to start from, or more queries than a fresh head needs.
        cross_encoder: A published cross-encoder of one label, by folder or hub name; None puts a head on the base.
        teacher: Artifact of the reranker whose logits `distillation` wants, or logits of any other model by example
            id, parallel to the passages.
        checkpoint_steps: A checkpoint every so many steps; None leaves it to the time.

    Raises:
        RerankerTrainingError: No usable example, one whose fields do not fit together, or no teacher to learn from.
        BaseModelError: The base model or the cross-encoder is missing, changed, or of another form.
        ArtifactMismatchError: Champion or teacher is damaged.
        ArtifactWriteError: The artifact cannot be written; nothing of it is left.
        ExportError: The network has no ONNX form.
        TrainingDivergedError: The loss became infinite or NaN.
        FileExistsError: `output` holds files.
    """
    for example in (*request.train, *request.validation):
        check_example(example)
    usable = [example for example in request.train if teaches(example)]
    if not usable:
        raise RerankerTrainingError(
            f"none of the {len(request.train)} training examples has both a relevant and an irrelevant passage: "
            "review some queries, or bootstrap with messages that name their relevant documents"
        )
    compute = Compute.detect()
    plan = _Plan(
        usable=usable,
        judged=[one for one in request.validation if one.query.strip() and any(one.ideal)],
        champion=None if request.champion is None else champion_start(request.champion),
        teacher=teacher_logits(usable, config, teacher),
        base=base,
        cross_encoder=cross_encoder,
        checkpoint_steps=checkpoint_steps,
    )
    import torch

    with torch.random.fork_rng(devices=[]):
        tried = [_try(kind, plan, request, config, compute) for kind in _networks(network, plan)]
    best = tried[0]
    for other in tried[1:]:
        if compute.agreed(is_worse(best.attempt.figures, other.attempt.figures)):
            best = other
    attempt, judging = best.attempt, best.judging
    candidates = [one for each in tried for one in each.training.candidates]
    metrics = {
        "train_queries": float(len(usable)),
        "train_queries_that_teach_nothing": float(len(request.train) - len(usable)),
        **_validation_metrics(attempt, judging),
        **best.training.metrics,
    }
    request.progress(TrainingProgress(stage="write", figures=metrics))
    start = replace(attempt.start, network=attempt.start.network.cpu())
    provenance = {
        "start": start.origin,
        "kept": attempt.kept,
        "training": asdict(config),
        "effort": asdict(attempt.effort),
        "candidates": [
            {"name": one.name, **({} if one.figures is None else {"ndcg": round(one.figures.ndcg, 6)})}
            for one in candidates
        ],
    }

    def write() -> str:
        return write_reranker(
            request.output, start, attempt.calibration, judging.lists, attempt.scores, provenance=provenance
        )

    digest = written_by_leader(compute, write)
    # Another machine's worker need not see the folder.
    served = ServedPrecision(**artifact_settings(request.output)[ONNX_SETTINGS]) if compute.leads else None
    loop = attempt.loop
    return RerankerTrainingResult(
        directory=request.output,
        digest=digest,
        metrics=metrics | (served.metrics() if served else {}),
        served=served,
        training_losses=() if loop is None else loop.step_losses,
        kept=attempt.kept,
        costs=_costs(tried),
        history=() if loop is None else loop.history,
        started_from=start.origin,
        network=start.kind,
        best_epoch=None if loop is None else loop.best_epoch,
        resumed_from=0 if loop is None else loop.resumed_from,
        candidates=tuple(candidates),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What all networks are trained from; the names are those of `train_reranker`."""

    usable: Sequence[RankingExample]
    judged: Sequence[RankingExample]
    champion: RerankerStart | None
    teacher: Mapping[str, Mapping[str, float]] | None
    base: str
    cross_encoder: str | None
    checkpoint_steps: int | None


@dataclass(frozen=True, slots=True)
class _Tried:
    attempt: Attempt
    judging: Judging
    training: RerankerTraining


def _networks(network: NetworkChoice, plan: _Plan) -> list[Network]:
    """Return what is worth training, by the data and the starts at hand."""
    if network in ("split-attention", "cross-encoder"):
        return [network]
    if network != "auto":
        raise ValueError(f"network must be one of {NETWORK_CHOICES}, got {network!r}")
    known = plan.cross_encoder is not None or (plan.champion is not None and plan.champion.kind == "cross-encoder")
    if known or len(plan.usable) >= _ENOUGH_FOR_A_FRESH_HEAD:
        return ["split-attention", "cross-encoder"]
    return ["split-attention"]


def _try(
    kind: Network,
    plan: _Plan,
    request: TrainingRequest[RankingExample],
    config: RerankerTrainingConfig,
    compute: Compute,
) -> _Tried:
    """Train one kind of network from the best of its starts."""
    effort = config.for_queries(len(plan.usable), kind)
    judging = Judging(plan.judged[: effort.validation_queries], plan.usable, config)
    training = RerankerTraining(
        judging=judging,
        epochs=draw_lists(plan.usable, config, effort, teacher=plan.teacher),
        config=config,
        effort=effort,
        compute=compute,
        report=request.progress,
    )
    starts = [] if plan.champion is None or plan.champion.kind != kind else [plan.champion]
    if not starts or judging.decisive:
        if kind == "split-attention":
            starts.append(base_start(plan.base, config, joint_layers=effort.joint_layers))
        else:
            starts.append(cross_start(plan.base, plan.cross_encoder, config))
    for start in starts:
        if request.corpus or start.name != "champion":
            set_word_weights(start, request.corpus or (text for one in request.train for text in one.passages))
        start.network.to(compute.device)
    attempt = training.run(starts, checkpoints=request.checkpoints, checkpoint_steps=plan.checkpoint_steps)
    return _Tried(attempt, judging, training)


def _costs(tried: Sequence[_Tried]) -> dict[str, float]:
    """Return seconds of all networks together, and the pairs a second of the last one."""
    costs: dict[str, float] = {}
    for one in tried:
        for name, value in one.training.costs.items():
            costs[name] = costs.get(name, 0.0) + value if name.startswith("seconds") else value
    return costs


def _validation_metrics(attempt: Attempt, judging: Judging) -> dict[str, float]:
    first_stage = judging.first_stage()
    return {
        "validation_queries": float(len(judging.judged)),
        "validation_queries_missed": float(sum(max(one.relevances) <= 0 for one in judging.judged)),
        "training_pairs": float(attempt.pairs),
        **(first_stage.named("_first_stage") if first_stage else {}),
        **(attempt.figures.named() if attempt.figures else {}),
        **calibration_metrics(attempt, judging),
    }
