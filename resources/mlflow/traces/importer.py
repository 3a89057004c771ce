"""Writing imported traces to an MLflow server: spans over OTLP, the rest over the trace API, every answer checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from mangaassist_assets.tracing.importing.fields import duration_ms, identifier, milliseconds
from mangaassist_assets.tracing.importing.import_run import RefusedTraceError, SpansToWrite, StoredTrace
from mangaassist_assets.tracing.importing.imported_trace import ImportedAssessment, ImportedTrace
from mangaassist_assets.tracing.importing.wire import assessment, info_request, spans_request
from mangaassist_assets.tracing.otlp import EXPERIMENT_HEADER, TRACES_PATH
from resources.mlflow.traces.sink import TraceExportError, retrying_session

if TYPE_CHECKING:
    import requests

    from mangaassist_assets.tracing.contract.records import TraceState

_API = "/api/3.0/mlflow/traces"
_SETTLED = "mlflow.trace.infoFinalized"
# What a server says of a request that it will never take; anything else is trouble of the server.
_REFUSALS = frozenset({400, 404, 409, 413, 422})
_FAILED = 500
_PATIENCE = 10


class MlflowTraceStore:
    """One experiment of an MLflow server as a `TraceStore`."""

    def __init__(
        self,
        tracking_uri: str,
        experiment_id: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
        attempts: int = 6,
    ) -> None:
        self._uri = tracking_uri.rstrip("/")
        self._experiment_id = experiment_id
        self._timeout_s = timeout_s
        self._failures = 0
        self._session = retrying_session(attempts)
        self._session.headers.update(headers or {})

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def stored(self, trace_ids: Sequence[str]) -> dict[str, StoredTrace]:
        """Return what is there of these traces."""
        if not trace_ids:
            return {}
        answer = self._read("POST", f"{_API}/batchGetInfos", json={"trace_ids": list(trace_ids)})
        infos: list[dict[str, Any]] = answer.get("trace_infos") or []
        return {info["trace_id"]: self._stored(info) for info in infos}

    def stored_spans(self, trace_id: str) -> dict[str, bool]:
        """Return for each span of a trace whether it has ended."""
        answer = self._read("GET", f"{_API}/batchGet", params={"trace_ids": trace_id})
        return {
            identifier(span["span_id"], 8, "span id"): bool(int(span.get("end_time_unix_nano") or 0))
            for trace in answer.get("traces") or []
            for span in trace.get("spans") or []
        }

    def write_spans(self, spans: Sequence[SpansToWrite]) -> None:
        """Write spans of traces with their tags in one transaction."""
        self._ask(
            "POST",
            TRACES_PATH,
            data=spans_request(spans),
            headers={"Content-Type": "application/json", EXPERIMENT_HEADER: self._experiment_id},
        )

    def write_info(self, trace: ImportedTrace) -> None:
        """Write all of a trace but its spans."""
        self._ask("POST", _API, json=info_request(trace, self._experiment_id))

    def write_overriding(self, trace_id: str, one: ImportedAssessment) -> None:
        """Write an assessment that replaces another one."""
        self._ask("POST", f"{_API}/{trace_id}/assessments", json={"assessment": assessment(one, trace_id)})

    def set_tag(self, trace_id: str, key: str, value: str) -> None:
        """Set a tag of a trace."""
        self._ask("PATCH", f"{_API}/{trace_id}/tags", json={"key": key, "value": value})

    def _stored(self, info: Mapping[str, Any]) -> StoredTrace:
        location = info.get("trace_location", {}).get("mlflow_experiment", {})
        metadata: dict[str, str] = info.get("trace_metadata") or {}
        return StoredTrace(
            trace_id=info["trace_id"],
            here=str(location.get("experiment_id")) == self._experiment_id,
            state=cast("TraceState", info.get("state", "STATE_UNSPECIFIED")),
            timestamp_ms=milliseconds(info.get("request_time"), "request_time"),
            duration_ms=duration_ms(info.get("execution_duration"), "execution_duration"),
            settled=_SETTLED in metadata,
            tags=info.get("tags") or {},
            metadata=metadata,
            assessment_ids=frozenset(one["assessment_id"] for one in info.get("assessments") or []),
        )

    def _read(self, method: str, path: str, **asked: Mapping[str, object]) -> dict[str, Any]:
        """Ask for something that has to be answered: a refusal is no word on a trace."""
        try:
            return self._ask(method, path, **asked)  # type: ignore[arg-type]
        except RefusedTraceError as error:
            raise TraceExportError(
                f"{self._uri}{path} does not answer ({error}): the import needs the API of an MLflow 3.17 server"
            ) from error

    def _ask(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        params: Mapping[str, str] | None = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        import requests

        url = self._uri + path
        try:
            answer = self._session.request(
                method, url, json=json, params=params, data=data, headers=headers, timeout=self._timeout_s
            )
        except requests.RequestException as error:
            raise TraceExportError(
                f"the tracking server did not answer at {url} ({type(error).__name__}): see that it runs, then run the "
                "same import again; what is there is not written twice"
            ) from error
        if answer.status_code in _REFUSALS:
            # The body may repeat what was sent: only the code may be shown.
            raise RefusedTraceError(f"the MLflow server refused it: HTTP {answer.status_code}, {_code(answer)}")
        if not answer.ok:
            self._failures += 1
            if answer.status_code == _FAILED and self._failures <= _PATIENCE:
                # One trace that the server stumbles over must not stop the others; a server that only fails must.
                raise RefusedTraceError("the MLflow server failed on it: HTTP 500")
            raise TraceExportError(f"the tracking server failed at {url} with HTTP {answer.status_code}: see its log")
        self._failures = 0
        return _json(answer)


def _json(answer: requests.Response) -> dict[str, Any]:
    if "json" not in answer.headers.get("Content-Type", ""):
        return {}
    found = answer.json()
    return found if isinstance(found, dict) else {}


def _code(answer: requests.Response) -> str:
    """Return MLflow's code of an error, such as INVALID_PARAMETER_VALUE."""
    code = _json(answer).get("error_code") if answer.content else None
    return code if isinstance(code, str) and code.isupper() and len(code) < 60 else "no code"
