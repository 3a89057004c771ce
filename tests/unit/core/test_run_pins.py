"""What a run reads is settled once: nothing that others do changes it, and every record can be made again from."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from mangaassist_assets.core.declared_inputs import PinnedStore, Read, StepStore
from mangaassist_assets.core.run_pins import RunStore, settle_pins
from mangaassist_assets.core.snapshots import Origin, SnapshotStore, content_digest
from tests.support.examples import examples

FACTS, DERIVED, JOINED = "facts", "derived", "joined"
READS = {
    FACTS: (),
    DERIVED: (Read(asset=FACTS), Read(asset=DERIVED, own=True)),
    JOINED: (Read(asset=FACTS), Read(asset=DERIVED)),
}


@pytest.fixture
def store(tmp_path):
    return SnapshotStore(UPath(tmp_path))


def pinned(store, run_id, *reads, carries_on=()):
    pins, _ = settle_pins(store, run_id, reads, bundle=None)
    return RunStore(store, pins, run_ids={run_id, *carries_on})


def content(store, name):
    found = store.find(name)
    return b"" if found is None else store.read(found, "text")


def put(store, name, text, run_id="another"):
    return store.write(name, {"text": text}, origin=Origin(run_id=run_id))


def test_what_others_write_after_the_start_is_not_seen(store):
    put(store, FACTS, b"old")
    run = pinned(store, "run", Read(asset=FACTS))
    put(store, FACTS, b"new")
    assert content(run, FACTS) == b"old"
    assert [run.read(one, "text") for one in run.history(FACTS)] == [b"old"]
    assert content(pinned(store, "run", Read(asset=FACTS)), FACTS) == b"old"
    assert content(pinned(store, "later", Read(asset=FACTS)), FACTS) == b"new"


def test_what_was_not_there_at_the_start_stays_away(store):
    run = pinned(store, "run", Read(asset=FACTS), Read(asset="labels", bundles="all"))
    put(store, FACTS, b"new")
    store.write("labels", {"text": b"1"}, partition="b1")
    assert run.find(FACTS) is None
    assert list(run.partitions("labels")) == []


def test_what_the_run_itself_makes_is_seen_as_it_made_it(store):
    run = pinned(store, "run", Read(asset=FACTS))
    put(store, FACTS, b"mine", run_id="run")
    put(store, FACTS, b"theirs")
    assert content(run, FACTS) == b"mine"


def test_a_run_that_carries_another_on_sees_what_that_one_made(store):
    put(store, FACTS, b"first attempt", run_id="failed")
    put(store, FACTS, b"theirs")
    assert content(pinned(store, "retry", Read(asset=FACTS), carries_on=["failed"]), FACTS) == b"first attempt"


def test_a_run_writes_after_what_others_wrote_in_the_meantime(store):
    run = pinned(store, "run", Read(asset=FACTS))
    put(store, FACTS, b"theirs")
    run.write(FACTS, {"text": b"mine"}, origin=Origin(run_id="run"))
    assert [(one.number, store.read(one, "text")) for one in store.records(FACTS)] == [(2, b"mine"), (1, b"theirs")]


def test_ledgers_are_read_as_they_are_now(store):
    run = pinned(store, "run", Read(asset="overrides", ledger=True))
    put(store, "overrides", b"just now")
    assert content(run, "overrides") == b"just now"


def make(name, inputs, earlier):
    """Return what an asset is, given what it reads: the same inputs, the same bytes."""
    return b"|".join((name.encode(), *inputs, earlier))


@dataclass
class Run:
    run_id: str
    todo: list[str]
    fresh: bytes
    done: list[str] = field(default_factory=list)


def do_step(store, run):
    """Materialize the next asset of a run, as `StoreResource.step` lets an asset do it."""
    name = run.todo.pop(0)
    reads = [one for asset in (*run.done, name, *run.todo) for one in READS[asset]]
    pins, _ = settle_pins(store, run.run_id, reads, bundle=None)
    seen = RunStore(store, pins, run_ids={run.run_id}, output=name)
    step = StepStore(seen, READS[name], output=name, bundle=None, origin=Origin(run_id=run.run_id))
    step.keep({"text": run.fresh if name == FACTS else computed(step, name)})
    run.done.append(name)


def computed(step, name):
    inputs = [content(step, one.asset) for one in READS[name] if not one.own]
    return make(name, inputs, content(step, name)[:20] if name == DERIVED else b"")


ACTIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("start"), st.sets(st.sampled_from([FACTS, DERIVED, JOINED]), min_size=1), st.binary(max_size=2)
        ),
        st.tuples(st.just("step"), st.integers(0, 5)),
        st.tuples(st.just("kill"), st.integers(0, 5)),
        st.tuples(st.just("put"), st.sampled_from([FACTS, DERIVED]), st.binary(max_size=2)),
    ),
    max_size=30,
)


@settings(max_examples=examples(60), deadline=None)
@given(ACTIONS)
def test_however_runs_interleave_every_record_names_inputs_that_are_there_and_makes_the_same_again(actions):
    with tempfile.TemporaryDirectory() as folder:
        store = SnapshotStore(UPath(folder))
        runs: list[Run] = []
        for number, action in enumerate(actions):
            if action[0] == "start":
                todo = [name for name in READS if name in action[1]]
                runs.append(Run(f"run-{number}", todo, action[2]))
            elif action[0] == "put":
                put(store, action[1], action[2], run_id=f"put-{number}")
            elif runs and (run := runs[action[1] % len(runs)]).todo:
                if action[0] == "kill":
                    run.todo = []
                else:
                    do_step(store, run)
        made = {run.run_id: run for run in runs}
        for name in (DERIVED, JOINED):
            for record in store.records(name):
                if (run := made.get(record.origin.run_id)) is None:
                    continue
                of_then = PinnedStore(store, record.origin.inputs)
                step = StepStore(of_then, READS[name], output=name, bundle=None)
                assert content_digest({"text": computed(step, name)}) == record.digest
                for asset in set(run.done[: run.done.index(name)]) & {one.asset for one in READS[name]}:
                    mine = [one.digest for one in store.records(asset) if one.origin.run_id == run.run_id]
                    assert record.origin.inputs[asset] in mine
