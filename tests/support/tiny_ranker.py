"""A sentence encoder of two tiny layers, and queries that a reranker on it learns to rank within seconds.

Also trains by itself, as a process that a test may kill or starve of disk, or as one of several workers:
`python -m tests.support.tiny_ranker FOLDER BASE [--kill-at STEP] [--largest-file BYTES] [--rank RANK]`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mangaassist_assets.models.artifacts import ArtifactWriteError
from mangaassist_assets.models.examples import RankingExample
from mangaassist_assets.models.model_types import TrainingRequest
from mangaassist_assets.models.reranker.training import RerankerTrainingResult, train_reranker
from mangaassist_assets.models.reranker.training_config import RerankerTrainingConfig
from mangaassist_assets.training.checkpoints import Checkpoints
from mangaassist_assets.training.objective import TrainingProgress, ignore_progress

WORDS = ("harbour", "lantern", "voucher", "parcel", "refund", "volume", "sequel", "poster", "crane", "diver")
TINY = RerankerTrainingConfig(
    joint_layers=1,
    query_tokens=16,
    passage_tokens=16,
    negatives=2,
    apart_epochs=1,
    epochs=2,
    max_training_pairs=90,
    batch_queries=4,
    learning_rate=1e-3,
    minimum_validation=4,
)
WORKERS = 2


def write_tiny_base(folder: Path) -> str:
    """Write a base model with drawn weights and MiniLM's tokenizer; return its name for `load_base`."""
    from transformers import BertModel

    return _write_tiny(folder, BertModel, add_pooling_layer=False)


def write_tiny_cross_encoder(folder: Path, **settings: Any) -> str:
    """Write a published cross-encoder with drawn weights, of one label if nothing else is said; return its name."""
    from transformers import BertForSequenceClassification

    return _write_tiny(folder, BertForSequenceClassification, settings={"num_labels": 1, **settings})


def _write_tiny(folder: Path, model: Any, *, settings: Mapping[str, Any] | None = None, **options: Any) -> str:
    import torch
    from transformers import BertConfig

    from mangaassist_assets.models.encoders.pretrained import load_base, quiet_transformers

    sizes = {"vocab_size": 30522, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 32, "max_position_embeddings": 64, "initializer_range": 0.1}
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(11)
        model(BertConfig(**{**sizes, **(settings or {})}), **options).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(load_base().tokenizer.to_str(pretty=True), encoding="utf-8")
    return str(folder)


def tiny_examples(prefix: str = "q") -> list[RankingExample]:
    """Ten queries, a word each, whose answer is the passage that holds it."""
    passages = tuple(f"what the shop says about the {word} number {place}" for place, word in enumerate(WORDS))
    return [
        RankingExample(
            example_id=f"{prefix}{number}",
            query=f"is there a {word}",
            passages=passages,
            relevances=tuple(float(word in passage) for passage in passages),
            first_stage_ranks=tuple(range(1, len(passages) + 1)),
        )
        for number, word in enumerate(WORDS)
    ]


def train_tiny(
    folder: Path, *, base: str, checkpoints: bool = True, told: list[TrainingProgress] | None = None, **options: Any
) -> RerankerTrainingResult:
    """Train in a folder, with a checkpoint after every second step."""
    request = TrainingRequest(
        train=options.pop("train", None) or tiny_examples(),
        validation=options.pop("validation", tiny_examples("v")),
        output=options.pop("output", folder / "model"),
        champion=options.pop("champion", None),
        checkpoints=Checkpoints(folder / "checkpoints", "tiny") if checkpoints else None,
        progress=ignore_progress if told is None else told.append,
    )
    return train_reranker(request, config=options.pop("config", TINY), base=base, checkpoint_steps=2, **options)


def outcome(result: RerankerTrainingResult) -> dict[str, Any]:
    """Return what two trainings must have in common to be the same, as JSON values."""
    return {
        "digest": result.digest,
        "metrics": dict(result.metrics),
        "losses": list(result.training_losses),
        "history": [[one.epoch, one.training_loss, dict(one.validation)] for one in result.history],
        "best_epoch": result.best_epoch,
        "kept": result.kept,
    }


def _kill_at(step: int) -> None:
    """End this process, as the kernel would, before a step of training."""
    from mangaassist_assets.models.reranker.pair_objective import PairObjective

    loss, asked = PairObjective.loss, iter(range(1, 10_000))

    def counted(objective: PairObjective, share: Sequence[int]) -> Any:
        if next(asked) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(objective, share)

    PairObjective.loss = counted  # type: ignore[method-assign]


def main(arguments: Sequence[str]) -> None:
    """Train in a folder; print the outcome and notices as JSON."""
    import torch

    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("base")
    parser.add_argument("--kill-at", type=int, default=0)
    parser.add_argument("--largest-file", type=int, default=0)
    parser.add_argument("--rank", type=int, default=None)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.kill_at:
        _kill_at(options.kill_at)
    if options.largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (options.largest_file, options.largest_file))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    told: list[TrainingProgress] = []
    if options.rank is not None:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{options.folder / 'meeting'}", rank=options.rank, world_size=WORKERS
        )
        result = train_tiny(options.folder, base=options.base, told=told, config=replace(TINY, max_training_pairs=90))
        answer = outcome(result) | {"told": len(told)}
        torch.distributed.destroy_process_group()
    else:
        try:
            answer = outcome(train_tiny(options.folder, base=options.base, told=told))
        except ArtifactWriteError as error:
            answer = {"error": str(error)}
    sys.stdout.write(json.dumps(answer | {"notices": [one.notice for one in told if one.notice]}))


if __name__ == "__main__":
    main(sys.argv[1:])
