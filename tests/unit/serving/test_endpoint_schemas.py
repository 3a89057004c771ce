"""Claims about the schema files: they say what the endpoints do, and a file that cannot be used says why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from mangaassist_assets.models.model_types import load_model_type
from mangaassist_assets.models.reranker.model import _pair
from mangaassist_assets.serving.endpoint_schemas import (
    GENERAL,
    PACKAGED,
    REQUEST_FILE,
    RESPONSE_FILE,
    EndpointSchemaError,
    packaged_schemas,
    read_schemas,
)
from mangaassist_assets.serving.inference import LoadedModel, predict_fn
from mangaassist_assets.serving.request_forms import FORMS, BadRequestError

KINDS = ("intent_classifier", "reranker")
MODEL = {"name": "m", "version": "1", "sha256": "0" * 64}
ONE = {
    "intent": "a",
    "confidence": 0.5,
    "in_scope": True,
    "predictions": [[{"label": "a", "score": 0.5}]],
    "decisions": [{"intent": "a", "score": 0.5, "in_scope": True}],
    "model": MODEL,
}


class AnyTexts:
    """Takes what the kind's own model takes, and computes nothing."""

    digest = "0" * 64

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def answer(self, inputs, parameters):
        from mangaassist_assets.models.model_types import checked_text, checked_top_k

        if self._kind == "reranker":
            for one in inputs:
                _pair(one, "")
        else:
            checked_top_k(parameters)
            for one in inputs:
                checked_text(one, "")
        return {"predictions": list(inputs)}


def takes(kind: str, body: object) -> bool:
    forms = load_model_type(kind).request_forms
    model = LoadedModel(model=AnyTexts(kind), name="", version="", sha256="0" * 64, request_forms=forms)
    try:
        predict_fn(body, model)  # type: ignore[arg-type]
    except BadRequestError:
        return False
    return True


TEXTS = st.sampled_from(["", " ", "hi", "\n\u3000", "返品"]) | st.none() | st.integers() | st.booleans()
PAIRS = st.dictionaries(st.sampled_from(["text", "text_pair"]), TEXTS, max_size=2)
VALUES = TEXTS | PAIRS | st.lists(TEXTS | PAIRS | st.lists(TEXTS, max_size=1), max_size=3)
PARAMETERS = st.none() | st.just([]) | st.fixed_dictionaries({}, optional={"top_k": st.sampled_from([0, 1, 5, "5"])})
ASKED = {"text": VALUES, "inputs": VALUES, "query": VALUES, "passages": VALUES}
BESIDE = {"parameters": PARAMETERS, "other": TEXTS}
BODIES = st.fixed_dictionaries({}, optional=ASKED | BESIDE) | st.one_of(
    [st.fixed_dictionaries({name: ASKED[name] for name in form}, optional=BESIDE) for form in FORMS.values()]
)


@pytest.mark.parametrize("kind", KINDS)
@given(body=BODIES | VALUES)
def test_the_request_schema_allows_what_the_endpoint_takes_and_nothing_else(kind, body):
    allowed = Draft202012Validator(packaged_schemas(kind).request).is_valid(body)
    assert allowed == takes(kind, body)


@pytest.mark.parametrize("kind", [*KINDS, GENERAL])
def test_the_packaged_schemas_read_and_hold_examples_of_one_and_of_many(kind):
    schemas = packaged_schemas(kind)
    for form in schemas.forms:
        asked = [schemas.asked(form, example) for example in schemas.examples(form)]
        assert any(isinstance(one, list) and len(one) > 1 for one in asked)


@pytest.mark.parametrize("good", [{"text": "x"}, {"inputs": "x"}])
@pytest.mark.parametrize("other", ["text", "inputs", "query", "passages"])
def test_a_request_of_two_forms_is_of_none_by_the_schema_either(good, other):
    body = {other: 5, **good}
    allowed = Draft202012Validator(packaged_schemas("intent_classifier").request).is_valid(body)
    assert allowed == takes("intent_classifier", body) == (other in good)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_asked_in_the_forms_of_its_schema(kind):
    assert packaged_schemas(kind).forms == load_model_type(kind).request_forms


def test_a_kind_without_schemas_gets_the_general_ones():
    assert packaged_schemas("sentiment") == packaged_schemas(GENERAL)


def problems(answer: object, request: dict[str, object] | None = None) -> list[str]:
    return packaged_schemas("intent_classifier").problems("text", request or {"text": "x"}, answer)


def test_an_answer_that_fits_has_no_problems():
    assert problems(ONE) == []
    many = {**ONE, "intent": ["a"], "confidence": [0.5], "in_scope": [True]}
    assert problems(many, {"text": ["x"]}) == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"intent": None}, "$.intent"),
        ({"intent": ["a"]}, "$.intent"),
        ({"intent": ""}, "$.intent"),
        ({"confidence": "0.5"}, "$.confidence"),
        ({"confidence": True}, "$.confidence"),
        ({"confidence": 1.5}, "$.confidence"),
        ({"in_scope": 1}, "$.in_scope"),
        ({"predictions": []}, "$.predictions"),
        ({"predictions": [[{"label": "a"}]]}, "$.predictions[0][0]"),
        ({"predictions": ONE["predictions"] * 2}, "$.predictions: 2 items in answer to 1"),
        ({"model": {**MODEL, "sha256": "latest"}}, "$.model.sha256"),
    ],
)
def test_an_answer_that_breaks_the_schema_is_told_where(change, where):
    found = problems({**ONE, **change})
    assert any(one.startswith(where) for one in found), found


@pytest.mark.parametrize("answer", [None, [], "text", 7, {}])
def test_what_is_no_answer_at_all_is_a_problem(answer):
    assert problems(answer)


@pytest.mark.parametrize("member", ["intent", "confidence", "in_scope", "predictions", "decisions", "model"])
def test_each_member_that_is_missing_is_named(member):
    assert problems({key: value for key, value in ONE.items() if key != member}) == [
        f"$: '{member}' is a required property"
    ]


def test_lists_are_as_long_as_what_was_asked():
    short = {**ONE, "intent": ["a", "a"], "confidence": [0.5], "in_scope": [True, False]}
    assert problems(short, {"text": ["x", "y"]}) == [
        "$.confidence: 1 items in answer to 2",
        "$.predictions: 1 items in answer to 2",
        "$.decisions: 1 items in answer to 2",
    ]


def folder(tmp_path: Path, request: object, response: object = True) -> Path:
    (tmp_path / REQUEST_FILE).write_text(request if isinstance(request, str) else json.dumps(request))
    (tmp_path / RESPONSE_FILE).write_text(json.dumps({"type": "object"} if response is True else response))
    return tmp_path


FORM = {"type": "object", "required": ["text"], "examples": [{"text": "x"}]}
WHOLE = {"oneOf": [{"$ref": "#/$defs/text"}], "$defs": {"text": FORM}}


def test_schemas_of_ones_own_are_read(tmp_path):
    assert read_schemas(folder(tmp_path, WHOLE)).forms == ("text",)


@pytest.mark.parametrize(
    ("request_schema", "reason"),
    [
        ("{", "not valid JSON"),
        ("[]", "must hold an object"),
        ({"type": "objekt"}, "is no JSON Schema"),
        ({}, "`oneOf` must list the forms"),
        ({"oneOf": []}, "is no JSON Schema|must list the forms"),
        ({"oneOf": [{"$ref": "#/$defs/message"}], "$defs": {"message": FORM}}, "definition named text, inputs"),
        ({"oneOf": [{"$ref": "#/$defs/text"}]}, "definition named text, inputs"),
        ({**WHOLE, "$defs": {"text": True}}, r"must require \['text'\]"),
        ({**WHOLE, "$defs": {"text": {**FORM, "required": ["inputs"]}}}, r"must require \['text'\]"),
        ({**WHOLE, "$defs": {"text": {**FORM, "examples": []}}}, "no examples"),
        ({**WHOLE, "$defs": {"text": {**FORM, "examples": [{"inputs": "x"}]}}}, "an example of text breaks it"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_with_its_reason(tmp_path, request_schema, reason):
    with pytest.raises(EndpointSchemaError, match=reason):
        read_schemas(folder(tmp_path, request_schema))


def test_a_missing_schema_is_named(tmp_path):
    with pytest.raises(EndpointSchemaError, match=r"request\.schema\.json cannot be read"):
        read_schemas(tmp_path)


def test_the_packaged_folders_are_those_of_the_platforms_kinds():
    assert {one.name for one in PACKAGED.iterdir()} == {*KINDS, GENERAL}
