"""The intent classifier as an artifact: written once, verified before it is loaded, asked for predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.models.artifact_output import prepare_output, whole_or_nothing
from mangaassist_assets.models.artifacts import ArtifactMismatchError, artifact_kind, seal_artifact, verify_artifact
from mangaassist_assets.models.encoders.pretrained import (
    CONFIG_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    PretrainedEncoder,
    load_tokenizer,
    sentence_features,
    tokenize,
    write_encoder,
)
from mangaassist_assets.models.examples import OUT_OF_SCOPE
from mangaassist_assets.models.intent.heads import Features, LinearHead, softmax
from mangaassist_assets.models.intent.out_of_scope import ANSWERS_EVERYTHING, ScopeRule, Scores, scope_scores
from mangaassist_assets.models.request_values import checked_text, checked_top_k

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from mangaassist_assets.models.encoders.network import Encoder

__all__ = [
    "INTENT_CLASSIFIER",
    "IntentClassifier",
    "JudgedTexts",
    "LabelScore",
    "prepare_output",
    "write_intent_artifact",
]

INTENT_CLASSIFIER = "intent_classifier"
_CLASSIFIER = "classifier."
_ENCODER = "distilbert."
_SCOPE_SCORE = "max_logit"


@dataclass(frozen=True, slots=True)
class LabelScore:
    """One label with its probability in [0, 1]."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class JudgedTexts:
    """What a classifier makes of texts.

    Attributes:
        probabilities: Float32 of shape (texts, labels); rows sum to one.
        scope_scores: How much each looks like one of the intents, shape (texts,).
        in_scope: Whether that is enough, shape (texts,).
    """

    probabilities: Features
    scope_scores: Scores
    in_scope: NDArray[np.bool_]


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
    scope: ScopeRule = ANSWERS_EVERYTHING,
) -> str:
    """Write and seal a classifier; return the artifact's digest. It is there as a whole or not at all.

    The weights carry transformers' names, so `DistilBertModel.from_pretrained(output)` reads the encoder.

    Raises:
        FileExistsError: `output` holds files.
        ArtifactWriteError: The disk is full, or the folder cannot be written.
    """
    import torch

    prepare_output(output)
    weights = {f"{_ENCODER}{name}": weight.cpu() for name, weight in encoder.state_dict().items()}
    weights[f"{_CLASSIFIER}weight"] = torch.from_numpy(np.ascontiguousarray(head.weight))
    weights[f"{_CLASSIFIER}bias"] = torch.from_numpy(np.ascontiguousarray(head.bias))
    config = encoder.shape.to_config() | {
        "id2label": {str(number): intent for number, intent in enumerate(intents)},
        "label2id": {intent: number for number, intent in enumerate(intents)},
        "mangaassist": {
            "labels": list(intents),
            "max_tokens": max_tokens,
            "temperature": temperature,
            "scope": {"score": _SCOPE_SCORE, "threshold": scope.threshold, "source": scope.source},
            "provenance": dict(provenance),
        },
    }
    with whole_or_nothing(output) as beside:
        write_encoder(beside, weights, config, tokenizer)
        return seal_artifact(beside, INTENT_CLASSIFIER)


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
        scope: ScopeRule = ANSWERS_EVERYTHING,
        size_bytes: int | None = None,
    ) -> None:
        self._encoder = encoder
        self._tokenizer = tokenizer
        self._head = head
        self._labels = tuple(labels)
        self._temperature = temperature
        self._max_tokens = max_tokens
        self._digest = digest
        self._scope = scope
        self._size_bytes = size_bytes

    @property
    def labels(self) -> tuple[str, ...]:
        """The intents it can answer with, in the order of the columns of `probabilities`."""
        return self._labels

    @property
    def digest(self) -> str:
        """The artifact's digest, verified when it was loaded."""
        return self._digest

    @property
    def scope(self) -> ScopeRule:
        """Where it refuses; artifacts from before there was a threshold answer everything."""
        return self._scope

    @property
    def size_bytes(self) -> int | None:
        """Size of the artifact's files together, None where it was not loaded from one."""
        return self._size_bytes

    @classmethod
    def load(cls, directory: Path, expected_digest: str | None = None) -> IntentClassifier:
        """Verify and load an artifact.

        Raises:
            ArtifactMismatchError: The artifact is damaged, of another kind, or not the expected one.
        """
        import torch
        from safetensors.torch import load_file

        from mangaassist_assets.models.encoders.network import Encoder, NetworkShape

        digest = verify_artifact(directory, expected_digest)
        if (kind := artifact_kind(directory)) != INTENT_CLASSIFIER:
            raise ArtifactMismatchError(f"{directory} is a {kind}, not an {INTENT_CLASSIFIER}")
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
            scope=_scope_rule(directory, ours.get("scope")),
            size_bytes=sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()),
        )

    def features(self, texts: Sequence[str]) -> Features:
        """Return what the head sees: mean-pooled hidden states of length one, float32 of shape (len(texts), dim)."""
        features = sentence_features(self._encoder, tokenize(self._tokenizer, texts, max_tokens=self._max_tokens))
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        return features

    def judge(self, texts: Sequence[str]) -> JudgedTexts:
        """Return probabilities and whether each text is one of the intents' at all. Any string is a valid text."""
        if not texts:
            nothing = np.zeros((0, len(self._labels)), dtype=np.float32)
            return JudgedTexts(nothing, np.zeros(0, dtype=np.float64), np.zeros(0, dtype=np.bool_))
        logits = self._head.logits(self.features(texts))
        scores = scope_scores(logits)
        return JudgedTexts(softmax(logits, temperature=self._temperature), scores, self._scope.accepts(scores))

    def probabilities(self, texts: Sequence[str]) -> Features:
        """Return float32 of shape (len(texts), len(labels)); rows sum to one. Any string is a valid text."""
        return self.judge(texts).probabilities

    def predict(self, texts: Sequence[str], top_k: int = 5) -> list[list[LabelScore]]:
        """Return the `top_k` labels of each text, most probable first; equal scores in label order."""
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}")
        return [self._best(row, top_k) for row in self.probabilities(texts)]

    def answer(self, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
        """Answer a request: `predictions`, the `top_k` labels of each text, `decisions`, and the gist of both.

        `intent` and `confidence` are the best label and its probability, whatever is decided about scope. A decision
        is the best label or `out_of_scope`, the best label's probability as `score`, whether the text is `in_scope`,
        and the `scope_score` that this was decided by.

        Raises:
            InputError: An input is no string or too long, or `top_k` is no whole number of at least 1.
        """
        top_k = checked_top_k(parameters)
        judged = self.judge([checked_text(value, f"inputs[{place}]") for place, value in enumerate(inputs)])
        predictions = [self._best(row, top_k) for row in judged.probabilities]
        decisions = [
            {
                "intent": best[0].label if accepted else OUT_OF_SCOPE,
                "score": best[0].score,
                "in_scope": bool(accepted),
                "scope_score": float(score),
            }
            for best, score, accepted in zip(predictions, judged.scope_scores, judged.in_scope, strict=True)
        ]
        return {
            "predictions": [[{"label": one.label, "score": one.score} for one in best] for best in predictions],
            "decisions": decisions,
            "intent": [best[0].label for best in predictions],
            "confidence": [best[0].score for best in predictions],
            "in_scope": [bool(accepted) for accepted in judged.in_scope],
        }

    def head_for(self, intents: Sequence[str]) -> LinearHead:
        """Return its head for other intents, in their order: known ones by name, zeros for those it never learned."""
        numbers = {label: number for number, label in enumerate(self._labels)}
        weight = np.zeros((len(intents), self._head.weight.shape[1]), dtype=np.float32)
        bias = np.zeros(len(intents), dtype=np.float32)
        for row, intent in enumerate(intents):
            if intent in numbers:
                weight[row], bias[row] = self._head.weight[numbers[intent]], self._head.bias[numbers[intent]]
        return LinearHead(weight, bias)

    def pretrained(self) -> PretrainedEncoder:
        """Return its encoder and tokenizer, which another training may start from; it is not to be used after that."""
        return PretrainedEncoder(self._digest, self._encoder, self._tokenizer, {})

    def _best(self, row: Features, top_k: int) -> list[LabelScore]:
        best = np.argsort(-row, kind="stable")[:top_k]
        return [LabelScore(self._labels[number], float(row[number])) for number in best]


def _scope_rule(directory: Path, stored: Any) -> ScopeRule:  # noqa: ANN401 - JSON
    """Read the rule of an artifact; none where it is from before there were rules."""
    if stored is None or stored["threshold"] is None:
        return ANSWERS_EVERYTHING
    if stored["score"] != _SCOPE_SCORE:
        raise ArtifactMismatchError(
            f"{directory} decides about scope by {str(stored['score'])[:40]!r}, this program only by {_SCOPE_SCORE!r}"
        )
    return ScopeRule(threshold=float(stored["threshold"]), source=stored["source"])
