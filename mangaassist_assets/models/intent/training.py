"""The intent classifier: mean-pooled DistilBERT with a logistic head, trained from a handful of messages an intent.

Training follows LP-FT (Kumar et al., ICLR 2022): a logistic head on frozen features first, then the upper layers are
fine-tuned *from that head*, which keeps what pretraining knows better than fine-tuning from a random one; last, the
head is fitted again on the new features. The frozen head is tried from the base model and from the present champion's
encoder; the better start is fine-tuned, and what is best on validation is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mangaassist_assets.evaluation.metrics import classification_figures, expected_calibration_error
from mangaassist_assets.models.artifact_output import prepare_output, written_by_leader
from mangaassist_assets.models.encoders.pretrained import PACKAGED_MINILM
from mangaassist_assets.models.examples import IntentExample
from mangaassist_assets.models.intent.candidates import (
    CandidateName,
    IntentCandidate,
    better,
    fine_tuned_candidate,
    frozen_candidate,
    prepare_starts,
)
from mangaassist_assets.models.intent.examples import IntentTrainingError, UsableExamples, usable_examples
from mangaassist_assets.models.intent.fine_tuning import IntentTrainingConfig
from mangaassist_assets.models.intent.heads import cross_validated_logits, fit_temperature, softmax
from mangaassist_assets.models.intent.model import IntentClassifier, LabelScore, write_intent_artifact
from mangaassist_assets.models.intent.out_of_scope import ScopeRule, scope_rule, scope_scores, separation
from mangaassist_assets.models.intent.validation_outcome import ValidationOutcome
from mangaassist_assets.training.checkpoints import Checkpoints
from mangaassist_assets.training.compute import Compute
from mangaassist_assets.training.objective import EpochRecord, LoopResult
from mangaassist_assets.training.progress import ProgressCallback, TrainingProgress, ignore_progress

__all__ = [
    "EpochRecord",
    "IntentClassifier",
    "IntentTrainingConfig",
    "IntentTrainingError",
    "IntentTrainingResult",
    "LabelScore",
    "TrainingProgress",
    "ValidationOutcome",
    "train_intent_classifier",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentTrainingResult:
    """A trained, sealed classifier.

    Attributes:
        directory: The artifact.
        digest: Of the artifact.
        intents: What it can answer, in the order of its labels.
        metrics: What belongs on a training run: sizes; validation figures of the kept model (`validation_accuracy`)
            and of every candidate (`frozen_head_validation_accuracy`, `from_champion_…`, `fine_tuned_…`) with its cost
            in seconds (`frozen_head_seconds`); temperature and threshold. Names that end in `_seconds` or
            `_per_second` differ from run to run; all others repeat.
        history: Epochs of fine-tuning.
        step_losses: Training loss of each of its steps.
        best_epoch: Whose weights the fine-tuned candidate has; None where validation could not choose.
        kept: Which candidate is in the artifact: the logistic head on the base's features, the one on the champion's,
            or the fine-tuned model.
        started_from: The base's name, or the champion's digest.
        validation: What the kept model says on validation; None where validation was too small to choose by.
        scope: Where the classifier refuses.
        notices: What somebody should know, a sentence each: examples that were left out, a champion not used.
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
    notices: tuple[str, ...] = ()


def train_intent_classifier(
    train: Sequence[IntentExample],
    validation: Sequence[IntentExample],
    *,
    config: IntentTrainingConfig,
    output: Path,
    base: str = PACKAGED_MINILM,
    start_from: Path | None = None,
    checkpoints: Checkpoints | None = None,
    compute: Compute | None = None,
    progress: ProgressCallback | None = None,
) -> IntentTrainingResult:
    """Train a classifier and write it, sealed, to `output`.

    With several workers all call it with the same arguments and get the same result; worker 0 writes.

    Args:
        train: At least one message of each of two intents. Weights scale the loss. Messages of no intent
            (`OUT_OF_SCOPE`) and without text are left out and counted.
        validation: Selects start, epoch and candidate, and sets temperature and threshold; may be empty. Messages of
            intents that `train` lacks cannot be recognised: they count as errors in `validation_accuracy` and are used
            for nothing else. Messages of no intent show where to draw the out-of-scope line.
        config: How to train.
        output: The artifact's directory; must not exist or be empty.
        base: Pretrained encoder, see `encoders.load_base`.
        start_from: Artifact of the present champion, whose encoder is tried as a start beside the base's. Its labels
            need not be the dataset's: its head is carried over by name, new intents begin at zero. It is not used
            where validation is too small to choose; neither is one that cannot be loaded, with a notice.
        checkpoints: Where a killed training goes on from. They stay when it ends: whoever asked for them clears them.
        compute: Device and workers; None takes what there is.
        progress: Called with each stage and epoch, and notices.

    Raises:
        IntentTrainingError: No examples, one intent only, or an example that cannot be used.
        BaseModelError: The base model is missing or changed.
        FileExistsError: `output` holds files.
        ArtifactWriteError: The artifact could not be written; nothing of it is left.
    """
    compute = compute or Compute.detect()
    report = progress if progress is not None and compute.leads else ignore_progress
    _claim(output, compute)
    examples = usable_examples(train, validation, minimum_validation=config.minimum_validation)
    report(TrainingProgress(stage="features"))
    starts, notices = prepare_starts(base, start_from, examples, config=config, compute=compute)
    notices = (*examples.notices, *notices)
    for notice in notices:
        report(TrainingProgress(stage="features", notice=notice))

    candidates = [frozen_candidate(start, examples, config=config) for start in starts]
    loop: LoopResult | None = None
    if config.fine_tune:
        start = better(candidates, examples, compute).start
        first = next(candidate for candidate in candidates if candidate.start is start)
        tuned, loop = fine_tuned_candidate(
            first, examples, config=config, compute=compute, checkpoints=checkpoints, progress=report
        )
        candidates.append(tuned)
    kept = better(candidates, examples, compute) if examples.validation_decides else candidates[-1]

    temperature, rule = _calibrated(kept, candidates[0], examples, config)
    metrics = _metrics(kept, candidates, examples, temperature=temperature, rule=rule, loop=loop)
    report(TrainingProgress(stage="write", figures=metrics))
    encoder = kept.restored()
    digest = written_by_leader(
        compute,
        lambda: write_intent_artifact(
            output,
            encoder=encoder,
            tokenizer=kept.start.tokenizer,
            head=kept.head,
            intents=examples.intents,
            temperature=temperature,
            max_tokens=config.max_tokens,
            scope=rule,
            provenance={
                "base": base,
                "kept": kept.name,
                "started_from": kept.start.name,
                "training": config.deciding(),
            },
        ),
    )
    return IntentTrainingResult(
        directory=output,
        digest=digest,
        intents=examples.intents,
        metrics=metrics,
        history=loop.history if loop else (),
        step_losses=loop.step_losses if loop else (),
        best_epoch=loop.best_epoch if loop else None,
        kept=kept.name,
        started_from=kept.start.name,
        validation=_outcome(kept, examples, temperature) if examples.validation_decides else None,
        scope=rule,
        notices=notices,
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

    What cross-validation says is about heads on *frozen* features: features that were fine-tuned on all of train know
    the answers. The temperature is near enough for the fine-tuned model; a threshold on its logits is not, so it gets
    none.
    """
    if examples.validation_decides:
        rule = scope_rule(
            scope_scores(kept.validation_logits),
            scope_scores(kept.out_of_scope_logits),
            share=config.in_scope_share,
            minimum_out_of_scope=config.minimum_out_of_scope,
        )
        return fit_temperature(kept.validation_logits, examples.validation_targets), rule
    logits, targets = cross_validated_logits(
        frozen.features,
        examples.targets,
        classes=len(examples.intents),
        weights=examples.weights(config.class_balance),
        inverse_regularisation=config.inverse_regularisation,
        seed=config.seed,
    )
    if not len(targets):
        return 1.0, ScopeRule()
    usable = kept is frozen and len(targets) >= config.minimum_validation
    rule = scope_rule(
        scope_scores(logits) if usable else np.zeros(0),
        scope_scores(kept.out_of_scope_logits),
        share=config.in_scope_share,
        minimum_out_of_scope=config.minimum_out_of_scope,
        held_out="cross_validation",
    )
    return fit_temperature(logits, targets), rule


def _metrics(
    kept: IntentCandidate,
    candidates: Sequence[IntentCandidate],
    examples: UsableExamples,
    *,
    temperature: float,
    rule: ScopeRule,
    loop: LoopResult | None,
) -> dict[str, float]:
    metrics = examples.counts() | {"temperature": temperature}
    for candidate in candidates:
        figures = _validation_figures(candidate, examples)
        metrics |= {f"{candidate.name}_{name}": value for name, value in figures.items()}
        metrics[f"{candidate.name}_seconds"] = candidate.seconds
        if candidate is kept:
            metrics |= figures
    if loop is not None:
        metrics["fine_tuned_samples_per_second"] = loop.samples_per_second
        metrics["fine_tuned_epochs"] = float(len(loop.history))
    if rule.threshold is not None:
        metrics["out_of_scope_threshold"] = rule.threshold
    if examples.validation_decides:
        probabilities = softmax(kept.validation_logits, temperature=temperature)
        right = probabilities.argmax(axis=1) == examples.validation_targets
        metrics["validation_calibration_error"] = expected_calibration_error(
            probabilities.max(axis=1).astype(np.float64), right
        )
        scores = scope_scores(kept.validation_logits)
        metrics["validation_in_scope_accepted"] = float(rule.accepts(scores).mean())
        if examples.out_of_scope:
            refused = scope_scores(kept.out_of_scope_logits)
            metrics["validation_out_of_scope_refused"] = float(1.0 - rule.accepts(refused).mean())
            metrics["validation_out_of_scope_auroc"] = separation(scores, refused)
    return metrics


def _validation_figures(candidate: IntentCandidate, examples: UsableExamples) -> dict[str, float]:
    targets = examples.validation_targets
    if not len(targets):
        return {}
    intents = examples.intents
    predictions = candidate.validation_logits.argmax(axis=1)
    figures = classification_figures(
        [intents[number] for number in targets], [intents[number] for number in predictions]
    )
    return {
        "validation_accuracy": figures.accuracy * len(targets) / (len(targets) + examples.unknown),
        "validation_macro_f1": figures.macro_f1,
        "validation_loss": candidate.calibrated_loss(examples),
    }


def _outcome(kept: IntentCandidate, examples: UsableExamples, temperature: float) -> ValidationOutcome:
    return ValidationOutcome(
        intents=examples.intents,
        targets=examples.validation_targets,
        logits=kept.validation_logits,
        temperature=temperature,
        out_of_scope_logits=kept.out_of_scope_logits,
    )
