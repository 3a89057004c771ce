"""The chosen model, trained once more on everything that may teach: training and validation messages together.

Validation has done its work when start, epoch, candidate, temperature and threshold are chosen; its messages are
labelled ones, and a model that never learns from them is the worse for it. The chosen weights are not thrown away: two
trainings from one start lie near enough to each other for the mean of their weights to be better than either (model
soups: Wortsman et al., ICML 2022), and here both were paid for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mangaassist_assets.models.intent.candidates import IntentCandidate, fitted_head, training_layers
from mangaassist_assets.models.intent.examples import UsableExamples
from mangaassist_assets.models.intent.fine_tuning import IntentObjective, IntentTrainingConfig, learned_weights
from mangaassist_assets.training.checkpoints import Checkpoints
from mangaassist_assets.training.compute import Compute
from mangaassist_assets.training.loop import run_training_loop
from mangaassist_assets.training.objective import ProgressCallback, TrainingProgress

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Refit:
    """A refitted model and what it was made of.

    `candidate` has the new weights and the new head; its logits on validation are those of the held-out run, whose
    model had not seen those messages. `epochs` is None for a head on frozen features.
    """

    candidate: IntentCandidate
    messages: int
    epochs: int | None
    seconds: float

    def provenance(self) -> dict[str, int | str | None]:
        """Return how the model came about, as JSON values."""
        return {"messages": self.messages, "epochs": self.epochs, "calibrated_on": "held-out run"}

    def metrics(self) -> dict[str, float]:
        """Return its figures, under MLflow's names."""
        return {"refit_examples": float(self.messages), "refit_seconds": self.seconds}


def refit(
    kept: IntentCandidate,
    first: IntentCandidate,
    examples: UsableExamples,
    *,
    epochs: int | None,
    config: IntentTrainingConfig,
    compute: Compute,
    checkpoints: Checkpoints | None,
    progress: ProgressCallback,
) -> Refit:
    """Train `kept` again as it was trained, on training and validation messages.

    Nothing can be held out here: a fine-tuned model learns for as many `epochs` as were best in the held-out run, its
    learning rate falling to zero in them; then its layers become the mean of what they are and what `kept` has, and the
    head is fitted to them.

    Args:
        kept: What was chosen.
        first: The frozen candidate: `kept` itself, or what it was fine-tuned from.
        examples: What `kept` was trained and chosen on.
        epochs: Passes over the messages; None fits a head on frozen features, as `kept` has one.
        config: How to train.
        compute: Device and workers.
        checkpoints: Where to go on from and what to write, in a folder of its own below the held-out run's.
        progress: Called as training goes on.
    """
    began = time.perf_counter()
    everything = examples.with_validation()
    start, classes = kept.start, len(everything.intents)
    encoder = first.restored()
    training = training_layers(encoder, start.pretrained.tokenizer, everything, config=config, layers=start.layers)
    frozen, tuned = config.inverse_regularisation, config.tuned_inverse_regularisation
    _, head = fitted_head(encoder, training, classes=classes, inverse_regularisation=frozen, initial=first.head)
    if epochs is not None:
        if checkpoints is not None:
            fingerprint = f"{checkpoints.fingerprint}/refit/{epochs}"
            checkpoints = replace(checkpoints, folder=checkpoints.folder / "refit", fingerprint=fingerprint)
        objective = IntentObjective(encoder, head, training, None, config=config, compute=compute)
        loop = replace(config.loop(), epochs=epochs)
        run_training_loop(objective, loop, progress=_named(progress), compute=compute, checkpoints=checkpoints)
        encoder.model.load_state_dict(_mean(learned_weights(encoder, start.layers), kept.upper), strict=False)
        _, head = fitted_head(encoder, training, classes=classes, inverse_regularisation=tuned, initial=head)
    return Refit(
        candidate=replace(kept, upper=learned_weights(encoder, start.layers), head=head),
        messages=len(everything.train),
        epochs=epochs,
        seconds=time.perf_counter() - began,
    )


def _mean(some: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: (weight + others[name]) / 2 for name, weight in some.items()}


def _named(progress: ProgressCallback) -> ProgressCallback:
    """Return what tells the steps under a stage of their own: they count from 1 again."""

    def told(what: TrainingProgress) -> None:
        progress(replace(what, stage="refit") if what.stage == "fine-tune" else what)

    return told
