"""The review queue as CSV or JSON lines, for people who label with other tools."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from mangaassist_assets.labelling.queue.review_queue import QueueItem
from mangaassist_assets.privacy import Vocabulary, redact
from mangaassist_assets.tracing.contract.turns import ChatTurn

ANSWER_COLUMNS = ("intent", "documents", "labeller", "labelled_at")
"""What a labeller fills in; documents are separated by semicolons, the time is ISO 8601."""
COLUMNS = (
    *("trace_id", "rank", "message", "answer", "questions", "guessed_intent", "confidence", "likely_intents"),
    *("shown_documents", "cluster_id", "cluster_name", "reason"),
    *ANSWER_COLUMNS,
)
ExportValue = str | int | float | tuple[str, ...] | None
ExportRow = dict[str, ExportValue]
_SEPARATOR = "; "
_LIKELY = 5
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # full width, as Excel takes them
_MARK = "'"


def export_rows(
    items: Sequence[QueueItem],
    turns: Mapping[str, ChatTurn],
    members: Mapping[str, Sequence[str]],
    *,
    vocabulary: Vocabulary | None = None,
) -> list[ExportRow]:
    """Return the queue's rows as a labeller sees them, best first, with None in `ANSWER_COLUMNS`.

    Message and answer are redacted once more. An item whose turn is gone (its user was erased) is left out.

    Args:
        items: the queue.
        turns: the bundle's turns by trace id.
        members: the trace ids of each failure cluster: their intents are the likely ones.
        vocabulary: the store's own words, no personal data.
    """
    likely = {cluster_id: _likely_intents(trace_ids, turns) for cluster_id, trace_ids in members.items()}
    return [
        {
            "trace_id": item.trace_id,
            "rank": item.rank,
            "message": redact(turn.learnable_text, vocabulary=vocabulary).text,
            "answer": redact(turn.answer or "", vocabulary=vocabulary).text,
            "questions": item.questions,
            "guessed_intent": turn.intent or "",
            "confidence": turn.intent_confidence,
            "likely_intents": likely.get(item.cluster_id or "", ()),
            "shown_documents": tuple(dict.fromkeys(one.document_id for one in turn.candidates)),
            "cluster_id": item.cluster_id,
            "cluster_name": item.cluster_name,
            "reason": item.reason,
            **dict.fromkeys(ANSWER_COLUMNS),
        }
        for item in sorted(items, key=lambda one: one.rank)
        if (turn := turns.get(item.trace_id)) is not None
    ]


def to_csv(rows: Iterable[ExportRow]) -> bytes:
    """Return rows as CSV in UTF-8 with a byte order mark, which spreadsheets need, and with empty answer columns."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([guarded(_cell(row[name])) for name in COLUMNS])
    return b"\xef\xbb\xbf" + buffer.getvalue().encode("utf-8", "replace")


def to_jsonl(rows: Iterable[ExportRow]) -> bytes:
    """Return rows as JSON lines in UTF-8, with null where a labeller answers."""
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode("utf-8", "replace")


def guarded(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula (OWASP, "CSV Injection")."""
    return f"{_MARK}{text}" if text.lstrip(_MARK).startswith(_FORMULA) else text


def unguarded(cell: str) -> str:
    """Return what `guarded` was given."""
    return cell[1:] if cell.startswith(_MARK) and cell.lstrip(_MARK).startswith(_FORMULA) else cell


def _cell(value: ExportValue) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return _SEPARATOR.join(value)
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _likely_intents(trace_ids: Sequence[str], turns: Mapping[str, ChatTurn]) -> tuple[str, ...]:
    intents = Counter(
        intent
        for trace_id in trace_ids
        if (turn := turns.get(trace_id)) is not None
        for intent in {turn.intent, turn.expected_intent} - {None}
        if intent
    )
    return tuple(sorted(intents, key=lambda name: (-intents[name], name))[:_LIKELY])
