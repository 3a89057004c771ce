"""A sentence-transformers folder of a BERT with mean pooling, such as all-MiniLM-L6-v2, as an `Embedder`.

The network is the one that learning trains from, so there is one forward pass in this repository, and a test holds it
against transformers' own.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mangaassist_assets.retrieval.documents.text import clean_text
from mangaassist_assets.retrieval.errors import EmbeddingError
from mangaassist_assets.retrieval.types import Vectors

# No text needs more characters for its first 256 tokens, unless it is no language; tokenizing the rest would be waste.
_MAX_CHARACTERS = 8_192
# An empty text has no vector of its own; all of them get this one's.
_BLANK = "-"


class SentenceEncoder:
    """Thread-safe. Texts are cut to `max_tokens` tokens; control characters are dropped; a blank text is a dash."""

    def __init__(self, folder: Path, *, model_id: str | None = None, max_tokens: int = 256) -> None:
        """Load the model of a folder.

        Raises:
            EmbeddingError: If the folder holds no such model.
        """
        from safetensors import SafetensorError

        from mangaassist_assets.models.encoders.pretrained import BaseModelError, load_base

        try:
            _check_pooling(folder)
            pretrained = load_base(str(folder))
            weights_digest = _digest(folder / "model.safetensors")
        except (OSError, ValueError, SafetensorError, BaseModelError) as error:
            raise EmbeddingError(f"cannot load the sentence encoder in {folder}: {error}") from error
        self._encoder = pretrained.encoder
        self._tokenizer = pretrained.tokenizer
        self._model_id = model_id or f"{folder.name}@{weights_digest[:12]}"
        self._max_tokens = min(max_tokens, self._encoder.shape.max_position_embeddings)
        self._lock = threading.Lock()

    @property
    def model_id(self) -> str:
        """The name that goes into traces and index generations."""
        return self._model_id

    @property
    def dimension(self) -> int:
        """Length of one vector."""
        return self._encoder.shape.dim

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return float32 of shape (len(texts), dimension), each row of length one."""
        from mangaassist_assets.models.encoders.pretrained import sentence_features, tokenize

        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        sequences = tokenize(self._tokenizer, [_prepared(text) for text in texts], max_tokens=self._max_tokens)
        with self._lock:
            features = sentence_features(self._encoder, sequences)
        unit: Vectors = features / np.linalg.norm(features, axis=1, keepdims=True)
        return unit


def _prepared(text: str) -> str:
    return clean_text(text[:_MAX_CHARACTERS]).strip() or _BLANK


def _check_pooling(folder: Path) -> None:
    pooling_file = folder / "1_Pooling" / "config.json"
    pooling = json.loads(pooling_file.read_text("utf-8")) if pooling_file.exists() else {}
    if not pooling.get("pooling_mode_mean_tokens", True):
        raise EmbeddingError(f"{folder} is no sentence encoder with mean pooling, which is the only one supported")


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
