"""`mangaassist simulate`: drives utterances through the reference chatbot, with simulated shoppers and reviewers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mangaassist_assets.cli.session import CommandError, Session

if TYPE_CHECKING:
    from mangaassist_assets.chatbot.orchestrator import Chatbot
    from mangaassist_assets.chatbot.parts import TraceSink


def build_chatbot(session: Session, sink: TraceSink) -> Chatbot:
    """Put the reference chatbot together from the session's resources; its traces go to the sink.

    Raises:
        CommandError: the home has no endpoints or no configuration yet. A reranker that has no champion is not waited
            for: without one, passages stay in the order of retrieval.
    """
    from mangaassist_assets.assets.reading import read_vocabulary
    from mangaassist_assets.chatbot.orchestrator import Chatbot
    from mangaassist_assets.chatbot.retrieval import Retriever
    from mangaassist_assets.models.pipelines import INTENT, RERANKER

    resources = session.resources
    reranks = resources.mlflow.version_by_alias(RERANKER.model_name, "champion") is not None
    needed = (INTENT, RERANKER) if reranks else (INTENT,)
    missing = [
        pipeline.endpoint_name for pipeline in needed if resources.endpoints.describe(pipeline.endpoint_name) is None
    ]
    if missing or resources.search.index().live_generation() is None:
        what = ", ".join(missing) or "no live search index"
        msg = f"this home cannot answer yet ({what}): run `mangaassist bootstrap --training FILE --knowledge DIR` first"
        raise CommandError(msg)
    return Chatbot(
        intent=resources.endpoints.endpoint(INTENT.endpoint_name),
        retriever=Retriever(
            index=resources.search.index(),
            embedder=resources.embeddings.embedder(),
            reranker=resources.endpoints.endpoint(RERANKER.endpoint_name) if reranks else None,
        ),
        configuration=resources.app_config.configuration(),
        generator=resources.generation.generator(),
        endpoints=resources.endpoints.endpoint,
        sink=sink,
        pseudonym_key=session.home.pseudonym_key(),
        vocabulary=read_vocabulary(resources.store.snapshots()),
    )


def run_simulation(
    session: Session,
    *,
    utterances: Path,
    release_bundle: str,
    label_rate: float,
    feedback_noise: float,
    limit: int | None,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Drive a file of utterances and return the report, with what was rejected of the file.

    What an earlier call with the same file, bundle and seed drove is not driven again.

    Raises:
        CommandError: the file holds no utterance, or the home is not bootstrapped.
    """
    from mangaassist_assets.chatbot.shopper import ShopperBehaviour
    from mangaassist_assets.chatbot.simulation import SimulationConfig, simulate
    from mangaassist_assets.cli.commands.bootstrap import report_rejects
    from mangaassist_assets.core.bundles import validate_bundle
    from mangaassist_assets.datasets.sources.utterances import read_utterances
    from mangaassist_assets.tracing.contract.turn_reader import read_turns

    validate_bundle(release_bundle)
    reading = read_utterances(utterances)
    session.progress(f"{utterances.name}: {reading.summary()}")
    rejects_file = report_rejects(session, utterances, reading.rejects) if reading.rejects else None
    chosen = reading.utterances if limit is None else reading.utterances[:limit]
    if not chosen:
        msg = f"{utterances} holds no usable utterance ({reading.summary()})"
        raise CommandError(msg)
    resources = session.resources
    with closing(resources.mlflow.trace_sink()) as sink:
        report = simulate(
            chosen,
            build_chatbot(session, sink),
            resources.feedback_stream,
            resources.mlflow.reviewer(),
            release_bundle=release_bundle,
            config=SimulationConfig(
                behaviour=ShopperBehaviour(label_rate=label_rate, feedback_noise=feedback_noise), seed=seed
            ),
            earlier={turn.trace_id: turn for turn in read_turns(resources.mlflow.read_traces(release_bundle)).turns},
            progress=progress,
        )
    return {
        **report.to_dict(),
        "rejected_lines": len(reading.rejects),
        "rejects_file": str(rejects_file) if rejects_file else None,
    }
