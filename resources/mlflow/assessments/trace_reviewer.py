"""Putting a shopper's feedback and a reviewer's answers on MLflow traces."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from mangaassist_assets.tracing.contract.names import (
    ANSWER_CORRECTNESS,
    EXPECTED_INTENT,
    RELEVANT_DOCUMENTS,
    USER_FEEDBACK_ASSESSMENT,
    Tag,
)
from mangaassist_assets.tracing.ingestion.trace_sources import TraceSource, header_pages

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import AssessmentSource

    from mangaassist_assets.tracing.contract.turns import Feedback

_PAGE = 500


class TraceReviewer:
    """Puts feedback and human reviews on traces."""

    def __init__(self, client: MlflowClient, source: TraceSource) -> None:
        self._client = client
        self._source = source

    def record_feedback(self, trace_id: str, feedback: Feedback, *, user_key: str | None, timestamp_ms: int) -> None:
        """Set the tag `user_feedback` and log the same as a human feedback assessment."""
        import mlflow

        self._client.set_trace_tag(trace_id, Tag.USER_FEEDBACK, feedback)
        mlflow.log_feedback(
            trace_id=trace_id,
            name=USER_FEEDBACK_ASSESSMENT,
            value=feedback,
            source=_human(user_key or "anonymous"),
            metadata={"event_time_ms": str(timestamp_ms)},
        )

    def record_review(
        self, trace_id: str, *, expected_intent: str | None, relevant_documents: Sequence[str], reviewer: str
    ) -> None:
        """Log a review as expectations; a side that was not reviewed is None or empty."""
        import mlflow

        if expected_intent is not None:
            mlflow.log_expectation(
                trace_id=trace_id, name=EXPECTED_INTENT, value=expected_intent, source=_human(reviewer)
            )
        if relevant_documents:
            mlflow.log_expectation(
                trace_id=trace_id,
                name=RELEVANT_DOCUMENTS,
                value=list(relevant_documents),
                source=_human(reviewer),
            )

    def record_answer_review(self, trace_id: str, *, correct: bool, reviewer: str) -> None:
        """Log a person's word on the answer itself as a feedback assessment."""
        import mlflow

        mlflow.log_feedback(trace_id=trace_id, name=ANSWER_CORRECTNESS, value=correct, source=_human(reviewer))

    def missing_traces(self, trace_ids: Collection[str], release_bundle: str) -> list[str]:
        """Return those of the trace ids that are not stored as finished traces of the bundle, sorted."""
        pages = header_pages(self._source, page=_PAGE, release_bundle=release_bundle)
        return sorted(set(trace_ids) - {one.trace_id for page in pages for one in page if one.state in ("OK", "ERROR")})


def _human(source_id: str) -> AssessmentSource:
    from mlflow.entities import AssessmentSource

    return AssessmentSource(source_type="HUMAN", source_id=source_id)
