"""The statements that read traces from MLflow's tracking store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mangaassist_assets.tracing.contract.names import Tag
from mangaassist_assets.tracing.ingestion.trace_sources import AssessmentPosition, TracePosition
from resources.mlflow.traces.store import tables

if TYPE_CHECKING:
    import sqlalchemy as sa


class TraceQueries:
    """The statements of one experiment.

    `tags`, `metadata`, `assessments` and `spans` take the trace ids as parameter `ids`.
    """

    def __init__(self, experiment_id: int, *, c_collation: bool) -> None:
        """Make the statements; `c_collation` where text has to be compared byte by byte, as Python does."""
        import sqlalchemy as sa

        self._experiment_id = experiment_id
        self._tables = tables()
        self._c_collation = c_collation
        ids: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
        tags, metadata = self._tables["trace_tags"].c, self._tables["trace_request_metadata"].c
        spans, assessments = self._tables["spans"].c, self._tables["assessments"]
        self.tags = sa.select(tags.request_id, tags.key, tags.value).where(tags.request_id.in_(ids))
        self.metadata = sa.select(metadata.request_id, metadata.key, metadata.value).where(metadata.request_id.in_(ids))
        self.spans = sa.select(spans.trace_id, spans.content).where(spans.trace_id.in_(ids))
        self.assessments = sa.select(assessments).where(assessments.c.trace_id.in_(ids), assessments.c.valid)

    def experiment(self) -> sa.Select[Any]:
        """Return the name of the experiment."""
        import sqlalchemy as sa

        table = self._tables["experiments"]
        return sa.select(table.c.name).where(table.c.experiment_id == self._experiment_id)

    def page(self, position: TracePosition | None, limit: int, *, release_bundle: str | None = None) -> sa.Select[Any]:
        """Return traces after a position, in order; with `release_bundle` only those with that tag."""
        import sqlalchemy as sa

        info = self._tables["trace_info"]
        trace_id = self._bytewise(info.c.request_id)
        statement = sa.select(info).where(info.c.experiment_id == self._experiment_id)
        if release_bundle is not None:
            tags = self._tables["trace_tags"].c
            statement = statement.where(
                sa.exists().where(
                    tags.request_id == info.c.request_id,
                    tags.key == Tag.RELEASE_BUNDLE.value,
                    tags.value == release_bundle,
                )
            )
        if position is not None:
            # The first comparison is the one that an index on the time can follow.
            statement = statement.where(
                info.c.timestamp_ms >= position.timestamp_ms,
                sa.or_(info.c.timestamp_ms > position.timestamp_ms, trace_id > position.trace_id),
            )
        return statement.order_by(info.c.timestamp_ms, trace_id).limit(limit)

    def by_id(self, trace_ids: Sequence[str]) -> sa.Select[Any]:
        """Return the traces with these ids, in order."""
        import sqlalchemy as sa

        info = self._tables["trace_info"]
        return (
            sa.select(info)
            .where(info.c.experiment_id == self._experiment_id, info.c.request_id.in_(list(trace_ids)))
            .order_by(info.c.timestamp_ms, self._bytewise(info.c.request_id))
        )

    def totals_since(self, timestamp_ms: int) -> sa.Select[Any, int]:
        """Return the newest start time of the traces that started after a time, and how many there are."""
        import sqlalchemy as sa

        info = self._tables["trace_info"].c
        return sa.select(sa.func.max(info.timestamp_ms), sa.func.count()).where(
            info.experiment_id == self._experiment_id, info.timestamp_ms > timestamp_ms
        )

    def bundles_since(self, timestamp_ms: int) -> sa.Select[Any]:
        """Return the distinct release bundles of the traces that started after a time."""
        import sqlalchemy as sa

        info, tags = self._tables["trace_info"], self._tables["trace_tags"]
        tagged = sa.and_(tags.c.request_id == info.c.request_id, tags.c.key == Tag.RELEASE_BUNDLE.value)
        return (
            sa.select(tags.c.value)
            .distinct()
            .join_from(info, tags, tagged)
            .where(info.c.experiment_id == self._experiment_id, info.c.timestamp_ms > timestamp_ms)
        )

    def assessed(self, position: AssessmentPosition | None, limit: int) -> sa.Select[Any]:
        """Return assessments after a position, in the order of their last change."""
        import sqlalchemy as sa

        info, assessments = self._tables["trace_info"], self._tables["assessments"].c
        assessment_id = self._bytewise(assessments.assessment_id)
        # Not a join: from one, SQLite would choose to begin with all traces of the experiment.
        experiment = sa.select(info.c.experiment_id).where(info.c.request_id == assessments.trace_id).scalar_subquery()
        statement = sa.select(
            assessments.trace_id, assessments.assessment_id, assessments.last_updated_timestamp
        ).where(experiment == self._experiment_id)
        if position is not None:
            moment = assessments.last_updated_timestamp
            statement = statement.where(
                moment >= position.timestamp_ms,
                sa.or_(moment > position.timestamp_ms, assessment_id > position.assessment_id),
            )
        return statement.order_by(assessments.last_updated_timestamp, assessment_id).limit(limit)

    def _bytewise(self, column: Any) -> Any:  # noqa: ANN401  # any text expression
        import sqlalchemy as sa

        return sa.collate(column, "C") if self._c_collation else column
