"""People's answers on MLflow traces: imported labels as expectations, each once; simulated thumbs and reviews.

They come back by the one door that reviews come through, the trace reader.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mangaassist_assets.tracing.contract.names import (
    ANSWER_CORRECTNESS,
    EXPECTED_INTENT,
    RELEVANT_DOCUMENTS,
    USER_FEEDBACK_ASSESSMENT,
    Tag,
)
from mangaassist_assets.tracing.ingestion.trace_sources import TraceSource, header_pages
from resources.mlflow.traces.search import infos_by_id

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Assessment, AssessmentSource

    from mangaassist_assets.labelling.queue.label_import import ImportedLabel
    from mangaassist_assets.tracing.contract.turns import Feedback

IMPORT_KEY = "label_import"
LABELLED_AT = "labelled_at_ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedLabels:
    """What became of imported answers, one for each side of a row.

    `found` were on their traces, `outdated` are older than what the same person said since; `gone` are traces that do
    not exist any more.
    """

    added: int
    found: int
    outdated: int
    gone: tuple[str, ...]


class MlflowLabelRecorder:
    """Puts people's answers on traces as expectations, each once."""

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self._client = client
        self._experiment_id = experiment_id

    def record(self, labels: Sequence[ImportedLabel]) -> RecordedLabels:
        """Record answers, in the order given; may be repeated, and adds nothing twice.

        Raises:
            MlflowException: The server did not take an answer.
        """
        there = trace_assessments(self._client, self._experiment_id, [label.trace_id for label in labels])
        added = found = outdated = 0
        for label in labels:
            if label.trace_id not in there:
                continue
            for name, value in _answers_of(label):
                said = [one for one in there[label.trace_id] if _is_by(one, name, label.labeller)]
                identity = label_assessment_id(label, name)
                if any(one.assessment_id == identity for one in said) or _says(said, value):
                    found += 1
                elif label.labelled_ms is not None and any(_said_ms(one) > label.labelled_ms for one in said):
                    outdated += 1
                else:
                    self._log(label, name, value, identity)
                    added += 1
        gone = tuple(sorted({label.trace_id for label in labels} - there.keys()))
        return RecordedLabels(added=added, found=found, outdated=outdated, gone=gone)

    def _log(self, label: ImportedLabel, name: str, value: str | list[str], identity: str) -> None:
        import mlflow
        from mlflow.entities import Expectation
        from mlflow.exceptions import MlflowException

        metadata = {IMPORT_KEY: "true"}
        if label.labelled_ms is not None:
            metadata[LABELLED_AT] = str(label.labelled_ms)
        expectation = Expectation(
            name=name,
            value=value,
            source=_human(label.labeller),
            metadata=metadata,
        )
        # A request whose answer is lost is repeated by MLflow's client: with an id of ours that cannot make two.
        expectation.assessment_id = identity
        try:
            mlflow.log_assessment(label.trace_id, expectation)
        except MlflowException:
            now = trace_assessments(self._client, self._experiment_id, [label.trace_id])
            if not any(one.assessment_id == identity for one in now.get(label.trace_id, ())):
                raise


def trace_assessments(
    client: MlflowClient, experiment_id: str, trace_ids: Iterable[str]
) -> dict[str, tuple[Assessment, ...]]:
    """Return the assessments of those of the traces that exist."""
    found = infos_by_id(client, experiment_id, trace_ids)
    return {trace_id: tuple(info.assessments or ()) for trace_id, info in found.items()}


def label_assessment_id(label: ImportedLabel, name: str) -> str:
    """Return the id of an imported answer in the form that MLflow gives its own: the same answer has the same id."""
    values = [label.intent or ""] if name == EXPECTED_INTENT else list(label.documents)
    parts = [label.trace_id, name, label.labeller.casefold(), str(label.labelled_ms or ""), *values]
    digest = hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
    return f"a-{digest[:32]}"


def _answers_of(label: ImportedLabel) -> list[tuple[str, str | list[str]]]:
    answers: list[tuple[str, str | list[str]]] = []
    if label.intent is not None:
        answers.append((EXPECTED_INTENT, label.intent))
    if label.documents:
        answers.append((RELEVANT_DOCUMENTS, list(label.documents)))
    return answers


def _is_by(item: Assessment, name: str, labeller: str) -> bool:
    return (
        item.name == name
        and item.expectation is not None
        and item.valid is not False
        and str(item.source.source_type) == "HUMAN"
        and str(item.source.source_id or "").casefold() == labeller.casefold()
    )


def _says(said: Sequence[Assessment], value: str | list[str]) -> bool:
    """Return whether the person's latest answer is this one."""
    latest = max(said, key=lambda one: (one.last_update_time_ms or 0, one.assessment_id or ""), default=None)
    return latest is not None and latest.expectation is not None and latest.expectation.value == value


def _said_ms(item: Assessment) -> int:
    labelled = str((item.metadata or {}).get(LABELLED_AT, ""))
    return int(labelled) if labelled.isascii() and labelled.isdigit() else int(item.last_update_time_ms or 0)


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
        pages = header_pages(self._source, page=500, release_bundle=release_bundle)
        return sorted(set(trace_ids) - {one.trace_id for page in pages for one in page if one.state in ("OK", "ERROR")})


def _human(source_id: str) -> AssessmentSource:
    from mlflow.entities import AssessmentSource

    return AssessmentSource(source_type="HUMAN", source_id=source_id)
