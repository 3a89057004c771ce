"""The intent classifier as it serves: an artifact, verified before it is loaded, asked for predictions.

It runs by ONNX Runtime and a tokenizer alone. The artifact is a text-classification folder of transformers
(`intent.writing` makes it), with `model.onnx` beside it; what this platform adds are the `settings` in artifact.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mangaassist_assets.core.arrays import Flags
from mangaassist_assets.models.artifacts import (
    ArtifactMismatchError,
    artifact_size,
    read_verified,
)
from mangaassist_assets.models.encoders.tokens import (
    TOKENIZER_FILE,
    length_batches,
    load_tokenizer,
    pad_ids,
    tokenize,
)
from mangaassist_assets.models.examples import OUT_OF_SCOPE
from mangaassist_assets.models.intent.heads import Features, softmax
from mangaassist_assets.models.intent.out_of_scope import ScopeRule, Scores, scope_scores
from mangaassist_assets.models.model_types import checked_text, checked_top_k
from mangaassist_assets.models.onnx_network import OnnxNetwork

if TYPE_CHECKING:
    from tokenizers import Tokenizer

INTENT_CLASSIFIER = "intent_classifier"
ONNX_FILE = "model.onnx"
SCOPE_SCORE = "max_logit"
_TOKENS_PER_BATCH = 4096


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
    """A classifier in memory.

    `labels` are in the order of the columns of `probabilities`; `scope` is where it refuses. `digest` is the
    artifact's, verified when it was loaded, `size_bytes` that of its files together.
    """

    network: OnnxNetwork
    tokenizer: Tokenizer
    pad_id: int
    labels: tuple[str, ...]
    max_tokens: int
    scope: ScopeRule
    digest: str = ""
    size_bytes: int | None = None

    @classmethod
    def load(cls, directory: Path, expected_digest: str | None = None) -> IntentClassifier:
        """Verify and load what serving needs of an artifact.

        Raises:
            ArtifactMismatchError: The artifact is damaged, of another kind, or not the expected one.
        """
        read = read_verified(directory, INTENT_CLASSIFIER, expected_digest, lambda _: (ONNX_FILE, TOKENIZER_FILE))
        settings = read.settings
        scope = dict(settings["scope"])
        if (score := scope.pop("score")) != SCOPE_SCORE:
            raise ArtifactMismatchError(
                f"{directory} decides about scope by {str(score)[:40]!r}, this program only by {SCOPE_SCORE!r}"
            )
        return cls(
            network=OnnxNetwork(read.files[ONNX_FILE], where=str(directory / ONNX_FILE)),
            tokenizer=load_tokenizer(read.files[TOKENIZER_FILE]),
            pad_id=int(settings["pad_id"]),
            labels=tuple(settings["labels"]),
            max_tokens=int(settings["max_tokens"]),
            scope=ScopeRule(**scope),
            digest=read.digest,
            size_bytes=artifact_size(directory),
        )

    def logits(self, texts: Sequence[str]) -> Features:
        """Return the logits of texts, divided by the temperature: float32 of shape (len(texts), labels)."""
        sequences = tokenize(self.tokenizer, texts, max_tokens=self.max_tokens)
        return onnx_logits(self.network, sequences, labels=len(self.labels), pad_id=self.pad_id)

    def judge(self, texts: Sequence[str]) -> JudgedTexts:
        """Return probabilities and whether each text is one of the intents' at all. Any string is a valid text."""
        if not texts:
            nothing = np.zeros((0, len(self.labels)), dtype=np.float32)
            return JudgedTexts(nothing, np.zeros(0, dtype=np.float64), np.zeros(0, dtype=np.bool_))
        logits = self.logits(texts)
        scores = scope_scores(logits)
        return JudgedTexts(softmax(logits), scores, self.scope.accepts(scores))

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

    def _best(self, row: Features, top_k: int) -> list[LabelScore]:
        best = np.argsort(-row, kind="stable")[:top_k]
        return [LabelScore(self.labels[number], float(row[number])) for number in best]


def onnx_logits(network: OnnxNetwork, sequences: Sequence[Sequence[int]], *, labels: int, pad_id: int) -> Features:
    """Return what an exported classifier says of token ids: float32 of shape (len(sequences), labels)."""
    logits = np.zeros((len(sequences), labels), dtype=np.float32)
    for batch in length_batches([len(sequence) for sequence in sequences], max_tokens=_TOKENS_PER_BATCH):
        ids, mask = pad_ids([sequences[index] for index in batch], pad=pad_id)
        logits[batch] = network.run({"input_ids": ids, "attention_mask": mask.astype(np.int64)})["logits"]
    return logits
