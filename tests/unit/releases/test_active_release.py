"""What production runs: a row a component, and whether it is what was meant to run."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mangaassist_assets.releases.active_release import endpoint_row, index_row, profile_row


@pytest.mark.parametrize(
    ("serving", "champion", "agrees"), [("3", "3", True), ("3", "4", False), (None, "4", False), ("3", None, False)]
)
def test_an_endpoint_agrees_where_it_serves_the_champion(serving, champion, agrees):
    deployed = SimpleNamespace(model_version=serving, status="InService")
    registered = SimpleNamespace(version=champion) if champion else None
    assert endpoint_row("mangaassist-intent", deployed, registered) == {
        "component": "mangaassist-intent",
        "version": serving,
        "state": "InService",
        "agrees_with_registry": agrees,
    }


def test_no_endpoint_agrees_with_no_champion():
    row = endpoint_row("mangaassist-intent", None, None)
    assert (row["version"], row["state"], row["agrees_with_registry"]) == (None, "no endpoint", True)


def test_a_refused_document_does_not_agree_with_what_serves():
    refused = SimpleNamespace(profile="routing", deployed="2", serving="1", state="refused: version 1 still serves")
    row = profile_row(refused)
    assert (row["component"], row["version"], row["agrees_with_registry"]) == ("configuration routing", "1", False)
    assert index_row("kb-1")["version"] == "kb-1"
