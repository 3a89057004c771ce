"""A gate's decision in MLflow: all it rests on with the challenger's run, its verdict on the challenger's version.

The tags come last. So a version that carries a verdict has all it rests on, whatever was killed in between, and logging
the same decision again changes nothing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mangaassist_assets.models.registration.registry import DatasetInput, ModelVersion, RegistryError
from resources.mlflow.registry import MODEL_TAG, ModelRegistry
from resources.mlflow.runs import log_metrics, log_png

if TYPE_CHECKING:
    from mlflow import MlflowClient

VERDICT_TAG = "evaluation_verdict"
AGAINST_TAG = "evaluated_against"
EXAMPLES_TAG = "evaluation_examples"
DATASET_TAG = "evaluation_dataset_sha256"
SCORE_TAG = "evaluation_{metric}"

DECISION_FILE = "decision.json"
TABLE_FILE = "decision.md"
CHART_FILE = "decision.png"

_UNUSUAL = re.compile(r"[^A-Za-z0-9_]+")


def log_verdict(
    client: MlflowClient,
    challenger: ModelVersion,
    *,
    champion_version: str,
    verdict: str,
    metric: str,
    score: float,
    examples: int,
    decision: Mapping[str, Any],
    markdown: str,
    chart: bytes | None = None,
    dataset: DatasetInput | None = None,
) -> str:
    """Log a gate's decision and return the folder of its files in the challenger's run.

    Args:
        client: Of the tracking server.
        challenger: Whose verdict it is.
        champion_version: Of the same model, which it was measured against.
        verdict: `pass`, `fail` or `insufficient_evidence`.
        metric: What decided; `@` and the like become words in the tag's name.
        score: The challenger's mean of it.
        examples: How many held-out examples.
        decision: All numbers, JSON values.
        markdown: The same for a person.
        chart: The same as a picture.
        dataset: The held-out examples; the challenger's metrics are shown with it.

    Raises:
        RegistryError: The challenger has no run to keep the decision with.
    """
    if not challenger.run_id:
        raise RegistryError(
            f"{challenger.name} version {challenger.version} names no run: a verdict is kept with the run that "
            "trained it"
        )
    run_id = challenger.run_id
    folder = f"evaluation/against-version-{champion_version}"
    content = json.dumps(decision, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    client.log_text(run_id, content + "\n", f"{folder}/{DECISION_FILE}")
    client.log_text(run_id, markdown, f"{folder}/{TABLE_FILE}")
    if chart is not None:
        log_png(client, run_id, chart, f"{folder}/{CHART_FILE}")
    figure = metric_name(metric)
    if math.isfinite(score):
        log_metrics(client, run_id, {f"test_{figure}": score}, model_id=challenger.tags.get(MODEL_TAG), dataset=dataset)
    ModelRegistry(client).set_tags(
        challenger.name,
        challenger.version,
        {
            SCORE_TAG.format(metric=figure): f"{score:.4f}",
            EXAMPLES_TAG: str(examples),
            AGAINST_TAG: champion_version,
            **({DATASET_TAG: dataset.sha256} if dataset else {}),
            VERDICT_TAG: verdict,
        },
    )
    return folder


def metric_name(metric: str) -> str:
    """Return a metric's name as tags and MLflow's metrics take it: `nDCG@10` becomes `ndcg_at_10`."""
    return _UNUSUAL.sub("_", metric.replace("@", "_at_")).strip("_").lower()
