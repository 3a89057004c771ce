"""What this platform shows as Markdown, made of hostile texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mangaassist_assets.core.markdown import bullets, link
from mangaassist_assets.datasets.guards.redaction_pass import RedactionReport
from mangaassist_assets.datasets.versions.data_card import DataCard
from mangaassist_assets.evaluation.gate.gate import judge
from mangaassist_assets.evaluation.gate.table import decision_table
from mangaassist_assets.evaluation.results import GateInput, ModelResults
from mangaassist_assets.labelling.intent_labels import LabelConflict
from mangaassist_assets.models.model_types import TrainedArtifact
from mangaassist_assets.models.registration.model_card import ModelCard
from mangaassist_assets.monitoring.decay_report import BundleFigures, Comparison, DecayReport
from tests.support.hostile_texts import HOSTILE_TEXTS

_EACH = dict.fromkeys(HOSTILE_TEXTS, 1)


def data_card() -> DataCard:
    """Return a card whose every name, note and setting is hostile."""
    return DataCard(
        kind=HOSTILE_TEXTS[0],
        version=HOSTILE_TEXTS[0],
        digest=HOSTILE_TEXTS[0],
        as_of=HOSTILE_TEXTS[0],
        examples=1,
        rows=1,
        shoppers=1,
        sessions=1,
        labellers=1,
        by_split=_EACH,
        by_label_kind=_EACH,
        by_source=_EACH,
        by_origin=_EACH,
        by_intent={text: {"train": 1} for text in HOSTILE_TEXTS},
        by_bundle=_EACH,
        by_language=_EACH,
        by_negative_kind={text: {"train": 1} for text in HOSTILE_TEXTS},
        excluded=_EACH,
        passages_left_out=_EACH,
        conflicts=(LabelConflict(trace_ids=HOSTILE_TEXTS, answers=HOSTILE_TEXTS),),
        notes=HOSTILE_TEXTS,
        redaction=RedactionReport(texts=1, placeholders=_EACH, found_again=_EACH, vocabulary=HOSTILE_TEXTS[0]),
        inputs=dict.fromkeys(HOSTILE_TEXTS, HOSTILE_TEXTS[0]),
        settings=dict.fromkeys(HOSTILE_TEXTS, HOSTILE_TEXTS[0]),
    )


def _model_card() -> ModelCard:
    hostile = HOSTILE_TEXTS[0]
    trained = TrainedArtifact(
        directory=Path("model"),
        digest=hostile,
        metrics=dict.fromkeys(HOSTILE_TEXTS, 1.0),
        kept=hostile,
        started_from=hostile,
        tables={"validation_intents": [{"intent": text} for text in HOSTILE_TEXTS]},
        limits=HOSTILE_TEXTS,
    )
    named = dict.fromkeys(HOSTILE_TEXTS, hostile)
    return ModelCard(
        name=hostile,
        kind=hostile,
        trained=trained,
        dataset=hostile,
        data=data_card(),
        settings=named | {"base": hostile},
        release_bundle=hostile,
        environment=named,
    )


def _decision() -> str:
    count = 10 * len(HOSTILE_TEXTS)
    outcomes = np.arange(count) % 2 * 1.0
    champion, challenger = (
        ModelResults(version=HOSTILE_TEXTS[0], outcomes=values) for values in (outcomes, 1 - outcomes)
    )
    slices = dict.fromkeys(HOSTILE_TEXTS[:3], HOSTILE_TEXTS * 10)
    return decision_table(
        judge(GateInput(metric=HOSTILE_TEXTS[0], binary=True, champion=champion, challenger=challenger, slices=slices))
    )


def _decay() -> str:
    bundles = tuple(
        BundleFigures(release_bundle=text, reviews=1, score=0.5, low=0.1, high=0.9, evidence=1.0)
        for text in HOSTILE_TEXTS
    )
    audited = Comparison(
        selection=HOSTILE_TEXTS[0],
        bundles=bundles,
        reference_reviews=1,
        fresh_reviews=1,
        reference_score=0.5,
        fresh_score=0.5,
        difference=0.0,
        low=-0.1,
        high=0.1,
        evidence=1.0,
        since=HOSTILE_TEXTS[0],
        change=0.1,
        needed_reviews=1,
    )
    return DecayReport(
        metric=HOSTILE_TEXTS[0],
        outcome="steady",
        reasons=HOSTILE_TEXTS,
        promotion_score=0.5,
        fresh_reviews=1,
        audited=audited,
    ).markdown()


def hostile_pages() -> dict[str, str]:
    """Return Markdown by what shows it."""
    return {
        "data_card": data_card().to_markdown(),
        "model_card": _model_card().to_markdown(),
        "model_card_short": _model_card().short(),
        "decision": _decision(),
        "decay": _decay(),
        "bullets": bullets(HOSTILE_TEXTS),
        "links": "\n".join(f"- {link(text, 'http://127.0.0.1:1/')}" for text in HOSTILE_TEXTS),
    }
