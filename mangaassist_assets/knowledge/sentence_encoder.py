"""A BERT sentence encoder in plain torch: mean pooling, vectors of length one.

It gives the hidden states of transformers' `BertModel` (a test compares them) without importing transformers, which
takes several times as long as everything else together, in every process that embeds one message.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mangaassist_assets.knowledge.errors import EmbeddingError
from mangaassist_assets.knowledge.text import clean_text
from mangaassist_assets.knowledge.types import Vectors

if TYPE_CHECKING:
    from tokenizers import Encoding
    from torch import Tensor

# No text needs more characters for its first 256 tokens, unless it is no language; tokenizing the rest would be waste.
_MAX_CHARACTERS = 8_192
# A batch's padded tokens: enough to keep two cores busy, little enough for their caches.
_TOKENS_PER_BATCH = 4_096
# An empty text has no vector of its own; all of them get this one's.
_BLANK = "-"
_REQUIRED = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}


class SentenceEncoder:
    """A sentence-transformers folder of a BERT with mean pooling, such as all-MiniLM-L6-v2, as an `Embedder`.

    Thread-safe. Texts are cut to `max_tokens` tokens; control characters and lone surrogates are dropped; a blank
    text is embedded as a dash.
    """

    def __init__(self, folder: Path, *, model_id: str | None = None, max_tokens: int = 256) -> None:
        """Load the model of a folder.

        Args:
            folder: With `config.json`, `model.safetensors` and `tokenizer.json`.
            model_id: Its name; by default the folder's name and the start of the SHA-256 of its weights.
            max_tokens: Where texts are cut, special tokens included.

        Raises:
            EmbeddingError: If the folder holds no such model.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        try:
            config = json.loads((folder / "config.json").read_text("utf-8"))
            pooling_file = folder / "1_Pooling" / "config.json"
            pooling = json.loads(pooling_file.read_text("utf-8")) if pooling_file.exists() else {}
            weights = load_file(folder / "model.safetensors")
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except (OSError, ValueError, SafetensorError) as error:
            raise EmbeddingError(f"cannot load the sentence encoder in {folder}: {error}") from error
        _check_architecture(folder, config, pooling)
        self._model_id = model_id or f"{folder.name}@{_digest(folder / 'model.safetensors')[:12]}"
        self._dimension = int(config["hidden_size"])
        self._layers = int(config["num_hidden_layers"])
        self._heads = int(config["num_attention_heads"])
        self._epsilon = float(config["layer_norm_eps"])
        self._pad = int(config.get("pad_token_id") or 0)
        self._max_tokens = min(max_tokens, int(config["max_position_embeddings"]))
        self._weights = {name.removeprefix("bert."): tensor.float() for name, tensor in weights.items()}
        # The packaged tokenizer pads and cuts to 128 by itself.
        tokenizer.no_padding()
        tokenizer.enable_truncation(self._max_tokens)
        self._tokenizer = tokenizer

    @property
    def model_id(self) -> str:
        """The name that goes into traces and index generations."""
        return self._model_id

    @property
    def dimension(self) -> int:
        """Length of one vector."""
        return self._dimension

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return float32 of shape (len(texts), dimension), each row of length one."""
        import torch

        result = np.empty((len(texts), self._dimension), dtype=np.float32)
        encodings = self._tokenizer.encode_batch_fast([_prepared(text) for text in texts])
        order = sorted(range(len(texts)), key=lambda row: len(encodings[row].ids))
        with torch.inference_mode():
            while order:
                longest = len(encodings[order[-1]].ids)
                size = max(1, _TOKENS_PER_BATCH // longest)
                rows, order = order[-size:], order[:-size]
                result[rows] = self._encode([encodings[row] for row in rows], longest).numpy()
        return result

    def _encode(self, encodings: Sequence[Encoding], longest: int) -> Tensor:
        """Return the vectors, shape (len(encodings), dimension), of texts of at most `longest` tokens."""
        import torch
        from torch.nn.functional import normalize

        ids = torch.full((len(encodings), longest), self._pad)
        lengths = torch.tensor([len(encoding.ids) for encoding in encodings])
        for row, encoding in enumerate(encodings):
            ids[row, : lengths[row]] = torch.tensor(encoding.ids)
        mask = torch.arange(longest) < lengths[:, None]
        # Without padding the attention kernel needs no mask and is quicker: the case of the single message.
        hidden = self.hidden_states(ids, None if bool(mask.all()) else mask)
        pooled = (hidden * mask[..., None]).sum(dim=1) / lengths[:, None]
        return normalize(pooled, dim=1)

    def hidden_states(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """Return the last hidden states, shape (batch, tokens, dimension), of token ids of shape (batch, tokens).

        `mask` is True at tokens and False at padding; None where there is no padding.
        """
        from torch.nn.functional import embedding, gelu, scaled_dot_product_attention

        batch, tokens = ids.shape
        hidden = embedding(ids, self._weights["embeddings.word_embeddings.weight"])
        hidden = hidden + self._weights["embeddings.token_type_embeddings.weight"][0]
        hidden = hidden + self._weights["embeddings.position_embeddings.weight"][:tokens]
        hidden = self._norm(hidden, "embeddings.LayerNorm")
        attention_mask = None if mask is None else mask[:, None, None, :]
        shape = (batch, tokens, self._heads, self._dimension // self._heads)
        for layer in range(self._layers):
            name = f"encoder.layer.{layer}"
            query, key, value = (
                self._linear(hidden, f"{name}.attention.self.{part}").view(shape).transpose(1, 2)
                for part in ("query", "key", "value")
            )
            context = scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)
            context = context.transpose(1, 2).reshape(batch, tokens, self._dimension)
            attended = self._linear(context, f"{name}.attention.output.dense")
            hidden = self._norm(attended + hidden, f"{name}.attention.output.LayerNorm")
            inner = gelu(self._linear(hidden, f"{name}.intermediate.dense"))
            hidden = self._norm(self._linear(inner, f"{name}.output.dense") + hidden, f"{name}.output.LayerNorm")
        return hidden

    def _linear(self, values: Tensor, name: str) -> Tensor:
        from torch.nn.functional import linear

        return linear(values, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, values: Tensor, name: str) -> Tensor:
        from torch.nn.functional import layer_norm

        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return layer_norm(values, (self._dimension,), weight, bias, self._epsilon)


def _prepared(text: str) -> str:
    return clean_text(text[:_MAX_CHARACTERS]).strip() or _BLANK


def _check_architecture(folder: Path, config: Mapping[str, Any], pooling: Mapping[str, Any]) -> None:
    wrong = [
        f"{key} is {config.get(key, expected)!r}, not {expected!r}"
        for key, expected in _REQUIRED.items()
        if config.get(key, expected) != expected
    ]
    if not pooling.get("pooling_mode_mean_tokens", True):
        wrong.append("its pooling is not the mean of the tokens")
    if wrong:
        raise EmbeddingError(f"{folder} is no BERT sentence encoder with mean pooling: {'; '.join(wrong)}")


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
