"""Choosing between rerankers by validation: the start, the epoch, and whether training helped at all.

Each kind of network is an attempt of its own: it starts from the best of its starts, and is trained from there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mangaassist_assets.models.examples import RankingExample
from mangaassist_assets.models.reranker.calibration import ScoreCalibration, calibrate, judge_calibration
from mangaassist_assets.models.reranker.lists import CandidateList, EpochLists
from mangaassist_assets.models.reranker.networks.pair_table import PairTable, PairTexts
from mangaassist_assets.models.reranker.networks.starts import RerankerStart
from mangaassist_assets.models.reranker.pair_objective import PairObjective
from mangaassist_assets.models.reranker.ranking_figures import (
    RankingFigures,
    Scores,
    first_stage_scores,
    ranking_figures,
)
from mangaassist_assets.models.reranker.training_config import RerankerTrainingConfig, TrainingEffort
from mangaassist_assets.training.checkpoints import Checkpoints
from mangaassist_assets.training.compute import Compute
from mangaassist_assets.training.loop import run_training_loop
from mangaassist_assets.training.objective import LoopResult, LoopSettings, ProgressCallback, TrainingProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankerCandidate:
    """One reranker that could have gone into the artifact.

    `name` is the network and what it is: a start (`base`, `cross-encoder`, `champion`) as it is, or `trained` from one
    of them. `figures` are on the validation queries, None without such; `seconds` exclude the encoding of texts that
    all candidates of a network share.
    """

    name: str
    figures: RankingFigures | None
    seconds: float


class Judging:
    """The queries that a training is judged by.

    Without enough validation queries, training queries calibrate: they flatter a little, but select nothing.
    """

    def __init__(
        self, judged: Sequence[RankingExample], usable: Sequence[RankingExample], config: RerankerTrainingConfig
    ) -> None:
        self.judged = judged
        self.decisive = sum(max(one.relevances) > 0 for one in judged) >= config.minimum_validation
        self.examples = judged if self.decisive else [*judged, *usable][: config.minimum_validation]
        self.lists = [CandidateList(one.query, one.passages, one.relevances) for one in self.examples]

    def figures(self, scores: Scores) -> RankingFigures | None:
        """Return the figures on the validation queries, which lead among those that judge; None without any."""
        return ranking_figures(self.judged, scores[: len(self.judged)]) if self.judged else None

    def first_stage(self) -> RankingFigures | None:
        """Return the retriever's own figures."""
        return self.figures(first_stage_scores(self.examples))


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What one kind of network came to, in the network of its start; `calibration` is of its logits."""

    start: RerankerStart
    kept: Literal["start", "trained"]
    figures: RankingFigures | None
    scores: Scores
    calibration: ScoreCalibration
    loop: LoopResult | None
    effort: TrainingEffort
    pairs: int


class RerankerTraining:
    """One training of one kind of network: what it has to judge by, and what it cost."""

    def __init__(
        self,
        *,
        judging: Judging,
        epochs: Sequence[EpochLists],
        config: RerankerTrainingConfig,
        effort: TrainingEffort,
        compute: Compute,
        report: ProgressCallback,
    ) -> None:
        self.metrics: dict[str, float] = {}
        self.costs: dict[str, float] = {}
        self.candidates: list[RerankerCandidate] = []
        self._judging = judging
        self._epochs = epochs
        self._config = config
        self._effort = effort
        self._compute = compute
        self._report = report

    def run(
        self, starts: Sequence[RerankerStart], *, checkpoints: Checkpoints | None, checkpoint_steps: int | None
    ) -> Attempt:
        """Train the start that orders the validation queries best, and keep the better of both in its network."""
        self._report(TrainingProgress(stage="features"))
        start, texts, scores, figures = self._choose(starts)
        kept: Literal["start", "trained"] = "start"
        loop = None
        if figures:
            self.metrics |= figures.named("_start")
        if self._epochs:
            before = {name: value.clone() for name, value in start.network.state_dict().items()}
            begun = time.perf_counter()
            loop, trained_scores = self._train(start, texts, checkpoints, checkpoint_steps)
            trained = self._judging.figures(trained_scores)
            self._consider(start, "trained", trained, since=begun)
            if trained:
                self.metrics |= trained.named("_trained")
            if self._compute.agreed(self._judging.decisive and is_worse(trained, figures)):
                start.network.load_state_dict(before)
            else:
                kept, scores, figures = "trained", trained_scores, trained
        start.network.requires_grad_(requires_grad=False)
        start.network.eval()
        return Attempt(
            start=start,
            kept=kept,
            figures=figures,
            scores=scores,
            calibration=calibrate(scores, self._judging.examples),
            loop=loop,
            effort=self._effort,
            pairs=self.pairs,
        )

    @property
    def pairs(self) -> int:
        """How many pairs training goes through, repeats counted."""
        return sum(len(one.passages) for epoch in self._epochs for one in epoch.lists)

    def _choose(
        self, starts: Sequence[RerankerStart]
    ) -> tuple[RerankerStart, PairTexts, Scores, RankingFigures | None]:
        """Return the start that orders the validation queries best, the first of equals, and its encoded texts."""
        best: tuple[RerankerStart, PairTexts, Scores, RankingFigures | None] | None = None
        encoded: dict[str, PairTexts] = {}
        lists = [*(one for epoch in self._epochs for one in epoch.lists), *self._judging.lists]
        for start in starts:
            key = start.shared_texts_key() or start.origin
            begun = time.perf_counter()
            texts = start.texts(lists, known=encoded.get(key))
            encoded[key] = texts
            self.costs["seconds_encoding"] = self.costs.get("seconds_encoding", 0.0) + time.perf_counter() - begun
            begun = time.perf_counter()
            scores = PairTable(self._judging.lists, texts).scores()
            figures = self._judging.figures(scores)
            self._consider(start, start.name, figures, since=begun)
            if best is None or self._compute.agreed(is_worse(best[3], figures)):
                best = (start, texts, scores, figures)
            if figures and len(starts) > 1:
                self.metrics |= figures.named(f"_{start.name}")
        if best is None:
            raise ValueError("training needs something to start from")
        return best

    def _train(
        self,
        start: RerankerStart,
        texts: PairTexts,
        checkpoints: Checkpoints | None,
        checkpoint_steps: int | None,
    ) -> tuple[LoopResult, Scores]:
        judging = PairTable(self._judging.lists, texts)
        objective = PairObjective(
            start.network,
            self._epochs,
            texts,
            loss=self._config.loss,
            batch_queries=self._config.batch_queries,
            learning_rate=self._effort.learning_rate,
            judging=(self._judging.examples, judging) if self._judging.decisive else None,
        )
        settings = LoopSettings(
            seed=self._config.seed,
            epochs=len(self._epochs),
            # Epochs apart keep the gates closed: before one has opened them nothing is known of what they bring.
            patience=max(self._config.patience, self._effort.apart_epochs),
            checkpoint_steps=checkpoint_steps,
        )
        # The weights of a checkpoint fit only the start that they were trained from.
        fingerprint = checkpoints and f"{checkpoints.fingerprint} {start.kind} from {start.origin}"
        loop = run_training_loop(
            objective,
            settings,
            progress=self._report,
            compute=self._compute,
            checkpoints=checkpoints and replace(checkpoints, fingerprint=str(fingerprint)),
        )
        lists = sum(len(epoch.lists) for epoch in self._epochs)
        self.costs |= {
            "seconds_training": loop.training_seconds,
            "pairs_per_second": loop.samples_per_second * self.pairs / lists,
        }
        return loop, objective.scores_of(loop.best_epoch, epochs=len(loop.history)) or judging.scores()

    def _consider(self, start: RerankerStart, name: str, figures: RankingFigures | None, *, since: float) -> None:
        seconds = time.perf_counter() - since
        self.candidates.append(RerankerCandidate(name=f"{start.kind} {name}", figures=figures, seconds=seconds))
        self.costs[f"seconds_{name}"] = seconds


def is_worse(one: RankingFigures | None, other: RankingFigures | None) -> bool:
    """Whether validation says that one orders worse than another; what was not validated is not worse."""
    return one is not None and other is not None and one.score < other.score


def calibration_metrics(attempt: Attempt, judging: Judging) -> dict[str, float]:
    """Return how well the probabilities fit, where there are enough validation queries to tell."""
    judged = judge_calibration(attempt.scores, judging.examples) if judging.decisive else None
    if judged is None:
        return {}
    return {
        "validation_brier": judged.brier,
        "validation_brier_of_base_rate": judged.brier_of_base_rate,
        "validation_ece": judged.expected_calibration_error,
    }
