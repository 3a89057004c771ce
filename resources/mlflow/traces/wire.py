"""MLflow's REST interface for traces as JSON, without its entities: what they cost is most of a client's time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from mangaassist_assets.tracing.contract.records import AssessmentRecord, TraceRecord
from resources.mlflow.rest import request_sender
from resources.mlflow.traces.records import assessment_record, build_record, json_value, log_without_assessment
from resources.mlflow.traces.span_json import wire_span

if TYPE_CHECKING:
    from mlflow import MlflowClient

SEARCH_LIMIT = 500
"""Traces that one search returns at most (MLflow REST API, "Search Traces")."""

NOT_FOUND = 404

_TRACES = "/api/3.0/mlflow/traces"
_RETRIED = frozenset({429, 502, 503, 504})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

Json = Mapping[str, Any]


class TraceServerError(RuntimeError):
    """The tracking server refused a request for traces, or failed at it; `status` is its HTTP status."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class TraceApi:
    """The requests for traces, of one client."""

    def __init__(self, client: MlflowClient) -> None:
        """Take over a client's server and credentials.

        Raises:
            TraceServerError: The client talks to no server, but to a database or folder.
        """
        send = request_sender(client)
        if send is None:
            raise TraceServerError(
                "traces are read by REST from an http(s) server or the ARN of a managed one: set the tracking URI to "
                "one, or trace_reader to sql",
                status=0,
            )
        self._send = send

    def search(
        self, experiment_id: str, condition: str, *, limit: int, token: str | None = None
    ) -> tuple[list[Json], str | None]:
        """Return up to `limit` traces without spans, in the order of (timestamp, id), and the next page's token."""
        location = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment_id}}
        body = {
            "locations": [location],
            "filter": condition,
            "max_results": limit,
            "order_by": ["timestamp_ms ASC"],
            **({"page_token": token} if token else {}),
        }
        answer = self._call("/search", "POST", json=body)
        return answer.get("traces", []), answer.get("next_page_token") or None

    def infos(self, experiment_id: str, trace_ids: Sequence[str]) -> list[Json]:
        """Return those of the traces that exist in the experiment, without spans."""
        body = {"trace_ids": list(trace_ids), "experiment_ids": [experiment_id]}
        try:
            found: list[Json] = self._call("/batchGetInfos", "POST", json=body).get("trace_infos", [])
        except TraceServerError as error:
            if error.status != NOT_FOUND:
                raise
            # A server before batches: ids that do not exist are left out of an answer, never refused.
            found = [info for trace_id in trace_ids if (info := self._info(trace_id)) is not None]
        return [info for info in found if _experiment_of(info) == experiment_id]

    def _info(self, trace_id: str) -> Json | None:
        try:
            found: Json = self._call(f"/{quote(trace_id, safe='')}", "GET")["trace"]["trace_info"]
        except TraceServerError as error:
            if error.status != NOT_FOUND:
                raise
            return None
        return found

    def traces(self, trace_ids: Sequence[str]) -> list[Json]:
        """Return those of the traces whose spans are all there."""
        found: list[Json] = self._call("/batchGet", "GET", params={"trace_ids": list(trace_ids)}).get("traces", [])
        return found

    def trace(self, trace_id: str) -> Json:
        """Return a trace with the spans that are there so far."""
        params = {"trace_id": trace_id, "allow_partial": "true"}
        found: Json = self._call("/get", "GET", params=params).get("trace", {})
        return found

    def _call(self, path: str, method: str, **arguments: object) -> dict[str, Any]:
        answer = self._send(
            f"{_TRACES}{path}",
            method,
            # A 500 is an answer about a damaged trace as often as a passing failure: it is looked at by the caller.
            retry_codes=_RETRIED,
            **arguments,
        )
        if answer.status_code != 200:
            raise TraceServerError(
                f"the tracking server answered {method} {_TRACES}{path} with HTTP {answer.status_code} "
                f"({_error_code(answer.content)}); its log says more",
                status=answer.status_code,
            )
        try:
            parsed: dict[str, Any] = orjson.loads(answer.content)
        except orjson.JSONDecodeError as error:
            raise TraceServerError(
                f"{method} {_TRACES}{path} was answered with something that is not JSON: the tracking URI leads to "
                "another server than MLflow, or to a login page",
                status=answer.status_code,
            ) from error
        return parsed


def _experiment_of(info: Json) -> str | None:
    location: Json = info.get("trace_location", {})
    return location.get("mlflow_experiment", {}).get("experiment_id")  # type: ignore[no-any-return]


def _error_code(content: bytes) -> str:
    try:
        parsed = orjson.loads(content)
    except orjson.JSONDecodeError:
        return "no reason given"
    return str(parsed.get("error_code", "no reason given"))[:80] if isinstance(parsed, dict) else "no reason given"


def record_of(info: Json, spans: Iterable[Json]) -> TraceRecord:
    """Return a trace as a record.

    Raises:
        SpanContentError: A span is not in OpenTelemetry's form.
    """
    return build_record(
        trace_id=info["trace_id"],
        timestamp_ms=timestamp_of(info),
        duration_ms=duration_of(info),
        state=info.get("state", ""),
        tags=info.get("tags", {}),
        metadata=info.get("trace_metadata", {}),
        spans=map(wire_span, spans),
        assessments=assessments_of(info),
    )


def timestamp_of(info: Json) -> int:
    """Return the start of a trace in milliseconds since the epoch."""
    return _milliseconds(info.get("request_time"))


def duration_of(info: Json) -> int:
    """Return how long a trace took in milliseconds; 0 where it has not ended."""
    return int(Decimal(info.get("execution_duration", "0s").removesuffix("s")) * 1_000)


def assessments_of(info: Json) -> list[AssessmentRecord]:
    """Return the valid feedback and expectations of a trace in the order of (last update, id)."""
    valid = [one for one in info.get("assessments", ()) if one.get("valid") is not False]
    valid.sort(key=lambda one: (_updated(one), one.get("assessment_id", "")))
    return [record for record in map(_assessment_or_none, valid) if record is not None]


def _assessment_or_none(data: Json) -> AssessmentRecord | None:
    try:
        return _assessment(data)
    except ValueError:
        log_without_assessment(data.get("assessment_id", ""), data.get("trace_id", ""))
        return None


def _assessment(data: Json) -> AssessmentRecord | None:
    kind = "expectation" if "expectation" in data else "feedback" if "feedback" in data else "issue"
    held: Json = data.get(kind) or {}
    serialized = held.get("serialized_value")
    source: Json = data.get("source") or {}
    return assessment_record(
        name=data.get("assessment_name", ""),
        kind=kind,
        value=held.get("value") if serialized is None else json_value(serialized["value"]),
        source_type=source.get("source_type"),
        source_id=source.get("source_id"),
        timestamp_ms=_updated(data),
    )


def _updated(data: Json) -> int:
    return _milliseconds(data.get("last_update_time")) or _milliseconds(data.get("create_time"))


def _milliseconds(moment: str | None) -> int:
    return (datetime.fromisoformat(moment) - _EPOCH) // _MILLISECOND if moment else 0
