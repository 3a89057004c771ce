"""The reranker as an artifact: written once, verified before it is loaded, asked for probabilities of relevance."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.models.artifacts import artifact_size, seal_artifact, verify_kind, whole_or_nothing
from mangaassist_assets.models.encoders.frozen_layers import lower_layer_states
from mangaassist_assets.models.encoders.layer_states import (
    SHARED,
    LayerStates,
    TokenIds,
    layers_digest,
)
from mangaassist_assets.models.encoders.pretrained import (
    CONFIG_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    length_batches,
    load_tokenizer,
    pad_ids,
    tokenize,
    write_encoder,
)
from mangaassist_assets.models.model_types import InputError, checked_text
from mangaassist_assets.training.compute import Compute

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

    from mangaassist_assets.models.reranker.pair_network import PairNetwork, Segments

ARTIFACT_KIND = "reranker"
RELEVANT_LABEL = "relevant"

_TOKENS_PER_BATCH = 4096
_PAIRS_PER_BLOCK = 512


def idf_weights(sequences: Sequence[Sequence[int]], *, vocab_size: int, special: Sequence[int]) -> NDArray[np.float32]:
    """Return log((N + 1) / (document frequency + 1/2)) of each token, shape (vocab_size,); 0 for special tokens."""
    frequencies = Counter(token for sequence in sequences for token in set(sequence))
    weights = np.full(vocab_size, math.log((len(sequences) + 1) / 0.5), dtype=np.float32)
    for token, frequency in frequencies.items():
        weights[token] = math.log((len(sequences) + 1) / (frequency + 0.5))
    weights[list(special)] = 0.0
    return np.maximum(weights, 0.0)


def special_tokens(tokenizer: Tokenizer) -> list[int]:
    """Return the ids that carry no content: padding and what frames every text."""
    return sorted({0, *tokenizer.encode("").ids})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reranker:
    """A cross-encoder in memory, for one thread at a time. States of passages are kept for the whole process.

    Longer queries and passages are cut. `digest` is the artifact's, verified when it was loaded, `size_bytes` that of
    its files together; an unwritten reranker has neither. `passages` are the lower layers' states of passages.
    """

    network: PairNetwork
    tokenizer: Tokenizer
    query_tokens: int
    passage_tokens: int
    digest: str = ""
    size_bytes: int | None = None
    passages: LayerStates = SHARED
    _lower_digest: str = field(init=False)

    def __post_init__(self) -> None:
        """Know which lower layers the states of passages depend on."""
        object.__setattr__(self, "_lower_digest", layers_digest(self.network.encoder, self.network.apart_layers))

    def write(self, output: Path, *, provenance: Mapping[str, Any]) -> str:
        """Write and seal the artifact; return its digest.

        Raises:
            FileExistsError: `output` holds files.
            ArtifactWriteError: The disk is full, or the directory cannot be written.
        """
        config = self.network.encoder.shape.to_config() | {
            "mangaassist": {
                "joint_layers": self.network.joint_layers,
                "query_tokens": self.query_tokens,
                "passage_tokens": self.passage_tokens,
                "provenance": dict(provenance),
            }
        }
        with whole_or_nothing(output) as folder:
            write_encoder(folder, dict(self.network.state_dict()), config, self.tokenizer)
            return seal_artifact(folder, ARTIFACT_KIND)

    @classmethod
    def load(cls, directory: Path, expected_digest: str | None = None) -> Reranker:
        """Verify and load an artifact.

        Raises:
            ArtifactMismatchError: The artifact is damaged, of another kind, or not the expected one.
        """
        import torch
        from safetensors.torch import load_file

        from mangaassist_assets.models.encoders.network import NetworkShape
        from mangaassist_assets.models.reranker.pair_network import PairNetwork

        digest = verify_kind(directory, ARTIFACT_KIND, expected_digest)
        config = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
        ours = config["mangaassist"]
        with torch.device("meta"):
            network = PairNetwork(NetworkShape.from_config(config), joint_layers=int(ours["joint_layers"]))
        network.load_state_dict(load_file(directory / WEIGHTS_FILE), assign=True)
        network.to(Compute.detect().device).eval()
        return cls(
            network=network,
            tokenizer=load_tokenizer(directory / TOKENIZER_FILE),
            query_tokens=int(ours["query_tokens"]),
            passage_tokens=int(ours["passage_tokens"]),
            digest=digest,
            size_bytes=artifact_size(directory),
        )

    def answer(self, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
        """Answer `{"text": query, "text_pair": passage}` each with its probability of relevance, twice: `scores` alone.

        Raises:
            InputError: An input is of another form, or too long.
        """
        del parameters
        pairs = [_pair(value, f"inputs[{place}]") for place, value in enumerate(inputs)]
        scores: list[float] = self.score(pairs).tolist()
        return {"predictions": [{"label": RELEVANT_LABEL, "score": score} for score in scores], "scores": scores}

    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Return the probability of relevance of each (query, passage), float32 of shape (len(pairs),) in [0, 1]."""
        import torch

        with torch.inference_mode():
            logits = torch.from_numpy(self.logits(pairs)).to(self.network.device)
            scores: NDArray[np.float32] = self.network.probabilities(logits).cpu().numpy()
        return scores

    def logits(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Return what the network says of each (query, passage) before calibration, float32 of shape (len(pairs),)."""
        blocks = [pairs[start : start + _PAIRS_PER_BLOCK] for start in range(0, len(pairs), _PAIRS_PER_BLOCK)]
        return np.concatenate([np.zeros(0, dtype=np.float32), *(self._block_logits(block) for block in blocks)])

    def _block_logits(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        import torch

        logits = np.zeros(len(pairs), dtype=np.float32)
        queries = self._distinct([query for query, _ in pairs], self.query_tokens)
        passages = self._distinct([passage for _, passage in pairs], self.passage_tokens)
        with torch.inference_mode():
            asked = sorted(set(queries))
            query_states = dict(zip(asked, self._lower(asked), strict=True))
            passage_states = self.passages.get(self._lower_digest, sorted(set(passages)), self._lower)
            lengths = [len(query) + len(passage) for query, passage in zip(queries, passages, strict=True)]
            for batch in length_batches(lengths, max_tokens=_TOKENS_PER_BATCH):
                pairs_of_batch = (
                    stack_segments([(texts[index], states[texts[index]]) for index in batch]).to(self.network.device)
                    for texts, states in ((queries, query_states), (passages, passage_states))
                )
                logits[batch] = self.network(*pairs_of_batch).float().cpu().numpy()
        return logits

    def _distinct(self, texts: Sequence[str], max_tokens: int) -> list[tuple[int, ...]]:
        distinct = sorted(set(texts))
        ids = tokenize(self.tokenizer, distinct, max_tokens=max_tokens)
        known = {text: tuple(sequence) for text, sequence in zip(distinct, ids, strict=True)}
        return [known[text] for text in texts]

    def _lower(self, sequences: Sequence[TokenIds]) -> list[Tensor]:
        found = dict(lower_layer_states(self.network.encoder, self.network.apart_layers, sequences))
        return [found[place].float().cpu().clone() for place in range(len(sequences))]


def stack_segments(items: Sequence[tuple[Sequence[int], Tensor]]) -> Segments:
    """Pad (token ids, lower states) of single texts into one batch."""
    import torch

    from mangaassist_assets.models.reranker.pair_network import Segments

    ids, mask = pad_ids([sequence for sequence, _ in items])
    states = torch.zeros(*ids.shape, items[0][1].shape[-1])
    for row, (sequence, tensor) in enumerate(items):
        states[row, : len(sequence)] = tensor
    return Segments(states, ids, mask)


def _pair(value: object, where: str) -> tuple[str, str]:
    if not isinstance(value, dict):
        raise InputError(f'{where} must be an object with "text" and "text_pair", got {type(value).__name__}')
    for name in ("text", "text_pair"):
        if name not in value:
            raise InputError(f'{where} lacks "{name}"')
    return checked_text(value["text"], f"{where}.text"), checked_text(value["text_pair"], f"{where}.text_pair")
