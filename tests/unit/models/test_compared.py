"""Champion and challenger are compared on what neither has seen: labels of people by folds, and fixed sets beside."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import polars as pl
import pytest
from upath import UPath

from mangaassist_assets.core.snapshots import SnapshotStore, canonical_json
from mangaassist_assets.datasets.building.splits import assign_split
from mangaassist_assets.datasets.schema import labels_of_people
from mangaassist_assets.datasets.sources.golden_file import GoldenMessage
from mangaassist_assets.evaluation.gate.decision import GateConfig
from mangaassist_assets.evaluation.results import ModelResults
from mangaassist_assets.models.champion_challenger import evaluate
from mangaassist_assets.models.compared import (
    Contender,
    UntestedChallengerError,
    compare_by_folds,
    compare_on_test_side,
    sample_of,
)
from mangaassist_assets.models.pipelines import INTENT
from mangaassist_assets.models.registration.cross_fit import CROSS_FIT_FILE, CrossFit
from mangaassist_assets.models.registration.registry import MODEL_FILE, TrainedModel
from tests.support.registry import MemoryMlflow
from tests.support.reviewed_traffic import (
    NOVEL,
    PhrasebookModel,
    PhrasebookModelType,
    bundle_name,
    fill_corpus,
    message,
    put_intent_dataset,
    put_reviewed_bundle,
)

BUNDLE = bundle_name(0)
GOLDEN = [
    GoldenMessage(text="golden and known", intent="gift_card"),
    GoldenMessage(text=f"golden {NOVEL}", intent="gift_card"),
    GoldenMessage(text="only a document answers it"),
]


@pytest.fixture
def store(tmp_path):
    made = SnapshotStore(UPath(tmp_path / "store"))
    fill_corpus(made)
    return made


@pytest.fixture
def mlflow(tmp_path):
    return MemoryMlflow(tmp_path / "artifacts")


def of_bootstrap(mlflow):
    return mlflow.add(INTENT.model_name, alias="champion", release_bundle="bootstrap", dataset_digest="0" * 64)


def challenger_of(store, mlflow, number, frame, *, asked=None, right=1.0):
    """Store a challenger whose folds' models got a share of the labels right, the first ones."""
    version = mlflow.add(INTENT.model_name)
    tests = labels_of_people(frame)["example_id"].sort().to_list() if asked is None else asked
    outcomes = (np.arange(len(tests)) < right * len(tests)).astype(float)
    results = ModelResults(version="f", outcomes=outcomes, confidences=np.full(len(tests), 0.8))
    model = TrainedModel(
        name=INTENT.model_name,
        version=version.version,
        run_id="",
        artifact_uri="",
        artifact_sha256=version.artifact_sha256,
        dataset_digest="d",
        release_bundle=bundle_name(number),
        bundle_start_ms=0,
    )
    files = {MODEL_FILE: canonical_json(asdict(model))}
    if asked != []:
        files[CROSS_FIT_FILE] = CrossFit.of([(1, tests, results)]).to_parquet()
    store.write(INTENT.model_asset, files, partition=bundle_name(number))
    return version


def compare(store, frame, champion, *, number=0, golden=(), model_type=None):
    return compare_by_folds(
        store,
        INTENT,
        model_type or PhrasebookModelType(),
        frame,
        Contender(version=champion.version, model=PhrasebookModel("c")),
        Contender(version="2", model=PhrasebookModel("r")),
        champion_version=champion,
        bundle=bundle_name(number),
        golden=golden,
    )


def test_every_label_is_a_test_and_the_challengers_answers_are_out_of_fold(store, mlflow):
    put_reviewed_bundle(store, 0, reviews=60, wrong=12, served_by="1")
    frame = put_intent_dataset(store, 0).frame
    champion = of_bootstrap(mlflow)
    challenger_of(store, mlflow, 0, frame, right=0.5)
    found = compare(store, frame, champion)
    assert {one.example_id for one in found.examples} == set(labels_of_people(frame)["example_id"])
    assert (len(found.champion.outcomes), found.champion.outcomes.mean()) == (60, 0.8)
    assert found.challenger.outcomes.mean() == 0.5
    assert found.challenger.version == "2"
    assert (found.left_out, found.sample) == ({}, None)
    assert "60 labels that people gave traffic" in found.about
    assert "certifies the recipe on this data" in found.about


def test_labels_of_a_judge_and_guesses_are_no_tests(store, mlflow):
    put_reviewed_bundle(store, 0, reviews=30, wrong=0, served_by="1")
    frame = put_intent_dataset(store, 0).frame
    kinds = {"trace-tr-0-0": "judge", "trace-tr-0-1": "propagated"}
    kind = pl.col("example_id").replace_strict(kinds, default=pl.col("label_kind"))
    frame = frame.with_columns(kind.alias("label_kind"))
    challenger_of(store, mlflow, 0, frame)
    found = compare(store, frame, of_bootstrap(mlflow))
    assert len(found.examples) == 28
    assert not {one.example_id for one in found.examples} & set(kinds)


def test_what_the_champion_has_learned_tests_neither(store, mlflow):
    put_reviewed_bundle(store, 0, reviews=40, wrong=0, served_by="9")
    own = put_intent_dataset(store, 0)
    champion = mlflow.add(
        INTENT.model_name, alias="champion", release_bundle=BUNDLE, dataset_digest=own.digest, run_id="r"
    )
    taught = own.frame.filter(pl.col("label_kind") == "human").sort("example_id")["text"].to_list()
    put_reviewed_bundle(store, 1, reviews=20, wrong=0, served_by="1", repeats=[f"{taught[0]} a"])
    frame = put_intent_dataset(store, 1).frame
    challenger_of(store, mlflow, 1, frame)
    found = compare(store, frame, champion, number=1)
    assert {one.example_id for one in found.examples} == {f"trace-tr-1-{place}" for place in range(20)}
    assert found.left_out == {
        "the champion learned from nearly this message": 1,
        "the champion learned from this message": 40,
    }
    assert "41 further labels are no tests here" in found.about


def test_where_nobody_knows_what_the_champion_learned_it_is_said(store, mlflow):
    put_reviewed_bundle(store, 0, reviews=20, wrong=0, served_by="9")
    frame = put_intent_dataset(store, 0).frame
    champion = mlflow.add(INTENT.model_name, alias="champion", release_bundle=BUNDLE, dataset_digest="f" * 64)
    challenger_of(store, mlflow, 0, frame)
    found = compare(store, frame, champion)
    assert len(found.examples) == 20
    assert "it may have seen tests, which favours it: intent_dataset ffffffffffff" in found.about


def test_a_challenger_without_answers_of_its_folds_is_refused_with_what_to_do(store, mlflow):
    put_reviewed_bundle(store, 0, reviews=20, wrong=0, served_by="9")
    frame = put_intent_dataset(store, 0).frame
    challenger_of(store, mlflow, 0, frame, asked=[])
    with pytest.raises(UntestedChallengerError, match="materialize it again"):
        compare(store, frame, of_bootstrap(mlflow))
    found = compare(store, frame.filter(pl.col("label_kind") == "base"), of_bootstrap(mlflow))
    assert len(found.examples) == 0


def test_a_label_that_no_fold_was_asked_is_left_out_and_counted(store, mlflow):
    put_reviewed_bundle(store, 0, reviews=20, wrong=0, served_by="9")
    frame = put_intent_dataset(store, 0).frame
    challenger_of(store, mlflow, 0, frame, asked=[f"trace-tr-0-{place}" for place in range(12)])
    found = compare(store, frame, of_bootstrap(mlflow))
    assert len(found.examples) == 12
    assert found.left_out == {"no fold was asked: the dataset changed after the training": 8}


def test_corpus_and_golden_set_are_fixed_sets_of_what_the_champion_has_not_learned(store, mlflow):
    put_reviewed_bundle(store, 0, reviews=20, wrong=0, served_by="9")
    own = put_intent_dataset(store, 0)
    champion = mlflow.add(INTENT.model_name, alias="champion", release_bundle=BUNDLE, dataset_digest=own.digest)
    challenger_of(store, mlflow, 0, own.frame)
    learned = own.frame.filter(pl.col("split") == "train")["text"][0]
    golden = [*GOLDEN, GoldenMessage(text=learned, intent="gift_card")]
    found = compare(store, own.frame, champion, golden=golden)
    corpus = own.frame.filter(pl.col("split") == "test")
    assert len(found.fixed["corpus"].champion) == len(corpus) == len(found.reported) > 0
    assert found.fixed["golden set"].challenger.tolist() == [1.0, 0.0]


def test_a_type_without_folds_is_compared_on_the_test_side(store):
    put_reviewed_bundle(store, 0, reviews=20, wrong=5, served_by="9")
    frame = put_intent_dataset(store, 0).frame
    frame = frame.with_columns(
        pl.when(pl.col("label_kind") == "human").then(pl.lit("test")).otherwise(pl.col("split")).alias("split")
    )
    both = [Contender(version=one, model=PhrasebookModel(one)) for one in "12"]
    found = compare_on_test_side(PhrasebookModelType(), frame, *both, GOLDEN)
    tests = frame.filter(pl.col("split") == "test")
    assert len(found.examples) == len(tests)
    assert found.fixed.keys() == {"golden set"}
    named = dict(zip([one.example_id for one in found.examples], found.shoppers, strict=True))
    assert named["trace-tr-0-3"] == "s-0-3"
    assert {name for one, name in named.items() if one.startswith("base-")} == {""}


def test_the_evaluation_says_what_it_certifies_and_what_was_left_out(store, mlflow):
    put_reviewed_bundle(store, 0, reviews=60, wrong=30, served_by="1")
    frame = put_intent_dataset(store, 0).frame
    of_bootstrap(mlflow)
    challenger_of(store, mlflow, 0, frame)
    evaluation, decision = evaluate(
        mlflow, store, INTENT, PhrasebookModelType(), bundle=BUNDLE, gate=GateConfig(), golden=GOLDEN
    )
    assert decision is not None
    assert (evaluation.test_examples, evaluation.champion_score, evaluation.challenger_score) == (60, 0.5, 1.0)
    assert evaluation.table.startswith("The tests are 60 labels")
    assert evaluation.details["tests"]["left_out"] == {}
    assert evaluation.details["fixed"]["golden set"] == {"examples": 2, "champion": 0.5, "challenger": 0.5}


def rows(**columns):
    return pl.DataFrame({"release_bundle": ["a", "a", "b"], **columns})


def test_labels_stand_for_traffic_as_they_were_drawn():
    drawn = rows(
        origin=["audit", "failure_queue", "audit"],
        inclusion_probability=[0.1, 0.9, 0.5],
        bundle_turns=[1_000, 1_000, 300],
    )
    sample = sample_of(drawn)
    assert sample.turns == 1_300
    assert np.array_equal(sample.inclusion_probabilities, [0.1, np.nan, 0.5], equal_nan=True)
    assert sample_of(drawn.filter(pl.col("origin") != "audit")) is None
    assert sample_of(rows()) is None
    assert sample_of(drawn.with_columns(pl.lit(None, dtype=pl.String).alias("origin"))) is None


def test_a_champion_of_the_bootstrap_knows_the_corpus_but_its_test_side(store, mlflow):
    corpus = {side: [] for side in ("train", "validation", "test")}
    for number in range(900_000, 900_030):
        corpus[assign_split(message(number))].append(message(number))
    taught, held_out = corpus["train"][0], corpus["test"][0]
    repeats = [f"{taught} a", f"{held_out} a"]
    put_reviewed_bundle(store, 0, reviews=20, wrong=0, served_by="1", repeats=repeats)
    frame = put_intent_dataset(store, 0).frame
    challenger_of(store, mlflow, 0, frame)
    found = compare(store, frame, of_bootstrap(mlflow))
    assert {one.text for one in found.examples} >= {repeats[1]}
    assert len(found.examples) == 21
    assert found.left_out == {"the champion learned from nearly this message": 1}
    # The test copy of what a shopper sent is gone, the others are a fixed set that neither learned.
    assert len(found.fixed["corpus"].champion) == len(corpus["test"]) - 1
