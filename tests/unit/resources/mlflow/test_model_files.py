"""What MLflow's writer leaves around an artifact, and nothing that a process's directory happens to hold."""

from __future__ import annotations

import json

import pytest

from resources.mlflow.model_files import input_example, model_signature, save_model
from resources.mlflow.runs import table_json

KINDS = ("intent_classifier", "reranker", "sentiment")


@pytest.fixture(params=KINDS)
def saved(request, tmp_path, monkeypatch, caplog):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("uv.lock", "pyproject.toml", ".python-version"):
        (elsewhere / name).write_text("")
    monkeypatch.chdir(elsewhere)
    folder = tmp_path / "scratch" / "model"
    folder.parent.mkdir()
    with caplog.at_level("INFO"):
        save_model(folder, kind=request.param, digest="a" * 64, size_bytes=90_000_000, run_id="r", model_id="m-1")
    return request.param, folder, caplog.messages


def test_there_is_no_pickle_no_code_and_nothing_of_the_working_directory(saved):
    _, folder, said = saved
    assert {path.name for path in folder.rglob("*")} == {
        *("MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt"),
        *("input_example.json", "serving_input_example.json"),
    }
    assert said == []


def test_mlmodel_names_loader_digest_signature_and_the_whole_size(saved):
    from mlflow.models import Model

    kind, folder, _ = saved
    model = Model.load(str(folder))
    flavor = model.flavors["python_function"]
    assert list(model.flavors) == ["python_function"]
    assert flavor["loader_module"] == "mangaassist_assets.serving.mlflow_flavor"
    assert flavor["config"] == {"artifact_sha256": "a" * 64}
    assert flavor["code"] is None
    assert (model.model_id, model.run_id) == ("m-1", "r")
    assert model.signature == model_signature(kind)
    assert model.model_size_bytes > 90_000_000


def test_requirements_are_public_packages_only(saved):
    # Our own is on no index: whoever takes its name there would be installed in its place.
    _, folder, _ = saved
    names = {line.partition("==")[0] for line in (folder / "requirements.txt").read_text().splitlines()}
    assert names == {"mlflow", "numpy", "onnx", "onnxruntime", "pandas", "tokenizers"}
    conda = (folder / "conda.yaml").read_text()
    assert all(f"- {line}\n" in conda for line in (folder / "requirements.txt").read_text().splitlines())


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_fits_the_signature(kind):
    example = input_example(kind)
    frame, params = example if isinstance(example, tuple) else (example, {})
    signature = model_signature(kind)
    assert list(frame.columns) == signature.inputs.input_names()
    assert set(params) == {one.name for one in signature.params or []}
    json.dumps(signature.to_dict())


def test_a_table_is_json_whatever_its_figures_are():
    rows = [{"intent": "返品", "f1": float("nan"), "support": 3}, {"intent": "b", "f1": 0.5, "support": 0}]
    table = json.loads(table_json(rows))
    assert table == {"columns": ["intent", "f1", "support"], "data": [["返品", None, 3], ["b", 0.5, 0]]}
    assert json.loads(table_json([])) == {"columns": [], "data": []}
    with pytest.raises(ValueError, match="columns"):
        table_json([{"a": 1}, {"b": 1}])
