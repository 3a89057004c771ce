"""Feedback on MLflow traces: recording an event as an assessment and a tag."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mangaassist_assets.tracing.contract.names import USER_FEEDBACK_ASSESSMENT, Tag
from mangaassist_assets.tracing.feedback.recording import (
    FeedbackRefusedError,
    TraceFeedback,
    TraceGoneError,
    TraceThumb,
)
from resources.mlflow.traces.search import infos_by_id

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Assessment
    from mlflow.exceptions import MlflowException

    from mangaassist_assets.tracing.contract.turns import Feedback
    from mangaassist_assets.tracing.feedback.events import FeedbackRecord

EVENT_ID = "event_id"
EVENT_TIME = "event_time_ms"
_FINISHED = ("OK", "ERROR")


class MlflowFeedbackRecorder:
    """Records feedback on the traces of one experiment."""

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self._client = client
        self._experiment_id = experiment_id

    def look(self, trace_ids: Sequence[str]) -> Mapping[str, TraceFeedback]:
        """Return what those of the traces that exist say."""
        return {
            trace_id: TraceFeedback(
                release_bundle=info.tags.get(Tag.RELEASE_BUNDLE),
                finished=str(info.state.value) in _FINISHED,
                tag=info.tags.get(Tag.USER_FEEDBACK),
                thumbs=tuple(_thumb(one) for one in info.assessments or () if _is_thumb(one) and _is_human(one)),
            )
            for trace_id, info in infos_by_id(self._client, self._experiment_id, trace_ids).items()
        }

    def add_thumb(self, event: FeedbackRecord) -> None:
        """Add a human feedback assessment; its id follows from the event's, so the server takes it once.

        Raises:
            TraceGoneError: The trace does not exist.
            FeedbackRefusedError: MLflow does not take the assessment.
        """
        import mlflow
        from mlflow.entities import AssessmentSource
        from mlflow.entities import Feedback as FeedbackAssessment
        from mlflow.exceptions import MlflowException

        assessment = FeedbackAssessment(
            name=USER_FEEDBACK_ASSESSMENT,
            value=event.feedback,
            source=AssessmentSource(source_type="HUMAN", source_id=event.user_key or "anonymous"),
            metadata={EVENT_ID: event.event_id, EVENT_TIME: str(event.timestamp_ms)},
        )
        # A request whose answer is lost is repeated by MLflow's client: with an id of ours that cannot make two.
        assessment.assessment_id = assessment_id(event)
        try:
            mlflow.log_assessment(event.trace_id, assessment)
        except MlflowException as error:
            trace = self._existing(event.trace_id, error)
            if any(thumb.event_id == event.event_id for thumb in trace.thumbs):
                return
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            raise FeedbackRefusedError(f"MLflow refused feedback on trace {event.trace_id}: {error.message}") from error

    def set_tag(self, trace_id: str, feedback: Feedback) -> None:
        """Set the tag `user_feedback`.

        Raises:
            TraceGoneError: The trace does not exist.
        """
        from mlflow.exceptions import MlflowException

        try:
            self._client.set_trace_tag(trace_id, Tag.USER_FEEDBACK, feedback)
        except MlflowException as error:
            self._existing(trace_id, error)
            raise

    def _existing(self, trace_id: str, error: MlflowException) -> TraceFeedback:
        """Return what a trace says: the server's answer to a write does not always say that the trace is missing."""
        trace = self.look([trace_id]).get(trace_id)
        if trace is None:
            raise TraceGoneError(f"trace {trace_id} does not exist") from error
        return trace


def assessment_id(event: FeedbackRecord) -> str:
    """Return the id of an event's assessment in the form that MLflow gives its own."""
    digest = hashlib.sha256(f"{event.trace_id}\x1f{event.event_id}".encode("utf-8", "surrogatepass")).hexdigest()
    return f"a-{digest[:32]}"


def _is_thumb(item: Assessment) -> bool:
    return item.name == USER_FEEDBACK_ASSESSMENT and item.feedback is not None and item.valid is not False


def _is_human(item: Assessment) -> bool:
    return str(item.source.source_type) == "HUMAN"


def _thumb(item: Assessment) -> TraceThumb:
    metadata = item.metadata or {}
    moment = str(metadata.get(EVENT_TIME, ""))
    return TraceThumb(
        event_id=metadata.get(EVENT_ID),
        event_time_ms=int(moment) if moment.isascii() and moment.isdigit() else None,
        value=None if item.feedback is None else item.feedback.value,
    )
