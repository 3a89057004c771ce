"""The command line: its commands by name. The module of a command, in `commands`, is imported when it is called."""

from __future__ import annotations

import importlib

import click

from mangaassist_assets.cli.options import Group

# By name: the module, and what the list of commands says.
_COMMANDS = {
    "demo": ("demo", "An invented manga store through two release bundles of the loop."),
    "up": ("serve", "Start MLflow, MiniStack and the local SageMaker in the foreground."),
    "dev": ("serve", "The same with Dagster's page, sensors and schedules."),
    "bootstrap": ("bootstrap", "First champions, first index generation, configuration, endpoints."),
    "simulate": ("simulate", "Drive the chatbot with messages, thumbs and reviews."),
    "loop": ("loop", "One turn of the loop on a release bundle, from failures to endpoints."),
    "backfill": ("backfill", "Past release bundles again with today's code, and a comparison of all."),
    "evaluate": ("evaluate", "Score one registered model on a file of labelled messages."),
    "models": ("models", "Versions of the registered models; promote one by hand."),
    "datasets": ("datasets", "Dataset versions: list them, show one, make one again."),
    "rebuild": ("rebuild", "Make a stored output again from its inputs, and compare every byte."),
    "doctor": ("doctor", "Look at every file of a home for damage; mend what can be rebuilt."),
    "store": ("store", "Take away what nobody needs any more."),
    "labels": ("labels", "The review queue as a file and the answers back; new intents, reviewers."),
    "triggers": ("triggers", "What starts retraining: replay a day, see whether it is at work."),
    "report": ("report", "Satisfaction and usage of a release bundle."),
    "import-traces": ("traces", "Import traces of other tools from a file."),
    "traces": ("traces", "What the platform reads of traces."),
    "redact": ("personal_data", "What redaction would do to a text."),
    "erase-user": ("personal_data", "Remove a user everywhere; list what must be made again."),
}


class _CommandLine(Group):
    """Imports the module of a command when the command is called, so that help and errors of a call are instant."""

    def list_commands(self, _context: click.Context) -> list[str]:
        """Return the names, in the order in which one needs them."""
        return list(_COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """Return a command, or None where there is none of that name."""
        if name not in _COMMANDS:
            return None
        module = importlib.import_module(f"mangaassist_assets.cli.commands.{_COMMANDS[name][0]}")
        command: click.Command = getattr(module, name.replace("-", "_"))
        return command

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in _COMMANDS.items()])


@click.group(
    cls=_CommandLine,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="mangaassist-assets")
def main() -> None:
    """Turn the failures of a shopping chatbot into better models, and prove where every answer came from.

    Start with `mangaassist demo`. Commands start the local servers they need and stop them afterwards; keep them
    running with `mangaassist up`, or with `mangaassist dev` to see everything in Dagster. With MANGAASSIST_ENV=aws they
    start nothing and work on AWS.
    """
