"""A fold's classifier is trained like the registered one, from what it is given and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mangaassist_assets.models.artifacts import artifact_settings
from mangaassist_assets.models.examples import IntentExample
from mangaassist_assets.models.intent.fold_learner import IntentFoldLearner
from mangaassist_assets.models.intent.model import IntentClassifier
from mangaassist_assets.models.intent.results import intent_results
from mangaassist_assets.training.checkpoints import Checkpoints
from mangaassist_assets.training.objective import ignore_progress
from tests.support.intent_training import MESSAGES, QUICK, UNSEEN, examples, of_no_intent, train_on, validation

ASKED = [
    IntentExample(example_id=f"asked-{number}", text=text, intent=intent)
    for number, (text, intent) in enumerate(UNSEEN.items())
]
TAUGHT = examples(MESSAGES)


@pytest.fixture(scope="module")
def base(tiny_base: Callable[[str], Path]) -> str:
    return str(tiny_base("bert"))


def answers(recipe, learned, asked, folder, *, given=None):
    learner = IntentFoldLearner([*TAUGHT, *ASKED, *of_no_intent()] if given is None else given, recipe)
    return learner.answers(
        {one.example_id for one in learned},
        asked,
        version="f",
        checkpoints=Checkpoints(folder / "checkpoints", "f"),
        progress=ignore_progress,
    )


@pytest.mark.parametrize("fine_tune", [False, True])
def test_with_the_same_messages_it_is_the_registered_model(base, tmp_path, fine_tune):
    config = replace(QUICK, fine_tune=fine_tune, epochs=1)
    result = train_on(TAUGHT, [], config=config, base=base, output=tmp_path / "model")
    registered = intent_results(IntentClassifier.load(result.directory), ASKED, version="r")
    found = answers(artifact_settings(result.directory), TAUGHT, ASKED, tmp_path)
    assert result.kept == ("fine_tuned" if fine_tune else "frozen_head")
    assert found.outcomes.tolist() == registered.outcomes.tolist()
    assert np.allclose(found.confidences, registered.confidences, atol=2e-3)
    assert (found.scope is None) == (registered.scope is None)


def test_temperature_and_threshold_are_the_registered_ones(base, tmp_path):
    chosen_by = [*validation(), *of_no_intent(6)]
    config = replace(QUICK, fine_tune=False, refit=False)
    result = train_on(TAUGHT, chosen_by, config=config, base=base, output=tmp_path / "model")
    asked = [*ASKED, *of_no_intent()]
    registered = intent_results(IntentClassifier.load(result.directory), asked, version="r")
    found = answers(artifact_settings(result.directory), TAUGHT, asked, tmp_path)
    assert registered.scope.out_of_scope_refused.tolist() == found.scope.out_of_scope_refused.tolist()
    assert registered.scope.in_scope_accepted.tolist() == found.scope.in_scope_accepted.tolist()
    assert np.allclose(found.confidences, registered.confidences, atol=2e-3)


def test_one_fold_leaves_nothing_for_the_next(base, tmp_path):
    result = train_on(TAUGHT, [], config=QUICK, base=base, output=tmp_path / "model")
    recipe = artifact_settings(result.directory)
    learner = IntentFoldLearner([*TAUGHT, *ASKED], recipe)

    def fold(number, learned):
        return learner.answers(
            learned,
            ASKED,
            version="f",
            checkpoints=Checkpoints(tmp_path / f"fold-{number}", "f"),
            progress=ignore_progress,
        ).confidences

    whole = {one.example_id for one in TAUGHT}
    first = fold(1, whole)
    fold(2, {one.example_id for one in TAUGHT if one.intent != "greeting"})
    assert np.array_equal(fold(3, whole), first)


def test_an_intent_that_no_other_shopper_brought_is_not_known(base, tmp_path):
    result = train_on(TAUGHT, [], config=QUICK, base=base, output=tmp_path / "model")
    learned = [one for one in TAUGHT if one.intent != "greeting"]
    asked = [one for one in ASKED if one.intent == "greeting"]
    found = answers(artifact_settings(result.directory), learned, asked, tmp_path)
    assert found.outcomes.tolist() == [0.0] * len(asked)
