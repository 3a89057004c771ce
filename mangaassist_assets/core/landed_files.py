"""The files of ingestion tables: Parquet, named by the SHA-256 of their bytes.

Delta's log keeps a file's path, size and statistics, and nothing that tells whether its bytes are still those that
were written: a flipped bit is read as another number or word, and whatever is made of it is hashed as the truth. The
name is in the commit, so the digest is, too, and in every checkpoint of the log. A file is read after its bytes were
compared with its name. Files of before have other names, and are taken as they are until they are written anew.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import polars as pl

from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.core.files import write_whole

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from deltalake.transaction import AddAction, RemoveAction
    from upath import UPath

_NAMED = re.compile(r"part-\d{8}-([0-9a-f]{64})\.parquet$")
_CHUNK = 1 << 20


class LandedFileDamagedError(OperatorError):
    """A file of an ingestion table is gone, or not what was written."""


def digest_in_name(name: str) -> str | None:
    """Return the SHA-256 that a file's name says its bytes have; None for a file of before."""
    named = _NAMED.search(name)
    return None if named is None else named[1]


class LandedFiles:
    """Writes the files of one table and checks them before they are read."""

    def __init__(self, uri: str, *, partition: str, skipping: Sequence[str]) -> None:
        """Name a table.

        Args:
            uri: Directory or `s3://` URL of the table.
            partition: Its partition column.
            skipping: Columns whose least and greatest value stand in the table's log.
        """
        self._uri = uri
        self._partition = partition
        self._skipping = tuple(skipping)
        self._whole: set[tuple[str, int, int]] = set()

    def write(self, frame: pl.DataFrame, *, number: int) -> list[AddAction | RemoveAction]:
        """Write rows, a file for each value of the partition column, and return what a commit says of the files.

        Args:
            frame: Rows in the table's schema.
            number: Of the commit: equal rows of two commits are two files.
        """
        from deltalake.transaction import AddAction

        actions: list[AddAction | RemoveAction] = []
        for (value,), rows in frame.partition_by(self._partition, as_dict=True, include_key=True).items():
            buffer = io.BytesIO()
            rows.drop(self._partition).write_parquet(buffer, compression="zstd")
            data = buffer.getvalue()
            name = f"part-{number:08d}-{hashlib.sha256(data).hexdigest()}.parquet"
            path = f"{self._partition}={quote(str(value), safe='')}/{name}"
            self._put(path, data)
            actions.append(
                AddAction(
                    path=path,
                    size=len(data),
                    partition_values={self._partition: str(value)},
                    modification_time=int(time.time() * 1000),
                    data_change=True,
                    stats=json.dumps(self._statistics(rows)),
                )
            )
        return actions

    def require_whole(self, table: DeltaTable, value: str | None, within: tuple[str, int, int] | None) -> None:
        """Compare the files of one partition value, or of all, with their names; those within a range, if one is given.

        Raises:
            LandedFileDamagedError: one is gone or not what was written.
        """
        for path in self._paths(table, value, within):
            named = _NAMED.search(path)
            if named is None:
                continue
            found = self._digest(path)
            if found != named[1]:
                why = (
                    "is gone" if found is None else "is not what was written: its SHA-256 is another than its name says"
                )
                raise LandedFileDamagedError(
                    f"{path} of the ingestion table {self._uri} {why}. Restore this file from a backup. Without one, "
                    "move the table's folder away and ingest again: traces from MLflow, feedback as far back as its "
                    "stream or its deliveries reach."
                )

    def _paths(self, table: DeltaTable, value: str | None, within: tuple[str, int, int] | None) -> Iterator[str]:
        known = pl.DataFrame(table.get_add_actions(flatten=True))
        if value is not None:
            known = known.filter(pl.col(f"partition.{self._partition}") == value)
        if within is not None and {f"min.{within[0]}", f"max.{within[0]}"} <= set(known.columns):
            column, least, greatest = within
            apart = (pl.col(f"min.{column}") > greatest) | (pl.col(f"max.{column}") < least)
            known = known.filter(~apart.fill_null(value=False))
        # The log's paths are URLs.
        yield from map(unquote, known["path"])

    def _digest(self, path: str) -> str | None:
        local = self._local(path)
        try:
            # An object of a bucket is never written again: it is hashed once.
            status = None if local is None else local.stat()
        except FileNotFoundError:
            return None
        key = (path, 0, 0) if status is None else (path, status.st_size, status.st_mtime_ns)
        named = _NAMED.search(path)
        if named is not None and key in self._whole:
            return named[1]
        digest = hashlib.sha256()
        try:
            with (local or self._remote(path)).open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
        except FileNotFoundError:
            return None
        if named is not None and digest.hexdigest() == named[1]:
            self._whole.add(key)
        return digest.hexdigest()

    def _put(self, path: str, data: bytes) -> None:
        local = self._local(path)
        if local is None:
            self._remote(path).write_bytes(data)
            return
        local.parent.mkdir(parents=True, exist_ok=True)
        write_whole(local, data)

    def _local(self, path: str) -> Path | None:
        """Return where a file lies on this machine, None where the table is in a bucket."""
        return None if "://" in self._uri else Path(self._uri, path)

    def _remote(self, path: str) -> UPath:
        from upath import UPath

        return UPath(self._uri) / path

    def _statistics(self, rows: pl.DataFrame) -> Mapping[str, Any]:
        known = [column for column in self._skipping if column in rows.columns]
        return {
            "numRecords": rows.height,
            "minValues": {column: rows[column].min() for column in known},
            "maxValues": {column: rows[column].max() for column in known},
            "nullCount": {column: rows[column].null_count() for column in known},
        }
