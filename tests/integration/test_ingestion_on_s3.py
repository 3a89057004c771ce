"""An ingestion table in a bucket behaves as one in a directory: commits, refused second writers, erasure."""

from __future__ import annotations

import uuid

import boto3
import polars as pl
import pytest

from mangaassist_assets.core.ingestion_tables import IngestionConflictError, IngestionTable, storage_options

pytestmark = pytest.mark.integration

SCHEMA = pl.Schema({"id": pl.String, "release_bundle": pl.String})


@pytest.fixture
def uri(stand_ins_environment: dict[str, str]) -> str:
    assert stand_ins_environment["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1")
    bucket = f"ingestion-{uuid.uuid4().hex[:8]}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return f"s3://{bucket}/store/ingestion/traces"


def rows(*ids: str) -> pl.DataFrame:
    return pl.DataFrame({"id": ids, "release_bundle": ["b1"] * len(ids)}, schema=SCHEMA)


def table_at(uri: str) -> IngestionTable:
    return IngestionTable(uri, schema=SCHEMA, storage_options=storage_options(uri))


def test_a_bucket_holds_rows_with_their_checkpoint(uri: str) -> None:
    one, other = table_at(uri), table_at(uri)
    start = one.checkpoint()
    one.append(rows("x", "y"), after=start, value={"at": 1})
    with pytest.raises(IngestionConflictError, match="run again"):
        other.append(rows("x"), after=start, value={"at": 1})
    assert other.checkpoint().value == {"at": 1}
    assert sorted(other.rows("b1").collect()["id"]) == ["x", "y"]


def test_erased_rows_are_in_no_object_of_the_bucket(uri: str) -> None:
    table = table_at(uri)
    table.append(rows("somebody", "other"), after=table.checkpoint(), value={})
    assert table.erase("id", ["somebody"]) == 1
    bucket = uri.split("/")[2]
    s3 = boto3.client("s3")
    objects = [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    contents = {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in objects}
    assert sum(key.endswith(".parquet") for key in contents) == 1
    assert not [key for key, content in contents.items() if b"somebody" in content]
