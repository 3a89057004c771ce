"""Claims about the inference contract: what a request may be, what an answer is, which model may answer."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mangaassist_assets.models.artifacts import ArtifactMismatchError
from mangaassist_assets.models.examples import IntentExample, RankingExample
from mangaassist_assets.models.model_types import TrainingRequest
from mangaassist_assets.models.reranker.training import train_reranker
from mangaassist_assets.serving import inference
from mangaassist_assets.serving.inference import LoadedModel, input_fn, model_fn, output_fn, predict_fn
from mangaassist_assets.serving.request_forms import BadRequestError, InferenceRequest
from mangaassist_assets.serving.server import ModelHost
from tests.support.intent_training import QUICK, train_on
from tests.support.tiny_ranker import TINY, write_tiny_base

FROZEN = replace(QUICK, fine_tune=False)
PASSAGES = ("Gift cards never expire.", "Returns are free for thirty days.")


@pytest.fixture(scope="module")
def intent_artifact(tiny_base: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    messages = [
        ("hello", "greeting"),
        ("good morning", "greeting"),
        ("返品したい", "return"),
        ("send it back", "return"),
    ]
    result = train_on(
        [IntentExample(example_id=str(n), text=text, intent=intent) for n, (text, intent) in enumerate(messages)],
        [],
        config=FROZEN,
        base=str(tiny_base("bert")),
        output=tmp_path_factory.mktemp("serving") / "intent",
    )
    return result.directory, result.digest


@pytest.fixture(scope="module")
def reranker_artifact(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    example = RankingExample(
        example_id="1", query="do gift cards expire", passages=PASSAGES, relevances=(1.0, 0.0), first_stage_ranks=(1, 2)
    )
    base = write_tiny_base(tmp_path_factory.mktemp("tiny") / "base")
    output = tmp_path_factory.mktemp("serving") / "reranker"
    request = TrainingRequest(train=[example], validation=[], output=output)
    result = train_reranker(request, config=replace(TINY, epochs=0, apart_epochs=0), base=base)
    return result.directory, result.digest


def serve(artifact: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> LoadedModel:
    monkeypatch.setenv("MANGAASSIST_MODEL_NAME", "a-model")
    monkeypatch.setenv("MANGAASSIST_MODEL_VERSION", "3")
    monkeypatch.setenv("MANGAASSIST_MODEL_SHA256", artifact[1])
    return model_fn(str(artifact[0]))


def ask(model: LoadedModel, body: object) -> dict[str, object]:
    request = input_fn(json.dumps(body).encode(), "application/json; charset=utf-8")
    answer: dict[str, object] = json.loads(output_fn(predict_fn(request, model), "application/json"))
    return answer


def test_an_intent_answer_has_the_shape_and_names_its_model(
    intent_artifact: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = serve(intent_artifact, monkeypatch)
    answer = ask(model, {"inputs": ["hello there", "返品"], "parameters": {"top_k": 1}})
    assert answer["model"] == {"name": "a-model", "version": "3", "sha256": intent_artifact[1]}
    first, second = answer["predictions"]
    assert [item["label"] for item in first] == ["greeting"]
    assert set(second[0]) == {"label", "score"}
    assert 0 <= second[0]["score"] <= 1


def test_a_single_string_is_one_input(intent_artifact: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    answer = ask(serve(intent_artifact, monkeypatch), {"inputs": "hello", "parameters": None})
    assert len(answer["predictions"]) == 1
    assert len(answer["predictions"][0]) == 2


def test_a_reranker_answer_has_the_shape_and_the_order(
    reranker_artifact: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [{"text": "do gift cards expire", "text_pair": passage} for passage in PASSAGES]
    answer = ask(serve(reranker_artifact, monkeypatch), {"inputs": pairs})
    assert [item["label"] for item in answer["predictions"]] == ["relevant", "relevant"]
    scores = [item["score"] for item in answer["predictions"]]
    assert scores[0] > scores[1]


@pytest.mark.parametrize("key", ["text", "inputs"])
def test_one_text_is_answered_with_one_intent_and_its_confidence(
    key: str, intent_artifact: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = ask(serve(intent_artifact, monkeypatch), {key: "hello there"})
    best = answer["predictions"][0][0]
    assert (answer["intent"], answer["confidence"], answer["in_scope"]) == ("greeting", best["score"], True)
    assert best["label"] == "greeting"
    assert len(answer["predictions"]) == len(answer["decisions"]) == 1


@pytest.mark.parametrize("key", ["text", "inputs"])
def test_a_list_of_texts_is_answered_with_lists_in_its_order(
    key: str, intent_artifact: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = serve(intent_artifact, monkeypatch)
    answer = ask(model, {key: ["good morning", "send it back"], "parameters": {"top_k": 1}})
    assert answer["intent"] == ["greeting", "return"]
    assert answer["confidence"] == [labels[0]["score"] for labels in answer["predictions"]]
    assert answer["in_scope"] == [True, True]
    assert ask(model, {key: ["hello"]})["intent"] == ["greeting"]


def test_passages_are_scored_in_their_order_as_pairs_are(
    reranker_artifact: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = serve(reranker_artifact, monkeypatch)
    query = "do gift cards expire"
    for passages in (PASSAGES, PASSAGES[::-1], (*PASSAGES, "")):
        answer = ask(model, {"query": query, "passages": list(passages)})
        pairs = ask(model, {"inputs": [{"text": query, "text_pair": passage} for passage in passages]})
        assert answer == pairs
        assert answer["scores"] == [one["score"] for one in answer["predictions"]]
        assert passages[answer["scores"].index(max(answer["scores"]))] == PASSAGES[0]


def test_what_a_toolkit_decoded_itself_is_answered_as_a_parsed_request(
    intent_artifact: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = serve(intent_artifact, monkeypatch)
    assert predict_fn({"text": "hello"}, model) == ask(model, {"text": "hello"})
    with pytest.raises(BadRequestError, match='"text" is empty'):
        predict_fn({"text": ""}, model)


def test_a_model_that_is_asked_in_another_models_form_says_how_to_ask(
    intent_artifact: tuple[Path, str], reranker_artifact: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = serve(intent_artifact, monkeypatch)
    with pytest.raises(BadRequestError, match='asked with "text", or "inputs", not with "query" and "passages"'):
        ask(model, {"query": "x", "passages": ["y"]})
    model = serve(reranker_artifact, monkeypatch)
    with pytest.raises(BadRequestError, match='asked with "query" and "passages", or "inputs", not with "text"'):
        ask(model, {"text": "x"})


def test_only_the_expected_artifact_is_loaded(
    intent_artifact: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MANGAASSIST_MODEL_SHA256", "0" * 64)
    with pytest.raises(ArtifactMismatchError, match="not the one that was registered"):
        model_fn(str(intent_artifact[0]))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", 'object with "text", or "inputs", or "query" and "passages", got list'),
        (b"null", "got NoneType"),
        (b'{"message": "x"}', 'object with "text", or "inputs"'),
        (b'{"inputs": []}', "at least one"),
        (b'{"inputs": 7}', "must be a list"),
        (b'{"inputs": null}', "must be a list"),
        (b'{"inputs": ["x"], "parameters": []}', '"parameters" must be an object'),
        (json.dumps({"inputs": ["x"] * 257}).encode(), "at most 256"),
        (b" " * (6 * 1024 * 1024 + 1), "bytes"),
    ],
)
def test_a_bad_body_is_a_bad_request_with_its_reason(body: bytes, reason: str) -> None:
    with pytest.raises(BadRequestError, match=reason):
        input_fn(body, "application/json")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"text": "x", "inputs": "x"}, '"text" and "inputs" at once'),
        ({"text": "x", "query": "x", "passages": ["y"]}, '"text" and "query" and "passages" at once'),
        ({"query": "x"}, '"query" without "passages"'),
        ({"passages": ["x"]}, '"passages" without "query"'),
        ({"text": 7}, '"text" must be a string or a list of strings, got int'),
        ({"text": None}, '"text" must be a string or a list of strings, got NoneType'),
        ({"text": {"text": "x"}}, "got dict"),
        ({"text": ["x", True]}, r"text\[1\] must be a string, got bool"),
        ({"text": ""}, '"text" is empty'),
        ({"text": " \n\u3000"}, '"text" is empty'),
        ({"text": ["x", ""]}, r"text\[1\] is empty"),
        ({"text": []}, '"text" must be a list with at least one item'),
        ({"text": ["x"] * 257}, '"text" has 257 items, at most 256'),
        ({"text": "x" * 200_001}, '"text" has 200001 characters, at most 200000'),
        ({"text": ["x" * 200_001]}, r"text\[0\] has 200001 characters"),
        ({"text": "x", "parameters": 5}, '"parameters" must be an object'),
        ({"inputs": ["x", ""]}, r"inputs\[1\] is empty"),
        ({"inputs": ""}, r"inputs\[0\] is empty"),
        ({"inputs": {"text": " ", "text_pair": "y"}}, r"inputs\[0\].text is empty"),
        ({"query": "", "passages": ["x"]}, '"query" is empty'),
        ({"query": ["x"], "passages": ["x"]}, '"query" must be a string, got list'),
        ({"query": "x", "passages": "y"}, '"passages" must be a list of strings, got str'),
        ({"query": "x", "passages": []}, '"passages" must be a list with at least one item'),
        ({"query": "x", "passages": ["y", 7]}, r"passages\[1\] must be a string, got int"),
        ({"query": "x", "passages": ["y"] * 257}, '"passages" has 257 items'),
        ({"query": "x", "passages": ["y" * 200_001]}, r"passages\[0\] has 200001 characters"),
    ],
)
def test_a_request_that_is_wrong_is_told_what_is_wrong_with_it(body: dict[str, object], reason: str) -> None:
    with pytest.raises(BadRequestError, match=reason):
        input_fn(json.dumps(body), "application/json")


def test_the_local_endpoint_answers_the_same_code_over_http(
    intent_artifact: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = ModelHost(inference, serve(intent_artifact, monkeypatch))

    def post(body: bytes) -> tuple[int, dict[str, Any]]:
        response = asyncio.run(host.answer(body, "application/json", "application/json"))
        return response.status_code, json.loads(bytes(response.body))

    status, answer = post(b'{"text": "hello"}')
    assert (status, answer["intent"]) == (200, "greeting")
    status, answer = post(b'{"text": "hello", "inputs": "hello"}')
    assert status == 400
    assert answer["error"] == {
        "type": "BadRequestError",
        "message": 'the request has "text" and "inputs" at once: send "text", or "inputs", or "query" and "passages"',
    }
    status, answer = post(b'{"query": "x", "passages": ["y"]}')
    assert (status, answer["error"]["type"]) == (400, "BadRequestError")


def test_members_that_no_form_has_are_ignored() -> None:
    request = input_fn(b'{"text": "x", "session_id": "s", "query_id": 7}', "application/json")
    assert request == InferenceRequest(["x"], {}, form="text", single=True)


def test_another_content_type_is_a_bad_request() -> None:
    with pytest.raises(BadRequestError, match="'application/x-npy' is not supported"):
        input_fn(b"{}", "application/x-npy")
    with pytest.raises(BadRequestError, match="cannot answer as 'text/csv'"):
        output_fn({}, "text/csv")


@pytest.mark.parametrize(
    ("inputs", "parameters", "reason"),
    [
        (["fine", 7], {}, r"inputs\[1\] must be a string, got int"),
        ([None], {}, r"inputs\[0\] must be a string, got NoneType"),
        ([{"text": "x"}], {}, "must be a string, got dict"),
        (["x" * 200_001], {}, "at most 200000"),
        (["x"], {"top_k": 0}, "top_k"),
        (["x"], {"top_k": True}, "top_k"),
        (["x"], {"top_k": "5"}, "top_k"),
    ],
)
def test_a_bad_intent_input_is_named(
    inputs: list[object],
    parameters: dict[str, object],
    reason: str,
    intent_artifact: tuple[Path, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = serve(intent_artifact, monkeypatch)
    with pytest.raises(BadRequestError, match=reason):
        predict_fn(InferenceRequest(inputs, parameters), model)


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        (["just text"], r"inputs\[0\] must be an object"),
        ([{"text": "x"}], 'lacks "text_pair"'),
        ([{"text": "x", "text_pair": ["y"]}], r"inputs\[0\].text_pair must be a string, got list"),
    ],
)
def test_a_bad_pair_is_named(
    inputs: list[object], reason: str, reranker_artifact: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = serve(reranker_artifact, monkeypatch)
    with pytest.raises(BadRequestError, match=reason):
        predict_fn(InferenceRequest(inputs), model)


@pytest.mark.parametrize("accept", ["", "*/*", "application/json", "text/html, application/json;q=0.9"])
def test_json_is_answered_to_whoever_accepts_it(accept: str) -> None:
    assert json.loads(output_fn({"predictions": ["進"]}, accept)) == {"predictions": ["進"]}


def test_serving_needs_neither_transformers_nor_dagster_nor_scikit_learn(intent_artifact: tuple[Path, str]) -> None:
    program = (
        "import sys\n"
        "from mangaassist_assets.serving.inference import model_fn, input_fn, predict_fn\n"
        f"model = model_fn({str(intent_artifact[0])!r})\n"
        "predict_fn(input_fn(b'{\"inputs\": [\"hello\"]}', 'application/json'), model)\n"
        "heavy = {'transformers', 'dagster', 'sklearn', 'scipy', 'mlflow', 'boto3', 'polars'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
