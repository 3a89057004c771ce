"""The labels of a bundle as files: the labels, what people contradict each other on, the report, a judge's answers."""

from __future__ import annotations

from dataclasses import dataclass, fields

from mangaassist_assets.core.bundles import bundles_until
from mangaassist_assets.core.codecs import from_json
from mangaassist_assets.core.snapshots import Snapshot, SnapshotStore, canonical_json
from mangaassist_assets.labelling.gathering import GatheredLabels
from mangaassist_assets.labelling.intent_labels import (
    CONFLICTS_FILE,
    LABELS_FILE,
    labels_from_parquet,
    labels_to_parquet,
)
from mangaassist_assets.labelling.judge import IntentJudgement

REPORT_FILE = "report.json"
JUDGEMENTS_FILE = "judgements.json"
"""A judge's answers by `judgement_key`, which holds no word of the messages."""


def label_files(gathered: GatheredLabels) -> dict[str, bytes]:
    """Return the files of a bundle's labels by name; the same labels give the same bytes."""
    return {
        LABELS_FILE: labels_to_parquet(gathered.labels),
        CONFLICTS_FILE: canonical_json(gathered.conflicts),
        REPORT_FILE: canonical_json(gathered.report()),
        JUDGEMENTS_FILE: canonical_json(dict(gathered.judging.judgements)),
    }


def read_judgements(store: SnapshotStore, release_bundle: str) -> dict[str, IntentJudgement] | None:
    """Return what the judge said of a bundle's messages before; None where its labels were never gathered."""
    before = store.find("intent_labels", partition=release_bundle)
    return None if before is None else from_json(dict[str, IntentJudgement], store.read(before, JUDGEMENTS_FILE))


def read_labelled_intents(store: SnapshotStore, release_bundle: str) -> frozenset[str]:
    """Return the intents that people's labels of the bundles before have: a champion may have learned them."""
    found: set[str] = set()
    for bundle in bundles_until(store, release_bundle):
        stored = store.find("intent_labels", partition=bundle) if bundle != release_bundle else None
        labels = () if stored is None else labels_from_parquet(store.read(stored, LABELS_FILE))
        found |= {label.intent for label in labels if label.kind == "human"}
    return frozenset(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabellersReport:
    """Of a bundle's label report what datasets need: who is listed, whose answers are confirmed or held back."""

    reviewers: tuple[str, ...] = ()
    confirmed: tuple[str, ...] = ()
    held_back: tuple[str, ...] = ()


def read_labellers(store: SnapshotStore, labels: Snapshot) -> LabellersReport:
    """Return who labelled, by the stored labels of a bundle; a report of before knows nothing of it."""
    report = store.read_json(labels, REPORT_FILE) if REPORT_FILE in labels.files else {}
    return LabellersReport(**{one.name: tuple(report.get(one.name, ())) for one in fields(LabellersReport)})
