"""Claims about training and asking the intent classifier. All messages are invented."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mangaassist_assets.models.artifacts import ArtifactMismatchError, artifact_settings, seal_artifact, verify_artifact
from mangaassist_assets.models.examples import IntentExample
from mangaassist_assets.models.intent import model
from mangaassist_assets.models.intent.examples import IntentTrainingError
from mangaassist_assets.models.intent.fine_tuning import IntentTrainingConfig
from mangaassist_assets.models.intent.model import IntentClassifier
from mangaassist_assets.models.intent.training import IntentTrainingResult
from mangaassist_assets.models.model_types import InputError
from mangaassist_assets.training.objective import TrainingProgress
from tests.support.intent_training import (
    MESSAGES,
    OF_NO_INTENT,
    QUICK,
    UNSEEN,
    examples,
    of_no_intent,
    train_on,
    validation,
)
from tests.support.timing import growth

LEARNED = [*examples(MESSAGES, prefix="v"), *examples(MESSAGES, prefix="w")]
"""Validation by the messages of training, which any encoder tells apart; enough to choose by."""


@pytest.fixture(scope="module")
def base(tiny_base: Callable[[str], Path]) -> str:
    """A tiny encoder, where it does not matter how good a model is."""
    return str(tiny_base("bert"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> IntentTrainingResult:
    output = tmp_path_factory.mktemp("intent") / "model"
    return train_on(examples(MESSAGES), [], config=QUICK, output=output)


@pytest.fixture(scope="module")
def classifier(trained: IntentTrainingResult) -> IntentClassifier:
    return IntentClassifier.load(trained.directory, trained.digest)


def test_five_messages_an_intent_are_enough_for_unseen_ones(classifier: IntentClassifier) -> None:
    assert [answer[0].label for answer in classifier.predict(list(UNSEEN))] == list(UNSEEN.values())


def test_the_artifact_is_sealed_and_says_what_it_is(trained: IntentTrainingResult) -> None:
    assert verify_artifact(trained.directory) == trained.digest
    config = json.loads((trained.directory / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["id2label"] == {str(number): intent for number, intent in enumerate(sorted(MESSAGES))}
    settings = artifact_settings(trained.directory)
    assert settings["labels"] == sorted(MESSAGES) == list(trained.intents)
    assert settings["provenance"]["base"] == "packaged-minilm"
    assert {path.name for path in trained.directory.iterdir()} == {
        "artifact.json",
        "config.json",
        "model.onnx",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_training_repeats_exactly_with_a_seed_and_leaves_the_random_state_alone(base: str, tmp_path: Path) -> None:
    import torch

    first = train_on(examples(MESSAGES), [], config=QUICK, base=base, output=tmp_path / "first")
    torch.manual_seed(123)
    again = train_on(examples(MESSAGES), [], config=QUICK, base=base, output=tmp_path / "again")
    drawn = torch.rand(1)
    torch.manual_seed(123)
    assert drawn == torch.rand(1)
    assert again.digest == first.digest


def test_progress_tells_stages_and_epochs(base: str, tmp_path: Path) -> None:
    seen: list[TrainingProgress] = []
    result = train_on(examples(MESSAGES), [], config=QUICK, base=base, output=tmp_path / "model", progress=seen.append)
    # On a slow machine single steps are told as well.
    told = [item for item in seen if item.stage != "fine-tune" or item.epoch]
    assert [item.stage for item in told] == ["features", "fine-tune", "fine-tune", "write"]
    assert [item.epoch for item in told if item.stage == "fine-tune"] == [1, 2]
    assert [epoch.epoch for epoch in result.history] == [1, 2]
    assert result.history[0].validation == {}


def test_validation_selects_calibrates_and_counts_unknown_intents(base: str, tmp_path: Path) -> None:
    unknown = [IntentExample(example_id=f"u{n}", text="sing me a song", intent="karaoke") for n in range(8)]
    config = replace(QUICK, inverse_regularisation=1000.0)
    result = train_on(examples(MESSAGES), [*LEARNED, *unknown], config=config, base=base, output=tmp_path / "model")
    assert result.metrics["validation_examples_of_unknown_intents"] == 8
    assert result.metrics["validation_accuracy"] == pytest.approx(40 / 48)
    assert "karaoke" not in result.intents
    assert result.metrics["temperature"] != 1.0
    assert "frozen_head_validation_accuracy" in result.metrics


def test_an_intent_with_a_single_message_is_learned(base: str, tmp_path: Path) -> None:
    messages = MESSAGES | {"gift_card": ["how long is a gift voucher valid"]}
    config = replace(QUICK, fine_tune=False, class_balance=1.0)
    result = train_on(examples(messages), [], config=config, base=base, output=tmp_path / "model")
    answer = IntentClassifier.load(result.directory).predict(["how long is this gift voucher valid"])[0]
    assert answer[0].label == "gift_card"
    assert result.kept == "frozen_head"


def test_one_intent_only_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(IntentTrainingError, match="all 5 training examples have the intent 'greeting'"):
        train_on(examples({"greeting": MESSAGES["greeting"]}), [], config=QUICK, output=tmp_path / "model")


def test_no_examples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(IntentTrainingError, match="no training examples"):
        train_on([], [], config=QUICK, output=tmp_path / "model")


@pytest.mark.parametrize(
    ("intent", "weight"), [("", 1.0), ("x" * 201, 1.0), ("greeting", 0.0), ("greeting", float("nan"))]
)
def test_an_unusable_example_is_named(intent: str, weight: float, tmp_path: Path) -> None:
    bad = IntentExample(example_id="bad-one", text="hello", intent=intent, weight=weight)
    with pytest.raises(IntentTrainingError, match="bad-one"):
        train_on([*examples(MESSAGES), bad], [], config=QUICK, output=tmp_path / "model")


def test_an_artifact_is_never_overwritten(trained: IntentTrainingResult) -> None:
    with pytest.raises(FileExistsError, match="immutable"):
        train_on(examples(MESSAGES), [], config=IntentTrainingConfig(fine_tune=False), output=trained.directory)


def test_probabilities_sum_to_one_and_top_k_is_sorted(classifier: IntentClassifier) -> None:
    probabilities = classifier.judge(["hello", "where is it"]).probabilities
    assert probabilities.shape == (2, 4)
    assert probabilities.sum(axis=1) == pytest.approx([1.0, 1.0], abs=1e-5)
    (answer,) = classifier.predict(["hello"], top_k=3)
    assert len(answer) == 3
    assert [item.score for item in answer] == sorted((item.score for item in answer), reverse=True)


def test_top_k_beyond_the_labels_gives_all_of_them(classifier: IntentClassifier) -> None:
    assert len(classifier.predict(["hello"], top_k=99)[0]) == 4
    with pytest.raises(ValueError, match="top_k"):
        classifier.predict(["hello"], top_k=0)


def test_company_does_not_change_an_answer(classifier: IntentClassifier) -> None:
    texts = list(UNSEEN)
    together = classifier.judge(texts).probabilities
    alone = np.concatenate([classifier.judge([text]).probabilities for text in texts])
    assert np.abs(together - alone).max() < 1e-5


@pytest.mark.parametrize(
    "text", ["", "   ", "\x00\x07\x1b[31m", "\udcff", "返品したいです", "🈁" * 500, "</s>[SEP][MASK]"]
)
def test_any_text_gets_an_answer(classifier: IntentClassifier, text: str) -> None:
    (answer,) = classifier.predict([text])
    assert all(0.0 <= item.score <= 1.0 for item in answer)


def test_a_hundred_kilobytes_cost_what_their_first_tokens_cost(classifier: IntentClassifier) -> None:
    assert growth(lambda times: classifier.predict(["where is my parcel " * times]), 100, 5_300, enough=4) < 4


def test_no_texts_get_no_answers(classifier: IntentClassifier) -> None:
    assert classifier.predict([]) == []


def test_a_damaged_or_foreign_artifact_is_not_loaded(trained: IntentTrainingResult, tmp_path: Path) -> None:
    with pytest.raises(ArtifactMismatchError, match="not the one that was registered"):
        IntentClassifier.load(trained.directory, "0" * 64)
    copy = tmp_path / "copy"
    shutil.copytree(trained.directory, copy)
    seal_artifact(copy, "reranker")
    with pytest.raises(ArtifactMismatchError, match="is of kind reranker, not intent_classifier"):
        IntentClassifier.load(copy)


def test_weights_that_are_replaced_after_they_were_checked_are_not_served(
    trained: IntentTrainingResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained.directory, copy)
    read = model.read_verified

    def read_then_replace(*arguments: Any) -> Any:
        found = read(*arguments)
        for name in found.files:
            (copy / name).write_bytes(b"of somebody else")
        return found

    monkeypatch.setattr(model, "read_verified", read_then_replace)
    text = ["how long is this gift voucher valid"]
    served = IntentClassifier.load(copy, trained.digest)
    assert served.predict(text) == IntentClassifier.load(trained.directory).predict(text)


@pytest.mark.parametrize("settings", [{"epochs": 0}, {"max_tokens": 4}, {"inverse_regularisation": 0.0}])
def test_settings_that_cannot_work_are_refused_by_name(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        IntentTrainingConfig(**settings)


def test_ten_messages_an_intent_reach_the_frozen_models_known_accuracy_on_hwu64(
    shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "hwu64"

    def read(name: str) -> list[tuple[str, str]]:
        texts = (folder / f"{name}.seq.in").read_text().splitlines()
        return list(zip(texts, (folder / f"{name}.label").read_text().splitlines(), strict=True))

    # With ten messages each, too few for other forms of the network to be tried.
    intents = sorted({intent for _, intent in read("test")})[:9]
    few = {intent: [text for text, own in read("train") if own == intent][:10] for intent in intents}
    config = IntentTrainingConfig(fine_tune=False)
    result = train_on(examples(few), [], config=config, output=tmp_path / "model")
    test = [(text, intent) for text, intent in read("test") if intent in few]
    predicted = IntentClassifier.load(result.directory).predict([text for text, _ in test], top_k=1)
    right = sum(answer[0].label == intent for answer, (_, intent) in zip(predicted, test, strict=True))
    assert right / len(test) > 0.75


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> IntentTrainingResult:
    return train_on(
        examples(MESSAGES),
        [*validation(), *of_no_intent(6)],
        config=QUICK,
        output=tmp_path_factory.mktemp("refusing") / "model",
    )


def test_messages_of_no_intent_are_no_class_and_are_refused(refusing: IntentTrainingResult) -> None:
    assert refusing.intents == tuple(sorted(MESSAGES))
    assert refusing.scope.source == "both_errors"
    assert refusing.metrics["validation_out_of_scope_refused"] > 0.8
    answer = IntentClassifier.load(refusing.directory).answer([*UNSEEN, *OF_NO_INTENT], {"top_k": 2})
    intents = [decision["intent"] for decision in answer["decisions"]]
    assert intents[: len(UNSEEN)] == list(UNSEEN.values())
    assert intents[len(UNSEEN) :].count("out_of_scope") >= 5
    assert all(len(predictions) == 2 for predictions in answer["predictions"])


def test_a_decision_carries_its_probability_and_what_it_was_decided_by(refusing: IntentTrainingResult) -> None:
    model = IntentClassifier.load(refusing.directory)
    answer = model.answer(["where is my parcel"], {})
    (decision,), (predictions,) = answer["decisions"], answer["predictions"]
    assert decision["score"] == predictions[0]["score"]
    threshold = artifact_settings(refusing.directory)["scope"]["threshold"]
    assert decision["in_scope"] is (decision["scope_score"] >= threshold) is True
    assert json.loads(json.dumps(answer)) == answer


def test_an_artifact_without_a_threshold_answers_everything(trained: IntentTrainingResult) -> None:
    decisions = IntentClassifier.load(trained.directory).answer(OF_NO_INTENT, {})["decisions"]
    assert all(decision["in_scope"] and decision["intent"] != "out_of_scope" for decision in decisions)


def test_a_scope_score_this_program_does_not_know_is_refused(refusing: IntentTrainingResult, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(refusing.directory, other)
    settings = artifact_settings(other)
    settings["scope"]["score"] = "tarot"
    seal_artifact(other, "intent_classifier", settings)
    with pytest.raises(ArtifactMismatchError, match="tarot"):
        IntentClassifier.load(other)


@pytest.mark.parametrize(
    ("inputs", "parameters", "named"),
    [
        ([7], {}, r"inputs\[0\] must be a string, got int"),
        (["hello", None], {}, r"inputs\[1\] must be a string, got NoneType"),
        (["x" * 200_001], {}, r"inputs\[0\] has 200001 characters"),
        (["hello"], {"top_k": 0}, "top_k"),
        (["hello"], {"top_k": True}, "top_k"),
        (["hello"], {"top_k": "5"}, "top_k"),
    ],
)
def test_an_unusable_input_is_named(classifier: IntentClassifier, inputs: list, parameters: dict, named: str) -> None:
    with pytest.raises(InputError, match=named):
        classifier.answer(inputs, parameters)


def test_no_inputs_get_no_decisions(classifier: IntentClassifier) -> None:
    assert all(values == [] for values in classifier.answer([], {}).values())


def test_what_the_model_said_on_validation_is_kept_for_charts(refusing: IntentTrainingResult) -> None:
    told = refusing.validation
    assert told is not None
    assert told.truth == list(UNSEEN.values()) * 8
    assert told.right.mean() == pytest.approx(refusing.metrics["validation_accuracy"])
    assert told.confidences().shape == told.confidences(calibrated=False).shape == (64,)
    assert (told.scope_scores.shape, told.out_of_scope_scores.shape) == ((64,), (36,))
    assert len(refusing.step_losses) > len(refusing.history) > 0


def test_the_frozen_head_alone_is_kept_where_fine_tuning_is_no_better(base: str, tmp_path: Path) -> None:
    config = replace(QUICK, epochs=1, encoder_learning_rate=0.5)
    result = train_on(examples(MESSAGES), LEARNED, config=config, base=base, output=tmp_path / "model")
    assert result.kept == "frozen_head"
    metrics = result.metrics
    assert metrics["fine_tuned_validation_accuracy"] <= metrics["frozen_head_validation_accuracy"]
    assert metrics["validation_accuracy"] == metrics["frozen_head_validation_accuracy"]
    assert metrics["fine_tuned_seconds"] > metrics["frozen_head_seconds"] > 0


@pytest.mark.parametrize(("minimum", "source"), [(20, "cross_validation"), (21, "none")])
def test_without_validation_the_line_is_drawn_by_held_out_parts_of_train_or_not_at_all(
    base: str, minimum: int, source: str, tmp_path: Path
) -> None:
    config = replace(QUICK, fine_tune=False, minimum_validation=minimum)
    result = train_on(examples(MESSAGES), [], config=config, base=base, output=tmp_path / "model")
    assert result.scope.source == source
    stored = artifact_settings(result.directory)["scope"]
    assert (stored["score"], stored["source"]) == ("max_logit", source)
    assert (stored["threshold"] is None) == (result.scope.threshold is None) == (source == "none")
    if result.scope.threshold is not None:
        # The line is drawn on logits that were divided by the temperature, so nothing divides it again.
        assert result.metrics["temperature"] != 1.0
        assert stored["threshold"] == result.scope.threshold
