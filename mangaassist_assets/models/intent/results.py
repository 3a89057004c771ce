"""How well an intent classifier did on held-out messages: example by example for the gate, and as a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from mangaassist_assets.core.arrays import Flags
from mangaassist_assets.core.text_keys import language_of, length_slice
from mangaassist_assets.evaluation.metrics import classification_figures
from mangaassist_assets.evaluation.reliability import reliability
from mangaassist_assets.evaluation.results import ModelResults, ScopeResults
from mangaassist_assets.models.examples import OUT_OF_SCOPE, IntentExample
from mangaassist_assets.models.intent.model import IntentClassifier
from mangaassist_assets.models.intent.out_of_scope import separation
from mangaassist_assets.models.intent.report import intent_rows


def intent_results(classifier: IntentClassifier, examples: Sequence[IntentExample], *, version: str) -> ModelResults:
    """Let a classifier answer held-out messages.

    A message of an intent is answered rightly if the best intent is the right one, whether it was refused or not: the
    threshold has figures of its own. A message of no intent is answered rightly if it is refused; the confidence in a
    refusal is what the best intent leaves over.
    """
    judged = classifier.judge([example.text for example in examples])
    best = _best_labels(classifier, judged.probabilities)
    none = _of_no_intent(examples)
    named = np.array([example.intent == label for example, label in zip(examples, best, strict=True)], dtype=np.bool_)
    surest = judged.probabilities.max(axis=1).astype(np.float64) if len(examples) else np.zeros(0)
    labels = frozenset(classifier.labels)
    known = np.array([example.intent in labels for example in examples], dtype=np.bool_)
    scope = ScopeResults(
        in_scope_accepted=judged.in_scope[known], out_of_scope_refused=~judged.in_scope[none], in_scope=known
    )
    return ModelResults(
        version=version,
        outcomes=np.where(none, ~judged.in_scope, named).astype(np.float64),
        confidences=np.where(none & ~judged.in_scope, 1.0 - surest, surest),
        scope=None if classifier.scope.threshold is None else scope,
        size_bytes=classifier.size_bytes,
    )


def unknown_intents(classifier: IntentClassifier, examples: Sequence[IntentExample]) -> Flags | None:
    """Return which messages have an intent the classifier never learned; None where it knows all of them.

    To refuse needs no label, so messages of no intent are not unknown.
    """
    labels = {*classifier.labels, OUT_OF_SCOPE}
    flags = np.array([example.intent not in labels for example in examples], dtype=np.bool_)
    return flags if flags.any() else None


def intent_slices(examples: Sequence[IntentExample]) -> dict[str, tuple[str, ...]]:
    """Return intent, language and length of each message, and its tenant where any has one."""
    slices = {
        "intent": tuple(example.intent for example in examples),
        "language": tuple(str(language_of(example.text)) for example in examples),
        "length": tuple(str(length_slice(example.text)) for example in examples),
    }
    if any(example.tenant for example in examples):
        slices["tenant"] = tuple(example.tenant for example in examples)
    return slices


def intent_report(classifier: IntentClassifier, examples: Sequence[IntentExample]) -> Mapping[str, Any]:
    """Return per-intent figures, confusions, calibration bins and scope figures, as JSON values.

    All but the scope figures are about the messages of an intent; empty where there is none.
    """
    none = _of_no_intent(examples)
    judged = classifier.judge([example.text for example in examples])
    scope: dict[str, Any] = {
        "threshold": classifier.scope.threshold,
        "source": classifier.scope.source,
        "out_of_scope_messages": int(none.sum()),
        "in_scope_messages": int((~none).sum()),
    }
    report: dict[str, Any] = {"scope": scope}
    if none.all():
        return report
    truth = [example.intent for example, refuse in zip(examples, none, strict=True) if not refuse]
    probabilities, accepted = judged.probabilities[~none], judged.in_scope[~none]
    predictions = _best_labels(classifier, probabilities)
    figures = classification_figures(truth, predictions)
    right = np.array([one == other for one, other in zip(truth, predictions, strict=True)], dtype=np.bool_)
    calibration = reliability(probabilities.max(axis=1).astype(np.float64), right)
    scope["in_scope_accepted"] = float(accepted.mean())
    if none.any():
        scope["out_of_scope_refused"] = float((~judged.in_scope[none]).mean())
        scope["auroc"] = separation(judged.scope_scores[~none], judged.scope_scores[none])
    has_threshold = classifier.scope.threshold is not None
    report |= {
        "examples": figures.examples,
        "accuracy": figures.accuracy,
        "macro_f1": figures.macro_f1,
        "intents": intent_rows(truth, predictions, accepted=accepted if has_threshold else None),
        "confusions": [asdict(confusion) for confusion in figures.confusions],
        "calibration_error": calibration.expected_calibration_error,
        "calibration": [asdict(one) for one in calibration.bins],
    }
    return report


def _of_no_intent(examples: Sequence[IntentExample]) -> Flags:
    return np.array([example.intent == OUT_OF_SCOPE for example in examples], dtype=np.bool_)


def _best_labels(classifier: IntentClassifier, probabilities: Any) -> list[str]:  # noqa: ANN401 - an array
    return [classifier.labels[number] for number in probabilities.argmax(axis=1)] if len(probabilities) else []
