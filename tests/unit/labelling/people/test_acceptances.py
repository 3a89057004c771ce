from __future__ import annotations

import pytest
from upath import UPath

from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.labelling.people.acceptances import (
    AcceptanceRefusedError,
    accept,
    accepted_names,
    read_acceptances,
)

NOW_MS = 1_767_225_600_000


@pytest.fixture
def store(tmp_path):
    return SnapshotStore(UPath(tmp_path))


def accepted(store, kind="intent", name="zine_fair", by="Mina", reason="shoppers ask for it since the fair"):
    return accept(store, kind, name, by=by, reason=reason, now_ms=NOW_MS)


def test_what_is_accepted_is_on_record_with_who_did_it_and_why(store):
    assert accepted(store).decided_at == "2026-01-01T00:00:00+00:00"
    accepted(store, "reviewer", "Aki", reason="I looked at twenty of them myself")
    intent, reviewer = read_acceptances(store)
    assert (intent.kind, intent.name, intent.by, intent.reason) == (
        "intent",
        "zine_fair",
        "Mina",
        "shoppers ask for it since the fair",
    )
    assert accepted_names([intent, reviewer], "reviewer") == ("Aki",)


def test_a_reason_is_kept_without_personal_data(store):
    assert "mina@example.com" not in accepted(store, reason="asked for by mina@example.com and many others").reason


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "<b>"}, "no name of an intent"),
        ({"name": "\u200b"}, "no name of an intent"),
        ({"reason": "ok"}, "an acceptance needs a reason"),
        ({"by": " "}, "an acceptance is by somebody"),
    ],
)
def test_what_says_nothing_is_refused_and_not_kept(store, options, message):
    with pytest.raises(AcceptanceRefusedError, match=message):
        accepted(store, **options)
    assert read_acceptances(store) == []


def test_a_name_is_accepted_once_however_it_is_spelled(store):
    accepted(store)
    with pytest.raises(AcceptanceRefusedError, match="was accepted on 2026-01-01"):
        accepted(store, name="Zine Fair")
