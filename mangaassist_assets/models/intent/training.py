"""The intent classifier: mean-pooled DistilBERT with a logistic head, trained from a handful of messages an intent.

Training follows LP-FT (Kumar et al., ICLR 2022): a logistic head on frozen features first, then the upper layers are
fine-tuned *from that head*, which keeps what pretraining knows better than fine-tuning from a random one; last, the
head is fitted again on the new features. What is better on validation is kept. Then validation has done its work, and
the kept model is trained once more on training and validation messages together (`refit`).

Every training starts from the base model, never from the champion: that has learned validation messages and tests of
this training, and what it learned from people who were erased since would live on in its weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mangaassist_assets.evaluation.metrics import classification_figures, expected_calibration_error
from mangaassist_assets.models.artifacts import artifact_settings, prepare_output, written_by_leader
from mangaassist_assets.models.encoders import PACKAGED_MINILM
from mangaassist_assets.models.examples import IntentExample
from mangaassist_assets.models.intent.candidates import (
    CandidateName,
    IntentCandidate,
    better,
    fine_tuned_candidate,
    frozen_candidate,
    prepare_start,
)
from mangaassist_assets.models.intent.examples import UsableExamples, usable_examples
from mangaassist_assets.models.intent.fine_tuning import IntentTrainingConfig
from mangaassist_assets.models.intent.heads import cross_validated_logits, fit_temperature
from mangaassist_assets.models.intent.out_of_scope import ScopeRule, scope_rule, scope_scores, separation
from mangaassist_assets.models.intent.refit import refit
from mangaassist_assets.models.intent.results import ValidationOutcome
from mangaassist_assets.models.intent.writing import write_classifier
from mangaassist_assets.models.model_types import TrainingRequest
from mangaassist_assets.models.parity import MOST_COMPARED, spread
from mangaassist_assets.models.precision import ONNX_SETTINGS, ServedPrecision
from mangaassist_assets.training.compute import Compute
from mangaassist_assets.training.objective import EpochRecord, LoopResult, TrainingProgress, ignore_progress


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentTrainingResult:
    """A trained, sealed classifier.

    Attributes:
        directory: The artifact.
        digest: Of the artifact.
        intents: What it can answer, in the order of its labels.
        metrics: What belongs on a training run: sizes; validation figures of the kept model (`validation_accuracy`)
            before it was refitted, and of every candidate (`frozen_head_validation_accuracy`, `fine_tuned_…`) with its
            cost in seconds (`frozen_head_seconds`); temperature and threshold; what serves
            (`onnx_…`). Names that end in `_seconds` or `_per_second` differ from run to run; all others repeat.
        history: Epochs of fine-tuning.
        step_losses: Training loss of each of its steps.
        best_epoch: Whose weights the fine-tuned candidate has; None where validation could not choose.
        kept: Which candidate is in the artifact: the logistic head on the base's features, or the fine-tuned model.
        started_from: The base's name.
        validation: The kept model on validation, before it was refitted; None where validation was too small to choose
            by.
        scope: Where the classifier refuses.
        served: In which form the artifact's ONNX file serves, and why.
        notices: What somebody should know, a sentence each: examples that were left out.
    """

    directory: Path
    digest: str
    intents: tuple[str, ...]
    metrics: Mapping[str, float]
    history: tuple[EpochRecord, ...]
    step_losses: tuple[float, ...]
    best_epoch: int | None
    kept: CandidateName
    started_from: str
    validation: ValidationOutcome | None
    scope: ScopeRule
    served: ServedPrecision
    notices: tuple[str, ...] = ()


def train_intent_classifier(
    request: TrainingRequest[IntentExample],
    *,
    config: IntentTrainingConfig,
    base: str = PACKAGED_MINILM,
    compute: Compute | None = None,
) -> IntentTrainingResult:
    """Train a classifier and write it, sealed, to `request.output`.

    With several workers all call it with the same arguments and get the same result; worker 0 writes.

    Args:
        request: `train` has at least one message of each of two intents; weights scale the loss. Messages of no intent
            (`OUT_OF_SCOPE`) and without text are left out and counted. `validation` selects epoch and candidate, and
            sets temperature and threshold: messages of intents that `train` lacks cannot be recognised, they count as
            errors in `validation_accuracy` and are used for nothing else; messages of no intent show where to draw the
            out-of-scope line. `champion` is not used. Checkpoints stay when training ends: whoever asked for them
            clears them.
        config: How to train.
        base: Pretrained encoder, see `encoders.load_base`.
        compute: Device and workers; None takes what there is.

    Raises:
        IntentTrainingError: No examples, one intent only, or an example that cannot be used.
        BaseModelError: The base model is missing or changed.
        FileExistsError: `output` holds files.
        ArtifactWriteError: The artifact could not be written; nothing of it is left.
    """
    compute = compute or Compute.detect()
    report = request.progress if compute.leads else ignore_progress
    _claim(request.output, compute)
    examples = usable_examples(request.train, request.validation, minimum_validation=config.minimum_validation)
    report(TrainingProgress(stage="features"))
    start = prepare_start(base, examples, config=config, compute=compute)
    for notice in examples.notices:
        report(TrainingProgress(stage="features", notice=notice))

    frozen = frozen_candidate(start, examples, config=config)
    candidates = [frozen]
    loop: LoopResult | None = None
    if config.fine_tune:
        tuned, loop = fine_tuned_candidate(
            frozen, examples, config=config, compute=compute, checkpoints=request.checkpoints, progress=report
        )
        candidates.append(tuned)
    kept = better(candidates, examples, compute) if examples.validation_decides else candidates[-1]

    temperature, rule = _calibrated(kept, frozen, examples, config)
    outcome = None
    if examples.validation_decides:
        outcome = ValidationOutcome(
            intents=examples.intents,
            targets=examples.validation_targets,
            logits=kept.validation_logits,
            temperature=temperature,
            out_of_scope_logits=kept.out_of_scope_logits,
        )
    metrics = examples.counts() | {"temperature": temperature} | _metrics(kept, candidates, examples, loop)
    metrics |= _scope_metrics(outcome, rule)
    final = kept
    provenance: dict[str, Any] = {
        "base": base,
        "kept": kept.name,
        "training": config.deciding(),
    }
    epochs = (loop.best_epoch or len(loop.history)) if loop is not None and kept is not frozen else None
    if epochs is not None:
        provenance["epochs"] = epochs
    if config.refit and examples.validation_decides:
        again = refit(
            kept,
            frozen,
            examples,
            epochs=epochs,
            config=config,
            compute=compute,
            checkpoints=request.checkpoints,
            progress=report,
        )
        final, provenance["refit"] = again.candidate, again.provenance()
        metrics |= again.metrics()
    report(TrainingProgress(stage="write", figures=metrics))
    classifier = final.classifier(examples.intents, temperature=temperature, max_tokens=config.max_tokens, scope=rule)
    # A message that comes twice shows nothing the second time.
    texts = list({one.text: None for one in (*examples.validation, *examples.out_of_scope)})
    if len(texts) < MOST_COMPARED:
        further = list({one.text: None for one in examples.train}.keys() - set(texts))
        texts += spread(sorted(further), MOST_COMPARED - len(texts))

    def write() -> str:
        classifier.pretrained.encoder.to("cpu")
        return write_classifier(request.output, classifier, texts=texts, provenance=provenance)

    digest = written_by_leader(compute, write)
    served = ServedPrecision(**artifact_settings(request.output)[ONNX_SETTINGS])
    return IntentTrainingResult(
        directory=request.output,
        digest=digest,
        intents=examples.intents,
        metrics=metrics | served.metrics(),
        history=loop.history if loop else (),
        step_losses=loop.step_losses if loop else (),
        best_epoch=loop.best_epoch if loop else None,
        kept=kept.name,
        started_from=base,
        validation=outcome,
        scope=rule,
        served=served,
        notices=examples.notices,
    )


def _claim(output: Path, compute: Compute) -> None:
    """Refuse a folder with files before hours are spent; all workers get worker 0's answer."""
    problem: OSError | None = None
    if compute.leads:
        try:
            prepare_output(output)
        except OSError as error:
            problem = error
    if not compute.agreed(problem is None):
        raise problem or FileExistsError(f"worker 0 cannot write to {output}, or it holds files already")


def _calibrated(
    kept: IntentCandidate, frozen: IntentCandidate, examples: UsableExamples, config: IntentTrainingConfig
) -> tuple[float, ScopeRule]:
    """Return temperature and threshold: by validation, or by held-out parts of train where that is too small.

    Cross-validation is about heads on *frozen* features: features that were fine-tuned on all of train know the
    answers. The temperature is near enough for the fine-tuned model; a threshold on its logits is not, so it gets none.
    """
    if examples.validation_decides:
        temperature = fit_temperature(kept.validation_logits, examples.validation_targets)
        accepted = scope_scores(kept.validation_logits / temperature)
        refused = scope_scores(kept.out_of_scope_logits / temperature)
        rule = scope_rule(
            accepted, refused, share=config.in_scope_share, minimum_out_of_scope=config.minimum_out_of_scope
        )
        return temperature, rule
    logits, targets = cross_validated_logits(
        frozen.features[: len(examples.train)],
        examples.targets,
        classes=len(examples.intents),
        weights=examples.weights(config.class_balance),
        inverse_regularisation=config.inverse_regularisation,
        seed=config.seed,
    )
    if not len(targets):
        return 1.0, ScopeRule()
    temperature = fit_temperature(logits, targets)
    usable = kept is frozen and len(targets) >= config.minimum_validation
    rule = scope_rule(
        scope_scores(logits / temperature) if usable else np.zeros(0),
        scope_scores(kept.out_of_scope_logits / temperature),
        share=config.in_scope_share,
        minimum_out_of_scope=config.minimum_out_of_scope,
        held_out="cross_validation",
    )
    return temperature, rule


def _metrics(
    kept: IntentCandidate, candidates: Sequence[IntentCandidate], examples: UsableExamples, loop: LoopResult | None
) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for candidate in candidates:
        figures = _validation_figures(candidate, examples)
        metrics |= {f"{candidate.name}_{name}": value for name, value in figures.items()}
        metrics[f"{candidate.name}_seconds"] = candidate.seconds
        if candidate is kept:
            metrics |= figures
    if loop is not None:
        metrics["fine_tuned_samples_per_second"] = loop.samples_per_second
        metrics["fine_tuned_epochs"] = float(len(loop.history))
    return metrics


def _validation_figures(candidate: IntentCandidate, examples: UsableExamples) -> dict[str, float]:
    targets = examples.validation_targets
    if not len(targets):
        return {}
    truth, predictions = (
        [examples.intents[number] for number in numbers]
        for numbers in (targets, candidate.validation_logits.argmax(axis=1))
    )
    figures = classification_figures(truth, predictions)
    return {
        "validation_accuracy": figures.accuracy * len(targets) / (len(targets) + examples.unknown),
        "validation_macro_f1": figures.macro_f1,
        "validation_loss": candidate.calibrated_loss(examples),
    }


def _scope_metrics(outcome: ValidationOutcome | None, rule: ScopeRule) -> dict[str, float]:
    metrics: dict[str, float] = {}
    if rule.threshold is not None:
        metrics["out_of_scope_threshold"] = rule.threshold
    if outcome is not None:
        accepted, refused = outcome.scope_scores, outcome.out_of_scope_scores
        metrics["validation_calibration_error"] = expected_calibration_error(outcome.confidences(), outcome.right)
        metrics["validation_in_scope_accepted"] = float(rule.accepts(accepted).mean())
        if len(refused):
            metrics["validation_out_of_scope_refused"] = float(1.0 - rule.accepts(refused).mean())
            metrics["validation_out_of_scope_auroc"] = separation(accepted, refused)
    return metrics
