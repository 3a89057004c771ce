"""`mangaassist datasets` on a home whose servers do not run."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from upath import UPath

from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.local.home import Home
from mangaassist_assets.tracing.ingestion.stored_turns import read_turns
from tests.support.command_line import run_here
from tests.support.dataset_store import BUNDLE, EARLIER, fill, put_dataset, put_turns, reviewed_turn


@pytest.fixture
def home(tmp_path) -> Home:
    made = Home.open(tmp_path / "home")
    fill(SnapshotStore(UPath(made.store)))
    return made


@pytest.fixture
def store(home) -> SnapshotStore:
    return SnapshotStore(UPath(home.store))


def test_versions_are_listed_with_bundle_time_and_counts_and_rewritten_cards_once(home, store):
    first, second = put_dataset(store, EARLIER), put_dataset(store, BUNDLE)
    unreviewed = replace(reviewed_turn(20, bundle=BUNDLE, user=None), expected_documents=())
    put_turns(store, BUNDLE, [*read_turns(store, BUNDLE), unreviewed])
    assert put_dataset(store, BUNDLE).version == second.version
    listed = json.loads(run_here(home.root, "datasets", "list", "--json").stdout)["versions"]
    assert [(one["version"], one["release_bundle"], one["snapshots"], one["latest"]) for one in listed] == [
        (first.version, EARLIER, 1, True),
        (second.version, BUNDLE, 2, True),
    ]
    assert listed[0]["examples"] == sum(listed[0]["by_split"].values()) == first.card.examples
    assert listed[0]["as_of_ms"] == first.card.as_of_ms


def test_a_version_is_shown_and_rebuilt_by_its_first_digits(home, store):
    stored = put_dataset(store, BUNDLE)
    shown = json.loads(run_here(home.root, "datasets", "show", stored.version[:8], "--json").stdout)
    assert shown["card"]["inputs"] == stored.card.inputs
    assert shown["problems"] == []
    rebuilt = run_here(home.root, "datasets", "rebuild", stored.version[:8], "--json")
    assert (rebuilt.code, json.loads(rebuilt.stdout)["outcome"]) == (0, "identical")


def test_what_cannot_be_rebuilt_says_why_and_fails(home, store):
    stored = put_dataset(store, BUNDLE)
    store.path(store.latest("knowledge_chunks"), "chunks.parquet").unlink()
    rebuilt = run_here(home.root, "datasets", "rebuild", stored.version)
    assert rebuilt.code == 1
    assert "impossible" in rebuilt.stdout
    assert "knowledge_chunks" in rebuilt.stdout
    assert "Traceback" not in rebuilt.stderr


@pytest.mark.parametrize("name", ["ffffffffffff", "abc", "../../etc/passwd", "[bold]"])
def test_a_name_that_is_none_gets_one_clear_line(home, name):
    ran = run_here(home.root, "datasets", "show", name)
    assert ran.code == 1
    assert repr(name) in ran.stderr
    assert ran.stdout == ""


def test_damage_is_shown_in_the_list(home, store):
    stored = put_dataset(store, BUNDLE)
    store.path(stored.snapshot, "card.json").write_text("{}")
    ran = run_here(home.root, "datasets", "list")
    assert ran.code == 0
    assert "damaged" in ran.stdout
    assert "card.json" in ran.stdout.replace("\n", "")
