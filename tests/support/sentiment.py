"""A third kind of model, as another package would bring it: one class, one dataset asset, and their description.

Is a message content or annoyed? Hashed words and a logistic head: small, but trained, judged and served for real.
"""

import json
import random
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from mangaassist_assets.assets.declaring import declared_asset
from mangaassist_assets.core.declared_inputs import Read
from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.datasets.guards.limits import DatasetLimits
from mangaassist_assets.datasets.schema import DECLARED_SAMPLE
from mangaassist_assets.datasets.versions.data_card import Provenance
from mangaassist_assets.datasets.versions.stored_versions import StoredVersion
from mangaassist_assets.datasets.versions.versions import DatasetVersion
from mangaassist_assets.evaluation.results import ModelResults
from mangaassist_assets.models.artifacts import artifact_kind, seal_artifact, verify_artifact
from mangaassist_assets.models.intent.heads import LinearHead, fit_linear_head, softmax
from mangaassist_assets.models.model_types import InputError, ModelType, TrainedArtifact, TrainingRequest
from mangaassist_assets.models.pipelines import ModelPipeline, PipelineDataset
from mangaassist_assets.partitions import release_bundles
from resources.store import StoreResource

LABELS = ("annoyed", "content")
_WIDTH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class SentimentExample:
    text: str
    label: str


class SentimentModel:
    def __init__(self, head: LinearHead, digest: str) -> None:
        self._head = head
        self.digest = digest

    def answer(self, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
        del parameters
        if not all(isinstance(one, str) for one in inputs):
            raise InputError("every input must be a string")
        chances = softmax(self._head.logits(features(inputs)))
        return {
            "predictions": [
                [{"label": LABELS[place], "score": float(row[place])} for place in np.argsort(-row)] for row in chances
            ]
        }


def features(texts: Sequence[str]) -> np.ndarray:
    found = np.zeros((len(texts), _WIDTH), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().split():
            found[row, zlib.crc32(word.encode()) % _WIDTH] += 1
    return found


class SentimentModelType(ModelType[SentimentExample]):
    kind = "sentiment"
    metric = "accuracy"
    binary = True

    def __init__(self, inverse_regularisation: float = 10.0) -> None:
        self._inverse_regularisation = inverse_regularisation

    def settings(self) -> Mapping[str, Any]:
        return {"inverse_regularisation": self._inverse_regularisation}

    def examples(self, frame: pl.DataFrame, side: str) -> list[SentimentExample]:
        rows = frame.filter(pl.col("split") == side).sort("example_id").select("message", "sentiment").iter_rows()
        return [SentimentExample(text=text, label=label) for text, label in rows]

    def train(self, request: TrainingRequest[SentimentExample]) -> TrainedArtifact:
        from safetensors.numpy import save_file

        head = fit_linear_head(
            features([one.text for one in request.train]),
            np.array([LABELS.index(one.label) for one in request.train]),
            classes=len(LABELS),
            weights=np.ones(len(request.train), dtype=np.float32),
            inverse_regularisation=self._inverse_regularisation,
        )
        request.output.mkdir(parents=True, exist_ok=True)
        save_file({"weight": head.weight, "bias": head.bias}, request.output / "model.safetensors")
        (request.output / "config.json").write_text(json.dumps({"labels": LABELS}))
        return TrainedArtifact(
            directory=request.output,
            digest=seal_artifact(request.output, self.kind),
            metrics={"train_examples": float(len(request.train))},
        )

    def load(self, directory: Path, expected_digest: str | None = None) -> SentimentModel:
        from safetensors.numpy import load_file

        digest = verify_artifact(directory, expected_digest)
        assert artifact_kind(directory) == self.kind
        weights = load_file(directory / "model.safetensors")
        return SentimentModel(LinearHead(weights["weight"], weights["bias"]), digest)

    def evaluate(self, model: Any, examples: Sequence[SentimentExample], *, version: str) -> ModelResults:
        best = [answer[0] for answer in model.answer([one.text for one in examples], {})["predictions"]]
        right = [one["label"] == example.label for one, example in zip(best, examples, strict=True)]
        return ModelResults(
            version=version,
            outcomes=np.array(right, dtype=np.float64),
            confidences=np.array([one["score"] for one in best]),
        )

    def request_input(self, example: SentimentExample) -> Any:
        return example.text

    def slices(self, examples: Sequence[SentimentExample]) -> Mapping[str, tuple[str, ...]]:
        return {"sentiment": tuple(one.label for one in examples)}


SENTIMENT = ModelPipeline(
    title="sentiment model",
    about="hashed words with a logistic head",
    group="sentiment",
    kind=SentimentModelType.kind,
    model_name="sentiment",
    endpoint_name="sentiment",
    dataset=PipelineDataset(
        asset="sentiment_dataset",
        limits=DatasetLimits(train=30, validation=3, test=15, intents=2),
        text_columns=("message",),
        label_column="sentiment",
        rebuild="tests.support.sentiment:rebuild_sentiment_dataset",
    ),
    model_asset="sentiment_model",
    definitions=("tests.support.sentiment:sentiment_dataset",),
)


@declared_asset(
    reads=[Read(asset="sentiment_dataset", bundles="same", own=True)],
    partitions_def=release_bundles,
    group_name="sentiment",
    owners=["team:ml-engineering"],
    kinds={"parquet"},
    code_version="1",
)
def sentiment_dataset(context: dg.AssetExecutionContext, store: StoreResource) -> dg.MaterializeResult[None]:
    """Messages that people called content or annoyed, one a row, each on its side."""
    from mangaassist_assets.assets.datasets import dataset_result
    from mangaassist_assets.datasets.versions.stored_versions import keep_version

    version = sentiment_version(context.partition_key)
    return dataset_result(keep_version(store.step(context), "sentiment_dataset", version), version)


def sentiment_version(bundle: str) -> DatasetVersion:
    """Return the dataset of a bundle; the second bundle holds the messages of the first, and more."""
    from mangaassist_assets.datasets.building.splits import assign_split
    from mangaassist_assets.datasets.versions.versions import seal_version

    rows = [
        {
            "example_id": text,
            "message": text,
            "sentiment": label,
            "split": assign_split(text),
            "label_kind": "human",
            "release_bundle": bundle,
            "user_key": None,
            "session_id": None,
            "source_trace_id": None,
            "origin": DECLARED_SAMPLE,
            "inclusion_probability": None,
            "bundle_turns": None,
        }
        for label, text in messages(4 if bundle == FIRST_BUNDLE else len(MOODS))
    ]
    types = dict.fromkeys(("user_key", "session_id", "source_trace_id"), pl.String)
    sampled = {"inclusion_probability": pl.Float64, "bundle_turns": pl.Int64}
    return seal_version(
        pl.DataFrame(rows, schema_overrides={**types, **sampled}),
        Provenance(kind="sentiment", as_of=bundle, inputs={"moods": "1"}),
    )


def rebuild_sentiment_dataset(store: SnapshotStore, stored: StoredVersion) -> Mapping[str, bytes]:
    """Return the files of a version once more: it depends on nothing but its bundle."""
    del store
    return sentiment_version(stored.snapshot.partition or "").files()


def messages(moods: int) -> list[tuple[str, str]]:
    """Return messages of the first so many moods with their labels; what each is about is its own, so none is near."""
    drawn = random.Random(20260202)
    found = []
    for label, opening, ending in MOODS[:moods]:
        for _ in range(48):
            about = " ".join("".join(drawn.choices("dfklmnprstv", k=2)) + drawn.choice("aeiou") * 2 for _ in range(9))
            found.append((label, f"{opening} {about} {ending}"))
    return found


FIRST_BUNDLE, SECOND_BUNDLE = "2026.02.02-rc1", "2026.02.09-rc1"
MOODS = (
    ("content", "i love", "thanks"),
    ("content", "so happy with", "great work"),
    ("annoyed", "i hate", "refund me"),
    ("annoyed", "so sorry about", "bad work"),
    ("content", "wonderful", "well done"),
    ("content", "pleased by", "all good"),
    ("annoyed", "awful", "never again"),
    ("annoyed", "angry about", "no help"),
    ("annoyed", "sick of", "too late"),
)
