"""The commands on models: which versions there are, and a person's word over the gate's."""

from __future__ import annotations

import click

from mangaassist_assets.cli.output import JSON_HELP, emit, explained, say

_MODELS = "intent, reranker, or the short name of another registered model."


@click.group()
def models() -> None:
    """Registered models: list their versions, promote one whatever its verdict."""


@models.command("list")
@click.option("--model", help=f"Only one: {_MODELS}")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@explained
def list_models(home: str, model: str | None, *, as_json: bool) -> None:
    """Every version with its aliases, bundle, verdict, dataset and figures; every override with its reason."""
    from mangaassist_assets.cli.commands.override import list_models as run
    from mangaassist_assets.cli.commands.override import render_list
    from mangaassist_assets.cli.session import open_session

    with open_session(home, say) as session:
        report = run(session, model=model)
    emit(report, render_list, as_json=as_json)


@models.command("promote")
@click.option("--model", required=True, help=f"Which one: {_MODELS}")
@click.option("--version", required=True, help="The version that is to be champion.")
@click.option(
    "--reason",
    required=True,
    help="Why, in 10 to 500 characters; kept for ever, personal data replaced.",
)
@click.option("--by", help="A name or a role that answers for it; by default: operator.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.pass_obj
@explained
def promote(home: str, model: str, version: str, reason: str, by: str | None, *, as_json: bool) -> None:
    """Make a version champion against the gate's word and deploy it; who did it, when and why is kept.

    It counts against the champion of this moment, and once. Gates to come compare with the version promoted here.
    """
    from mangaassist_assets.cli.commands.override import render_override, run_override
    from mangaassist_assets.cli.session import open_session

    with open_session(home, say) as session:
        report = run_override(session, model=model, version=version, reason=reason, by=by)
    emit(report, render_override, as_json=as_json)


MODEL_COMMANDS: tuple[click.Command, ...] = (models,)
