"""The training corpus of the bootstrap as it is stored, and the queries whose relevant documents are known."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import polars as pl

from mangaassist_assets.core.bundles import bundles_by_start
from mangaassist_assets.core.snapshots import SnapshotStore, canonical_json
from mangaassist_assets.datasets.sources.utterances import Utterance
from mangaassist_assets.retrieval.evaluation import LabelledQuery
from mangaassist_assets.tracing.ingestion.stored_turns import read_turns

CORPUS_FILE = "utterances.json"
SOURCE_FILE = "source.json"
INPUT_SOURCE_FILE = "training-source.json"
"""What whoever handed the training file in says of it, beside it among the inputs."""


def corpus_files(utterances: Sequence[Utterance], *, traffic_sample: bool = False) -> dict[str, bytes]:
    """Return the corpus as it is stored; `traffic_sample` says that it is a random sample of labelled traffic."""
    return {CORPUS_FILE: corpus_to_json(utterances), SOURCE_FILE: source_to_json(traffic_sample=traffic_sample)}


def source_to_json(*, traffic_sample: bool) -> bytes:
    """Return what is said of a training file."""
    return canonical_json({"traffic_sample": traffic_sample})


def is_traffic_sample(store: SnapshotStore) -> bool:
    """Whether the training corpus was declared to be a random sample of labelled traffic."""
    snapshot = store.latest("training_corpus")
    return SOURCE_FILE in snapshot.files and bool(store.read_json(snapshot, SOURCE_FILE)["traffic_sample"])


def corpus_to_json(utterances: Sequence[Utterance]) -> bytes:
    """Return training utterances as JSON: text, intent, relevant documents, tenant; no user, no session, no time."""
    return canonical_json(
        [
            {
                "text": one.text,
                "intent": one.intent,
                "relevant_documents": list(one.relevant_documents),
                **({"tenant": one.tenant} if one.tenant else {}),
            }
            for one in utterances
        ]
    )


def read_corpus(store: SnapshotStore) -> list[Utterance]:
    """Return the training corpus of the bootstrap."""
    rows = json.loads(store.read(store.latest("training_corpus"), CORPUS_FILE))
    return [
        Utterance(
            text=row["text"],
            intent=row["intent"],
            relevant_documents=tuple(row["relevant_documents"]),
            line_number=number,
            tenant=row.get("tenant"),
        )
        for number, row in enumerate(rows, start=1)
    ]


def messages_by_intent(corpus: Iterable[Utterance]) -> dict[str, list[str]]:
    """Return the messages of a training corpus by intent; messages without one are left out."""
    messages: dict[str, list[str]] = {}
    for utterance in corpus:
        if utterance.intent is not None:
            messages.setdefault(utterance.intent, []).append(utterance.text)
    return messages


def labelled_queries(store: SnapshotStore) -> list[LabelledQuery]:
    """Return every query whose relevant documents are known: the corpus, then reviewed turns of all bundles."""
    queries = {
        (utterance.text, utterance.tenant): LabelledQuery(
            text=utterance.text, relevant_documents=utterance.relevant_documents, tenant=utterance.tenant
        )
        for utterance in (read_corpus(store) if store.find("training_corpus") else [])
        if utterance.relevant_documents
    }
    for bundle in bundles_by_start(store):
        for turn in read_turns(store, bundle, pl.col("expected_documents").list.len() > 0):
            labelled = LabelledQuery(
                text=turn.learnable_text, relevant_documents=turn.expected_documents, tenant=turn.tenant
            )
            queries.setdefault((turn.learnable_text, turn.tenant), labelled)
    return list(queries.values())
