"""The console logger of runs that the command line drives: one short line a message, on standard error."""

import logging
import sys

import dagster as dg


class StepMessageFormatter(logging.Formatter):
    """Prints the step and the message alone; the run id and the job are the same on every line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return `step: message`, or the message where it comes from no step."""
        meta = getattr(record, "dagster_meta", {}) or {}
        message = meta.get("orig_message") or record.getMessage()
        step = meta.get("step_key")
        return f"  {step}: {message}" if step else f"  {message}"


@dg.logger(
    {"log_level": dg.Field(str, default_value="INFO", is_required=False)},
    description="Step and message alone, for the command line.",
)
def console_lines(context: dg.InitLoggerContext) -> logging.Logger:
    """Return a logger that writes step messages of at least `log_level` to standard error."""
    # Not from the registry of loggers: each run gets its own, with one handler, and no run inherits another's.
    logger = logging.Logger("mangaassist.console", level=context.logger_config["log_level"])  # noqa: LOG001 - see above
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(StepMessageFormatter())
    logger.addHandler(handler)
    return logger
