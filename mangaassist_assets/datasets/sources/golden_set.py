"""The golden set as it is handed in: kept once, and replaced only on request.

A figure of last year means something this year only if it is of the same messages. So another file is refused, by the
command that takes it and again by the asset that reads it; a replacement names the set it replaces.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mangaassist_assets.core.files import read_json, write_whole
from mangaassist_assets.core.snapshots import Snapshot, SnapshotStore, canonical_json
from mangaassist_assets.datasets.sources.golden_file import GoldenMessage
from mangaassist_assets.privacy import Vocabulary, redact

if TYPE_CHECKING:
    from upath import UPath

INPUT_FILE = "golden.jsonl"
REPLACEMENT_FILE = "golden-replaces.json"
SOURCE_FILE = "source.json"
GOLDEN_FILE = "golden.json"


class GoldenSetChangedError(ValueError):
    """Another golden set than the one that is in use, and no request to replace it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedIn:
    """What lies among the inputs.

    `sha256` is of the file, None where there is none; `replaces` are the hashes of sets that may be replaced.
    """

    sha256: str | None
    messages: tuple[GoldenMessage, ...] = field(repr=False)
    replaces: frozenset[str] = frozenset()

    def redacted(self, vocabulary: Vocabulary) -> list[GoldenMessage]:
        """Return the messages, redacted again."""
        return [_redacted(one, vocabulary) for one in self.messages]


def read_handed_in(inputs: UPath) -> HandedIn:
    """Return the golden set among the inputs of a store, as `keep_golden_set` left it."""
    path = inputs / INPUT_FILE
    if not path.exists():
        return HandedIn(sha256=None, messages=())
    content = path.read_bytes()
    messages = tuple(_message(row, number) for number, row in enumerate(map(json.loads, content.splitlines()), start=1))
    return HandedIn(sha256=_sha256(content), messages=messages, replaces=_replaced(inputs))


def keep_golden_set(
    inputs: UPath,
    messages: Sequence[GoldenMessage],
    *,
    vocabulary: Vocabulary,
    replace_present: bool,
    stored_source: bytes | None = None,
) -> None:
    """Keep a golden set, redacted, without users and sessions, among the inputs.

    Args:
        inputs: the folder of what people hand in.
        messages: the golden set.
        vocabulary: the store's own words.
        replace_present: whether another set that lies there, or is in use, may go.
        stored_source: the record of the snapshot in use, None where there is none.

    Raises:
        GoldenSetChangedError: there is another one, and it is not to be replaced.
    """
    content = b"".join(canonical_json(_row(_redacted(one, vocabulary))) + b"\n" for one in messages)
    path = inputs / INPUT_FILE
    present = _sha256(path.read_bytes()) if path.exists() else None
    ours = _sha256(content)
    others = {one for one in (present, _in_use(stored_source)) if one not in {None, ours}}
    if others and not replace_present:
        raise GoldenSetChangedError(_refusal(min(others), ours))
    if others:
        # The permission first: without the new set beside it, it allows nothing that anybody has.
        write_whole(inputs / REPLACEMENT_FILE, canonical_json(sorted(_replaced(inputs) | others)))
    if present != ours:
        write_whole(path, content)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredGoldenSet:
    """The snapshot of the golden set, its messages, and the hash of the file they were handed in as."""

    snapshot: Snapshot
    messages: Sequence[GoldenMessage] = field(repr=False)
    sha256: str | None


def store_golden_set(store: SnapshotStore, inputs: UPath, *, vocabulary: Vocabulary) -> StoredGoldenSet:
    """Store the golden set that lies among the inputs, an empty one where none does.

    Raises:
        GoldenSetChangedError: another one is in use, and the inputs do not say that it may go.
    """
    handed_in = read_handed_in(inputs)
    stored = store.find("golden_set")
    stored_source = store.read(stored, SOURCE_FILE) if stored else None
    source = refuse_other_golden_set(handed_in, stored_source)
    messages = handed_in.redacted(vocabulary)
    files = {GOLDEN_FILE: golden_to_json(messages), SOURCE_FILE: source}
    if stored is not None and stored_source == source:
        # The words of the store grow, and with them what redaction leaves alone: the set stays as it was.
        files = {name: store.read(stored, name) for name in stored.files}
    return StoredGoldenSet(snapshot=store.write("golden_set", files), messages=messages, sha256=handed_in.sha256)


def golden_to_json(messages: Sequence[GoldenMessage]) -> bytes:
    """Return messages that are redacted as JSON: text, intent, relevant documents, and what else is known of each."""
    return canonical_json([_row(one) for one in messages])


def read_golden(store: SnapshotStore) -> list[str]:
    """Return the messages of the golden set, which nothing is trained on; none where no golden set was handed in."""
    snapshot = store.find("golden_set")
    return [] if snapshot is None else [row["text"] for row in store.read_json(snapshot, GOLDEN_FILE)]


def read_golden_messages(store: SnapshotStore) -> list[GoldenMessage]:
    """Return the golden set with all that is known of its messages; empty where no golden set was handed in."""
    snapshot = store.find("golden_set")
    rows = [] if snapshot is None else store.read_json(snapshot, GOLDEN_FILE)
    return [_message(row, number) for number, row in enumerate(rows, start=1)]


def _message(row: Mapping[str, Any], number: int) -> GoldenMessage:
    return GoldenMessage(
        text=row["text"],
        intent=row["intent"],
        relevant_documents=tuple(row["relevant_documents"]),
        line_number=number,
        answers=tuple(row.get("answers", ())),
        contexts=tuple(row.get("contexts", ())),
    )


def _row(one: GoldenMessage) -> dict[str, object]:
    row: dict[str, object] = {"text": one.text, "intent": one.intent, "relevant_documents": one.relevant_documents}
    reference: dict[str, object] = {"answers": one.answers, "contexts": one.contexts}
    return row | {name: texts for name, texts in reference.items() if texts}


def _redacted(one: GoldenMessage, vocabulary: Vocabulary) -> GoldenMessage:
    def clean(text: str) -> str:
        return redact(text, vocabulary=vocabulary).text

    return replace(
        one, text=clean(one.text), answers=tuple(map(clean, one.answers)), contexts=tuple(map(clean, one.contexts))
    )


def refuse_other_golden_set(handed_in: HandedIn, stored_source: bytes | None) -> bytes:
    """Return the record of where the golden set is from, for its snapshot; `stored_source` is that of the one in use.

    Raises:
        GoldenSetChangedError: the snapshot in use is of another file, and the inputs do not say that it may go.
    """
    in_use = _in_use(stored_source)
    if in_use is not None and in_use != handed_in.sha256 and in_use not in handed_in.replaces:
        raise GoldenSetChangedError(_refusal(in_use, handed_in.sha256))
    return canonical_json({"schema": 1, "sha256": handed_in.sha256})


def _in_use(stored_source: bytes | None) -> str | None:
    recorded: str | None = None if stored_source is None else json.loads(stored_source)["sha256"]
    return recorded


def _replaced(inputs: UPath) -> frozenset[str]:
    permission = inputs / REPLACEMENT_FILE
    if not permission.exists():
        return frozenset()
    mend = "Delete it, and give the permission again."
    return frozenset(read_json(permission, what="the permission to replace the golden set", mend=mend))


def _refusal(in_use: str, other: str | None) -> str:
    given = "it is gone from the inputs" if other is None else f"this is another one ({other[:12]}…)"
    return (
        f"the golden set {in_use[:12]}… is in use and {given}: figures of before would not be comparable any more; "
        "give the same file, or add --replace-golden to replace it for good"
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
