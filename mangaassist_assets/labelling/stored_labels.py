"""What is stored beside a bundle's labels: what people contradict each other on, the report, the judge's answers."""

from __future__ import annotations

from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.labelling.gathering import GatheredLabels
from mangaassist_assets.labelling.intent_labels import CONFLICTS_FILE, LABELS_FILE, labels_to_parquet

REPORT_FILE = "report.json"
JUDGEMENTS_FILE = "judgements.json"
"""A judge's answers by `judgement_key`, which tells nothing of the messages."""


def label_files(gathered: GatheredLabels) -> dict[str, bytes]:
    """Return the files of a bundle's labels by name; the same labels give the same bytes."""
    return {
        LABELS_FILE: labels_to_parquet(gathered.labels),
        CONFLICTS_FILE: canonical_json(gathered.conflicts),
        REPORT_FILE: canonical_json(gathered.report()),
        JUDGEMENTS_FILE: canonical_json(dict(gathered.judging.judgements)),
    }
