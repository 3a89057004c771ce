"""Label noise with planted flips, and reviewers with planted behaviour, on hwu64 and Bitext. Prints one JSON line.

- `noise`: so many labels of a sample are flipped, to any other intent or to the nearest one; `mean` is what is
  estimated, `covered` in how many samples the 95 % interval holds the planted share, `width` the interval's mean width,
  `found` the share of flipped labels that are suspects and `right` the share of suspects that were flipped. The
  baseline of the same run is confident learning (Northcutt, Jiang & Chuang 2021) with Wilson's interval of suspects.
  The sets have wrong labels of their own, hwu64 more than Bitext: their true share is above the planted one.
- `reviewers`: 60 answers of one person, all alike, at random, or true, beside 10 true ones of another; half of the true
  ones are about messages that a model of the corpus gets wrong, as a failure queue asks. `held_back` counts samples.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mangaassist_assets.core.intervals import wilson_interval  # noqa: E402
from mangaassist_assets.labelling.noise.label_noise import (  # noqa: E402
    MINIMUM_OF_INTENT,
    find_label_noise,
    nearest_intents,
    out_of_fold,
    stratified_folds,
)
from mangaassist_assets.labelling.noise.mixture import softmax  # noqa: E402
from mangaassist_assets.labelling.people.policy import EVERYBODY  # noqa: E402
from mangaassist_assets.labelling.people.standing import GivenLabel, judge_people  # noqa: E402
from resources.search.embeddings import LocalEmbedderResource  # noqa: E402

DATA = ROOT.parent / "shared" / "data"
SHARES = (0.0, 0.05, 0.1, 0.2)
SAMPLES = (("hwu64", 3_000, 64), ("hwu64", 600, 64), ("hwu64", 300, 20), ("bitext", 3_000, 27), ("bitext", 300, 27))
Set = tuple[NDArray[np.float32], NDArray[np.str_]]


def hwu64() -> tuple[list[str], list[str]]:
    """Return messages and intents."""
    folder = DATA / "hwu64"
    return (
        (folder / "train.seq.in").read_text("utf-8").splitlines(),
        (folder / "train.label").read_text("utf-8").splitlines(),
    )


def bitext(count: int = 8_000) -> tuple[list[str], list[str]]:
    """Return distinct messages and intents."""
    with (DATA / "bitext" / "bitext20k.csv").open(encoding="utf-8-sig", newline="") as handle:
        rows = {row["utterance"].strip().lower(): row for row in csv.DictReader(handle)}
    chosen = np.random.default_rng(0).permutation(sorted(rows))[:count]
    return [rows[one]["utterance"] for one in chosen], [rows[one]["intent"] for one in chosen]


def sample(data: Set, count: int, intents: int, seed: int) -> Set:
    """Return so many messages of so many intents."""
    generator = np.random.default_rng(seed)
    vectors, labels = data
    names = np.unique(labels)
    chosen = generator.choice(names, min(intents, len(names)), replace=False)
    rows = generator.permutation(np.flatnonzero(np.isin(labels, chosen)))[:count]
    return vectors[rows], labels[rows]


def plant(data: Set, share: float, kind: str, seed: int) -> tuple[list[str], set[str]]:
    """Return labels of which a share is flipped, and the ids of those."""
    generator = np.random.default_rng(1_000 + seed)
    vectors, labels = data
    names, given = np.unique(labels, return_inverse=True)
    rows = generator.choice(len(given), round(share * len(given)), replace=False)
    flipped = given.copy()
    if kind == "random":
        flipped[rows] = (given[rows] + generator.integers(1, len(names), len(rows))) % len(names)
    else:
        flipped[rows] = nearest_intents(vectors, given, len(names))[given[rows]]
    return names[flipped].tolist(), {example_id(row) for row in rows.tolist()}


def example_id(row: int) -> str:
    """Return the id of a row."""
    return f"e{row:05}"


def confident_learning(vectors: NDArray[np.float32], labels: Sequence[str]) -> tuple[set[str], int]:
    """Return suspects by confident learning, and how many labels were judged: the share of suspects is the baseline."""
    names, given = np.unique(labels, return_inverse=True)
    fold = stratified_folds([example_id(row) for row in range(len(given))], given)
    rows = np.arange(len(given))
    best, lowest = np.zeros((len(given), len(names))), np.inf
    for scores in out_of_fold(vectors, given, fold, len(names)):
        for sharpness in (5.0, 8.0, 12.0, 16.0, 20.0, 25.0, 30.0, 40.0):
            probabilities = softmax(scores, sharpness)
            loss = -np.log(np.maximum(probabilities[rows, given], 1e-6)).mean()
            if loss < lowest:
                best, lowest = probabilities, loss
    thresholds = np.array([best[given == intent, intent].mean() for intent in range(len(names))])
    reached = np.where(best >= thresholds, best, -1.0)
    likely = np.where(reached.max(axis=1) >= 0, reached.argmax(axis=1), given)
    judged = np.bincount(given)[given] >= MINIMUM_OF_INTENT
    found = np.flatnonzero(judged & (best[rows, likely] > best[rows, given]))
    return {example_id(row) for row in found.tolist()}, int(judged.sum())


def measure(data: Set, count: int, intents: int, *, share: float, kind: str, seeds: int) -> dict[str, Any]:
    """Return what is estimated of planted flips over several samples."""
    rows: list[dict[str, Any]] = []
    for seed in range(seeds):
        vectors, truth = chosen = sample(data, count, intents, seed)
        labels, flipped = plant(chosen, share, kind, seed)
        report = find_label_noise([example_id(row) for row in range(len(truth))], labels, vectors)
        suspects = {one.example_id for one in report.suspects}
        accused, judged = confident_learning(vectors, labels)
        wilson = wilson_interval(len(accused), judged)
        rows += [
            {"who": "ours", **_row(report.estimated_rate, report.low, report.high, suspects, flipped, share)},
            {"who": "baseline", **_row(wilson.value, wilson.low, wilson.high, accused, flipped, share)},
        ]
    return {
        who: {
            name: round(float(np.mean([row[name] for row in rows if row["who"] == who])), 3)
            for name in ("mean", "width", "found", "right")
        }
        | {"covered": f"{sum(row['covered'] for row in rows if row['who'] == who)} of {seeds}"}
        for who in ("ours", "baseline")
    }


def _row(
    rate: float | None, low: float | None, high: float | None, suspects: set[str], flipped: set[str], share: float
) -> dict[str, Any]:
    if rate is None or low is None or high is None:
        raise SystemExit("a sample is too small for an estimate: take a larger one")
    both = len(suspects & flipped)
    return {
        "mean": rate,
        "width": high - low,
        "covered": low <= share <= high,
        "found": both / len(flipped) if flipped else 0.0,
        "right": both / len(suspects) if suspects else 0.0,
    }


def reviewed(data: Set, how: str, seed: int) -> Iterator[GivenLabel]:
    """Yield a small corpus of half of 32 intents, answers of `eve`, and a few of `aki`."""
    generator = np.random.default_rng(seed)
    vectors, labels = data
    names = generator.choice(np.unique(labels), min(32, len(np.unique(labels))), replace=False)
    known = names[: len(names) // 2]
    corpus = np.concatenate([generator.permutation(np.flatnonzero(labels == name))[:10] for name in known])
    for row in corpus.tolist():
        yield GivenLabel(example_id=f"c{row}", intent=str(labels[row]), vector=vectors[row])
    centres = np.stack([vectors[corpus][labels[corpus] == name].mean(axis=0) for name in known])
    pool = np.setdiff1d(np.flatnonzero(np.isin(labels, names)), corpus)
    wrong = pool[known[(vectors[pool] @ centres.T).argmax(axis=1)] != labels[pool]]
    asked = np.unique(np.concatenate([generator.choice(wrong, 35, replace=False), generator.choice(pool, 35)]))
    for place, row in enumerate(generator.permutation(asked).tolist()):
        person = "aki" if place < 10 else "eve"
        said = str(labels[row])
        if person == "eve" and how != "true":
            said = str(known[0] if how == "alike" else generator.choice(known))
        yield GivenLabel(example_id=f"t{row}", intent=said, vector=vectors[row], people=(person,))


def reviewers(data: Set, seeds: int) -> dict[str, Any]:
    """Return how often each reviewer is held back."""
    found: dict[str, Any] = {}
    for how in ("alike", "random", "true"):
        held = [judge_people(list(reviewed(data, how, seed)), EVERYBODY).held_back for seed in range(seeds)]
        found[how] = {person: f"{sum(person in one for one in held)} of {seeds}" for person in ("eve", "aki")}
    return found


def main() -> None:
    """Read the options, run, print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="Samples for each share of planted flips.")
    options = parser.parse_args()
    if not (DATA / "hwu64").is_dir():
        print(json.dumps({"benchmark": "label_noise", "skipped": "../shared/data is missing"}))
        return
    started = time.perf_counter()
    embedder = LocalEmbedderResource().embedder()
    sets: dict[str, Set] = {}
    for name, read in (("hwu64", hwu64), ("bitext", bitext)):
        texts, labels = read()
        sets[name] = embedder.embed(texts), np.array(labels)
    noise = [
        {
            "set": name,
            "labels": count,
            "planted": share,
            "kind": kind,
            **measure(sets[name], count, intents, share=share, kind=kind, seeds=options.seeds),
        }
        for name, count, intents in SAMPLES
        for kind in ("random", "nearest")
        for share in SHARES
        if share or kind == "random"
    ]
    covered = {
        who: sum(int(row[who]["covered"].split()[0]) for row in noise) / (len(noise) * options.seeds)
        for who in ("ours", "baseline")
    }
    print(
        json.dumps(
            {
                "benchmark": "label_noise",
                "seeds": options.seeds,
                "covered": round(covered["ours"], 3),
                "baseline_covered": round(covered["baseline"], 3),
                "noise": noise,
                "reviewers": {name: reviewers(data, 4 * options.seeds) for name, data in sets.items()},
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
