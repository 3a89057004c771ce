"""What a reranker learns from: lists of passages, drawn ahead of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mangaassist_assets.models.examples import RankingExample
from mangaassist_assets.models.reranker.training_config import RerankerTrainingConfig, TrainingEffort

_APART_NEGATIVES = 1


@dataclass(frozen=True, slots=True)
class CandidateList:
    """One query with passages and what is wanted of each: a relevance in [0, 1], or a teacher's logit.

    `answers` are all relevant passages that are known: none of them is wrong, whatever query it stands beside.
    """

    query: str
    passages: tuple[str, ...]
    wanted: tuple[float, ...]
    answers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class EpochLists:
    """The lists of one epoch in their order; `apart` says how they are scored, see `PairNetwork.apart_logits`."""

    lists: Sequence[CandidateList]
    apart: bool = False


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
    effort: TrainingEffort,
    *,
    teacher: Mapping[str, Mapping[str, float]] | None = None,
) -> list[EpochLists]:
    """Draw what training will see, epoch by epoch in its order: a relevant passage and some irrelevant ones.

    Irrelevant passages are drawn the more often the better the first stage ranked them: those are what the reranker
    will have to separate from answers. Drawing ahead of training means that only passages that are used are encoded.

    With a `teacher`, its logit by example id and passage is wanted in place of the relevance.
    """
    pairs = effort.pairs
    epochs: list[EpochLists] = []
    for epoch in range(1, effort.apart_epochs + effort.epochs + 1):
        apart = epoch <= effort.apart_epochs
        negatives = _APART_NEGATIVES if apart else config.negatives
        generator = np.random.default_rng((config.seed, epoch))
        visits = max(0 if epochs else 1, pairs // (negatives + 1))
        order = generator.permutation(len(examples))[:visits]
        pairs -= len(order) * (negatives + 1)
        lists = [_draw(examples[int(place)], negatives, generator, teacher) for place in order]
        if lists:
            epochs.append(EpochLists(lists, apart))
    return epochs


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
    return CandidateList(example.query, passages, tuple(wanted[passage] for passage in passages), frozenset(relevant))
