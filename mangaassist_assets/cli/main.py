"""The command line. Reads options, calls `commands`, prints; nothing else belongs here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from mangaassist_assets.cli.data import DATA_COMMANDS
from mangaassist_assets.cli.models import MODEL_COMMANDS
from mangaassist_assets.cli.output import FILE, FOLDER, JSON_HELP, emit, explained, progress_bar, say

DEFAULT_HOME = ".mangaassist"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--home",
    default=DEFAULT_HOME,
    envvar="MANGAASSIST_HOME",
    show_default=True,
    help="Folder that holds all local state: servers' data, models, datasets, logs.",
)
@click.version_option(package_name="mangaassist-assets")
@click.pass_context
def main(context: click.Context, home: str) -> None:
    """Turn the failures of a shopping chatbot into better models, and prove where every answer came from.

    Start with `mangaassist demo`. Commands start the local servers they need and stop them afterwards; keep them
    running with `mangaassist up`, or with `mangaassist dev` to see everything in Dagster.
    """
    context.obj = home


@main.command()
@click.option("--mlflow-port", type=click.IntRange(1, 65535), help="Port of the MLflow server; a free one by default.")
@click.option("--ministack-port", type=click.IntRange(1, 65535), help="Port of MiniStack (Kinesis, AppConfig, S3).")
@click.option("--sagemaker-port", type=click.IntRange(1, 65535), help="Port of the local SageMaker.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@explained
def up(
    home: str, mlflow_port: int | None, ministack_port: int | None, sagemaker_port: int | None, *, as_json: bool
) -> None:
    """Start MLflow, MiniStack and the local SageMaker in the foreground; Ctrl-C stops them."""
    from mangaassist_assets.cli.commands.serve import serve_stand_ins

    ports = {"mlflow": mlflow_port, "ministack": ministack_port, "sagemaker": sagemaker_port}
    serve_stand_ins(home, ports={name: port for name, port in ports.items() if port}, progress=say, as_json=as_json)


@main.command()
@click.option("--dagster-port", type=click.IntRange(1, 65535), help="Port of the Dagster page; a free one by default.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@explained
def dev(home: str, dagster_port: int | None, *, as_json: bool) -> None:
    """Start everything, with Dagster's page, sensors and schedules, in the foreground; Ctrl-C stops it."""
    from mangaassist_assets.cli.commands.serve import serve_with_dagster

    serve_with_dagster(home, dagster_port=dagster_port, progress=say, as_json=as_json)


@main.command()
@click.option("--training", type=FILE, required=True, help="JSON lines of labelled messages for the first champions.")
@click.option("--knowledge", type=FOLDER, required=True, help="Folder of .md, .txt, .html, .csv, .jsonl documents.")
@click.option(
    "--golden", type=FILE, help="JSON lines like those of --training, or questions with answers, never trained on."
)
@click.option("--replace-golden", is_flag=True, help="Let --golden take the place of the golden set in use.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@explained
def bootstrap(
    home: str, training: Path, knowledge: Path, golden: Path | None, *, replace_golden: bool, as_json: bool
) -> None:
    """First champion models, first index generation, AppConfig profiles, endpoints."""
    from mangaassist_assets.cli.commands.bootstrap import run_bootstrap
    from mangaassist_assets.cli.render import render_bootstrap
    from mangaassist_assets.cli.session import open_session

    with open_session(home, say) as session:
        report = run_bootstrap(
            session, training=training, knowledge=knowledge, golden=golden, replace_golden=replace_golden
        )
    emit(report.to_dict(), render_bootstrap, as_json=as_json)


@main.command()
@click.option("--utterances", type=FILE, required=True, help="JSON lines of messages; only `text` is required.")
@click.option("--release-bundle", required=True, help="The bundle the traffic belongs to, such as 2026.03.24-rc2.")
@click.option(
    "--label-rate",
    type=click.FloatRange(0, 1),
    default=0.3,
    show_default=True,
    help="Share of failing turns that a human reviews.",
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
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@explained
def simulate(
    home: str,
    utterances: Path,
    release_bundle: str,
    label_rate: float,
    feedback_noise: float,
    limit: int | None,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Drive the chatbot with messages; simulated shoppers press thumbs, reviewers label some failing turns."""
    from mangaassist_assets.cli.commands.simulate import run_simulation
    from mangaassist_assets.cli.render import render_simulation
    from mangaassist_assets.cli.session import open_session

    with open_session(home, say) as session, progress_bar(f"simulating {release_bundle}") as progress:
        report = run_simulation(
            session,
            utterances=utterances,
            release_bundle=release_bundle,
            label_rate=label_rate,
            feedback_noise=feedback_noise,
            limit=limit,
            seed=seed,
            progress=progress,
        )
    emit(report, render_simulation, as_json=as_json)


@main.command()
@click.option("--release-bundle", required=True, help="The bundle to learn from.")
@click.option(
    "--no-deploy", is_flag=True, help="Mine, train and judge, but leave champions, endpoints and the live index."
)
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@explained
def loop(home: str, release_bundle: str, *, no_deploy: bool, as_json: bool) -> None:
    """One turn of the loop: failures, clusters, datasets, challengers, gates, deployment, index, manifest.

    Exit code 0 when everything ran, whatever the gates said; 1 when something failed.
    """
    from mangaassist_assets.cli.commands.loop import run_loop
    from mangaassist_assets.cli.render import render_loop
    from mangaassist_assets.cli.session import open_session

    with open_session(home, say) as session:
        report = run_loop(session, release_bundle=release_bundle, deploy=not no_deploy)
    emit(report.to_dict(), render_loop, as_json=as_json)
    if not report.succeeded:
        raise SystemExit(1)


@main.group()
def evaluate() -> None:
    """Score one registered model on a file of labelled messages."""


def _model_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--json", "as_json", is_flag=True, help=JSON_HELP),
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
@explained
def evaluate_intent(home: str, data: Path, model: str, *, as_json: bool) -> None:
    """Accuracy, macro F1 and every intent's precision and recall of an intent classifier."""
    from mangaassist_assets.cli.commands.evaluate import evaluate_intent as run
    from mangaassist_assets.cli.render import render_intent_evaluation
    from mangaassist_assets.cli.session import open_session

    with open_session(home, say) as session:
        figures = run(session, data=data, model=model)
    emit(figures, render_intent_evaluation, as_json=as_json)


@evaluate.command("reranker")
@_model_options
@click.pass_obj
@explained
def evaluate_reranker(home: str, data: Path, model: str, *, as_json: bool) -> None:
    """MRR@10 and nDCG@10 on the live index: the retriever alone, and after reranking."""
    from mangaassist_assets.cli.commands.evaluate import evaluate_reranker as run
    from mangaassist_assets.cli.render import render_reranker_evaluation
    from mangaassist_assets.cli.session import open_session

    with open_session(home, say) as session:
        figures = run(session, data=data, model=model)
    emit(figures, render_reranker_evaluation, as_json=as_json)


@main.command()
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@explained
def demo(home: str, *, as_json: bool) -> None:
    """An invented manga store through two release bundles of the loop, then a report of what changed and why."""
    from mangaassist_assets.cli.commands.demo import run_demo
    from mangaassist_assets.cli.render import render_demo
    from mangaassist_assets.cli.session import open_session

    with open_session(home, say) as session, progress_bar("simulating") as progress:
        report = run_demo(session, progress=progress)
    emit(report, render_demo, as_json=as_json)
    if report["errors"]:
        raise SystemExit(1)


for _command in (*DATA_COMMANDS, *MODEL_COMMANDS):
    main.add_command(_command)
