"""The warehouse as a resource: DuckDB in a file of this machine, or Amazon Redshift by its Data API.

duckdb, filelock and boto3 are imported by the first call, never while definitions load.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from resources.aws.clients import AwsResource

if TYPE_CHECKING:
    import polars as pl

    from mangaassist_assets.reporting.warehouse.types import Warehouse

# Quoted texts and names stay as they are; `::` is a cast, not a parameter.
_PARAMETER = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|::|:([A-Za-z_]\w*)")


class WarehouseResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # hands out a warehouse, not itself
    """What assets ask for: whatever warehouse the environment has."""

    def open(self) -> "Warehouse":
        """Return the warehouse; it connects with the first statement, and is closed by the caller."""
        raise NotImplementedError(
            f"{type(self).__name__} is no warehouse: use DuckDbWarehouseResource or RedshiftWarehouseResource"
        )


class DuckDbWarehouseResource(WarehouseResource):
    """A DuckDB file. DuckDB lets one process in at a time: each statement opens the file, works and closes it."""

    path: str = Field(description="The database file, or a folder for it; made when first written to.")
    wait_seconds: float = Field(
        default=120.0, ge=0, description="Longest wait for another process of this home that uses the file."
    )

    def open(self) -> "Warehouse":
        """Return the warehouse."""
        path = Path(self.path)
        is_folder = path.is_dir() or not path.suffix
        return DuckDbWarehouse(path / "warehouse.duckdb" if is_folder else path, wait_seconds=self.wait_seconds)


class RedshiftWarehouseResource(WarehouseResource):
    """A Redshift cluster, or a serverless workgroup, by the Data API; rows go there as Parquet through S3."""

    aws: AwsResource
    database: str = Field(description="Database of the cluster or workgroup.")
    staging_url: str = Field(description="s3:// prefix, in the warehouse's region, for rows on their way to COPY.")
    iam_role_arn: str = Field(description="Role by which Redshift reads the prefix, or `default`.")
    cluster_identifier: str | None = Field(default=None, description="A provisioned cluster; needs db_user or secret.")
    db_user: str | None = Field(default=None, description="Database user for temporary credentials of a cluster.")
    workgroup_name: str | None = Field(default=None, description="A serverless workgroup, in place of a cluster.")
    secret_arn: str | None = Field(default=None, description="Secrets Manager secret with user and password.")
    timeout_s: float = Field(default=600.0, gt=0, description="Longest wait for one statement; then it is cancelled.")
    poll_interval_s: float = Field(default=0.5, gt=0, description="Seconds between two questions for its status.")

    def open(self) -> "Warehouse":
        """Return the warehouse.

        Raises:
            ValueError: The settings name no database, or two.
        """
        from resources.warehouse.redshift_warehouse import RedshiftSettings, RedshiftWarehouse

        return RedshiftWarehouse(self.aws, RedshiftSettings(**self.model_dump(exclude={"aws"})))


class DuckDbWarehouse:
    """The warehouse in a DuckDB file, which other processes of the home use as well, one after the other."""

    def __init__(self, path: Path, *, wait_seconds: float) -> None:
        self._path = path
        self._wait_seconds = wait_seconds

    def load(self, rows: "Mapping[str, pl.DataFrame]", *, release_bundle: str) -> bool:
        """Replace a bundle's rows in every table, in one transaction; see `Warehouse.load`."""
        from mangaassist_assets.core.bundles import validate_bundle
        from mangaassist_assets.reporting.warehouse.queries import LOADED
        from mangaassist_assets.reporting.warehouse.rows import checked_rows, rows_digest
        from mangaassist_assets.reporting.warehouse.tables import (
            BUNDLE_LOADS,
            BUNDLE_TABLES,
            create_statement,
            delete_statement,
            insert_statement,
        )

        bundle = {"release_bundle": validate_bundle(release_bundle)}
        tables = checked_rows(rows, release_bundle=release_bundle)
        digest = rows_digest(tables)
        with self._connection() as connection:
            for table in (*BUNDLE_TABLES, BUNDLE_LOADS):
                connection.execute(create_statement(table))
            held = connection.execute(dollar_parameters(LOADED), bundle).fetchone()
            if held is not None and held[0] == digest:
                return False
            connection.begin()
            for table, frame in tables.items():
                connection.execute(dollar_parameters(delete_statement(table)), bundle)
                connection.register("incoming", frame.to_arrow())
                connection.execute(insert_statement(table, source="incoming"))
                connection.unregister("incoming")
            connection.execute(dollar_parameters(delete_statement(BUNDLE_LOADS)), bundle)
            number = 1 if held is None else int(held[1]) + 1
            connection.execute(
                "INSERT INTO bundle_loads (release_bundle, digest, load_number) VALUES (?, ?, ?)",
                [release_bundle, digest, number],
            )
            # Left uncommitted by an error above, the transaction is rolled back as the connection closes.
            connection.commit()
        return True

    def query(self, sql: str, parameters: Mapping[str, str] | None = None) -> "pl.DataFrame":
        """Return what a statement selects; see `Warehouse.query`."""
        import polars as pl

        with self._connection() as connection:
            relation = connection.sql(dollar_parameters(sql), params=dict(parameters or {}))
            if relation is None:
                return pl.DataFrame()
            frame = pl.from_arrow(relation.to_arrow_table())
        if not isinstance(frame, pl.DataFrame):
            raise TypeError(f"a statement gave a {type(frame).__name__}, not a table")
        return frame

    def erase(self, column: str, values: Collection[str]) -> int:
        """Remove rows, and what the file still held of them; see `Warehouse.erase`."""
        from mangaassist_assets.reporting.warehouse.tables import (
            BUNDLE_LOADS,
            BUNDLE_TABLES,
            create_statement,
            erase_statements,
        )

        removed = 0
        with self._connection() as connection:
            for table in (*BUNDLE_TABLES, BUNDLE_LOADS):
                connection.execute(create_statement(table))
            connection.begin()
            for counting, statements in erase_statements(column, values):
                rows = connection.execute(counting).fetchone()
                removed += int(rows[0])
                for statement in statements if rows[0] else ():
                    connection.execute(statement)
            connection.commit()
            if removed:
                self._rewrite(connection)
        return removed

    def close(self) -> None:
        """Do nothing: no connection outlives its statement."""

    def _rewrite(self, connection: "Any") -> None:  # noqa: ANN401 - DuckDB's connection
        """Put a new file in the place of this one: DuckDB leaves deleted rows where they were."""
        fresh = self._path.with_name(f".{self._path.name}.new")
        fresh.unlink(missing_ok=True)
        connection.execute(f"ATTACH {_quoted(str(fresh))} AS fresh")
        present = connection.execute("SELECT current_database()").fetchone()[0]
        connection.execute(f'COPY FROM DATABASE "{present}" TO fresh')
        connection.execute("DETACH fresh")
        connection.close()
        # A log of the old file must not be replayed on the new one.
        self._path.with_name(f"{self._path.name}.wal").unlink(missing_ok=True)
        fresh.replace(self._path)

    @contextmanager
    def _connection(self) -> "Iterator[Any]":
        import duckdb
        from filelock import FileLock, Timeout

        from mangaassist_assets.reporting.warehouse.types import WarehouseBusyError, WarehouseError

        self._path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{self._path}.lock", timeout=self._wait_seconds)
        try:
            with lock, duckdb.connect(str(self._path)) as connection:
                yield connection
        except Timeout as error:
            raise WarehouseBusyError(
                f"another process has used the warehouse {self._path} for {self._wait_seconds:g} s: "
                "end it, or wait and run again"
            ) from error
        except duckdb.IOException as error:
            raise WarehouseBusyError(
                f"the warehouse {self._path} cannot be opened ({_first_line(error)}): a program that does not take "
                "its lock, such as DuckDB's own shell, has it open, or the file is damaged. Close that program; a "
                "damaged file may be deleted, and feedback_warehouse materialized again for each bundle"
            ) from error
        except duckdb.Error as error:
            raise WarehouseError(
                f"the warehouse {self._path} refused a statement ({type(error).__name__}: {_first_line(error)}); "
                "if its tables are of another version, delete the file and materialize feedback_warehouse again"
            ) from error


def dollar_parameters(sql: str) -> str:
    """Return a statement with `:name` parameters in DuckDB's words, `$name`."""
    return _PARAMETER.sub(lambda match: f"${match[1]}" if match[1] else match[0], sql)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
