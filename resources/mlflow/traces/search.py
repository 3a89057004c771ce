"""Looking traces up by MLflow's search, without spans. Whole bundles are read by the trace sources."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import TraceInfo

_PAGE = 500
# What MLflow's table of traces can hold; an id outside is no trace's, and must not reach the filter.
_TRACE_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._:/-]{0,49}")


def infos(client: MlflowClient, experiment_id: str, condition: str) -> Iterator[TraceInfo]:
    """Yield the traces that meet a condition of MLflow's filter, without spans; one may come twice."""
    token: str | None = None
    while True:
        page = client.search_traces(
            locations=[experiment_id],
            filter_string=condition,
            max_results=_PAGE,
            # The oldest first: traces that are written meanwhile do not move the pages behind them.
            order_by=["timestamp_ms ASC"],
            include_spans=False,
            page_token=token,
        )
        yield from (trace.info for trace in page)
        token = page.token
        if not token:
            return


def infos_by_id(client: MlflowClient, experiment_id: str, trace_ids: Iterable[str]) -> dict[str, TraceInfo]:
    """Return those of the traces that exist, without spans, in requests of up to 500."""
    return {
        info.trace_id: info
        for portion in portions(sorted({one for one in trace_ids if _TRACE_ID.fullmatch(one)}), _PAGE)
        for info in infos(client, experiment_id, f"trace.request_id IN ({quoted(portion)})")
    }


def portions(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Yield the items in portions of a size."""
    return (items[start : start + size] for start in range(0, len(items), size))


def quoted(items: Sequence[str]) -> str:
    """Return ids as a list of MLflow's filter; they hold no quote."""
    return ", ".join(f"'{one}'" for one in items)
