"""Training of the intent classifier on hwu64 against the default Trainer of transformers. One JSON line.

The baseline is `Trainer` with `DataCollatorWithPadding`, batches of 32 and all its defaults, on the packaged MiniLM as
`AutoModelForSequenceClassification`, tokenized beforehand. Both learn from the same messages in as many epochs.

- `speed`: samples/s of fine-tuning from the same weights, interleaved in one process. `ratio` compares what learns
  (ours: loading the base, the frozen layers once, then the loop), `ratio_whole` all that `train_intent_classifier`
  does: reading, tokenizing, both heads, export and writing included. `cpu_ratio` and `cpu_ratio_whole` are the same in
  CPU seconds, which other work on the machine disturbs less.
- `full`: accuracy on `test`. Ours learns from `train` and chooses by `valid`, then once more from both (`refit`); the
  baseline, which chooses nothing, learns from both. `frozen_head` is ours without fine-tuning, `held_out` ours without
  the refit. Each in a process of its own with its seconds and its peak memory; and what the threshold set on `valid`
  alone does on `test` and on messages of another domain (Bitext).
- `ten`: the same with ten messages an intent, drawn from `train` three times, and nothing to choose by: the mean.
- `scope`: area under the ROC curve of ways to recognise messages of no intent: hwu64 with a quarter of the intents
  held out (`held_out`), and messages of another domain (`foreign`, Bitext).

`--quick` takes fewer messages and one epoch: it shows that all parts run, its figures mean little.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.clock import Clock  # noqa: E402
from benchmarks.intent_trainer import train_with_trainer  # noqa: E402
from benchmarks.scope_scores import Array, all_scores  # noqa: E402
from mangaassist_assets.models.encoders.frozen_layers import FrozenLayers  # noqa: E402
from mangaassist_assets.models.encoders.tokens import tokenize  # noqa: E402
from mangaassist_assets.models.examples import IntentExample  # noqa: E402
from mangaassist_assets.models.intent.candidates import frozen_candidate, prepare_start  # noqa: E402
from mangaassist_assets.models.intent.examples import usable_examples  # noqa: E402
from mangaassist_assets.models.intent.fine_tuning import (  # noqa: E402
    IntentObjective,
    IntentTrainingConfig,
    all_features,
)
from mangaassist_assets.models.intent.model import IntentClassifier  # noqa: E402
from mangaassist_assets.models.intent.out_of_scope import separation  # noqa: E402
from mangaassist_assets.models.intent.training import IntentTrainingResult, train_intent_classifier  # noqa: E402
from mangaassist_assets.models.intent.writing import TrainedClassifier, read_classifier  # noqa: E402
from mangaassist_assets.models.model_types import TrainingRequest  # noqa: E402
from mangaassist_assets.training.compute import Compute  # noqa: E402
from mangaassist_assets.training.loop import run_training_loop  # noqa: E402
from mangaassist_assets.training.objective import ignore_progress  # noqa: E402

DATA = ROOT.parent / "shared" / "data"
LEARNERS = ("frozen_head", "held_out", "fine_tuned", "baseline")
DRAWS = 3


def hwu64(part: str) -> list[IntentExample]:
    """Return the messages of one part of hwu64, in a random order that is always the same."""
    texts = (DATA / "hwu64" / f"{part}.seq.in").read_text(encoding="utf-8").splitlines()
    intents = (DATA / "hwu64" / f"{part}.label").read_text(encoding="utf-8").splitlines()
    order = np.random.default_rng(0).permutation(len(texts))
    return [IntentExample(example_id=f"{part}-{one}", text=texts[one], intent=intents[one]) for one in order]


def bitext(count: int) -> list[str]:
    """Return messages of another domain."""
    with (DATA / "bitext" / "bitext20k.csv").open(encoding="utf-8-sig", newline="") as handle:
        texts = [row["utterance"] for row in csv.DictReader(handle)]
    return [texts[one] for one in np.random.default_rng(0).permutation(len(texts))[:count]]


def ours(train: list[IntentExample], epochs: int) -> tuple[float, float]:
    """Run the frozen layers and the loop; return their seconds. The head it starts from is fitted beforehand."""
    config = IntentTrainingConfig(epochs=epochs, max_steps=10**9)
    examples = usable_examples(train, [], minimum_validation=config.minimum_validation)
    compute = Compute.detect()
    clock = Clock()
    start = prepare_start("packaged-minilm", examples, config=config, compute=compute)
    started = clock.seconds()
    first = frozen_candidate(start, examples, config=config)
    clock = Clock()
    objective = IntentObjective(
        start.encoder, first.head, start.training, start.validation, config=config, compute=compute
    )
    run_training_loop(objective, config.loop(), progress=ignore_progress, compute=compute)
    wall, cpu = clock.seconds()
    return started[0] + wall, started[1] + cpu


def speed(train: list[IntentExample], *, epochs: int, rounds: int) -> dict[str, Any]:
    """Train with both in turns on the same messages."""
    seconds: dict[str, list[tuple[float, float]]] = {"ours": [], "ours_whole": [], "baseline": []}
    for _ in range(rounds):
        seconds["ours"].append(ours(train, epochs))
        with tempfile.TemporaryDirectory() as folder:
            clock = Clock()
            config = IntentTrainingConfig(epochs=epochs, max_steps=10**9)
            _train(train, [], config, Path(folder) / "model")
            seconds["ours_whole"].append(clock.seconds())
            seconds["baseline"].append(train_with_trainer(train, epochs=epochs, folder=folder).seconds)
    median = {
        name: [statistics.median(one[kind] for one in found) for kind in (0, 1)] for name, found in seconds.items()
    }
    rates = {name: epochs * len(train) / wall for name, (wall, _) in median.items()}
    return {
        "messages": len(train),
        "epochs": epochs,
        "rounds": rounds,
        "samples_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "cpu_seconds": {name: round(cpu, 1) for name, (_, cpu) in median.items()},
        "ratio": round(rates["ours"] / rates["baseline"], 2),
        "ratio_whole": round(rates["ours_whole"] / rates["baseline"], 2),
        "cpu_ratio": round(median["baseline"][1] / median["ours"][1], 2),
        "cpu_ratio_whole": round(median["baseline"][1] / median["ours_whole"][1], 2),
        "ratios": [round(b[0] / a[0], 2) for a, b in zip(seconds["ours"], seconds["baseline"], strict=True)],
    }


def few(train: list[IntentExample], count: int, draw: int) -> list[IntentExample]:
    """Return `count` messages of each intent, another choice for each draw."""
    taken: Counter[str] = Counter()
    found = []
    for place in np.random.default_rng(1000 + draw).permutation(len(train)).tolist():
        intent = train[place].intent
        if taken[intent] < count:
            taken[intent] += 1
            found.append(train[place])
    return found


def quality(
    learner: str, train: list[IntentExample], valid: list[IntentExample], test: list[IntentExample], *, epochs: int
) -> dict[str, Any]:
    """Train one learner and ask it about `test`."""
    texts = [one.text for one in test]
    clock = Clock()
    extra: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        if learner == "baseline":
            model = train_with_trainer([*train, *valid], epochs=epochs, folder=folder)
            seconds, predictions = model.seconds, model.predict(texts)
            extra = {"samples_per_second": round(epochs * len([*train, *valid]) / seconds[0], 1)}
        else:
            config = IntentTrainingConfig(
                fine_tune=learner != "frozen_head", refit=learner != "held_out", epochs=epochs
            )
            result = _train(train, valid, config, Path(folder) / "model")
            seconds = clock.seconds()
            classifier = IntentClassifier.load(result.directory)
            judged = classifier.judge(texts)
            predictions = classifier.best_labels(judged.probabilities)
            extra = {
                "kept": result.kept,
                "calibration_error": round(_calibration_error(judged.probabilities, predictions, test), 4),
                "in_scope_accepted": round(float(judged.in_scope.mean()), 3),
                "foreign_refused": round(float(1 - classifier.judge(bitext(1_000)).in_scope.mean()), 3),
            }
            if valid:
                extra["valid_accuracy"] = round(result.metrics["validation_accuracy"], 4)
            if result.history:
                extra["samples_per_second"] = round(result.metrics["fine_tuned_samples_per_second"], 1)
    right = sum(one == other.intent for one, other in zip(predictions, test, strict=True))
    return {
        "accuracy": round(right / len(test), 4),
        "seconds": round(seconds[0], 1),
        "cpu_seconds": round(seconds[1], 1),
        **extra,
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def ten(learner: str, *, draws: int, epochs: int) -> dict[str, Any]:
    """Train one learner on ten messages an intent, some times, with nothing to choose by."""
    train, test = hwu64("train"), hwu64("test")
    found = [quality(learner, few(train, 10, draw), [], test, epochs=epochs) for draw in range(draws)]
    return {
        "accuracy": round(statistics.mean(one["accuracy"] for one in found), 4),
        "draws": [one["accuracy"] for one in found],
        "seconds": round(statistics.mean(one["seconds"] for one in found), 1),
        "peak_gib": found[-1]["peak_gib"],
    }


def scope(*, an_intent: int, epochs: int) -> dict[str, Any]:
    """Train without a quarter of the intents, and see which score tells their messages from the others'."""
    train, test = hwu64("train"), hwu64("test")
    intents = sorted({one.intent for one in train})
    held_out = set(np.random.default_rng(0).permutation(intents)[: len(intents) // 4])
    counts: dict[str, int] = dict.fromkeys(held_out, an_intent)
    learned = []
    for one in train:
        counts[one.intent] = counts.get(one.intent, 0) + 1
        if counts[one.intent] <= an_intent:
            learned.append(one)
    asked = {
        "in_scope": [one.text for one in test if one.intent not in held_out],
        "held_out": [one.text for one in test if one.intent in held_out],
        "foreign": bitext(1_000),
    }
    table: dict[str, Any] = {}
    for name, fine_tune in (("frozen_head", False), ("fine_tuned", True)):
        with tempfile.TemporaryDirectory() as folder:
            config = IntentTrainingConfig(fine_tune=fine_tune, epochs=epochs)
            result = _train(learned, [], config, Path(folder) / "model")
            classifier = read_classifier(result.directory)
        train_features = _features(classifier, [one.text for one in learned])
        targets = np.array([classifier.labels.index(one.intent) for one in learned])
        scores = {}
        for side, texts in asked.items():
            features = _features(classifier, texts)
            scores[side] = all_scores(
                features=features,
                logits=classifier.head.logits(features.astype(np.float32)).astype(np.float64),
                train_features=train_features,
                train_targets=targets,
                temperature=result.metrics["temperature"],
            )
        table[name] = {
            score: {
                side: round(separation(scores["in_scope"][score], scores[side][score]), 3)
                for side in ("held_out", "foreign")
            }
            for score in scores["in_scope"]
        }
    return {"messages": {side: len(texts) for side, texts in asked.items()} | {"train": len(learned)}, "auroc": table}


def _features(classifier: TrainedClassifier, texts: list[str]) -> Array:
    """Return what the head sees, shape (len(texts), dim)."""
    pretrained = classifier.pretrained
    sequences = tokenize(pretrained.tokenizer, texts, max_tokens=classifier.max_tokens)
    frozen = FrozenLayers(pretrained.encoder, sequences, layers=0)
    return all_features(pretrained.encoder, frozen).astype(np.float64)


def _train(
    train: list[IntentExample], validation: list[IntentExample], config: IntentTrainingConfig, output: Path
) -> IntentTrainingResult:
    request = TrainingRequest(train=train, validation=validation, output=output)
    return train_intent_classifier(request, config=config)


def _calibration_error(probabilities: Any, predictions: list[str], test: list[IntentExample]) -> float:  # noqa: ANN401
    from mangaassist_assets.evaluation.metrics import expected_calibration_error

    right = [one == other.intent for one, other in zip(predictions, test, strict=True)]
    return expected_calibration_error(probabilities.max(axis=1).astype(np.float64), right)


def in_child(part: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one part in a process of its own, so that its peak memory is its own."""
    command = [sys.executable, __file__, "--part", part, "--epochs", str(options.epochs)]
    command += ["--messages", str(options.messages), "--rounds", str(options.rounds)]
    done = subprocess.run(
        [*command, *(["--quick"] if options.quick else [])], check=True, capture_output=True, text=True
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def run_part(part: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one part in this process."""
    epochs = 1 if options.quick else options.epochs
    if part == "speed":
        messages = 320 if options.quick else options.messages
        return speed(hwu64("train")[:messages], epochs=epochs, rounds=1 if options.quick else options.rounds)
    if part == "scope":
        return scope(an_intent=15 if options.quick else 50, epochs=epochs)
    size, _, learner = part.partition("/")
    if size == "ten":
        return ten(learner, draws=1 if options.quick else DRAWS, epochs=epochs)
    train = hwu64("train")[: 1_200 if options.quick else None]
    return quality(learner, train, hwu64("valid"), hwu64("test"), epochs=epochs)


def main() -> None:
    """Run all parts, or one."""
    full = [f"full/{learner}" for learner in LEARNERS]
    few_messages = [f"ten/{learner}" for learner in LEARNERS if learner != "held_out"]
    parts = ["speed", *full, *few_messages, "scope"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="Fewer messages, one epoch.")
    parser.add_argument("--part", choices=parts)
    parser.add_argument("--messages", type=int, default=1_280, help="Messages of the comparison of speeds.")
    parser.add_argument("--rounds", type=int, default=3, help="How often each of both trains in it.")
    parser.add_argument("--epochs", type=int, default=IntentTrainingConfig().epochs, help="Of all trainings.")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    if not DATA.is_dir():
        print(json.dumps({"benchmark": "intent_training", "skipped": f"no data sets at {DATA}"}))
        return
    if options.part:
        print(json.dumps(run_part(options.part, options)), flush=True)
        return
    found: dict[str, Any] = {"benchmark": "intent_training", "cpus": os.cpu_count(), "quick": options.quick}
    for part in parts:
        size, _, learner = part.partition("/")
        if learner:
            found.setdefault(size, {})[learner] = in_child(part, options)
        else:
            found[size] = in_child(part, options)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
