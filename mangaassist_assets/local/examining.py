"""Looks at every kind of file that a home keeps, and says of each damaged one what it means and how to mend it.

Nothing is written. `repair` mends what can be rebuilt from what is whole, never guesses, and keeps the damaged file
beside the new one as `.damaged-NAME`. Caches mend themselves, and are not looked at.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from mangaassist_assets.core.files import DamagedFileError, read_json, write_whole
from mangaassist_assets.core.landed_files import digest_in_name
from mangaassist_assets.core.old_snapshots import OLD_POINTER
from mangaassist_assets.core.snapshots import (
    RECORDS_FOLDER,
    SnapshotStore,
    canonical_json,
    content_digest,
)
from mangaassist_assets.local.home import MARKER, SCHEMA, Home, HomeError, mending_of, ministack_loss

_RECORD = re.compile(r"\d{8}\.json")
_SQLITE_READ_VERSION, _SQLITE_HEADER, _WAL = 19, 20, b"\x02"
_REMADE = "It is made anew at the next start."
_MATERIALIZE = "Restore it from a backup, or materialize the asset again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One damaged file: what is wrong, what that means, and what to do.

    `rebuilt` is what `repair` writes in its place, empty where it is only put aside, None where it repairs nothing.
    """

    path: Path
    problem: str
    meaning: str
    mend: str
    rebuilt: bytes | None = None

    @property
    def repairable(self) -> bool:
        """Whether `repair` mends it."""
        return self.rebuilt is not None


def examine(home: Home, say: Callable[[str], None] = lambda _: None) -> list[Finding]:
    """Return what is damaged in a home; `say` is told what is looked at."""
    found: list[Finding] = []
    for what, look in (
        ("keys and the state of services", _small_files),
        ("databases of MLflow and Dagster", _databases),
        ("snapshots", _snapshots),
        ("ingestion tables", _ingestion_tables),
        ("search indexes", _indexes),
        ("the warehouse", _warehouse),
        ("models", _artifacts),
    ):
        say(f"looking at {what}")
        found.extend(look(home))
    return found


def repair(finding: Finding) -> Path:
    """Mend one repairable finding; returns where the damaged file lies now."""
    if finding.rebuilt is None:
        raise ValueError(f"{finding.path} cannot be rebuilt from what is there")
    kept = finding.path.with_name(f".damaged-{finding.path.name}")
    number = 1
    while kept.exists():
        number += 1
        kept = finding.path.with_name(f".damaged-{number}-{finding.path.name}")
    finding.path.rename(kept)
    if finding.rebuilt:
        write_whole(finding.path, finding.rebuilt)
    return kept


def _small_files(home: Home) -> Iterator[Finding]:
    root = home.root
    secrets: tuple[tuple[Path, Callable[[], object], str], ...] = (
        (home.pseudonym_key_file, home.pseudonym_key, "Keys of users are made with it: without it nobody is found."),
        (home.access_key_file, home.access_key, "The stand-ins of AWS take no request."),
    )
    for path, read, meaning in secrets:
        if path.exists():
            try:
                read()
            except HomeError as error:
                yield Finding(path=path, problem=str(error), meaning=meaning, mend="As it says.")
    marker = json.dumps({"kind": "mangaassist-home", "schema": SCHEMA})
    yield from _json(root / MARKER, "The folder is not known as a home.", f"Write {marker}.", rebuilt=marker.encode())
    for name in ("services.json", "ports.json"):
        yield from _json(home.run / name, "Which services run, or ran, is not known.", _REMADE, rebuilt=b"")
    yield from _json(
        home.sagemaker / "state.json",
        "The local SageMaker does not start.",
        "Restore it, or delete it and materialize the endpoints again.",
    )
    yield from _json(home.search / "alias.json", "Nobody finds the live index.", "Materialize live_index again.")
    for path in sorted((home.ministack / "state").glob("*.json")):
        yield from _json(path, *ministack_loss(path))
    for path in sorted((home.store / "runs").glob("*.json")):
        yield from _json(path, "What that run reads is not known.", "Delete it where that run is over.")


def _json(path: Path, meaning: str, mend: str, *, rebuilt: bytes | None = None) -> Iterator[Finding]:
    problem = _json_problem(path) if path.exists() else None
    if problem is not None:
        yield Finding(path=path, problem=problem, meaning=meaning, mend=mend, rebuilt=rebuilt)


def _json_problem(path: Path) -> str | None:
    try:
        read_json(path, what="it", mend="")
    except DamagedFileError as error:
        return str(error).partition(", it, ")[2].strip().rstrip(".")
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return None


def _databases(home: Home) -> Iterator[Finding]:
    for path in (home.mlflow / "mlflow.db", *sorted(home.dagster.rglob("*.db"))):
        if path.is_file() and path.stat().st_size and (problem := _sqlite_problem(path)) is not None:
            meaning = "The server does not start, or fails later."
            yield Finding(path=path, problem=problem, meaning=meaning, mend=mending_of(path))


def _sqlite_problem(path: Path) -> str | None:
    with path.open("rb") as file:
        header = file.read(_SQLITE_HEADER)
    # Of one that is written with a log ahead, and that nobody has open, SQLite would make the log to read it.
    resting = header[_SQLITE_READ_VERSION:] == _WAL and not path.with_name(f"{path.name}-wal").exists()
    how = "immutable=1" if resting else "mode=ro"
    try:
        with closing(sqlite3.connect(f"file:{path}?{how}", uri=True, timeout=30)) as database:
            (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if answer == "ok" else str(answer)


def _snapshots(home: Home) -> Iterator[Finding]:
    from upath import UPath

    records = home.store / RECORDS_FOLDER
    store = SnapshotStore(UPath(home.store))
    named: dict[str, str] = {}
    for path in sorted(records.glob("*/*/*.json")):
        place = f"{path.parent.parent.name}/{path.parent.name}"
        if path.name == OLD_POINTER:
            yield from _pointer(path)
        if not _RECORD.fullmatch(path.name):
            continue
        problem, files = _record(path)
        if problem is not None:
            meaning = f"Which files snapshot {int(path.stem)} of {place} has is not known; nothing reads {place}."
            yield Finding(path=path, problem=problem, meaning=meaning, mend=_MATERIALIZE)
        for file, sha256 in files.items():
            named.setdefault(sha256, f"{file} of {place}")
    for sha256, of in sorted(named.items()):
        path = Path(str(store.blob_path(sha256)))
        if (problem := _hash_problem(path, sha256)) is not None:
            meaning = f"It is {of}, and what reads it fails."
            yield Finding(path=path, problem=problem, meaning=meaning, mend=_MATERIALIZE)


def _record(path: Path) -> tuple[str | None, Mapping[str, str]]:
    if (problem := _json_problem(path)) is not None:
        return problem, {}
    record = json.loads(path.read_bytes())
    files = record.get("files") if isinstance(record, dict) else None
    if not isinstance(files, dict) or "digest" not in record:
        return "is no record: it has no files or no digest", {}
    return None, {} if record.get("purged") else files


def _pointer(path: Path) -> Iterator[Finding]:
    problem = _json_problem(path)
    if problem is None and isinstance(json.loads(path.read_bytes()), dict):
        return
    whole: list[str] = []
    for folder in sorted(one for one in path.parent.iterdir() if one.is_dir()):
        files = {one.name: one.read_bytes() for one in folder.iterdir() if not one.name.startswith(".")}
        digest = content_digest(files)
        if digest.startswith(folder.name):
            whole.append(digest)
    only = whole[0] if len(whole) == 1 else None
    shown = ", ".join(one[:12] for one in whole) or "none"
    yield Finding(
        path=path,
        problem=problem or "is no object",
        meaning="Which snapshot of the asset is the newest is not known.",
        mend="There is one whole snapshot, which it then names."
        if only
        else f'Whole snapshots are {shown}: which is the newest nobody can tell. Write {{"digest": …}}, or move the '
        "folder away and materialize the asset again.",
        rebuilt=canonical_json({"digest": only}) if only else None,
    )


def _hash_problem(path: Path, sha256: str) -> str | None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return None if found == sha256 else "is not what was written: its SHA-256 is another"


def _ingestion_tables(home: Home) -> Iterator[Finding]:
    meaning = "What was ingested into the table cannot be read."
    for log in sorted(home.store.rglob("_delta_log")):
        damaged = False
        yield from _json(log / "_last_checkpoint", "The table is opened slower.", _REMADE, rebuilt=b"")
        for commit in sorted(log.glob("*.json")):
            problem = _commit_problem(commit)
            if problem is not None:
                damaged = True
                mend = "Restore it from a backup: rows and the position of the reading are in it."
                yield Finding(path=commit, problem=problem, meaning=meaning, mend=mend)
        if not damaged:
            yield from _landed(log.parent, meaning)


def _commit_problem(commit: Path) -> str | None:
    lines = commit.read_bytes().splitlines()
    if not lines:
        return "is empty"
    for number, line in enumerate(lines, 1):
        try:
            json.loads(line)
        except ValueError as error:
            return f"line {number} is no JSON ({error})"
    return None


def _landed(table: Path, meaning: str) -> Iterator[Finding]:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    mend = "Restore it from a backup, or move the table away: what MLflow or the stream still has is read again."
    try:
        files = [Path(one) for one in DeltaTable(str(table)).file_uris()]
    except (DeltaError, OSError, ValueError) as error:
        yield Finding(path=table / "_delta_log", problem=_first_line(error), meaning=meaning, mend=mend)
        return
    for path in sorted(files):
        sha256 = digest_in_name(path.name)
        problem = _hash_problem(path, sha256) if sha256 else (None if path.exists() else "is gone")
        if problem is not None:
            yield Finding(path=path, problem=problem, meaning="Reading its release bundle fails.", mend=mend)


def _indexes(home: Home) -> Iterator[Finding]:
    folders = sorted(home.search.glob("*.lance"))
    if not folders:
        return
    import lancedb

    database = lancedb.connect(str(home.search))
    for folder in folders:
        try:
            table = database.open_table(folder.stem)
            read = sum(batch.num_rows for batch in table.search().to_batches(batch_size=1024))
            problem = None if read == table.count_rows() else f"holds {read} rows of {table.count_rows()}"
        except (OSError, RuntimeError, ValueError) as error:
            problem = _first_line(error)
        if problem is not None:
            yield Finding(
                path=folder,
                problem=problem,
                meaning="Searches in this generation fail or find too little.",
                mend="Move it away and run the index refresh; it is built again from the knowledge.",
            )


def _warehouse(home: Home) -> Iterator[Finding]:
    import duckdb

    for path in sorted(home.warehouse.glob("*.duckdb")):
        try:
            with duckdb.connect(str(path), read_only=True) as database:
                for (name,) in database.execute("SELECT table_name FROM duckdb_tables()").fetchall():
                    quoted = str(name).replace('"', '""')
                    database.execute(f'SELECT sum(hash(COLUMNS(*))) FROM "{quoted}"').fetchall()  # noqa: S608 - quoted
        except duckdb.Error as error:
            in_use = "lock" in str(error).lower()
            yield Finding(
                path=path,
                problem=_first_line(error),
                meaning="It is in use, and was not looked at." if in_use else "Reports of satisfaction and usage fail.",
                mend="Look again when nothing runs."
                if in_use
                else "Restore it, or move it away and materialize feedback_warehouse of each bundle again.",
            )


def _artifacts(home: Home) -> Iterator[Finding]:
    from mangaassist_assets.models.artifacts import MANIFEST_FILE, ArtifactMismatchError, verify_artifact

    for seal in sorted((home.mlflow / "artifacts").rglob(MANIFEST_FILE)):
        try:
            verify_artifact(seal.parent, None)
        except (ArtifactMismatchError, ValueError, KeyError) as error:
            yield Finding(
                path=seal.parent,
                problem=_first_line(error),
                meaning="The model cannot be loaded or deployed.",
                mend="Restore it from a backup, or train it again.",
            )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
