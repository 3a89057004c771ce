"""What a reranker's training starts from: a pretrained sentence encoder, or the present champion."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mangaassist_assets.models.encoders.pretrained import BaseModelError, load_base, tokenize
from mangaassist_assets.models.reranker.model import Reranker, idf_weights, special_tokens
from mangaassist_assets.models.reranker.pair_training import RerankerTrainingError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from mangaassist_assets.models.reranker.pair_network import PairNetwork

_WORD_WEIGHT_TOKENS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankerStart:
    """A network that can be trained; `origin` is the base's name or the champion's digest."""

    name: Literal["base", "champion"]
    network: PairNetwork
    tokenizer: Tokenizer
    origin: str


def champion_start(directory: Path) -> RerankerStart:
    """Load a reranker to go on from.

    Raises:
        ArtifactMismatchError: It is damaged, or no reranker.
    """
    champion = Reranker.load(directory)
    return RerankerStart(
        name="champion", network=champion.network, tokenizer=champion.tokenizer, origin=champion.digest
    )


def base_start(base: str, *, joint_layers: int) -> RerankerStart:
    """Make an untrained reranker of a pretrained sentence encoder.

    Raises:
        BaseModelError: It is missing, changed, or no sentence encoder.
        RerankerTrainingError: It has fewer layers than shall be joint.
    """
    from mangaassist_assets.models.reranker.pair_network import PairNetwork

    pretrained = load_base(base)
    if any(name.startswith("classifier.") for name in pretrained.extra_weights):
        raise BaseModelError(
            f"base model {base!r} is a published cross-encoder with a head of its own: the reranker starts from a "
            "sentence encoder, for example sentence-transformers/all-MiniLM-L6-v2"
        )
    layers = pretrained.encoder.shape.n_layers
    if joint_layers > layers:
        raise RerankerTrainingError(f"joint_layers is {joint_layers}, but {base!r} has {layers} layers")
    network = PairNetwork(pretrained.encoder.shape, joint_layers=joint_layers)
    network.encoder.load_state_dict(pretrained.encoder.state_dict())
    network.eval()
    return RerankerStart(name="base", network=network, tokenizer=pretrained.tokenizer, origin=base)


def set_word_weights(start: RerankerStart, corpus: Iterable[str]) -> None:
    """Give a network the rarity of each token in some texts."""
    import torch

    texts = tokenize(start.tokenizer, sorted(set(corpus)), max_tokens=_WORD_WEIGHT_TOKENS)
    weights = idf_weights(
        texts, vocab_size=start.network.encoder.shape.vocab_size, special=special_tokens(start.tokenizer)
    )
    start.network.idf.copy_(torch.from_numpy(weights))
