"""Claims about the model that is trained again on training and validation messages. All messages are invented."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mangaassist_assets.models.artifacts import artifact_settings
from mangaassist_assets.models.encoders.pretrained import load_base
from mangaassist_assets.models.examples import IntentExample
from mangaassist_assets.models.intent import candidates
from mangaassist_assets.models.intent import refit as refit_module
from mangaassist_assets.models.intent.model import IntentClassifier
from mangaassist_assets.models.intent.training import IntentTrainingResult
from mangaassist_assets.models.intent.writing import read_classifier
from mangaassist_assets.training.checkpoints import Checkpoints
from mangaassist_assets.training.objective import TrainingProgress
from tests.support.intent_training import (
    MESSAGES,
    QUICK,
    UNSEEN,
    examples,
    of_no_intent,
    repeating,
    train_on,
    validation,
)

TEACHING = [
    IntentExample(example_id=f"w{turn}-{number}", text=text, intent="order_status")
    for turn in range(4)
    for number, text in enumerate(["the moon is made of cheese", "my cat likes cheese", "cheese on the moon again"])
]
"""Validation messages that nobody could guess the intent of: only a model that learned from them knows it."""
CHOSEN_BY = [*validation(4), *TEACHING]
"""Enough to choose by. Which candidate a tiny encoder makes the better one is by chance, so the tests say it."""


def stored(result: IntentTrainingResult) -> dict[str, Any]:
    """Return what the artifact says about itself."""
    return dict(artifact_settings(result.directory))


@pytest.fixture(scope="module")
def base(tiny_base: Callable[[str], Path]) -> str:
    return str(tiny_base("bert"))


def prefer(name: str, patch: pytest.MonkeyPatch) -> None:
    """Let one candidate be the better one on validation."""
    patch.setattr(candidates, "_quality", lambda candidate, _examples: (float(candidate.name == name), 0.0))


@pytest.fixture
def fine_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    prefer("fine_tuned", monkeypatch)


@pytest.fixture(scope="module")
def both(base: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[IntentTrainingResult, IntentTrainingResult]:
    """The same training without and with a refit."""
    folder = tmp_path_factory.mktemp("refit")
    with pytest.MonkeyPatch.context() as patch:
        prefer("fine_tuned", patch)
        one, other = (
            train_on(
                examples(MESSAGES),
                [*CHOSEN_BY, *of_no_intent(6)],
                config=replace(QUICK, epochs=4, encoder_learning_rate=1e-3, refit=refit),
                base=base,
                output=folder / str(refit),
            )
            for refit in (False, True)
        )
    assert one.kept == other.kept == "fine_tuned"
    return one, other


def test_the_final_model_knows_what_validation_could_have_taught(
    both: tuple[IntentTrainingResult, IntentTrainingResult],
) -> None:
    held_out, refitted = (IntentClassifier.load(result.directory) for result in both)
    texts = [example.text for example in TEACHING[:3]]
    asked = held_out.labels.index("order_status")
    before, after = (model.judge(texts).probabilities[:, asked] for model in (held_out, refitted))
    assert (after > before).all()
    assert [answer[0].label for answer in refitted.predict(texts, top_k=1)] == ["order_status"] * 3
    assert [answer[0].label for answer in refitted.predict(list(UNSEEN), top_k=1)] == list(UNSEEN.values())


def test_what_validation_said_and_set_is_that_of_the_held_out_run(
    both: tuple[IntentTrainingResult, IntentTrainingResult],
) -> None:
    held_out, refitted = both
    assert refitted.digest != held_out.digest
    assert refitted.scope == held_out.scope
    assert stored(refitted)["temperature"] == stored(held_out)["temperature"]
    metrics, same = (
        {name: one for name, one in repeating(result.metrics).items() if not name.startswith("onnx_")}
        for result in (refitted, held_out)
    )
    assert metrics.pop("refit_examples") == 20 + 32 + 12
    assert metrics == same
    assert refitted.validation is not None
    assert held_out.validation is not None
    assert np.array_equal(refitted.validation.logits, held_out.validation.logits)


def test_the_artifact_says_that_it_was_refitted_and_where_its_threshold_is_from(
    both: tuple[IntentTrainingResult, IntentTrainingResult],
) -> None:
    held_out, refitted = both
    assert "refit" not in stored(held_out)["provenance"]
    told = {"messages": 64, "epochs": refitted.best_epoch, "calibrated_on": "held-out run"}
    assert stored(refitted)["provenance"]["refit"] == told


def test_a_frozen_head_is_fitted_again_on_the_start_it_was_chosen_with(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    prefer("frozen_head", monkeypatch)
    result = train_on(
        examples(MESSAGES), CHOSEN_BY, config=replace(QUICK, epochs=1), base=base, output=tmp_path / "model"
    )
    assert result.kept == "frozen_head"
    assert stored(result)["provenance"]["refit"]["epochs"] is None
    weights = read_classifier(result.directory).pretrained.encoder.model.state_dict()
    start = load_base(base).encoder.model.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in start.items() if name in weights)
    assert sum(name in weights for name in start) == len(start)
    answers = IntentClassifier.load(result.directory).predict([one.text for one in TEACHING[:3]], top_k=1)
    assert [answer[0].label for answer in answers] == ["order_status"] * 3


def test_nothing_is_refitted_where_validation_is_too_small_to_choose_by(base: str, tmp_path: Path) -> None:
    result = train_on(examples(MESSAGES), validation(1), config=QUICK, base=base, output=tmp_path / "model")
    assert "refit_examples" not in result.metrics
    assert "refit" not in stored(result)["provenance"]


@pytest.mark.usefixtures("fine_tuned")
def test_a_refit_repeats_exactly_and_its_steps_are_told_under_its_name(base: str, tmp_path: Path) -> None:
    told: list[TrainingProgress] = []
    digests = {
        train_on(
            examples(MESSAGES), CHOSEN_BY, config=QUICK, base=base, output=tmp_path / str(turn), progress=told.append
        ).digest
        for turn in range(2)
    }
    assert len(digests) == 1
    assert {item.epochs for item in told if item.stage == "refit"} <= {1, 2}
    assert "refit" in [item.stage for item in told]


@pytest.mark.usefixtures("fine_tuned")
def test_a_training_killed_in_its_refit_ends_as_if_it_had_not_been(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(QUICK, checkpoint_steps=2)
    undisturbed = train_on(examples(MESSAGES), CHOSEN_BY, config=config, base=base, output=tmp_path / "undisturbed")
    checkpoints = Checkpoints(tmp_path / "checkpoints", "one")
    save = Checkpoints.save

    def killed(self: Checkpoints, step: int, *arguments: Any) -> None:
        save(self, step, *arguments)
        if self.folder.name == "refit":
            raise KeyboardInterrupt

    told: list[str] = []

    def train(output: str) -> IntentTrainingResult:
        return train_on(
            examples(MESSAGES),
            CHOSEN_BY,
            config=config,
            base=base,
            output=tmp_path / output,
            checkpoints=checkpoints,
            progress=lambda progress: told.append(progress.notice) if progress.notice else None,
        )

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            train("killed")
    again = train("again")
    assert any("goes on after step 2 of" in notice for notice in told)
    assert again.digest == undisturbed.digest
    checkpoints.clear()
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.usefixtures("fine_tuned")
def test_the_refit_begins_where_the_held_out_run_began(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    start = load_base(base).encoder.model.state_dict()
    seen: list[bool] = []
    run = refit_module.run_training_loop

    def watched(objective: Any, *arguments: Any, **options: Any) -> Any:
        learned = objective.parameter_groups()[0].parameters
        seen.append(all(torch.equal(weight, start[name]) for name, weight in learned.items()))
        return run(objective, *arguments, **options)

    monkeypatch.setattr(refit_module, "run_training_loop", watched)
    result = train_on(examples(MESSAGES), CHOSEN_BY, config=QUICK, base=base, output=tmp_path / "model")
    assert (result.kept, seen) == ("fine_tuned", [True])


@pytest.mark.usefixtures("fine_tuned")
def test_the_final_layers_are_the_mean_of_both_trainings(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    config = replace(QUICK, encoder_learning_rate=1e-3)
    learned: dict[str, torch.Tensor] = {}
    run = refit_module.run_training_loop

    def watched(objective: Any, *arguments: Any, **options: Any) -> Any:
        result = run(objective, *arguments, **options)
        layers = objective.parameter_groups()[0].parameters
        learned.update({name: weight.detach().clone() for name, weight in layers.items()})
        return result

    monkeypatch.setattr(refit_module, "run_training_loop", watched)
    held_out, final = (
        read_classifier(
            train_on(
                examples(MESSAGES),
                CHOSEN_BY,
                config=replace(config, refit=refit),
                base=base,
                output=tmp_path / str(refit),
            ).directory
        ).pretrained.encoder.model.state_dict()
        for refit in (False, True)
    )
    assert any(not torch.equal(weight, held_out[name]) for name, weight in learned.items())
    for name, weight in learned.items():
        assert torch.allclose(final[name], (weight + held_out[name]) / 2, atol=1e-6), name
