"""What cross-fitting of the intent classifier costs, and how honest its accuracy is. One JSON line.

hwu64's messages are traffic that people labelled, of one shopper each. The registered training learns from all of
them; then the folds' models do, and answer what they have not seen. `ratio` is the cost of all folds together over that
of the registered training, in seconds and in CPU seconds. `out_of_fold` is their accuracy, `registered` that of the
registered model on hwu64's `test`, which nobody has seen, and `fold_models_bias` the difference: models of folds learn
from fewer labels, and for fewer epochs, so it should be negative and small.

`--an_intent` takes so many messages of each intent; 0 takes all.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.bench_intent_training import few, hwu64  # noqa: E402
from benchmarks.clock import Clock  # noqa: E402
from mangaassist_assets.datasets.building.folds import folds_of  # noqa: E402
from mangaassist_assets.datasets.schema import INTENT_SCHEMA  # noqa: E402
from mangaassist_assets.models.artifacts import artifact_settings  # noqa: E402
from mangaassist_assets.models.intent.model_type import IntentModelType  # noqa: E402
from mangaassist_assets.models.model_types import TrainingRequest  # noqa: E402
from mangaassist_assets.training.checkpoints import Checkpoints  # noqa: E402
from mangaassist_assets.training.objective import ignore_progress  # noqa: E402


def dataset(an_intent: int, *, draw: int) -> pl.DataFrame:
    """Return messages of hwu64's train as rows of an intent dataset, a tenth of them on validation."""
    rows = hwu64("train")
    chosen = few(rows, an_intent, draw) if an_intent else rows
    sides = np.random.default_rng(draw).permutation(len(chosen)) % 10
    return pl.DataFrame(
        [
            {
                "example_id": one.example_id,
                "text": one.text,
                "intent": one.intent,
                "confidence": 1.0,
                "label_kind": "human",
                "split": "train" if side else "validation",
                "session_id": f"session of {one.example_id}",
            }
            for one, side in zip(chosen, sides.tolist(), strict=True)
        ],
        schema=INTENT_SCHEMA,
    )


def measure(an_intent: int, *, draw: int) -> dict[str, Any]:
    """Train the registered model and the folds' models."""
    model_type, frame, test = IntentModelType(), dataset(an_intent, draw=draw), hwu64("test")
    with tempfile.TemporaryDirectory() as folder:
        train, validation = (model_type.examples(frame, side) for side in ("train", "validation"))
        clock = Clock()
        trained = model_type.train(TrainingRequest(train=train, validation=validation, output=Path(folder) / "model"))
        registered = clock.seconds()
        model = model_type.load(trained.directory)
        accuracy = float(model_type.evaluate(model, test, version="1").outcomes.mean())
        clock = Clock()
        folds = folds_of(frame, count=model_type.folds)
        examples = [*train, *validation]
        learner = model_type.fold_learner(examples, artifact_settings(trained.directory))
        outcomes = []
        for fold in folds:
            results = learner.answers(
                fold.learned,
                [one for one in examples if one.example_id in fold.tests],
                version="1",
                checkpoints=Checkpoints(Path(folder) / "checkpoints" / str(fold.number), "fold"),
                progress=ignore_progress,
            )
            outcomes.append(results.outcomes)
        crossed = clock.seconds()
    right = np.concatenate(outcomes)
    return {
        "messages": len(frame),
        "draw": draw,
        "kept": trained.kept,
        "folds": len(folds),
        "seconds": {"registered": round(registered[0], 1), "folds": round(crossed[0], 1)},
        "cpu_seconds": {"registered": round(registered[1], 1), "folds": round(crossed[1], 1)},
        "ratio": round(crossed[0] / registered[0], 2),
        "cpu_ratio": round(crossed[1] / registered[1], 2),
        "out_of_fold": round(float(right.mean()), 4),
        "registered": round(accuracy, 4),
        "bias": round(float(right.mean()) - accuracy, 4),
        "standard_error": round(float(np.sqrt(right.var() / len(right) + accuracy * (1 - accuracy) / len(test))), 4),
    }


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--an-intent", type=int, default=10)
    parser.add_argument("--draw", type=int, default=0)
    options = parser.parse_args()
    print(json.dumps(measure(options.an_intent, draw=options.draw)))


if __name__ == "__main__":
    main()
