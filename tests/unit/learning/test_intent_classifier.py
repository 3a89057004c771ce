"""Claims about training and asking the intent classifier. All messages are invented."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from mangaassist_assets.learning.artifacts import ArtifactMismatchError, seal_artifact, verify_artifact
from mangaassist_assets.learning.examples import IntentExample
from mangaassist_assets.learning.intent import (
    IntentClassifier,
    IntentTrainingConfig,
    IntentTrainingError,
    IntentTrainingResult,
    TrainingProgress,
    train_intent_classifier,
)

MESSAGES = {
    "order_status": [
        "where is my parcel",
        "has my order shipped yet",
        "when will the package arrive",
        "track my delivery please",
        "my books have not come, what is happening",
    ],
    "return_item": [
        "i want to send this back",
        "how do i return a damaged volume",
        "refund for the wrong book please",
        "can i exchange this copy",
        "return label for my purchase",
    ],
    "recommendation": [
        "what should i read after a samurai story",
        "recommend me a romance manga",
        "something like space pirates but funny",
        "good horror series to start with",
        "suggest a short series for a weekend",
    ],
    "greeting": ["hello there", "good morning", "hi", "hey, anyone here", "good evening to you"],
}
UNSEEN = {
    "is my shipment on its way": "order_status",
    "i would like to give this volume back": "return_item",
    "recommend a comedy series": "recommendation",
    "hello, good afternoon": "greeting",
}
QUICK = IntentTrainingConfig(epochs=2, batch_size=8, fine_tuned_layers=1)


def examples(messages: dict[str, list[str]]) -> list[IntentExample]:
    return [
        IntentExample(example_id=f"{intent}-{number}", text=text, intent=intent)
        for intent, texts in messages.items()
        for number, text in enumerate(texts)
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> IntentTrainingResult:
    output = tmp_path_factory.mktemp("intent") / "model"
    return train_intent_classifier(examples(MESSAGES), [], config=QUICK, output=output)


@pytest.fixture(scope="module")
def classifier(trained: IntentTrainingResult) -> IntentClassifier:
    return IntentClassifier.load(trained.directory, trained.digest)


def test_five_messages_an_intent_are_enough_for_unseen_ones(classifier: IntentClassifier) -> None:
    assert [answer[0].label for answer in classifier.predict(list(UNSEEN))] == list(UNSEEN.values())


def test_the_artifact_is_sealed_and_says_what_it_is(trained: IntentTrainingResult) -> None:
    assert verify_artifact(trained.directory) == trained.digest
    config = json.loads((trained.directory / "config.json").read_text())
    assert config["model_type"] == "distilbert"
    assert config["mangaassist"]["labels"] == sorted(MESSAGES) == list(trained.intents)
    assert config["id2label"]["0"] == "greeting"
    assert not list(trained.directory.glob("*.bin"))


def test_training_repeats_exactly_with_a_seed_and_leaves_the_random_state_alone(
    trained: IntentTrainingResult, tmp_path: Path
) -> None:
    import torch

    torch.manual_seed(123)
    again = train_intent_classifier(examples(MESSAGES), [], config=QUICK, output=tmp_path / "again")
    drawn = torch.rand(1)
    torch.manual_seed(123)
    assert drawn == torch.rand(1)
    assert again.digest == trained.digest


def test_progress_tells_stages_and_epochs(tmp_path: Path) -> None:
    seen: list[TrainingProgress] = []
    result = train_intent_classifier(
        examples(MESSAGES), [], config=QUICK, output=tmp_path / "model", progress=seen.append
    )
    assert [item.stage for item in seen] == ["features", "fine-tune", "fine-tune", "write"]
    assert [item.epoch for item in seen if item.stage == "fine-tune"] == [1, 2]
    assert [epoch.epoch for epoch in result.history] == [1, 2]
    assert result.history[0].validation_accuracy is None


def test_validation_selects_calibrates_and_counts_unknown_intents(tmp_path: Path) -> None:
    known = [IntentExample(example_id=f"v{n}", text=t, intent=i) for n, (t, i) in enumerate([*UNSEEN.items()] * 8)]
    unknown = [IntentExample(example_id=f"u{n}", text="sing me a song", intent="karaoke") for n in range(8)]
    result = train_intent_classifier(examples(MESSAGES), known + unknown, config=QUICK, output=tmp_path / "model")
    assert result.metrics["validation_examples_of_unknown_intents"] == 8
    assert result.metrics["validation_accuracy"] == pytest.approx(32 / 40)
    assert "karaoke" not in result.intents
    assert result.metrics["temperature"] != 1.0
    assert "frozen_validation_accuracy" in result.metrics


def test_an_intent_with_a_single_message_is_learned(tmp_path: Path) -> None:
    messages = MESSAGES | {"gift_card": ["how long is a gift voucher valid"]}
    config = IntentTrainingConfig(fine_tune=False, class_balance=1.0)
    result = train_intent_classifier(examples(messages), [], config=config, output=tmp_path / "model")
    answer = IntentClassifier.load(result.directory).predict(["when does my gift voucher run out"])[0]
    assert answer[0].label == "gift_card"
    assert result.kept == "frozen"


def test_one_intent_only_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(IntentTrainingError, match="all 5 training examples have the intent 'greeting'"):
        train_intent_classifier(
            examples({"greeting": MESSAGES["greeting"]}), [], config=QUICK, output=tmp_path / "model"
        )


def test_no_examples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(IntentTrainingError, match="no training examples"):
        train_intent_classifier([], [], config=QUICK, output=tmp_path / "model")


@pytest.mark.parametrize(
    ("intent", "weight"), [("", 1.0), ("x" * 201, 1.0), ("greeting", 0.0), ("greeting", float("nan"))]
)
def test_an_unusable_example_is_named(intent: str, weight: float, tmp_path: Path) -> None:
    bad = IntentExample(example_id="bad-one", text="hello", intent=intent, weight=weight)
    with pytest.raises(IntentTrainingError, match="bad-one"):
        train_intent_classifier([*examples(MESSAGES), bad], [], config=QUICK, output=tmp_path / "model")


def test_an_artifact_is_never_overwritten(trained: IntentTrainingResult) -> None:
    with pytest.raises(FileExistsError, match="immutable"):
        train_intent_classifier(
            examples(MESSAGES), [], config=IntentTrainingConfig(fine_tune=False), output=trained.directory
        )


def test_probabilities_sum_to_one_and_top_k_is_sorted(classifier: IntentClassifier) -> None:
    probabilities = classifier.probabilities(["hello", "where is it"])
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
    together = classifier.probabilities(texts)
    alone = np.concatenate([classifier.probabilities([text]) for text in texts])
    assert np.abs(together - alone).max() < 1e-5


@pytest.mark.parametrize(
    "text", ["", "   ", "\x00\x07\x1b[31m", "\udcff", "返品したいです", "🈁" * 500, "</s>[SEP][MASK]"]
)
def test_any_text_gets_an_answer(classifier: IntentClassifier, text: str) -> None:
    (answer,) = classifier.predict([text])
    assert all(0.0 <= item.score <= 1.0 for item in answer)


def test_a_hundred_kilobytes_are_answered_at_once(classifier: IntentClassifier) -> None:
    started = time.process_time()
    classifier.predict(["where is my parcel " * 5_300])
    assert time.process_time() - started < 1.0


def test_no_texts_get_no_answers(classifier: IntentClassifier) -> None:
    assert classifier.predict([]) == []


def test_a_damaged_or_foreign_artifact_is_not_loaded(trained: IntentTrainingResult, tmp_path: Path) -> None:
    with pytest.raises(ArtifactMismatchError, match="not the one that was registered"):
        IntentClassifier.load(trained.directory, "0" * 64)
    copy = tmp_path / "copy"
    shutil.copytree(trained.directory, copy)
    seal_artifact(copy, "reranker")
    with pytest.raises(ArtifactMismatchError, match="is a reranker, not an intent_classifier"):
        IntentClassifier.load(copy)


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

    intents = sorted({intent for _, intent in read("test")})[:16]
    few = {intent: [text for text, own in read("train") if own == intent][:10] for intent in intents}
    config = IntentTrainingConfig(fine_tune=False)
    result = train_intent_classifier(examples(few), [], config=config, output=tmp_path / "model")
    test = [(text, intent) for text, intent in read("test") if intent in few]
    predicted = IntentClassifier.load(result.directory).predict([text for text, _ in test], top_k=1)
    right = sum(answer[0].label == intent for answer, (_, intent) in zip(predicted, test, strict=True))
    assert right / len(test) > 0.75
