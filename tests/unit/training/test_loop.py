"""The training loop: repeatable, resumable, honest about what it kept."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError

from mangaassist_assets.training.checkpoints import Checkpoints
from mangaassist_assets.training.loop import (
    NothingToLearnError,
    TrainingDivergedError,
    learning_rate_factor,
    run_training_loop,
)
from mangaassist_assets.training.objective import (
    LoopSettings,
    ParameterGroup,
    TrainingProgress,
    Validation,
    ignore_progress,
)
from tests.support.tiny_objective import TinyObjective, outcome, train_tiny

RESULT = ("weights", "losses", "history", "best_epoch", "stopped_early")
EPOCHS, STEPS = 3, 12

pytestmark = pytest.mark.usefixtures("one_thread")


class KilledError(BaseException):
    """What SIGKILL looks like from inside: nothing that the loop could catch."""


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, Any]:
    """What a training without checkpoints and without an accident ends with."""
    return train_tiny(None)


def same_result(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one[name] == other[name] for name in RESULT)


def killer(step: int) -> Any:
    def before_loss(number: int) -> None:
        if number == step:
            raise KilledError

    return before_loss


def test_one_seed_gives_the_same_weights_and_another_does_not(undisturbed: dict[str, Any]) -> None:
    torch.manual_seed(99)
    assert same_result(train_tiny(None), undisturbed)
    other = train_tiny(None, settings=LoopSettings(epochs=EPOCHS, seed=1))
    assert other["weights"] != undisturbed["weights"]


def test_training_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_tiny(None)
    assert torch.equal(torch.rand(3), expected)


@given(
    kills=st.lists(st.integers(1, STEPS), min_size=1, max_size=3),
    every=st.integers(1, STEPS + 1),
    patience=st.sampled_from([1, 2]),
)
def test_a_training_killed_at_any_step_ends_as_if_it_had_not_been(kills: list[int], every: int, patience: int) -> None:
    settings = LoopSettings(epochs=EPOCHS, checkpoint_steps=every, patience=patience)
    expected = train_tiny(None, settings=settings)
    with tempfile.TemporaryDirectory() as folder:
        for kill in kills:
            try:
                train_tiny(Path(folder) / "of", settings=settings, before_loss=killer(kill))
            except KilledError:
                continue
        resumed = train_tiny(Path(folder) / "of", settings=settings)
    assert same_result(resumed, expected)


@pytest.mark.parametrize("max_steps", [None, 10])
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_training_killed_while_it_validates_ends_as_if_it_had_not_been(
    epoch: int, max_steps: int | None, tmp_path: Path
) -> None:
    validations = iter(range(1, 9))

    def before_validation() -> None:
        if next(validations) == epoch:
            raise KilledError

    settings = LoopSettings(epochs=EPOCHS, checkpoint_steps=1, max_steps=max_steps)
    with pytest.raises(KilledError):
        train_tiny(tmp_path, settings=settings, before_validation=before_validation)
    resumed = train_tiny(tmp_path, settings=settings)
    assert resumed["resumed_from"] == min(4 * epoch, max_steps or STEPS)
    assert same_result(resumed, train_tiny(None, settings=settings))
    assert same_result(train_tiny(tmp_path, settings=settings), resumed)


def test_a_resumed_training_repeats_only_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        train_tiny(tmp_path, before_loss=killer(8))
    told: list[TrainingProgress] = []
    resumed = train_tiny(tmp_path, progress=told.append)
    assert resumed["resumed_from"] == 6
    assert resumed["samples"] == 8 + 20  # two batches of epoch 2, and epoch 3
    assert "goes on after step 6 of 12" in [one.notice for one in told]


def test_an_ended_training_that_is_started_again_does_nothing(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    train_tiny(tmp_path)
    again = train_tiny(tmp_path, before_loss=killer(1))
    assert again["resumed_from"] == STEPS
    assert same_result(again, undisturbed)


def run_apart(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.support.tiny_objective", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_process_that_sigkill_ended_is_gone_on_with_to_the_last_bit(
    tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    killed = run_apart(tmp_path, "--kill-at", "8")
    assert killed.returncode == -9, killed.stderr
    resumed = train_tiny(tmp_path)
    assert resumed["resumed_from"] == 6
    assert same_result(resumed, undisturbed)


def test_a_process_that_can_write_no_file_says_so_and_trains_to_the_end(
    tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    starved = run_apart(tmp_path, "--largest-file", "300")
    assert starved.returncode == 0, starved.stderr
    answer = json.loads(starved.stdout)
    assert same_result(answer["trained"], undisturbed)
    assert len(answer["notices"]) == 5  # of steps 3, 6, 9, 12, and 12 again after its epoch
    assert all("File too large" in one and "training goes on" in one for one in answer["notices"])
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_costs_checkpoints_and_nothing_else(
    tmp_path: Path, undisturbed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = iter([OSError(28, "No space left on device"), SafetensorError("I/O error: No space left on device")])
    write = Checkpoints._write

    def write_or_fail(self: Checkpoints, *arguments: Any) -> None:
        write(self, *arguments)
        if (error := next(full, None)) is not None:
            raise error

    monkeypatch.setattr(Checkpoints, "_write", write_or_fail)
    told: list[TrainingProgress] = []
    assert same_result(train_tiny(tmp_path, progress=told.append), undisturbed)
    notices = [one.notice for one in told if one.notice]
    assert len(notices) == 2
    assert all("No space left on device" in one for one in notices)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["step-00000009", "step-00000012"]


def test_the_best_epoch_is_kept_and_patience_ends_the_training() -> None:
    scores = [0.5, 0.7, 0.7, 0.6, 0.9]
    objective = TinyObjective(scores=scores)
    result = run_training_loop(objective, LoopSettings(epochs=5, patience=2), progress=ignore_progress)
    assert result.stopped_early
    assert (result.best_epoch, len(result.history)) == (2, 4)

    until_best = TinyObjective(scores=[0.5, 0.7])
    # The same schedule, cut at the end of epoch 2.
    ended: list[bytes] = []

    def remember(progress: TrainingProgress) -> None:
        if progress.epoch == 2:
            ended.append(until_best.learned())
            raise KilledError

    with pytest.raises(KilledError):
        run_training_loop(until_best, LoopSettings(epochs=5, patience=2), progress=remember)
    assert objective.learned() == ended[0]


def test_a_tie_keeps_the_earlier_epoch() -> None:
    objective = TinyObjective(scores=[0.7, 0.7, 0.7])
    assert run_training_loop(objective, LoopSettings(epochs=3, patience=3), progress=ignore_progress).best_epoch == 1


def test_without_validation_the_last_weights_stay_and_nothing_stops_early() -> None:
    class Unvalidated(TinyObjective):
        def validate(self) -> Validation | None:
            return None

    objective = Unvalidated()
    result = run_training_loop(objective, LoopSettings(epochs=3, patience=1), progress=ignore_progress)
    assert (result.best_epoch, result.stopped_early, len(result.history)) == (None, False, 3)
    assert result.history[-1].validation == {}


@pytest.mark.parametrize("limit", [0, 1, 4, 5, 12, 99])
def test_max_steps_is_kept_and_the_cut_epoch_is_validated(limit: int) -> None:
    result = run_training_loop(TinyObjective(), LoopSettings(epochs=3, max_steps=limit), progress=ignore_progress)
    assert len(result.step_losses) == min(limit, STEPS)
    assert len(result.history) == math.ceil(min(limit, STEPS) / 4)
    assert not result.stopped_early


@given(
    steps=st.integers(1, 200),
    warmup=st.floats(0, 1),
)
def test_the_rate_rises_to_its_peak_and_falls_and_is_never_zero(steps: int, warmup: float) -> None:
    factors = [learning_rate_factor(step, steps, warmup=warmup) for step in range(steps)]
    peak = factors.index(max(factors))
    assert all(0 < one <= 1 for one in factors)
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


def test_the_rate_has_the_values_of_a_linear_schedule() -> None:
    factors = [learning_rate_factor(step, 20, warmup=0.1) for step in range(20)]
    assert factors[:3] == [0.5, 1.0, 1.0]
    assert factors[3] == pytest.approx(17 / 18)
    assert factors[-1] == pytest.approx(1 / 18)


def test_each_group_learns_at_its_own_rate_and_only_the_clipped_are_clipped() -> None:
    class Constant(TinyObjective):
        def loss(self, share: Any) -> torch.Tensor:
            return (self.weight.sum() * 100 + self.bias.sum() * 100) * len(share)

        def normaliser(self, batch: Any) -> float:
            return float(len(batch))

    objective = Constant(learning_rate=0.01)
    run_training_loop(
        objective,
        LoopSettings(epochs=1, max_steps=1, warmup=0.0, clip_norm=0.5),
        progress=ignore_progress,
    )
    assert objective.weight.grad is not None
    assert objective.weight.grad.norm().item() == pytest.approx(0.5, rel=1e-4)
    assert objective.bias.grad is not None
    assert objective.bias.grad.abs().max().item() == pytest.approx(100.0)
    assert objective.bias.abs().max().item() == pytest.approx(0.02, rel=1e-3)  # AdamW's first step is the rate


def test_a_loss_that_is_no_number_ends_the_training_and_says_when() -> None:
    class Exploding(TinyObjective):
        def loss(self, share: Any) -> torch.Tensor:
            loss = super().loss(share)
            return loss * math.inf if self.losses == 5 else loss

    with pytest.raises(TrainingDivergedError, match="step 5 of 12: lower the learning rate"):
        run_training_loop(Exploding(), LoopSettings(epochs=3), progress=ignore_progress)


def test_a_validation_that_is_no_number_ends_the_training_and_says_when() -> None:
    with pytest.raises(TrainingDivergedError, match="after epoch 2 of 3"):
        train_tiny(None, scores=[0.1, math.nan, 0.2])


def test_an_epoch_without_examples_is_refused() -> None:
    with pytest.raises(NothingToLearnError, match="epoch 1 has no batches"):
        train_tiny(None, examples=0)

    class WithEmptyBatch(TinyObjective):
        def batches(self, epoch: int) -> list[list[int]]:
            return [[0, 1], []] if epoch == 2 else [[0, 1]]

    with pytest.raises(NothingToLearnError, match="epoch 2 has an empty batch"):
        run_training_loop(WithEmptyBatch(), LoopSettings(epochs=3), progress=ignore_progress)


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", -1), ("max_steps", -1), ("patience", 0), ("checkpoint_steps", 0), ("warmup", 1.5), ("clip_norm", 0.0)],
)
def test_settings_that_cannot_work_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"LoopSettings.{field}"):
        LoopSettings(**{field: value})


def test_two_parameters_of_one_name_are_refused() -> None:
    class Doubled(TinyObjective):
        def parameter_groups(self) -> list[ParameterGroup]:
            return [
                ParameterGroup(parameters={"weight": self.weight}, learning_rate=0.1),
                ParameterGroup(parameters={"weight": self.bias}, learning_rate=0.1),
            ]

    with pytest.raises(ValueError, match="same name"):
        run_training_loop(Doubled(), LoopSettings(), progress=ignore_progress)


def test_a_checkpoint_of_a_model_with_other_weights_is_not_used(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    Checkpoints(tmp_path, "tiny").save(3, {"weight.weight": torch.zeros(2, 2)}, {"step": 3})
    told: list[TrainingProgress] = []
    assert same_result(train_tiny(tmp_path, progress=told.append), undisturbed)
    assert "step 3 holds other weights than are trained now; it is not used" in told[0].notice


def test_progress_tells_of_every_epoch_with_its_figures() -> None:
    told: list[TrainingProgress] = []
    objective = TinyObjective()
    result = run_training_loop(objective, LoopSettings(epochs=3), progress=told.append)
    assert [(one.epoch, one.step, one.epochs) for one in told] == [(1, 4, 3), (2, 8, 3), (3, 12, 3)]
    assert [one.figures["training_loss"] for one in told] == [one.training_loss for one in result.history]
    assert set(told[0].figures) == {"training_loss", "validation_accuracy", "validation_loss"}
    assert not objective.training
    assert outcome(objective, result)["best_epoch"] in {1, 2, 3}
