"""Queries whose relevant documents are known, which retrieval is evaluated with."""

from __future__ import annotations

from mangaassist_assets.core.bundles import bundles_by_start
from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.datasets.sources.training_corpus import read_corpus
from mangaassist_assets.retrieval.evaluation import LabelledQuery
from mangaassist_assets.tracing.ingestion.stored_turns import read_turns


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
        for turn in read_turns(store, bundle):
            if turn.expected_documents:
                labelled = LabelledQuery(
                    text=turn.learnable_text, relevant_documents=turn.expected_documents, tenant=turn.tenant
                )
                queries.setdefault((turn.learnable_text, turn.tenant), labelled)
    return list(queries.values())
