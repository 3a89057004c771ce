"""Feedback on MLflow traces: recording an event as an assessment and a tag, and counting the thumbs that are there.

Thumbs are counted by SQL where that is possible.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mangaassist_assets.tracing.contract.feedback_fields import feedback_fields
from mangaassist_assets.tracing.contract.names import USER_FEEDBACK_ASSESSMENT, Tag
from mangaassist_assets.tracing.feedback.recording import (
    FeedbackRefusedError,
    TraceFeedback,
    TraceGoneError,
    TraceThumb,
)
from mangaassist_assets.triggers.thumbs import PressedThumb, Thumb, ThumbOnTrace, TraceVote
from resources.mlflow.traces.search import MlflowTraceFinder, infos_by_id
from resources.mlflow.traces.store import TrackingStore, tables

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Assessment, TraceInfo
    from mlflow.exceptions import MlflowException

    from mangaassist_assets.tracing.contract.turns import Feedback
    from mangaassist_assets.tracing.feedback.events import FeedbackRecord

EVENT_ID = "event_id"
EVENT_TIME = "event_time_ms"
_FINISHED = ("OK", "ERROR")
_RESPONSES_PER_LOOK = 200


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


class MlflowThumbs:
    """The thumbs of one experiment."""

    def __init__(self, finder: MlflowTraceFinder, *, store: TrackingStore | None, experiment_id: str) -> None:
        """Name the experiment; with `store`, its traces are counted by SQL."""
        self._finder = finder
        self._store = store
        self._experiment_id = experiment_id

    def after(self, timestamp_ms: int) -> Sequence[ThumbOnTrace]:
        """Return the traces with a thumb and a bundle that began after a time (ms since the epoch), in any order.

        A trace's tag `user_feedback` is its thumb; without one, its newest assessment of that name is.
        """
        if self._store is not None:
            return list(self._by_sql(self._store, timestamp_ms))
        tagged = self._finder.infos(f"tags.{Tag.USER_FEEDBACK} IS NOT NULL AND timestamp_ms > {timestamp_ms}")
        assessed = self._finder.infos(
            f"feedback.{USER_FEEDBACK_ASSESSMENT} IS NOT NULL AND timestamp_ms > {timestamp_ms}"
        )
        infos = {info.trace_id: info for found in (tagged, assessed) for info in found}
        return [
            ThumbOnTrace(timestamp_ms=info.timestamp_ms, release_bundle=vote.release_bundle, feedback=vote.feedback)
            for info in infos.values()
            if (vote := _vote(info)).feedback is not None and vote.release_bundle is not None
        ]

    def said_on(self, pressed: Sequence[PressedThumb]) -> Mapping[str, TraceVote]:
        """Return what those traces of thumbs that exist say, by trace id, or by response id where that led to them.

        Looking for a response costs MLflow much more than for a trace: the newest 200 are looked for.
        """
        infos = self._finder.by_ids([one.trace_id for one in pressed if one.trace_id is not None])
        homeless = sorted((one for one in pressed if one.trace_id not in infos), key=lambda one: one.time_ms)
        responses = [one.response_id for one in homeless if one.response_id is not None]
        return {
            given: _vote(info)
            for given, info in (self._finder.by_responses(responses[-_RESPONSES_PER_LOOK:]) | infos).items()
        }

    def _by_sql(self, store: TrackingStore, timestamp_ms: int) -> Iterator[ThumbOnTrace]:
        import sqlalchemy as sa

        named = tables()
        info, assessments = named["trace_info"].c, named["assessments"].c
        thumb, bundle = (named["trace_tags"].alias(name) for name in ("thumb", "bundle"))
        of_thumb = sa.and_(thumb.c.request_id == info.request_id, thumb.c.key == Tag.USER_FEEDBACK.value)
        of_bundle = sa.and_(bundle.c.request_id == info.request_id, bundle.c.key == Tag.RELEASE_BUNDLE.value)
        ours = sa.and_(info.experiment_id == int(self._experiment_id), info.timestamp_ms > timestamp_ms)
        traces = named["trace_info"].join(bundle, of_bundle)
        tagged = sa.select(info.timestamp_ms, bundle.c.value.label("bundle"), thumb.c.value).select_from(
            traces.join(thumb, of_thumb)
        )
        said = sa.and_(
            assessments.trace_id == info.request_id,
            assessments.name == USER_FEEDBACK_ASSESSMENT,
            assessments.assessment_type == "feedback",
            assessments.valid,
        )
        assessed = (
            sa.select(info.request_id, info.timestamp_ms, bundle.c.value.label("bundle"), assessments.value)
            .select_from(traces.join(named["assessments"], said).outerjoin(thumb, of_thumb))
            .where(ours, sa.func.coalesce(thumb.c.value, "") == "")
            .order_by(assessments.last_updated_timestamp, assessments.assessment_id)
        )
        with store.transaction() as connection:
            tags = connection.execute(tagged.where(ours)).all()
            newest = {row.request_id: row for row in connection.execute(assessed)}
        yield from (one for row in tags for one in _on_trace(row, row.value))
        yield from (one for row in newest.values() for one in _on_trace(row, _decoded(row.value)))


def _on_trace(row: Any, value: object) -> Iterator[ThumbOnTrace]:  # noqa: ANN401 - a row of SQLAlchemy
    thumb = feedback_fields().thumb(value)
    if thumb is not None and row.bundle:
        yield ThumbOnTrace(timestamp_ms=row.timestamp_ms, release_bundle=row.bundle, feedback=thumb)


def _vote(info: TraceInfo) -> TraceVote:
    assessments = [one for one in info.assessments or () if _is_thumb(one)]
    times = [int(moment) for one in assessments if (moment := str((one.metadata or {}).get(EVENT_TIME))).isdecimal()]
    return TraceVote(
        trace_id=info.trace_id,
        release_bundle=info.tags.get(Tag.RELEASE_BUNDLE) or None,
        feedback=_word(info.tags.get(Tag.USER_FEEDBACK), assessments),
        event_ms=max(times, default=None),
    )


def _word(tag: str | None, assessments: Sequence[Assessment]) -> Thumb | None:
    if tag:
        return feedback_fields().thumb(tag)
    newest = max(assessments, key=lambda one: (one.last_update_time_ms or 0, one.assessment_id or ""), default=None)
    return None if newest is None or newest.feedback is None else feedback_fields().thumb(newest.feedback.value)


def _decoded(value: str) -> object:
    try:
        return json.loads(value)
    except ValueError:
        return None
