"""Every label is answered by a model that has not seen it, once, whatever is killed in between."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from upath import UPath

from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.datasets.building.folds import folds_of
from mangaassist_assets.datasets.schema import labels_of_people
from mangaassist_assets.evaluation.results import ModelResults, ScopeResults
from mangaassist_assets.models.pipelines import INTENT
from mangaassist_assets.models.registration.cross_fit import CROSS_FIT_FILE, CrossFit, accuracy_by, kept_answers
from mangaassist_assets.models.registration.cross_fitting import cross_fit
from mangaassist_assets.models.registration.registration import TrainingPlatform
from mangaassist_assets.models.registration.registry import TrainedModel
from mangaassist_assets.training.objective import ignore_progress
from tests.support.registry import MemoryMlflow, RegistryGoneError
from tests.support.reviewed_traffic import PhrasebookModelType, fill_corpus, put_intent_dataset, put_reviewed_bundle


class HereTrainer:
    """Runs in this process."""

    def run(self, job, *, progress):
        return job(progress)


@pytest.fixture
def store(tmp_path):
    made = SnapshotStore(UPath(tmp_path / "store"))
    fill_corpus(made)
    return made


@pytest.fixture
def mlflow(tmp_path):
    return MemoryMlflow(tmp_path / "artifacts")


@pytest.fixture
def run(tmp_path, store, mlflow):
    version = mlflow.add(INTENT.model_name, run_id="r1")
    model = TrainedModel(
        name=INTENT.model_name,
        version=version.version,
        run_id="r1",
        artifact_uri="",
        artifact_sha256=version.artifact_sha256,
        dataset_digest="",
        release_bundle="b",
        bundle_start_ms=0,
    )
    (tmp_path / "scratch").mkdir()
    platform = TrainingPlatform(
        tracking=mlflow,
        snapshots=store,
        scratch=tmp_path / "scratch",
        schemas={},
        dagster_run_id="of-a-test",
        logger=logging.getLogger(__name__),
        report=ignore_progress,
    )

    def cross_fitted(dataset, model_type, **changes):
        given = replace(platform, **changes)
        return cross_fit(given, INTENT, dataset, model, model_type=model_type, trainer=HereTrainer())

    return cross_fitted


def test_every_label_of_people_is_answered_out_of_its_fold_and_kept_with_the_run(store, mlflow, run, tmp_path):
    put_reviewed_bundle(store, 0, reviews=60, wrong=12, served_by="9")
    dataset = put_intent_dataset(store, 0)
    model_type = PhrasebookModelType()
    told = []
    answers = run(dataset, model_type, report=told.append)
    assert answers.tested == frozenset(labels_of_people(dataset.frame)["example_id"])
    assert answers.mean == pytest.approx(48 / 60)
    folds = folds_of(dataset.frame, count=5)
    assert model_type.taught == [fold.learned for fold in folds]
    assert [one.stage for one in told] == [f"fold {fold.number} of 5" for fold in folds]
    assert kept_answers(mlflow, mlflow.get(INTENT.model_name, "1")).frame.equals(answers.frame)
    assert [one.name for one in (tmp_path / "scratch").iterdir() if one.is_dir()] == []


def test_answers_that_are_there_are_found_and_no_model_is_trained(store, run):
    put_reviewed_bundle(store, 0, reviews=20, wrong=0, served_by="9")
    dataset = put_intent_dataset(store, 0)
    answers = run(dataset, PhrasebookModelType())
    again = PhrasebookModelType()
    assert run(dataset, again).frame.equals(answers.frame)
    assert again.taught == []


def test_answers_of_another_dataset_are_made_anew(store, mlflow, run):
    put_reviewed_bundle(store, 0, reviews=20, wrong=0, served_by="9")
    dataset = put_intent_dataset(store, 0)
    mlflow.write_run_file("r1", CROSS_FIT_FILE, CrossFit.of([]).to_parquet())
    assert len(run(dataset, PhrasebookModelType()).frame) == 20


@pytest.mark.parametrize("fold", [1, 3, 5])
def test_a_killed_run_goes_on_with_the_next_fold(store, run, fold):
    put_reviewed_bundle(store, 0, reviews=60, wrong=12, served_by="9")
    dataset = put_intent_dataset(store, 0)
    killed, after = PhrasebookModelType(), PhrasebookModelType()
    killed.dies_at = fold
    with pytest.raises(KeyboardInterrupt):
        run(dataset, killed)
    answers = run(dataset, after)
    assert len(after.taught) == 5 - (fold - 1)
    assert answers.frame.equals(run(dataset, PhrasebookModelType()).frame)
    assert len(answers.frame) == 60


def test_a_server_that_is_away_at_the_end_costs_no_fold(store, mlflow, run):
    put_reviewed_bundle(store, 0, reviews=20, wrong=0, served_by="9")
    dataset = put_intent_dataset(store, 0)
    mlflow.gone_before = "run file"
    with pytest.raises(RegistryGoneError):
        run(dataset, PhrasebookModelType())
    again = PhrasebookModelType()
    assert len(run(dataset, again).frame) == 20
    assert again.taught == []


def test_without_a_test_nothing_is_trained(store, run):
    put_reviewed_bundle(store, 0, reviews=20, wrong=0, served_by="9")
    dataset = put_intent_dataset(store, 0)
    model_type = PhrasebookModelType()
    guessed = dataset.frame.with_columns(pl.lit("judge").alias("label_kind"))
    assert run(replace(dataset, frame=guessed), model_type) is None
    assert model_type.taught == []


def test_results_are_the_asked_examples_in_their_order():
    scope = ScopeResults(
        in_scope_accepted=np.array([True, False]),
        out_of_scope_refused=np.array([True]),
        in_scope=np.array([True, False, True, False]),
        out_of_scope=np.array([False, True, False, False]),
    )
    first = ModelResults(
        version="",
        outcomes=np.array([1.0, 1.0, 0.0, 0.0]),
        confidences=np.array([0.9, 0.8, 0.7, 0.6]),
        scope=scope,
        other_figures={"depth": np.arange(4.0)},
    )
    answers = CrossFit.from_parquet(CrossFit.of([(1, ["a", "none", "b", "unknown"], first)]).to_parquet())
    found = answers.results(["unknown", "b", "none"], version="7")
    assert (found.version, found.outcomes.tolist(), found.confidences.tolist()) == ("7", [0, 0, 1], [0.6, 0.7, 0.8])
    assert found.other_figures["depth"].tolist() == [3, 2, 1]
    assert found.scope.in_scope.tolist() == [False, True, False]
    assert found.scope.in_scope_accepted.tolist() == [False]
    assert found.scope.out_of_scope_refused.tolist() == [True]
    assert len(answers.results([], version="7").outcomes) == 0
    with pytest.raises(KeyError, match="1 examples were not tested by any fold: else"):
        answers.results(["a", "else"], version="7")


def test_accuracy_is_told_by_how_a_label_came_about():
    results = ModelResults(version="", outcomes=np.array([1.0, 0.0, 1.0]))
    answers = CrossFit.of([(1, ["a", "b", "c"], results)])
    frame = pl.DataFrame({"example_id": ["a", "b", "c", "d"], "origin": ["audit", "audit", None, "queue"]})
    assert accuracy_by(answers, frame, "origin") == [
        {"by": "origin", "value": "audit", "examples": 2, "mean": 0.5},
        {"by": "origin", "value": "unknown", "examples": 1, "mean": 1.0},
    ]
