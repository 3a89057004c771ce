"""Claims that let the reranker's network and losses run on a GPU, shown without one."""

from pathlib import Path

import pytest
import torch

from mangaassist_assets.models.encoders.encoder import Encoder
from mangaassist_assets.models.encoders.pretrained import load_base
from mangaassist_assets.models.reranker.lists import draw_lists
from mangaassist_assets.models.reranker.networks.pair_network import PairNetwork, Segments
from mangaassist_assets.models.reranker.networks.pair_table import SplitTexts
from mangaassist_assets.models.reranker.pair_objective import PairObjective
from mangaassist_assets.models.reranker.ranking_losses import RANKING_LOSSES, RankingLoss, ranking_loss
from tests.support.tiny_encoders import WIDTH, tiny_encoder
from tests.support.tiny_ranker import TINY, tiny_examples, write_tiny_base


def segments(length: int, device: str) -> Segments:
    return Segments(
        torch.zeros(3, length, WIDTH, device=device),
        torch.ones(3, length, dtype=torch.long, device=device),
        torch.ones(3, length, dtype=torch.bool, device=device),
    )


def test_the_network_makes_no_tensor_on_another_device() -> None:
    # Tensors of the meta device meet those of no other: what a GPU would refuse is refused here.
    network = PairNetwork(Encoder(tiny_encoder("bert"), pad_id=0), joint_layers=1).to("meta")
    logits = network(segments(4, "meta"), segments(9, "meta"))
    assert network.device == logits.device == torch.device("meta")
    with pytest.raises(RuntimeError, match="meta"):
        network(segments(4, "cpu"), segments(9, "meta"))


@pytest.mark.parametrize("kind", RANKING_LOSSES)
def test_no_loss_makes_a_tensor_on_another_device(kind: RankingLoss) -> None:
    table = torch.zeros(2, 3, device="meta")
    losses = ranking_loss(kind, table, torch.ones_like(table), torch.ones_like(table, dtype=torch.bool))
    assert losses.device == torch.device("meta")
    assert losses.shape == (2,)


@pytest.mark.parametrize("apart", [True, False])
def test_losses_and_gradients_stay_finite_in_the_precision_of_a_gpu(apart: bool, tmp_path: Path) -> None:
    base = load_base(write_tiny_base(tmp_path / "base"))
    network = PairNetwork(base.encoder, joint_layers=1)
    drawn = [
        one for one in draw_lists(tiny_examples(), TINY, TINY.for_queries(10, "split-attention")) if one.apart == apart
    ]
    texts = SplitTexts(
        [one.query for epoch in drawn for one in epoch.lists],
        [passage for epoch in drawn for one in epoch.lists for passage in one.passages],
        network,
        base.tokenizer,
        query_tokens=16,
        passage_tokens=16,
    )
    objective = PairObjective(network, drawn, texts, loss="listwise", batch_queries=4, learning_rate=1e-3, judging=None)
    groups = objective.parameter_groups()
    learned = [one for group in groups for name, one in group.parameters.items() if not (apart and name == "gates")]
    objective.train_mode(training=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = objective.loss(range(4))
    assert loss.dtype == torch.float32
    assert abs(float(loss.detach()) - float(objective.loss(range(4)).detach())) < 0.1
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in learned)
