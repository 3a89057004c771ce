"""Ingestion tables: rows and checkpoint in one commit, one writer at a time, erasure for good."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

from mangaassist_assets.core import ingestion_tables
from mangaassist_assets.core.ingestion_tables import IngestionConflictError, IngestionTable, storage_options

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
