"""The whole graph beside its snapshot, so that an unwanted change of it is seen, and a wanted one is read in the diff.

    WRITE_SNAPSHOTS=1 .venv/bin/python -m pytest -n0 tests/unit/definitions/test_graph_snapshot.py

writes the snapshots anew.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mangaassist_assets.definitions import build_definitions
from tests.support.graph_snapshot import graph_of, resources_of

SNAPSHOTS = Path(__file__).with_name("snapshots")
HOW = (
    "the graph is not as tests/unit/definitions/snapshots/{name} says. If it shall be so, run "
    "`WRITE_SNAPSHOTS=1 .venv/bin/python -m pytest -n0 tests/unit/definitions/test_graph_snapshot.py` "
    "and commit the difference"
)
ENVIRONMENT = ("MANGAASSIST_FEEDBACK_DELIVERY", "MANGAASSIST_JUDGE_MODEL")


@pytest.fixture
def definitions(monkeypatch):
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    return {environment: build_definitions(environment) for environment in ("local", "aws")}


def compare(name, found):
    path = SNAPSHOTS / name
    if os.environ.get("WRITE_SNAPSHOTS"):
        SNAPSHOTS.mkdir(exist_ok=True)
        path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    assert found == json.loads(path.read_text(encoding="utf-8")), HOW.format(name=name)


@pytest.mark.parametrize("part", ["assets", "checks", "jobs", "sensors", "schedules"])
def test_the_graph_is_the_one_in_the_snapshot(definitions, part):
    compare(f"{part}.json", graph_of(definitions["local"])[part])


def test_both_environments_have_one_graph(definitions):
    assert graph_of(definitions["local"]) == graph_of(definitions["aws"])


def test_each_environment_has_the_resources_in_the_snapshot(definitions):
    compare("resources.json", {name: resources_of(one) for name, one in definitions.items()})
