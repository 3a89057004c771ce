"""How results look on a terminal. Figures come from the reports as they are; nothing is computed here but shares."""

from __future__ import annotations

from typing import Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

_VERDICTS = {"pass": "green", "fail": "red", "insufficient_evidence": "yellow"}


def _console() -> Console:
    return Console(highlight=False, soft_wrap=False)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", expand=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _verdict(word: str | None) -> Text:
    return Text(word or "not reached", style=_VERDICTS.get(word or "", "dim"))


def render_bootstrap(report: dict[str, Any]) -> None:
    """Print what a bootstrap left."""
    table = _table("Bootstrapped", "what", "is")
    table.add_row("training messages", f"{report['utterances']} ({report['rejected_lines']} lines rejected)")
    if golden := report["golden"]:
        parts = ("with_intent", "with_documents", "with_answer", "rejected_lines")
        told = ", ".join(f"{golden[part]} {part.replace('_', ' ')}" for part in parts)
        table.add_row("golden set", f"{golden['messages']} messages: {told}")
    table.add_row("knowledge", f"{report['documents']} documents, {report['chunks']} chunks")
    table.add_row("index generation", str(report["generation"]))
    for name, version in report["champions"].items():
        table.add_row(f"champion {name}", f"version {version}")
    for name, reason in report["left_out"].items():
        table.add_row(f"champion {name}", Text(f"left out: {reason}"))
    table.add_row("configuration", ", ".join(f"{name} {version}" for name, version in report["configuration"].items()))
    _console().print(table)


def render_simulation(report: dict[str, Any]) -> None:
    """Print what was driven and what people said."""
    table = _table(f"Traffic of {report['release_bundle']}", "what", "turns")
    for key in ("turns", "already_there", "failing", "wrong_intents", "missing_documents", "errors", "blocked"):
        table.add_row(key.replace("_", " "), str(report[key]))
    for key in ("thumbs_up", "thumbs_down", "reviews", "traces_stored"):
        table.add_row(key.replace("_", " "), str(report[key]))
    _console().print(table)


def _clusters(report: dict[str, Any]) -> Table:
    shown = report["clusters"][:8]
    title = f"Failure clusters ({len(shown)} of {len(report['clusters'])})"
    table = _table(title, "id", "turns", "blamed on → feeds", "name and an example")
    for cluster in shown:
        example = cluster["examples"][0] if cluster["examples"] else ""
        table.add_row(
            f"{cluster['cluster_id']}\n{cluster['state']}",
            str(cluster["size"]),
            f"{cluster['stage']} →\n{cluster['feeds']}",
            Text(f"{cluster['name']}\n“{example[:90]}”"),
        )
    return table


def _pipelines(report: dict[str, Any]) -> Group:
    columns = ("model", "train / validation / test", "champion", "challenger", "verdict", "serving")
    table = _table("Champion against challenger, on the same held-out examples", *columns)
    whys: list[Text] = []
    for pipeline in report["pipelines"]:
        judged = pipeline["verdict"] is not None
        table.add_row(
            pipeline["model"],
            " / ".join(str(pipeline["examples"].get(side, 0)) for side in ("train", "validation", "test")),
            f"v{pipeline['champion_version']}  {_figure(pipeline['champion_score'])}" if judged else "–",
            f"v{pipeline['challenger_version']}  {_figure(pipeline['challenger_score'])}" if judged else "–",
            _verdict(pipeline["verdict"]),
            f"v{pipeline['deployed_version']}" if pipeline["deployed_version"] else "–",
        )
        left_out = f"left out: {pipeline['left_out']}" if pipeline["left_out"] else ""
        why = pipeline["error"] or left_out or "; ".join(pipeline["reasons"])
        whys.append(Text(f"  {pipeline['model']} ({pipeline['metric'] or 'not measured'}): {why}", style="dim"))
    return Group(table, *whys)


def _loop(report: dict[str, Any]) -> Group:
    head = _table(f"The loop on {report['release_bundle']}", "what", "is")
    head.add_row("turns", f"{report['turns']} ({report['quarantined']} in quarantine)")
    blame = ", ".join(f"{stage} {count}" for stage, count in report["blame"].items()) or "none"
    head.add_row("failed turns", f"{report['failures']}, blamed on: {blame}")
    same = report["generation"] == report["generation_before"]
    head.add_row("index generation", f"{report['generation']}{' (unchanged)' if same else ' (new)'}")
    head.add_row("release manifest", (report["manifest_digest"] or "not written")[:16])
    parts: list[Any] = [head, _clusters(report), _pipelines(report)]
    parts += [Text(error, style="red") for error in report["errors"]]
    return Group(*parts)


def render_loop(report: dict[str, Any]) -> None:
    """Print failures, clusters, the comparison of models, verdicts, what was deployed."""
    _console().print(_loop(report))


def render_intent_evaluation(figures: dict[str, Any]) -> None:
    """Print the figures of an intent classifier, its worst intents first."""
    console = _console()
    console.print(
        f"{figures['model']} version {figures['version']} on {figures['messages']} messages: "
        f"accuracy {figures['accuracy']:.3f}, macro F1 {figures['macro_f1']:.3f}"
    )
    table = _table("Intents, the worst first", "intent", "precision", "recall", "F1", "messages")
    for row in sorted(figures["intents"], key=lambda row: (row["f1"], row["intent"])):
        cells = (_figure(row["precision"]), _figure(row["recall"]), _figure(row["f1"]), str(row["support"]))
        table.add_row(Text(row["intent"]), *cells)
    console.print(table)


def render_reranker_evaluation(figures: dict[str, Any]) -> None:
    """Print the retriever alone beside the reranker."""
    table = _table(
        f"{figures['model']} version {figures['version']} on {figures['messages']} questions",
        "figure",
        "retriever alone",
        "after reranking",
    )
    for name in ("mrr@10", "ndcg@10"):
        table.add_row(name, _figure(figures[f"retriever_{name}"]), _figure(figures[f"reranked_{name}"]))
    table.add_row("relevant document among the candidates", _figure(figures["recall_of_candidates"]), "")
    _console().print(table)


def render_demo(report: dict[str, Any]) -> None:
    """Print both turns of the loop, then before and after on messages nobody has seen, then where to look."""
    console = _console()
    for bundle in report["bundles"]:
        console.rule(bundle["release_bundle"])
        render_simulation(bundle["simulation"])
        console.print(_loop(bundle["loop"]))
        console.print(_before_after(bundle))
    console.print(
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
    table = _table(
        f"{before['messages']} unseen messages of the failing kind ({bundle['unseen']['file']})",
        "champion",
        "before the loop",
        "after the loop",
        "difference",
    )
    for name, label, version in (
        ("intent_accuracy", "intent accuracy", "intent_version"),
        ("intent_macro_f1", "intent macro F1", "intent_version"),
        ("mrr@10", "reranked MRR@10", "reranker_version"),
    ):
        table.add_row(
            label,
            f"{before[name]:.3f} (v{before[version]})",
            f"{after[name]:.3f} (v{after[version]})",
            f"{after[name] - before[name]:+.3f}",
        )
    challenger = bundle["unseen"]["challenger"]
    if challenger["intent_version"] != after["intent_version"]:
        # What the gate held back, beside what it let serve: no proof is not the same as no improvement.
        table.add_row(
            "challenger's intent accuracy, not promoted",
            "",
            f"{challenger['intent_accuracy']:.3f} (v{challenger['intent_version']})",
            f"{challenger['intent_accuracy'] - before['intent_accuracy']:+.3f}",
        )
    return table


def render_erasure(report: dict[str, Any]) -> None:
    """Print what was removed of a user, and what must be made again."""
    table = _table(f"Erased {report['user_key']}", "what", "is")
    table.add_row("requested", report["requested_at"])
    table.add_row("feedback events removed", str(report["events_removed"]))
    for name, rows in report["rows_removed"].items():
        table.add_row(f"rows removed from {name}", str(rows))
    table.add_row("MLflow traces deleted", str(report["traces_deleted"]))
    console = _console()
    console.print(table)
    latest = [one for one in report["snapshots"] if one["latest"]]
    older = len(report["snapshots"]) - len(latest)
    if latest:
        again = _table("Materialize again: these still tell of the user", "asset", "release bundle", "files")
        for one in latest:
            again.add_row(one["name"], one["partition"] or "–", ", ".join(one["files"]))
        console.print(again)
    if older:
        console.print(f"{older} older snapshots tell of the user as well; --json lists them.")
    if not report["snapshots"]:
        console.print("No snapshot tells of the user.")
