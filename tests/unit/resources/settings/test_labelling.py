"""Whose reviews count and which intents are declared: by the resource, the environment, or the store's file."""

from __future__ import annotations

import pytest
from upath import UPath

from mangaassist_assets.labelling.people.acceptances import Acceptance
from mangaassist_assets.labelling.people.policy import CatalogueError
from resources.settings.labelling import INTENTS_VARIABLE, REVIEWERS_VARIABLE, LabellingResource


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    monkeypatch.delenv(REVIEWERS_VARIABLE, raising=False)
    monkeypatch.delenv(INTENTS_VARIABLE, raising=False)


def test_the_reviewers_of_the_resource_go_before_the_environments_and_nobody_is_everybody(monkeypatch):
    assert LabellingResource().named_reviewers() == ()
    monkeypatch.setenv(REVIEWERS_VARIABLE, " aki, Ben Ito ,,aki")
    assert LabellingResource().named_reviewers() == ("aki", "Ben Ito")
    assert LabellingResource(reviewers=["cho"]).named_reviewers() == ("cho",)


def test_a_catalogue_is_the_named_file_else_the_stores_else_there_is_none(tmp_path, monkeypatch):
    inputs = UPath(tmp_path / "inputs")
    assert LabellingResource().policy(inputs, []).catalogue is None
    inputs.mkdir()
    (inputs / "intents.txt").write_text("return_item\n")
    assert LabellingResource().policy(inputs, []).catalogue == ("return_item",)
    (tmp_path / "own.txt").write_text("gift_card\n")
    monkeypatch.setenv(INTENTS_VARIABLE, str(tmp_path / "own.txt"))
    assert LabellingResource().policy(inputs, []).catalogue == ("gift_card",)
    with pytest.raises(CatalogueError, match="cannot be read"):
        LabellingResource(intents_file=str(tmp_path / "gone.txt")).policy(inputs, [])


def test_what_was_accepted_is_part_of_the_policy(tmp_path):
    given = {"by": "Mina", "reason": "shoppers ask for it", "decided_at": "2026-01-01T00:00:00+00:00"}
    found = [Acceptance(kind="intent", name="zine", **given), Acceptance(kind="reviewer", name="aki", **given)]
    policy = LabellingResource().policy(UPath(tmp_path), found)
    assert (policy.accepted_intents, policy.vouched_reviewers) == (("zine",), ("aki",))
