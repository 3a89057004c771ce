"""Claims about artifacts that an endpoint does not load, though their manifest fits their files."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.serving.inference import load_model

SETTINGS = {"labels": ["a", "b"], "max_tokens": 64, "pad_id": 0, "scope": {"score": "max_logit"}}


def sealed_by_hand(folder: Path, files: dict[str, bytes], *, schema: int = 2) -> str:
    """Write an artifact as somebody would who does not use `seal_artifact`, and return its digest."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    manifest = {
        "schema": schema,
        "kind": "intent_classifier",
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "settings": SETTINGS,
    }
    (folder / "artifact.json").write_text(json.dumps(manifest))
    return hashlib.sha256(json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def onnx_model(*, domain: str = "", outside: bool = False) -> bytes:
    weight = numpy_helper.from_array(np.zeros(2, dtype=np.float32), "w")
    if outside:
        weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
        weight.external_data.add(key="location", value="config.json")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"], domain=domain)], "g", [x], [y], [weight])
    return helper.make_model(graph).SerializeToString()


@pytest.mark.parametrize(
    ("files", "schema", "reason"),
    [
        ({"model.onnx": onnx_model(outside=True)}, 2, r"model\.onnx keeps 'w' in another file"),
        ({"model.onnx": onnx_model(domain="com.evil")}, 2, r"model\.onnx uses 'Add' of 'com\.evil'"),
        ({"model.onnx": b"pickle"}, 2, r"model\.onnx is not an ONNX model"),
        ({}, 2, r"has no file model\.onnx, which is needed: train the model again"),
        ({"model.safetensors": b""}, 1, r"artifact\.json has schema 1, .*: train the model again"),
    ],
    ids=["data of another file", "operators of another library", "no model", "no ONNX file", "of before"],
)
def test_what_an_endpoint_must_not_run_is_refused_by_name_and_with_what_to_do(
    files: dict[str, bytes], schema: int, reason: str, tmp_path: Path
) -> None:
    digest = sealed_by_hand(tmp_path, {"config.json": b"{}", "tokenizer.json": b"{}", **files}, schema=schema)
    with pytest.raises(OperatorError, match=reason):
        load_model(tmp_path, name="a-model", version="1", sha256=digest)


def test_a_file_that_the_manifest_lists_and_the_folder_lacks_is_refused(tmp_path: Path) -> None:
    digest = sealed_by_hand(tmp_path, {"tokenizer.json": b"{}", "model.onnx": onnx_model()})
    (tmp_path / "model.onnx").unlink()
    with pytest.raises(OperatorError, match=r"model\.onnx is listed in artifact\.json but missing"):
        load_model(tmp_path, name="a-model", version="1", sha256=digest)
