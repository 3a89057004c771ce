"""Choosing between rerankers by validation: the start, the epoch, and whether training helped at all.

A training starts from a pretrained sentence encoder, or from the present champion.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mangaassist_assets.models.encoders.layer_states import layers_digest
from mangaassist_assets.models.encoders.pretrained import BaseModelError, load_base, tokenize
from mangaassist_assets.models.examples import RankingExample
from mangaassist_assets.models.reranker.calibration import calibrate, judge_calibration
from mangaassist_assets.models.reranker.model import Reranker, idf_weights, special_tokens
from mangaassist_assets.models.reranker.pair_objective import (
    PairObjective,
    RankingFigures,
    Scores,
    first_stage_scores,
    ranking_figures,
)
from mangaassist_assets.models.reranker.pair_training import (
    CandidateList,
    EncodedTexts,
    PairTable,
    RerankerTrainingConfig,
    RerankerTrainingError,
)
from mangaassist_assets.training.checkpoints import Checkpoints
from mangaassist_assets.training.compute import Compute
from mangaassist_assets.training.loop import run_training_loop
from mangaassist_assets.training.objective import LoopResult, LoopSettings, ProgressCallback, TrainingProgress

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from mangaassist_assets.models.reranker.pair_network import PairNetwork

_WORD_WEIGHT_TOKENS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankerStart:
    """A network that can be trained; `origin` is the base's name or the champion's digest."""

    name: Literal["base", "champion"]
    network: PairNetwork
    tokenizer: Tokenizer
    origin: str


def champion_start(directory: Path) -> RerankerStart:
    """Load a reranker to go on from.

    Raises:
        ArtifactMismatchError: It is damaged, or no reranker.
    """
    champion = Reranker.load(directory)
    return RerankerStart(
        name="champion", network=champion.network, tokenizer=champion.tokenizer, origin=champion.digest
    )


def base_start(base: str, *, joint_layers: int) -> RerankerStart:
    """Make an untrained reranker of a pretrained sentence encoder.

    Raises:
        BaseModelError: It is missing, changed, or no sentence encoder.
        RerankerTrainingError: It has fewer layers than shall be joint.
    """
    from mangaassist_assets.models.reranker.pair_network import PairNetwork

    pretrained = load_base(base)
    if any(name.startswith("classifier.") for name in pretrained.extra_weights):
        raise BaseModelError(
            f"base model {base!r} is a published cross-encoder with a head of its own: the reranker starts from a "
            "sentence encoder, for example sentence-transformers/all-MiniLM-L6-v2"
        )
    layers = pretrained.encoder.shape.n_layers
    if joint_layers > layers:
        raise RerankerTrainingError(f"joint_layers is {joint_layers}, but {base!r} has {layers} layers")
    network = PairNetwork(pretrained.encoder.shape, joint_layers=joint_layers)
    network.encoder.load_state_dict(pretrained.encoder.state_dict())
    network.eval()
    return RerankerStart(name="base", network=network, tokenizer=pretrained.tokenizer, origin=base)


def set_word_weights(start: RerankerStart, corpus: Iterable[str]) -> None:
    """Give a network the rarity of each token in some texts."""
    import torch

    texts = tokenize(start.tokenizer, sorted(set(corpus)), max_tokens=_WORD_WEIGHT_TOKENS)
    weights = idf_weights(
        texts, vocab_size=start.network.encoder.shape.vocab_size, special=special_tokens(start.tokenizer)
    )
    start.network.idf.copy_(torch.from_numpy(weights))


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankerCandidate:
    """One reranker that could have gone into the artifact.

    `base` and `champion` are as they are, `trained` was trained from one of them. `figures` are on the validation
    queries, None without such; `seconds` exclude the encoding of texts that all candidates share.
    """

    name: Literal["base", "champion", "trained"]
    figures: RankingFigures | None
    seconds: float


class RerankerChoice:
    """One training: what it has to judge by, what it chose so far, and what that cost."""

    def __init__(
        self,
        *,
        usable: Sequence[RankingExample],
        judged: Sequence[RankingExample],
        lists: Sequence[Sequence[CandidateList]],
        config: RerankerTrainingConfig,
        compute: Compute,
        report: ProgressCallback,
    ) -> None:
        self.compute = compute
        self.report = report
        self.decisive = sum(max(one.relevances) > 0 for one in judged) >= config.minimum_validation
        self.metrics: dict[str, float] = {}
        self.costs: dict[str, float] = {}
        self.candidates: list[RerankerCandidate] = []
        self.kept: Literal["start", "trained"] = "start"
        self._config = config
        self._epochs = lists
        self._lists = [one for epoch in lists for one in epoch]
        self._judged = judged
        # Without enough validation queries, training queries calibrate: they flatter a little, but select nothing.
        self._judging = judged if self.decisive else [*judged, *usable][: config.minimum_validation]
        self._judging_lists = [CandidateList(one.query, one.passages, one.relevances) for one in self._judging]
        self._scores: Scores = []
        self._start_figures: RankingFigures | None = None

    def choose_start(self, starts: Sequence[RerankerStart]) -> tuple[RerankerStart, EncodedTexts]:
        """Return the start that orders the validation queries best, the first of equals, and its encoded texts."""
        self.report(TrainingProgress(stage="features"))
        if self._judged:
            first_stage = self._figures(first_stage_scores(self._judging))
            self.metrics |= {
                "validation_mrr_first_stage": first_stage.mrr,
                "validation_ndcg_first_stage": first_stage.ndcg,
            }
        best: tuple[RerankerStart, EncodedTexts, Scores, RankingFigures | None] | None = None
        encoded: dict[str, EncodedTexts] = {}
        for start in starts:
            key = f"{layers_digest(start.network.encoder, start.network.apart_layers)} {start.tokenizer.to_str()}"
            if key not in encoded:
                begun = time.perf_counter()
                encoded[key] = self._encode(start)
                self.costs["seconds_encoding"] = self.costs.get("seconds_encoding", 0.0) + time.perf_counter() - begun
            begun = time.perf_counter()
            scores = PairTable(self._judging_lists, encoded[key], start.network).scores()
            figures = self._figures(scores) if self._judged else None
            self._consider(start.name, figures, since=begun)
            if best is None or self.compute.agreed(_worse(best[3], figures)):
                best = (start, encoded[key], scores, figures)
            if figures and len(starts) > 1:
                self.metrics |= figures.named(f"_{start.name}")
        if best is None:
            raise ValueError("training needs something to start from")
        start, texts, self._scores, self._start_figures = best
        if self._start_figures:
            self.metrics |= self._start_figures.named("_start") | self._start_figures.named()
        return start, texts

    def fit(
        self,
        start: RerankerStart,
        texts: EncodedTexts,
        *,
        checkpoints: Checkpoints | None,
        checkpoint_steps: int | None,
    ) -> LoopResult | None:
        """Train a start where it shall be, keep the better of both in its network, and calibrate that."""
        network = start.network
        loop = None
        if self._epochs:
            before = {name: value.clone() for name, value in network.state_dict().items()}
            begun = time.perf_counter()
            judging = PairTable(self._judging_lists, texts, network)
            objective = self._objective(start, texts, judging)
            loop = run_training_loop(
                objective,
                LoopSettings(
                    seed=self._config.seed,
                    epochs=len(self._epochs),
                    patience=self._config.patience,
                    checkpoint_steps=checkpoint_steps,
                ),
                progress=self.report,
                compute=self.compute,
                # The weights of a checkpoint fit only the start that they were trained from.
                checkpoints=checkpoints
                and replace(checkpoints, fingerprint=f"{checkpoints.fingerprint} from {start.origin}"),
            )
            scores = objective.scores_of(loop.best_epoch, epochs=len(loop.history)) or judging.scores()
            figures = self._figures(scores) if self._judged else None
            self._consider("trained", figures, since=begun)
            self.costs |= {
                "seconds_training": loop.training_seconds,
                "pairs_per_second": loop.samples_per_second * self.pairs / len(self._lists),
            }
            if figures:
                self.metrics |= figures.named("_trained")
            if self.compute.agreed(self.decisive and _worse(figures, self._start_figures)):
                network.load_state_dict(before)
            else:
                self.kept, self._scores = "trained", scores
                self.metrics |= figures.named() if figures else {}
        network.requires_grad_(requires_grad=False)
        self._calibrate(network)
        return loop

    def _objective(self, start: RerankerStart, texts: EncodedTexts, judging: PairTable) -> PairObjective:
        return PairObjective(
            start.network,
            PairTable(self._lists, texts, start.network),
            epochs=[len(epoch) for epoch in self._epochs],
            loss=self._config.loss,
            batch_queries=self._config.batch_queries,
            learning_rate=self._config.learning_rate,
            judging=(self._judging, judging) if self.decisive else None,
        )

    @property
    def pairs(self) -> int:
        """How many pairs training goes through, repeats counted."""
        return sum(len(one.passages) for one in self._lists)

    def _consider(
        self, name: Literal["base", "champion", "trained"], figures: RankingFigures | None, *, since: float
    ) -> None:
        seconds = time.perf_counter() - since
        self.candidates.append(RerankerCandidate(name=name, figures=figures, seconds=seconds))
        self.costs[f"seconds_{name}"] = seconds

    def _encode(self, start: RerankerStart) -> EncodedTexts:
        lists = [*self._lists, *self._judging_lists]
        return EncodedTexts(
            [one.query for one in lists],
            [passage for one in lists for passage in one.passages],
            start.network,
            start.tokenizer,
            self._config,
        )

    def _figures(self, scores: Scores) -> RankingFigures:
        """Return the figures on the validation queries, which lead among those that judge."""
        return ranking_figures(self._judged, scores[: len(self._judged)])

    def _calibrate(self, network: PairNetwork) -> None:
        import torch

        fitted = calibrate(self._scores, self._judging)
        network.calibration.data.copy_(torch.tensor([fitted.scale, fitted.shift]))
        if not self.decisive:
            return
        judged = judge_calibration(self._scores, self._judging)
        if judged is not None:
            self.metrics |= {
                "validation_brier": judged.brier,
                "validation_brier_of_base_rate": judged.brier_of_base_rate,
                "validation_ece": judged.expected_calibration_error,
            }


def _worse(one: RankingFigures | None, other: RankingFigures | None) -> bool:
    """Whether validation says that one orders worse than another; what was not validated is not worse."""
    return one is not None and other is not None and one.score < other.score
