"""What a training can start from: the base, a published cross-encoder, or the present champion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mangaassist_assets.models.artifacts import artifact_settings, verify_kind
from mangaassist_assets.models.encoders.layer_states import layers_digest
from mangaassist_assets.models.encoders.pretrained import base_folder, load_base, read_encoder
from mangaassist_assets.models.encoders.tokens import TOKENIZER_FILE, load_tokenizer, tokenize
from mangaassist_assets.models.reranker.lists import CandidateList
from mangaassist_assets.models.reranker.networks.files import ARTIFACT_KIND, EXTRA_FILE, network_of
from mangaassist_assets.models.reranker.networks.pair_table import PairTexts, SplitTexts
from mangaassist_assets.models.reranker.networks.pair_tokens import PairTokens
from mangaassist_assets.models.reranker.networks.word_weights import idf_weights, special_tokens
from mangaassist_assets.models.reranker.training_config import (
    Network,
    RerankerTrainingConfig,
    RerankerTrainingError,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from mangaassist_assets.models.reranker.networks.cross_network import CrossNetwork
    from mangaassist_assets.models.reranker.networks.pair_network import PairNetwork

StartName = Literal["base", "cross-encoder", "champion"]

_WORD_WEIGHT_TOKENS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankerStart:
    """A network that can be trained; `origin` is the name of a base or checkpoint, or the champion's digest.

    `query_tokens` and `passage_tokens` are what it reads of the two texts.
    """

    name: StartName
    network: PairNetwork | CrossNetwork
    tokenizer: Tokenizer
    origin: str
    query_tokens: int
    passage_tokens: int

    @property
    def kind(self) -> Network:
        """Which of the two networks it is."""
        return self.network.kind

    @property
    def max_tokens(self) -> int:
        """How many tokens a cross-encoder reads of a pair, as far as its positions go."""
        return min(self.query_tokens + self.passage_tokens, self.network.encoder.max_tokens)

    def pair_tokens(self) -> PairTokens:
        """Return what turns pairs into a cross-encoder's tokens."""
        from tokenizers import Tokenizer

        own: Tokenizer = Tokenizer.from_str(self.tokenizer.to_str())  # its truncation is a state of it
        return PairTokens(own, max_tokens=self.max_tokens)

    def texts(self, lists: Sequence[CandidateList], *, known: PairTexts | None = None) -> PairTexts:
        """Return the texts of some lists as the network takes them; `known` are those of a start with the same key."""
        from mangaassist_assets.models.reranker.networks.cross_network import CrossNetwork, JointTexts

        if isinstance(self.network, CrossNetwork):
            pairs = [(one.query, passage) for one in lists for passage in one.passages]
            return JointTexts(pairs, self.network, self.pair_tokens())
        if isinstance(known, SplitTexts):
            return known.of(self.network)
        return SplitTexts(
            [one.query for one in lists],
            [passage for one in lists for passage in one.passages],
            self.network,
            self.tokenizer,
            query_tokens=self.query_tokens,
            passage_tokens=self.passage_tokens,
        )

    def shared_texts_key(self) -> str | None:
        """Return what two starts have in common whose encoded texts are the same; None for no such start."""
        from mangaassist_assets.models.reranker.networks.pair_network import PairNetwork

        if not isinstance(self.network, PairNetwork):
            return None
        lower = layers_digest(self.network.encoder, self.network.apart_layers)
        return f"{lower} {self.query_tokens} {self.passage_tokens} {self.tokenizer.to_str()}"


def base_start(base: str, config: RerankerTrainingConfig, *, joint_layers: int) -> RerankerStart:
    """Make an untrained split-attention network of a pretrained sentence encoder.

    Raises:
        BaseModelError: It is missing, changed, or no encoder.
        RerankerTrainingError: It has fewer layers than shall be joint, or its architecture cannot be split.
    """
    from mangaassist_assets.models.reranker.networks.pair_network import PairNetwork

    pretrained = load_base(base)
    try:
        network = PairNetwork(pretrained.encoder, joint_layers=joint_layers)
    except ValueError as error:
        raise RerankerTrainingError(
            f"{base!r} cannot be a split-attention reranker: {error}; take the network cross-encoder"
        ) from error
    network.eval()
    return RerankerStart(
        name="base",
        network=network,
        tokenizer=pretrained.tokenizer,
        origin=base,
        query_tokens=config.query_tokens,
        passage_tokens=min(config.passage_tokens, pretrained.encoder.max_tokens),
    )


def cross_start(base: str, checkpoint: str | None, config: RerankerTrainingConfig) -> RerankerStart:
    """Load a published cross-encoder, or without one put a fresh head on the base.

    Raises:
        BaseModelError: It is missing, or no cross-encoder of one label.
    """
    from mangaassist_assets.models.encoders.pretrained import tokenizer_of
    from mangaassist_assets.models.reranker.networks.cross_network import fresh_cross_encoder, read_cross_encoder

    name = checkpoint or base
    folder = base_folder(name)
    if checkpoint is None:
        network = fresh_cross_encoder(name, folder, seed=config.seed)
    else:
        network = read_cross_encoder(name, folder)
    network.eval()
    return RerankerStart(
        name="base" if checkpoint is None else "cross-encoder",
        network=network,
        tokenizer=tokenizer_of(name, folder),
        origin=name,
        query_tokens=config.query_tokens,
        passage_tokens=config.passage_tokens,
    )


def champion_start(directory: Path) -> RerankerStart:
    """Load a reranker in full, to go on from.

    Raises:
        ArtifactMismatchError: It is damaged, or no reranker.
    """
    import torch
    from safetensors.torch import load_file

    from mangaassist_assets.models.reranker.networks.cross_network import read_cross_encoder
    from mangaassist_assets.models.reranker.networks.pair_network import PairNetwork

    digest = verify_kind(directory, ARTIFACT_KIND)
    settings = artifact_settings(directory)
    network: PairNetwork | CrossNetwork
    if network_of(directory) == "cross-encoder":
        network = read_cross_encoder(digest, directory)
    else:
        pretrained = read_encoder(digest, directory)
        network = PairNetwork(pretrained.encoder, joint_layers=int(settings["joint_layers"]))
        with torch.no_grad():
            network.load_state_dict(load_file(directory / EXTRA_FILE), strict=False)
    network.eval()
    return RerankerStart(
        name="champion",
        network=network,
        tokenizer=load_tokenizer(directory / TOKENIZER_FILE),
        origin=digest,
        query_tokens=int(settings["query_tokens"]),
        passage_tokens=int(settings["passage_tokens"]),
    )


def set_word_weights(start: RerankerStart, corpus: Iterable[str]) -> None:
    """Give a split-attention network the rarity of each token in some texts."""
    import torch

    from mangaassist_assets.models.reranker.networks.pair_network import PairNetwork

    network = start.network
    if not isinstance(network, PairNetwork):
        return
    texts = tokenize(start.tokenizer, sorted(set(corpus)), max_tokens=_WORD_WEIGHT_TOKENS)
    weights = idf_weights(
        texts, vocab_size=network.encoder.vocab_size, special=special_tokens(start.tokenizer, network.encoder.pad_id)
    )
    network.idf.copy_(torch.from_numpy(weights))
