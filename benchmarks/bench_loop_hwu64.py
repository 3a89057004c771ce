"""The whole loop on public data: hwu64 as training and traffic, feedbackqa's CDC passages as knowledge.

Bootstraps on ten messages each of half of the intents, simulates 600 messages over all of them, runs the loop, and
scores the champion before and the challenger after on the test set. Prints one JSON line; the baseline is the
champion of the same run. `--review-budget` is how many turns a human reviews: those that the review queue asks about.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import resource
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
MESSAGES_AN_INTENT = 10
TRAFFIC = 600
USERS = 150


def read_hwu64(split: str) -> list[tuple[str, str]]:
    """Return (message, intent) of one split."""
    texts = (DATA / "hwu64" / f"{split}.seq.in").read_text("utf-8").splitlines()
    labels = (DATA / "hwu64" / f"{split}.label").read_text("utf-8").splitlines()
    return list(zip(texts, labels, strict=True))


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def prepare(folder: Path, seed: int) -> tuple[Path, Path, Path]:
    """Write training, traffic and test files; no message of the training file is in the traffic."""
    generator = random.Random(seed)
    by_intent: dict[str, list[str]] = defaultdict(list)
    for text, intent in read_hwu64("train"):
        by_intent[intent].append(text)
    intents = sorted(by_intent)
    known = set(generator.sample(intents, len(intents) // 2))
    training, rest = [], []
    for intent in intents:
        messages = generator.sample(by_intent[intent], len(by_intent[intent]))
        if intent in known:
            training += [{"text": text, "intent": intent} for text in messages[:MESSAGES_AN_INTENT]]
        rest += [(text, intent) for text in messages[MESSAGES_AN_INTENT:]]
    traffic = [
        {"text": text, "intent": intent, "user_id": f"user-{generator.randrange(USERS)}", "session_id": f"session-{n}"}
        for n, (text, intent) in enumerate(generator.sample(rest, TRAFFIC))
    ]
    return (
        write_lines(folder / "training.jsonl", training),
        write_lines(folder / "traffic.jsonl", traffic),
        write_lines(folder / "test.jsonl", [{"text": text, "intent": intent} for text, intent in read_hwu64("test")]),
    )


def write_intents(folder: Path) -> Path:
    """Write the catalogue of all intents."""
    path = folder / "intents.txt"
    path.write_text("".join(f"{intent}\n" for intent in sorted({intent for _, intent in read_hwu64("train")})), "utf-8")
    return path


def by_intent(figures: dict[str, Any], name: str) -> dict[str, float]:
    """Return one figure of each intent that the test set has."""
    return {row["intent"]: row[name] for row in figures["intents"] if row["support"]}


def run(home: Path, folder: Path, *, review_budget: int, seed: int) -> dict[str, Any]:
    """Run the loop and return the figures."""
    sys.path.insert(0, str(ROOT))
    from mangaassist_assets.cli.commands.bootstrap import run_bootstrap
    from mangaassist_assets.cli.commands.evaluate import evaluate_intent
    from mangaassist_assets.cli.commands.loop import run_loop
    from mangaassist_assets.cli.commands.simulate import run_simulation
    from mangaassist_assets.cli.session import open_session
    from mangaassist_assets.datasets.versions.stored_versions import read_dataset
    from tests.support.feedbackqa import write_knowledge

    training, traffic, test = prepare(folder, seed)
    write_knowledge(DATA / "feedbackqa" / "CDC", folder / "knowledge")
    bundle = "hwu64-rc1"
    started = time.perf_counter()
    with open_session(str(home), lambda line: print(line, file=sys.stderr)) as session:
        # Half of the intents are new to the champion, and declared: reviews may name them.
        run_bootstrap(session, training=training, knowledge=folder / "knowledge", intents=write_intents(folder))
        before = evaluate_intent(session, data=test, model="champion")
        simulation = run_simulation(
            session,
            utterances=traffic,
            release_bundle=bundle,
            review_budget=review_budget,
            feedback_noise=0.05,
            limit=None,
            seed=seed,
        )
        loop = run_loop(session, release_bundle=bundle)
        after = evaluate_intent(session, data=test, model="challenger")
        frame = read_dataset(session.resources.store.snapshots(), "intent_dataset", bundle).frame
    reviewed = sorted(set(frame.filter(frame["label_kind"] == "human")["intent"]))
    pipeline = next(pipeline for pipeline in loop["pipelines"] if pipeline["model"] == "intent_classifier")
    worse = {
        figure: {
            intent: [round(by_intent(before, figure).get(intent, 0.0), 3), round(value, 3)]
            for intent, value in by_intent(after, figure).items()
            if intent in reviewed and value < by_intent(before, figure).get(intent, 0.0)
        }
        for figure in ("f1", "recall")
    }
    return {
        "benchmark": "loop_hwu64",
        "review_budget": review_budget,
        "traces": simulation["traces_stored"],
        "failing_turns": simulation["failing"],
        "reviews": simulation["reviews"],
        "reviews_of_the_audit": simulation["asked_for_audit"],
        "reviewed_intents": len(reviewed),
        "challenger_accuracy": round(after["accuracy"], 4),
        "champion_accuracy": round(before["accuracy"], 4),
        "gain_points": round(100 * (after["accuracy"] - before["accuracy"]), 1),
        "reviewed_intents_worse_by_f1": worse["f1"],
        "reviewed_intents_worse_by_recall": worse["recall"],
        "verdict": pipeline["verdict"],
        "reasons": pipeline["reasons"],
        "loop_errors": loop["errors"],
        "seconds": round(time.perf_counter() - started, 1),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    """Read the options, run, print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--review-budget", type=int, default=100)
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args()
    if not (DATA / "hwu64").is_dir():
        print(json.dumps({"benchmark": "loop_hwu64", "skipped": "../shared/data is missing"}))
        return
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        (Path(folder) / "data").mkdir()
        home, data = Path(folder) / "home", Path(folder) / "data"
        result = run(home, data, review_budget=options.review_budget, seed=options.seed)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
