"""The intent classifier as an artifact: written once, verified before it is loaded, asked for predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mangaassist_assets.core.arrays import Flags
from mangaassist_assets.models.artifacts import (
    ArtifactMismatchError,
    artifact_size,
    seal_artifact,
    verify_kind,
    whole_or_nothing,
)
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
from mangaassist_assets.models.intent.out_of_scope import ScopeRule, Scores, scope_scores
from mangaassist_assets.models.model_types import checked_text, checked_top_k

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from mangaassist_assets.models.encoders.network import Encoder

INTENT_CLASSIFIER = "intent_classifier"
_CLASSIFIER = "classifier."
_ENCODER = "distilbert."
_SCOPE_SCORE = "max_logit"
_LAYER_NORM_EPSILON = 1e-5


@dataclass(frozen=True, slots=True)
class LabelScore:
    """One label with its probability in [0, 1]."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class JudgedTexts:
    """A classifier's answers to texts.

    Attributes:
        probabilities: Float32 of shape (texts, labels); rows sum to one.
        scope_scores: How much each looks like one of the intents, shape (texts,).
        in_scope: Whether that is enough, shape (texts,).
    """

    probabilities: Features
    scope_scores: Scores
    in_scope: Flags


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntentClassifier:
    """A classifier in memory; predictions may run from any one thread at a time.

    `labels` are in the order of the columns of `probabilities`; `scope` is where it refuses. `digest` is the
    artifact's, verified when it was loaded, `size_bytes` that of its files together; an unwritten classifier has
    neither.
    """

    encoder: Encoder
    tokenizer: Tokenizer
    head: LinearHead
    labels: tuple[str, ...]
    temperature: float
    max_tokens: int
    scope: ScopeRule
    digest: str = ""
    size_bytes: int | None = None

    def write(self, output: Path, *, provenance: Mapping[str, Any]) -> str:
        """Write and seal the artifact; return its digest. It is there as a whole or not at all.

        The weights carry transformers' names, so `DistilBertModel.from_pretrained(output)` reads the encoder.

        Raises:
            FileExistsError: `output` holds files.
            ArtifactWriteError: The disk is full, or the folder cannot be written.
        """
        import torch

        weights = {f"{_ENCODER}{name}": weight.cpu() for name, weight in self.encoder.state_dict().items()}
        weights[f"{_CLASSIFIER}weight"] = torch.from_numpy(np.ascontiguousarray(self.head.weight))
        weights[f"{_CLASSIFIER}bias"] = torch.from_numpy(np.ascontiguousarray(self.head.bias))
        config = self.encoder.shape.to_config() | {
            "id2label": {str(number): intent for number, intent in enumerate(self.labels)},
            "label2id": {intent: number for number, intent in enumerate(self.labels)},
            "mangaassist": {
                "labels": list(self.labels),
                "max_tokens": self.max_tokens,
                "temperature": self.temperature,
                "scope": {"score": _SCOPE_SCORE, **asdict(self.scope)},
                "provenance": dict(provenance),
            },
        }
        with whole_or_nothing(output) as beside:
            write_encoder(beside, weights, config, self.tokenizer)
            return seal_artifact(beside, INTENT_CLASSIFIER)

    @classmethod
    def load(cls, directory: Path, expected_digest: str | None = None) -> IntentClassifier:
        """Verify and load an artifact.

        Raises:
            ArtifactMismatchError: The artifact is damaged, of another kind, or not the expected one.
        """
        import torch
        from safetensors.torch import load_file

        from mangaassist_assets.models.encoders.network import Encoder, NetworkShape

        digest = verify_kind(directory, INTENT_CLASSIFIER, expected_digest)
        config = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
        ours = config["mangaassist"]
        score = ours["scope"].pop("score")
        if score != _SCOPE_SCORE:
            raise ArtifactMismatchError(
                f"{directory} decides about scope by {str(score)[:40]!r}, this program only by {_SCOPE_SCORE!r}"
            )
        weights = load_file(directory / WEIGHTS_FILE)
        with torch.device("meta"):
            encoder = Encoder(NetworkShape.from_config(config))
        encoder.load_state_dict(
            {name.removeprefix(_ENCODER): weight for name, weight in weights.items() if name.startswith(_ENCODER)},
            assign=True,
        )
        encoder.eval()
        return cls(
            encoder=encoder,
            tokenizer=load_tokenizer(directory / TOKENIZER_FILE),
            head=LinearHead(weights[f"{_CLASSIFIER}weight"].numpy(), weights[f"{_CLASSIFIER}bias"].numpy()),
            labels=tuple(ours["labels"]),
            temperature=float(ours["temperature"]),
            max_tokens=int(ours["max_tokens"]),
            scope=ScopeRule(**ours["scope"]),
            digest=digest,
            size_bytes=artifact_size(directory),
        )

    def features(self, texts: Sequence[str]) -> Features:
        """Return what the head sees, float32 of shape (len(texts), dim): mean hidden states, centred, of length one."""
        features = sentence_features(self.encoder, tokenize(self.tokenizer, texts, max_tokens=self.max_tokens))
        features -= features.mean(axis=1, keepdims=True)
        features /= np.sqrt(features.var(axis=1, keepdims=True) + _LAYER_NORM_EPSILON) * np.sqrt(features.shape[1])
        return features

    def judge(self, texts: Sequence[str]) -> JudgedTexts:
        """Return probabilities and whether each text is one of the intents' at all. Any string is a valid text."""
        if not texts:
            nothing = np.zeros((0, len(self.labels)), dtype=np.float32)
            return JudgedTexts(nothing, np.zeros(0, dtype=np.float64), np.zeros(0, dtype=np.bool_))
        logits = self.head.logits(self.features(texts))
        scores = scope_scores(logits)
        return JudgedTexts(softmax(logits, temperature=self.temperature), scores, self.scope.accepts(scores))

    def predict(self, texts: Sequence[str], top_k: int = 5) -> list[list[LabelScore]]:
        """Return the `top_k` labels of each text, most probable first; equal scores in label order."""
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}")
        return [self._best(row, top_k) for row in self.judge(texts).probabilities]

    def best_labels(self, probabilities: Features) -> list[str]:
        """Return the most probable label of each row of `probabilities`."""
        return [self._best(row, 1)[0].label for row in probabilities]

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
        accepted = judged.in_scope.tolist()
        decisions = [
            {
                "intent": best[0].label if in_scope else OUT_OF_SCOPE,
                "score": best[0].score,
                "in_scope": in_scope,
                "scope_score": score,
            }
            for best, score, in_scope in zip(predictions, judged.scope_scores.tolist(), accepted, strict=True)
        ]
        return {
            "predictions": [[asdict(one) for one in best] for best in predictions],
            "decisions": decisions,
            "intent": [best[0].label for best in predictions],
            "confidence": [best[0].score for best in predictions],
            "in_scope": accepted,
        }

    def head_for(self, intents: Sequence[str]) -> LinearHead:
        """Return its head for other intents, in their order: known ones by name, zeros for those it never learned."""
        numbers = {label: number for number, label in enumerate(self.labels)}
        weight = np.zeros((len(intents), self.head.weight.shape[1]), dtype=np.float32)
        bias = np.zeros(len(intents), dtype=np.float32)
        for row, intent in enumerate(intents):
            if intent in numbers:
                weight[row], bias[row] = self.head.weight[numbers[intent]], self.head.bias[numbers[intent]]
        return LinearHead(weight, bias)

    def pretrained(self) -> PretrainedEncoder:
        """Return its encoder and tokenizer, which another training may start from; it is not to be used after that."""
        return PretrainedEncoder(self.digest, self.encoder, self.tokenizer, {})

    def _best(self, row: Features, top_k: int) -> list[LabelScore]:
        best = np.argsort(-row, kind="stable")[:top_k]
        return [LabelScore(self.labels[number], float(row[number])) for number in best]
