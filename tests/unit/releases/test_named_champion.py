"""An endpoint serves what a verdict, an override or the bootstrap made champion, not what an alias says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from upath import UPath

from mangaassist_assets.core.snapshots import SnapshotStore, canonical_json
from mangaassist_assets.models.pipelines import INTENT
from mangaassist_assets.models.registration.registry import EVALUATION_FILE
from mangaassist_assets.releases.champion import promote
from mangaassist_assets.releases.named_champion import (
    NamedChampion,
    UnnamedChampionError,
    named_champions,
    read_named,
    require_named,
)
from mangaassist_assets.releases.overrides import override_request
from tests.support.registry import MemoryMlflow, stored_verdict

MODEL = INTENT.model_name


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
    require_named(named_champions(store, INTENT), INTENT, champion(mlflow))


def test_what_a_verdict_promoted_is_served(mlflow, store):
    judged(mlflow, store, "2")
    assert materialize(mlflow, store).named.by == "verdict"
    admit(mlflow, store)
    assert materialize(mlflow, store).named == read_named(store, INTENT.champion_asset)


def test_what_the_bootstrap_made_is_served_before_any_gate(mlflow, store):
    admit(mlflow, store)
    assert materialize(mlflow, store).named.by == "bootstrap"
    admit(mlflow, store)


def test_an_alias_moved_by_hand_is_not(mlflow, store):
    judged(mlflow, store, "2")
    materialize(mlflow, store)
    mlflow.set_alias(MODEL, "champion", "3")
    for _ in range(2):
        with pytest.raises(UnnamedChampionError, match=r"names version 3 .*no verdict, override or bootstrap"):
            admit(mlflow, store)
        assert materialize(mlflow, store).named.by == "nothing"
    ask = override_request(version="2", against="3", reason="somebody moved the alias by hand", by="release manager")
    assert materialize(mlflow, store, override=ask).named.by == "override"
    admit(mlflow, store)
    assert materialize(mlflow, store).named.by in {"override", "verdict"}


def test_another_artifact_under_the_same_version_is_not(mlflow, store):
    judged(mlflow, store, "2")
    materialize(mlflow, store)
    other = replace(champion(mlflow), artifact_sha256="0" * 64)
    with pytest.raises(UnnamedChampionError, match="artifact 000000000000"):
        require_named(named_champions(store, INTENT), INTENT, other)


@pytest.mark.parametrize("named", ["0" * 64, None])
def test_a_verdict_on_another_artifact_promotes_nothing(mlflow, store, named):
    judged(mlflow, store, "2", challenger_artifact_sha256=named)
    promoted = materialize(mlflow, store)
    assert (promoted.moved, champion(mlflow).version) == (False, "1")
    assert promoted.reason.endswith("evaluate it again")


def test_killed_between_alias_and_record_it_is_known_by_its_verdict(mlflow, store):
    judged(mlflow, store, "2")
    promote(mlflow, store, INTENT)
    assert read_named(store, INTENT.champion_asset) is None
    assert materialize(mlflow, store).named.by == "verdict"
    admit(mlflow, store)


def test_a_record_is_of_a_version_and_its_artifact(mlflow):
    version = mlflow.get(MODEL, "2")
    named = NamedChampion(version="2", artifact_sha256=version.artifact_sha256, by="verdict")
    assert named.names(version)
    assert not replace(named, by="nothing").names(version)
    assert not replace(named, version="3").names(version)
