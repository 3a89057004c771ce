"""The smallest form of a network that still decides as it does: weights of eight bits, in fewer and fewer places.

Integers of eight bits make a file a quarter as large and an answer up to four times as fast, and cost some decisions:
how many depends on the base and on how sure the network is. So each form is tried, the smallest first, and the first
that decides alike is kept.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mangaassist_assets.models.onnx_export import ExportError, described, plain_bytes
from mangaassist_assets.models.parity import Parity

if TYPE_CHECKING:
    from onnx import ModelProto

EightBits = Literal["int8", "int8_but_down_projections", "int8_embeddings"]
EIGHT_BITS: tuple[EightBits, ...] = ("int8", "int8_but_down_projections", "int8_embeddings")
"""From the smallest. The middle one leaves matrices with more rows than columns as they are: what comes into a
feed-forward layer's second one has a few values far above all others, which a common scale rounds the others away for
(Bondarenko et al., EMNLP 2021). The last is most of a file with a vocabulary of many languages."""
FULL = "float32"
ONNX_SETTINGS = "onnx"
"""Under this name an artifact's settings hold its `ServedPrecision`."""

_DIGITS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedPrecision:
    """Which form an artifact's ONNX files have, and why; the fields are its settings under `onnx`.

    Attributes:
        precision: One of `EIGHT_BITS`, or `FULL`.
        bytes: Of the files together.
        decisions: How many were compared with those of the trained network.
        equal_decisions: Share of them that are equal.
        largest_difference: Between two probabilities or scores of one input.
        bound: What each form was held against, see `parity.ParityBound`.
        refused: Smaller forms with the reason why not.
    """

    precision: str
    bytes: int
    decisions: int
    equal_decisions: float
    largest_difference: float
    bound: Mapping[str, float]
    refused: Mapping[str, str]

    def metrics(self) -> dict[str, float]:
        """Return the figures of a training run."""
        return {
            "onnx_bytes": float(self.bytes),
            "onnx_equal_decisions": self.equal_decisions,
            "onnx_largest_difference": self.largest_difference,
        }

    def described(self) -> str:
        """Return a sentence for a model's card."""
        text = (
            f"served as {self.precision}, {self.bytes / 1e6:.1f} MB of ONNX: of {self.decisions} decisions "
            f"{self.equal_decisions:.2%} are the trained network's, no score differs by more than "
            f"{self.largest_difference:.3g}"
        )
        return text + "".join(f"; {form} was refused: {reason}" for form, reason in self.refused.items())


def smallest_that_holds(
    full: Sequence[bytes], judge: Callable[[Sequence[bytes]], Parity]
) -> tuple[tuple[bytes, ...], ServedPrecision]:
    """Return the smallest form of a model that decides as the model does, with how it was found.

    Args:
        full: The model in full precision, one ONNX file or several that work together.
        judge: Asks files in the place of `full`, one input at a time, and compares with the trained network.

    Raises:
        ExportError: A file cannot be quantised, or even `full` says something else than the network.
    """
    own = judge(full)
    if not own.enough:
        # So few decisions prove nothing about any other form.
        return tuple(full), _served(FULL, full, own, {})
    # Not by decisions: what lies on a threshold itself falls to either side of it by the last digit.
    if not own.largest_difference <= own.bound.difference:
        raise ExportError(
            f"the model as ONNX says something else than the network: a score differs by {own.largest_difference:.3g}"
        )
    refused: dict[str, str] = {}
    seen: set[tuple[bytes, ...]] = set()
    for form in EIGHT_BITS:
        models = tuple(quantised(one, form) for one in full)
        if models in seen:
            continue
        seen.add(models)
        parity = judge(models)
        if parity.holds:
            return models, _served(form, models, parity, refused)
        refused[form] = parity.reason
    return tuple(full), _served(FULL, full, own, refused)


def quantised(model: bytes, form: EightBits = "int8") -> bytes:
    """Return a model with its matrices and embeddings as integers of eight bits, its activations rounded as it runs.

    Each output channel has a scale of its own, embeddings have one together. Matrices use seven of the eight bits: a
    processor without instructions for it (VNNI) adds products in 16 bits, which then never overflow, so that a model
    means the same everywhere. Activations are scaled by the largest of all that are run together, so an answer depends
    on the texts that it shares a batch with: judge a model in the batches that it is asked in.

    Raises:
        ExportError: The model cannot be quantised.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    parsed = onnx.load_from_string(model)
    with tempfile.TemporaryDirectory() as folder:
        prepared, result = Path(folder) / "prepared.onnx", Path(folder) / "quantised.onnx"
        try:
            quant_pre_process(parsed, prepared, skip_optimization=True, skip_symbolic_shape=True)
            quantize_dynamic(
                prepared,
                result,
                op_types_to_quantize=["Gather"] if form == "int8_embeddings" else ["MatMul", "Gemm", "Gather"],
                nodes_to_exclude=_down_projections(parsed) if form == "int8_but_down_projections" else [],
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
            )
        except Exception as error:
            raise ExportError(f"the model cannot be quantised: {described(error)}") from error
        return plain_bytes(onnx.load(result))


def _down_projections(model: ModelProto) -> list[str]:
    """Return the names of the nodes that multiply by a matrix of more rows than columns."""
    shapes = {one.name: tuple(one.dims) for one in model.graph.initializer}
    names = []
    for node in model.graph.node:
        shape = shapes.get(node.input[1], ()) if node.op_type == "MatMul" else ()
        if len(shape) == 2 and shape[0] > shape[1]:
            names.append(node.name)
    return names


def _served(precision: str, models: Sequence[bytes], parity: Parity, refused: Mapping[str, str]) -> ServedPrecision:
    values: dict[str, Any] = asdict(parity)
    return ServedPrecision(
        precision=precision,
        bytes=sum(map(len, models)),
        decisions=parity.decisions,
        # What is beyond differs from machine to machine, and the settings are part of an artifact's digest.
        equal_decisions=round(parity.equal_decisions, _DIGITS),
        largest_difference=round(parity.largest_difference, _DIGITS),
        bound=values["bound"],
        refused=dict(refused),
    )
