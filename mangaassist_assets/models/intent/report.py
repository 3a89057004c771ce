"""How each intent is recognised, as rows of a table: for the page, for MLflow, for the model card."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.evaluation.metrics import check_parallel, classification_figures

Row = dict[str, str | int | float]

_DIGITS = 4


def intent_rows(
    truth: Sequence[str],
    predictions: Sequence[str],
    *,
    accepted: Sequence[bool] | NDArray[np.bool_] | None = None,
) -> list[Row]:
    """Return a row for each intent, the worst F1 first: `intent`, `support`, `predicted`, `precision`, `recall`, `f1`.

    With `accepted` there are three more, which say what the out-of-scope threshold costs the intent:
    `refused` (its messages that the threshold sends away), `recall_after_threshold`, `precision_after_threshold`
    (refused messages count as not recognised, and not as predicted).

    Args:
        truth: right intents.
        predictions: the model's best intents, whether it refused or not.
        accepted: whether each message passed the threshold; None for a model without one.

    Raises:
        ValueError: no messages, or sequences of different lengths.
    """
    check_parallel(truth=truth, predictions=predictions)
    figures = classification_figures(truth, predictions, max_confusions=0)
    rows: list[Row] = [
        {
            "intent": one.intent,
            "support": one.support,
            "predicted": one.predicted,
            "precision": round(one.precision, _DIGITS),
            "recall": round(one.recall, _DIGITS),
            "f1": round(one.f1, _DIGITS),
        }
        for one in figures.intents
    ]
    if accepted is not None:
        check_parallel(truth=truth, accepted=accepted)
        _add_threshold(rows, np.asarray(truth), np.asarray(predictions), np.asarray(accepted, dtype=bool))
    return sorted(rows, key=lambda row: (row["f1"], -int(row["support"]), row["intent"]))


def _add_threshold(
    rows: list[Row], truth: NDArray[np.str_], predictions: NDArray[np.str_], accepted: NDArray[np.bool_]
) -> None:
    for row in rows:
        own = truth == row["intent"]
        said = accepted & (predictions == row["intent"])
        hits = int((own & said).sum())
        row["refused"] = int((own & ~accepted).sum())
        row["recall_after_threshold"] = round(hits / int(own.sum()), _DIGITS) if own.any() else 0.0
        row["precision_after_threshold"] = round(hits / int(said.sum()), _DIGITS) if said.any() else 0.0
