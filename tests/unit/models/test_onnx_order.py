"""Claims about the order of an ONNX file's parts: the network decides it, whatever order they were written in."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mangaassist_assets.models.onnx_network import OnnxNetwork
from mangaassist_assets.models.onnx_order import put_in_order


def model(order: list[str], prefix: str) -> onnx.ModelProto:
    """Two branches of one input that meet again, one of them under a condition; and a node that nobody needs."""
    branch = [
        helper.make_graph(
            [helper.make_node(kind, ["left"], [f"{prefix}{kind}"])],
            kind,
            [],
            [helper.make_tensor_value_info(f"{prefix}{kind}", TensorProto.FLOAT, None)],
        )
        for kind in ("Neg", "Abs")
    ]
    nodes = {
        "left": helper.make_node("Mul", ["x", "onnx::Mul_" + prefix], ["left"], name=prefix + "1"),
        "right": helper.make_node("Add", ["x", "model.bias"], ["right"], name=prefix + "2"),
        "turned": helper.make_node(
            "If", ["flag"], ["turned"], name=prefix + "3", then_branch=branch[0], else_branch=branch[1]
        ),
        "unused": helper.make_node("Exp", ["x"], ["unused"]),
        "sum": helper.make_node("Sub", ["turned", "right"], ["sum"]),
    }
    initial = {
        "onnx::Mul_" + prefix: np.array([2.0, 3.0], np.float32),
        "model.bias": np.array([1.0, 5.0], np.float32),
        "flag": np.array(True),
    }
    graph = helper.make_graph(
        [nodes[name] for name in order],
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, [2])],
        initializer=[numpy_helper.from_array(value, name) for name, value in initial.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(
    "order", [["left", "right", "turned"], ["right", "left", "turned"], ["left", "turned", "right"]]
)
def test_a_file_is_the_same_in_whatever_order_it_was_written(order: list[str]) -> None:
    first = model(["left", "right", "turned", "unused", "sum"], "a")
    other = model([*order, "unused", "sum"], "a")
    x = {"x": np.array([0.5, -4.0], np.float32)}
    expected = OnnxNetwork(other.SerializeToString(), threads=1).run(x)["sum"]
    for one in (first, other):
        put_in_order(one)
        onnx.checker.check_model(one)
    assert first == other
    assert len(first.graph.node) == 4
    assert [one.name for one in first.graph.initializer] == ["weight_0", "flag", "model.bias"]
    np.testing.assert_array_equal(OnnxNetwork(first.SerializeToString(), threads=1).run(x)["sum"], expected)


def test_numbers_in_a_weights_name_do_not_count() -> None:
    first, other = (model(["left", "right", "turned", "unused", "sum"], prefix) for prefix in ("a", "b"))
    assert first != other
    for one in (first, other):
        put_in_order(one)
        for node in one.graph.node:
            node.ClearField("attribute")  # the graphs inside keep their own values' names
    assert first == other
