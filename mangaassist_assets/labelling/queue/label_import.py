"""Labels from other tools: CSV or JSON lines with one answer a row. A bad row is listed, the others count."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.labelling.intent_names import IntentSpelling
from mangaassist_assets.labelling.queue.export import unguarded

Format = Literal["csv", "jsonl"]

_REQUIRED = ("trace_id", "labeller")
_READ = ("trace_id", "intent", "documents", "labeller", "labelled_at")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DAY_MS = 86_400_000
_MILLISECOND_DIGITS = 15
# What a file may hold at most, so that a wrong file fails before it costs memory.
MOST_BYTES = 50_000_000
MOST_ROWS = 100_000
_NAME_CHARACTERS = 200
_DOCUMENTS = 20


class LabelFileError(OperatorError, ValueError):
    """A file of labels that cannot be read at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownAnswers:
    """What an answer may name: the bundle's traces, the intents, and the documents; without documents any is taken."""

    trace_ids: Collection[str]
    intents: Collection[str]
    documents: Collection[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedLabel:
    """One person's answer on one turn; a side that was left open is None or empty. `line` counts from 1."""

    trace_id: str
    intent: str | None
    documents: tuple[str, ...]
    labeller: str
    labelled_ms: int | None
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RowProblem:
    """A row that is no label, and why; the reason repeats no cell but names the column."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFile:
    """What a file says: labels by line, problems by line, rows without an answer, and the same answer once more.

    `contradictions` are the traces on which two people in the file give different intents: both answers are kept.
    """

    labels: tuple[ImportedLabel, ...]
    problems: tuple[RowProblem, ...]
    unanswered: int
    duplicates: int
    contradictions: tuple[str, ...]


def read_labels(content: bytes, *, file_format: Format, known: KnownAnswers, now_ms: int) -> LabelFile:
    """Return the labels of a file.

    Columns `trace_id` and `labeller` are required, `intent`, `documents` (semicolons in CSV, a list in JSON) and
    `labelled_at` (ISO 8601 with a time zone, or milliseconds since the epoch) optional, all others are ignored. The
    export of the queue, filled in, is such a file. Where one person answers a turn twice, the later answer counts; two
    answers of the same time are a problem of both rows.

    Args:
        content: the file.
        file_format: `csv` or `jsonl`.
        known: what answers may name.
        now_ms: the present, milliseconds since the epoch: nobody labels in the future.

    Raises:
        LabelFileError: the file is too large, no UTF-8, or its columns are missing.
    """
    if len(content) > MOST_BYTES:
        raise LabelFileError(f"the file has {len(content):,} bytes, more than {MOST_BYTES:,}: split it")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise LabelFileError(f"line {line} is not UTF-8: save the file as UTF-8") from error
    problems: list[RowProblem] = []
    rows = _csv_rows(text, problems) if file_format == "csv" else _json_rows(text, problems)
    reader = _RowReader(known, now_ms)
    labels: list[ImportedLabel] = []
    unanswered = 0
    for count, (line, row) in enumerate(rows, start=1):
        if count > MOST_ROWS:
            raise LabelFileError(f"the file has more than {MOST_ROWS:,} rows: split it")
        try:
            label = reader.label(line, row)
        except _BadRowError as error:
            problems.append(RowProblem(line=line, reason=str(error)))
            continue
        if label is None:
            unanswered += 1
        else:
            labels.append(label)
    return _settled(labels, problems, unanswered=unanswered)


class _BadRowError(ValueError):
    """A row that is no label."""


def _csv_rows(text: str, problems: list[RowProblem]) -> Iterator[tuple[int, Mapping[str, object]]]:
    lines = io.StringIO(text, newline="")
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=lambda one: (first.count(one), one == ","))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = [unguarded(cell).strip().lower() for cell in next(reader, [])]
    except csv.Error as error:
        raise LabelFileError(f"line 1 is no CSV: {error}") from error
    missing = [name for name in _REQUIRED if name not in header]
    if missing:
        raise LabelFileError(f"the first line has no column {missing[0]!r}: it must name {', '.join(_READ)}")
    twice = [name for name in _READ if header.count(name) > 1]
    if twice:
        raise LabelFileError(f"the column {twice[0]!r} comes twice")
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # After an open quote the rest cannot be told apart into rows.
            problems.append(RowProblem(line=line, reason=f"no CSV from here on: {error}"))
            return
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            problems.append(RowProblem(line=line, reason=f"{len(cells)} cells where the first line has {len(header)}"))
            continue
        yield line, {name: unguarded(cell) for name, cell in zip(header, cells, strict=True)}


def _json_rows(text: str, problems: list[RowProblem]) -> Iterator[tuple[int, Mapping[str, object]]]:
    for line, raw in enumerate(text.split("\n"), start=1):
        if not raw.strip():
            continue
        try:
            row = json.loads(raw)
        except (ValueError, RecursionError):
            problems.append(RowProblem(line=line, reason="no JSON"))
            continue
        if not isinstance(row, dict):
            problems.append(RowProblem(line=line, reason="no JSON object"))
            continue
        yield line, row


class _RowReader:
    """Reads one row after the other against what is known."""

    def __init__(self, known: KnownAnswers, now_ms: int) -> None:
        self._trace_ids = frozenset(known.trace_ids)
        self._intents = frozenset(known.intents)
        self._spelling = IntentSpelling(known.intents)
        self._documents = frozenset(known.documents)
        self._now_ms = now_ms

    def label(self, line: int, row: Mapping[str, object]) -> ImportedLabel | None:
        """Return the row's label, None if it has no answer."""
        intent_text = self._text(row, "intent")
        documents = self._document_ids(row)
        if not intent_text and not documents:
            return None
        trace_id = self._text(row, "trace_id")
        if trace_id not in self._trace_ids:
            raise _BadRowError("trace_id is no trace of this bundle")
        labeller = self._text(row, "labeller")
        if not labeller:
            raise _BadRowError("labeller is empty: a label says who gave it")
        intent = self._spelling.corrected(intent_text) if intent_text else None
        if intent is not None and intent not in self._intents:
            raise _BadRowError("intent is none of the known ones: correct it, or name it as a new one")
        return ImportedLabel(
            trace_id=trace_id,
            intent=intent,
            documents=documents,
            labeller=labeller,
            labelled_ms=self._time(row),
            line=line,
        )

    def _text(self, row: Mapping[str, object], column: str) -> str:
        value = row.get(column)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise _BadRowError(f"{column} is no text")
        stripped = value.strip()
        if len(stripped) > _NAME_CHARACTERS:
            raise _BadRowError(f"{column} has more than {_NAME_CHARACTERS} characters")
        if _CONTROL.search(stripped):
            raise _BadRowError(f"{column} has control characters")
        return stripped

    def _document_ids(self, row: Mapping[str, object]) -> tuple[str, ...]:
        value = row.get("documents")
        if value is None:
            return ()
        parts = value.split(";") if isinstance(value, str) else value
        if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
            raise _BadRowError("documents is no list of document ids")
        documents = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
        if len(documents) > _DOCUMENTS:
            raise _BadRowError(f"documents names more than {_DOCUMENTS}")
        if any(len(one) > _NAME_CHARACTERS or _CONTROL.search(one) for one in documents):
            raise _BadRowError("documents has an id that is too long or has control characters")
        if self._documents and not self._documents.issuperset(documents):
            raise _BadRowError("documents names one that the knowledge does not have")
        return documents

    def _time(self, row: Mapping[str, object]) -> int | None:
        value = row.get("labelled_at")
        if value is None or value == "":
            return None
        moment = _milliseconds(value)
        if moment is None:
            raise _BadRowError("labelled_at is no ISO 8601 time with a time zone and no milliseconds since the epoch")
        if not 0 < moment <= self._now_ms + _DAY_MS:
            raise _BadRowError("labelled_at lies in the future or before 1970")
        return moment


def _milliseconds(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = value.strip() if isinstance(value, str) else ""
    if text.isascii() and text.isdigit() and len(text) <= _MILLISECOND_DIGITS:
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)


def _settled(labels: Sequence[ImportedLabel], problems: list[RowProblem], *, unanswered: int) -> LabelFile:
    """Keep one answer of each person on each turn."""
    said: defaultdict[tuple[str, str], list[ImportedLabel]] = defaultdict(list)
    for label in labels:
        said[(label.trace_id, label.labeller.casefold())].append(label)
    kept: list[ImportedLabel] = []
    duplicates = 0
    for same in said.values():
        ordered = sorted(same, key=lambda one: (one.labelled_ms is not None, one.labelled_ms or 0, one.line))
        last = ordered[-1]
        tied = [one for one in ordered if one.labelled_ms == last.labelled_ms]
        if len({(one.intent, one.documents) for one in tied}) > 1:
            others = ", ".join(str(one.line) for one in tied)
            reason = f"the same labeller gives this trace different answers in lines {others}, none of them later"
            problems += [RowProblem(line=one.line, reason=reason) for one in tied]
            continue
        kept.append(last)
        duplicates += len(same) - 1
    by_trace: defaultdict[str, set[str]] = defaultdict(set)
    for label in kept:
        if label.intent is not None:
            by_trace[label.trace_id].add(label.intent)
    return LabelFile(
        labels=tuple(sorted(kept, key=lambda one: one.line)),
        problems=tuple(sorted(problems, key=lambda one: (one.line, one.reason))),
        unanswered=unanswered,
        duplicates=duplicates,
        contradictions=tuple(sorted(trace_id for trace_id, intents in by_trace.items() if len(intents) > 1)),
    )
