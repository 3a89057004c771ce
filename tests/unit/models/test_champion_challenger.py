"""A challenger that became champion keeps the evaluation it did so by: it is never compared with itself."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from upath import UPath

from mangaassist_assets.core.snapshots import SnapshotStore, canonical_json
from mangaassist_assets.models.champion_challenger import Evaluation, standing_evaluation
from mangaassist_assets.models.pipelines import INTENT
from mangaassist_assets.models.registration.registry import EVALUATION_FILE, ModelVersion, TrainedModel

BUNDLE = "2026.03.10-rc1"
CHALLENGER = TrainedModel(
    name=INTENT.model_name,
    version="2",
    run_id="r2",
    artifact_uri="file:///nowhere",
    artifact_sha256="ab" * 32,
    dataset_digest="cd" * 32,
    release_bundle=BUNDLE,
    bundle_start_ms=5,
)
PASSED = Evaluation(
    release_bundle=BUNDLE,
    bundle_start_ms=5,
    dataset_digest=CHALLENGER.dataset_digest,
    champion_version="1",
    challenger_version="2",
    metric="accuracy",
    champion_score=0.4,
    challenger_score=0.9,
    test_examples=40,
    verdict="pass",
    reasons=("significantly better",),
    table="| |",
    details={"decision": {}},
)


def champion(version: str) -> ModelVersion:
    return ModelVersion(name=INTENT.model_name, version=version, source="", run_id=None, artifact_sha256=None)


@pytest.fixture
def snapshots(tmp_path) -> SnapshotStore:
    store = SnapshotStore(UPath(tmp_path))
    store.write(INTENT.evaluation_asset, {EVALUATION_FILE: canonical_json(asdict(PASSED))}, partition=BUNDLE)
    return store


def test_the_verdict_that_made_it_champion_stands(snapshots):
    assert standing_evaluation(snapshots, INTENT, CHALLENGER, champion("2")) == PASSED


def test_against_another_champion_it_is_evaluated_anew(snapshots):
    assert standing_evaluation(snapshots, INTENT, CHALLENGER, champion("1")) is None


@pytest.mark.parametrize("change", [{"version": "3"}, {"dataset_digest": "ef" * 32}])
def test_an_evaluation_of_something_else_does_not_stand(snapshots, change):
    model = replace(CHALLENGER, **change)
    assert standing_evaluation(snapshots, INTENT, model, champion(model.version)) is None


def test_a_champion_that_was_never_evaluated_on_the_bundle_has_none(tmp_path):
    assert standing_evaluation(SnapshotStore(UPath(tmp_path)), INTENT, CHALLENGER, champion("2")) is None
