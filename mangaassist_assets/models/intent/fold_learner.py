"""Intent classifiers of folds: trained like a registered one, from fewer messages, asked and thrown away.

Nothing is chosen again: candidate, epochs, temperature and threshold are those of the registered training, but a fold's
model makes no more than three passes, so that all of them together cost about what the registered one does. The base is
loaded once, and so are the frozen layers' states of all messages, which no label changes. No file is written.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from mangaassist_assets.evaluation.results import ModelResults
from mangaassist_assets.models.encoders.frozen_layers import FrozenLayers
from mangaassist_assets.models.encoders.pretrained import load_base
from mangaassist_assets.models.encoders.tokens import tokenize
from mangaassist_assets.models.examples import IntentExample
from mangaassist_assets.models.intent.candidates import fitted_head, labelled_layers
from mangaassist_assets.models.intent.examples import UsableExamples, usable_examples
from mangaassist_assets.models.intent.fine_tuning import (
    IntentObjective,
    IntentTrainingConfig,
    LabelledFrozenLayers,
    all_features,
    frozen_layer_count,
    learned_weights,
)
from mangaassist_assets.models.intent.heads import LinearHead, fit_linear_head, softmax
from mangaassist_assets.models.intent.model import JudgedTexts
from mangaassist_assets.models.intent.out_of_scope import ScopeRule, scope_scores
from mangaassist_assets.models.intent.results import answered
from mangaassist_assets.training.checkpoints import Checkpoints
from mangaassist_assets.training.compute import Compute
from mangaassist_assets.training.loop import run_training_loop
from mangaassist_assets.training.objective import ProgressCallback

_MOST_EPOCHS = 3


class IntentFoldLearner:
    """Trains one fold's classifier after the other, see `ModelType.fold_learner`."""

    def __init__(
        self, examples: Sequence[IntentExample], recipe: Mapping[str, Any], *, compute: Compute | None = None
    ) -> None:
        self._compute = compute or Compute.detect()
        provenance = recipe["provenance"]
        known = {field.name for field in fields(IntentTrainingConfig)}
        self._config = IntentTrainingConfig(**{k: v for k, v in provenance["training"].items() if k in known})
        self._epochs: int | None = None
        if provenance["kept"] == "fine_tuned":
            chosen = provenance.get("epochs") or provenance.get("refit", {}).get("epochs") or self._config.epochs
            self._epochs = min(chosen, _MOST_EPOCHS)
        self._temperature = float(recipe["temperature"])
        self._scope = ScopeRule(**{name: value for name, value in recipe["scope"].items() if name != "score"})
        self._examples = examples
        pretrained = load_base(provenance["base"])
        self._encoder = pretrained.encoder.to(self._compute.device)
        everything = usable_examples(examples, (), minimum_validation=self._config.minimum_validation)
        texts = {one.example_id: one.text for one in (*examples, *everything.named())}
        self._places = {example_id: place for place, example_id in enumerate(texts)}
        layers = frozen_layer_count(self._encoder, self._config.fine_tuned_layers)
        sequences = tokenize(pretrained.tokenizer, list(texts.values()), max_tokens=self._config.max_tokens)
        self._frozen = FrozenLayers(self._encoder, sequences, layers=layers)
        self._untuned = learned_weights(self._encoder, layers)
        self._features = all_features(self._encoder, self._frozen)

    def answers(
        self,
        learned: Collection[str],
        asked: Sequence[IntentExample],
        *,
        version: str,
        checkpoints: Checkpoints,
        progress: ProgressCallback,
    ) -> ModelResults:
        """Learn from some of the examples, named by their ids, and answer others."""
        config = self._config
        examples = usable_examples(
            [one for one in self._examples if one.example_id in learned],
            (),
            minimum_validation=config.minimum_validation,
        )
        places = self._of(examples.taught(names=config.name_weight > 0))
        training = labelled_layers(self._frozen.take(places), examples, config)
        head = fit_linear_head(
            self._features[places],
            training.targets,
            classes=len(examples.intents),
            weights=training.weights,
            inverse_regularisation=config.inverse_regularisation,
        )
        features = self._features[self._of(asked)]
        if self._epochs is not None:
            head = self._fine_tuned(head, training, examples, checkpoints=checkpoints, progress=progress)
            features = all_features(self._encoder, self._frozen.take(self._of(asked)))
        logits = head.logits(features) / np.float32(self._temperature)
        scores = scope_scores(logits)
        return answered(
            JudgedTexts(softmax(logits), scores, self._scope.accepts(scores)),
            asked,
            labels=examples.intents,
            refuses=self._scope.threshold is not None,
            version=version,
        )

    def _fine_tuned(
        self,
        head: LinearHead,
        training: LabelledFrozenLayers,
        examples: UsableExamples,
        *,
        checkpoints: Checkpoints,
        progress: ProgressCallback,
    ) -> LinearHead:
        """Leave the encoder fine-tuned, and return the head that fits it."""
        self._encoder.model.load_state_dict(self._untuned, strict=False)
        objective = IntentObjective(self._encoder, head, training, None, config=self._config, compute=self._compute)
        settings = replace(self._config.loop(), epochs=self._epochs or 0)
        run_training_loop(objective, settings, progress=progress, compute=self._compute, checkpoints=checkpoints)
        _, fitted = fitted_head(
            self._encoder,
            training,
            classes=len(examples.intents),
            inverse_regularisation=self._config.tuned_inverse_regularisation,
            initial=head,
        )
        return fitted

    def _of(self, examples: Sequence[IntentExample]) -> list[int]:
        return [self._places[one.example_id] for one in examples]
