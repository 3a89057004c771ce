"""A store in which people reviewed messages of several bundles, and a model that does not know the novel ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mangaassist_assets.core.arrays import Flags
from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.datasets.building.intent_dataset import DEFAULT_INTENT_DATASET
from mangaassist_assets.datasets.building.intent_versions import build_intent_version
from mangaassist_assets.datasets.sources.utterances import Utterance
from mangaassist_assets.datasets.versions.versions import DatasetVersion
from mangaassist_assets.evaluation.results import ModelResults
from mangaassist_assets.labelling.intent_labels import IntentLabel
from mangaassist_assets.models.artifacts import artifact_kind, seal_artifact, verify_artifact
from mangaassist_assets.models.examples import IntentExample
from mangaassist_assets.models.model_types import ModelType, TrainedArtifact, TrainingRequest
from mangaassist_assets.tracing.contract.turns import ChatTurn
from tests.support.dataset_store import put_labels, put_turns, write_version
from tests.support.labelled_store import write_corpus

DAY_MS = 86_400_000
FIRST_MS = 1_767_571_200_000
NOVEL = "unheardof"
INTENTS = ("gift_card", "order_status", "return_item")
_SYLLABLES = ("ka", "mo", "ri", "te", "su", "no", "ha", "yu", "be", "zo", "fi", "la", "pe", "gu", "do", "wi")


class PhrasebookModel:
    """Knows every message but the novel ones."""

    def __init__(self, digest: str) -> None:
        self.digest = digest

    def answer(self, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
        del parameters
        return {"predictions": [[{"label": "" if NOVEL in text else "known", "score": 0.9}] for text in inputs]}


class PhrasebookModelType(ModelType[IntentExample]):
    """A kind of model that costs nothing to train and to ask."""

    kind = "intent_classifier"
    metric = "accuracy"
    binary = True

    def settings(self) -> Mapping[str, Any]:
        return {}

    def examples(self, frame: pl.DataFrame, side: str) -> list[IntentExample]:
        rows = frame.filter(pl.col("split") == side).sort("example_id").select("example_id", "text", "intent")
        return [IntentExample(example_id=one, text=text, intent=intent) for one, text, intent in rows.iter_rows()]

    def train(self, request: TrainingRequest[IntentExample]) -> TrainedArtifact:
        raise NotImplementedError

    def load(self, directory: Path, expected_digest: str | None = None) -> PhrasebookModel:
        assert artifact_kind(directory) == self.kind
        return PhrasebookModel(verify_artifact(directory, expected_digest))

    def evaluate(self, model: Any, examples: Sequence[IntentExample], *, version: str) -> ModelResults:
        answers = model.answer([one.text for one in examples], {})["predictions"]
        return ModelResults(
            version=version,
            outcomes=np.array([float(one[0]["label"] == "known") for one in answers]),
            confidences=np.array([one[0]["score"] for one in answers]),
        )

    def request_input(self, example: IntentExample) -> Any:
        return example.text

    def unknown_to(self, model: Any, examples: Sequence[IntentExample]) -> Flags:
        del model
        return np.array([one.intent not in INTENTS for one in examples], dtype=np.bool_)


def phrasebook(folder: Path, name: str) -> tuple[Path, str]:
    """Write a sealed artifact and return it with its digest."""
    directory = folder / name
    directory.mkdir(parents=True)
    (directory / "phrases.txt").write_text(name)
    return directory, seal_artifact(directory, PhrasebookModelType.kind)


def bundle_name(number: int) -> str:
    return f"2026.01.{number + 1:02d}-rc1"


def message(number: int, *, novel: bool = False) -> str:
    """Return a message of invented words that is like no other."""
    digits = np.random.default_rng(number).integers(0, len(_SYLLABLES), size=(5, 3))
    words = ["".join(_SYLLABLES[place] for place in word) for word in digits]
    return " ".join([*words, NOVEL] if novel else words)


def fill_corpus(store: SnapshotStore) -> None:
    """Store a corpus of three intents."""
    write_corpus(
        store,
        [Utterance(text=message(900_000 + number), intent=INTENTS[number % 3]) for number in range(30)],
    )


def put_reviewed_bundle(
    store: SnapshotStore,
    number: int,
    *,
    reviews: int,
    wrong: int,
    served_by: str | None,
    repeats: Sequence[str] = (),
    intent: str | None = None,
) -> list[IntentLabel]:
    """Store a bundle with so many reviewed messages, of which the model has so many wrong; each is of another shopper.

    Args:
        store: where to.
        number: of the bundle, which begins so many days after the first.
        reviews: how many messages people reviewed.
        wrong: how many of them are novel to the model, spread evenly.
        served_by: the model version that answered them.
        repeats: further reviewed messages.
        intent: of all messages; by default the intents take turns.
    """
    bundle = bundle_name(number)
    texts = [
        message(1_000 * (number + 1) + place, novel=(place * wrong) % reviews < wrong) for place in range(reviews)
    ] + list(repeats)
    turns, labels = [], []
    for place, text in enumerate(texts):
        trace_id, session_id = f"tr-{number}-{place}", f"s-{number}-{place}"
        timestamp_ms = FIRST_MS + number * DAY_MS + place * 60_000
        turns.append(
            ChatTurn(
                trace_id=trace_id,
                timestamp_ms=timestamp_ms,
                duration_ms=10,
                state="OK",
                release_bundle=bundle,
                session_id=session_id,
                message=text,
                intent_model_version=served_by,
            )
        )
        labels.append(
            IntentLabel(
                trace_id=trace_id,
                text=text,
                intent=intent or INTENTS[place % 3],
                kind="human",
                confidence=1.0,
                sources=(trace_id,),
                release_bundle=bundle,
                session_id=session_id,
                user_key=None,
                timestamp_ms=timestamp_ms,
                labeller="reviewer-1",
                labelled_ms=timestamp_ms + 1_000,
            )
        )
    put_turns(store, bundle, turns)
    put_labels(store, bundle, labels)
    return labels


def put_intent_dataset(store: SnapshotStore, number: int) -> DatasetVersion:
    """Build and store the intent dataset of a bundle."""
    built = build_intent_version(store, bundle_name(number), config=DEFAULT_INTENT_DATASET)
    write_version(store, "intent_dataset", built, partition=bundle_name(number))
    return built
