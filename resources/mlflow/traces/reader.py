"""Reading MLflow traces as plain records, completely and once each, and putting reviews on them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mangaassist_assets.tracing.contract.names import (
    ANSWER_CORRECTNESS,
    EXPECTED_INTENT,
    RELEVANT_DOCUMENTS,
    USER_FEEDBACK_ASSESSMENT,
    Tag,
)
from mangaassist_assets.tracing.contract.records import TraceRecord
from resources.mlflow.traces.records import to_record

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import AssessmentSource, Trace

    from mangaassist_assets.tracing.contract.turns import Feedback

_PAGE = 100
_INFO_PAGE = 500
_PASSES = 5
# SQLite joins 64 tables at most, and each excluded bundle is one join.
_EXCLUDED_BUNDLES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleSightings:
    """Release bundles seen in traces: valid or not, sorted; the newest start time seen, and how many traces."""

    bundles: tuple[str, ...]
    newest_ms: int
    traces: int


class TraceReader:
    """Reads the traces of one experiment."""

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self._client = client
        self._experiment_id = experiment_id

    def read(self, release_bundle: str) -> Iterator[TraceRecord]:
        """Yield every trace of a bundle once, in no promised order, those in progress included.

        Pages are cut by start time, not by offset, because inserts shift offsets. Passes without spans follow, until
        one finds nothing new: a trace whose start time moved while it was being written is found by them.
        """
        condition = f"tags.{Tag.RELEASE_BUNDLE} = '{release_bundle}'"
        seen: set[str] = set()
        for trace in self._pages(condition, page=_PAGE, spans=True):
            if trace.info.trace_id not in seen:
                seen.add(trace.info.trace_id)
                yield to_record(trace)
        for _ in range(_PASSES):
            late = {trace.info.trace_id: trace for trace in self._pages(condition, page=_INFO_PAGE, spans=False)}
            late = {trace_id: trace for trace_id, trace in late.items() if trace_id not in seen}
            if not late:
                return
            for trace_id, trace in late.items():
                seen.add(trace_id)
                yield self._one(trace_id, trace)

    def bundles_since(self, timestamp_ms: int, *, known: Collection[str] = ()) -> BundleSightings:
        """Return the bundles of traces that started after a time.

        Args:
            timestamp_ms: Milliseconds since the epoch.
            known: Bundles that are known already. Traces of other bundles are then found whenever they started, so
                that a bundle whose traces come late or replay the past is not missed.
        """
        found: set[str] = set()
        newest = 0
        count = 0
        for trace in self._pages(f"timestamp_ms > {timestamp_ms}", page=_INFO_PAGE, spans=False):
            count += 1
            newest = max(newest, trace.info.timestamp_ms)
            if bundle := trace.info.tags.get(Tag.RELEASE_BUNDLE):
                found.add(bundle)
        if known:
            found |= self._unknown_bundles(set(known) | found)
        return BundleSightings(bundles=tuple(sorted(found)), newest_ms=newest, traces=count)

    def missing(self, trace_ids: Collection[str], release_bundle: str) -> list[str]:
        """Return those of the trace ids that are not stored as finished traces of the bundle, sorted."""
        wanted = set(trace_ids)
        for trace in self._pages(f"tags.{Tag.RELEASE_BUNDLE} = '{release_bundle}'", page=_INFO_PAGE, spans=False):
            if not wanted:
                break
            if trace.info.state.value in ("OK", "ERROR"):
                wanted.discard(trace.info.trace_id)
        return sorted(wanted)

    def _unknown_bundles(self, known: set[str]) -> set[str]:
        found: set[str] = set()
        excluded = [name for name in sorted(known, reverse=True) if "'" not in name][:_EXCLUDED_BUNDLES]
        condition = " AND ".join(f"tags.{Tag.RELEASE_BUNDLE} != '{name}'" for name in excluded)
        for trace in self._pages(condition, page=_INFO_PAGE, spans=False):
            bundle = trace.info.tags.get(Tag.RELEASE_BUNDLE)
            if bundle and bundle not in known:
                found.add(bundle)
        return found

    def _one(self, trace_id: str, without_spans: Trace) -> TraceRecord:
        from mlflow.exceptions import MlflowException

        try:
            return to_record(self._client.get_trace(trace_id, display=False))
        except MlflowException:
            # Its spans cannot be loaded: what is known of it goes to quarantine for lack of them.
            return to_record(without_spans)

    def _pages(self, condition: str | None, *, page: int, spans: bool) -> Iterator[Trace]:
        """Yield traces by start time; a trace may come twice where two pages meet."""
        since: int | None = None
        token: str | None = None
        while True:
            parts = [part for part in (condition, f"timestamp_ms >= {since}" if since is not None else None) if part]
            found = self._client.search_traces(
                locations=[self._experiment_id],
                filter_string=" AND ".join(parts) or None,
                max_results=page,
                order_by=["timestamp_ms ASC"],
                page_token=token,
                include_spans=spans,
            )
            yield from found
            if not found.token:
                return
            last = max((trace.info.timestamp_ms for trace in found), default=since)
            if last is not None and last != since:
                since, token = last, None
            else:
                # More traces began in one millisecond than a page holds: only there an offset is needed.
                token = found.token


class TraceReviewer:
    """Puts feedback and human reviews on traces."""

    def __init__(self, client: MlflowClient, reader: TraceReader) -> None:
        self._client = client
        self._reader = reader

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
        """Return those of the trace ids that are not stored as finished traces of the bundle."""
        return self._reader.missing(trace_ids, release_bundle)


def _human(source_id: str) -> AssessmentSource:
    from mlflow.entities import AssessmentSource

    return AssessmentSource(source_type="HUMAN", source_id=source_id)
