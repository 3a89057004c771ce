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

from mangaassist_assets.models.registration.registry import ModelVersion, RegistryError
from resources.mlflow.registry import MODEL_TAG, ModelRegistry
from resources.mlflow.runs import log_file, log_metrics

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from mangaassist_assets.models.champion_challenger import Evaluation

_UNUSUAL = re.compile(r"[^A-Za-z0-9_]+")


def log_verdict(
    client: MlflowClient,
    challenger: ModelVersion,
    evaluation: Evaluation,
    *,
    decision: Mapping[str, Any],
    chart: bytes | None = None,
) -> str:
    """Log a gate's decision and return the folder of its files in the challenger's run.

    Args:
        client: Of the tracking server.
        challenger: Whose verdict it is.
        evaluation: What was compared, by what metric, and the verdict with its table (Markdown).
        decision: All numbers, JSON values.
        chart: The same as a picture.

    Raises:
        RegistryError: The challenger has no run to keep the decision with.
    """
    if not challenger.run_id:
        raise RegistryError(
            f"{challenger.name} version {challenger.version} names no run: a verdict is kept with the run that "
            "trained it"
        )
    run_id = challenger.run_id
    folder = f"evaluation/against-version-{evaluation.champion_version}"
    content = json.dumps(decision, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    client.log_text(run_id, content + "\n", f"{folder}/decision.json")
    client.log_text(run_id, evaluation.table, f"{folder}/decision.md")
    if chart is not None:
        log_file(client, run_id, chart, f"{folder}/decision.png")
    figure, score = metric_name(evaluation.metric), evaluation.challenger_score
    if math.isfinite(score):
        log_metrics(client, run_id, {f"test_{figure}": score}, model_id=challenger.tags.get(MODEL_TAG))
    tags = {
        f"evaluation_{figure}": f"{score:.4f}",
        "evaluation_examples": str(evaluation.test_examples),
        "evaluated_against": evaluation.champion_version,
        "evaluation_verdict": evaluation.verdict,
    }
    ModelRegistry(client).set_tags(challenger.name, challenger.version, tags)
    return folder


def metric_name(metric: str) -> str:
    """Return a metric's name as tags and MLflow's metrics take it: `nDCG@10` becomes `ndcg_at_10`."""
    return _UNUSUAL.sub("_", metric.replace("@", "_at_")).strip("_").lower()
