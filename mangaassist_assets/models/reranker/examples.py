"""Which examples a reranker can learn from, and what a teacher says of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from mangaassist_assets.models.examples import RankingExample
from mangaassist_assets.models.reranker.lists import labelled_passages
from mangaassist_assets.models.reranker.model import Reranker
from mangaassist_assets.models.reranker.training_config import RerankerTrainingConfig, RerankerTrainingError


def check_example(example: RankingExample) -> None:
    """Refuse an example whose fields do not fit together.

    Raises:
        RerankerTrainingError: The message names it and what is wrong.
    """
    sizes = {len(example.passages), len(example.relevances), len(example.first_stage_ranks)}
    if len(sizes) != 1 or not example.passages:
        raise RerankerTrainingError(
            f"example {example.example_id!r}: passages, relevances and first_stage_ranks must have one length, at "
            f"least 1: got {len(example.passages)}, {len(example.relevances)}, {len(example.first_stage_ranks)}"
        )
    for name, values, low, high in (
        ("relevances", example.relevances, 0.0, 1.0),
        ("missed", example.missed, 0.0, 1.0),
        ("first_stage_ranks", example.first_stage_ranks, 1.0, math.inf),
    ):
        wrong = [value for value in values if not low <= value <= high]  # NaN compares false
        if wrong:
            raise RerankerTrainingError(
                f"example {example.example_id!r}: {name} must lie in {low:g}..{high:g}, got {wrong[0]}"
            )


def teaches(example: RankingExample) -> bool:
    """Whether an example has a query, and both a relevant and an irrelevant passage."""
    relevances = labelled_passages(example).values()
    return bool(example.query.strip()) and 0 < sum(relevance > 0 for relevance in relevances) < len(relevances)


def teacher_logits(
    examples: Sequence[RankingExample],
    config: RerankerTrainingConfig,
    teacher: Path | Mapping[str, Sequence[float]] | None,
) -> dict[str, dict[str, float]] | None:
    """Return by example id and passage what a distilled reranker shall give; None where it learns from labels.

    Raises:
        RerankerTrainingError: There is no teacher, or it does not give one finite logit a passage.
        ArtifactMismatchError: The teacher's artifact is damaged.
    """
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
