"""Claims about the losses of ranking lists."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.models.reranker.ranking_losses import RANKING_LOSSES, RankingLoss, ranking_loss

logits = st.floats(-8, 8, allow_nan=False)


def one_list(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


def everything(table: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(table, dtype=torch.bool)


@pytest.mark.parametrize("kind", ["listwise", "pairwise", "binary"])
@given(answer=logits, others=st.lists(logits, min_size=1, max_size=5))
def test_a_higher_score_of_the_answer_is_never_worse(kind: RankingLoss, answer: float, others: list[float]) -> None:
    wanted = one_list(1.0, *[0.0] * len(others))
    low, high = (one_list(score, *others) for score in (answer, answer + 1.0))
    losses = [float(ranking_loss(kind, table, wanted, everything(table))) for table in (low, high)]
    assert losses[1] <= losses[0]


@pytest.mark.parametrize("kind", RANKING_LOSSES)
@given(scores=st.lists(logits, min_size=2, max_size=5), rest=st.sampled_from([0.0, 3.0, float("inf"), float("nan")]))
def test_what_is_not_there_reaches_neither_loss_nor_gradient(
    kind: RankingLoss, scores: list[float], rest: float
) -> None:
    wanted = [1.0, *[0.0] * (len(scores) - 1)]
    alone = one_list(*scores).requires_grad_()
    padded = one_list(*scores, rest).requires_grad_()
    present = torch.tensor([[True] * len(scores) + [False]])
    short = ranking_loss(kind, alone, one_list(*wanted), everything(alone))
    long = ranking_loss(kind, padded, one_list(*wanted, rest), present)
    assert float(short.detach()) == pytest.approx(float(long.detach()), abs=1e-9)
    short.sum().backward()
    long.sum().backward()
    assert alone.grad is not None
    assert padded.grad is not None
    assert np.allclose(alone.grad.numpy()[0], padded.grad.numpy()[0, :-1], atol=1e-9)
    assert padded.grad[0, -1] == 0


def test_the_listwise_loss_is_the_cross_entropy_of_the_answer() -> None:
    table = one_list(2.0, 0.5, -1.0)
    expected = torch.nn.functional.cross_entropy(table, torch.tensor([0]))
    found = ranking_loss("listwise", table, one_list(1.0, 0.0, 0.0), everything(table))
    assert float(found) == pytest.approx(float(expected))


@given(scores=st.lists(logits, min_size=2, max_size=5), shift=logits)
def test_a_student_with_the_teachers_margins_has_nothing_to_learn(scores: list[float], shift: float) -> None:
    teacher, student = one_list(*scores), one_list(*[score + shift for score in scores])
    assert float(ranking_loss("distillation", student, teacher, everything(student))) == pytest.approx(0.0, abs=1e-9)


def test_lists_are_summed_without_weight_for_their_length() -> None:
    table = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 9.0]], dtype=torch.float64)
    wanted = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    present = torch.tensor([[True, True, True], [True, True, False]])
    for kind in RANKING_LOSSES:
        assert ranking_loss(kind, table, wanted, present).shape == (2,)
