"""An endpoint serves what a verdict, an override or the bootstrap made champion, not what an alias says."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from upath import UPath

from mangaassist_assets.core.snapshots import SnapshotStore, canonical_json
from mangaassist_assets.models.pipelines import INTENT
from mangaassist_assets.models.registration.registry import EVALUATION_FILE
from mangaassist_assets.releases import champion as champion_module
from mangaassist_assets.releases.champion import promote
from mangaassist_assets.releases.named_champion import (
    PROMOTIONS,
    ForeignMoveError,
    NamedChampion,
    UnnamedChampionError,
    last_promotion,
    process_user,
    read_named,
    recorded_promotions,
    require_named,
)
from mangaassist_assets.releases.overrides import override_request
from tests.support.registry import MemoryMlflow, stored_verdict

MODEL = INTENT.model_name
BY = {"os_user": "night-job"}


@pytest.fixture
def mlflow(tmp_path):
    made = MemoryMlflow(tmp_path / "artifacts")
    made.add(MODEL, alias="champion", bundle_start_ms="0", release_bundle="bootstrap")
    made.add(MODEL, bundle_start_ms="200", release_bundle="rc2")
    made.add(MODEL, bundle_start_ms="300", release_bundle="rc3")
    return made


@pytest.fixture
def store(tmp_path):
    return SnapshotStore(UPath(tmp_path / "store"))


def judged(mlflow, store, version, **fields):
    sha256 = mlflow.get(MODEL, version).artifact_sha256
    verdict = stored_verdict(
        "rc2", 200, "pass", challenger=version, champion="1", **{"challenger_artifact_sha256": sha256, **fields}
    )
    verdict = {name: value for name, value in verdict.items() if value is not None}
    store.write(INTENT.evaluation_asset, {EVALUATION_FILE: canonical_json(verdict)}, partition="rc2")


def materialize(mlflow, store, **options):
    """Promote, and keep the record, as the champion's asset does."""
    promoted = promote(mlflow, store, INTENT, **options)
    store.write(INTENT.champion_asset, promoted.named.files())
    return promoted


def champion(mlflow):
    return mlflow.version_by_alias(MODEL, "champion")


def admit(mlflow, store):
    require_named(last_promotion(store, INTENT), INTENT, champion(mlflow))


def test_what_a_verdict_promoted_is_served(mlflow, store):
    judged(mlflow, store, "2")
    assert materialize(mlflow, store).named.by == "verdict"
    admit(mlflow, store)
    assert materialize(mlflow, store).named == read_named(store, INTENT.champion_asset)


def test_what_the_bootstrap_made_is_served_before_any_gate(mlflow, store):
    admit(mlflow, store)
    assert materialize(mlflow, store).named.by == "bootstrap"
    admit(mlflow, store)


def test_an_alias_moved_past_the_record_is_told_and_neither_promoted_nor_served(mlflow, store):
    judged(mlflow, store, "2")
    materialize(mlflow, store, carried_out_by=BY)
    mlflow.set_alias(MODEL, "champion", "3")
    told = r"names version 3 with .* promotion on record made version 2 champion \(by verdict on .*os_user night-job\)"
    for _ in range(2):
        with pytest.raises(ForeignMoveError, match=told) as error:
            admit(mlflow, store)
        assert "Put it back with `mangaassist models promote --model intent --version 2 --reason …`" in str(error.value)
        assert "or keep version 3 with `mangaassist models promote --model intent --version 3" in str(error.value)
        assert "\n" not in str(error.value)
        with pytest.raises(ForeignMoveError, match=told):
            materialize(mlflow, store)
    assert [one.version for one in recorded_promotions(store, MODEL)] == ["2"]


def test_a_version_that_says_it_is_of_the_bootstrap_is_not_believed_past_the_record(mlflow, store):
    judged(mlflow, store, "2")
    materialize(mlflow, store)
    mlflow.set_tags(MODEL, "3", {"release_bundle": "bootstrap", "evaluation_verdict": "pass"})
    mlflow.set_alias(MODEL, "champion", "3")
    with pytest.raises(ForeignMoveError, match="names version 3"):
        admit(mlflow, store)


def test_an_alias_moved_back_to_a_version_that_was_once_champion_is_not_believed(mlflow, store):
    judged(mlflow, store, "2")
    materialize(mlflow, store)
    mlflow.set_alias(MODEL, "champion", "1")
    with pytest.raises(ForeignMoveError, match=r"names version 1 .* made version 2 champion"):
        materialize(mlflow, store)


def test_an_alias_that_was_taken_away_is_told(mlflow, store):
    judged(mlflow, store, "2")
    materialize(mlflow, store)
    mlflow.delete_alias(MODEL, "champion")
    with pytest.raises(ForeignMoveError, match=r"is gone, but .* version 2 champion"):
        require_named(last_promotion(store, INTENT), INTENT, None)
    with pytest.raises(ForeignMoveError, match=r"is gone, but .* version 2 champion"):
        materialize(mlflow, store)


@pytest.mark.parametrize(("version", "against"), [("2", "3"), ("3", "2")], ids=["put back", "kept"])
def test_a_person_settles_a_foreign_move(mlflow, store, version, against):
    judged(mlflow, store, "2")
    materialize(mlflow, store)
    mlflow.set_alias(MODEL, "champion", "3")
    ask = override_request(version=version, against=against, reason="somebody moved the alias by hand", by="me")
    settled = materialize(mlflow, store, override=ask, carried_out_by=BY)
    assert (settled.named.version, settled.named.replaced, settled.named.by) == (version, against, "override")
    assert settled.named.carried_out_by == settled.override.carried_out_by == BY
    admit(mlflow, store)
    again = materialize(mlflow, store)
    assert (again.moved, again.named.version) == (False, version)
    assert [one.version for one in recorded_promotions(store, MODEL)] == ["2", version]
    assert materialize(mlflow, store, override=ask).override == settled.override


def test_an_override_killed_before_it_was_on_record_is_known(mlflow, store):
    judged(mlflow, store, "2")
    materialize(mlflow, store)
    ask = override_request(version="3", against="2", reason="the gate cannot know of December", by="me")
    mlflow.gone_before = "tags"
    with pytest.raises(ConnectionError):
        promote(mlflow, store, INTENT, override=ask)
    assert materialize(mlflow, store).named.by == "override"
    admit(mlflow, store)


@pytest.mark.parametrize("moved_before", [False, True], ids=["an override", "a foreign move that is kept"])
def test_an_override_killed_before_its_record_is_asked_for_again(mlflow, store, monkeypatch, moved_before):
    judged(mlflow, store, "2")
    materialize(mlflow, store)
    if moved_before:
        mlflow.set_alias(MODEL, "champion", "3")
    ask = override_request(version="3", against="2", reason="the gate cannot know of December", by="me")

    def killed(*_: object) -> None:
        raise ConnectionError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(champion_module, "record_promotion", killed)
        with pytest.raises(ConnectionError, match="killed"):
            promote(mlflow, store, INTENT, override=ask)
    again = materialize(mlflow, store, override=ask)
    assert (again.named.version, again.named.by, again.moved) == ("3", "override", False)
    assert len(again.overrides) == 1
    assert [one.version for one in recorded_promotions(store, MODEL)] == ["2", "3"]


def test_a_record_of_before_the_ledger_counts(mlflow, store):
    version = mlflow.get(MODEL, "2")
    old = b'{"artifact_sha256":"%s","by":"verdict","version":"2"}' % version.artifact_sha256.encode()
    store.write(INTENT.champion_asset, {"champion.json": old})
    with pytest.raises(ForeignMoveError, match=r"made version 2 champion \(by verdict\): it was moved"):
        admit(mlflow, store)
    mlflow.set_alias(MODEL, "champion", "2")
    admit(mlflow, store)


def test_who_carries_something_out_is_the_process_not_a_typed_name():
    assert process_user()["os_uid"] == str(os.getuid())


def test_another_artifact_under_the_same_version_is_not(mlflow, store):
    judged(mlflow, store, "2")
    materialize(mlflow, store)
    other = replace(champion(mlflow), artifact_sha256="0" * 64)
    with pytest.raises(UnnamedChampionError, match="artifact 000000000000"):
        require_named(last_promotion(store, INTENT), INTENT, other)


@pytest.mark.parametrize("named", ["0" * 64, None])
def test_a_verdict_on_another_artifact_promotes_nothing(mlflow, store, named):
    judged(mlflow, store, "2", challenger_artifact_sha256=named)
    promoted = materialize(mlflow, store)
    assert (promoted.moved, champion(mlflow).version) == (False, "1")
    assert promoted.reason.endswith("evaluate it again")


def test_killed_between_alias_and_record_it_is_known_by_its_verdict(mlflow, store):
    judged(mlflow, store, "2")
    promote(mlflow, store, INTENT)
    record = store.latest(PROMOTIONS, partition=MODEL)
    Path(record.uri).unlink()
    assert read_named(store, PROMOTIONS, partition=MODEL) is None
    assert materialize(mlflow, store).named.by == "verdict"
    admit(mlflow, store)


def test_a_record_is_of_a_version_and_its_artifact(mlflow):
    version = mlflow.get(MODEL, "2")
    named = NamedChampion(version="2", artifact_sha256=version.artifact_sha256, by="verdict")
    assert named.names(version)
    assert not replace(named, by="nothing").names(version)
    assert not replace(named, version="3").names(version)
