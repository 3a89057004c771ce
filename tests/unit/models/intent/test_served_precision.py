"""Claims about the form in which a trained classifier serves, and about what is said of it."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from mangaassist_assets.models.artifacts import artifact_settings
from mangaassist_assets.models.encoders.tokens import tokenize
from mangaassist_assets.models.examples import IntentExample
from mangaassist_assets.models.intent import writing
from mangaassist_assets.models.intent.fine_tuning import IntentTrainingConfig
from mangaassist_assets.models.intent.heads import softmax
from mangaassist_assets.models.intent.model import IntentClassifier
from mangaassist_assets.models.intent.model_type import IntentModelType
from mangaassist_assets.models.intent.training import IntentTrainingResult
from mangaassist_assets.models.intent.writing import read_classifier
from mangaassist_assets.models.model_types import TrainingRequest
from mangaassist_assets.models.parity import label_parity
from tests.support.intent_training import MESSAGES, UNSEEN, examples, train_on

FROZEN = IntentTrainingConfig(fine_tuned_layers=1, fine_tune=False, refit=False)
VALIDATION = [
    IntentExample(example_id=f"v-{number}-{text}", text=f"{text}, {number}", intent=intent)
    for number in range(16)
    for text, intent in UNSEEN.items()
]


@pytest.fixture(scope="module")
def base(tiny_base: Callable[[str], Path]) -> str:
    return str(tiny_base("bert"))


@pytest.fixture(scope="module")
def trained(base: str, tmp_path_factory: pytest.TempPathFactory) -> IntentTrainingResult:
    output = tmp_path_factory.mktemp("served") / "model"
    return train_on(examples(MESSAGES), VALIDATION, config=FROZEN, base=base, output=output)


def test_the_artifact_says_how_what_serves_compares_with_what_was_trained_text_by_text(
    trained: IntentTrainingResult,
) -> None:
    texts = [*(one.text for one in VALIDATION), *(text for group in MESSAGES.values() for text in group)]
    serves, learned = IntentClassifier.load(trained.directory), read_classifier(trained.directory)
    reference = learned.logits(tokenize(serves.tokenizer, texts, max_tokens=serves.max_tokens))
    alone = np.concatenate([serves.logits([text]) for text in texts])
    accepted = [serves.scope.accepts(logits.max(axis=1)) for logits in (reference, alone)]
    found = label_parity(softmax(reference), softmax(alone), scope=(accepted[0], accepted[1]))
    assert artifact_settings(trained.directory)["onnx"] == asdict(trained.served)
    assert trained.served.decisions == found.decisions == len(texts)
    # The threshold lies on one of these messages, which a last digit takes to either side.
    assert trained.served.equal_decisions == pytest.approx(found.equal_decisions, abs=1.01 / len(texts))
    assert trained.served.largest_difference == pytest.approx(found.largest_difference, abs=2e-3)
    assert trained.served.bytes == (trained.directory / "model.onnx").stat().st_size


def test_metrics_and_card_name_precision_size_and_what_was_refused(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare, asked = writing.label_parity, []

    def refusing_two(reference, candidate, **_scope):
        asked.append(len(candidate))
        return compare(reference, 1 - candidate if len(asked) in {2, 3} else reference)

    monkeypatch.setattr(writing, "label_parity", refusing_two)
    request = TrainingRequest(train=examples(MESSAGES), validation=VALIDATION, output=tmp_path / "model")
    found = IntentModelType(config=FROZEN, base=base).train(request)
    size = (tmp_path / "model" / "model.onnx").stat().st_size
    assert found.metrics["onnx_bytes"] == size
    assert asked == [148] * 4
    assert found.metrics["onnx_equal_decisions"] >= 0.99
    served = found.limits[0]
    assert served.startswith(f"served as int8_embeddings, {size / 1e6:.1f} MB of ONNX: of 148 decisions ")
    assert "; int8 was refused: " in served
    assert "; int8_but_down_projections was refused: " in served
