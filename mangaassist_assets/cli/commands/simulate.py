"""`mangaassist simulate`: drives utterances through the reference chatbot, with simulated shoppers and a reviewer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mangaassist_assets.cli.options import FILE, Command, json_option
from mangaassist_assets.cli.output import console, emit, new_table, progress_bar, say
from mangaassist_assets.cli.session import CommandError, Session, open_session

if TYPE_CHECKING:
    from mangaassist_assets.chatbot.orchestrator import Chatbot
    from mangaassist_assets.chatbot.parts import TraceSink
    from mangaassist_assets.chatbot.reviewing import ReviewReport
    from mangaassist_assets.datasets.sources.utterances import Utterance
    from mangaassist_assets.tracing.contract.turns import ChatTurn


@click.command(cls=Command, local_only=True)
@click.option("--utterances", type=FILE, required=True, help="JSON lines of messages; only `text` is required.")
@click.option("--release-bundle", required=True, help="The bundle the traffic belongs to, such as 2026.03.24-rc2.")
@click.option(
    "--review-budget",
    type=click.IntRange(0, 10_000),
    default=50,
    show_default=True,
    help="Turns of the bundle that a simulated human reviews: those that the review queue asks about. 0 mines nothing.",
)
@click.option(
    "--feedback-noise",
    type=click.FloatRange(0, 1),
    default=0.05,
    show_default=True,
    help="Share of turns that a shopper misjudges.",
)
@click.option("--limit", type=click.IntRange(1), help="Drive only the first so many messages.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the simulated people.")
@json_option
@click.pass_obj
def simulate(
    home: str | None,
    /,
    release_bundle: str,
    *,
    as_json: bool,
    **options: Any,  # noqa: ANN401 - of `run_simulation`
) -> None:
    """Drive the chatbot with messages; simulated shoppers press thumbs, a reviewer answers the review queue."""
    with open_session(home, say) as session, progress_bar(f"simulating {release_bundle}") as progress:
        report = run_simulation(session, release_bundle=release_bundle, progress=progress, **options)
    emit(report, render_simulation, as_json=as_json)


def build_chatbot(session: Session, sink: TraceSink) -> Chatbot:
    """Put the reference chatbot together from the session's resources; its traces go to the sink.

    Raises:
        CommandError: the home has no endpoints or no configuration yet. A reranker that has no champion is not waited
            for: without one, passages stay in the order of retrieval.
    """
    from mangaassist_assets.chatbot.orchestrator import Chatbot
    from mangaassist_assets.chatbot.retrieval import Retriever
    from mangaassist_assets.models.pipelines import INTENT, RERANKER
    from mangaassist_assets.retrieval.stored_knowledge import read_vocabulary

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
        pseudonym_key=resources.privacy.pseudonym_key(),
        vocabulary=read_vocabulary(resources.store.snapshots()),
    )


def run_simulation(
    session: Session,
    *,
    utterances: Path,
    release_bundle: str,
    review_budget: int,
    feedback_noise: float,
    limit: int | None,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Drive a file of utterances, answer the review queue, and return the report, with what was rejected of the file.

    What an earlier call with the same file, bundle and seed drove is not driven again, and the bundle is reviewed no
    more than the budget says.

    Raises:
        CommandError: the file holds no utterance, the home is not bootstrapped, or the bundle could not be mined.
    """
    from mangaassist_assets.chatbot.shopper import ShopperBehaviour
    from mangaassist_assets.chatbot.simulation import SimulationConfig, simulate, traces_of
    from mangaassist_assets.cli.commands.bootstrap import report_rejects
    from mangaassist_assets.core.bundles import validate_bundle
    from mangaassist_assets.datasets.sources.utterances import read_utterances

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
        chatbot = build_chatbot(session, sink)
        report = simulate(
            chosen,
            chatbot,
            resources.feedback_stream,
            resources.mlflow.reviewer(),
            release_bundle=release_bundle,
            config=SimulationConfig(behaviour=ShopperBehaviour(feedback_noise=feedback_noise), seed=seed),
            earlier=_turns(session, release_bundle),
            progress=progress,
        )
    by_trace = traces_of(chosen, chatbot, release_bundle=release_bundle, seed=seed)
    reviewed = _review(session, by_trace, release_bundle=release_bundle, budget=review_budget)
    return {
        **asdict(report),
        **asdict(reviewed),
        "rejected_lines": len(reading.rejects),
        "rejects_file": str(rejects_file) if rejects_file else None,
    }


def _turns(session: Session, release_bundle: str) -> dict[str, ChatTurn]:
    """Return the turns of a bundle as they stand in MLflow."""
    from mangaassist_assets.tracing.contract.turns import ChatTurn
    from mangaassist_assets.tracing.reading.turn_reader import read_trace

    outcomes = (read_trace(trace).outcome for trace in session.resources.mlflow.read_traces(release_bundle))
    return {turn.trace_id: turn for turn in outcomes if isinstance(turn, ChatTurn)}


def _review(session: Session, utterances: Mapping[str, Utterance], *, release_bundle: str, budget: int) -> ReviewReport:
    """Mine the bundle where its queue is not of all its traffic, and answer what the queue asks.

    Raises:
        CommandError: the bundle could not be mined, or reviewers are listed and the simulated one is not.
    """
    from mangaassist_assets.chatbot.reviewing import REVIEWER, ReviewReport, answer_queue, reviews_by_simulation
    from mangaassist_assets.jobs import MINING_ASSETS
    from mangaassist_assets.labelling.people.policy import LabellingPolicy
    from mangaassist_assets.labelling.queue.audit_sample import is_traffic
    from mangaassist_assets.labelling.queue.stored_queue import ReviewQueue, read_queue

    if budget == 0:
        return ReviewReport()
    listed = session.resources.labelling.named_reviewers()
    if not LabellingPolicy(reviewers=listed).may_review(REVIEWER):
        msg = (
            f"the reviews of {REVIEWER} would not count: {', '.join(listed)} are the only reviewers. Add {REVIEWER} to "
            "MANGAASSIST_REVIEWERS, or simulate with --review-budget 0"
        )
        raise CommandError(msg)
    store = session.resources.store.snapshots()
    turns = _turns(session, release_bundle)
    queue = read_queue(store, release_bundle) or ReviewQueue()
    whole = queue.budget >= budget and queue.turns == sum(map(is_traffic, turns.values()))
    if not whole and reviews_by_simulation(turns) < budget:
        session.progress(f"mining {release_bundle} for its review queue")
        session.register_bundle(release_bundle)
        mined = session.run_job(
            "failure_mining",
            partition=release_bundle,
            assets=MINING_ASSETS,
            config={"review_queue": {"budget": budget}},
        )
        if not mined.succeeded:
            msg = f"bundle {release_bundle} could not be mined for its review queue: {'; '.join(mined.errors)}"
            raise CommandError(msg)
        queue = read_queue(store, release_bundle) or ReviewQueue()
    return answer_queue(
        queue.items,
        utterances,
        turns,
        session.resources.mlflow.reviewer(),
        budget=budget,
        progress=lambda done, of: session.progress(f"{release_bundle}: {done} of {of} turns of the queue reviewed"),
    )


def render_simulation(report: dict[str, Any]) -> None:
    """Print what was driven and what people said."""
    driven = ("turns", "already_there", "failing", "wrong_intents", "missing_documents", "errors", "blocked")
    people = ("thumbs_up", "thumbs_down", "asked_for_audit", "asked_as_failures", "reviews", "traces_stored")
    rows = ((key.replace("_", " "), report[key]) for key in (*driven, *people))
    console().print(new_table(f"Traffic of {report['release_bundle']}", ("what", "turns"), rows))
