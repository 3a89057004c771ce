"""Where training computes: one worker, or several that come to the same weights."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.training.compute import Compute
from mangaassist_assets.training.loop import run_training_loop
from mangaassist_assets.training.objective import LoopSettings, ignore_progress
from tests.support.tiny_objective import TinyObjective, outcome, train_in_group

WORKERS = 2


@given(batch=st.lists(st.integers(), max_size=40), workers=st.integers(1, 8))
def test_the_workers_shares_of_a_batch_are_the_batch(batch: list[int], workers: int) -> None:
    shares = [Compute(rank=rank, workers=workers).share(batch) for rank in range(workers)]
    assert sorted(one for share in shares for one in share) == sorted(batch)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_dropout_depends_on_seed_and_step_and_worker_only() -> None:
    def drawn(seed: int, step: int, rank: int) -> list[float]:
        torch.rand(11)
        Compute(rank=rank, workers=2).seed(seed, step)
        numbers: list[float] = torch.rand(4).tolist()
        return numbers

    assert drawn(1, 2, 0) == drawn(1, 2, 0)
    assert len({tuple(drawn(*one)) for one in [(1, 2, 0), (1, 2, 1), (1, 3, 0), (2, 2, 0), (12, 0, 0)]}) == 5


def test_one_process_alone_is_the_leader_and_asks_nobody() -> None:
    compute = Compute.detect()
    assert (compute.rank, compute.workers, compute.leads) == (0, 1, True)
    tensor = torch.ones(2, device=compute.device)
    compute.sum_over_workers([tensor])
    compute.follow_lead([tensor])
    assert tensor.tolist() == [1, 1]
    assert compute.agreed(True)
    assert not compute.differ(3)


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two workers, joined by gloo on this machine, saw of the same trainings."""
    folder = tmp_path_factory.mktemp("group")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOO_SOCKET_IFNAME", "lo")
        torch.multiprocessing.spawn(train_in_group, (WORKERS, str(folder / "meeting"), str(folder)), nprocs=WORKERS)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(WORKERS)]


@pytest.mark.parametrize(("name", "batch"), [("even", 6), ("fewer than workers", 1)])
def test_two_workers_learn_what_one_does(group: list[dict[str, Any]], name: str, batch: int) -> None:
    objective = TinyObjective(examples=7, dropout=0.0, batch=batch)
    settings = LoopSettings(epochs=3, patience=9)
    alone = outcome(objective, run_training_loop(objective, settings, progress=ignore_progress))
    for worker in group:
        saw = worker[name]
        np.testing.assert_allclose(saw["losses"], alone["losses"], rtol=0, atol=1e-5)
        weights = [np.frombuffer(bytes.fromhex(one["weights"]), np.float32) for one in (saw, alone)]
        np.testing.assert_allclose(*weights, rtol=0, atol=1e-5)
        assert saw["best_epoch"] == alone["best_epoch"]
    assert group[0][name]["weights"] == group[1][name]["weights"]


def test_only_worker_0_reports_and_writes(group: list[dict[str, Any]]) -> None:
    for name in ("even", "fewer than workers"):
        assert (group[0][name]["told"], group[0][name]["wrote"]) == (3, True)
        assert (group[1][name]["told"], group[1][name]["wrote"]) == (0, False)


def test_workers_that_see_different_checkpoints_all_refuse_to_train_apart(group: list[dict[str, Any]]) -> None:
    assert "worker 0 would go on after step 6, others elsewhere" in group[0]["apart"]
    assert "worker 1 would go on after step 0, others elsewhere" in group[1]["apart"]


def test_a_network_in_two_precisions_has_them_on_a_gpu_only() -> None:
    with Compute(device="cpu").precision():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    assert Compute(device="cuda").on_gpu
    assert not Compute(device="cpu").on_gpu
