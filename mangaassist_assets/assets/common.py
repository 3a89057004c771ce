"""What every asset module shares: owners, pools, and how snapshots and plain figures become metadata."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta

import dagster as dg

from mangaassist_assets.core.figures import Cell, Figure
from mangaassist_assets.core.markdown import plain
from mangaassist_assets.core.snapshots import Snapshot
from resources.aws.clients import AwsResource

ML_ENGINEERING = "team:ml-engineering"
PLATFORM = "team:platform-engineering"
RELEASE_MANAGEMENT = "team:release-management"

FEEDBACK_STREAM_POOL = "feedback_stream"
TRACE_INGESTION_POOL = "trace_ingestion"
TRAINING_POOL = "training"
PRODUCTION_POOL = "production"
INDEX_POOL = "index_build"

NIGHTLY = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))
"""Of what a schedule makes every night: a warning where one night is missed, a failure after the second."""
WEEKLY = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=15), warn_window=timedelta(days=8))

_LAUNCHERS = {
    "mangaassist/driver": "a command, process",
    "dagster/schedule_name": "schedule",
    "dagster/sensor_name": "sensor",
    "dagster/backfill": "backfill",
}
"""Tags of runs that say what launched them."""
LEFT_OUT = "left_out"
"""Metadata of the observation that states why an asset made nothing."""


def materialized(
    snapshot: Snapshot, figures: Mapping[str, Figure | dg.MetadataValue], *, data_version: str | None = None
) -> dg.MaterializeResult[None]:
    """Return the materialization of a snapshot, with what it was made of.

    Its digest is the data version where no other is given, so equal content is equal data.
    """
    return dg.MaterializeResult(
        data_version=dg.DataVersion(data_version or snapshot.digest[:16]),
        metadata={
            "digest": dg.MetadataValue.text(snapshot.digest),
            "record": dg.MetadataValue.path(snapshot.uri),
            **metadata(figures),
            "inputs": table([_input_row(name, digest) for name, digest in snapshot.origin.inputs.items()]),
        },
    )


def _input_row(name: str, digest: str) -> dict[str, Cell]:
    asset, _, bundle = name.partition("/")
    return {"input": asset, "bundle": bundle or "none", "digest": digest}


def metadata(figures: Mapping[str, Figure | dg.MetadataValue]) -> dict[str, dg.MetadataValue]:
    """Return figures as Dagster's metadata: numbers and texts as they are, rows as a table."""
    return {name: _metadata_value(figure) for name, figure in figures.items()}


def _metadata_value(figure: Figure | dg.MetadataValue) -> dg.MetadataValue:
    match figure:
        case dg.MetadataValue():
            return figure
        case str():
            return dg.MetadataValue.text(figure)
        case bool():
            return dg.MetadataValue.bool(figure)
        case int():
            return dg.MetadataValue.int(figure)
        case float():
            return dg.MetadataValue.float(figure)
        case _:
            return table(figure)


def carried_out_by(context: dg.AssetExecutionContext, aws: AwsResource | None = None) -> dict[str, str]:
    """Return what the systems say of who does this: process, run and, on AWS, the caller of its API.

    A person who types a name types what they like; this is what Dagster, the system and AWS know by themselves.
    """
    from mangaassist_assets.releases.named_champion import process_user

    tags = context.run.tags
    launched = next((f"{what} {tags[tag]}" for tag, what in _LAUNCHERS.items() if tag in tags), "Dagster's page or API")
    caller = None if aws is None else aws.caller_arn()
    return {
        **process_user(),
        "launched_by": launched,
        **({"dagster_user": tags["user"]} if "user" in tags else {}),
        **({"aws_caller": caller} if caller is not None else {}),
        "dagster_run": context.run.run_id,
    }


@contextmanager
def as_failure(*errors: type[Exception]) -> Iterator[None]:
    """Let errors that explain themselves fail the step with their message alone; trying again would not help."""
    try:
        yield
    except errors as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def leave_out(context: dg.AssetExecutionContext, reason: str) -> None:
    """Record why an asset makes nothing now, though nothing is broken: in the log, and as an observation."""
    context.log.warning(f"left out: {reason}")
    context.log_event(
        dg.AssetObservation(
            asset_key=context.asset_key,
            partition=context.partition_key if context.has_partition_key else None,
            metadata={LEFT_OUT: dg.MetadataValue.text(reason)},
        )
    )


def table(rows: Sequence[Mapping[str, Cell]]) -> dg.MetadataValue:
    """Return rows as a table that the Dagster page shows; where there are none it says `none`."""
    if not rows:
        return dg.MetadataValue.text("none")
    return dg.MetadataValue.table([dg.TableRecord(dict(row)) for row in rows])


def image(title: str, png: bytes) -> dg.MetadataValue:
    """Return a PNG as Markdown that carries it, so that Dagster's page shows it without another server."""
    return dg.MetadataValue.md(f"![{plain(title)}](data:image/png;base64,{base64.b64encode(png).decode()})")


def check_result(
    problems: Sequence[str],
    figures: Mapping[str, Figure | dg.MetadataValue],
    *,
    all_well: str,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
) -> dg.AssetCheckResult:
    """Return the result of a check that passes without problems, a sentence each; then `all_well` describes it."""
    return dg.AssetCheckResult(
        passed=not problems,
        severity=severity,
        # Dagster shows it as Markdown.
        description=plain("; ".join(problems) or all_well),
        metadata=metadata(figures),
    )
