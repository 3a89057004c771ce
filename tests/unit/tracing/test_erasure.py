"""Erasing a user: the request stands, everything of the user goes, and what remains is named."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import polars as pl
import pytest
from upath import UPath

from mangaassist_assets.core.codecs import to_parquet
from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.privacy import pseudonym
from mangaassist_assets.tracing.erasure import (
    ErasureReport,
    InvalidUserKeyError,
    erase_user,
    erased_users,
    record_erasure,
    snapshots_holding,
)
from mangaassist_assets.tracing.feedback.ingestion import FeedbackIngestion

USER = pseudonym("someone", b"key")
OTHER = pseudonym("someone else", b"key")
AT = "2026-03-24T10:00:00Z"


class MemoryUserTraces:
    def __init__(self, **traces: str) -> None:
        self.traces = dict(traces)

    def trace_ids_of(self, user_key: str) -> frozenset[str]:
        return frozenset(trace_id for trace_id, user in self.traces.items() if user == user_key)

    def delete(self, trace_ids: Collection[str]) -> int:
        return sum(self.traces.pop(trace_id, None) is not None for trace_id in trace_ids)


class Rows:
    def __init__(self, *rows: dict[str, str | None]) -> None:
        self.rows = list(rows)

    def erase(self, column: str, values: Collection[str]) -> int:
        before = len(self.rows)
        self.rows = [row for row in self.rows if row[column] not in values]
        return before - len(self.rows)


def event(number: int, user: str | None, trace: str) -> dict[str, object]:
    return {
        "event_id": f"event-{number}",
        "trace_id": trace,
        "session_id": "s",
        "user_key": user,
        "release_bundle": "rc1",
        "feedback": "thumbs_down",
        "timestamp": "2026-03-24T10:00:00.000Z",
    }


class Place:
    def __init__(self, folder: Path) -> None:
        self.store = SnapshotStore(UPath(folder / "store"))
        self.feedback = FeedbackIngestion.at(str(folder / "ingestion"))
        self.traces = MemoryUserTraces(t1=USER, t2=USER, t3=OTHER)
        self.rows = Rows(
            {"trace_id": "t1", "user_key": USER},
            {"trace_id": "t2", "user_key": None},
            {"trace_id": "t3", "user_key": OTHER},
        )

    def erase(self, user: str = USER, at: str = AT) -> ErasureReport:
        return erase_user(
            user,
            requested_at=at,
            store=self.store,
            feedback=self.feedback,
            traces=self.traces,
            tables={"ingested_traces": self.rows},
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    events = [event(1, USER, "t1"), event(2, OTHER, "t3"), event(3, None, "t2"), event(4, USER, "t9")]
    made.feedback.append(events=events, rejects=[], cursor={"s": "4"})
    turns = pl.DataFrame({"trace_id": ["t1", "t3"], "user_key": [USER, OTHER], "message": ["a", "b"]})
    made.store.write("tagged_traces", {"turns.parquet": to_parquet(turns)}, partition="rc1")
    others = turns.filter(pl.col("user_key") == OTHER)
    made.store.write("tagged_traces", {"turns.parquet": to_parquet(others)}, partition="rc2")
    failures = json.dumps([{"trace_id": "t1"}, {"trace_id": "t3"}]).encode()
    made.store.write("failed_traces", {"failures.json": failures}, partition="rc1")
    made.store.write("failed_traces", {"failures.json": b'[{"trace_id": "t3"}, {"trace_id": "t11"}]'}, partition="rc2")
    dataset = pl.DataFrame({"source_trace_id": ["t2"], "user_key": [None]}, schema_overrides={"user_key": pl.String})
    made.store.write("intent_dataset", {"examples.parquet": to_parquet(dataset)}, partition="rc1")
    return made


def test_everything_of_the_user_goes_and_nothing_of_others(place):
    report = place.erase()
    assert (report.events_removed, report.traces_deleted, report.rows_removed) == (3, 2, {"ingested_traces": 2})
    assert place.traces.traces == {"t3": OTHER}
    assert [one.event_id for one in place.feedback.table("rc1").events] == ["event-2"]
    assert [row["trace_id"] for row in place.rows.rows] == ["t3"]
    assert erased_users(place.store) == {USER}


def test_the_report_names_the_snapshots_that_still_tell_of_the_user(place):
    held = place.erase().snapshots
    assert [(one.name, one.partition, one.files, one.latest) for one in held] == [
        ("failed_traces", "rc1", ("failures.json",), True),
        ("intent_dataset", "rc1", ("examples.parquet",), True),
        ("tagged_traces", "rc1", ("turns.parquet",), True),
    ]
    digest = place.store.latest("tagged_traces", partition="rc1").digest
    assert digest.startswith(held[-1].digest)


def test_an_older_snapshot_is_named_as_one(place):
    place.erase()
    cleaned = pl.DataFrame({"trace_id": ["t3"], "user_key": [OTHER], "message": ["b"]})
    place.store.write("tagged_traces", {"turns.parquet": to_parquet(cleaned)}, partition="rc1")
    held = {one.name: one.latest for one in snapshots_holding(place.store, USER, ["t1", "t2"])}
    assert held == {"failed_traces": True, "intent_dataset": True, "tagged_traces": False}


def test_a_second_erasure_finds_nothing_and_keeps_the_first_time(place):
    place.erase()
    again = place.erase(at="2027-01-01T00:00:00Z")
    assert (again.events_removed, again.traces_deleted, again.rows_removed) == (0, 0, {"ingested_traces": 0})
    assert again.requested_at == AT
    assert len(again.snapshots) == 2


def test_an_erasure_that_was_killed_completes(place):
    class PowerCutError(Exception):
        pass

    def cut(_: Collection[str]) -> int:
        raise PowerCutError

    delete, place.traces.delete = place.traces.delete, cut
    with pytest.raises(PowerCutError):
        place.erase()
    assert erased_users(place.store) == {USER}
    place.traces.delete = delete
    assert place.erase().traces_deleted == 2
    assert place.feedback.trace_ids_of([USER]) == frozenset()


def test_the_record_of_an_erasure_is_written_once_and_holds_the_pseudonym_only(tmp_path):
    store = SnapshotStore(UPath(tmp_path))
    assert erased_users(store) == frozenset()
    assert record_erasure(store, USER, requested_at=AT) == AT
    assert record_erasure(store, USER, requested_at="2030-01-01T00:00:00Z") == AT
    (path,) = (tmp_path / "erasures").iterdir()
    assert json.loads(path.read_bytes()) == {"schema": 1, "user_key": USER, "requested_at": AT}
    (tmp_path / "erasures" / "notes.json").write_text("{}")
    assert erased_users(store) == {USER}


@pytest.mark.parametrize("key", ["", "someone@example.invalid", "../x", "u-XYZ", f"{USER}x"])
def test_a_key_that_is_no_pseudonym_is_refused_without_being_repeated(tmp_path, key):
    with pytest.raises(InvalidUserKeyError) as refused:
        record_erasure(SnapshotStore(UPath(tmp_path)), key, requested_at=AT)
    assert not key or key not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_label_that_rests_on_a_trace_of_the_user_tells_of_the_user(place):
    labels = pl.DataFrame(
        {"trace_id": ["t3"], "user_key": [OTHER], "sources": [["t3", "t1"]]}, schema_overrides={"user_key": pl.String}
    )
    place.store.write("intent_labels", {"labels.parquet": to_parquet(labels)}, partition="rc1")
    place.store.write(
        "intent_labels",
        {"labels.parquet": to_parquet(labels.with_columns(sources=pl.Series([["t3"]])))},
        partition="rc2",
    )
    held = [(one.name, one.partition) for one in place.erase().snapshots if one.name == "intent_labels"]
    assert held == [("intent_labels", "rc1")]
