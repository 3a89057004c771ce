"""What is stored beside a bundle's labels: what people contradict each other on, the report, the judge's answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.labelling.gathering import GatheredLabels
from mangaassist_assets.labelling.intent_labels import CONFLICTS_FILE, LABELS_FILE, LabelConflict, labels_to_parquet
from mangaassist_assets.labelling.judge_answers import IntentJudgement

REPORT_FILE = "report.json"
JUDGEMENTS_FILE = "judgements.json"


def label_files(gathered: GatheredLabels) -> dict[str, bytes]:
    """Return the files of a bundle's labels by name; the same labels give the same bytes."""
    return {
        LABELS_FILE: labels_to_parquet(gathered.labels),
        CONFLICTS_FILE: conflicts_to_json(gathered.conflicts),
        REPORT_FILE: canonical_json(gathered.report()),
        JUDGEMENTS_FILE: judgements_to_json(gathered.judging.judgements),
    }


def conflicts_to_json(conflicts: Sequence[LabelConflict]) -> bytes:
    """Return conflicts as JSON."""
    return canonical_json([asdict(one) for one in conflicts])


def conflicts_from_json(content: bytes) -> list[LabelConflict]:
    """Return the conflicts that `conflicts_to_json` stored."""
    return [
        LabelConflict(trace_ids=tuple(row["trace_ids"]), answers=tuple(row["answers"])) for row in json.loads(content)
    ]


def judgements_to_json(judgements: Mapping[str, IntentJudgement]) -> bytes:
    """Return a judge's answers as JSON by `judgement_key`, which tells nothing of the messages."""
    return canonical_json({key: asdict(judgements[key]) for key in sorted(judgements)})


def judgements_from_json(content: bytes) -> dict[str, IntentJudgement]:
    """Return the answers that `judgements_to_json` stored."""
    return {key: IntentJudgement(**row) for key, row in json.loads(content).items()}
