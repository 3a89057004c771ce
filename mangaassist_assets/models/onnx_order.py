"""The parts of an ONNX file in an order that the network alone decides.

An export writes operations as it meets them, and transformers walks through some sets of names (ModernBERT's kinds of
layers), whose order is another one in every process. Ordered by what the outputs need, equal networks are equal files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto


def put_in_order(model: ModelProto) -> None:
    """Sort the operations of a model and number them and their values, in place; what no output needs is left out."""
    graph = model.graph
    maker = {name: place for place, node in enumerate(graph.node) for name in node.output}
    order = _needed_first(graph.node, [maker[one.name] for one in graph.output if one.name in maker], maker)
    nodes = [graph.node[place] for place in order]
    initial = {one.name: one for one in graph.initializer}
    fixed = {one.name for one in (*graph.input, *graph.output)} | {""}
    names: dict[str, str] = {}
    used: list[TensorProto] = []
    for number, node in enumerate(nodes):
        for name in _reads(node):
            if name in initial and name not in names:
                # A weight keeps the name that it has in torch; what the exporter made of some is numbered.
                names[name] = f"weight_{len(used)}" if name.startswith("onnx::") else name
                used.append(initial[name])
        for place, name in enumerate(node.output):
            names[name] = name if name in fixed else f"value_{number}_{place}"
        node.name = f"{node.op_type}_{number}"
    for node in nodes:
        _rename(node, names)
    for weight in used:
        weight.name = names[weight.name]
    kept = type(graph)(name=graph.name, node=nodes, initializer=used, input=graph.input, output=graph.output)
    graph.CopyFrom(kept)


def _needed_first(nodes: Sequence[NodeProto], roots: list[int], maker: Mapping[str, int]) -> list[int]:
    """Return the places of the nodes that some roots need, each after those that it needs itself."""
    order: list[int] = []
    done: set[int] = set()
    waiting = [(place, False) for place in reversed(roots)]
    while waiting:
        place, ready = waiting.pop()
        if ready:
            order.append(place)
        elif place not in done:
            done.add(place)
            waiting.append((place, True))
            needed = [maker[name] for name in _reads(nodes[place]) if name in maker]
            waiting.extend((one, False) for one in reversed(needed) if one not in done)
    return order


def _reads(node: NodeProto) -> Iterator[str]:
    """Yield the names that a node reads, those of the graphs inside of it included."""
    yield from node.input
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            for one in inner.node:
                yield from _reads(one)
            yield from (one.name for one in inner.output)


def _rename(node: NodeProto, names: Mapping[str, str]) -> None:
    for values in (node.input, node.output):
        values[:] = [names.get(name, name) for name in values]
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            for one in inner.node:
                _rename(one, names)
            for value in inner.output:
                value.name = names.get(value.name, value.name)
