"""The reranker as it serves: an artifact, verified before it is loaded, asked for probabilities of relevance.

It runs by ONNX Runtime and a tokenizer alone; `reranker.writing` makes the artifact, of a cross-encoder or of a
split-attention network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.models.artifacts import (
    artifact_size,
    read_verified,
)
from mangaassist_assets.models.encoders.layer_states import SHARED, LayerStates
from mangaassist_assets.models.encoders.tokens import TOKENIZER_FILE, load_tokenizer
from mangaassist_assets.models.model_types import InputError, checked_text
from mangaassist_assets.models.reranker.calibration import ScoreCalibration
from mangaassist_assets.models.reranker.networks.files import ARTIFACT_KIND, ONNX_FILES, network_in
from mangaassist_assets.models.reranker.networks.runners import CrossRunner, Runner, SplitRunner
from mangaassist_assets.models.reranker.training_config import Network

RELEVANT_LABEL = "relevant"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reranker:
    """A reranker in memory, for one thread at a time. States of passages are kept for the whole process.

    `digest` is the artifact's, verified when it was loaded, `size_bytes` that of its files together.
    """

    network: Network
    runner: Runner
    calibration: ScoreCalibration
    digest: str
    size_bytes: int

    @property
    def family(self) -> str:
        """The network's name: the model family in answers and traces."""
        return self.network

    @classmethod
    def load(cls, directory: Path, expected_digest: str | None = None, *, passages: LayerStates = SHARED) -> Reranker:
        """Verify and load an artifact; `passages` is where the lower layers' states of passages are kept.

        Raises:
            ArtifactMismatchError: The artifact is damaged, of another kind, or not the expected one.
        """
        # Which files are needed is among what the digest covers.
        read = read_verified(
            directory,
            ARTIFACT_KIND,
            expected_digest,
            lambda settings: (TOKENIZER_FILE, *ONNX_FILES[network_in(settings, directory)]),
        )
        settings = read.settings
        network = network_in(settings, directory)
        where = [str(directory / name) for name in ONNX_FILES[network]]
        models = [read.files[name] for name in ONNX_FILES[network]]
        tokenizer, pad_id = load_tokenizer(read.files[TOKENIZER_FILE]), int(settings["pad_id"])
        runner: Runner
        if network == "cross-encoder":
            runner = CrossRunner(models, tokenizer, max_tokens=int(settings["max_tokens"]), pad_id=pad_id, where=where)
        else:
            runner = SplitRunner(
                models,
                tokenizer,
                query_tokens=int(settings["query_tokens"]),
                passage_tokens=int(settings["passage_tokens"]),
                pad_id=pad_id,
                passages=passages,
                where=where,
            )
        return cls(
            network=network,
            runner=runner,
            calibration=ScoreCalibration(**settings["calibration"]),
            digest=read.digest,
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
        return self.calibration.probabilities(self.logits(pairs).astype(np.float64)).astype(np.float32)

    def logits(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Return what the network says of each (query, passage), float32 of shape (len(pairs),).

        A cross-encoder's are calibrated already: its head says so.
        """
        return self.runner.logits(pairs) if pairs else np.zeros(0, dtype=np.float32)


def _pair(value: object, where: str) -> tuple[str, str]:
    if not isinstance(value, dict):
        raise InputError(f'{where} must be an object with "text" and "text_pair", got {type(value).__name__}')
    for name in ("text", "text_pair"):
        if name not in value:
            raise InputError(f'{where} lacks "{name}"')
    return checked_text(value["text"], f"{where}.text"), checked_text(value["text_pair"], f"{where}.text_pair")
