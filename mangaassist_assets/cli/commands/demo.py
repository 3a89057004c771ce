"""`mangaassist demo`: an invented manga store through two bundles of the loop, and what changed on unseen messages."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mangaassist_assets.cli.commands.bootstrap import run_bootstrap
from mangaassist_assets.cli.commands.evaluate import evaluate_intent, evaluate_reranker
from mangaassist_assets.cli.commands.loop import run_loop
from mangaassist_assets.cli.commands.serve import DEFAULT_DAGSTER_PORT, LOOPBACK
from mangaassist_assets.cli.commands.simulate import run_simulation
from mangaassist_assets.cli.session import Session
from mangaassist_assets.core.snapshots import canonical_json

FIRST_BUNDLE = "2026.03.10-rc1"
SECOND_BUNDLE = "2026.03.24-rc2"
LABEL_RATE = 0.6


def run_demo(session: Session, *, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Bootstrap, then for each bundle: traffic, the champion on unseen messages, the loop, the champion again.

    The unseen messages never reach the chatbot, a dataset or a model; both scores of a bundle are of the same file.
    """
    from mangaassist_assets.demo.generator import write_demo

    started = time.perf_counter()
    paths = write_demo(session.home.root / "run" / "demo-data")
    bootstrap = run_bootstrap(session, training=paths.training, knowledge=paths.knowledge)
    bundles = [
        _turn(session, FIRST_BUNDLE, paths.first_bundle, paths.unseen_first, progress),
        _turn(session, SECOND_BUNDLE, paths.second_bundle, paths.unseen_second, progress),
    ]
    return {
        "home": str(session.home.root),
        # Ports are kept from start to start where they are still free.
        "urls": {
            "dagster": f"http://{LOOPBACK}:{DEFAULT_DAGSTER_PORT}",
            "mlflow": session.environment["MLFLOW_TRACKING_URI"],
        },
        "bootstrap": bootstrap.to_dict(),
        "bundles": bundles,
        "seconds": round(time.perf_counter() - started, 1),
        "errors": [error for bundle in bundles for error in bundle["loop"]["errors"]],
    }


def _turn(
    session: Session, bundle: str, traffic: Path, unseen: Path, progress: Callable[[int, int], None] | None
) -> dict[str, Any]:
    session.progress(f"{bundle}: shoppers write")
    simulation = run_simulation(
        session,
        utterances=traffic,
        release_bundle=bundle,
        label_rate=LABEL_RATE,
        feedback_noise=0.05,
        limit=None,
        seed=7,
        progress=progress,
    )
    before = _first_scores(session, bundle, unseen)
    loop = run_loop(session, release_bundle=bundle)
    after = _scores(session, unseen)
    challenger = evaluate_intent(session, data=unseen, model="challenger")
    return {
        "release_bundle": bundle,
        "simulation": simulation,
        "loop": loop.to_dict(),
        "unseen": {
            "file": unseen.name,
            "before": before,
            "after": after,
            "challenger": {"intent_version": challenger["version"], "intent_accuracy": challenger["accuracy"]},
        },
    }


def _first_scores(session: Session, bundle: str, unseen: Path) -> dict[str, Any]:
    """Return the scores from before the loop's first turn on a bundle, also when the demo goes on or is repeated."""
    store = session.resources.store.snapshots()
    stored = store.find("demo_scores_before", partition=bundle)
    if stored is None:
        stored = store.write(
            "demo_scores_before", {"scores.json": canonical_json(_scores(session, unseen))}, partition=bundle
        )
    scores: dict[str, Any] = store.read_json(stored, "scores.json")
    return scores


def _scores(session: Session, unseen: Path) -> dict[str, Any]:
    intent = evaluate_intent(session, data=unseen, model="champion")
    reranker = evaluate_reranker(session, data=unseen, model="champion")
    return {
        "intent_version": intent["version"],
        "messages": intent["messages"],
        "intent_accuracy": intent["accuracy"],
        "intent_macro_f1": intent["macro_f1"],
        "reranker_version": reranker["version"],
        "mrr@10": reranker["reranked_mrr@10"],
        "retriever_mrr@10": reranker["retriever_mrr@10"],
    }
