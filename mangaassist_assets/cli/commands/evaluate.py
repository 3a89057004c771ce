"""`mangaassist evaluate`: one registered model on one file of labelled messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mangaassist_assets.cli.options import FILE, Group, json_option
from mangaassist_assets.cli.output import console, emit, figure, new_table, say
from mangaassist_assets.cli.session import CommandError, Session, open_session
from mangaassist_assets.models.pipelines import INTENT, RERANKER, ModelPipeline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mangaassist_assets.datasets.sources.utterances import Utterance
    from mangaassist_assets.retrieval.pipeline import Span
    from mangaassist_assets.retrieval.types import Hit


@click.group(cls=Group)
def evaluate() -> None:
    """Score one registered model on a file of labelled messages."""


def _model_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        json_option,
        click.option(
            "--model", default="champion", show_default=True, help="champion, challenger, or a version number."
        ),
        click.option("--data", type=FILE, required=True, help="JSON lines of labelled messages."),
    ):
        command = option(command)
    return command


@evaluate.command("intent")
@_model_options
@click.pass_obj
def _intent(home: str | None, data: Path, model: str, *, as_json: bool) -> None:
    """Accuracy, macro F1 and every intent's precision and recall of an intent classifier."""
    with open_session(home, say, services=("mlflow",)) as session:
        figures = evaluate_intent(session, data=data, model=model)
    emit(figures, render_intent_evaluation, as_json=as_json)


@evaluate.command("reranker")
@_model_options
@click.pass_obj
def _reranker(home: str | None, data: Path, model: str, *, as_json: bool) -> None:
    """MRR@10 and nDCG@10 on the live index: the retriever alone, and after reranking."""
    with open_session(home, say, services=("mlflow", "ministack")) as session:
        figures = evaluate_reranker(session, data=data, model=model)
    emit(figures, render_reranker_evaluation, as_json=as_json)


def _artifact(session: Session, pipeline: ModelPipeline, model: str) -> tuple[str, Path, str]:
    """Return version, local artifact folder and expected digest of `champion`, `challenger` or a version number."""
    mlflow = session.resources.mlflow
    versions = {one.version: one for one in mlflow.registry().versions(pipeline.model_name)}
    version = versions.get(model) or mlflow.version_by_alias(pipeline.model_name, model)
    if version is None or version.artifact_sha256 is None:
        msg = f"{pipeline.model_name} has no {model!r}: name champion, challenger, or one of its versions"
        raise CommandError(msg)
    return version.version, mlflow.artifact_directory(version), version.artifact_sha256


def evaluate_intent(session: Session, *, data: Path, model: str) -> dict[str, Any]:
    """Score an intent classifier: accuracy, macro F1, calibration, and every intent's precision and recall."""
    from dataclasses import asdict

    from mangaassist_assets.evaluation.metrics import classification_figures, expected_calibration_error
    from mangaassist_assets.models.intent.model import IntentClassifier

    version, directory, digest = _artifact(session, INTENT, model)
    labelled, counts = _labelled(session, data, need="intent")
    classifier = IntentClassifier.load(directory, digest)
    predicted = [scores[0] for scores in classifier.predict([one.text for one in labelled], top_k=1)]
    truth = [one.intent or "" for one in labelled]
    figures = classification_figures(truth, [score.label for score in predicted])
    calibration = expected_calibration_error(
        [score.score for score in predicted],
        [score.label == intent for score, intent in zip(predicted, truth, strict=True)],
    )
    return {
        "model": INTENT.model_name,
        "version": version,
        **counts,
        "expected_calibration_error": calibration,
        **asdict(figures),
    }


def evaluate_reranker(session: Session, *, data: Path, model: str) -> dict[str, Any]:
    """Score a reranker on the live index: MRR@10 and nDCG@10 of the retriever alone and after reranking.

    A relevant document that is not among the candidates counts in nDCG's ideal.
    """
    import numpy as np

    from mangaassist_assets.core.ranking_metrics import ndcg, reciprocal_rank
    from mangaassist_assets.models.reranker.model import Reranker
    from mangaassist_assets.retrieval.chunking import embedding_text
    from mangaassist_assets.retrieval.pipeline import live_pipeline
    from mangaassist_assets.retrieval.tenants import TenantScope

    version, directory, digest = _artifact(session, RERANKER, model)
    labelled, counts = _labelled(session, data, need="relevant_documents")
    reranker = Reranker.load(directory, digest)
    resources = session.resources
    pipeline = live_pipeline(
        resources.search.index(),
        resources.embeddings.embedder(),
        resources.app_config.configuration().routing().retrieval,
        queries=[one.text for one in labelled],
    )

    def scores(query: str, hits: Sequence[Hit], _: Span) -> list[float]:
        relevances: list[float] = reranker.score(
            [(query, embedding_text(hit.title, hit.text)) for hit in hits]
        ).tolist()
        return relevances

    rows: list[tuple[float, float, float, float, float]] = []
    for utterance in labelled:
        found = pipeline.search(utterance.text, scope=TenantScope.of(utterance.tenant)).candidates
        reranked = pipeline.select(utterance.text, found, scores).candidates
        relevant, reordered = (
            [float(one.hit.document_id in utterance.relevant_documents) for one in ranking]
            for ranking in (found, reranked)
        )
        missed = set(utterance.relevant_documents).difference(one.hit.document_id for one in found)
        ideal = [*relevant, *[1.0] * len(missed)]
        rows.append(
            (
                float(any(relevant)),
                reciprocal_rank(relevant),
                reciprocal_rank(reordered),
                ndcg(relevant, ideal=ideal),
                ndcg(reordered, ideal=ideal),
            )
        )
    means = np.array(rows).mean(axis=0).tolist()
    names = ("recall_of_candidates", "retriever_mrr@10", "reranked_mrr@10", "retriever_ndcg@10", "reranked_ndcg@10")
    return {"model": RERANKER.model_name, "version": version, **counts, **dict(zip(names, means, strict=True))}


def _labelled(session: Session, data: Path, *, need: str) -> tuple[list[Utterance], dict[str, int]]:
    from mangaassist_assets.cli.commands.bootstrap import report_rejects
    from mangaassist_assets.datasets.sources.utterances import read_utterances

    reading = read_utterances(data)
    if reading.rejects:
        report_rejects(session, data, reading.rejects)
    labelled = [one for one in reading.utterances if getattr(one, need)]
    if not labelled:
        msg = f"{data} has no message with {need!r} ({reading.summary()}): there is nothing to compare with"
        raise CommandError(msg)
    return labelled, {
        "messages": len(labelled),
        "without_label": len(reading.utterances) - len(labelled),
        "rejected_lines": len(reading.rejects),
    }


def render_intent_evaluation(figures: dict[str, Any]) -> None:
    """Print the figures of an intent classifier, its worst intents first."""
    terminal = console()
    terminal.print(
        f"{figures['model']} version {figures['version']} on {figures['messages']} messages: "
        f"accuracy {figures['accuracy']:.3f}, macro F1 {figures['macro_f1']:.3f}"
    )
    rows = (
        (row["intent"], *(figure(row[name]) for name in ("precision", "recall", "f1")), row["support"])
        for row in sorted(figures["intents"], key=lambda row: (row["f1"], row["intent"]))
    )
    columns = ("intent", "precision", "recall", "F1", "messages")
    terminal.print(new_table("Intents, the worst first", columns, rows))


def render_reranker_evaluation(figures: dict[str, Any]) -> None:
    """Print the retriever alone beside the reranker."""
    rows = (
        *(
            (name, figure(figures[f"retriever_{name}"]), figure(figures[f"reranked_{name}"]))
            for name in ("mrr@10", "ndcg@10")
        ),
        ("relevant document among the candidates", figure(figures["recall_of_candidates"]), ""),
    )
    title = f"{figures['model']} version {figures['version']} on {figures['messages']} questions"
    console().print(new_table(title, ("figure", "retriever alone", "after reranking"), rows))
