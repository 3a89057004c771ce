"""Ingestion tables: rows and checkpoint in one commit, one writer at a time, erasure for good."""

from __future__ import annotations

import os
import random
from pathlib import Path

import polars as pl
import pytest

from mangaassist_assets.core import ingestion_tables
from mangaassist_assets.core.ingestion_tables import (
    IngestionConflictError,
    IngestionLogDamagedError,
    IngestionTable,
    storage_options,
)
from mangaassist_assets.core.landed_files import LandedFileDamagedError

SCHEMA = pl.Schema({"id": pl.String, "release_bundle": pl.String, "n": pl.Int64, "tags": pl.List(pl.String)})


def frame(*rows: tuple[str, str, int]) -> pl.DataFrame:
    return pl.DataFrame(
        [{"id": one, "release_bundle": bundle, "n": n, "tags": ["a", one]} for one, bundle, n in rows], schema=SCHEMA
    )


@pytest.fixture
def table(tmp_path: Path) -> IngestionTable:
    return IngestionTable(str(tmp_path / "ingestion"), schema=SCHEMA)


def ids(table: IngestionTable, bundle: str | None = None) -> list[str]:
    return sorted(table.rows(bundle).collect()["id"])


def test_a_table_that_was_never_written_is_empty_and_has_no_checkpoint(table: IngestionTable) -> None:
    assert table.checkpoint().number == 0
    assert table.rows("b1").collect().schema == SCHEMA
    assert table.bundles() == []


def test_rows_and_checkpoint_arrive_together(table: IngestionTable) -> None:
    table.append(frame(("x", "b1", 1), ("y", "b2", 2)), after=table.checkpoint(), value={"shard": "42"})
    assert table.checkpoint().value == {"shard": "42"}
    assert ids(table) == ["x", "y"]
    assert ids(table, "b2") == ["y"]
    assert table.bundles() == ["b1", "b2"]
    assert table.rows().collect().schema == SCHEMA


def test_the_checkpoint_moves_without_rows(table: IngestionTable) -> None:
    table.append(frame(), after=table.checkpoint(), value={"at": 1})
    table.append(frame(), after=table.checkpoint(), value={"at": 2})
    assert table.checkpoint().value == {"at": 2}
    assert table.checkpoint().number == 2


def test_of_two_writers_from_one_checkpoint_the_second_writes_nothing(table: IngestionTable, tmp_path: Path) -> None:
    other = IngestionTable(str(tmp_path / "ingestion"), schema=SCHEMA)
    start = table.checkpoint()
    table.append(frame(("x", "b1", 1)), after=start, value={"at": 1})
    with pytest.raises(IngestionConflictError, match="run again"):
        other.append(frame(("x", "b1", 1)), after=start, value={"at": 1})
    assert ids(table) == ["x"]
    assert other.append(frame(("y", "b1", 1)), after=other.checkpoint(), value={"at": 2}).number == 2


def test_a_table_that_is_opened_anew_between_commits_goes_on_and_still_refuses_a_second_writer(
    table: IngestionTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingestion_tables, "_REOPEN_AFTER", 2)
    other = IngestionTable(str(tmp_path / "ingestion"), schema=SCHEMA)
    for n in range(7):
        start = table.checkpoint()
        assert start.number == n
        table.append(frame((f"x{n}", "b1", n)), after=start, value={"at": n})
        with pytest.raises(IngestionConflictError):
            other.append(frame(("y", "b1", n)), after=start, value={"at": n})
    assert (table.checkpoint().value, len(ids(table)), len(ids(other))) == ({"at": 6}, 7, 7)


def test_erasing_and_compacting_keep_the_checkpoint(table: IngestionTable) -> None:
    for n in range(20):
        table.append(frame((f"x{n}", "b1", n)), after=table.checkpoint(), value={"at": n})
    assert table.erase("id", ["x3", "x4", "nobody's"]) == 2
    assert table.erase("id", ["x3"]) == 0
    for _ in range(3):
        table.compact()
    assert table.checkpoint().value == {"at": 19}
    assert len(ids(table)) == 18
    table.append(frame(("z", "b1", 0)), after=table.checkpoint(), value={"at": 20})
    assert table.checkpoint().value == {"at": 20}


def test_what_was_erased_is_in_no_file_any_more(table: IngestionTable, tmp_path: Path) -> None:
    table.append(frame(("secret-user", "b1", 1), ("other", "b1", 2)), after=table.checkpoint(), value={})
    table.erase("id", ["secret-user"])
    stored = pl.concat([pl.read_parquet(one)["id"] for one in (tmp_path / "ingestion").rglob("*.parquet")])
    assert stored.to_list() == ["other"]
    log = "".join(one.read_text("utf-8") for one in (tmp_path / "ingestion" / "_delta_log").glob("*.json"))
    assert "secret-user" not in log


def test_erasing_takes_what_a_killed_writer_left_and_nothing_of_one_that_writes_now(
    table: IngestionTable, tmp_path: Path
) -> None:
    table.append(frame(("x", "b1", 1)), after=table.checkpoint(), value={})
    (stored,) = (tmp_path / "ingestion" / "release_bundle=b1").glob("*.parquet")
    left, writing = (stored.with_name(f"part-{name}.parquet") for name in ("left", "writing"))
    for path in (left, writing):
        path.write_bytes(stored.read_bytes())
    os.utime(left, (0, 0))
    os.utime(stored, (0, 0))
    assert table.erase("id", ["nobody"]) == 0
    assert sorted((tmp_path / "ingestion" / "release_bundle=b1").glob("*.parquet")) == sorted([stored, writing])
    assert ids(table) == ["x"]


def test_a_schema_without_the_partition_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="release_bundle"):
        IngestionTable(str(tmp_path), schema=pl.Schema({"id": pl.String}))


def test_plain_http_is_allowed_only_for_an_endpoint_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    assert storage_options("/some/folder") == {}
    assert storage_options("s3://bucket/x")["AWS_ALLOW_HTTP"] == "true"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.example.invalid")
    assert storage_options("s3://bucket/x") == {
        "AWS_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": "https://s3.example.invalid",
        "AWS_ALLOW_HTTP": "false",
    }


def landed(folder: Path) -> list[Path]:
    return sorted((folder / "ingestion").glob("release_bundle=*/*.parquet"))


def test_a_single_flipped_bit_of_a_landed_file_is_never_read_as_something_else(
    table: IngestionTable, tmp_path: Path
) -> None:
    rows = [(f"trace-{n}", "b1", n) for n in range(400)]
    table.append(frame(*rows), after=table.checkpoint(), value={})
    (path,) = landed(tmp_path)
    whole = path.read_bytes()
    generator = random.Random(7)
    for bit in generator.sample(range(8 * len(whole)), 300):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(
            LandedFileDamagedError, match=rf"{path.name} of the ingestion table .*is not what was written"
        ):
            table.rows("b1").collect()
    path.write_bytes(whole)
    assert table.rows("b1").collect().height == 400


def test_a_damaged_file_stops_its_own_bundle_and_no_other(table: IngestionTable, tmp_path: Path) -> None:
    table.append(frame(("x", "b1", 1), ("y", "b2", 2)), after=table.checkpoint(), value={})
    (path,) = (one for one in landed(tmp_path) if "b1" in str(one))
    path.write_bytes(path.read_bytes()[:-1])
    assert ids(table, "b2") == ["y"]
    for read in (lambda: table.rows("b1"), table.rows, lambda: table.erase("id", ["x"]), table.compact):
        table.append(frame(("z", "b1", 1)), after=table.checkpoint(), value={})
        with pytest.raises(LandedFileDamagedError, match="Restore this file from a backup"):
            read()
    path.unlink()
    with pytest.raises(LandedFileDamagedError, match="is gone"):
        table.rows("b1")


def test_a_file_is_hashed_once_and_again_when_it_has_changed(
    table: IngestionTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.append(frame(("x", "b1", 1)), after=table.checkpoint(), value={})
    opened: list[Path] = []
    read = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *args, **more: (opened.append(path), read(path, *args, **more))[1])
    for _ in range(3):
        assert ids(table) == ["x"]
    (path,) = landed(tmp_path)
    assert opened.count(path) == 1


def test_files_outside_a_range_are_neither_checked_nor_read(tmp_path: Path) -> None:
    table = IngestionTable(str(tmp_path / "ingestion"), schema=SCHEMA, skipping=("n",))
    for n in (1, 10, 20):
        table.append(frame((f"x{n}", "b1", n)), after=table.checkpoint(), value={})
    first = next(one for one in landed(tmp_path) if "-00000001-" in one.name)
    first.write_bytes(b"damaged")
    assert sorted(table.rows(within=("n", 5, 20)).collect()["id"]) == ["x10", "x20"]
    with pytest.raises(LandedFileDamagedError):
        table.rows(within=("n", 0, 5))


def test_a_table_of_before_is_read_and_gets_digests_when_it_is_compacted(table: IngestionTable, tmp_path: Path) -> None:
    from deltalake import write_deltalake

    table.append(frame(("x", "b1", 1)), after=table.checkpoint(), value={"at": 1})
    write_deltalake(str(tmp_path / "ingestion"), frame(("old", "b1", 2)).to_arrow(), mode="append")
    assert ids(table) == ["old", "x"]
    table.compact()
    assert (ids(table), table.checkpoint().value) == (["old", "x"], {"at": 1})
    table.erase("id", ["nobody"])
    (path,) = landed(tmp_path)
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(LandedFileDamagedError):
        table.rows()


def test_a_writer_that_commits_between_the_look_and_the_commit_of_another_is_not_lost(
    table: IngestionTable, tmp_path: Path
) -> None:
    other = IngestionTable(str(tmp_path / "ingestion"), schema=SCHEMA)
    table.append(frame(("w", "b1", 0)), after=table.checkpoint(), value={})
    start = other.checkpoint()
    stale = other._open()
    assert stale is not None
    table.append(frame(("x", "b1", 1)), after=table.checkpoint(), value={"at": 1})
    for bundle in (None, "b1"):
        with pytest.raises(IngestionConflictError):
            other._commit(stale, frame(("y", "b1", 1)), after=start, value={"at": 2}, bundle=bundle)
    assert ids(table) == ["w", "x"]
    assert table.checkpoint().value == {"at": 1}


def test_a_bundle_of_a_strange_name_and_equal_rows_of_two_commits_are_kept(table: IngestionTable) -> None:
    for _ in range(2):
        table.append(frame(("x", "a b%/c=1", 1)), after=table.checkpoint(), value={})
    assert ids(table, "a b%/c=1") == ["x", "x"]
    assert table.bundles() == ["a b%/c=1"]


@pytest.mark.parametrize("content", [b"", b"\0" * 300, b'{"commitInfo":'])
def test_a_damaged_commit_is_named_with_what_to_do(table: IngestionTable, tmp_path: Path, content: bytes) -> None:
    for n in range(3):
        table.append(frame((f"x{n}", "b1", n)), after=table.checkpoint(), value={"at": n})
    log = tmp_path / "ingestion" / "_delta_log"
    newest = max(log.glob("*.json"))
    newest.write_bytes(content)
    again = IngestionTable(str(tmp_path / "ingestion"), schema=SCHEMA)
    with pytest.raises(IngestionLogDamagedError, match=rf"the commit .*{newest.name} cannot be read .*move it away"):
        again.checkpoint()
    # And that is what mends it.
    newest.rename(tmp_path / "damaged.json")
    again = IngestionTable(str(tmp_path / "ingestion"), schema=SCHEMA)
    assert (again.checkpoint().value, ids(again)) == ({"at": 1}, ["x0", "x1"])
    again.append(frame(("x2", "b1", 2)), after=again.checkpoint(), value={"at": 2})
    assert ids(again) == ["x0", "x1", "x2"]
