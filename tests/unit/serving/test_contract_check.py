"""Claims about what keeps a version out: its answers, by the real inference code, as production asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mangaassist_assets.models.artifacts import seal_artifact
from mangaassist_assets.models.examples import IntentExample
from mangaassist_assets.models.model_types import InputError
from mangaassist_assets.models.reranker.model import Reranker
from mangaassist_assets.serving.deployment_contract import artifact_breaches, contract_breaches
from mangaassist_assets.serving.endpoint_schemas import packaged_schemas
from mangaassist_assets.serving.inference import LoadedModel
from tests.support.intent_training import QUICK, train_on
from tests.support.tiny_ranker import train_tiny, write_tiny_base

INTENT = packaged_schemas("intent_classifier")


class Model:
    """A foreign model that answers as it is told to, changed by a function."""

    digest = "0" * 64

    def __init__(self, change: Any = None) -> None:
        self._change = change or (lambda answer: answer)

    def answer(self, inputs: list[Any], _parameters: dict[str, Any]) -> Any:
        count = len(inputs)
        return self._change(
            {
                "predictions": [[{"label": "a", "score": 0.5}]] * count,
                "decisions": [{"intent": "a", "score": 0.5, "in_scope": True}] * count,
                "intent": ["a"] * count,
                "confidence": [0.5] * count,
                "in_scope": [True] * count,
            }
        )


def breaches(change: Any = None, forms: tuple[str, ...] = ("text",), **fields: Any) -> list[str]:
    fields = {"text_fields": ("intent", "confidence", "in_scope"), **fields}
    model = LoadedModel(model=Model(change), name="m", version="1", sha256="0" * 64, **fields)
    return contract_breaches(model, INTENT, forms)


def without(*names: str) -> Any:
    return lambda answer: {name: value for name, value in answer.items() if name not in names}


def raises(error: Exception) -> Any:
    def fail(_answer: object) -> object:
        raise error

    return fail


def test_a_model_that_answers_as_production_asks_may_be_deployed():
    assert breaches(forms=("text", "inputs")) == []


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (without("intent", "confidence"), "$: 'intent' is a required property"),
        (lambda answer: {**answer, "intent": [1] * len(answer["intent"])}, "$.intent: 1 is not of type 'string'"),
        (lambda answer: {**answer, "confidence": ["high"] * len(answer["intent"])}, "$.confidence: 'high' is not of"),
        (lambda answer: {**answer, "confidence": [float("nan")] * len(answer["intent"])}, "ValueError: Out of range"),
        (lambda answer: {**answer, "intent": answer["intent"][:1]}, "$.intent: 1 items in answer to 3"),
        (lambda answer: {**answer, "intent": []}, "IndexError"),
        (lambda answer: {**answer, "extra": object()}, "TypeError"),
        (list, "ValueError"),
        (raises(InputError("a text is not what I take")), "BadRequestError: a text is not what I take"),
        (raises(ZeroDivisionError("no")), "ZeroDivisionError: no"),
    ],
)
def test_an_answer_that_production_could_not_read_is_told_with_the_request(change, what):
    found = breaches(change)
    assert any(what in one for one in found), found
    assert all(one.startswith('asked {"text": ') for one in found)


def test_a_single_text_that_is_answered_with_lists_is_not_what_the_caller_reads():
    assert any("$.intent: ['a'] is not of type 'string'" in one for one in breaches(text_fields=()))


def test_only_the_forms_that_production_uses_are_asked():
    hugging_face_only = {"request_forms": ("inputs",)}
    assert breaches(forms=("inputs",), **hugging_face_only) == []
    (first, _) = breaches(forms=("text",), **hugging_face_only)
    assert first == 'asked {"text": "…"}: BadRequestError: this endpoint is asked with "inputs", not with "text"'


def test_the_platforms_own_models_keep_the_contract_in_every_form(tiny_base: Callable[[str], Path], tmp_path: Path):
    messages = [("hello", "greeting"), ("good morning", "greeting"), ("send it back", "return"), ("refund", "return")]
    trained = train_on(
        [IntentExample(example_id=str(n), text=text, intent=intent) for n, (text, intent) in enumerate(messages)],
        [],
        config=replace(QUICK, fine_tune=False),
        base=str(tiny_base("bert")),
        output=tmp_path / "intent",
    )
    known = {"name": "m", "version": "1", "sha256": trained.digest}
    assert artifact_breaches(trained.directory, INTENT, INTENT.forms, **known) == []
    ranker = train_tiny(tmp_path / "reranker", base=write_tiny_base(tmp_path / "base")).directory
    schemas = packaged_schemas("reranker")
    digest = Reranker.load(ranker).digest
    assert artifact_breaches(ranker, schemas, schemas.forms, name="m", version="1", sha256=digest) == []
    (breach, *_) = artifact_breaches(ranker, INTENT, ("text",), name="m", version="1", sha256=digest)
    assert 'asked with "query" and "passages", or "inputs", not with "text"' in breach


@pytest.mark.parametrize(
    ("kind", "sha256", "why"),
    [("reranker", "0" * 64, "not the one that was registered"), ("unheard_of", None, "no model type is known")],
)
def test_what_cannot_be_loaded_cannot_be_deployed(tmp_path: Path, kind: str, sha256: str | None, why: str):
    (tmp_path / "weights.txt").write_text("x")
    seal_artifact(tmp_path, kind)
    (breach,) = artifact_breaches(tmp_path, INTENT, ("text",), name="m", version="1", sha256=sha256)
    assert breach.startswith("it cannot be loaded: ")
    assert why in breach
