"""From a sentence-transformers folder to the ONNX file that embeds: transformer, pooling and whatever follows it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mangaassist_assets.models.encoders import PACKAGED_E5, PACKAGED_MINILM
from mangaassist_assets.models.encoders.tokens import TOKENIZER_FILE

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor, nn

SETTINGS_FILE = "settings.json"
_RECIPE = 2
_MODULES_FILE = "modules.json"
_CLASSES = ("Transformer", "Pooling", "Normalize", "Dense", "LayerNorm")
# What any shop's shoppers and others write, in its two languages: their mean is where a model puts all texts.
_COMMON_TEXTS = (
    "Hello.",
    "Thank you very much.",
    "Where is my order?",
    "I would like to change something.",
    "Can you tell me more about this?",
    "It does not work.",
    "When will it be available again?",
    "How much does it cost?",
    "I have a question about my account.",
    "Please send it to another address.",
    "That is not what I asked for.",
    "Which one do you recommend?",
    "I want my money back.",
    "The weather is nice today.",
    "She read the book in one evening.",
    "We open at nine in the morning.",
    "There are three new volumes this month.",
    "Is it possible to pay later?",
    "He could not find the page.",
    "Everything arrived safely.",
    "こんにちは。",
    "ありがとうございます。",
    "注文はどこにありますか。",
    "変更したいことがあります。",
    "もう少し詳しく教えてください。",
    "うまく動きません。",
    "いつ再入荷しますか。",
    "いくらですか。",
    "アカウントについて質問があります。",
    "別の住所に送ってください。",
    "聞きたいのはそれではありません。",
    "どれがおすすめですか。",
    "返金してほしいです。",
    "今日はいい天気です。",
    "彼女はその本を一晩で読みました。",
    "朝九時に開店します。",
    "今月は新刊が三冊あります。",
    "後払いはできますか。",
    "ページが見つかりませんでした。",
    "全部無事に届きました。",
)
# Above this mean cosine of unlike texts, cosines say little before the mean is taken away.
_CROWDED = 0.5
_DECIDES = (".json", ".safetensors", ".txt", ".model")


@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceSource:
    """A sentence encoder before it is exported.

    `digest` is of all files that decide its vectors, `model_id` what goes into traces and index generations; `folder`
    is None for a packaged one, whose folder is looked at only if it is to be exported.
    """

    name: str
    model: str
    model_id: str
    digest: str
    folder: Path | None


def sentence_source(model: str) -> SentenceSource:
    """Return what a name stands for.

    Raises:
        BaseModelError: There is no such model.
    """
    from mangaassist_assets.models.encoders.packaged_e5 import PACKAGED_E5_SOURCE
    from mangaassist_assets.models.encoders.pretrained import PACKAGED_MINILM_SHA256, base_folder

    packaged = {
        PACKAGED_MINILM: ("all-MiniLM-L6-v2", PACKAGED_MINILM_SHA256),
        PACKAGED_E5: ("multilingual-e5-small", PACKAGED_E5_SOURCE),
    }
    if model in packaged:
        name, source = packaged[model]
        digest = _digest({"recipe": _RECIPE, "source": source})
        # MiniLM has no prompts and one published form: its name says it all.
        model_id = name if model == PACKAGED_MINILM else f"{name}@{digest[:12]}"
        return SentenceSource(name=name, model=model, model_id=model_id, digest=digest, folder=None)
    folder = base_folder(model)
    digest = _digest({"recipe": _RECIPE, "files": _hashes(folder)})
    name = Path(model).name
    return SentenceSource(name=name, model=model, model_id=f"{name}@{digest[:12]}", digest=digest, folder=folder)


def export_sentence_encoder(source: SentenceSource, output: Path) -> None:
    """Write model.onnx, tokenizer.json and settings.json into an empty folder.

    Raises:
        BaseModelError: The folder holds no sentence encoder, or one with code of its own.
        ExportError: It has no ONNX form.
    """
    import torch

    from mangaassist_assets.models.encoders.pretrained import base_folder, check_checkpoint, tokenizer_of
    from mangaassist_assets.models.encoders.tokens import pad_id, pad_ids, tokenize
    from mangaassist_assets.models.onnx_export import export_onnx

    folder = source.folder or base_folder(source.model)
    check_checkpoint(source.model, folder)
    _check_modules(source.model, folder)
    model = _load(source.model, folder)
    tokenizer = tokenizer_of(source.model, folder)
    pad = pad_id(tokenizer)
    ids, mask = pad_ids(
        tokenize(tokenizer, ["where is the third volume of my order", "thanks"], max_tokens=64), pad=pad
    )
    exported = export_onnx(
        _by_tensors(model),
        {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask.astype("int64"))},
        outputs=("sentence_embedding",),
        dynamic={
            "input_ids": {0: "batch", 1: "length"},
            "attention_mask": {0: "batch", 1: "length"},
            "sentence_embedding": {0: "batch"},
        },
    )
    (output / "model.onnx").write_bytes(exported)
    (output / TOKENIZER_FILE).write_text(tokenizer.to_str(), encoding="utf-8")
    settings = {
        "dimension": model.get_embedding_dimension(),
        "max_tokens": model.max_seq_length,
        "pad_id": pad,
        "centre": _centre(model),
        "prompts": _prompts(model),
    }
    (output / SETTINGS_FILE).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _load(name: str, folder: Path) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    from mangaassist_assets.models.encoders.pretrained import named_errors, quiet_transformers

    with quiet_transformers(), named_errors(name, folder):
        return SentenceTransformer(
            str(folder),
            device="cpu",
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True},
        ).eval()


def _by_tensors(model: SentenceTransformer) -> nn.Module:
    import torch

    class ByTensors(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            features: Mapping[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
            for module in self.model:
                features = module(features)
            return features["sentence_embedding"]  # type: ignore[no-any-return]

    return ByTensors()


def _prompts(model: SentenceTransformer) -> dict[str, str]:
    """Return what is put before a query and before a passage, by sentence-transformers' names for both."""
    known = {name: text or "" for name, text in (model.prompts or {}).items()}
    default = known.get(str(model.default_prompt_name), "")
    return {
        "query": known.get("query") or default,
        "passage": known.get("document") or known.get("passage") or default,
    }


def _centre(model: SentenceTransformer) -> list[float] | None:
    """Return the mean of vectors of common texts where these are all alike (e5: 0.8), None where they are not."""
    import numpy as np

    vectors = np.asarray(
        model.encode(
            list(_COMMON_TEXTS), prompt=_prompts(model)["query"], normalize_embeddings=True, show_progress_bar=False
        )
    )
    cosines = (vectors @ vectors.T)[~np.eye(len(vectors), dtype=bool)]
    return vectors.mean(axis=0).tolist() if cosines.mean() > _CROWDED else None


def _check_modules(name: str, folder: Path) -> None:
    """Refuse modules of other packages, and weights of modules that are pickled."""
    from mangaassist_assets.models.encoders.pretrained import BaseModelError

    file = folder / _MODULES_FILE
    if not file.is_file():
        return
    try:
        modules = json.loads(file.read_text(encoding="utf-8"))
        found = [(str(one["type"]), str(one.get("path") or "")) for one in modules]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BaseModelError(f"{file} is no list of modules as sentence-transformers writes it: {error}") from error
    for kind, path in found:
        package, _, class_name = kind.rpartition(".")
        if not package.startswith("sentence_transformers.") or class_name not in _CLASSES:
            raise BaseModelError(f"sentence encoder {name!r} has a module of type {kind!r}, which is never run")
        inside = (folder / path).resolve()
        if not inside.is_relative_to(folder.resolve()):
            raise BaseModelError(f"sentence encoder {name!r} has a module outside of its folder: {path!r}")
        if (inside / "pytorch_model.bin").exists() and not (inside / "model.safetensors").exists():
            raise BaseModelError(
                f"sentence encoder {name!r}: {path}/pytorch_model.bin may run code when it is read: convert it to "
                "safetensors"
            )


def _hashes(folder: Path) -> dict[str, str]:
    hashes = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in _DECIDES and path.is_file():
            with path.open("rb") as file:
                hashes[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
