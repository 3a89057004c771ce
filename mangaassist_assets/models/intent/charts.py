"""The pictures of an intent classifier's training, by file name: what a run keeps and the page shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mangaassist_assets.evaluation.reliability import reliability
from mangaassist_assets.models.intent.training_charts import (
    confusion_chart,
    learning_curve_chart,
    reliability_chart,
    scope_chart,
)

if TYPE_CHECKING:
    from mangaassist_assets.models.intent.validation_outcome import ValidationOutcome
    from mangaassist_assets.training.objective import EpochRecord

CONFUSION = "confusion.png"
RELIABILITY = "reliability.png"
SCOPE = "scope.png"
LEARNING_CURVE = "learning_curve.png"


def intent_charts(
    validation: ValidationOutcome | None,
    history: Sequence[EpochRecord],
    *,
    threshold: float | None,
    kept_epoch: int | None = None,
    step_losses: Sequence[float] = (),
) -> dict[str, bytes]:
    """Return PNG files by name; what there is nothing to draw of is left out.

    Args:
        validation: what the kept model said on validation; None where there was too little of it.
        history: epochs of the fine-tuning; empty where none was done.
        threshold: scope score below which a message is refused; None for a model that answers everything.
        kept_epoch: epoch whose weights were kept.
        step_losses: training loss of every step.
    """
    charts: dict[str, bytes] = {}
    if history:
        charts[LEARNING_CURVE] = learning_curve_chart(history, step_losses=step_losses, kept=kept_epoch)
    if validation is None:
        return charts
    if len(validation.targets):
        charts[CONFUSION] = confusion_chart(validation.truth, validation.predictions)
        charts[RELIABILITY] = reliability_chart(
            reliability(validation.confidences(calibrated=False), validation.right),
            reliability(validation.confidences(), validation.right),
            title="Reliability on validation",
        )
    if len(validation.targets) or len(validation.out_of_scope_logits):
        charts[SCOPE] = scope_chart(
            validation.scope_scores, validation.out_of_scope_scores, threshold=threshold, x_label="scope score"
        )
    return charts
