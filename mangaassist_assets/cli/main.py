"""The command line: one module a command group, in `commands`."""

from __future__ import annotations

import click

from mangaassist_assets.cli.commands.bootstrap import bootstrap
from mangaassist_assets.cli.commands.datasets import datasets
from mangaassist_assets.cli.commands.demo import demo
from mangaassist_assets.cli.commands.evaluate import evaluate
from mangaassist_assets.cli.commands.import_traces import import_traces
from mangaassist_assets.cli.commands.labels import labels
from mangaassist_assets.cli.commands.loop import loop
from mangaassist_assets.cli.commands.models import models
from mangaassist_assets.cli.commands.personal_data import erase_user_command, redact_command
from mangaassist_assets.cli.commands.report import report
from mangaassist_assets.cli.commands.serve import dev, up
from mangaassist_assets.cli.commands.simulate import simulate
from mangaassist_assets.cli.commands.traces import traces
from mangaassist_assets.cli.options import Group

_COMMANDS: tuple[click.Command, ...] = (
    *(up, dev, demo, bootstrap, simulate, loop, evaluate),
    *(datasets, labels, models, report, import_traces, traces, redact_command, erase_user_command),
)


@click.group(
    cls=Group, commands=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="mangaassist-assets")
def main() -> None:
    """Turn the failures of a shopping chatbot into better models, and prove where every answer came from.

    Start with `mangaassist demo`. Commands start the local servers they need and stop them afterwards; keep them
    running with `mangaassist up`, or with `mangaassist dev` to see everything in Dagster. With MANGAASSIST_ENV=aws they
    start nothing and work on AWS.
    """
