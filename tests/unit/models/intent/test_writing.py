"""Claims about written classifiers: what transformers' pipeline, the ONNX file and a reader say of them is the same."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mangaassist_assets.models import precision
from mangaassist_assets.models.artifacts import MANIFEST_FILE, ArtifactMismatchError, artifact_settings, verify_artifact
from mangaassist_assets.models.encoders.pretrained import load_base
from mangaassist_assets.models.encoders.tokens import tokenize
from mangaassist_assets.models.intent import writing
from mangaassist_assets.models.intent.heads import LinearHead, softmax
from mangaassist_assets.models.intent.model import IntentClassifier
from mangaassist_assets.models.intent.out_of_scope import ScopeRule
from mangaassist_assets.models.intent.writing import TrainedClassifier, read_classifier, write_classifier
from mangaassist_assets.models.onnx_export import ExportError
from tests.support.intent_training import MESSAGES, OF_NO_INTENT, UNSEEN
from tests.support.sentence_features import sentence_features
from tests.support.tiny_encoders import ARCHITECTURES, WIDTH

TinyBase = Callable[[str], Path]
LABELS = ("greeting", "order_status", "return_item")
TEXTS = [text for texts in MESSAGES.values() for text in texts]
ASKED = [*UNSEEN, *OF_NO_INTENT, "hi", "返品したい", "where is my parcel " * 30]
ROOT = Path(__file__).parents[4]


def made(tiny_base: TinyBase, name: str, *, temperature: float = 0.4) -> TrainedClassifier:
    """A classifier with a head by chance, whose probabilities differ from text to text."""
    pretrained = load_base(str(tiny_base(name)))
    features = sentence_features(pretrained.encoder, tokenize(pretrained.tokenizer, TEXTS, max_tokens=32))
    weight = np.random.default_rng(5).normal(scale=2.0, size=(len(LABELS), WIDTH)).astype(np.float32)
    mean = features.mean(axis=0) / np.linalg.norm(features, axis=1).mean()
    return TrainedClassifier(
        pretrained=pretrained,
        head=LinearHead(weight, -weight @ mean),
        labels=LABELS,
        temperature=temperature,
        max_tokens=32,
        scope=ScopeRule(threshold=1.25, source="both_errors"),
    )


def logits(classifier: TrainedClassifier, texts: list[str]) -> np.ndarray:
    return classifier.logits(tokenize(classifier.pretrained.tokenizer, texts, max_tokens=classifier.max_tokens))


@dataclass(frozen=True)
class Written:
    classifier: TrainedClassifier
    folder: Path
    digest: str


@pytest.fixture(scope="module")
def written(tiny_base: TinyBase, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Written]:
    """A classifier by the name of its architecture and its artifact, written once; not to be changed."""
    root = tmp_path_factory.mktemp("written")

    @cache
    def one(name: str) -> Written:
        classifier, folder = made(tiny_base, name), root / name
        return Written(classifier, folder, write_classifier(folder, classifier, texts=TEXTS, provenance={}))

    return one


@pytest.fixture
def copy(written: Callable[[str], Written], tmp_path: Path) -> Written:
    """A written classifier whose files may be changed."""
    first = written("bert")
    return replace(first, folder=Path(shutil.copytree(first.folder, tmp_path / "model")))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_transformers_pipeline_and_the_onnx_file_answer_as_the_trained_classifier(
    written: Callable[[str], Written], name: str
) -> None:
    from transformers import pipeline

    classifier, folder = written(name).classifier, written(name).folder
    expected = softmax(logits(classifier, ASKED))
    assert np.ptp(expected, axis=0).max() > 0.05
    asked = pipeline("text-classification", model=str(folder), device="cpu", top_k=None)
    answers = asked(ASKED, truncation=True, batch_size=4)
    theirs = np.array([[{one["label"]: one["score"] for one in row}[label] for label in LABELS] for row in answers])
    np.testing.assert_allclose(theirs, expected, atol=1e-4)
    served = IntentClassifier.load(folder, written(name).digest)
    np.testing.assert_allclose(served.judge(ASKED).probabilities, expected, atol=1e-4)
    assert served.labels == LABELS
    assert [best[0].label for best in served.predict(ASKED)] == [LABELS[row.argmax()] for row in expected]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_written_classifier_is_read_back_with_the_same_features_head_and_rule(
    written: Callable[[str], Written], name: str
) -> None:
    classifier = written(name).classifier
    again = read_classifier(written(name).folder)
    assert again.pretrained.name == written(name).digest
    assert (again.labels, again.max_tokens, again.temperature) == (LABELS, 32, 0.4)
    assert again.scope.threshold == pytest.approx(1.25)
    assert again.pretrained.encoder.layer_count == classifier.pretrained.encoder.layer_count
    ours, theirs = classifier.pretrained.encoder, again.pretrained.encoder
    assert (theirs.pooling, theirs.splits, theirs.pad_id) == (ours.pooling, ours.splits, ours.pad_id)
    weights = theirs.model.state_dict()
    assert weights.keys() == ours.model.state_dict().keys()
    assert all((weights[name] == one).all() for name, one in ours.model.state_dict().items())
    np.testing.assert_allclose(again.head.weight, classifier.head.weight, atol=2e-4)
    np.testing.assert_allclose(logits(again, ASKED), logits(classifier, ASKED), atol=2e-4)


def test_what_was_read_back_is_written_again_as_it_was(written: Callable[[str], Written], tmp_path: Path) -> None:
    first = written("bert").folder
    write_classifier(tmp_path / "second", read_classifier(first), texts=TEXTS, provenance={})
    expected = IntentClassifier.load(first).judge(ASKED)
    found = IntentClassifier.load(tmp_path / "second").judge(ASKED)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-4)
    assert (found.in_scope == expected.in_scope).all()


def test_scope_is_judged_by_logits_after_the_temperature(tiny_base: TinyBase, tmp_path: Path) -> None:
    classifier = made(tiny_base, "bert")
    divided = logits(classifier, ASKED).max(axis=1)
    threshold = float(np.median(divided)) + 1e-3
    classifier = replace(classifier, scope=ScopeRule(threshold=threshold, source="both_errors"))
    write_classifier(tmp_path / "model", classifier, texts=TEXTS, provenance={})
    judged = IntentClassifier.load(tmp_path / "model").judge(ASKED)
    assert judged.in_scope.tolist() == (divided >= threshold).tolist()
    assert 0 < judged.in_scope.sum() < len(ASKED)


def test_an_encoder_without_an_onnx_form_leaves_no_artifact(
    tiny_base: TinyBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    classifier = made(tiny_base, "bert")
    model = classifier.pretrained.encoder.model
    monkeypatch.setattr(
        type(model.get_input_embeddings()), "forward", lambda self, ids: torch.special.i0e(self.weight[ids])
    )
    with pytest.raises(ExportError, match=r"Classifier \(bert\) cannot be exported to ONNX.*"):
        write_classifier(tmp_path / "model", classifier, texts=TEXTS, provenance={})
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]
    assert list((tmp_path / "model").iterdir()) == []


def many(texts: list[str]) -> list[str]:
    return [f"{text} {other}" for text in texts for other in ("please", "today", "now", "hello", "again", "thanks")]


def clear(tiny_base: TinyBase) -> TrainedClassifier:
    """A classifier whose decisions are all clear, so that eight bits do not change them."""
    classifier = made(tiny_base, "modernbert")
    head = LinearHead(classifier.head.weight / 10, np.array([2, 0, 0], dtype=np.float32))
    return replace(classifier, head=head)


def test_eight_bits_serve_where_they_decide_alike(tiny_base: TinyBase, tmp_path: Path) -> None:
    write_classifier(tmp_path / "model", clear(tiny_base), texts=many(TEXTS), provenance={})
    settings = json.loads((tmp_path / "model" / MANIFEST_FILE).read_text())["settings"]["onnx"]
    assert settings["precision"] == "int8"
    assert (settings["decisions"], settings["refused"]) == (len(TEXTS) * 6, {})


def test_eight_bits_that_decide_otherwise_do_not_serve_and_the_settings_say_why(
    tiny_base: TinyBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = made(tiny_base, "bert")
    turned = replace(classifier, head=LinearHead(-classifier.head.weight, -classifier.head.bias))
    other = writing._exported(turned, tokenize(classifier.pretrained.tokenizer, TEXTS, max_tokens=32))
    monkeypatch.setattr(precision, "quantised", lambda *_: other)
    write_classifier(tmp_path / "model", classifier, texts=many(TEXTS), provenance={})
    settings = json.loads((tmp_path / "model" / MANIFEST_FILE).read_text())["settings"]["onnx"]
    assert settings["precision"] == "float32"
    assert "decisions change" in settings["refused"]["int8"]
    assert settings["equal_decisions"] == 1.0
    served = IntentClassifier.load(tmp_path / "model").judge(ASKED).probabilities
    np.testing.assert_allclose(served, softmax(logits(classifier, ASKED)), atol=1e-4)


def test_too_few_texts_to_compare_by_are_not_worth_eight_bits(
    tiny_base: TinyBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "quantised", lambda *_: pytest.fail("quantised, though nothing can come of it"))
    write_classifier(tmp_path / "model", made(tiny_base, "bert"), texts=TEXTS, provenance={})
    settings = json.loads((tmp_path / "model" / MANIFEST_FILE).read_text())["settings"]["onnx"]
    assert (settings["precision"], settings["decisions"]) == ("float32", len(TEXTS))


def test_the_digest_covers_the_settings(copy: Written) -> None:
    manifest = copy.folder / MANIFEST_FILE
    values = json.loads(manifest.read_text())
    values["settings"]["scope"]["threshold"] = -100.0
    manifest.write_text(json.dumps(values))
    with pytest.raises(ArtifactMismatchError, match="not the one that was registered"):
        IntentClassifier.load(copy.folder, copy.digest)


@pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json"])
def test_a_changed_file_that_serves_is_refused(copy: Written, file: str) -> None:
    with (copy.folder / file).open("ab") as changed:
        changed.write(b" ")
    with pytest.raises(ArtifactMismatchError, match=rf"{file} has SHA-256"):
        IntentClassifier.load(copy.folder, copy.digest)


def test_a_changed_weight_is_no_start_for_training(copy: Written) -> None:
    weights = copy.folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(ArtifactMismatchError, match=r"model\.safetensors has SHA-256"):
        read_classifier(copy.folder)


def test_another_process_writes_the_same_artifact_down_to_its_eight_bits(tiny_base: TinyBase, tmp_path: Path) -> None:
    base = tiny_base("modernbert")
    here = write_classifier(tmp_path / "here", clear(lambda _: base), texts=many(TEXTS), provenance={"a": 1})
    assert artifact_settings(tmp_path / "here")["onnx"]["precision"] == "int8"
    code = (
        "import sys; from pathlib import Path; import tests.unit.models.intent.test_writing as t; "
        "made = t.clear(lambda _: Path(sys.argv[1])); "
        "print(t.write_classifier(Path(sys.argv[2]), made, texts=t.many(t.TEXTS), provenance={'a': 1}))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    there = subprocess.run(
        [sys.executable, "-c", code, str(base), str(tmp_path / "there")],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert there.stdout.split()[-1] == here == verify_artifact(tmp_path / "there")


def test_an_artifact_serves_without_the_weights_of_training_being_hashed(copy: Written) -> None:
    weights = copy.folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    assert IntentClassifier.load(copy.folder, copy.digest).digest == copy.digest
