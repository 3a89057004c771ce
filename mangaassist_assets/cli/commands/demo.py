"""`mangaassist demo`: an invented manga store through two bundles of the loop, and what changed on unseen messages."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mangaassist_assets.cli.commands.bootstrap import run_bootstrap
from mangaassist_assets.cli.commands.evaluate import evaluate_intent, evaluate_reranker
from mangaassist_assets.cli.commands.loop import loop_tables, run_loop
from mangaassist_assets.cli.commands.serve import DEFAULT_DAGSTER_PORT, LOOPBACK
from mangaassist_assets.cli.commands.simulate import render_simulation, run_simulation
from mangaassist_assets.cli.options import Command, json_option
from mangaassist_assets.cli.output import console, emit, new_table, progress_bar, say
from mangaassist_assets.cli.session import HOME_VARIABLE, Session, open_session

if TYPE_CHECKING:
    from rich.table import Table

FIRST_BUNDLE = "2026.03.10-rc1"
SECOND_BUNDLE = "2026.03.24-rc2"
REVIEW_BUDGET = 70


@click.command(cls=Command, local_only=True)
@json_option
@click.pass_obj
def demo(home: str | None, *, as_json: bool) -> None:
    """An invented manga store through two release bundles of the loop, then a report of what changed and why."""
    with open_session(home, say) as session, progress_bar("simulating") as progress:
        report = run_demo(session, progress=progress)
    emit(report, render_demo, as_json=as_json)
    if report["errors"]:
        raise SystemExit(1)


def run_demo(session: Session, *, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Bootstrap, then for each bundle: traffic, the champion on unseen messages, the loop, the champion again.

    The unseen messages never reach the chatbot, a dataset or a model; both scores of a bundle are of the same file.
    """
    from mangaassist_assets.demo.generator import write_demo

    started = time.perf_counter()
    home = Path(os.environ[HOME_VARIABLE])  # as the open session set it
    paths = write_demo(home / "run" / "demo-data")
    bootstrap = run_bootstrap(session, training=paths.training, knowledge=paths.knowledge, intents=paths.intents)
    bundles = [
        _turn(session, FIRST_BUNDLE, paths.first_bundle, paths.unseen_first, progress),
        _turn(session, SECOND_BUNDLE, paths.second_bundle, paths.unseen_second, progress),
    ]
    return {
        "home": str(home),
        # Ports are kept from start to start where they are still free.
        "urls": {
            "dagster": f"http://{LOOPBACK}:{DEFAULT_DAGSTER_PORT}",
            "mlflow": os.environ["MLFLOW_TRACKING_URI"],
        },
        "bootstrap": bootstrap,
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
        review_budget=REVIEW_BUDGET,
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
        "loop": loop,
        "unseen": {
            "file": unseen.name,
            "before": before,
            "after": after,
            "challenger": {"intent_version": challenger["version"], "intent_accuracy": challenger["accuracy"]},
        },
    }


def _first_scores(session: Session, bundle: str, unseen: Path) -> dict[str, Any]:
    """Return the scores from before the loop's first turn on a bundle, also when the demo goes on or is repeated."""
    from mangaassist_assets.core.snapshots import canonical_json

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


def render_demo(report: dict[str, Any]) -> None:
    """Print both turns of the loop, then before and after on messages nobody has seen, then where to look."""
    from rich.panel import Panel

    terminal = console()
    for bundle in report["bundles"]:
        terminal.rule(bundle["release_bundle"])
        render_simulation(bundle["simulation"])
        terminal.print(loop_tables(bundle["loop"]))
        terminal.print(_before_after(bundle))
    terminal.print(
        Panel(
            "make dev   starts everything again; then open\n"
            f"Dagster    {report['urls']['dagster']}\n"
            "           Lineage, then Catalog → intent_evaluation: champion against challenger, the gate\n"
            f"MLflow     {report['urls']['mlflow']}\n"
            "           traces by bundle, training runs with data cards, registered models with aliases\n"
            f"state      {report['home']}\n"
            f"took       {report['seconds']:.0f} s",
            title="Look around",
            expand=False,
        )
    )


def _before_after(bundle: dict[str, Any]) -> Table:
    before, after = bundle["unseen"]["before"], bundle["unseen"]["after"]
    rows = [
        (
            label,
            f"{before[name]:.3f} (v{before[version]})",
            f"{after[name]:.3f} (v{after[version]})",
            f"{after[name] - before[name]:+.3f}",
        )
        for name, label, version in (
            ("intent_accuracy", "intent accuracy", "intent_version"),
            ("intent_macro_f1", "intent macro F1", "intent_version"),
            ("mrr@10", "reranked MRR@10", "reranker_version"),
        )
    ]
    challenger = bundle["unseen"]["challenger"]
    if challenger["intent_version"] != after["intent_version"]:
        # What the gate held back, beside what it let serve: no proof is not the same as no improvement.
        rows.append(
            (
                "challenger's intent accuracy, not promoted",
                "",
                f"{challenger['intent_accuracy']:.3f} (v{challenger['intent_version']})",
                f"{challenger['intent_accuracy'] - before['intent_accuracy']:+.3f}",
            )
        )
    title = f"{before['messages']} unseen messages of the failing kind ({bundle['unseen']['file']})"
    return new_table(title, ("champion", "before the loop", "after the loop", "difference"), rows)
