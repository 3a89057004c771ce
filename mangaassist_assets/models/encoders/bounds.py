"""How large a network a configuration may ask for: looked at before any of it is made.

A configuration is a few hundred bytes that decide over gigabytes: transformers builds what it says and reads the
weights afterwards. So no number in it may be beyond what encoders have, and all together may not ask for more weights
than the files hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MOST_LAYERS = 512
MOST_LABELS = 100_000
MOST = 4_000_000
"""Of anything else, such as tokens of a vocabulary, positions or units."""

_HIDDEN = ("hidden_size", "dim", "d_model", "n_embd")
_LAYERS = ("num_hidden_layers", "n_layers", "num_layers", "encoder_layers", "n_layer")
_SHARED = frozenset({"albert"})  # one layer's weights are all layers'


def oversize_of(config: Mapping[str, Any], weight_bytes: int) -> str | None:
    """Return what of a configuration is too large, None where nothing is.

    Args:
        config: The content of `config.json`.
        weight_bytes: Size of the files that hold the weights, in bytes.
    """
    for name, number in _numbers(config):
        most = MOST_LAYERS if "layer" in name else MOST_LABELS if "label" in name else MOST
        if number > most:
            return f"{name} is {number:,}, at most {most:,} are taken"
    hidden, layers = _first(config, _HIDDEN), _first(config, _LAYERS)
    blocks = 1 if config.get("model_type") in _SHARED else layers
    words = _first(config, ("vocab_size",)) * (_first(config, ("embedding_size",)) or hidden)
    # Attention alone has four matrices of this size; a weight has at least a byte.
    wanted = blocks * 2 * hidden * hidden + words
    if wanted > weight_bytes:
        return f"it asks for {wanted:,} weights and more, and its files have {weight_bytes:,} bytes"
    return None


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, int | float]]:  # noqa: ANN401 - JSON
    if isinstance(value, Mapping):
        for key, inner in value.items():
            # Labels are told by number and by name.
            yield from _numbers(inner, name if name in {"id2label", "label2id"} else str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner, name)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> int:
    found = (config[name] for name in names if isinstance(config.get(name), int))
    return max(0, next(found, 0))
