"""Spans that do not lie in the tracking store: of older traces in the artifact store, of archived ones in an archive.

MLflow's tag `mlflow.trace.spansLocation` says where: TRACKING_STORE, ARTIFACT_REPO or ARCHIVE_REPO; traces of older
servers have no such tag and lie in the artifact store.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from mangaassist_assets.tracing.contract.records import SpanRecord, TraceRecord
from resources.mlflow.traces.records import SPANS_LOCATION, span_record

if TYPE_CHECKING:
    from mlflow.entities import TraceData

TRACKING_STORE = "TRACKING_STORE"
ARCHIVE = "ARCHIVE_REPO"
ARTIFACT_LOCATION = "mlflow.artifactLocation"
ARCHIVE_LOCATION = "mlflow.trace.archiveLocation"

_LOADERS = 8
_logger = logging.getLogger(__name__)

Spans = tuple[SpanRecord, ...]


class SpansUnavailableError(RuntimeError):
    """The spans of a trace cannot be loaded; the message says why, without what is in them."""


def has_spans_elsewhere(tags: Mapping[str, str], state: str) -> bool:
    """Return whether a trace's spans lie outside the tracking store; one just begun has none anywhere."""
    location = tags.get(SPANS_LOCATION)
    return location != TRACKING_STORE and not (location is None and state == "IN_PROGRESS")


def load_spans(tags: Mapping[str, str], *, tracking_uri: str | None = None) -> Spans:
    """Load the spans of one trace from where its tags say.

    Args:
        tags: All tags of the trace.
        tracking_uri: The MLflow server, which artifacts of the scheme `mlflow-artifacts` are read through.

    Raises:
        SpansUnavailableError: They are gone, damaged or out of reach.
    """
    from mlflow.exceptions import MlflowException

    archived = tags.get(SPANS_LOCATION) == ARCHIVE
    uri = tags.get(ARCHIVE_LOCATION if archived else ARTIFACT_LOCATION)
    if not uri:
        raise SpansUnavailableError("no tag says where its spans lie")
    try:
        data = _archived(uri, tracking_uri) if archived else _artifacts(uri, tracking_uri)
        return tuple(map(span_record, data.spans))
    except (MlflowException, AttributeError, KeyError, TypeError, ValueError) as error:
        raise SpansUnavailableError(f"its spans at {uri} cannot be loaded ({type(error).__name__})") from error


def _artifacts(uri: str, tracking_uri: str | None) -> TraceData:
    from mlflow.entities import TraceData
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return TraceData.from_dict(get_artifact_repository(uri, tracking_uri=tracking_uri).download_trace_data())


def _archived(uri: str, tracking_uri: str | None) -> TraceData:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    data = get_artifact_repository(uri, tracking_uri=tracking_uri).download_archived_trace_data()
    if not data.spans:
        # MLflow answers a missing file with no spans.
        raise SpansUnavailableError(f"its archived spans at {uri} are missing")
    return data


def gather(trace_ids: Iterable[str], load: Callable[[str], Spans]) -> dict[str, Spans]:
    """Load the spans of many traces at once; those that cannot be loaded are logged by id and have none."""
    wanted: Sequence[str] = list(trace_ids)
    if not wanted:
        return {}

    def one(trace_id: str) -> Spans:
        try:
            return load(trace_id)
        except SpansUnavailableError as error:
            log_without_spans(trace_id, error)
            return ()

    with ThreadPoolExecutor(min(_LOADERS, len(wanted)), thread_name_prefix="trace-spans") as pool:
        return dict(zip(wanted, pool.map(one, wanted), strict=True))


def log_if_without_spans(trace: TraceRecord) -> None:
    """Say that a trace is read without spans where it is finished and has none."""
    if not trace.spans and trace.state != "IN_PROGRESS":
        log_without_spans(trace.trace_id, SpansUnavailableError("none are there"))


def log_without_spans(trace_id: str, error: Exception) -> None:
    """Say that a trace is read without its spans."""
    _logger.warning("trace %s is read without spans: %s", trace_id, error)
