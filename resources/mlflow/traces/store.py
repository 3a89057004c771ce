"""MLflow's tracking store opened for reading: SQLite or PostgreSQL, in short transactions that can write nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    import sqlite3

    import sqlalchemy as sa
    from sqlalchemy.engine import URL, Connection, Engine

TESTED = "MLflow 3.17"

NEEDED_COLUMNS: dict[str, tuple[str, ...]] = {
    "experiments": ("experiment_id", "name"),
    "trace_info": (
        *("request_id", "experiment_id", "timestamp_ms", "execution_time_ms", "status", "session_id"),
        *("input_tokens", "output_tokens", "total_tokens", "cache_read_input_tokens"),
        *("cache_creation_input_tokens", "cache_creation_input_tokens_above_1hr"),
        *("input_cost", "output_cost", "total_cost"),
    ),
    "trace_tags": ("request_id", "key", "value"),
    "trace_request_metadata": ("request_id", "key", "value"),
    "spans": ("trace_id", "content"),
    "assessments": (
        *("assessment_id", "trace_id", "name", "assessment_type", "value", "source_type", "source_id"),
        *("created_timestamp", "last_updated_timestamp", "valid"),
    ),
}


class TrackingStoreError(RuntimeError):
    """The tracking store cannot be read."""


class TrackingStore:
    """A tracking store, opened at the first transaction."""

    def __init__(self, uri: str, *, timeout_s: float = 60.0) -> None:
        """Name a store.

        Args:
            uri: SQLAlchemy URL of the store behind the MLflow server; `postgresql://` is read as psycopg2.
            timeout_s: Seconds that one statement, or the wait for a lock, may take.

        Raises:
            TrackingStoreError: It is not a URL of SQLAlchemy, or names another database than SQLite or PostgreSQL.
        """
        self._url = _parsed(uri)
        self._timeout_s = timeout_s
        self._engine: Engine | None = None
        self._lock = threading.Lock()

    @property
    def is_postgresql(self) -> bool:
        """Whether the store is PostgreSQL."""
        return self._url.get_backend_name() == "postgresql"

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open a transaction that sees one state of the store.

        Raises:
            TrackingStoreError: The store cannot be reached, fails, or its tables are not those of a known MLflow.
        """
        from sqlalchemy.exc import DBAPIError

        with self._lock:
            engine = self._opened()
        try:
            with engine.connect() as connection:
                if not self.is_postgresql:
                    connection.exec_driver_sql("BEGIN")
                yield connection
                connection.rollback()
        except DBAPIError as error:
            raise TrackingStoreError(
                f"the tracking store {self._shown()} failed while it was read: {error.orig}; nothing was changed, "
                "read again once it answers"
            ) from error

    def close(self) -> None:
        """Close all connections; the next transaction opens new ones."""
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None

    def _opened(self) -> Engine:
        if self._engine is None:
            from sqlalchemy.exc import DatabaseError

            engine = self._postgresql() if self.is_postgresql else self._sqlite()
            try:
                _check_schema(engine, self._shown())
            except DatabaseError as error:
                engine.dispose()
                raise TrackingStoreError(
                    f"the tracking store {self._shown()} cannot be opened: {error.orig}; "
                    "check tracking_store_uri and that this user may read it"
                ) from error
            except TrackingStoreError:
                engine.dispose()
                raise
            self._engine = engine
        return self._engine

    def _postgresql(self) -> Engine:
        import sqlalchemy as sa

        given = self._url.query.get("options", "")
        options = " ".join([given] if isinstance(given, str) else given)
        options += f" -c default_transaction_read_only=on -c statement_timeout={int(self._timeout_s * 1000)}"
        return sa.create_engine(
            self._url.difference_update_query(["options"]),
            isolation_level="REPEATABLE READ",
            connect_args={"options": options.strip(), "connect_timeout": max(2, int(self._timeout_s))},
            pool_pre_ping=True,
            hide_parameters=True,
        )

    def _sqlite(self) -> Engine:
        import sqlalchemy as sa

        path = Path(str(self._url.database)).absolute()
        if not path.is_file():
            raise TrackingStoreError(
                f"the tracking store {path} does not exist: start the MLflow server once, or correct tracking_store_uri"
            )

        def connect() -> sqlite3.Connection:
            import sqlite3

            connection = sqlite3.connect(
                f"file:{quote(str(path))}?mode=ro",
                uri=True,
                timeout=self._timeout_s,
                isolation_level=None,
                check_same_thread=False,
            )
            connection.execute("PRAGMA query_only = ON")
            return connection

        return sa.create_engine("sqlite://", creator=connect, poolclass=sa.pool.QueuePool, hide_parameters=True)

    def _shown(self) -> str:
        return self._url.render_as_string(hide_password=True)


def _parsed(uri: str) -> URL:
    import sqlalchemy as sa

    try:
        url = sa.make_url(uri)
    except sa.exc.ArgumentError as error:
        raise TrackingStoreError(
            "tracking_store_uri is no SQLAlchemy URL: write sqlite:////folder/mlflow.db or "
            "postgresql://user@host/database"
        ) from error
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg2")
    backend = url.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise TrackingStoreError(
            f"traces are read by SQL from SQLite and PostgreSQL, not from {backend}: set trace_reader to rest"
        )
    if backend == "sqlite" and url.database in (None, "", ":memory:"):
        raise TrackingStoreError("tracking_store_uri names an SQLite database in memory, which no other process sees")
    return url


def _check_schema(engine: Engine, shown: str) -> None:
    import sqlalchemy as sa

    inspector = sa.inspect(engine)
    tables = set(inspector.get_table_names())
    missing = [name for name in NEEDED_COLUMNS if name not in tables]
    for table, needed in NEEDED_COLUMNS.items():
        if table in tables:
            there = {column["name"] for column in inspector.get_columns(table)}
            missing += [f"{table}.{name}" for name in needed if name not in there]
    if missing:
        raise TrackingStoreError(
            f"{shown} has not the tables of {TESTED}: {', '.join(missing[:5])} missing{_version(engine, tables)}; "
            "upgrade it with `mlflow db upgrade`, or set trace_reader to rest"
        )


def _version(engine: Engine, tables: set[str]) -> str:
    import sqlalchemy as sa

    if "alembic_version" not in tables:
        return ", and it was not made by MLflow"
    with engine.connect() as connection:
        version = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return f" (its schema version is {version})"


def tables() -> dict[str, sa.TableClause]:
    """Return the tables that are read, by name, with the columns that are needed."""
    import sqlalchemy as sa

    return {name: sa.table(name, *map(sa.column, columns)) for name, columns in NEEDED_COLUMNS.items()}
