"""Ingestion tables: where records from outside come to rest, together with how far the outside was read.

An ingestion table is a Delta Lake table, in a directory or a bucket. Rows and checkpoint are one commit: whoever is
killed reads the same records again from the last whole commit, and nobody sees rows without their checkpoint. Two
processes that ingest at the same time are distinguished by the transaction number of the commit: one of them is refused
before it writes a row.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.core.landed_files import LandedFiles

if TYPE_CHECKING:
    from deltalake import DeltaTable

PARTITION = "release_bundle"
_CHECKPOINT = "mangaassist.checkpoint"
_ABANDONED_AFTER_HOURS = 6
_NEVER = "interval 36500 days"
_REOPEN_AFTER = 64
"""Commits after which an open table is opened anew: what it holds of each makes the next one dearer."""


class IngestionConflictError(OperatorError, RuntimeError):
    """Another process ingested records from the same checkpoint first."""


class IngestionLogDamagedError(OperatorError, RuntimeError):
    """A table's log cannot be read; the message names the commit, as far as it can be found."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far the outside was read: any JSON object, empty before the first commit, and the number of its commit."""

    value: Mapping[str, Any]
    number: int


class IngestionTable:
    """One table, partitioned by release bundle."""

    def __init__(
        self,
        uri: str,
        *,
        schema: pl.Schema,
        skipping: Sequence[str] = (),
        storage_options: Mapping[str, str] | None = None,
    ) -> None:
        """Name a table; nothing is touched until the first read or write.

        Args:
            uri: Directory or `s3://` URL of the table.
            schema: Columns of every row; one of them is `release_bundle`, a String that is never null.
            skipping: Columns whose least and greatest value stand in the table's log, so that files without a match
                are not opened. The log outlives an erasure: no column with personal data.
            storage_options: How the object store is reached, in delta-rs' words; see `storage_options`.
        """
        if schema.get(PARTITION) != pl.String:
            msg = f"an ingestion table is partitioned by {PARTITION}: its schema needs that column as String"
            raise ValueError(msg)
        self._uri = uri
        self._schema = schema
        self._skipping = tuple(skipping)
        self._options = dict(storage_options or {})
        self._files = LandedFiles(uri, partition=PARTITION, skipping=skipping)
        self._opened: DeltaTable | None = None
        self._opened_version = 0

    def checkpoint(self) -> Checkpoint:
        """Return how far the outside was read."""
        table = self._open()
        return Checkpoint({}, 0) if table is None else _checkpoint(table)

    def append(self, frame: pl.DataFrame, *, after: Checkpoint, value: Mapping[str, Any]) -> Checkpoint:
        """Add rows and move the checkpoint, in one commit. No rows are fine: the checkpoint moves alone.

        Args:
            frame: Rows in the table's schema.
            after: The checkpoint that the rows were read from.
            value: The new checkpoint.

        Raises:
            IngestionConflictError: Somebody moved the checkpoint since `after` was read; nothing was written.
        """
        table = self._open() or self._create()
        if _number(table) != after.number:
            raise self._conflict()
        return self._commit(table, frame, after=after, value=value, bundle=None)

    def replace(self, release_bundle: str, frame: pl.DataFrame) -> None:
        """Let rows take the place of all that one release bundle has, in one commit; the checkpoint stays.

        Raises:
            IngestionConflictError: Somebody moved the checkpoint meanwhile; nothing was written.
        """
        table = self._open()
        if table is not None:
            checkpoint = _checkpoint(table)
            self._commit(table, frame, after=checkpoint, value=checkpoint.value, bundle=release_bundle)

    def rows(self, release_bundle: str | None = None, *, within: tuple[str, int, int] | None = None) -> pl.LazyFrame:
        """Return the rows of one release bundle, or of all; files of other bundles are not read.

        Args:
            release_bundle: None for those of all.
            within: A column of `skipping` with the least and the greatest value wanted: other files are not read.

        Raises:
            LandedFileDamagedError: A file is not what was written.
        """
        table = self._open()
        if table is None:
            return pl.LazyFrame(schema=self._schema)
        rows = self._scan(table, release_bundle, within)
        return rows if within is None else rows.filter(pl.col(within[0]).is_between(*within[1:]))

    def bundles(self) -> list[str]:
        """Return the release bundles that have rows, sorted; only the table's log is read."""
        table = self._open()
        return [] if table is None else sorted({str(one[PARTITION]) for one in table.partitions()})

    def erase(self, column: str, values: Collection[str]) -> int:
        """Remove the rows whose column has one of the values, for good: their old files are deleted as well.

        Returns:
            How many rows were removed.

        Raises:
            IngestionConflictError: Somebody ingested rows meanwhile; what is erased so far stays erased, run again.
        """
        removed = 0
        for bundle in self.bundles():
            table = self._open()
            if table is None:
                break
            rows = self._scan(table, bundle).collect()
            kept = rows.filter(~pl.col(column).is_in(sorted(values)).fill_null(value=False))
            if kept.height == rows.height:
                continue
            # Written anew and not deleted by a predicate: the log would keep the predicate, and with it the values.
            checkpoint = _checkpoint(table)
            self._commit(table, kept, after=checkpoint, value=checkpoint.value, bundle=bundle)
            removed += rows.height - kept.height
        # Always: an erasure that was killed has left old files.
        if (table := self._open()) is not None:
            table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
            # And what no commit ever named: of writers that were killed, not of one that is about to commit.
            hours = _ABANDONED_AFTER_HOURS
            table.vacuum(retention_hours=hours, enforce_retention_duration=False, dry_run=False, full=True)
        return removed

    def compact(self) -> None:
        """Join small files, and let the log start from a summary; what is read stays the same."""
        table = self._open()
        if table is None:
            return
        files = pl.DataFrame(table.get_add_actions(flatten=True))
        for bundle, count in files.group_by(f"partition.{PARTITION}").len().iter_rows():
            if count > 1:
                self.replace(bundle, self._scan(table, bundle).collect())
        table.update_incremental()
        table.create_checkpoint()

    def _commit(
        self,
        table: DeltaTable,
        frame: pl.DataFrame,
        *,
        after: Checkpoint,
        value: Mapping[str, Any],
        bundle: str | None,
    ) -> Checkpoint:
        from deltalake import CommitProperties, Transaction
        from deltalake.exceptions import CommitFailedError

        number = after.number + 1
        properties = CommitProperties(
            custom_metadata={_CHECKPOINT: json.dumps({"number": number, "value": value}, sort_keys=True)},
            app_transactions=[Transaction(_CHECKPOINT, number)],
        )
        content = frame.match_to_schema(self._schema)
        try:
            table.create_write_transaction(
                self._files.write(content, number=number),
                mode="append" if bundle is None else "overwrite",
                schema=table.schema(),
                partition_by=[PARTITION],
                partition_filters=None if bundle is None else [(PARTITION, "=", bundle)],
                commit_properties=properties,
            )
        except CommitFailedError as error:
            if "oncurrent" not in str(error):
                raise
            raise self._conflict() from error
        return Checkpoint(dict(value), number)

    def _scan(
        self, table: DeltaTable, release_bundle: str | None, within: tuple[str, int, int] | None = None
    ) -> pl.LazyFrame:
        self._files.require_whole(table, release_bundle, within)
        frame = pl.scan_delta(table).select(self._schema.names())
        return frame if release_bundle is None else frame.filter(pl.col(PARTITION) == release_bundle)

    def _open(self) -> DeltaTable | None:
        from deltalake.exceptions import DeltaError

        try:
            return self._opened_table()
        except (DeltaError, OSError, ValueError) as error:
            damaged = damaged_commit(self._uri)
            where = (
                f"the commit {damaged}" if damaged is not None else f"the log of {self._uri}, its folder _delta_log,"
            )
            raise IngestionLogDamagedError(
                f"{where} cannot be read ({_first_line(error)}). Restore it from a backup. Where it is the newest "
                "commit and empty or cut off, as a power cut leaves it, move it away: what it committed is ingested "
                "again."
            ) from error

    def _opened_table(self) -> DeltaTable | None:
        from deltalake import DeltaTable

        if self._opened is not None and self._opened.version() - self._opened_version < _REOPEN_AFTER:
            # Reads the commits since the last look, not the whole log again.
            self._opened.update_incremental()
        elif self._opened is not None or DeltaTable.is_deltatable(self._uri, self._options):
            if (empty := _empty_commit(self._uri)) is not None:
                # delta-rs takes it for a commit of nothing, and what it committed would be missing in silence.
                raise ValueError(f"{empty.name} is empty")
            self._opened = DeltaTable(self._uri, storage_options=self._options)
            self._opened_version = self._opened.version()
        return self._opened

    def _create(self) -> DeltaTable:
        from deltalake import DeltaTable

        return DeltaTable.create(
            self._uri,
            schema=pl.DataFrame(schema=self._schema).to_arrow().schema,
            mode="ignore",
            partition_by=[PARTITION],
            # The newest commits hold the checkpoint: they must outlive any pause.
            configuration={
                "delta.logRetentionDuration": _NEVER,
                "delta.dataSkippingStatsColumns": ",".join(self._skipping) or PARTITION,
            },
            storage_options=self._options,
        )

    def _conflict(self) -> IngestionConflictError:
        return IngestionConflictError(
            f"another process ingested records at {self._uri} at the same time: nothing was written here, "
            "run again and it goes on from there"
        )


def damaged_commit(uri: str) -> Path | None:
    """Return the first commit of a table on this machine that is empty or no JSON; None where there is none."""
    for path in sorted(Path(uri, "_delta_log").glob("*.json")) if "://" not in uri else ():
        try:
            lines = [json.loads(line) for line in path.read_bytes().splitlines() if line.strip()]
        except ValueError:
            return path
        if not lines:
            return path
    return None


def _empty_commit(uri: str) -> Path | None:
    log = Path(uri, "_delta_log").glob("*.json") if "://" not in uri else ()
    return next((path for path in sorted(log) if not path.stat().st_size), None)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _number(table: DeltaTable) -> int:
    return table.transaction_version(_CHECKPOINT) or 0


def _checkpoint(table: DeltaTable) -> Checkpoint:
    """Find the newest commit with a checkpoint: erasing and compacting commit without one."""
    number = _number(table)
    if number == 0:
        return Checkpoint({}, 0)
    for limit in (1, 16, None):
        for commit in table.history(limit):
            if _CHECKPOINT in commit:
                stored = json.loads(commit[_CHECKPOINT])
                if stored["number"] == number:
                    return Checkpoint(stored["value"], number)
    msg = "the log of the ingestion table lost the commit of its checkpoint: restore the folder _delta_log"
    raise LookupError(msg)


def storage_options(uri: str) -> dict[str, str]:
    """Return how delta-rs reaches the store of a URI, from the variables that boto3 reads as well."""
    if not uri.startswith("s3://"):
        return {}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    options: dict[str, str] = {}
    if region := os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
        options["AWS_REGION"] = region
    if endpoint:
        options["AWS_ENDPOINT_URL"] = endpoint
        # Only a stand-in speaks http; AWS itself is never reached without TLS.
        options["AWS_ALLOW_HTTP"] = str(endpoint.startswith("http://")).lower()
    return options
