"""A network in an ONNX file, run by ONNX Runtime: what serving and evaluation need instead of torch.

A file from outside is not trusted. ONNX lets a file name others that its weights lie in, and operators of libraries
beside the standard's; both are refused, and so are functions and training graphs, which no export of ours has.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mangaassist_assets.core.errors import OperatorError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import GraphProto, NodeProto, TensorProto

MAX_MODEL_BYTES = 2**31 - 1
"""More than this no protocol buffer holds."""

_STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
_FATAL = 4
# TF32 rounds what it multiplies to ten bits, more than validation allows for.
_PROVIDERS: Mapping[str, Mapping[str, str]] = {"CUDAExecutionProvider": {"use_tf32": "0"}, "CPUExecutionProvider": {}}


class OnnxModelError(OperatorError, RuntimeError):
    """A file is no ONNX model that can be run, or none that may be; the message names it and says why."""


class OnnxNetwork:
    """A network that maps named arrays to named arrays. May be asked by several threads at once.

    On CPU, and on CUDA where the installed ONNX Runtime offers it. On one machine, with one number of threads, equal
    inputs give equal outputs to the last bit.
    """

    def __init__(self, model: Path | bytes, *, where: str | None = None, threads: int | None = None) -> None:
        """Check and load a model.

        Args:
            model: The file, or its content.
            where: How errors call it; None for the file's name.
            threads: How many threads one run may use; None for `OMP_NUM_THREADS`, or else all cores.

        Raises:
            OnnxModelError: The file is missing, too large, no ONNX model, not a plain one, or of an operator that
                ONNX Runtime lacks; or `OMP_NUM_THREADS` is no whole number.
        """
        import onnxruntime

        where = where or (str(model) if isinstance(model, Path) else "the ONNX model")
        content = _read(model) if isinstance(model, Path) else model
        require_plain(content, where)
        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _threads() if threads is None else threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _FATAL
        options.use_deterministic_compute = True
        # Not the format of the runtime's own, which nothing here checks.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        # Idle threads sleep: an endpoint shares its cores with others.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        offered = set(onnxruntime.get_available_providers())
        providers = [(name, dict(settings)) for name, settings in _PROVIDERS.items() if name in offered]
        try:
            # The bytes that were checked, and no second reading of a file that may be another by then.
            self._session = onnxruntime.InferenceSession(content, options, providers=providers)
        except Exception as error:
            # The runtime's errors have no base of their own.
            raise OnnxModelError(f"{where} cannot be loaded by ONNX Runtime: {_first_line(error)}") from error
        # The runtime has parsed them; its Python half would keep a copy for as long as it lives, to fall back on.
        self._session._model_bytes = None  # noqa: SLF001 - it has no other way
        self._outputs = tuple(output.name for output in self._session.get_outputs())

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in the model's order."""
        return tuple(one.name for one in self._session.get_inputs())

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in the model's order."""
        return self._outputs

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return all outputs by name.

        Raises:
            OnnxModelError: An input is missing, unknown, or of another type or rank than the model's; or a value is
                out of range, such as a token that the vocabulary lacks.
        """
        import numpy as np

        try:
            values = self._session.run(self._outputs, {name: np.ascontiguousarray(one) for name, one in inputs.items()})
        except Exception as error:
            raise OnnxModelError(f"ONNX Runtime cannot run the model: {_first_line(error)}") from error
        return dict(zip(self._outputs, values, strict=True))


def require_plain(model: bytes, where: str) -> None:
    """Check that a model is whole in itself and made of the standard's operators only.

    Raises:
        OnnxModelError: It is no ONNX model, too large, names data of other files, or has operators of another domain,
            functions or a training graph. The message starts with `where`.
    """
    if len(model) > MAX_MODEL_BYTES:
        raise OnnxModelError(f"{where} has {len(model)} bytes, an ONNX model at most {MAX_MODEL_BYTES}")
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        parsed = onnx.load_from_string(model)
    except DecodeError as error:
        raise OnnxModelError(f"{where} is not an ONNX model: {_first_line(error)}") from error
    if not parsed.graph.node:
        raise OnnxModelError(f"{where} is not an ONNX model: it has no graph")
    if parsed.functions or parsed.training_info:
        raise OnnxModelError(f"{where} has functions or a training graph, which an exported model has not")
    for node in _nodes(parsed.graph):
        if node.domain not in _STANDARD_DOMAINS:
            raise OnnxModelError(
                f"{where} uses {node.op_type[:80]!r} of {node.domain[:80]!r}: only ONNX's own operators are run"
            )
    for tensor in _tensors(parsed.graph):
        if tensor.external_data or tensor.data_location != onnx.TensorProto.DEFAULT:
            raise OnnxModelError(
                f"{where} keeps {tensor.name[:80]!r} in another file: a model has to hold its weights itself"
            )


def require_plain_file(path: Path) -> None:
    """Check a file as `require_plain` checks its content.

    Raises:
        OnnxModelError: As there, or the file cannot be read.
    """
    require_plain(_read(path), str(path))


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Yield all nodes, those of the graphs inside of others included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Yield all tensors: initial values and attributes, of graphs inside of others too."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise OnnxModelError(f"{path} is larger than the {MAX_MODEL_BYTES} bytes that an ONNX model can have")
        return path.read_bytes()
    except OSError as error:
        raise OnnxModelError(f"{path} cannot be read: {error.strerror}") from error


def _threads() -> int:
    """Return what `OMP_NUM_THREADS` says, 0 for as many as there are cores."""
    value = os.environ.get("OMP_NUM_THREADS", "0")
    if not value.isdecimal():
        raise OnnxModelError(f"OMP_NUM_THREADS is {value[:40]!r}, it has to be a whole number")
    return int(value)


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:300] if lines else type(error).__name__
