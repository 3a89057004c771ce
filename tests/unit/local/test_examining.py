"""Every kind of file of a home is looked at; what is rebuilt is rebuilt from what is whole."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from filelock import FileLock
from upath import UPath

from mangaassist_assets.cli.main import main
from mangaassist_assets.core.files import read_json
from mangaassist_assets.core.ingestion_tables import Checkpoint, IngestionTable
from mangaassist_assets.core.snapshots import SnapshotStore, canonical_json, content_digest
from mangaassist_assets.local.examining import examine
from mangaassist_assets.local.home import Home, HomeError
from mangaassist_assets.models.artifacts import seal_artifact

OLD = {"rows.json": b"[1]"}
OLD_PLACE = "store/snapshots/golden_set/_all"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that holds one file of every kind."""
    import duckdb
    import lancedb

    home = Home.open(tmp_path_factory.mktemp("homes") / "home")
    home.pseudonym_key()
    home.access_key()
    for path in (home.mlflow / "mlflow.db", home.dagster / "history" / "runs.db"):
        path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(path)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE t (a TEXT)")
        database.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 100)
        database.commit()
        database.close()
    for path in (
        "run/services.json",
        "run/ports.json",
        "sagemaker/state.json",
        "search/alias.json",
        "store/runs/r.json",
    ):
        place = home.root / path
        place.parent.mkdir(exist_ok=True)
        place.write_text("{}")
    (home.ministack / "state").mkdir()
    for name in ("kinesis", "appconfig"):
        (home.ministack / "state" / f"{name}.json").write_text("{}")
    SnapshotStore(UPath(home.store)).write("failed_traces", {"rows.json": b"[]"}, partition="rc1")
    digest = content_digest(OLD)
    for name, files in ((digest[:12], OLD), ("0123456789ab", {"rows.json": b"[1, 2"})):
        folder = home.root / OLD_PLACE / name
        folder.mkdir(parents=True)
        for file, data in files.items():
            (folder / file).write_bytes(data)
    (home.root / OLD_PLACE / "LATEST.json").write_bytes(canonical_json({"digest": digest}))
    table = IngestionTable(
        str(home.store / "ingestion" / "traces"), schema=pl.Schema({"release_bundle": pl.String, "a": pl.Int64})
    )
    table.append(pl.DataFrame({"release_bundle": ["rc1"], "a": [1]}), after=Checkpoint({}, 0), value={"at": 1})
    table.compact()
    lancedb.connect(str(home.search)).create_table("kb-1", pl.DataFrame({"a": range(5000)}).to_arrow())
    with duckdb.connect(str(home.warehouse / "warehouse.duckdb")) as warehouse:
        warehouse.execute("CREATE TABLE t AS SELECT range AS a, md5(range::VARCHAR) AS b FROM range(200000)")
    artifact = home.mlflow / "artifacts" / "1" / "artifact"
    artifact.mkdir(parents=True)
    (artifact / "config.json").write_text("{}")
    seal_artifact(artifact, "intent_classifier")
    return home.root


@pytest.fixture
def home(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "home"))


def doctor(home: Path, *options: str) -> tuple[int, list[dict]]:
    result = CliRunner().invoke(main, ["doctor", "--home", str(home), "--json", *options])
    return result.exit_code, json.loads(result.stdout)["findings"]


def content_of(home: Path) -> dict[str, bytes]:
    return {str(path.relative_to(home)): path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file()}


def one_of(home: Path, pattern: str) -> Path:
    return max(home.glob(pattern), key=lambda path: path.stat().st_size)


def test_of_a_whole_home_nothing_is_said_and_nothing_changed(home):
    before = content_of(home)
    assert doctor(home) == (0, [])
    assert content_of(home) == before


@pytest.mark.parametrize(
    "pattern",
    [
        *("home.json", "pseudonym.key", "access.key", "run/services.json", "run/ports.json", "sagemaker/state.json"),
        *("search/alias.json", "store/runs/r.json", "ministack/state/kinesis.json", "ministack/state/appconfig.json"),
        *("mlflow/mlflow.db", "dagster/history/runs.db", "store/snapshots/failed_traces/rc1/*.json"),
        *("store/blobs/*/*", f"{OLD_PLACE}/LATEST.json", "store/ingestion/traces/_delta_log/*1.json"),
        *(
            "store/ingestion/traces/_delta_log/_last_checkpoint",
            "store/ingestion/traces/_delta_log/*.checkpoint.parquet",
        ),
        *("store/ingestion/traces/release_bundle=*/*.parquet", "search/kb-1.lance/data/*"),
        *("warehouse/warehouse.duckdb", "mlflow/artifacts/1/artifact/config.json"),
    ],
)
@pytest.mark.parametrize("damage", ["cut", "zeroed"])
def test_a_damaged_file_of_any_kind_is_named_with_what_to_do(home, pattern, damage):
    path = one_of(home, pattern)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] if damage == "cut" else data[: len(data) // 3] + bytes(len(data) * 2 // 3))
    before = content_of(home)
    code, findings = doctor(home)
    named = [one for one in findings if str(path.relative_to(home)).startswith(one["file"])]
    assert code == 1
    assert len(findings) == len(named) == 1
    assert all(named[0][field].strip() for field in ("problem", "meaning", "mend"))
    assert content_of(home) == before


@pytest.mark.parametrize("pattern", ["store/blobs/*/*", "store/ingestion/traces/release_bundle=*/*.parquet"])
def test_a_file_that_is_gone_is_named(home, pattern):
    path = one_of(home, pattern)
    path.unlink()
    (finding,) = examine(Home(home))
    assert finding.path == path
    assert "gone" in finding.problem or "No such file" in finding.problem


def test_one_flipped_bit_is_found_where_there_is_a_digest(home):
    landed, of_a_model = "store/ingestion/traces/release_bundle=*/*.parquet", "mlflow/artifacts/1/artifact/config.json"
    for pattern in ("store/blobs/*/*", landed, of_a_model):
        path = one_of(home, pattern)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    assert len(examine(Home(home))) == 3


def test_the_pointer_is_rebuilt_from_the_one_whole_snapshot_and_the_damaged_one_kept(home):
    pointer = home / OLD_PLACE / "LATEST.json"
    pointer.write_bytes(b"\0" * 20)
    code, (finding,) = doctor(home, "--repair")
    assert (code, finding["repaired_to"]) == (0, f"{OLD_PLACE}/.damaged-LATEST.json")
    assert (home / finding["repaired_to"]).read_bytes() == b"\0" * 20
    assert read_json(pointer, what="", mend="") == {"digest": content_digest(OLD)}
    store = SnapshotStore(UPath(home / "store"))
    assert store.read(store.latest("golden_set"), "rows.json") == OLD["rows.json"]
    assert doctor(home) == (0, [])


def test_of_two_whole_snapshots_none_is_guessed(home):
    other = {"rows.json": b"[2]"}
    folder = home / OLD_PLACE / content_digest(other)[:12]
    folder.mkdir()
    (folder / "rows.json").write_bytes(other["rows.json"])
    pointer = home / OLD_PLACE / "LATEST.json"
    pointer.write_bytes(b"")
    code, (finding,) = doctor(home, "--repair")
    assert (code, finding["repairable"], pointer.read_bytes()) == (1, False, b"")
    assert all(content_digest(one)[:12] in finding["mend"] for one in (OLD, other))


def test_nothing_is_repaired_while_services_run(home):
    (home / "run" / "ports.json").write_bytes(b"")
    with FileLock(home / "run" / "supervisor.lock"):
        result = CliRunner().invoke(main, ["doctor", "--home", str(home), "--repair"])
    assert result.exit_code == 1
    assert "stop them before" in result.output
    assert (home / "run" / "ports.json").read_bytes() == b""


def test_damage_is_kept_each_time(home):
    ports = home / "run" / "ports.json"
    for content in (b"first", b"second"):
        ports.write_bytes(content)
        doctor(home, "--repair")
    kept = sorted((home / "run").glob(".damaged*"))
    assert {hashlib.sha256(path.read_bytes()).hexdigest() for path in kept} == {
        hashlib.sha256(content).hexdigest() for content in (b"first", b"second")
    }


def test_ministack_is_not_started_on_state_that_it_would_take_for_none(home):
    path = home / "ministack" / "state" / "kinesis.json"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(HomeError, match=r"kinesis\.json, MiniStack's state, is no JSON.*Feedback events that were not"):
        Home(home).require_readable()


def test_a_folder_that_is_no_home_is_not_made_one(tmp_path):
    result = CliRunner().invoke(main, ["doctor", "--home", str(tmp_path / "none")])
    assert (result.exit_code, (tmp_path / "none").exists()) == (1, False)
    assert "is no home" in result.output
