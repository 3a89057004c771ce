"""How well an intent classifier did: on validation for charts and the card, on held-out messages for the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.arrays import Flags, Floats
from mangaassist_assets.evaluation.metrics import check_parallel, classification_figures, reliability
from mangaassist_assets.evaluation.results import ModelResults, ScopeResults
from mangaassist_assets.models.examples import OUT_OF_SCOPE, IntentExample
from mangaassist_assets.models.intent.heads import Features, softmax
from mangaassist_assets.models.intent.model import IntentClassifier, JudgedTexts
from mangaassist_assets.models.intent.out_of_scope import Scores, scope_scores, separation

Row = dict[str, str | int | float]

_DIGITS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationOutcome:
    """A kept model on validation messages of its intents, and on those of none: enough for charts and tables.

    Attributes:
        intents: Its labels.
        targets: Class numbers of the messages of its intents, shape (n,).
        logits: Before any temperature, shape (n, intents).
        temperature: What the logits are divided by.
        out_of_scope_logits: Of the messages of no intent, shape (m, intents).
    """

    intents: tuple[str, ...]
    targets: NDArray[np.int64]
    logits: Features
    temperature: float
    out_of_scope_logits: Features

    @property
    def truth(self) -> list[str]:
        """Right intents."""
        return [self.intents[number] for number in self.targets]

    @property
    def predictions(self) -> list[str]:
        """The model's best intents."""
        return [self.intents[number] for number in self.logits.argmax(axis=1)]

    @property
    def right(self) -> Flags:
        """Whether they are the same, shape (n,)."""
        return np.asarray(self.logits.argmax(axis=1) == self.targets, dtype=np.bool_)

    def confidences(self, *, calibrated: bool = True) -> Floats:
        """Return the probability of each best intent, with the temperature or without, shape (n,)."""
        probabilities = softmax(self.logits, temperature=self.temperature if calibrated else 1.0)
        return np.asarray(probabilities.max(axis=1), dtype=np.float64)

    @property
    def scope_scores(self) -> Scores:
        """Scope scores of the messages of its intents, shape (n,)."""
        return scope_scores(self.logits / self.temperature)

    @property
    def out_of_scope_scores(self) -> Scores:
        """Scope scores of the messages of none, shape (m,)."""
        return scope_scores(self.out_of_scope_logits / self.temperature)


def intent_rows(
    truth: Sequence[str], predictions: Sequence[str], *, accepted: Sequence[bool] | Flags | None = None
) -> list[Row]:
    """Return a row for each intent, the worst F1 first: `intent`, `support`, `predicted`, `precision`, `recall`, `f1`.

    With `accepted` there are three more, which state what the out-of-scope threshold costs the intent:
    `refused` (its messages that the threshold sends away), `recall_after_threshold`, `precision_after_threshold`
    (refused messages count as not recognised, and not as predicted).

    `predictions` are the best intents, whether the model refused or not; `accepted` is None for a model without a
    threshold.

    Raises:
        ValueError: No messages, or sequences of different lengths.
    """
    figures = classification_figures(truth, predictions, max_confusions=0)
    rows: list[Row] = [
        {name: round(value, _DIGITS) if isinstance(value, float) else value for name, value in asdict(one).items()}
        for one in figures.intents
    ]
    if accepted is not None:
        check_parallel(truth=truth, accepted=accepted)
        right, predicted, passed = np.asarray(truth), np.asarray(predictions), np.asarray(accepted, dtype=bool)
        for row in rows:
            own, answered = right == row["intent"], passed & (predicted == row["intent"])
            hits = int((own & answered).sum())
            row["refused"] = int((own & ~passed).sum())
            row["recall_after_threshold"] = round(hits / int(own.sum()), _DIGITS) if own.any() else 0.0
            row["precision_after_threshold"] = round(hits / int(answered.sum()), _DIGITS) if answered.any() else 0.0
    return sorted(rows, key=lambda row: (row["f1"], -int(row["support"]), row["intent"]))


def intent_results(classifier: IntentClassifier, examples: Sequence[IntentExample], *, version: str) -> ModelResults:
    """Let a classifier answer held-out messages.

    A message of an intent is answered rightly if the best intent is the right one, whether it was refused or not: the
    threshold has figures of its own. A message of no intent is answered rightly if it is refused; the confidence in a
    refusal is what the best intent leaves over.
    """
    return answered(
        classifier.judge([example.text for example in examples]),
        examples,
        labels=classifier.labels,
        refuses=classifier.scope.threshold is not None,
        version=version,
        size_bytes=classifier.size_bytes,
    )


def answered(
    judged: JudgedTexts,
    examples: Sequence[IntentExample],
    *,
    labels: Sequence[str],
    refuses: bool,
    version: str,
    size_bytes: int | None = None,
) -> ModelResults:
    """Return how right answers to held-out messages are, see `intent_results`.

    `labels` are in the order of the columns of the probabilities; `refuses` says whether the model has a threshold.
    """
    best = [labels[number] for number in judged.probabilities.argmax(axis=1)]
    intents = [example.intent for example in examples]
    none, known = _flags(intents, {OUT_OF_SCOPE}), _flags(intents, set(labels))
    named = np.array([intent == label for intent, label in zip(intents, best, strict=True)], dtype=np.bool_)
    surest = judged.probabilities.max(axis=1).astype(np.float64) if len(examples) else np.zeros(0)
    scope = ScopeResults(
        in_scope_accepted=judged.in_scope[known],
        out_of_scope_refused=~judged.in_scope[none],
        in_scope=known,
        out_of_scope=none,
    )
    return ModelResults(
        version=version,
        outcomes=np.where(none, ~judged.in_scope, named).astype(np.float64),
        confidences=np.where(none & ~judged.in_scope, 1.0 - surest, surest),
        scope=scope if refuses else None,
        size_bytes=size_bytes,
    )


def unknown_intents(classifier: IntentClassifier, examples: Sequence[IntentExample]) -> Flags | None:
    """Return which messages have an intent the classifier never learned; None where it knows all of them.

    To refuse needs no label, so messages of no intent are not unknown.
    """
    flags = ~_flags([example.intent for example in examples], {*classifier.labels, OUT_OF_SCOPE})
    return flags if flags.any() else None


def intent_report(classifier: IntentClassifier, examples: Sequence[IntentExample]) -> Mapping[str, Any]:
    """Return per-intent figures, confusions, calibration bins and scope figures, as JSON values.

    All but the scope figures are about the messages of an intent; empty where there is none.
    """
    none = _flags([example.intent for example in examples], {OUT_OF_SCOPE})
    judged = classifier.judge([example.text for example in examples])
    scope: dict[str, Any] = {
        "threshold": classifier.scope.threshold,
        "source": classifier.scope.source,
        "out_of_scope_messages": int(none.sum()),
        "in_scope_messages": int((~none).sum()),
    }
    if none.all():
        return {"scope": scope}
    truth = [example.intent for example in examples if example.intent != OUT_OF_SCOPE]
    probabilities, accepted = judged.probabilities[~none], judged.in_scope[~none]
    predictions = classifier.best_labels(probabilities)
    figures = classification_figures(truth, predictions)
    right = [one == other for one, other in zip(truth, predictions, strict=True)]
    calibration = reliability(probabilities.max(axis=1), right)
    scope["in_scope_accepted"] = float(accepted.mean())
    if none.any():
        scope["out_of_scope_refused"] = float((~judged.in_scope[none]).mean())
        scope["auroc"] = separation(judged.scope_scores[~none], judged.scope_scores[none])
    return {
        "scope": scope,
        "examples": figures.examples,
        "accuracy": figures.accuracy,
        "macro_f1": figures.macro_f1,
        "intents": intent_rows(truth, predictions, accepted=None if classifier.scope.threshold is None else accepted),
        "confusions": [asdict(confusion) for confusion in figures.confusions],
        "calibration_error": calibration.expected_calibration_error,
        "calibration": [asdict(one) for one in calibration.bins],
    }


def _flags(intents: Sequence[str], names: set[str]) -> Flags:
    return np.array([intent in names for intent in intents], dtype=np.bool_)
