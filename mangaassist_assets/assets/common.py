"""What every asset module shares: owners, groups, and how a snapshot becomes a materialization."""

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dagster as dg

from mangaassist_assets.core.snapshots import Snapshot

ML_ENGINEERING = "team:ml-engineering"
PLATFORM = "team:platform-engineering"
RELEASE_MANAGEMENT = "team:release-management"

FEEDBACK_STREAM_POOL = "feedback_stream"
TRACE_INGESTION_POOL = "trace_ingestion"
TRAINING_POOL = "training"
PRODUCTION_POOL = "production"

LEFT_OUT = "left_out"
"""Metadata of the observation that says why an asset made nothing."""


def materialized(snapshot: Snapshot, metadata: Mapping[str, dg.MetadataValue]) -> dg.MaterializeResult[None]:
    """Return the materialization of a snapshot; its digest is the data version, so equal content is equal data."""
    return dg.MaterializeResult(
        data_version=dg.DataVersion(snapshot.digest[:16]),
        metadata={
            "digest": dg.MetadataValue.text(snapshot.digest),
            "files": dg.MetadataValue.path(snapshot.uri),
            **metadata,
        },
    )


@contextmanager
def as_failure(*errors: type[Exception]) -> Iterator[None]:
    """Let errors that explain themselves fail the step with their message alone; trying again would not help."""
    try:
        yield
    except errors as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def leave_out(context: dg.AssetExecutionContext, reason: str) -> None:
    """Say why an asset makes nothing now, though nothing is broken: in the log, and as an observation of the asset."""
    context.log.warning(f"left out: {reason}")
    context.log_event(
        dg.AssetObservation(
            asset_key=context.asset_key,
            partition=context.partition_key if context.has_partition_key else None,
            metadata={LEFT_OUT: dg.MetadataValue.text(reason)},
        )
    )


def table(rows: list[dict[str, str | int | float | bool | None]]) -> dg.MetadataValue:
    """Return rows as a table that the Dagster page shows; an empty list says so in words."""
    if not rows:
        return dg.MetadataValue.text("none")
    return dg.MetadataValue.table([dg.TableRecord(row) for row in rows])


def image(title: str, png: bytes) -> dg.MetadataValue:
    """Return a PNG as Markdown that carries it, so that Dagster's page shows it without another server."""
    return dg.MetadataValue.md(f"![{title}](data:image/png;base64,{base64.b64encode(png).decode()})")
