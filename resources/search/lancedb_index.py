"""Index generations in LanceDB: one table each, an alias file beside them.

A table is sealed by a Lance tag on its finished version, so the mark is in the table and comes and goes with it.
Vector search is exact: at this size that is faster than it is worth to approximate. The keyword index splits words
by ICU, which knows Japanese, and stems English.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from mangaassist_assets.core.files import write_whole
from mangaassist_assets.retrieval.errors import AliasMovedError, SearchIndexError
from mangaassist_assets.retrieval.search_index import SearchIndex, indexed_fields
from mangaassist_assets.retrieval.types import Chunk, GenerationState, Hit, Vectors

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from lancedb.db import DBConnection
    from lancedb.table import Table
    from numpy.typing import NDArray

_SEALED = "sealed"
_COLUMNS = ["chunk_id", "document_id", "title", "text"]
_LOCK_SECONDS = 60.0


class LanceDbIndex(SearchIndex):
    """A search index in a folder, for any number of processes and threads on one machine."""

    engine = "LanceDB"

    def __init__(self, path: Path) -> None:
        self._path = path
        self.location = str(path)
        self._alias_file = path / "alias.json"
        self._connection: DBConnection | None = None
        self._sealed_tables: dict[tuple[str, int, int], Table] = {}
        self._mutex = Lock()

    @property
    def settings(self) -> Mapping[str, str]:
        """What shapes the search results."""
        return {"engine": "lancedb", "layout": "3", "vector": "exact-cosine", "analyzer": "icu-english-stems"}

    def _errors(self) -> tuple[type[Exception], ...]:
        return (OSError, RuntimeError, ValueError)

    def _create(self, state: GenerationState) -> None:
        import pyarrow as pa

        text = pa.string()
        columns = [
            *((name, text) for name in _COLUMNS),
            ("position", pa.int32()),
            ("content_hash", text),
            ("keywords", text),
            ("tenant_key", text),
            ("vector", pa.list_(pa.float32(), state.dimension)),
        ]
        schema = pa.schema(
            [pa.field(name, kind, nullable=False) for name, kind in columns],
            metadata={"created_at": str(state.created_at), "dimension": str(state.dimension)},
        )
        self._database().create_table(state.generation, schema=schema)

    def _add(self, generation: str, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        table = self._database().open_table(generation)
        table.add(_rows(table.schema, chunks, vectors))

    def _seal(self, state: GenerationState) -> None:
        from lancedb.index import FTS

        table = self._database().open_table(state.generation)
        if table.count_rows():
            config = FTS(
                base_tokenizer="icu", language="English", stem=True, remove_stop_words=True, ascii_folding=True
            )
            table.create_index("keywords", config=config)
        table.tags.create(_SEALED, table.version)

    def _state(self, generation: str) -> GenerationState | None:
        if not self._table_folder(generation).is_dir():
            return None
        table = self._sealed_tables.get(self._identity(generation))
        sealed = table is not None
        if table is None:
            try:
                table = self._database().open_table(generation)
            except ValueError:
                # A folder without a readable version: its builder was killed before the first commit.
                changed = self._table_folder(generation).stat().st_mtime
                return GenerationState(generation=generation, dimension=0, sealed=False, created_at=int(changed * 1000))
            sealed = _SEALED in table.tags.list()
        metadata = table.schema.metadata
        return GenerationState(
            generation=generation,
            dimension=int(metadata[b"dimension"]),
            sealed=sealed,
            created_at=int(metadata[b"created_at"]),
        )

    def _states(self) -> Iterator[GenerationState]:
        for folder in self._path.glob("*.lance"):
            state = self._state(folder.stem)
            if state is not None:
                yield state

    def _count(self, generation: str) -> int:
        table = self._table(generation)
        return 0 if table is None else int(table.count_rows())

    def _vector_search(
        self, generation: str, vector: NDArray[np.float32], tenant_keys: Sequence[str] | None, limit: int
    ) -> list[Hit] | None:
        table = self._table(generation)
        if table is None:
            return None
        query: Any = table.search(vector, vector_column_name="vector", query_type="vector")
        query = _of_tenants(query.distance_type("cosine").bypass_vector_index(), tenant_keys)
        rows = query.select([*_COLUMNS, "_distance"]).limit(limit).to_arrow().to_pylist()
        return [_hit(row, 1.0 - row["_distance"]) for row in rows]

    def _keyword_search(
        self, generation: str, words: str, tenant_keys: Sequence[str] | None, limit: int
    ) -> list[Hit] | None:
        from lancedb.query import MatchQuery

        table = self._table(generation)
        if table is None:
            return None
        if not table.list_indices():
            return []
        match: Any = MatchQuery
        query = _of_tenants(table.search(match(words, "keywords"), query_type="fts"), tenant_keys)
        rows = query.select([*_COLUMNS, "_score"]).limit(limit).to_arrow().to_pylist()
        return [_hit(row, row["_score"]) for row in rows]

    def _live_generation(self) -> str | None:
        try:
            content = self._alias_file.read_text("utf-8")
        except FileNotFoundError:
            return None
        try:
            live = json.loads(content)["live"]
        except (ValueError, KeyError, TypeError) as error:
            raise SearchIndexError(
                f'{self._alias_file} is damaged: write {{"schema": 1, "live": "GENERATION"}} with one of '
                f"{', '.join(state.generation for state in self._states()) or 'no generations'}"
            ) from error
        return str(live)

    def _alias_lock(self) -> FileLock:
        self._path.mkdir(parents=True, exist_ok=True)
        return FileLock(self._path / ".alias.lock", timeout=_LOCK_SECONDS)

    def _move_alias(self, generation: str, *, expected: str | None) -> None:
        if (live := self._live_generation()) != expected:
            raise AliasMovedError(expected=expected, actual=live)
        swapped_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        content = {"schema": 1, "live": generation, "previous": expected, "swapped_at": swapped_at}
        write_whole(self._alias_file, json.dumps(content).encode())

    def _delete(self, generation: str) -> None:
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

    def _table(self, generation: str) -> Table | None:
        """Return the table of a generation; a finished one is opened once, as it never changes."""
        if not self._table_folder(generation).is_dir():
            return None
        identity = self._identity(generation)
        table = self._sealed_tables.get(identity)
        if table is None:
            table = self._database().open_table(generation)
            if _SEALED in table.tags.list():
                with self._mutex:
                    self._sealed_tables[identity] = table
        return table

    def _identity(self, generation: str) -> tuple[str, int, int]:
        """Return what differs where a generation was deleted and built again under its old name."""
        status = self._table_folder(generation).stat()
        return generation, status.st_ino, status.st_mtime_ns

    def _table_folder(self, generation: str) -> Path:
        return self._path / f"{generation}.lance"


def _rows(schema: pa.Schema, chunks: Sequence[Chunk], vectors: Vectors) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    rows = pa.Table.from_pylist([indexed_fields(chunk) for chunk in chunks], schema=schema.remove(len(schema) - 1))
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    return rows.append_column(schema.field("vector"), column)


def _of_tenants(query: Any, tenant_keys: Sequence[str] | None) -> Any:  # noqa: ANN401  # LanceDB's builders are untyped
    if tenant_keys is None:
        return query
    # Digests: what a tenant is called never becomes part of the condition.
    return query.where(f"tenant_key IN ({', '.join(map(repr, tenant_keys))})", prefilter=True)


def _hit(row: Mapping[str, Any], score: float) -> Hit:
    return Hit(**{name: row[name] for name in _COLUMNS}, score=float(score))
