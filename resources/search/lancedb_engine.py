"""Index generations in LanceDB: one table each, an alias file beside them.

A table is sealed by a Lance tag on its finished version, so the mark is in the table and comes and goes with it.
Vector search is exact: at this size that is faster than it is worth to approximate. The keyword index splits words
by ICU, which knows Japanese, and stems English.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from mangaassist_assets.retrieval.documents.text import keyword_query
from mangaassist_assets.retrieval.errors import (
    AliasMovedError,
    LiveGenerationError,
    SealedGenerationError,
    SearchIndexError,
    TenantlessGenerationError,
    UnknownGenerationError,
    UnsealedGenerationError,
)
from mangaassist_assets.retrieval.tenants import tenant_key

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from lancedb.db import DBConnection
    from lancedb.table import Table
    from numpy.typing import NDArray

    from mangaassist_assets.retrieval.tenants import TenantScope
    from mangaassist_assets.retrieval.types import Chunk, GenerationState, Hit, Vectors

_SEALED = "sealed"
_COLUMNS = ["chunk_id", "document_id", "title", "text"]
_TENANT_KEY = "tenant_key"
_GENERATION_NAME = re.compile(r"^[0-9a-z][0-9a-z_-]{0,62}$")
_LOCK_SECONDS = 60.0


class LanceDbIndex:
    """A `SearchIndex` in a folder, for any number of processes and threads on one machine."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._alias_file = path / "alias.json"
        self._connection: DBConnection | None = None
        self._sealed_tables: dict[tuple[str, int, int], Table] = {}
        self._mutex = Lock()

    @property
    def settings(self) -> Mapping[str, str]:
        """What shapes the search results: part of a generation's identity."""
        return {"engine": "lancedb", "layout": "2", "vector": "exact-cosine", "analyzer": "icu-english-stems"}

    def create_generation(self, generation: str, *, dimension: int) -> None:
        """Create an empty table; an unfinished one of the same name is replaced.

        Raises:
            SealedGenerationError: If a finished generation of that name exists.
        """
        import pyarrow as pa

        _check_name(generation)
        state = self.state(generation)
        if state is not None and state.sealed:
            raise SealedGenerationError(
                f"the generation {generation} is finished and must not change: delete it first, or use it as it is"
            )
        schema = pa.schema(
            [
                *(pa.field(name, pa.string(), nullable=False) for name in _COLUMNS),
                pa.field("position", pa.int32(), nullable=False),
                pa.field("content_hash", pa.string(), nullable=False),
                # Title and text together, what the keyword index reads.
                pa.field("keywords", pa.string(), nullable=False),
                # Whose the chunk is, what every search of a shopper asks for.
                pa.field(_TENANT_KEY, pa.string(), nullable=False),
                # `key=value` of the metadata, what filters read.
                pa.field("attributes", pa.list_(pa.string()), nullable=False),
                pa.field("vector", pa.list_(pa.float32(), dimension), nullable=False),
            ],
            metadata={"created_at": str(int(datetime.now(UTC).timestamp() * 1000)), "dimension": str(dimension)},
        )
        # A killed builder can leave a folder that is no table, which nothing but removal gets rid of.
        if self._exists(generation):
            shutil.rmtree(self._table_folder(generation))
        self._database().create_table(generation, schema=schema)

    def add(self, generation: str, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        """Add chunks with their vectors, shape (len(chunks), dimension).

        Raises:
            UnknownGenerationError: If there is no such generation.
            SealedGenerationError: If it is finished.
        """
        state = self._known(generation)
        if state.sealed:
            raise SealedGenerationError(f"the generation {generation} is finished: nothing can be added to it")
        if vectors.shape != (len(chunks), state.dimension):
            raise ValueError(
                f"{len(chunks)} chunks for the generation {generation} of dimension {state.dimension} came with "
                f"vectors of shape {vectors.shape}"
            )
        if chunks:
            table = self._database().open_table(generation)
            table.add(_rows(table.schema, chunks, vectors))

    def seal(self, generation: str) -> None:
        """Build the keyword index and mark the generation finished; a finished one stays as it is."""
        from lancedb.index import FTS

        if self._known(generation).sealed:
            return
        table = self._database().open_table(generation)
        if table.count_rows():
            config = FTS(
                base_tokenizer="icu", language="English", stem=True, remove_stop_words=True, ascii_folding=True
            )
            table.create_index("keywords", config=config)
        table.tags.create(_SEALED, table.version)

    def state(self, generation: str) -> GenerationState | None:
        """Return what is known of a generation, or None where there is none of that name."""
        from mangaassist_assets.retrieval.types import GenerationState

        if not self._exists(generation):
            return None
        table = self._sealed_tables.get(self._identity(generation))
        sealed = table is not None
        if table is None:
            try:
                table = self._database().open_table(generation)
            except ValueError:
                # A folder without a readable version: its builder was killed before the first commit.
                changed = self._table_folder(generation).stat().st_mtime
                return GenerationState(
                    generation=generation,
                    dimension=0,
                    sealed=False,
                    created_at=int(changed * 1000),
                    knows_tenants=False,
                )
            sealed = _SEALED in table.tags.list()
        metadata = table.schema.metadata
        return GenerationState(
            generation=generation,
            dimension=int(metadata[b"dimension"]),
            sealed=sealed,
            created_at=int(metadata[b"created_at"]),
            knows_tenants=_TENANT_KEY in table.schema.names,
        )

    def count(self, generation: str) -> int:
        """Return how many chunks a generation holds."""
        return int(self._table(generation).count_rows())

    def vector_search(
        self,
        generation: str,
        vector: NDArray[np.float32],
        *,
        scope: TenantScope,
        limit: int,
        filters: Mapping[str, str] | None = None,
    ) -> list[Hit]:
        """Return the nearest chunks by cosine similarity, best first; the score is that similarity."""
        table = self._searchable(generation, scope)
        query: Any = table.search(vector, vector_column_name="vector", query_type="vector")
        query = query.distance_type("cosine").bypass_vector_index()
        query = _filtered(query, scope, filters).select([*_COLUMNS, "_distance"]).limit(limit)
        return [_hit(row, 1.0 - row["_distance"]) for row in _found(generation, query)]

    def keyword_search(
        self,
        generation: str,
        query: str,
        *,
        scope: TenantScope,
        limit: int,
        filters: Mapping[str, str] | None = None,
    ) -> list[Hit]:
        """Return the best chunks by BM25, best first. Any text is a valid query; there are no operators."""
        from lancedb.query import MatchQuery

        table = self._searchable(generation, scope)
        words = keyword_query(query)
        if not words or not table.list_indices():
            return []
        match: Any = MatchQuery
        search = _filtered(table.search(match(words, "keywords"), query_type="fts"), scope, filters)
        search = search.select([*_COLUMNS, "_score"]).limit(limit)
        return [_hit(row, row["_score"]) for row in _found(generation, search)]

    def generations(self) -> list[str]:
        """Return the names of all generations, unfinished ones included, oldest first."""
        if not self._path.is_dir():
            return []
        names = [path.stem for path in self._path.iterdir() if path.suffix == ".lance"]
        states = [state for name in names if (state := self.state(name)) is not None]
        return [state.generation for state in sorted(states, key=lambda state: (state.created_at, state.generation))]

    def live_generation(self) -> str | None:
        """Return the generation the alias names, or None before the first swap."""
        try:
            content = self._alias_file.read_text("utf-8")
        except FileNotFoundError:
            return None
        try:
            live = json.loads(content)["live"]
        except (ValueError, KeyError, TypeError) as error:
            raise SearchIndexError(
                f'{self._alias_file} is damaged: write {{"schema": 1, "live": "GENERATION"}} with one of '
                f"{', '.join(self.generations()) or 'no generations'}"
            ) from error
        return str(live)

    def swap_live(self, generation: str, *, expected: str | None) -> None:
        """Point the alias at `generation` if it still names `expected`.

        Raises:
            AliasMovedError: If it names another one by now.
            UnknownGenerationError: If there is no such generation.
            UnsealedGenerationError: If it was never finished.
            TenantlessGenerationError: If it does not know tenants.
        """
        with self._alias_lock():
            live = self.live_generation()
            if live != expected:
                raise AliasMovedError(expected=expected, actual=live)
            state = self._known(generation)
            if not state.sealed:
                raise UnsealedGenerationError(
                    f"the generation {generation} is not finished: seal it before it goes live"
                )
            if not state.knows_tenants:
                raise TenantlessGenerationError(generation)
            aside = self._path / f".alias-{uuid.uuid4().hex}.tmp"
            swapped_at = datetime.now(UTC).isoformat(timespec="milliseconds")
            content = {"schema": 1, "live": generation, "previous": live, "swapped_at": swapped_at}
            with aside.open("w", encoding="utf-8") as file:
                json.dump(content, file)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(self._alias_file)

    def delete_generation(self, generation: str) -> None:
        """Remove a generation.

        Raises:
            LiveGenerationError: If it is the live one.
            UnknownGenerationError: If there is no such generation.
        """
        with self._alias_lock():
            if self.live_generation() == generation:
                raise LiveGenerationError(
                    f"the generation {generation} is live: swap to another one before you delete it"
                )
            self._known(generation)
            with self._mutex:
                self._sealed_tables.pop(self._identity(generation), None)
            shutil.rmtree(self._table_folder(generation))

    def _database(self) -> DBConnection:
        import lancedb

        with self._mutex:
            if self._connection is None:
                try:
                    self._path.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise SearchIndexError(f"cannot create the search folder {self._path}: {error.strerror}") from error
                self._connection = lancedb.connect(self._path)
            return self._connection

    def _table(self, generation: str) -> Table:
        """Return the table of a generation; a finished one is opened once, as it never changes."""
        if not self._exists(generation):
            self._known(generation)
        identity = self._identity(generation)
        table = self._sealed_tables.get(identity)
        if table is None:
            state = self._known(generation)
            table = self._database().open_table(generation)
            if state.sealed:
                with self._mutex:
                    self._sealed_tables[identity] = table
        return table

    def _searchable(self, generation: str, scope: TenantScope) -> Table:
        """Return the table of a generation if it can be searched in a scope."""
        table = self._table(generation)
        if scope.admitted_keys() is not None and _TENANT_KEY not in table.schema.names:
            raise TenantlessGenerationError(generation)
        return table

    def _exists(self, generation: str) -> bool:
        return _GENERATION_NAME.match(generation) is not None and self._table_folder(generation).is_dir()

    def _identity(self, generation: str) -> tuple[str, int, int]:
        """Return what differs where a generation was deleted and built again under its old name."""
        status = self._table_folder(generation).stat()
        return generation, status.st_ino, status.st_mtime_ns

    def _known(self, generation: str) -> GenerationState:
        state = self.state(generation)
        if state is None:
            raise UnknownGenerationError(
                f"there is no generation {generation[:80]!r} in {self._path}; there are "
                f"{', '.join(self.generations()) or 'none'}"
            )
        return state

    def _table_folder(self, generation: str) -> Path:
        return self._path / f"{generation}.lance"

    def _alias_lock(self) -> FileLock:
        self._path.mkdir(parents=True, exist_ok=True)
        return FileLock(self._path / ".alias.lock", timeout=_LOCK_SECONDS)


def _check_name(generation: str) -> None:
    if not _GENERATION_NAME.match(generation):
        raise ValueError(
            f"{generation[:80]!r} is no name for a generation: use up to 63 of a-z, 0-9, - and _, starting with a "
            "letter or digit"
        )


def _rows(schema: pa.Schema, chunks: Sequence[Chunk], vectors: Vectors) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
    columns: dict[str, Any] = {
        "chunk_id": [chunk.chunk_id for chunk in chunks],
        "document_id": [chunk.document_id for chunk in chunks],
        "title": [chunk.title for chunk in chunks],
        "text": [chunk.text for chunk in chunks],
        "position": [chunk.position for chunk in chunks],
        "content_hash": [chunk.content_hash for chunk in chunks],
        "keywords": [f"{chunk.title}\n{chunk.text}" for chunk in chunks],
        _TENANT_KEY: [tenant_key(chunk.tenant) for chunk in chunks],
        "attributes": [[f"{key}={value}" for key, value in sorted(chunk.metadata.items())] for chunk in chunks],
        "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
    }
    return pa.table(columns, schema=schema)


def _filtered(query: Any, scope: TenantScope, filters: Mapping[str, str] | None) -> Any:  # noqa: ANN401  # LanceDB's builders are untyped
    """Restrict a query before it ranks: what is not admitted takes no place of what is."""
    conditions = []
    keys = scope.admitted_keys()
    if keys is not None:
        # Digests: what a tenant is called never becomes part of the condition.
        conditions.append(f"{_TENANT_KEY} IN ({', '.join(repr(key) for key in keys)})")
    for key, value in sorted((filters or {}).items()):
        literal = f"{key}={value}".replace("'", "''")
        conditions.append(f"array_has(attributes, '{literal}')")
    return query.where(" AND ".join(conditions), prefilter=True) if conditions else query


def _found(generation: str, query: Any) -> list[dict[str, Any]]:  # noqa: ANN401  # LanceDB's builders are untyped
    try:
        rows: list[dict[str, Any]] = query.to_arrow().to_pylist()
    except (OSError, RuntimeError, ValueError) as error:
        raise SearchIndexError(f"LanceDB could not search the generation {generation}: {error}") from error
    return rows


def _hit(row: Mapping[str, Any], score: float) -> Hit:
    from mangaassist_assets.retrieval.types import Hit

    return Hit(
        chunk_id=row["chunk_id"],
        document_id=row["document_id"],
        title=row["title"],
        text=row["text"],
        score=float(score),
    )
