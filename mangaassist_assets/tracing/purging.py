"""Taking a person out of the snapshots: tables of turns and feedback are written again without them, the rest purged.

Every record of a snapshot with the person's data is marked, the latest and older ones, and then the files go that no
other snapshot needs. A purged latest snapshot must be materialized again; its asset says so until it is.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from mangaassist_assets.core.blobs import drop_blobs, named_blobs, stored_blobs
from mangaassist_assets.core.bundles import TURNS_ASSET, TURNS_CARD_FILE
from mangaassist_assets.core.codecs import to_parquet
from mangaassist_assets.core.snapshots import Snapshot, SnapshotDamagedError, SnapshotStore, canonical_json
from mangaassist_assets.tracing.person_marks import PersonMarks

PURGED = "the data of a person was erased"
_TURNS, _QUARANTINE = "turns.parquet", "quarantine.parquet"
_ROW_BY_ROW = frozenset({TURNS_ASSET, "feedback_events", "recorded_feedback"})
"""Each of their rows is of one trace: without some of them they are what a materialization would make now."""
_NOT_SAID = frozenset({"training_corpus", "golden_set", "knowledge_chunks"})
"""Handed in, not said by shoppers: a text that one of them shares with a shopper is nobody's."""
_DATASET_CARD = "card.json"
_SHORTEST_NAME = 6
_VERSION = re.compile(r"dataset version (?P<version>[0-9a-f]{64}) of rows (?P<digest>[0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldingSnapshot:
    """A snapshot that holds the person's data, in these files; `latest` ones are what their assets have now."""

    name: str
    partition: str | None
    digest: str
    files: tuple[str, ...]
    latest: bool
    run_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgedVersion:
    """A dataset version whose files were taken away, and why."""

    asset: str
    release_bundle: str
    version: str
    digest: str
    reason: str


def snapshots_holding(store: SnapshotStore, marks: PersonMarks) -> list[HoldingSnapshot]:
    """Return every snapshot, older ones included, with a file that holds the person's data."""
    return [found for found, _ in holding_records(store, marks)]


def holding_records(store: SnapshotStore, marks: PersonMarks) -> list[tuple[HoldingSnapshot, Snapshot]]:
    """Return every unpurged record with a file that holds the person's data; each file is read once."""
    known: dict[tuple[str, bool], bool] = {}
    latest: dict[tuple[str, str | None], str] = {}
    found: list[tuple[HoldingSnapshot, Snapshot]] = []
    for one in store.everything():
        # The newest of each asset and partition comes first.
        latest.setdefault((one.name, one.partition), one.digest)
        if one.purged:
            continue
        texts = one.name not in _NOT_SAID
        for sha256 in one.files.values():
            if (sha256, texts) not in known:
                known[sha256, texts] = marks.are_in(_content(store, sha256), texts=texts)
        if files := tuple(sorted(file for file, sha256 in one.files.items() if known[sha256, texts])):
            holding = HoldingSnapshot(
                name=one.name,
                partition=one.partition,
                digest=one.digest,
                files=files,
                latest=latest[one.name, one.partition] == one.digest,
                run_id=one.origin.run_id,
            )
            found.append((holding, one))
    return found


def take_out(store: SnapshotStore, records: Sequence[tuple[HoldingSnapshot, Snapshot]], marks: PersonMarks) -> None:
    """Purge records that hold a person's data, and files with it that no record names.

    The latest of turns and of feedback are written again without the person before they are purged.
    """
    for holding, one in records:
        newest = store.find(one.name, partition=one.partition)
        if newest is not None and newest.number == one.number and one.name in _ROW_BY_ROW:
            _write_again(store, one, holding.files, marks)
    for _, one in records:
        store.rewrite_record(one, purged=_reason(store, one))
    loose = stored_blobs(store).keys() - named_blobs(store)
    doomed = {sha256 for _, one in records for sha256 in one.files.values()}
    drop_blobs(store, doomed | {sha256 for sha256 in loose if marks.are_in(_content(store, sha256))})


def loose_files_holding(store: SnapshotStore, marks: PersonMarks) -> int:
    """Return how many files that no snapshot names hold the person's data."""
    loose = stored_blobs(store).keys() - named_blobs(store)
    return sum(marks.are_in(_content(store, sha256)) for sha256 in loose)


def find_purged_version(store: SnapshotStore, name: str) -> PurgedVersion | None:
    """Return the purged dataset version that a name, its first digits, is of; None where it names none or several."""
    if len(name) < _SHORTEST_NAME:
        return None
    found: dict[str, PurgedVersion] = {}
    for one in store.everything():
        told = _VERSION.search(one.purged or "")
        if told and (told["version"].startswith(name) or told["digest"].startswith(name)):
            found[told["version"]] = PurgedVersion(
                asset=one.name,
                release_bundle=one.partition or "",
                version=told["version"],
                digest=told["digest"],
                reason=f"was purged: {str(one.purged).partition(';')[0]}",
            )
    return next(iter(found.values())) if len(found) == 1 else None


def _content(store: SnapshotStore, sha256: str) -> bytes:
    """Return what lies under a hash, whatever it is: damage hides nobody. What is gone is empty."""
    try:
        content: bytes = store.blob_path(sha256).read_bytes()
    except FileNotFoundError:
        return b""
    return content


def _write_again(store: SnapshotStore, snapshot: Snapshot, holding: tuple[str, ...], marks: PersonMarks) -> None:
    """Write a snapshot without the person's rows, unless something of the person would remain."""
    if not all(file.endswith(".parquet") for file in holding):
        return
    files = {file: store.read(snapshot, file) for file in snapshot.files}
    for file in holding:
        frame = pl.read_parquet(io.BytesIO(files[file]))
        files[file] = to_parquet(frame.filter(~marks.rows_of(frame)))
    if snapshot.name == TURNS_ASSET and TURNS_CARD_FILE in files:
        files[TURNS_CARD_FILE] = canonical_json(_turns_card(json.loads(files[TURNS_CARD_FILE]), files))
    if any(marks.are_in(content) for content in files.values()):
        return
    origin = replace(snapshot.origin, run_id=None, settings={**snapshot.origin.settings, "written_again": PURGED})
    store.write(snapshot.name, files, partition=snapshot.partition, origin=origin)


def _turns_card(card: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the card of a bundle's turns as they are now."""
    now: dict[str, Any] = {}
    if _TURNS in files:
        starts = pl.read_parquet(io.BytesIO(files[_TURNS]), columns=["timestamp_ms"])["timestamp_ms"]
        now = {"turns": starts.len(), "first_timestamp_ms": starts.min(), "last_timestamp_ms": starts.max()}
    if _QUARANTINE in files:
        now["quarantined"] = pl.read_parquet(io.BytesIO(files[_QUARANTINE]), columns=["trace_id"]).height
    return {**card, **{name: value for name, value in now.items() if name in card}}


def _reason(store: SnapshotStore, snapshot: Snapshot) -> str:
    """Return why a snapshot is purged; of a dataset version its name too, for its card goes."""
    if _DATASET_CARD not in snapshot.files or "examples.parquet" not in snapshot.files:
        return PURGED
    try:
        card = store.read_json(snapshot, _DATASET_CARD)
    except SnapshotDamagedError:
        return PURGED
    return f"{PURGED}; dataset version {card['version']} of rows {card['digest']}"
