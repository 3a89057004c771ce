"""From a torch network to an ONNX file that says the same.

The export follows one run of the network (PyTorch's TorchScript exporter). That is twenty times as fast as
`dynamo=True`, which decompiles the code, and of all that the run took for constant the check at the end says whether it
was: the file answers inputs of other sizes, and its answers have to be the network's.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.models.onnx_network import MAX_MODEL_BYTES, OnnxModelError, OnnxNetwork
from mangaassist_assets.models.onnx_order import put_in_order

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import Tensor, nn

TOLERANCE = 1e-4
"""How far an output may be from the network's own, in units of the largest output where that is above one."""

_OPSET = 20  # the last that the TorchScript exporter writes
_MESSAGE_CHARACTERS = 300


class ExportError(RuntimeError):
    """A network cannot be written as ONNX, or the file says something else; the message names network and reason."""


def export_onnx(
    network: nn.Module,
    inputs: Mapping[str, Tensor],
    *,
    outputs: Sequence[str],
    dynamic: Mapping[str, Mapping[int, str]],
) -> bytes:
    """Return a network as an ONNX file, weights inside; equal weights give equal bytes.

    Args:
        network: Called with `inputs` by keyword; returns one tensor, a tuple in the order of `outputs`, or a mapping
            (a `ModelOutput`) that has them by name. On CPU. Its mode, training or not, is left as it was.
        inputs: An example. Where rows may be padded, the first should be whole and the last padded.
        outputs: Names of the outputs.
        dynamic: Of each input or output the axes that may have any size, by name: `{"input_ids": {0: "batch"}}`. An
            input's sizes are tried as 1 and as twice the example's and one, which the network has to take.

    Raises:
        ExportError: An operation has no ONNX form, the file would be larger than a protocol buffer can be, or its
            answers differ from the network's.
    """
    import torch

    with _evaluating(network), torch.no_grad():
        model = _traced(network, inputs, outputs, dynamic)
        _require_equal(network, model, inputs, outputs, dynamic)
    return model


def _traced(
    network: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str], dynamic: Mapping[str, Mapping[int, str]]
) -> bytes:
    """Return the file of one run."""
    import onnx
    import torch

    size = sum(weight.numel() * weight.element_size() for weight in network.state_dict().values())
    if size > MAX_MODEL_BYTES:
        raise ExportError(f"{_name(network)} has {size} bytes of weights, an ONNX file at most {MAX_MODEL_BYTES}")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        # What it warns of, the check finds out; and on failure the exporter prints its whole graph.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                _by_name(network, tuple(inputs), tuple(outputs)),
                tuple(inputs.values()),
                str(Path(folder) / "model.onnx"),
                dynamo=False,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes={name: dict(axes) for name, axes in dynamic.items()},
                opset_version=_OPSET,
            )
        except Exception as error:
            raise ExportError(f"{_name(network)} cannot be exported to ONNX: {described(error)}") from error
        model = onnx.load(Path(folder) / "model.onnx")
    put_in_order(model)
    return plain_bytes(model)


def _by_name(network: nn.Module, names: tuple[str, ...], outputs: tuple[str, ...]) -> nn.Module:
    """Return a module that takes tensors in the order of `names`, as the exporter wants them, and returns a tuple."""
    import torch

    class ByName(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
            result = self.network(**dict(zip(names, tensors, strict=True)))
            if isinstance(result, Mapping):
                return tuple(result[name] for name in outputs)
            return tuple(result) if isinstance(result, tuple | list) else (result,)

    # The exporter puts back its mode into all modules below it.
    return ByName().eval()


def _require_equal(
    network: nn.Module,
    model: bytes,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    dynamic: Mapping[str, Mapping[int, str]],
) -> None:
    """Let both answer other sizes.

    Raises:
        ExportError: An answer differs, or one of them cannot answer.
    """
    import torch

    try:
        exported = OnnxNetwork(model, threads=torch.get_num_threads())
        named = _by_name(network, tuple(inputs), tuple(outputs))
        for sizes, resized in _resized(inputs, dynamic):
            found = exported.run({name: tensor.numpy() for name, tensor in resized.items()})
            for name, expected in zip(outputs, named(*resized.values()), strict=True):
                difference = _difference(expected.numpy(), found[name])
                if not difference <= TOLERANCE:
                    raise ExportError(
                        f"{_name(network)} as ONNX says something else than in torch: {name!r} differs by "
                        f"{difference:.2g} at {sizes}, {TOLERANCE:g} is allowed: something that depends on the input "
                        "was taken for constant"
                    )
    except (OnnxModelError, RuntimeError, ValueError, IndexError) as error:
        if isinstance(error, ExportError):
            raise
        raise ExportError(f"{_name(network)} as ONNX cannot be checked: {described(error)}") from error


def _difference(expected: NDArray[Any], found: NDArray[Any]) -> float:
    """Return the largest difference over the largest value, if that is above one; infinity for another shape."""
    if expected.shape != found.shape or not expected.size:
        return float("inf")
    return float(np.abs(expected - found).max() / max(1.0, np.abs(expected).max()))


def _resized(
    inputs: Mapping[str, Tensor], dynamic: Mapping[str, Mapping[int, str]]
) -> Iterator[tuple[dict[str, int], dict[str, Tensor]]]:
    """Yield the example at other sizes and each of them in reverse order too, with the sizes.

    Values are the example's, repeated or left out evenly, so that indices stay valid and padding stays where it was.
    """
    import torch

    known = {symbol: inputs[name].shape[axis] for name in inputs for axis, symbol in dynamic.get(name, {}).items()}
    first = next(iter(known), None)
    for chosen in itertools.product(*((1, 2 * size + 1) for size in known.values())):
        sizes = dict(zip(known, chosen, strict=True))
        for reverse in (False, True):
            resized = {}
            for name, tensor in inputs.items():
                one = tensor
                for axis, symbol in dynamic.get(name, {}).items():
                    places = torch.arange(sizes[symbol]) * tensor.shape[axis] // sizes[symbol]
                    if reverse and symbol == first:
                        places = tensor.shape[axis] - 1 - places
                    one = one.index_select(axis, places)
                resized[name] = one
            yield sizes, resized


@contextlib.contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Switch dropout off, and put each module's own mode back afterwards."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def plain_bytes(model: ModelProto) -> bytes:
    """Return the model without what says where and by what it was made."""
    for part in (model, model.graph, *model.graph.node):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    model.ClearField("producer_name")
    model.ClearField("producer_version")
    return bytes(model.SerializeToString(deterministic=True))


def _name(network: nn.Module) -> str:
    """Return the class, with the architecture of the library's model inside of it."""
    types = (getattr(getattr(module, "config", None), "model_type", None) for module in network.modules())
    architecture = next(filter(None, types), None)
    return type(network).__name__ + (f" ({architecture})" if architecture else "")


def described(error: Exception) -> str:
    """Return an exception's type and the first line of what it says, cut to a length for messages."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0][:_MESSAGE_CHARACTERS] if lines else ''}"
