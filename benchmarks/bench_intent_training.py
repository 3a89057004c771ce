"""Training of the intent classifier on hwu64 against the default Trainer of transformers. One JSON line.

- `speed`: samples/s of fine-tuning for the same epochs on the same messages from the same weights, interleaved in one
  process. The baseline is `Trainer` with `DataCollatorWithPadding`, batches of 32 and all its defaults, on the packaged
  MiniLM as `DistilBertForSequenceClassification`, tokenized beforehand. `ratio` compares what learns (ours: the frozen
  layers once, then the loop), `ratio_whole` all that `train_intent_classifier` does: reading, tokenizing, both heads
  and writing included. `cpu_ratio` and `cpu_ratio_whole` are the same in CPU seconds, which other work on the machine
  disturbs less.
- `frozen_head`, `fine_tuned`, `baseline`: accuracy on `test`, trained on `train`, chosen on `valid`, each in a process
  of its own with its seconds and its peak memory; and what the threshold set on `valid` alone does on `test` and on
  messages of another domain (Bitext).
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
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.scope_scores import all_scores  # noqa: E402
from mangaassist_assets.models.examples import IntentExample  # noqa: E402
from mangaassist_assets.models.intent.candidates import frozen_candidate, prepare_starts  # noqa: E402
from mangaassist_assets.models.intent.examples import usable_examples  # noqa: E402
from mangaassist_assets.models.intent.fine_tuning import IntentObjective, IntentTrainingConfig  # noqa: E402
from mangaassist_assets.models.intent.model import IntentClassifier  # noqa: E402
from mangaassist_assets.models.intent.out_of_scope import separation  # noqa: E402
from mangaassist_assets.models.intent.training import IntentTrainingResult, train_intent_classifier  # noqa: E402
from mangaassist_assets.models.model_types import TrainingRequest  # noqa: E402
from mangaassist_assets.training.compute import Compute  # noqa: E402
from mangaassist_assets.training.loop import run_training_loop  # noqa: E402
from mangaassist_assets.training.objective import ignore_progress  # noqa: E402

DATA = ROOT.parent / "shared" / "data"
BATCH = 32


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


class Clock:
    """Wall and CPU seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def seconds(self) -> tuple[float, float]:
        """Return wall and CPU seconds."""
        wall, cpu = self._began
        return time.perf_counter() - wall, time.process_time() - cpu


def baseline(train: list[IntentExample], epochs: int, folder: str) -> tuple[tuple[float, float], Any, list[str]]:
    """Train with the default Trainer; return wall and CPU seconds of its training, the model and its intents."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import (
        DataCollatorWithPadding,
        DistilBertConfig,
        DistilBertForSequenceClassification,
        PreTrainedTokenizerFast,
        Trainer,
        TrainingArguments,
    )

    from mangaassist_assets.models.encoders.pretrained import load_base, tokenize

    base = load_base()
    intents = sorted({one.intent for one in train})
    config = DistilBertConfig(**base.encoder.shape.to_config(), num_labels=len(intents))
    model = DistilBertForSequenceClassification(config)
    model.distilbert.load_state_dict(base.encoder.state_dict())
    sequences = tokenize(base.tokenizer, [one.text for one in train], max_tokens=64)
    rows = [
        {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": intents.index(one.intent)}
        for ids, one in zip(sequences, train, strict=True)
    ]
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=base.tokenizer, **special)
    arguments = TrainingArguments(
        output_dir=folder,
        num_train_epochs=epochs,
        per_device_train_batch_size=BATCH,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        seed=0,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=DataCollatorWithPadding(tokenizer))
    clock = Clock()
    trainer.train()
    return clock.seconds(), model, intents


def ours(train: list[IntentExample], epochs: int) -> tuple[float, float]:
    """Run the frozen layers and the loop; return their seconds. The head it starts from is fitted beforehand."""
    config = IntentTrainingConfig(epochs=epochs, max_steps=10**9)
    examples = usable_examples(train, [], minimum_validation=config.minimum_validation)
    compute = Compute.detect()
    clock = Clock()
    (start,), _ = prepare_starts("packaged-minilm", None, examples, config=config, compute=compute)
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
            seconds["baseline"].append(baseline(train, epochs, folder)[0])
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


def quality(part: str, *, limit: int, epochs: int) -> dict[str, Any]:
    """Train one of the three on hwu64 and ask it about `test`."""
    train, valid, test = hwu64("train")[:limit], hwu64("valid"), hwu64("test")
    texts = [one.text for one in test]
    began = time.perf_counter()
    extra: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        if part == "baseline":
            (seconds, _), model, intents = baseline(train, epochs, folder)
            predictions = [intents[number] for number in _ask(model, texts)]
            extra = {"samples_per_second": round(epochs * len(train) / seconds, 1)}
        else:
            config = IntentTrainingConfig(fine_tune=part == "fine_tuned", epochs=epochs)
            result = _train(train, valid, config, Path(folder) / "model")
            seconds = time.perf_counter() - began
            classifier = IntentClassifier.load(result.directory)
            judged = classifier.judge(texts)
            predictions = [classifier.labels[number] for number in judged.probabilities.argmax(axis=1)]
            extra = {
                "kept": result.kept,
                "valid_accuracy": round(result.metrics["validation_accuracy"], 4),
                "calibration_error": round(_calibration_error(judged.probabilities, predictions, test), 4),
                "in_scope_accepted": round(float(judged.in_scope.mean()), 3),
                "foreign_refused": round(float(1 - classifier.judge(bitext(1_000)).in_scope.mean()), 3),
            }
            if result.history:
                extra["samples_per_second"] = round(result.metrics["fine_tuned_samples_per_second"], 1)
    right = sum(one == other.intent for one, other in zip(predictions, test, strict=True))
    return {
        "accuracy": round(right / len(test), 4),
        "seconds": round(seconds, 1),
        **extra,
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
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
            classifier = IntentClassifier.load(result.directory)
        head = classifier.head_for(classifier.labels)
        train_features = classifier.features([one.text for one in learned])
        targets = np.array([classifier.labels.index(one.intent) for one in learned])
        scores = {}
        for side, texts in asked.items():
            features = classifier.features(texts)
            scores[side] = all_scores(
                features=features.astype(np.float64),
                logits=head.logits(features).astype(np.float64),
                train_features=train_features.astype(np.float64),
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


def _ask(model: Any, texts: list[str]) -> list[int]:  # noqa: ANN401 - a model of transformers
    import torch

    from mangaassist_assets.models.encoders.pretrained import length_batches, load_base, pad_ids, tokenize

    model.eval()
    sequences = tokenize(load_base().tokenizer, texts, max_tokens=64)
    found = [0] * len(texts)
    with torch.no_grad():
        for batch in length_batches([len(one) for one in sequences], max_tokens=4096):
            ids, mask = (one.to(model.device) for one in pad_ids([sequences[one] for one in batch]))
            logits = model(input_ids=ids, attention_mask=mask.long()).logits
            for place, answer in zip(batch, logits.argmax(dim=1).tolist(), strict=True):
                found[place] = answer
    return found


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
    command = [sys.executable, __file__, "--part", part, *(["--quick"] if options.quick else [])]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Run all parts, or one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="Fewer messages, one epoch.")
    parser.add_argument("--part", choices=["speed", "frozen_head", "fine_tuned", "baseline", "scope"])
    parser.add_argument("--messages", type=int, default=640, help="Messages of the comparison of speeds.")
    parser.add_argument("--rounds", type=int, default=3, help="How often each of both trains in it.")
    parser.add_argument("--epochs", type=int, default=IntentTrainingConfig().epochs, help="Of all trainings.")
    options = parser.parse_args()
    if not DATA.is_dir():
        print(json.dumps({"benchmark": "intent_training", "skipped": f"no data sets at {DATA}"}))
        return
    epochs = 1 if options.quick else options.epochs
    if options.part == "speed":
        messages = 320 if options.quick else options.messages
        found = speed(hwu64("train")[:messages], epochs=epochs, rounds=1 if options.quick else options.rounds)
    elif options.part == "scope":
        found = scope(an_intent=15 if options.quick else 50, epochs=epochs)
    elif options.part:
        found = quality(options.part, limit=1_200 if options.quick else 10**9, epochs=epochs)
    else:
        parts = ("speed", "frozen_head", "fine_tuned", "baseline", "scope")
        found = {"benchmark": "intent_training", "cpus": os.cpu_count(), "quick": options.quick}
        found |= {part: in_child(part, options) for part in parts}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
