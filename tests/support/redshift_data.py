"""The Redshift Data API on this machine: its JSON protocol over HTTP, executed on PostgreSQL, COPY from S3.

Statements run in the background and are asked for, a batch is one transaction, a client token is remembered, results
come in pages, and what Redshift does not know of PostgreSQL's SQL is refused.
"""

from __future__ import annotations

import io
import json
import re
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import polars as pl

from mangaassist_assets.reporting.warehouse.tables import LONGEST_TEXT

_COPY = re.compile(
    r"COPY (?P<table>\w+) FROM 's3://(?P<bucket>[^/']+)/(?P<key>[^']+)' IAM_ROLE (?:default|'arn:[^']+') "
    r"FORMAT AS PARQUET"
)
# Amazon Redshift Database Developer Guide, "Unsupported PostgreSQL features" and "… functions".
_UNSUPPORTED = re.compile(
    r"\b(FILTER\s*\(|IS (?:NOT )?DISTINCT FROM|COLLATE|ARRAY_AGG|STRING_AGG|GENERATE_SERIES|RETURNING|ON CONFLICT|"
    r"DISTINCT ON|LATERAL|NULLS (?:FIRST|LAST)|ARRAY\[|PG_SLEEP|CREATE INDEX|JSONB?)\b",
    re.IGNORECASE,
)
_PARAMETER = re.compile(r"(?<![:\w]):([A-Za-z_]\w*)")
_TYPE_NAMES = {16: "bool", 20: "int8", 23: "int4", 701: "float8", 1700: "numeric", 25: "varchar", 1043: "varchar"}


@dataclass(slots=True, kw_only=True)
class Statement:
    """One submitted statement or batch."""

    id: str
    sqls: list[str]
    parameters: dict[str, str]
    database: str
    is_batch: bool
    status: str = "SUBMITTED"
    error: str = ""
    parts: list[dict[str, str]] = field(default_factory=list)
    columns: list[dict[str, Any]] = field(default_factory=list)
    records: list[list[dict[str, Any]]] = field(default_factory=list)
    has_result: bool = False
    connection: Any = None
    is_cancelled: bool = False


class RedshiftData:
    """What the server does, by operation. `executed` counts the statements that really ran."""

    def __init__(self, postgres_uri: str, *, s3: Any, page_rows: int = 2) -> None:
        import sqlalchemy as sa

        url = sa.make_url(postgres_uri)
        self._postgres = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._s3 = s3
        self._page_rows = page_rows
        self._lock = threading.Lock()
        self._statements: dict[str, Statement] = {}
        self._tokens: dict[str, str] = {}
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.executed = 0

    def answer(self, operation: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.requests.append((operation, body))
        if operation in {"ExecuteStatement", "BatchExecuteStatement"}:
            return self._submit(body)
        statement = self._statements.get(body.get("Id", ""))
        if statement is None:
            return 400, {"__type": "ResourceNotFoundException", "Message": f"no statement {body.get('Id')}"}
        if operation == "DescribeStatement":
            return 200, self._described(statement)
        if operation == "GetStatementResult":
            return self._page(statement, body)
        if operation == "CancelStatement":
            statement.is_cancelled = True
            if statement.connection is not None:
                statement.connection.cancel()
            return 200, {"Status": True}
        return 400, {"__type": "ValidationException", "Message": f"unknown operation {operation}"}

    def _submit(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if not (
            body.get("WorkgroupName")
            or (body.get("ClusterIdentifier") and (body.get("DbUser") or body.get("SecretArn")))
        ):
            return 400, {"__type": "ValidationException", "Message": "no cluster with a user, and no workgroup"}
        token = body.get("ClientToken")
        with self._lock:
            if token in self._tokens:
                return 200, {"Id": self._tokens[token]}
            sqls = body.get("Sqls") or [body["Sql"]]
            statement = Statement(
                id=str(uuid.uuid4()),
                sqls=sqls,
                parameters={one["name"]: one["value"] for one in body.get("Parameters", [])},
                database=body["Database"],
                is_batch="Sqls" in body,
            )
            self._statements[statement.id] = statement
            if token:
                self._tokens[token] = statement.id
        threading.Thread(target=self._execute, args=(statement,), daemon=True).start()
        return 200, {"Id": statement.id, "Database": statement.database}

    def _execute(self, statement: Statement) -> None:
        import psycopg2

        statement.status = "PICKED"
        statement.parts = [
            {"Id": f"{statement.id}:{place}", "Status": "SUBMITTED", "QueryString": sql}
            for place, sql in enumerate(statement.sqls, start=1)
        ]
        connection = psycopg2.connect(self._postgres)
        statement.connection = connection
        statement.status = "STARTED"
        ended = "FINISHED"
        try:
            with connection.cursor() as cursor:
                for part in statement.parts:
                    part["Status"] = "STARTED"
                    self._run(cursor, statement, part["QueryString"])
                    part["Status"] = "FINISHED"
            connection.commit()
        except (psycopg2.Error, UnsupportedSqlError) as error:
            connection.rollback()
            ended = "ABORTED" if statement.is_cancelled else "FAILED"
            statement.error = f"ERROR: {str(error).strip()}"
            for part in statement.parts:
                if part["Status"] == "STARTED":
                    part |= {"Status": ended, "Error": statement.error}
                elif part["Status"] == "SUBMITTED":
                    part["Status"] = "ABORTED"
        finally:
            connection.close()
        statement.status = ended

    def _run(self, cursor: Any, statement: Statement, sql: str) -> None:
        self.executed += 1
        if unsupported := _UNSUPPORTED.search(sql):
            raise UnsupportedSqlError(f"syntax error at or near {unsupported[0]!r}")
        if sql.startswith("COPY"):
            self._copy(cursor, sql)
            return
        cursor.execute(_PARAMETER.sub(r"%(\1)s", sql.replace("%", "%%")), statement.parameters or {})
        if cursor.description is not None:
            statement.has_result = True
            statement.columns = [
                {"name": one.name, "typeName": _TYPE_NAMES[one.type_code]} for one in cursor.description
            ]
            statement.records = [[_field(value) for value in row] for row in cursor.fetchall()]

    def _copy(self, cursor: Any, sql: str) -> None:
        from psycopg2.extras import execute_values

        matched = _COPY.fullmatch(sql)
        if matched is None:
            raise UnsupportedSqlError("COPY is not from s3:// with a role in FORMAT AS PARQUET")
        content = self._s3.get_object(Bucket=matched["bucket"], Key=matched["key"])["Body"].read()
        frame = pl.read_parquet(io.BytesIO(content))
        cursor.execute(f"SELECT * FROM {matched['table']} LIMIT 0")  # noqa: S608 - matched as a word
        if len(cursor.description) != frame.width:
            raise UnsupportedSqlError(f"{frame.width} columns in the file, {len(cursor.description)} in the table")
        for name, kind in frame.schema.items():
            if kind == pl.String and (frame[name].str.len_bytes().max() or 0) > LONGEST_TEXT:  # type: ignore[operator]
                raise UnsupportedSqlError(f"Spectrum Scan Error: the length of column {name} is longer than declared")
        # By place, not by name, as Redshift does it.
        if frame.height:
            execute_values(cursor, f"INSERT INTO {matched['table']} VALUES %s", frame.rows())  # noqa: S608 - as above

    def _described(self, statement: Statement) -> dict[str, Any]:
        described: dict[str, Any] = {
            "Id": statement.id,
            "Status": statement.status,
            "HasResultSet": statement.has_result and statement.status == "FINISHED",
            "QueryString": statement.sqls[0],
        }
        if statement.error:
            described["Error"] = statement.error
        if statement.is_batch:
            described["SubStatements"] = [dict(part) for part in statement.parts]
        return described

    def _page(self, statement: Statement, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        if statement.status != "FINISHED" or not statement.has_result:
            return 400, {"__type": "ResourceNotFoundException", "Message": "Query does not have result."}
        start = int(body.get("NextToken", "0"))
        end = start + self._page_rows
        page: dict[str, Any] = {
            "Records": statement.records[start:end],
            "ColumnMetadata": statement.columns,
            "TotalNumRows": len(statement.records),
        }
        if end < len(statement.records):
            page["NextToken"] = str(end)
        return 200, page


class UnsupportedSqlError(Exception):
    """SQL that Redshift would refuse."""


def _field(value: Any) -> dict[str, Any]:
    if value is None:
        return {"isNull": True}
    if isinstance(value, bool):
        return {"booleanValue": value}
    if isinstance(value, int):
        return {"longValue": value}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": str(value)}


@contextmanager
def redshift_data_server(api: RedshiftData) -> Iterator[str]:
    """Serve on a free port of 127.0.0.1; yields the URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = api.answer(self.headers["X-Amz-Target"].removeprefix("RedshiftData."), body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
