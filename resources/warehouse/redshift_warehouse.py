"""The warehouse in Amazon Redshift: statements by the Data API, rows as Parquet through S3 and COPY.

Source: Amazon Redshift Management Guide, "Using the Amazon Redshift Data API"; Amazon Redshift Database Developer
Guide, "COPY from columnar data formats".
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import polars as pl

from mangaassist_assets.core.bundles import validate_bundle
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.reporting.warehouse.queries import LOADED
from mangaassist_assets.reporting.warehouse.rows import checked_rows, rows_digest
from mangaassist_assets.reporting.warehouse.tables import (
    BUNDLE_LOADS,
    BUNDLE_TABLES,
    Table,
    create_statement,
    delete_statement,
    erase_statements,
    insert_statement,
)
from mangaassist_assets.reporting.warehouse.types import WarehouseError
from resources.aws.clients import AwsResource, DeadlineExceededError, error_code, error_message, poll_until

_ENDED = {"FINISHED", "FAILED", "ABORTED"}
_LONGEST_QUOTE = 120
_TYPES: dict[str, type[pl.DataType]] = {
    **dict.fromkeys(("int2", "int4", "int8", "bigint", "integer", "smallint"), pl.Int64),
    **dict.fromkeys(("float4", "float8", "numeric", "double precision", "real"), pl.Float64),
    **dict.fromkeys(("bool", "boolean"), pl.Boolean),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RedshiftTarget:
    """Which database statements go to: a cluster with a user or a secret, or a serverless workgroup."""

    database: str
    cluster_identifier: str | None = None
    db_user: str | None = None
    workgroup_name: str | None = None
    secret_arn: str | None = None

    def __post_init__(self) -> None:
        if (self.cluster_identifier is None) == (self.workgroup_name is None):
            raise ValueError("name either cluster_identifier or workgroup_name of the Redshift warehouse")
        if self.cluster_identifier is not None and (self.db_user is None) == (self.secret_arn is None):
            raise ValueError("a Redshift cluster needs either db_user or secret_arn")
        if self.workgroup_name is not None and self.db_user is not None:
            raise ValueError("a Redshift workgroup takes no db_user: its user is the caller's IAM identity")

    def arguments(self) -> dict[str, str]:
        """Return the target as every call of the Data API takes it."""
        named = {
            "Database": self.database,
            "ClusterIdentifier": self.cluster_identifier,
            "DbUser": self.db_user,
            "WorkgroupName": self.workgroup_name,
            "SecretArn": self.secret_arn,
        }
        return {name: value for name, value in named.items() if value is not None}


class RedshiftWarehouse:
    """Rows by release bundle in Redshift."""

    def __init__(
        self,
        aws: AwsResource,
        *,
        target: RedshiftTarget,
        staging_url: str,
        iam_role_arn: str,
        timeout_s: float,
        poll_interval_s: float,
    ) -> None:
        staging = urlsplit(staging_url)
        if staging.scheme != "s3" or not staging.netloc:
            raise ValueError(f"staging_url is {staging_url!r}: COPY reads from S3, give s3://bucket/prefix")
        self._aws = aws
        self._target = target
        self._bucket = staging.netloc
        self._prefix = staging.path.strip("/")
        self._role = "default" if iam_role_arn == "default" else quoted(iam_role_arn)
        self._timeout_s = timeout_s
        self._poll_interval_s = poll_interval_s

    def load(self, rows: Mapping[str, pl.DataFrame], *, release_bundle: str) -> bool:
        """Replace a bundle's rows in every table, in the one transaction of a batch; see `Warehouse.load`."""
        validate_bundle(release_bundle)
        tables = checked_rows(rows, release_bundle=release_bundle)
        digest = rows_digest(tables)
        self._run([create_statement(table) for table in (*BUNDLE_TABLES, BUNDLE_LOADS)], token=None)
        held = self.query(LOADED, {"release_bundle": release_bundle}).rows()
        if held and held[0][0] == digest:
            return False
        number = int(held[0][1]) + 1 if held else 1
        keys = {table: self._key(release_bundle, table, digest) for table in tables}
        try:
            for table, frame in tables.items():
                self._upload(keys[table], frame)
            statements = [one for table in tables for one in self._replacing(table, keys[table], release_bundle)]
            statements += [
                _of_bundle(delete_statement(BUNDLE_LOADS), release_bundle),
                _load_record(release_bundle, digest, number),
            ]
            # The Data API remembers a token for hours and runs nothing for one it knows. The number makes a bundle that
            # goes back to rows it had before a load of its own; who sends the same load twice is answered once.
            token = hashlib.sha256(canonical_json([release_bundle, digest, number])).hexdigest()
            self._run(statements, token=token)
        finally:
            self._remove(list(keys.values()))
        return True

    def query(self, sql: str, parameters: Mapping[str, str] | None = None) -> pl.DataFrame:
        """Return what a statement selects; see `Warehouse.query`."""
        arguments: dict[str, Any] = {"Sql": sql, **self._target.arguments()}
        if parameters:
            arguments["Parameters"] = [{"name": name, "value": value} for name, value in parameters.items()]
        submitted = self._call("execute_statement", **arguments)
        described = self._wait(submitted["Id"])
        return self._result(submitted["Id"]) if described.get("HasResultSet") else pl.DataFrame()

    def erase(self, column: str, values: Collection[str]) -> int:
        """Remove rows; see `Warehouse.erase`. Redshift takes their blocks away with its next automatic VACUUM."""
        removed = 0
        self._run([create_statement(table) for table in (*BUNDLE_TABLES, BUNDLE_LOADS)], token=None)
        for counting, statements in erase_statements(column, values):
            rows = int(self.query(counting).item())
            if rows:
                self._run(statements, token=None)
            removed += rows
        return removed

    def close(self) -> None:
        """Do nothing: the Data API keeps no connection."""

    def _replacing(self, table: Table, key: str, release_bundle: str) -> list[str]:
        staging = f"staging_{table.name}"
        return [
            f"CREATE TEMP TABLE {staging} (LIKE {table.name})",
            f"COPY {staging} FROM {quoted(f's3://{self._bucket}/{key}')} IAM_ROLE {self._role} FORMAT AS PARQUET",
            _of_bundle(delete_statement(table), release_bundle),
            insert_statement(table, source=staging),
        ]

    def _run(self, statements: Sequence[str], *, token: str | None) -> None:
        arguments: dict[str, Any] = {"Sqls": list(statements), **self._target.arguments()}
        if token is not None:
            arguments["ClientToken"] = token
        self._wait(self._call("batch_execute_statement", **arguments)["Id"])

    def _wait(self, statement_id: str) -> dict[str, Any]:
        """Wait until a statement has ended well.

        Raises:
            WarehouseError: It failed or was aborted; names it, what it said and where to look.
            DeadlineExceededError: It takes too long, and was cancelled.
        """

        def ended() -> dict[str, Any] | None:
            described: dict[str, Any] = self._call("describe_statement", Id=statement_id)
            return described if described["Status"] in _ENDED else None

        try:
            described = poll_until(
                ended,
                what=f"Redshift statement {statement_id}",
                timeout_s=self._timeout_s,
                interval_s=self._poll_interval_s,
            )
        except DeadlineExceededError as error:
            self._call("cancel_statement", Id=statement_id)
            raise DeadlineExceededError(
                f"{error}; it was cancelled. See whether the cluster is busy, paused or resizing, or raise timeout_s"
            ) from error
        if described["Status"] != "FINISHED":
            raise WarehouseError(_failure(statement_id, described))
        return described

    def _result(self, statement_id: str) -> pl.DataFrame:
        columns: list[dict[str, Any]] = []
        records: list[list[dict[str, Any]]] = []
        arguments: dict[str, str] = {"Id": statement_id}
        while True:
            page = self._call("get_statement_result", **arguments)
            columns = columns or page["ColumnMetadata"]
            records += page["Records"]
            if not page.get("NextToken"):
                break
            arguments["NextToken"] = page["NextToken"]
        schema = {column["name"]: _TYPES.get(column["typeName"].lower(), pl.String) for column in columns}
        rows = [[_value(field, kind) for field, kind in zip(row, schema.values(), strict=True)] for row in records]
        return pl.DataFrame(rows, schema=schema, orient="row")

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - as boto3 takes them
        from botocore.exceptions import ClientError

        try:
            answer: dict[str, Any] = getattr(self._aws.client("redshift-data"), operation)(**arguments)
        except ClientError as error:
            statement = f" for statement {arguments['Id']}" if "Id" in arguments else ""
            raise WarehouseError(
                f"Redshift's Data API refused {operation}{statement} ({error_code(error)}: {error_message(error)}); "
                f"check the warehouse's settings ({self._target.arguments()}) and the caller's permissions"
            ) from error
        return answer

    def _key(self, release_bundle: str, table: Table, digest: str) -> str:
        parts = (self._prefix, "warehouse-staging", release_bundle, digest[:24], f"{table.name}.parquet")
        return "/".join(part for part in parts if part)

    def _upload(self, key: str, frame: pl.DataFrame) -> None:
        import io

        buffer = io.BytesIO()
        frame.write_parquet(buffer, compression="snappy")
        buffer.seek(0)
        self._aws.client("s3").upload_fileobj(buffer, self._bucket, key)

    def _remove(self, keys: Sequence[str]) -> None:
        """Leave no second copy of the rows lying about."""
        for key in keys:
            self._aws.client("s3").delete_object(Bucket=self._bucket, Key=key)


def quoted(text: str) -> str:
    """Return a text as a literal of SQL.

    Raises:
        ValueError: It has a control character or a backslash, which Redshift takes for the start of an escape.
    """
    if "\\" in text or not text.isprintable():
        raise ValueError(f"{text!r} cannot stand in a statement: it has a backslash or a control character")
    return "'" + text.replace("'", "''") + "'"


def _of_bundle(statement: str, release_bundle: str) -> str:
    """Put the bundle in: the parameters of a batch would have to stand in every statement of it."""
    return statement.replace(":release_bundle", quoted(release_bundle))


def _load_record(release_bundle: str, digest: str, number: int) -> str:
    columns = "release_bundle, digest, load_number"
    return f"INSERT INTO {BUNDLE_LOADS.name} ({columns}) SELECT {quoted(release_bundle)}, {quoted(digest)}, {number}"


def _failure(statement_id: str, described: Mapping[str, Any]) -> str:
    failed = next((one for one in described.get("SubStatements", ()) if one["Status"] in {"FAILED", "ABORTED"}), None)
    sql = (failed or described).get("QueryString", "")
    reason = (failed or {}).get("Error") or described.get("Error") or "no reason given"
    look = "SYS_LOAD_ERROR_DETAIL" if sql.lstrip().upper().startswith("COPY") else "SYS_QUERY_HISTORY"
    part = f" at {failed['Id']}" if failed else ""
    return (
        f"Redshift statement {statement_id}{part} is {described['Status']}: {reason}. It was: "
        f"{sql[:_LONGEST_QUOTE]!r}. Nothing was changed; look at it with `aws redshift-data describe-statement --id "
        f"{statement_id}` and in {look}"
    )


def _value(field: Mapping[str, Any], kind: type[pl.DataType]) -> Any:  # noqa: ANN401 - a value of any column
    if field.get("isNull"):
        return None
    value = next(iter(field.values()))
    # Numerics come as texts, so that no digit is lost on the way.
    return float(value) if kind is pl.Float64 else value
