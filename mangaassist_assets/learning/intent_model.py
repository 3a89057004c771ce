"""The intent classifier as an artifact: written once, verified before it is loaded, asked for predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mangaassist_assets.learning.artifacts import ArtifactMismatchError, artifact_kind, seal_artifact, verify_artifact
from mangaassist_assets.learning.encoders import (
    CONFIG_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    load_tokenizer,
    sentence_features,
    tokenize,
    write_encoder,
)
from mangaassist_assets.learning.heads import Features, LinearHead, softmax

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from mangaassist_assets.learning.network import Encoder

_CLASSIFIER = "classifier."
_ENCODER = "distilbert."


@dataclass(frozen=True, slots=True)
class LabelScore:
    """One label with its probability in [0, 1]."""

    label: str
    score: float


def prepare_output(output: Path) -> None:
    """Create the directory of a new artifact.

    Raises:
        FileExistsError: It already holds files: an artifact is immutable.
    """
    output.mkdir(parents=True, exist_ok=True)
    if any(output.iterdir()):
        raise FileExistsError(f"{output} already holds files: artifacts are immutable, choose a new directory")


def write_intent_artifact(
    output: Path,
    *,
    encoder: Encoder,
    tokenizer: Tokenizer,
    head: LinearHead,
    intents: Sequence[str],
    temperature: float,
    max_tokens: int,
    provenance: Mapping[str, Any],
) -> str:
    """Write and seal a classifier; return the artifact's digest.

    The weights carry transformers' names, so `DistilBertModel.from_pretrained(output)` reads the encoder.
    """
    import torch

    prepare_output(output)
    weights = {f"{_ENCODER}{name}": weight for name, weight in encoder.state_dict().items()}
    weights[f"{_CLASSIFIER}weight"] = torch.from_numpy(np.ascontiguousarray(head.weight))
    weights[f"{_CLASSIFIER}bias"] = torch.from_numpy(np.ascontiguousarray(head.bias))
    config = encoder.shape.to_config() | {
        "id2label": {str(number): intent for number, intent in enumerate(intents)},
        "label2id": {intent: number for number, intent in enumerate(intents)},
        "mangaassist": {
            "labels": list(intents),
            "max_tokens": max_tokens,
            "temperature": temperature,
            "provenance": dict(provenance),
        },
    }
    write_encoder(output, weights, config, tokenizer)
    return seal_artifact(output, "intent_classifier")


class IntentClassifier:
    """A loaded classifier. Not thread-safe to load twice at once; predictions may run from any one thread at a time."""

    def __init__(
        self,
        *,
        encoder: Encoder,
        tokenizer: Tokenizer,
        head: LinearHead,
        labels: Sequence[str],
        temperature: float,
        max_tokens: int,
        digest: str,
    ) -> None:
        self._encoder = encoder
        self._tokenizer = tokenizer
        self._head = head
        self._labels = tuple(labels)
        self._temperature = temperature
        self._max_tokens = max_tokens
        self._digest = digest

    @property
    def labels(self) -> tuple[str, ...]:
        """The intents it can answer with, in the order of the columns of `probabilities`."""
        return self._labels

    @property
    def digest(self) -> str:
        """The artifact's digest, verified when it was loaded."""
        return self._digest

    @classmethod
    def load(cls, directory: Path, expected_digest: str | None = None) -> IntentClassifier:
        """Verify and load an artifact.

        Raises:
            ArtifactMismatchError: The artifact is damaged, of another kind, or not the expected one.
        """
        import torch
        from safetensors.torch import load_file

        from mangaassist_assets.learning.network import Encoder, NetworkShape

        digest = verify_artifact(directory, expected_digest)
        if (kind := artifact_kind(directory)) != "intent_classifier":
            raise ArtifactMismatchError(f"{directory} is a {kind}, not an intent_classifier")
        config = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
        ours = config["mangaassist"]
        weights = load_file(directory / WEIGHTS_FILE)
        with torch.device("meta"):
            encoder = Encoder(NetworkShape.from_config(config))
        encoder.load_state_dict(
            {name.removeprefix(_ENCODER): weight for name, weight in weights.items() if name.startswith(_ENCODER)},
            assign=True,
        )
        encoder.eval()
        head = LinearHead(weights[f"{_CLASSIFIER}weight"].numpy(), weights[f"{_CLASSIFIER}bias"].numpy())
        return cls(
            encoder=encoder,
            tokenizer=load_tokenizer(directory / TOKENIZER_FILE),
            head=head,
            labels=ours["labels"],
            temperature=float(ours["temperature"]),
            max_tokens=int(ours["max_tokens"]),
            digest=digest,
        )

    def probabilities(self, texts: Sequence[str]) -> Features:
        """Return float32 of shape (len(texts), len(labels)); rows sum to one. Any string is a valid text."""
        if not texts:
            return np.zeros((0, len(self._labels)), dtype=np.float32)
        features = sentence_features(self._encoder, tokenize(self._tokenizer, texts, max_tokens=self._max_tokens))
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        return softmax(self._head.logits(features), temperature=self._temperature)

    def predict(self, texts: Sequence[str], top_k: int = 5) -> list[list[LabelScore]]:
        """Return the `top_k` labels of each text, most probable first; equal scores in label order."""
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}")
        answers = []
        for row in self.probabilities(texts):
            best = np.argsort(-row, kind="stable")[:top_k]
            answers.append([LabelScore(self._labels[number], float(row[number])) for number in best])
        return answers
