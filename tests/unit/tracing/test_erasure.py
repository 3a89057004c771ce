"""Erasing a user: the request stands, everything of the user goes, and what remains is named."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from upath import UPath

from mangaassist_assets.core.codecs import to_parquet
from mangaassist_assets.core.snapshots import Origin, SnapshotMissingError, SnapshotStore
from mangaassist_assets.privacy import pseudonym
from mangaassist_assets.tracing.erasure import (
    ErasureIncompleteError,
    ErasureReport,
    FoundTraces,
    InvalidUserKeyError,
    erased_users,
    record_erasure,
)
from mangaassist_assets.tracing.feedback.ingestion import FeedbackIngestion
from mangaassist_assets.tracing.person_marks import PersonMarks
from tests.support.erasure import erase_whole

USER = pseudonym("someone", b"key")
OTHER = pseudonym("someone else", b"key")
AT = "2026-03-24T10:00:00Z"


class MemoryUserTraces:
    def __init__(self, **traces: str) -> None:
        self.traces = dict(traces)

    def find(self, user_key: str) -> FoundTraces:
        own = {trace_id: frozenset[str]() for trace_id, user in self.traces.items() if user == user_key}
        return FoundTraces(own=own, others=frozenset(self.traces) - own.keys())

    def existing(self, trace_ids: Collection[str]) -> frozenset[str]:
        return frozenset(trace_ids) & self.traces.keys()

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

    def erase(self, user: str = USER, at: str = AT, **more: Any) -> ErasureReport:
        return erase_whole(
            user,
            requested_at=at,
            store=self.store,
            feedback=self.feedback,
            traces=self.traces,
            tables={"ingested_traces": self.rows},
            **more,
        )

    def everything(self) -> bytes:
        """All bytes under the store but the request itself."""
        files = (path for path in Path(str(self.store.root)).rglob("*") if path.is_file())
        return b"".join(path.read_bytes() for path in files if path.parent.name != "erasures")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return filled(tmp_path)


def filled(folder: Path) -> Place:
    made = Place(folder)
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


def test_the_report_names_the_snapshots_that_were_purged_and_what_must_be_made_again(place):
    digest = place.store.latest("tagged_traces", partition="rc1").digest
    report = place.erase()
    assert [(one.name, one.partition, one.files, one.latest) for one in report.snapshots] == [
        ("failed_traces", "rc1", ("failures.json",), True),
        ("intent_dataset", "rc1", ("examples.parquet",), True),
        ("tagged_traces", "rc1", ("turns.parquet",), True),
    ]
    assert report.snapshots[-1].digest == digest
    # Turns were written again without the user.
    assert report.materialize_again == (("failed_traces", "rc1"), ("intent_dataset", "rc1"))
    with pytest.raises(SnapshotMissingError, match=r"was purged .*materialize that asset again"):
        place.store.latest("failed_traces", partition="rc1")
    assert place.store.find("failed_traces", partition="rc2") is not None


def test_turns_are_written_again_without_the_user_and_their_card_agrees(place):
    turns = pl.DataFrame({"trace_id": ["t1", "t3"], "user_key": [USER, OTHER], "timestamp_ms": [1, 2]})
    files = {
        "turns.parquet": to_parquet(turns),
        "card.json": b'{"first_timestamp_ms": 1, "turns": 2, "release_bundle": "rc3"}',
    }
    before = place.store.write("tagged_traces", files, partition="rc3", origin=Origin(inputs={"a": "b"}, run_id="r"))
    place.erase()
    after = place.store.latest("tagged_traces", partition="rc3")
    assert pl.read_parquet(place.store.read(after, "turns.parquet"))["trace_id"].to_list() == ["t3"]
    card = {"first_timestamp_ms": 2, "turns": 1, "release_bundle": "rc3"}
    assert place.store.read_json(after, "card.json") == card
    assert (after.origin.inputs, after.origin.run_id) == ({"a": "b"}, None)
    assert not place.store.path(before, "turns.parquet").exists()


def test_older_snapshots_are_purged_too_and_shared_files_of_others_stay(place):
    shared = b'{"trace_id": "t3"}'
    old = place.store.write("report", {"a.json": b'{"trace_id": "t1"}', "b.json": shared}, partition="rc1")
    new = place.store.write("report", {"a.json": b"{}", "b.json": shared}, partition="rc1")
    report = place.erase()
    (held,) = (one for one in report.snapshots if one.name == "report")
    assert (held.latest, held.files) == (False, ("a.json",))
    assert place.store.find_digest("report", partition="rc1", digest=old.digest).purged
    assert place.store.latest("report", partition="rc1") == new
    assert place.store.defects(new) == []
    assert not place.store.path(old, "a.json").exists()


def test_after_an_erasure_no_byte_names_the_user_or_a_trace(place):
    place.erase()
    left = place.everything()
    assert USER.encode() not in left
    for file in Path(str(place.store.root)).rglob("*"):
        if file.is_file() and file.read_bytes().startswith(b"PAR1"):
            assert not {USER, "t1", "t2"} & {str(one) for row in pl.read_parquet(file).rows() for one in row}


def test_what_the_user_said_is_found_where_no_id_stands_beside_it(place):
    said, common = "my parcel went to the neighbour of my aunt", "where is my order, it should be here"
    place.turns = pl.DataFrame(
        {
            "trace_id": ["t1", "t1", "t3"],
            "user_key": [USER, USER, OTHER],
            "message": [said, common, common],
            "answer": [None, None, None],
        },
        schema_overrides={"answer": pl.String},
    )

    class Turns:
        def rows(self):
            return place.turns.lazy()

    put = place.store.write
    put("failure_clusters", {"clusters.json": json.dumps({"examples": [said]}).encode()}, partition="rc9")
    put("failure_clusters", {"clusters.json": json.dumps({"examples": [common]}).encode()}, partition="rc8")
    put("labels", {"t.parquet": to_parquet(pl.DataFrame({"x": [[{"y": said}]]}))}, partition="rc9")
    put("page", {"page.html": f"<p>{said}</p>".encode(), "chart.png": b"\x89PNG\xff\xfe"}, partition="rc9")
    put("training_corpus", {"utterances.json": json.dumps([said]).encode()})
    purged = {(one.name, one.partition) for one in place.erase(turns=Turns()).snapshots}
    assert purged >= {("failure_clusters", "rc9"), ("labels", "rc9"), ("page", "rc9")}
    # Somebody else said it as well; and what was handed in is nobody's.
    assert not purged & {("failure_clusters", "rc8"), ("training_corpus", None)}


def test_files_that_no_record_names_are_searched_as_well(place):
    loose = b'{"trace_id": "t1"}'
    sha256 = hashlib.sha256(loose).hexdigest()
    place.store._keep_blob(sha256, loose)
    place.erase()
    assert not place.store.blob_path(sha256).exists()


def test_a_trace_of_somebody_else_that_the_user_only_thumbed_stays(place):
    place.feedback.append(events=[event(9, USER, "t3")], rejects=[], cursor={"s": "5"})
    place.erase()
    assert "t3" in place.traces.traces
    assert [row["trace_id"] for row in place.rows.rows] == ["t3"]


def test_a_second_erasure_finds_nothing_and_keeps_the_first_time(place):
    place.erase()
    again = place.erase(at="2027-01-01T00:00:00Z")
    assert (again.events_removed, again.traces_deleted, again.rows_removed) == (0, 0, {"ingested_traces": 0})
    assert again.requested_at == AT
    assert (again.snapshots, again.materialize_again) == ((), ())


class Answering:
    name = "the attic"

    def __init__(self) -> None:
        self.answers = True

    def erase(self, marks: PersonMarks) -> int:
        return len(marks.trace_ids)

    def holds(self, marks: PersonMarks) -> bool:
        return self.answers and USER in marks.ids


def test_what_still_answers_is_named_and_there_is_no_report(place):
    attic = Answering()
    with pytest.raises(ErasureIncompleteError, match="the attic still answered"):
        place.erase(others=[attic])
    attic.answers = False
    report = place.erase(others=[attic])
    assert "the attic" in report.verified
    # What the first try purged is in the report of the one that ended.
    assert len(report.snapshots) == 3


@pytest.mark.parametrize("store", ["snapshots", "feedback", "ingested_traces", "MLflow traces"])
def test_each_store_is_read_again(place, monkeypatch, store):
    delete = place.traces.delete

    def then_something_arrives(trace_ids: Collection[str]) -> int:
        deleted = delete(trace_ids)
        if store == "snapshots":
            place.store.write("late", {"a.json": b'["t1"]'})
        elif store == "feedback":
            place.feedback.append(events=[event(7, USER, "t1")], rejects=[], cursor={"s": "9"})
        elif store == "ingested_traces":
            place.rows.rows.append({"trace_id": "t1", "user_key": None})
        else:
            place.traces.traces["t77"] = USER
        return deleted

    with monkeypatch.context() as patched:
        patched.setattr(place.traces, "delete", then_something_arrives)
        with pytest.raises(ErasureIncompleteError, match=store):
            place.erase()
    place.erase()


class PowerCutError(BaseException):
    pass


def test_an_erasure_that_is_killed_before_any_change_to_the_disk_ends_the_same(tmp_path, monkeypatch):
    counted = Counted(monkeypatch)
    whole = filled(tmp_path / "whole")
    with counted.until(None):
        report = whole.erase()
    assert counted.steps > 15
    for limit in range(0, counted.steps, 2):
        place = filled(tmp_path / str(limit))
        with counted.until(limit), pytest.raises(PowerCutError):
            place.erase()
        again = place.erase()
        assert {(one.name, one.partition) for one in again.snapshots} <= {
            (one.name, one.partition) for one in report.snapshots
        }
        assert USER.encode() not in place.everything()
        assert place.traces.traces == {"t3": OTHER}
        assert [row["trace_id"] for row in place.rows.rows] == ["t3"]
        assert place.store.find("failed_traces", partition="rc1") is None


class Counted:
    """Counts renames and removals of this process, and cuts the power before one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.steps = 0

    @contextmanager
    def until(self, limit: int | None) -> Iterator[None]:
        self.steps = 0

        def counted(call):
            def step(*arguments, **keywords):
                self.steps += 1
                if self.steps - 1 == limit:
                    raise PowerCutError
                return call(*arguments, **keywords)

            return step

        with self._monkeypatch.context() as patched:
            for module, name in ((os, "unlink"), (os, "replace"), (os, "rename"), (os, "link")):
                patched.setattr(module, name, counted(getattr(module, name)))
            yield


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
