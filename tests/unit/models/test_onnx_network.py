"""Claims about ONNX files that come from outside, and about running them."""

from pathlib import Path

import numpy as np
import pytest
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, helper, numpy_helper

from mangaassist_assets.models.onnx_network import OnnxModelError, OnnxNetwork

X = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 4])


def graph_with(weight: TensorProto, *, domain: str = "") -> GraphProto:
    return helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"], domain=domain)], "graph", [X], [Y], [weight])


def model_of(graph: GraphProto) -> ModelProto:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def inside() -> TensorProto:
    return numpy_helper.from_array(np.arange(4, dtype=np.float32), "w")


def outside(location: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def test_a_model_answers_by_name_from_a_file_and_from_its_content(tmp_path: Path) -> None:
    content = model_of(graph_with(inside())).SerializeToString()
    (tmp_path / "model.onnx").write_bytes(content)
    for model in (tmp_path / "model.onnx", content):
        network = OnnxNetwork(model, threads=1)
        assert (network.inputs, network.outputs) == (("x",), ("y",))
        found = network.run({"x": np.ones((2, 4), dtype=np.float32)})
        assert list(found) == ["y"]
        np.testing.assert_array_equal(found["y"], [[1, 2, 3, 4]] * 2)


def in_a_constant() -> GraphProto:
    node = helper.make_node("Constant", [], ["w"], value=outside("secret.bin"))
    return helper.make_graph([node, helper.make_node("Add", ["x", "w"], ["y"])], "graph", [X], [Y])


def in_a_branch() -> GraphProto:
    out = helper.make_tensor_value_info("b", TensorProto.FLOAT, [4])
    branch = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["b"])], "branch", [], [out], [outside("secret.bin")]
    )
    true = numpy_helper.from_array(np.array(1, dtype=np.bool_), "true")
    choice = helper.make_node("If", ["true"], ["c"], then_branch=branch, else_branch=branch)
    return helper.make_graph([choice, helper.make_node("Add", ["x", "c"], ["y"])], "graph", [X], [Y], [true])


def in_a_sparse_tensor() -> GraphProto:
    graph = graph_with(inside())
    sparse = graph.sparse_initializer.add(dims=[4])
    sparse.values.CopyFrom(outside("secret.bin"))
    return graph


@pytest.mark.parametrize(
    "graph",
    [graph_with(outside("secret.bin")), in_a_constant(), in_a_branch(), in_a_sparse_tensor()],
    ids=["initial value", "constant", "branch", "sparse"],
)
def test_weights_in_another_file_are_refused_even_where_the_file_is_there(
    graph: GraphProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    (tmp_path / "model.onnx").write_bytes(model_of(graph).SerializeToString())
    monkeypatch.chdir(tmp_path)
    for model in (tmp_path / "model.onnx", model_of(graph).SerializeToString()):
        with pytest.raises(OnnxModelError, match="in another file: a model has to hold its weights itself"):
            OnnxNetwork(model, threads=1)


def test_operators_of_another_domain_are_refused_by_name() -> None:
    with pytest.raises(OnnxModelError, match=r"uses 'Add' of 'com\.evil': only ONNX's own"):
        OnnxNetwork(model_of(graph_with(inside(), domain="com.evil")).SerializeToString())
    nested = in_a_branch()
    for attribute in nested.node[0].attribute:
        assert attribute.type == AttributeProto.GRAPH
        attribute.g.ClearField("initializer")
        attribute.g.node[0].domain = "com.microsoft"
        attribute.g.node[0].op_type = "EPContext"
    with pytest.raises(OnnxModelError, match=r"uses 'EPContext' of 'com\.microsoft'"):
        OnnxNetwork(model_of(nested).SerializeToString())


def test_functions_and_training_graphs_are_refused() -> None:
    with_function = model_of(graph_with(inside()))
    with_function.functions.add(name="f", domain="local")
    with_training = model_of(graph_with(inside()))
    with_training.training_info.add()
    for model in (with_function, with_training):
        with pytest.raises(OnnxModelError, match="functions or a training graph"):
            OnnxNetwork(model.SerializeToString())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not an ONNX model: it has no graph"),
        (b"not a model", "is not an ONNX model"),
        (b"\x80\x04\x95pickled", "is not an ONNX model"),
        (model_of(graph_with(inside())).SerializeToString()[:-20], "is not an ONNX model"),
        (b"\x10\x00\x00\x00ORTM" + bytes(64), "is not an ONNX model"),
    ],
)
def test_a_file_that_is_no_model_is_named(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(OnnxModelError, match=rf"model\.onnx {reason}"):
        OnnxNetwork(path)


def test_a_file_that_is_missing_or_a_folder_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "model.onnx", tmp_path):
        with pytest.raises(OnnxModelError, match=f"{path} cannot be read"):
            OnnxNetwork(path)


def test_a_file_larger_than_any_model_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(OnnxModelError, match="is larger than"):
        OnnxNetwork(path)


def test_an_operator_that_the_runtime_lacks_is_named() -> None:
    graph = graph_with(inside())
    graph.node[0].op_type = "Frobnicate"
    with pytest.raises(OnnxModelError, match=r"cannot be loaded by ONNX Runtime: .*Frobnicate"):
        OnnxNetwork(model_of(graph).SerializeToString())


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"x": np.ones((1, 4), dtype=np.float32), "z": np.ones(1)},
        {"x": np.ones((1, 4), dtype=np.int64)},
        {"x": np.ones((1, 5), dtype=np.float32)},
    ],
    ids=["missing", "unknown", "type", "shape"],
)
def test_inputs_that_do_not_fit_are_refused(inputs: dict[str, np.ndarray]) -> None:
    network = OnnxNetwork(model_of(graph_with(inside())).SerializeToString(), threads=1)
    with pytest.raises(OnnxModelError, match="cannot run the model"):
        network.run(inputs)


def test_the_environment_says_how_many_threads_and_nonsense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = model_of(graph_with(inside())).SerializeToString()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert OnnxNetwork(content)._session.get_session_options().intra_op_num_threads == 3
    assert OnnxNetwork(content, threads=2)._session.get_session_options().intra_op_num_threads == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    with pytest.raises(OnnxModelError, match="OMP_NUM_THREADS is 'many'"):
        OnnxNetwork(content)


def test_a_token_that_the_vocabulary_lacks_is_refused_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["rows"])
    row = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows"])
    lookup = helper.make_graph([helper.make_node("Gather", ["w", "ids"], ["y"])], "graph", [ids], [row], [inside()])
    network = OnnxNetwork(model_of(lookup).SerializeToString(), threads=1)
    np.testing.assert_array_equal(network.run({"ids": np.array([3])})["y"], [3])
    with pytest.raises(OnnxModelError, match="out of data bounds"):
        network.run({"ids": np.array([4])})
    assert capfd.readouterr() == ("", "")
