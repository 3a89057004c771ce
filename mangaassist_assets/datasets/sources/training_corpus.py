"""The training corpus of the bootstrap as it is stored."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mangaassist_assets.core.snapshots import SnapshotStore, canonical_json
from mangaassist_assets.datasets.sources.utterances import Utterance

CORPUS_FILE = "utterances.json"


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
