"""Claims about the smallest form of a network that still decides as it does."""

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from mangaassist_assets.models.onnx_export import ExportError, export_onnx
from mangaassist_assets.models.onnx_network import OnnxNetwork
from mangaassist_assets.models.parity import Parity, ParityBound
from mangaassist_assets.models.precision import EIGHT_BITS, FULL, quantised, smallest_that_holds
from tests.support.tiny_encoders import WIDTH, tiny_batch
from tests.unit.models.test_onnx_export import exported


@pytest.fixture(scope="module")
def full() -> bytes:
    return exported("bert")[2]


def parity(reason: str = "", decisions: int = 400, difference: float = 0.05) -> Parity:
    return Parity(
        decisions=decisions,
        equal_decisions=0.98765432,
        largest_difference=difference,
        reason=reason,
        bound=ParityBound(),
    )


class Judge:
    """Is asked about the model itself first, and refuses the first so many smaller forms."""

    def __init__(self, refusals: int, *, own: str = "", decisions: int = 400) -> None:
        self.sizes: list[int] = []
        self._refusals = refusals
        self._own = own
        self._decisions = decisions

    def __call__(self, models: Sequence[bytes]) -> Parity:
        number = len(self.sizes)
        self.sizes.append(sum(map(len, models)))
        reason = f"reason {number}" if 1 <= number <= self._refusals else ""
        return parity(reason if number else self._own, self._decisions)


@pytest.mark.parametrize("refusals", range(4))
def test_the_smallest_form_that_holds_is_kept_and_smaller_ones_are_named_with_their_reasons(
    full: bytes, refusals: int
) -> None:
    judge = Judge(refusals)
    (model,), served = smallest_that_holds([full], judge)
    assert judge.sizes[0] == len(full)
    assert judge.sizes[1:] == sorted(judge.sizes[1:])
    assert served.precision == [*EIGHT_BITS, FULL][refusals]
    assert served.refused == {form: f"reason {number + 1}" for number, form in enumerate(EIGHT_BITS[:refusals])}
    assert len(model) == served.bytes
    assert (model == full) is (refusals == 3)
    assert all(reason in served.described() for reason in (served.precision, *served.refused.values()))
    assert served.metrics() == {
        "onnx_bytes": len(model),
        "onnx_equal_decisions": 0.9877,
        "onnx_largest_difference": 0.05,
    }


@pytest.mark.parametrize("difference", [0.11, float("nan")])
def test_a_model_that_even_in_full_precision_says_something_else_is_refused(full: bytes, difference: float) -> None:
    with pytest.raises(ExportError, match="says something else than the network: a score differs by"):
        smallest_that_holds([full], lambda _: parity("a score changes", difference=difference))


def test_with_too_few_decisions_nothing_is_made_smaller(full: bytes) -> None:
    judge = Judge(9, decisions=99)
    (model,), served = smallest_that_holds([full], judge)
    assert (model, served.precision, len(judge.sizes)) == (full, FULL, 1)


def test_files_that_work_together_have_one_form(full: bytes) -> None:
    other = exported("distilbert")[2]
    models, served = smallest_that_holds([full, other], Judge(0))
    assert models == (quantised(full), quantised(other))
    assert served.bytes == sum(map(len, models))


class HasNoDownProjection(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.matrix = nn.Embedding(9, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.matrix(self.table(input_ids))


def test_a_form_that_is_no_other_than_the_one_before_is_not_tried() -> None:
    axes = {0: "batch", 1: "length"}
    example = {"input_ids": torch.tensor([[1, 2, 3], [4, 5, 6]])}
    model = export_onnx(HasNoDownProjection(), example, outputs=["states"], dynamic={"input_ids": axes, "states": axes})
    judge = Judge(2)
    _, served = smallest_that_holds([model], judge)
    assert (served.precision, len(judge.sizes), list(served.refused)) == (FULL, 3, ["int8", "int8_embeddings"])


def floats(model: bytes) -> set[tuple[int, ...]]:
    parsed = onnx.load_from_string(model)
    return {
        tuple(one.dims)
        for one in parsed.graph.initializer
        if one.data_type == onnx.TensorProto.FLOAT and len(one.dims) == 2
    }


def test_each_form_has_whole_numbers_where_it_says_so(full: bytes) -> None:
    up, down, square = (WIDTH, 2 * WIDTH), (2 * WIDTH, WIDTH), (WIDTH, WIDTH)
    assert {up, down, square} < floats(full)
    assert floats(quantised(full, "int8")) == set()
    assert floats(quantised(full, "int8_but_down_projections")) == {down}
    assert floats(quantised(full, "int8_embeddings")) == {up, down, square}


@pytest.mark.parametrize("form", EIGHT_BITS)
def test_an_eight_bit_form_says_about_the_same(full: bytes, form: str) -> None:
    batch = {key: value.numpy() for key, value in tiny_batch(4, 9, pad=0).items()}
    found, expected = (OnnxNetwork(model, threads=1).run(batch)["pooled"] for model in (quantised(full, form), full))
    cosines = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() > 0.99
    assert np.abs(found - expected).max() > 1e-5


def test_matrices_of_seven_bits_never_overflow_sixteen_bit_sums() -> None:
    small = onnx.load_from_string(quantised(exported("distilbert")[2]))
    weights = [onnx.numpy_helper.to_array(one) for one in small.graph.initializer if one.data_type == 3 and one.dims]
    matrices = [one for one in weights if one.ndim == 2 and one.shape[0] in {WIDTH, 2 * WIDTH}]
    assert matrices
    assert max(int(np.abs(one.astype(int)).max()) for one in matrices) <= 64
