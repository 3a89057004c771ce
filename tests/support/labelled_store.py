"""A store as mining and labelling leave it, so that datasets can be built and checked without any server."""

from __future__ import annotations

from collections.abc import Sequence

from mangaassist_assets.core.bundles import TURNS_CARD_FILE
from mangaassist_assets.core.codecs import to_parquet
from mangaassist_assets.core.snapshots import SnapshotStore, canonical_json
from mangaassist_assets.datasets.sources.training_corpus import CORPUS_FILE, corpus_to_json
from mangaassist_assets.datasets.sources.utterances import Utterance
from mangaassist_assets.labelling.intent_labels import CONFLICTS_FILE, LABELS_FILE, IntentLabel, labels_to_parquet
from mangaassist_assets.tracing.contract.turns import ChatTurn
from mangaassist_assets.tracing.ingestion.stored_turns import TURNS_FILE
from tests.support.turn_frames import turns_frame


def write_corpus(store: SnapshotStore, utterances: Sequence[Utterance]) -> None:
    """Store a training corpus."""
    store.write("training_corpus", {CORPUS_FILE: corpus_to_json(utterances)})


def write_labelled_bundle(store: SnapshotStore, bundle: str, labels: Sequence[IntentLabel]) -> None:
    """Store the turns that labels are of, and the labels."""
    times = [label.timestamp_ms for label in labels]
    card = {"first_timestamp_ms": min(times), "last_timestamp_ms": max(times)}
    turns = to_parquet(turns_frame(_turn(label) for label in labels))
    store.write("tagged_traces", {TURNS_FILE: turns, TURNS_CARD_FILE: canonical_json(card)}, partition=bundle)
    files = {LABELS_FILE: labels_to_parquet(labels), CONFLICTS_FILE: canonical_json([])}
    store.write("intent_labels", files, partition=bundle)


def _turn(label: IntentLabel) -> ChatTurn:
    return ChatTurn(
        trace_id=label.trace_id,
        timestamp_ms=label.timestamp_ms,
        duration_ms=10,
        state="OK",
        release_bundle=label.release_bundle,
        session_id=label.session_id,
        message=label.text,
        user_key=label.user_key,
    )
