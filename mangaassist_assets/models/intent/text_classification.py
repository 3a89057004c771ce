"""The classifier in the form of transformers' text-classification: a folder that its pipeline answers from alike.

Those models read the first token's last state; this classifier reads the mean of all. What carries the mean to the
first place is one more layer of the encoder's own kind, see `encoders.pooling`. The head of transformers has a
nonlinearity between two matrices: the first one moves the features to where that does nothing, far above zero (ReLU,
GELU) or close to it (tanh). The temperature is a factor of the second one.

What was written is compared with what was meant, text by text, before it is sealed.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.models.encoders.encoder import Encoder
from mangaassist_assets.models.encoders.pooling import Pooling, make_pooling
from mangaassist_assets.models.encoders.pretrained import (
    PretrainedEncoder,
    check_checkpoint,
    padded,
    quiet_transformers,
    read_encoder,
)
from mangaassist_assets.models.encoders.tokens import TOKENIZER_FILE
from mangaassist_assets.models.intent.heads import LinearHead

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor, nn
    from transformers import PreTrainedModel

Transfer = Literal["above_zero", "near_zero"]

_ABOVE_ZERO = 32.0
_NEAR_ZERO = 2.0**-13
_SAME_LOGITS = 2e-3
_TOKENIZER_CONFIG = "tokenizer_config.json"


class UnsupportedHeadError(ValueError):
    """An encoder's text-classification form cannot carry this classifier; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderForm:
    """How the classifier lies in the folder, for whoever takes it out again.

    Attributes:
        pooling: How the first token's state comes by what the features are made of.
        transfer: How features pass the head's nonlinearity.
        temperature: What the logits were divided by.
    """

    pooling: Pooling
    transfer: Transfer
    temperature: float


def write_text_classification(
    folder: Path,
    pretrained: PretrainedEncoder,
    head: LinearHead,
    *,
    labels: Sequence[str],
    temperature: float,
    max_tokens: int,
    examples: Sequence[Sequence[int]],
) -> FolderForm:
    """Write config.json, model.safetensors and the tokenizer's files into an empty folder.

    Args:
        folder: Where to.
        pretrained: The encoder with its tokenizer.
        head: Reads features as `fine_tuning.pooled_features` makes them.
        labels: Of the head's rows.
        temperature: Divides the logits.
        max_tokens: What the tokenizer says is the longest text; a pipeline cuts there if it is asked to cut.
        examples: Token ids of a few texts, by which it is seen that the form says what was meant.

    Raises:
        UnsupportedHeadError: transformers has no such form of this encoder, or it says something else.
    """
    import torch

    encoder = pretrained.encoder
    wanted = _meant_logits(encoder, head, examples) / temperature
    misses: list[str] = []
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        model = _text_classification_model(encoder, labels)
        for transfer in ("above_zero", "near_zero"):
            _set_head(model, head, transfer=transfer, temperature=temperature)
            miss = float(np.abs(_said_logits(model, encoder, examples) - wanted).max())
            if miss <= _SAME_LOGITS:
                model.save_pretrained(folder)
                write_tokenizer(folder, pretrained.tokenizer, pad_id=encoder.pad_id, max_tokens=max_tokens)
                return FolderForm(pooling=encoder.pooling, transfer=transfer, temperature=temperature)
            misses.append(f"{miss:.3g}")
    raise UnsupportedHeadError(
        f"the text-classification form of {encoder.model.config.model_type} does not say what the classifier says: its "
        f"logits are off by {' or '.join(misses)}"
    )


def read_text_classification(
    name: str, folder: Path, form: FolderForm, *, labels: int
) -> tuple[PretrainedEncoder, LinearHead]:
    """Return encoder and head of a written classifier, for another training.

    Raises:
        BaseModelError: The folder cannot be read.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    check_checkpoint(name, folder)
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, trust_remote_code=False, use_safetensors=True, local_files_only=True, dtype=torch.float32
        )
    _, last = _head_parts(model, labels)
    weight, bias = last.weight.detach().double(), last.bias.detach().double()
    if form.transfer == "near_zero":
        weight = weight * _NEAR_ZERO
    elif form.pooling != "own_mean":
        bias = bias + _ABOVE_ZERO * weight.sum(dim=1)
    weight = weight * form.temperature * math.sqrt(weight.shape[1])
    head = LinearHead(weight.float().numpy(), (bias * form.temperature).float().numpy())
    return read_encoder(name, folder, pooling_layer=form.pooling == "layer"), head


def write_tokenizer(folder: Path, tokenizer: Tokenizer, *, pad_id: int, max_tokens: int) -> None:
    """Write a tokenizer so that transformers loads it whatever its kind."""
    (folder / TOKENIZER_FILE).write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_tokens,
        "pad_token": tokenizer.id_to_token(pad_id),
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    for role, names in (
        ("unk_token", ("[UNK]", "<unk>")),
        ("cls_token", ("[CLS]", "<s>")),
        ("sep_token", ("[SEP]", "</s>")),
        ("mask_token", ("[MASK]", "<mask>")),
    ):
        found = next((one for one in names if tokenizer.token_to_id(one) is not None), None)
        if found is not None:
            config[role] = found
    text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False)
    (folder / _TOKENIZER_CONFIG).write_text(text + "\n", encoding="utf-8")


def _text_classification_model(encoder: Encoder, labels: Sequence[str]) -> PreTrainedModel:
    """Return a model of the encoder's kind with the encoder's weights, the layer that pools, and an untrained head."""
    from transformers import AutoModelForSequenceClassification

    config = copy.deepcopy(encoder.model.config)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    config.problem_type = "single_label_classification"
    if encoder.pooling == "own_mean":
        config.classifier_pooling, config.classifier_bias = "mean", True
    elif encoder.pooling == "layer":
        config.num_hidden_layers = encoder.layer_count + 1
    try:
        model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise UnsupportedHeadError(
            f"transformers has no text-classification form of {config.model_type}: take another base"
        ) from error
    model.base_model.load_state_dict(encoder.model.state_dict(), strict=False)
    if encoder.pooling == "layer":
        make_pooling(list(model.base_model.get_submodule(str(encoder.layers_name)).children())[-1])
    model.eval()  # type: ignore[no-untyped-call]
    return model


def _set_head(model: PreTrainedModel, head: LinearHead, *, transfer: Transfer, temperature: float) -> None:
    import torch

    first, last = _head_parts(model, len(head.bias))
    weight = torch.from_numpy(head.weight).double() / (temperature * math.sqrt(head.weight.shape[1]))
    bias = torch.from_numpy(head.bias).double() / temperature
    with torch.no_grad():
        first.weight.zero_()
        if transfer == "near_zero":
            first.weight.fill_diagonal_(_NEAR_ZERO)
            first.bias.zero_()
            last.weight.copy_(weight / _NEAR_ZERO)
            last.bias.copy_(bias)
        else:
            first.weight.fill_diagonal_(1.0)
            first.bias.fill_(_ABOVE_ZERO)
            last.weight.copy_(weight)
            # ModernBERT normalises between the two, which takes the shift away again.
            shift = 0.0 if hasattr(model.config, "classifier_pooling") else _ABOVE_ZERO
            last.bias.copy_(bias - shift * weight.sum(dim=1))


def _head_parts(model: PreTrainedModel, labels: int) -> tuple[nn.Linear, nn.Linear]:
    """Return the two matrices of a text-classification head: from states to states, and from states to labels."""
    from torch import nn

    base = model.base_model
    pooler = getattr(base, "pooler", None)
    own = {id(one) for one in base.modules()} - {id(one) for one in (pooler.modules() if pooler is not None else ())}
    linear = [one for one in model.modules() if isinstance(one, nn.Linear) and id(one) not in own]
    dim = int(model.config.hidden_size)
    first = [one for one in linear if (one.in_features, one.out_features) == (dim, dim)]
    last = [one for one in linear if (one.in_features, one.out_features) == (dim, labels) and one not in first[:1]]
    if len(first) < 1 or len(last) < 1 or first[0].bias is None or last[-1].bias is None:
        raise UnsupportedHeadError(f"the head of {type(model).__name__} is of a form that is not known")
    return first[0], last[-1]


def _meant_logits(encoder: Encoder, head: LinearHead, examples: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    import torch

    ids, mask = padded(examples, encoder)
    with torch.no_grad():
        return head.logits(encoder.features(encoder(ids, mask), mask).numpy())


def _said_logits(model: PreTrainedModel, encoder: Encoder, examples: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    import torch

    ids, mask = padded(examples, encoder)
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids, attention_mask=mask.long()).logits
    values: NDArray[np.float32] = logits.float().numpy()
    return values
