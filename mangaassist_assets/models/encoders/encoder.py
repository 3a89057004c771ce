"""A transformers encoder whose layers can be run in parts, so that frozen lower ones are computed once per text.

The layers are the library's. Lower and upper part are shallow copies of the model: the copies of the modules on the way
to the layers are new, all others, and every weight, are the model's own. Whether an architecture can be cut like that
is found out by trying: both parts in a row must say what the whole says. BERT, DistilBERT, RoBERTa, XLM-R, MPNet,
DeBERTa and ModernBERT can; of another one that cannot, all layers are run each time.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mangaassist_assets.models.encoders.pooling import NoPoolingLayerError, Pooling, make_pooling, normalised_mean

if TYPE_CHECKING:
    from torch import Tensor, device, nn
    from transformers import PreTrainedModel

_SAME_STATES = 1e-4
_PROBE_IDS = (5, 9, 6, 8, 7)


class Encoder:
    """An encoder without a head, in evaluation mode.

    Attributes:
        model: The transformers model; its weights are shared with both parts.
        dim: Length of a hidden state.
        layer_count: Number of layers.
        vocab_size: Number of token embeddings.
        pad_id: What fills up a batch; RoBERTa counts its positions by it.
        max_tokens: The longest text it can read, special tokens included.
        layers_name: Where the model has the list of its layers; None where that is not found.
        splits: Whether lower and upper layers can be run apart.
        pooling: What a classifier's features are made of.
    """

    def __init__(self, model: PreTrainedModel, *, pad_id: int) -> None:
        self.model = model
        self.pad_id = pad_id
        config = model.config
        self.dim = int(config.hidden_size)
        self.layer_count = int(config.num_hidden_layers)
        self.vocab_size = int(model.get_input_embeddings().weight.shape[0])  # type: ignore[index]
        self.max_tokens = _longest(model)
        self.layers_name = _layers_name(model, self.layer_count)
        self._parts: dict[int, tuple[nn.Module, nn.Module]] = {}
        model.eval()  # type: ignore[no-untyped-call]
        self.splits = self.layers_name is not None and self._says_the_same_in_parts()
        self.pooling: Pooling = self._found_pooling()

    @property
    def device(self) -> device:
        """Where the weights are."""
        return self.model.device

    @property
    def training(self) -> bool:
        """Whether dropout is on."""
        return self.model.training

    def to(self, device: str) -> Encoder:
        """Move the weights."""
        self.model.to(device)  # type: ignore[arg-type]
        return self

    def train(self, *, training: bool) -> None:
        """Switch dropout, in the whole and in both parts."""
        self.model.train(training)
        for parts in self._parts.values():
            for part in parts:
                part.train(training)

    def __call__(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """Return the last hidden states, shape (batch, length, dim), of ids (batch, length); no mask, no padding."""
        return self.model(input_ids=ids, attention_mask=_as_numbers(mask)).last_hidden_state  # type: ignore[no-any-return]

    def features(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Return a classifier's features of last hidden states (batch, length, dim): float32 of shape (batch, dim).

        Of length one where they are a mean, about so where they are the first token's state.
        """
        pooled = hidden[:, 0].float() if self.pooling == "first" else normalised_mean(hidden, mask)
        return pooled / math.sqrt(self.dim)

    def lower(self, ids: Tensor, mask: Tensor | None, *, layers: int) -> Tensor:
        """Return the states after the first `layers` layers, at least one; needs `splits`."""
        part, _ = self._part(layers)
        return part(input_ids=ids, attention_mask=_as_numbers(mask)).last_hidden_state  # type: ignore[no-any-return]

    def upper(self, states: Tensor, mask: Tensor | None, *, layers: int) -> Tensor:
        """Return the last hidden states of what `lower` returned; needs `splits`.

        `mask` is boolean of shape (batch, length), or float of shape (batch, heads or 1, length, length), added to the
        attention's logits; not every architecture takes that.
        """
        _, part = self._part(layers)
        return part(inputs_embeds=states, attention_mask=_as_numbers(mask)).last_hidden_state  # type: ignore[no-any-return]

    def layers(self) -> Sequence[nn.Module]:
        """Return the layers from the bottom; none where they are not found."""
        return list(self.model.get_submodule(self.layers_name).children()) if self.layers_name else []

    def parameters_from(self, layer: int) -> dict[str, nn.Parameter]:
        """Return the parameters of the layers from a number on, and of what follows them, by the model's names.

        Without `splits` all of them but the embeddings.
        """
        below = {id(one) for block in self.layers()[:layer] for one in block.parameters()}
        below |= {id(one) for one in self.embeddings().parameters()}
        return {name: one for name, one in self.model.named_parameters() if id(one) not in below}

    def embeddings(self) -> nn.Module:
        """Return the module below the first layer."""
        found: nn.Module = getattr(self.model, "embeddings", None) or self.model.get_input_embeddings()
        return found

    def _found_pooling(self) -> Pooling:
        """Try whether one more layer can put the mean of all tokens into the first place."""
        import torch

        if hasattr(self.model.config, "classifier_pooling"):
            return "own_mean"
        if not self.splits:
            return "first"
        generator = torch.Generator().manual_seed(0)
        states = torch.randn(2, len(_PROBE_IDS), self.dim, generator=generator).to(self.device)
        mask = torch.ones(states.shape[:2], dtype=torch.bool, device=self.device)
        mask[1, 2:] = False
        layer = copy.deepcopy(self.layers()[-1])
        try:
            make_pooling(layer)
        except NoPoolingLayerError:
            return "first"
        part = self._over_states([layer])
        with torch.no_grad():
            said = part(inputs_embeds=states, attention_mask=_as_numbers(mask)).last_hidden_state[:, 0]
        miss = (said - normalised_mean(states, mask)).abs().max()
        return "layer" if bool(miss <= _SAME_STATES) else "first"

    def _part(self, layers: int) -> tuple[nn.Module, nn.Module]:
        if layers not in self._parts:
            self._parts[layers] = self._cut(layers)
        return self._parts[layers]

    def _cut(self, layers: int) -> tuple[nn.Module, nn.Module]:
        from torch import nn

        if self.layers_name is None:
            raise ValueError(f"the layers of a {self.model.config.model_type} cannot be run apart")
        blocks = self.layers()
        lower = _replaced(self.model, self.layers_name, nn.ModuleList(blocks[:layers]))
        if hasattr(lower, "final_norm"):
            lower = _replaced(lower, "final_norm", nn.Identity())
        return lower, self._over_states(blocks[layers:])

    def _over_states(self, layers: Sequence[nn.Module]) -> nn.Module:
        """Return the model with some layers and without embeddings: it is given states instead."""
        from torch import nn

        above = _replaced(self.model, str(self.layers_name), nn.ModuleList(layers))
        return _replaced(above, "embeddings", _given_states())

    def reads_both_ways(self) -> bool:
        """Whether the first token's state depends on the last one: a decoder's does not."""
        import torch

        size = min(len(_PROBE_IDS), self.max_tokens)
        ids = torch.tensor([_PROBE_IDS[:size]] * 2, device=self.device) % self.vocab_size
        ids[1, -1] = (ids[1, -1] + 1) % self.vocab_size
        with torch.no_grad():
            first, other = self(ids, None)[:, 0]
        return not torch.equal(first, other)

    def _says_the_same_in_parts(self) -> bool:
        """Whether lower and upper layers in a row give the whole's states, with padding and without."""
        import torch

        if not hasattr(self.model, "embeddings"):
            return False
        size = min(len(_PROBE_IDS), self.max_tokens)
        rows = [[one % self.vocab_size for one in _PROBE_IDS[:size]], [1 + self.pad_id] * (size - 1) + [self.pad_id]]
        ids = torch.tensor(rows, device=self.device) % self.vocab_size
        mask = torch.tensor([[True] * size, [True] * (size - 1) + [False]], device=self.device)
        try:
            with torch.no_grad():
                whole = self(ids, mask)[mask]
                for layers in {1, max(1, self.layer_count // 2)}:
                    apart = self.upper(self.lower(ids, mask, layers=layers), mask, layers=layers)[mask]
                    if whole.shape != apart.shape or not bool((whole - apart).abs().max() <= _SAME_STATES):
                        return False
        except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):
            # An architecture that takes no states in place of ids says so in one of these ways.
            return False
        return True


def _as_numbers(mask: Tensor | None) -> Tensor | None:
    """Return a boolean mask as transformers takes it: 1 where there is a token."""
    return mask.long() if mask is not None and mask.dim() == 2 else mask


def _longest(model: PreTrainedModel) -> int:
    """Return the number of positions that texts can use: RoBERTa's begin after that of its padding."""
    positions = int(getattr(model.config, "max_position_embeddings", 512) or 512)
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return positions - (int(padding) + 1 if padding is not None else 0)


def _layers_name(model: PreTrainedModel, count: int) -> str | None:
    from torch import nn

    lists = [name for name, one in model.named_modules() if isinstance(one, nn.ModuleList) and len(one) == count]
    return lists[0] if lists and count else None


def _replaced(module: nn.Module, name: str, new: nn.Module) -> nn.Module:
    """Return a copy of a module with one of its descendants replaced; all that does not lead to it is shared."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)  # noqa: SLF001 - torch has no other way to share all modules but one
    own, _, rest = name.partition(".")
    twin._modules[own] = _replaced(module.get_submodule(own), rest, new) if rest else new  # noqa: SLF001 - as above
    return twin


def _given_states() -> nn.Module:
    """Return what stands for the embeddings of a model that is given states: it hands them on."""
    from torch import Tensor, nn

    class GivenStates(nn.Module):
        def forward(self, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401 - every architecture's own arguments
            return next(
                one
                for one in (*args, *kwargs.values())
                if isinstance(one, Tensor) and one.dim() == 3 and one.is_floating_point()
            )

    return GivenStates()
