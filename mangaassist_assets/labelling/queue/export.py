"""The review queue as CSV or JSON lines, for people who label with other tools."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mangaassist_assets.labelling.queue.cells import guarded
from mangaassist_assets.labelling.queue.review_queue import QueueItem
from mangaassist_assets.privacy import Vocabulary, redact
from mangaassist_assets.tracing.contract.turns import ChatTurn

ANSWER_COLUMNS = ("intent", "documents", "labeller", "labelled_at")
"""What a labeller fills in; documents are separated by semicolons, the time is ISO 8601."""

COLUMNS = (
    "trace_id",
    "rank",
    "message",
    "answer",
    "questions",
    "guessed_intent",
    "confidence",
    "likely_intents",
    "shown_documents",
    "cluster_id",
    "cluster_name",
    "reason",
    *ANSWER_COLUMNS,
)
_SEPARATOR = "; "
_LIKELY = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRow:
    """One queued turn as a labeller sees it; message and answer are redacted once more."""

    trace_id: str
    rank: int
    message: str
    answer: str
    questions: tuple[str, ...]
    guessed_intent: str
    confidence: float | None
    likely_intents: tuple[str, ...]
    shown_documents: tuple[str, ...]
    cluster_id: str
    cluster_name: str
    reason: str


def export_rows(
    items: Sequence[QueueItem],
    turns: Mapping[str, ChatTurn],
    members: Mapping[str, Sequence[str]],
    *,
    vocabulary: Vocabulary | None = None,
) -> list[ExportRow]:
    """Return the queue's rows, best first; an item whose turn is gone (its user was erased) is left out.

    Args:
        items: the queue.
        turns: the bundle's turns by trace id.
        members: the trace ids of each failure cluster: their intents are the likely ones.
        vocabulary: the store's own words, no personal data.
    """
    likely = {cluster_id: _likely_intents(trace_ids, turns) for cluster_id, trace_ids in members.items()}
    rows: list[ExportRow] = []
    for item in sorted(items, key=lambda one: one.rank):
        turn = turns.get(item.trace_id)
        if turn is None:
            continue
        rows.append(
            ExportRow(
                trace_id=item.trace_id,
                rank=item.rank,
                message=redact(turn.learnable_text, vocabulary=vocabulary).text,
                answer=redact(turn.answer or "", vocabulary=vocabulary).text,
                questions=item.questions,
                guessed_intent=turn.intent or "",
                confidence=turn.intent_confidence,
                likely_intents=likely.get(item.cluster_id, ()),
                shown_documents=tuple(dict.fromkeys(one.document_id for one in turn.candidates)),
                cluster_id=item.cluster_id,
                cluster_name=item.cluster_name,
                reason=item.reason,
            )
        )
    return rows


def to_csv(rows: Iterable[ExportRow]) -> bytes:
    """Return rows as CSV in UTF-8 with a byte order mark, which spreadsheets need, and with empty answer columns."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows:
        cells = (
            row.trace_id,
            str(row.rank),
            row.message,
            row.answer,
            _SEPARATOR.join(row.questions),
            row.guessed_intent,
            "" if row.confidence is None else f"{row.confidence:.4f}",
            _SEPARATOR.join(row.likely_intents),
            _SEPARATOR.join(row.shown_documents),
            row.cluster_id,
            row.cluster_name,
            row.reason,
            *("" for _ in ANSWER_COLUMNS),
        )
        writer.writerow([guarded(cell) for cell in cells])
    return b"\xef\xbb\xbf" + buffer.getvalue().encode("utf-8", "replace")


def to_jsonl(rows: Iterable[ExportRow]) -> bytes:
    """Return rows as JSON lines in UTF-8, with null where a labeller answers."""
    lines = (
        json.dumps(
            {name: getattr(row, name, None) for name in COLUMNS},
            ensure_ascii=False,
            sort_keys=False,
        )
        for row in rows
    )
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")


def _likely_intents(trace_ids: Sequence[str], turns: Mapping[str, ChatTurn]) -> tuple[str, ...]:
    intents = Counter(
        intent
        for trace_id in trace_ids
        if (turn := turns.get(trace_id)) is not None
        for intent in {turn.intent, turn.expected_intent} - {None}
        if intent
    )
    return tuple(sorted(intents, key=lambda name: (-intents[name], name))[:_LIKELY])
