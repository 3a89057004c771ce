"""The cross-encoder: a transformers classifier of one label over query and passage in one text.

This module imports torch when it is imported: import it inside functions only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch  # noqa: TID253 - nn.Module classes need it; this module is only ever imported inside functions
from torch import Tensor, nn  # noqa: TID253 - as above
from transformers import (  # noqa: TID253 - as above
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from mangaassist_assets.models.encoders.encoder import Encoder
from mangaassist_assets.models.encoders.pretrained import (
    BaseModelError,
    check_checkpoint,
    quiet_transformers,
    read_encoder,
)
from mangaassist_assets.models.encoders.tokens import length_batches
from mangaassist_assets.models.reranker.networks.pair_tokens import PairTokens
from mangaassist_assets.models.reranker.training_config import Network
from mangaassist_assets.training.objective import ParameterGroup

_HEAD_RATE_RATIO = 10.0
_WEIGHT_DECAY = 0.01
_TOKENS_PER_BATCH = 1024


class CrossNetwork(nn.Module):
    """Scores pairs of texts that are read together; its upper third learns, and the head."""

    kind: ClassVar[Network] = "cross-encoder"

    def __init__(self, model: PreTrainedModel, *, pad_id: int, fresh_head: bool) -> None:
        super().__init__()
        self.model = model
        base: Any = model.base_model  # a PreTrainedModel, which the library types as any module
        self.encoder = Encoder(base, pad_id=pad_id)
        self.fresh_head = fresh_head

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.model.device

    @property
    def reads_types(self) -> bool:
        """Whether it tells the two texts apart by token types."""
        return int(getattr(self.model.config, "type_vocab_size", 0) or 0) > 1

    @property
    def learning_layers(self) -> int:
        """How many upper layers learn: a third of them, for what lies below reads texts as it did before."""
        return max(1, self.encoder.layer_count // 3)

    def head(self) -> nn.Linear:
        """Return the matrix that the score comes out of."""
        own = {id(one) for one in self.model.base_model.modules()}
        found = [one for one in self.model.modules() if isinstance(one, nn.Linear) and id(one) not in own]
        return found[-1]

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Return one logit for each row, shape (batch,)."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        logits: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask, **types).logits
        return logits[:, 0]

    def parameter_groups(self, learning_rate: float) -> list[ParameterGroup]:
        """Return the layers of the upper third, and what comes after them at a rate of its own."""
        self.requires_grad_(requires_grad=False)
        layers = dict(self.encoder.parameters_from(self.encoder.layer_count - self.learning_layers))
        base = {id(one) for one in self.model.base_model.parameters()}
        pooler = getattr(self.model.base_model, "pooler", None)
        pooled = dict(pooler.named_parameters(prefix="pooler")) if pooler is not None else {}
        pooling = {id(one) for one in pooled.values()}
        layers = {f"layers.{name}": one for name, one in layers.items() if id(one) not in pooling}
        head: dict[str, Tensor] = {
            f"head.{name}": one for name, one in self.model.named_parameters() if id(one) not in base
        }
        head |= pooled
        groups = [
            ParameterGroup(parameters=layers, learning_rate=learning_rate, weight_decay=_WEIGHT_DECAY),
            ParameterGroup(
                parameters=head, learning_rate=learning_rate * (_HEAD_RATE_RATIO if self.fresh_head else 1.0)
            ),
        ]
        for group in groups:
            for parameter in group.parameters.values():
                parameter.requires_grad_()
        return groups

    def fold_calibration(self, scale: float, shift: float) -> None:
        """Make `scale * logit + shift` the logit."""
        head = self.head()
        with torch.no_grad():
            head.weight.mul_(scale)
            head.bias.mul_(scale).add_(shift)


class JointTexts:
    """Pairs as one network reads them, cut and numbered once."""

    def __init__(self, pairs: Sequence[tuple[str, str]], network: CrossNetwork, tokens: PairTokens) -> None:
        self.network = network
        distinct = sorted(set(pairs))
        self._places = {pair: place for place, pair in enumerate(distinct)}
        self._ids = tokens.encode(distinct)

    def logits(self, pairs: Sequence[tuple[str, str]]) -> Tensor:
        """Score pairs in batches of similar length, so that little is computed on padding; shape (len(pairs),)."""
        places = [self._places[pair] for pair in pairs]
        parts: list[Tensor] = []
        order: list[int] = []
        for batch in length_batches([len(self._ids[place][0]) for place in places], max_tokens=_TOKENS_PER_BATCH):
            order += batch
            arrays = PairTokens.padded(
                [self._ids[places[index]] for index in batch],
                pad=self.network.encoder.pad_id,
                types=self.network.reads_types,
            )
            tensors = {name: torch.from_numpy(value).to(self.network.device) for name, value in arrays.items()}
            parts.append(self.network(**tensors).float())
        back = torch.from_numpy(np.argsort(np.array(order, dtype=np.int64))).to(self.network.device)
        return torch.cat(parts)[back]


def read_cross_encoder(name: str, folder: Path) -> CrossNetwork:
    """Load a cross-encoder of one label, in the form that sentence-transformers and transformers share.

    Raises:
        BaseModelError: It is none, has another number of labels, is pickled, wants code of its own, or its tokenizer
            does not fit.
    """
    config = check_checkpoint(name, folder)
    labels = len(config["id2label"]) if isinstance(config.get("id2label"), dict) else int(config.get("num_labels", 2))
    architectures = config.get("architectures") or []
    if not any("ForSequenceClassification" in str(one) for one in architectures):
        raise BaseModelError(
            f"cross-encoder {name!r} is a {', '.join(map(str, architectures)) or config['model_type']}, which has no "
            "head that scores: name a sentence encoder as the base instead"
        )
    if labels != 1:
        raise BaseModelError(
            f"cross-encoder {name!r} gives {labels} labels: a reranker needs one score, as of "
            "cross-encoder/ms-marco-MiniLM-L6-v2"
        )
    pretrained = read_encoder(name, folder)  # checks weights and tokenizer, and names what is wrong with them
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        model, info = AutoModelForSequenceClassification.from_pretrained(
            folder,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    if info["missing_keys"] or info["mismatched_keys"]:
        raise BaseModelError(f"cross-encoder {name!r} lacks weights: {sorted(info['missing_keys'])[:3]}")
    return CrossNetwork(model, pad_id=pretrained.encoder.pad_id, fresh_head=False)


def fresh_cross_encoder(name: str, folder: Path, *, seed: int) -> CrossNetwork:
    """Put an untrained head on an encoder.

    Raises:
        BaseModelError: It is none, or transformers has no such head for it.
    """
    pretrained = read_encoder(name, folder)
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        config.num_labels = 1
        try:
            model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
        except ValueError as error:
            raise BaseModelError(f"transformers has no cross-encoder of a {config.model_type}: {error}") from error
        model.base_model.load_state_dict(pretrained.encoder.model.state_dict(), strict=False)
    return CrossNetwork(model, pad_id=pretrained.encoder.pad_id, fresh_head=True)
