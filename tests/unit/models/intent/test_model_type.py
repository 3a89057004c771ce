"""Claims about the intent classifier as a model type: what it reads, trains, proves and reports."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mangaassist_assets.models.artifacts import artifact_kind
from mangaassist_assets.models.examples import IntentExample
from mangaassist_assets.models.intent.fine_tuning import IntentTrainingConfig
from mangaassist_assets.models.intent.model import IntentClassifier
from mangaassist_assets.models.intent.model_type import IntentModelType
from mangaassist_assets.models.model_types import TrainedArtifact, TrainingRequest, load_model_type
from tests.support.intent_training import MESSAGES, QUICK, UNSEEN, examples, of_no_intent, validation

HELD_OUT = [
    *[IntentExample(example_id=f"h{n}", text=text, intent=intent) for n, (text, intent) in enumerate(UNSEEN.items())],
    IntentExample(example_id="h8", text="歌を歌って", intent="karaoke", tenant="osaka"),
    *of_no_intent(),
]


@pytest.fixture(scope="module")
def base(tiny_base: Callable[[str], Path]) -> str:
    return str(tiny_base("bert"))


@pytest.fixture(scope="module")
def family(base: str) -> IntentModelType:
    return IntentModelType(base=base, config=QUICK)


@pytest.fixture(scope="module")
def trained(family: IntentModelType, tmp_path_factory: pytest.TempPathFactory) -> TrainedArtifact:
    request = TrainingRequest(
        train=examples(MESSAGES),
        validation=[*validation(), *of_no_intent(6)],
        output=tmp_path_factory.mktemp("model_type") / "model",
    )
    return family.train(request)


@pytest.fixture(scope="module")
def model(family: IntentModelType, trained: TrainedArtifact) -> IntentClassifier:
    return family.load(trained.directory, trained.digest)


def test_settings_decide_the_weights_and_nothing_else() -> None:
    settings = IntentModelType(config=QUICK).settings()
    assert json.loads(json.dumps(settings)) == settings
    assert settings["base"] == "packaged-minilm"
    assert IntentModelType(config=IntentTrainingConfig(checkpoint_steps=7)).settings() == IntentModelType().settings()


def test_a_frame_is_read_in_the_order_of_ids(family: IntentModelType) -> None:
    rows = {
        "example_id": ["b", "a", "c"],
        "text": ["two", "one", "three"],
        "intent": ["x", "y", "x"],
        "confidence": [0.5, 1.0, 1.0],
        "split": ["train", "train", "test"],
        "tenant": ["osaka", None, ""],
    }
    frame = pl.DataFrame(rows)
    assert family.examples(frame, "train") == [
        IntentExample(example_id="a", text="one", intent="y"),
        IntentExample(example_id="b", text="two", intent="x", weight=0.5, tenant="osaka"),
    ]


def test_what_training_tells_can_be_stored_as_json(trained: TrainedArtifact, base: str) -> None:
    assert trained.kept in {"frozen_head", "fine_tuned"}
    assert trained.started_from == base
    assert {row["intent"] for row in trained.tables["validation_intents"]} == set(MESSAGES)
    assert "4 of 4 intents were learned from fewer than 10 messages each" in trained.limits
    told = {"metrics": trained.metrics, "tables": trained.tables, "limits": trained.limits}
    assert json.loads(json.dumps(told))["metrics"] == trained.metrics


def test_a_message_of_no_intent_is_right_when_it_is_refused(family: IntentModelType, model: IntentClassifier) -> None:
    results = family.evaluate(model, HELD_OUT, version="3")
    decisions = model.answer([example.text for example in HELD_OUT], {})["decisions"]
    assert results.outcomes[-6:].tolist() == [float(not decision["in_scope"]) for decision in decisions[-6:]]
    assert results.outcomes[:8].tolist() == [1.0] * 8


def test_confidence_is_in_the_answer_that_was_given(family: IntentModelType, model: IntentClassifier) -> None:
    results = family.evaluate(model, HELD_OUT, version="3")
    decisions = model.answer([example.text for example in HELD_OUT], {})["decisions"]
    assert results.confidences is not None
    for example, decision, confidence in zip(HELD_OUT, decisions, results.confidences, strict=True):
        refused_rightly = example.intent == "out_of_scope" and not decision["in_scope"]
        assert confidence == pytest.approx(1 - decision["score"] if refused_rightly else decision["score"], abs=1e-5)


def test_an_intent_the_model_never_learned_is_an_error_and_marked(
    family: IntentModelType, model: IntentClassifier
) -> None:
    assert family.evaluate(model, HELD_OUT, version="3").outcomes[8] == 0.0
    unknown = family.unknown_to(model, HELD_OUT)
    assert unknown is not None
    assert np.flatnonzero(unknown).tolist() == [8]
    assert family.unknown_to(model, HELD_OUT[:8]) is None


def test_scope_evidence_is_about_known_intents_and_messages_of_none(
    family: IntentModelType, model: IntentClassifier
) -> None:
    results = family.evaluate(model, HELD_OUT, version="3")
    assert results.scope is not None
    assert results.scope.in_scope_accepted.shape == (8,)
    assert results.scope.in_scope is not None
    assert np.flatnonzero(results.scope.in_scope).tolist() == list(range(8))
    assert results.scope.out_of_scope_refused.shape == (6,)
    assert results.scope.out_of_scope_refused.tolist() == [bool(one) for one in results.outcomes[-6:]]


def test_the_size_is_that_of_all_files(
    family: IntentModelType, model: IntentClassifier, trained: TrainedArtifact
) -> None:
    size = sum(path.stat().st_size for path in trained.directory.iterdir())
    assert family.evaluate(model, HELD_OUT, version="3").size_bytes == size


def test_slices_name_the_tenant_only_where_there_is_one(family: IntentModelType) -> None:
    slices = family.slices(HELD_OUT)
    assert slices["language"][:9] == ("en",) * 8 + ("ja",)
    assert slices["tenant"][8] == "osaka"
    assert set(slices["length"]) <= {"short", "medium", "long"}
    assert all(len(values) == len(HELD_OUT) for values in slices.values())
    assert "tenant" not in family.slices(HELD_OUT[:8])


def test_the_report_is_json_and_counts_every_message_once(family: IntentModelType, model: IntentClassifier) -> None:
    report = family.report(model, HELD_OUT)
    assert json.loads(json.dumps(report)) == report
    assert report["examples"] == 9
    assert sum(row["support"] for row in report["intents"]) == 9
    assert sum(one["count"] for one in report["calibration"]) == 9
    assert report["scope"]["out_of_scope_messages"] == 6
    assert 0.5 < report["scope"]["auroc"] <= 1.0


def test_a_report_about_messages_of_no_intent_alone_has_scope_figures_only(
    family: IntentModelType, model: IntentClassifier
) -> None:
    assert set(family.report(model, of_no_intent())) == {"scope"}


def test_no_examples_give_empty_evidence(family: IntentModelType, model: IntentClassifier) -> None:
    results = family.evaluate(model, [], version="3")
    assert results.outcomes.shape == (0,)


def test_the_family_is_found_by_the_kind_of_its_artifacts(trained: TrainedArtifact) -> None:
    assert isinstance(load_model_type(artifact_kind(trained.directory), base="packaged-minilm"), IntentModelType)


def test_a_request_asks_about_the_message(family: IntentModelType) -> None:
    assert family.request_input(HELD_OUT[0]) == HELD_OUT[0].text


def test_a_model_that_refuses_nothing_has_no_scope_evidence_and_says_so(
    family: IntentModelType, tmp_path: Path
) -> None:
    trained = family.train(TrainingRequest(train=examples(MESSAGES), validation=[], output=tmp_path / "model"))
    assert family.evaluate(family.load(trained.directory), HELD_OUT, version="1").scope is None
    assert any("answers every message" in limit for limit in trained.limits)
