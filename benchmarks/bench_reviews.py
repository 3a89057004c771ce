"""Do reviews earn their keep: the review queue against random reviews, with and without propagation.

The loop without servers, by the product's own functions: a champion, traffic with intents that it does not know,
failures, clusters, queue, labels, dataset, challenger. On hwu64 the champion has ten messages each of half of the
intents, and there are 600 turns of all of them; `--set demo` is the demo store's first bundle, another one each seed,
with multilingual-e5 as the demo has it. A turn fails where its intent was wrong. Every arm has the same traffic, the
same champion and the same number of reviews; the reviewer knows the truth. Champion and challengers are scored on the
test set, apart for intents that the champion knew and for new ones. With `--gate` the challenger of the queue is judged
as the product does, on the reviewed labels by folds: of each challenger that is truly better the share that passes is
the gate's power.

Prints a JSON line a seed and one over all seeds, with the differences to random reviews of the same runs.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402

from benchmarks.bench_loop_hwu64 import DATA, prepare, read_hwu64  # noqa: E402
from benchmarks.clock import Clock  # noqa: E402
from mangaassist_assets.chatbot.shopper import ShopperBehaviour  # noqa: E402
from mangaassist_assets.cli.commands.demo import REVIEW_BUDGET  # noqa: E402
from mangaassist_assets.core.text_keys import language_of  # noqa: E402
from mangaassist_assets.datasets.building.folds import folds_of  # noqa: E402
from mangaassist_assets.datasets.building.intent_dataset import build_intent_dataset  # noqa: E402
from mangaassist_assets.datasets.schema import labels_of_people  # noqa: E402
from mangaassist_assets.datasets.sources.utterances import Utterance  # noqa: E402
from mangaassist_assets.demo.generator import compose_messages  # noqa: E402
from mangaassist_assets.demo.sources import read_plan  # noqa: E402
from mangaassist_assets.evaluation.gate.budget import promotion_level  # noqa: E402
from mangaassist_assets.evaluation.gate.decision import GateConfig  # noqa: E402
from mangaassist_assets.evaluation.gate.gate import judge  # noqa: E402
from mangaassist_assets.evaluation.results import FixedSet, GateInput  # noqa: E402
from mangaassist_assets.labelling.gathering import label_bundle  # noqa: E402
from mangaassist_assets.labelling.intent_labels import IntentLabel  # noqa: E402
from mangaassist_assets.labelling.queue.bundle_queue import queue_bundle  # noqa: E402
from mangaassist_assets.labelling.queue.stored_queue import ReviewQueue  # noqa: E402
from mangaassist_assets.mining.blame.blame import find_failures  # noqa: E402
from mangaassist_assets.mining.cluster_building import mine_clusters  # noqa: E402
from mangaassist_assets.mining.clustering.message_vectors import embed_messages  # noqa: E402
from mangaassist_assets.models.artifacts import artifact_settings  # noqa: E402
from mangaassist_assets.models.compared import sample_of  # noqa: E402
from mangaassist_assets.models.encoders import PACKAGED_E5, PACKAGED_MINILM  # noqa: E402
from mangaassist_assets.models.examples import IntentExample  # noqa: E402
from mangaassist_assets.models.intent.model_type import IntentModelType  # noqa: E402
from mangaassist_assets.models.model_types import TrainingRequest  # noqa: E402
from mangaassist_assets.models.registration.cross_fit import CrossFit  # noqa: E402
from mangaassist_assets.retrieval.embedding_cache import EmbeddingCache  # noqa: E402
from mangaassist_assets.tracing.contract.names import EXPECTED_INTENT  # noqa: E402
from mangaassist_assets.tracing.contract.turns import ChatTurn, Review  # noqa: E402
from mangaassist_assets.training.checkpoints import Checkpoints  # noqa: E402
from mangaassist_assets.training.objective import ignore_progress  # noqa: E402

BUNDLE = "rc1"
START_MS = 1_760_000_000_000
WORTH_SEEING, LOSS_OF_KNOWN = 0.08, 0.01
"""What a challenger must truly gain on traffic, and may truly lose on known intents, to count for the gate's power."""
_ARMS = ("queue", "queue_without_propagation", "random", "random_without_propagation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What the champion learns, what shoppers then write (text, intent, user_id, session_id), and the test set."""

    training: list[Utterance]
    traffic: list[dict[str, str]]
    test: list[tuple[str, str]]


def hwu64(seed: int) -> Material:
    """Return what `bench_loop_hwu64` has."""
    with tempfile.TemporaryDirectory() as folder:
        training, traffic, _ = prepare(Path(folder), seed)
        return Material(
            training=[Utterance(**json.loads(line)) for line in training.read_text("utf-8").splitlines()],
            traffic=[json.loads(line) for line in traffic.read_text("utf-8").splitlines()],
            test=read_hwu64("test"),
        )


def demo(seed: int) -> Material:
    """Return the demo store's first bundle as it would be with another seed, and its unseen messages."""
    plan = read_plan()
    messages = compose_messages(replace(plan, seed=plan.seed + seed))
    return Material(
        training=[Utterance(text=one.text, intent=one.intent) for one in messages.training],
        traffic=[
            {
                "text": turn.message.text,
                "intent": turn.message.intent,
                "user_id": turn.user_id,
                "session_id": turn.session_id,
            }
            for turn in messages.traffic["bundle-1.jsonl"]
        ],
        test=[(turn.message.text, turn.message.intent) for turn in messages.traffic["unseen-1.jsonl"]],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A classifier with what it was trained on."""

    rows: pl.DataFrame
    folder: Path
    model: Any

    def answers(self, texts: Sequence[str]) -> tuple[list[str], list[float]]:
        """Return the intent and the confidence of each message."""
        answer = self.model.answer(texts, {"top_k": 1})
        return list(answer["intent"]), list(answer["confidence"])


def train(
    model_type: IntentModelType, folder: Path, training: Sequence[Utterance], labels: Sequence[IntentLabel]
) -> Trained:
    """Build the dataset and train on it."""
    rows = build_intent_dataset(training, labels).rows
    request = TrainingRequest(
        train=model_type.examples(rows, "train"),
        validation=model_type.examples(rows, "validation"),
        output=folder / "artifact",
        checkpoints=Checkpoints(folder / "checkpoints", fingerprint="bench"),
    )
    trained = model_type.train(request)
    return Trained(rows=rows, folder=trained.directory, model=model_type.load(trained.directory, trained.digest))


class Loop:
    """One seed: its traffic, its champion, and what any choice of reviews makes of them."""

    def __init__(
        self,
        folder: Path,
        material: Material,
        seed: int,
        *,
        base: str,
        budget: int,
        embed: Any,  # noqa: ANN401
    ) -> None:
        self.folder, self.seed, self.budget, self.embed = folder, seed, budget, embed
        self.model_type, self.test, rows = IntentModelType(base), material.test, material.traffic
        self.training = material.training
        self.known = {one.intent for one in self.training}
        self.champion = self.trained("champion", [])
        answers, confidences = self.champion.answers([row["text"] for row in rows])
        self.truth = {f"trace-{number:04d}": row["intent"] for number, row in enumerate(rows)}
        thumbs, behaviour = random.Random(f"{seed} thumbs"), ShopperBehaviour()
        self.turns = [
            _turn(f"trace-{number:04d}", number, row, intent, confidence, thumbs, behaviour)
            for number, (row, intent, confidence) in enumerate(zip(rows, answers, confidences, strict=True))
        ]

    def trained(self, name: str, labels: Sequence[IntentLabel]) -> Trained:
        """Train on the training messages and labels."""
        return train(self.model_type, self.folder / name, self.training, labels)

    def clusters(self, turns: Sequence[ChatTurn]) -> Any:  # noqa: ANN401
        """Return the failure clusters of the bundle, its turns as they are now."""
        failures = find_failures(turns)
        vectors = self.embed([failure.turn.learnable_text for failure in failures])
        mined = mine_clusters(failures, vectors, release_bundle=BUNDLE, turns=len(turns), embedding_model_id="packaged")
        return mined.bundle.clusters

    def asked(self) -> tuple[list[str], ReviewQueue]:
        """Return what the queue asks, in its order, and the queue."""
        failed = {failure.turn.trace_id for failure in find_failures(self.turns)}
        traffic = pl.DataFrame(
            {
                "trace_id": [turn.trace_id for turn in self.turns],
                "intent": [turn.intent for turn in self.turns],
                "message": [turn.message for turn in self.turns],
                "language": [language_of(turn.message) for turn in self.turns],
                "failed": [turn.trace_id in failed for turn in self.turns],
            }
        )
        made = queue_bundle(
            self.turns, self.clusters(self.turns), [], traffic, handled=(), embed=self.embed, budget=self.budget
        )
        return made.trace_ids[: self.budget], made.queue

    def drawn(self) -> list[str]:
        """Return as many turns, drawn at random from all traffic."""
        return random.Random(f"{self.seed} random").sample(sorted(self.truth), self.budget)

    def labels(self, reviewed: Sequence[str], queue: ReviewQueue | None) -> tuple[IntentLabel, ...]:
        """Return what the reviews of these turns label."""
        chosen = set(reviewed)
        turns = [self._reviewed(turn) if turn.trace_id in chosen else turn for turn in self.turns]
        intents: dict[str, tuple[str, ...]] = dict.fromkeys({*self.truth.values(), *self.known}, ())
        return label_bundle(turns, self.clusters(turns), intents=intents, embed=self.embed, queue=queue).labels

    def scored(self, trained: Trained) -> dict[str, float]:
        """Return accuracy on the test set: all, new and known intents."""
        texts, intents = zip(*self.test, strict=True)
        right = np.array(trained.answers(texts)[0]) == np.array(intents)
        new = np.array([intent not in self.known for intent in intents])
        return {
            name: round(float(right[which].mean()), 4)
            for name, which in {"accuracy": np.ones(len(new), dtype=bool), "new": new, "known": ~new}.items()
        }

    def verdict(self, challenger: Trained) -> dict[str, Any]:
        """Judge a challenger by folds on the reviewed labels, as the first look at this champion."""
        tests = labels_of_people(challenger.rows).sort("example_id")
        examples = self.model_type.examples(tests.with_columns(pl.lit("test").alias("split")), "test")
        corpus = challenger.rows.filter(pl.col("split") == "test", pl.col("label_kind") == "base")
        guarded = self.model_type.examples(corpus, "test")
        config = GateConfig()
        folds = self._answers_by_folds(challenger).results([one.example_id for one in examples], version="2")
        decision = judge(
            GateInput(
                metric=self.model_type.metric,
                binary=self.model_type.binary,
                champion=self.model_type.evaluate(self.champion.model, examples, version="1"),
                challenger=folds,
                slices=self.model_type.slices(examples),
                unknown_to_champion=self.model_type.unknown_to(self.champion.model, examples),
                shoppers=tuple(tests["user_key"].to_list()),
                sample=sample_of(tests),
                fixed={
                    "corpus": FixedSet(
                        champion=self.model_type.evaluate(self.champion.model, guarded, version="1").outcomes,
                        challenger=self.model_type.evaluate(challenger.model, guarded, version="2").outcomes,
                    )
                },
            ),
            promotion=promotion_level([], champion="1", challenger="2", evidence="e", now_ms=START_MS, config=config),
            config=config,
        )
        names = ("champion", "challenger", "difference")
        return {
            "verdict": decision.verdict,
            "reasons": decision.reasons[:2],
            "estimated": {name: round(decision.figures[name], 3) for name in names if name in decision.figures},
        }

    def traffic_accuracy(self, trained: Trained) -> float:
        """Return the accuracy on messages like the traffic's: the test set, each intent as often as in the traffic."""
        share = {intent: list(self.truth.values()).count(intent) / len(self.truth) for intent in self.truth.values()}
        texts, intents = zip(*self.test, strict=True)
        right = np.array(trained.answers(texts)[0]) == np.array(intents)
        found = np.array(intents)
        return sum(part * float(right[found == intent].mean()) for intent, part in share.items())

    def _answers_by_folds(self, challenger: Trained) -> CrossFit:
        examples = self.model_type.examples(challenger.rows.with_columns(pl.lit("train").alias("split")), "train")
        learner = self.model_type.fold_learner(examples, artifact_settings(challenger.folder))
        answered = []
        for fold in folds_of(challenger.rows, count=self.model_type.folds):
            asked: list[IntentExample] = [one for one in examples if one.example_id in fold.tests]
            checkpoints = Checkpoints(self.folder / f"fold-{fold.number}", fingerprint="bench")
            results = learner.answers(
                fold.learned, asked, version="2", checkpoints=checkpoints, progress=ignore_progress
            )
            answered.append((fold.number, [one.example_id for one in asked], results))
        return CrossFit.of(answered)

    def _reviewed(self, turn: ChatTurn) -> ChatTurn:
        intent, given_ms = self.truth[turn.trace_id], turn.timestamp_ms + 3_600_000
        review = Review(
            name=EXPECTED_INTENT,
            kind="expectation",
            values=(intent,),
            source="human",
            source_id="reviewer",
            timestamp_ms=given_ms,
        )
        return replace(turn, expected_intent=intent, reviewer="reviewer", reviews=(review,))


def _turn(
    trace_id: str,
    number: int,
    row: dict[str, str],
    intent: str,
    confidence: float,
    thumbs: random.Random,
    behaviour: ShopperBehaviour,
) -> ChatTurn:
    misjudges, presses = thumbs.random() < behaviour.feedback_noise, thumbs.random()
    seems_bad = (intent != row["intent"]) != misjudges
    return ChatTurn(
        trace_id=trace_id,
        timestamp_ms=START_MS + number * 60_000,
        duration_ms=100,
        state="OK",
        release_bundle=BUNDLE,
        session_id=row["session_id"],
        message=row["text"],
        user_key=row["user_id"],
        answer="an answer",
        intent=intent,
        intent_confidence=confidence,
        user_feedback="thumbs_down"
        if seems_bad and presses < behaviour.thumbs_down_rate
        else "thumbs_up"
        if not seems_bad and presses < behaviour.thumbs_up_rate
        else None,
    )


def run(loop: Loop, arms: Sequence[str], *, with_gate: bool) -> dict[str, Any]:
    """Run one seed and return its figures."""
    figures: dict[str, Any] = {"seed": loop.seed, "champion": loop.scored(loop.champion)}
    asked, queue = loop.asked()
    for arm in arms:
        reviewed, of = (asked, queue) if arm.startswith("queue") else (loop.drawn(), None)
        labels = loop.labels(reviewed, of)
        guessed = [label for label in labels if label.kind == "propagated"]
        if arm.endswith("without_propagation"):
            labels = tuple(label for label in labels if label.kind == "human")
        challenger = loop.trained(arm, labels)
        figures[arm] = loop.scored(challenger) | {
            "reviews_of_new_intents": sum(loop.truth[one] not in loop.known for one in reviewed),
            "labels": len(labels),
        }
        if not arm.endswith("without_propagation"):
            right = sum(label.intent == loop.truth[label.trace_id] for label in guessed)
            figures[arm] |= {"propagated": len(guessed), "propagated_right": right}
        if with_gate and arm == "queue":
            before, after = loop.traffic_accuracy(loop.champion), loop.traffic_accuracy(challenger)
            figures["gate"] = loop.verdict(challenger) | {"true_gain": round(after - before, 4)}
    return figures


def over_all(found: Sequence[dict[str, Any]], arms: Sequence[str]) -> dict[str, Any]:
    """Return means over seeds, standard errors of differences in the same run, and the gate's power."""
    summary: dict[str, Any] = {"benchmark": "reviews", "seeds": len(found)}
    for arm in ("champion", *arms):
        figures = {name: [one[arm][name] for one in found] for name in ("accuracy", "new", "known")}
        summary[arm] = {name: round(statistics.mean(values), 4) for name, values in figures.items()}
    for first, second in (("queue", "random"), ("queue", "queue_without_propagation"), ("queue", "champion")):
        if first in arms and (second in arms or second == "champion"):
            summary[f"{first}_minus_{second}"] = {
                name: _difference([one[first][name] - one[second][name] for one in found])
                for name in ("accuracy", "new", "known")
            }
    judged = [one for one in found if "gate" in one]
    if judged:
        fit = [
            one
            for one in judged
            if one["gate"]["true_gain"] >= WORTH_SEEING
            and one["queue"]["known"] >= one["champion"]["known"] - LOSS_OF_KNOWN
        ]
        passed = [one["gate"]["verdict"] == "pass" for one in judged]
        summary["gate"] = {
            "judged": len(judged),
            "passed": sum(passed),
            "better_and_harmless": len(fit),
            "of_these_passed": sum(one["gate"]["verdict"] == "pass" for one in fit),
        }
    return summary


def _difference(values: Sequence[float]) -> dict[str, float]:
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return {"mean": round(statistics.mean(values), 4), "standard_error": round(error, 4)}


def main() -> None:
    """Read the options, run, print a JSON line a seed and one over all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", choices=("hwu64", "demo"), default="hwu64")
    parser.add_argument("--review-budget", type=int, help="by default 160, and the demo's own")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(1, 11)))
    parser.add_argument("--arms", nargs="+", choices=_ARMS, default=list(_ARMS))
    parser.add_argument("--gate", action="store_true", help="judge the challenger of the queue as well")
    options = parser.parse_args()
    if options.set == "hwu64" and not (DATA / "hwu64").is_dir():
        print(json.dumps({"benchmark": "reviews", "skipped": "../shared/data is missing"}))
        return
    from resources.search.embeddings import LocalEmbedderResource

    is_demo = options.set == "demo"
    base = PACKAGED_E5 if is_demo else PACKAGED_MINILM
    embedder, found = LocalEmbedderResource(model=base).embedder(), []
    with tempfile.TemporaryDirectory() as folder:
        cache = EmbeddingCache(Path(folder) / "vectors")

        def embed(texts: Sequence[str]) -> Any:  # noqa: ANN401
            return embed_messages(list(texts), embedder=embedder, cache=cache)[0]

        for seed in options.seeds:
            clock, scratch = Clock(), Path(folder) / f"seed-{seed}"
            loop = Loop(
                scratch,
                demo(seed) if is_demo else hwu64(seed),
                seed,
                base=base,
                budget=options.review_budget or (REVIEW_BUDGET if is_demo else 160),
                embed=embed,
            )
            figures = run(loop, options.arms, with_gate=options.gate)
            found.append({"set": options.set, **figures, "cpu_seconds": clock.seconds()[1]})
            print(json.dumps(found[-1]), flush=True)
            shutil.rmtree(scratch)
    print(json.dumps(over_all(found, options.arms)))


if __name__ == "__main__":
    main()
