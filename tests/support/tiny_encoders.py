"""Encoders of each architecture that the platform trains from, two layers small, with weights by chance."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel, PreTrainedTokenizerFast

from tests.support.intent_training import MESSAGES, OF_NO_INTENT, UNSEEN

VOCABULARY = 200
WIDTH = 32

_BERT = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": VOCABULARY,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "cls_token_id": 2,
    "sep_token_id": 3,
    # More than the usual 0.02: by that, texts would hardly differ.
    "initializer_range": 0.2,
}
_DEBERTA = {
    "relative_attention": True,
    "position_buckets": 16,
    "max_relative_positions": -1,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", _BERT),
    "distilbert": (
        "distilbert",
        {
            "dim": WIDTH,
            "n_layers": 2,
            "n_heads": 2,
            "hidden_dim": 64,
            "vocab_size": VOCABULARY,
            "initializer_range": 0.2,
        },
    ),
    "roberta": ("roberta", {**_BERT, "pad_token_id": 1}),
    "xlm-roberta": ("xlm-roberta", {**_BERT, "pad_token_id": 1}),
    "mpnet": ("mpnet", {**_BERT, "pad_token_id": 1}),
    "deberta-v3": ("deberta-v2", {**_BERT, **_DEBERTA}),
    "deberta-v2 with convolution": (
        "deberta-v2",
        {**_BERT, **_DEBERTA, "conv_kernel_size": 3, "conv_act": "gelu"},
    ),
    "modernbert": (
        "modernbert",
        {**_BERT, "pad_token_id": 0, "local_attention": 8, "global_attn_every_n_layers": 2},
    ),
    "albert": ("albert", {**_BERT, "embedding_size": 16}),
    "electra": ("electra", {**_BERT, "embedding_size": 16}),
}


def tiny_encoder(name: str) -> PreTrainedModel:
    """Return an encoder of an architecture, for training; equal weights each time."""
    model_type, settings = ARCHITECTURES[name]
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return AutoModel.from_config(AutoConfig.for_model(model_type, **settings))


def tiny_tokenizer(pad: int) -> Tokenizer:
    """Return a tokenizer of the words that invented messages have, with BERT's marks around a text."""
    special = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
    special[0], special[pad] = special[pad], special[0]
    words = sorted({word.strip("?,.") for text in _texts() for word in text.lower().split()})
    names = [*special, *words][:VOCABULARY]
    tokenizer = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("</s>", 3), ("<s>", 2))
    tokenizer.add_special_tokens(special)
    return tokenizer


def write_tiny_base(folder: Path, name: str) -> Path:
    """Write an encoder of an architecture as transformers writes it, with a tokenizer that fits."""
    model = tiny_encoder(name)
    model.save_pretrained(folder)
    pad = model.config.pad_token_id or 0
    PreTrainedTokenizerFast(
        tokenizer_object=tiny_tokenizer(pad), pad_token="<pad>", unk_token="<unk>", cls_token="<s>", sep_token="</s>"
    ).save_pretrained(folder)
    return folder


def _texts() -> Sequence[str]:
    return [text for texts in MESSAGES.values() for text in texts] + [*UNSEEN, *OF_NO_INTENT]


class MeanPooled(nn.Module):
    """An encoder whose last states are averaged over a text's tokens."""

    def __init__(self, encoder: PreTrainedModel) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask.unsqueeze(-1).to(states.dtype)
        return (states * weights).sum(dim=1) / weights.sum(dim=1)


def tiny_batch(rows: int, length: int, *, pad: int, seed: int = 0) -> dict[str, Tensor]:
    """Return token numbers and mask; the first row is whole, the others are padded by chance, the last one for sure."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, VOCABULARY, (rows, length), generator=generator)
    mask = torch.ones_like(ids)
    for row in range(1, rows):
        mask[row, int(torch.randint(1, max(2, length), (1,), generator=generator)) :] = 0
    return {"input_ids": torch.where(mask.bool(), ids, torch.tensor(pad)), "attention_mask": mask}
