"""Looking traces up by MLflow's search, without spans: by id, by a condition, by the response that a thumb is for.

Whole bundles are read by the trace sources.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from mangaassist_assets.core.bundles import InvalidBundleError, validate_bundle
from mangaassist_assets.tracing.contract.names import Tag
from resources.mlflow.rest import all_pages
from resources.mlflow.traces.records import USER

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import TraceInfo

    from mangaassist_assets.tracing.feedback.joining import TraceFacts

_PAGE = 500
# What MLflow's table of traces can hold; an id outside is no trace's, and must not reach the filter.
_TRACE_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._:/-]{0,49}")
_RESPONSE_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._:/=+-]{0,127}")
_RESPONSES_PER_SEARCH = 50
_SESSION = "mlflow.trace.session"
_RESPONSE_TAGS = ("response_id", "request_id", "litellm_call_id")
"""Tags that hold the id of a response: the chatbot's own, and a LiteLLM proxy's. MLflow's own field for it is
`client_request_id` (`mlflow.update_current_trace`)."""


def infos(client: MlflowClient, experiment_id: str, condition: str) -> Iterator[TraceInfo]:
    """Return the traces that meet a condition of MLflow's filter, without spans; one may come twice."""
    traces = all_pages(
        lambda token: client.search_traces(
            locations=[experiment_id],
            filter_string=condition,
            max_results=_PAGE,
            # The oldest first: traces that are written meanwhile do not move the pages behind them.
            order_by=["timestamp_ms ASC"],
            include_spans=False,
            page_token=token,
        )
    )
    return (trace.info for trace in traces)


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


class MlflowTraceFinder:
    """The traces of one experiment, as a `TraceFinder`."""

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self._client = client
        self._experiment_id = experiment_id

    def by_trace_id(self, trace_ids: Sequence[str]) -> Mapping[str, TraceFacts]:
        """Return those of the traces that exist, in requests of up to 500."""
        return {trace_id: facts_of(info) for trace_id, info in self.by_ids(trace_ids).items()}

    def by_response_id(self, response_ids: Sequence[str]) -> Mapping[str, TraceFacts]:
        """Return the traces that gave these responses; a response that two traces claim is nobody's."""
        return {response_id: facts_of(info) for response_id, info in self.by_responses(response_ids).items()}

    def by_ids(self, trace_ids: Sequence[str]) -> dict[str, TraceInfo]:
        """Return those of the traces that exist, as MLflow has them, without spans."""
        return infos_by_id(self._client, self._experiment_id, trace_ids)

    def infos(self, condition: str) -> Iterator[TraceInfo]:
        """Yield the traces that meet a condition of MLflow's filter, without spans; one may come twice."""
        return infos(self._client, self._experiment_id, condition)

    def by_responses(self, response_ids: Sequence[str]) -> dict[str, TraceInfo]:
        """Return the traces that gave these responses, as MLflow has them, without spans."""
        found: dict[str, dict[str, TraceInfo]] = defaultdict(dict)
        wanted = sorted({one for one in response_ids if _RESPONSE_ID.fullmatch(one)})
        for portion in portions(wanted, _RESPONSES_PER_SEARCH):
            for info in self.infos(f"trace.client_request_id IN ({quoted(portion)})"):
                found[str(info.client_request_id)][info.trace_id] = info
            # MLflow's filter knows no IN for tags.
            pattern = "^(" + "|".join(_literal(one) for one in portion) + ")$"
            for tag in _RESPONSE_TAGS:
                for info in self.infos(f"tags.{tag} RLIKE '{pattern}'"):
                    found[info.tags[tag]][info.trace_id] = info
        return {response: next(iter(traces.values())) for response, traces in found.items() if len(traces) == 1}


def facts_of(info: TraceInfo) -> TraceFacts:
    """Return what a trace says of a thumb on it."""
    from mangaassist_assets.tracing.feedback.joining import TraceFacts

    try:
        bundle = validate_bundle(info.tags.get(Tag.RELEASE_BUNDLE, ""))
    except InvalidBundleError:
        bundle = None
    metadata = info.trace_metadata or {}
    return TraceFacts(
        trace_id=info.trace_id,
        release_bundle=bundle,
        session_id=info.tags.get(Tag.SESSION_ID) or metadata.get(_SESSION) or None,
        user=metadata.get(USER) or info.tags.get("user_id") or None,
    )


def _literal(text: str) -> str:
    """Return a text as a regular expression for itself, without backslashes, which a filter would take for its own."""
    return re.sub(r"([.+])", r"[\1]", text)
