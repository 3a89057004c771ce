"""Claims that let the reranker's network and losses run on a GPU, shown without one."""

import pytest
import torch

from mangaassist_assets.models.encoders.network import NetworkShape
from mangaassist_assets.models.encoders.pretrained import load_base
from mangaassist_assets.models.reranker.networks.pair_network import PairNetwork, Segments
from mangaassist_assets.models.reranker.pair_objective import PairObjective
from mangaassist_assets.models.reranker.pair_training import EncodedTexts, PairTable, draw_lists
from mangaassist_assets.models.reranker.ranking_losses import RANKING_LOSSES, RankingLoss, ranking_loss
from tests.support.tiny_ranker import TINY, tiny_examples

SHAPE = NetworkShape(vocab_size=30522, dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=64)


def segments(length: int, device: str) -> Segments:
    return Segments(
        torch.zeros(3, length, SHAPE.dim, device=device),
        torch.ones(3, length, dtype=torch.long, device=device),
        torch.ones(3, length, dtype=torch.bool, device=device),
    )


def test_the_network_makes_no_tensor_on_another_device() -> None:
    # Tensors of the meta device meet those of no other: what a GPU would refuse is refused here.
    with torch.device("meta"):
        network = PairNetwork(SHAPE, joint_layers=1)
    logits = network(segments(4, "meta"), segments(9, "meta"))
    assert network.device == logits.device == torch.device("meta")
    assert network.probabilities(logits).device == logits.device
    with pytest.raises(RuntimeError, match="meta"):
        network(segments(4, "cpu"), segments(9, "meta"))


@pytest.mark.parametrize("kind", RANKING_LOSSES)
def test_no_loss_makes_a_tensor_on_another_device(kind: RankingLoss) -> None:
    table = torch.zeros(2, 3, device="meta")
    losses = ranking_loss(kind, table, torch.ones_like(table), torch.ones_like(table, dtype=torch.bool))
    assert losses.device == torch.device("meta")
    assert losses.shape == (2,)


def test_losses_and_gradients_stay_finite_in_the_precision_of_a_gpu() -> None:
    torch.manual_seed(3)
    network = PairNetwork(SHAPE, joint_layers=1)
    drawn = draw_lists(tiny_examples(), TINY)[0]
    texts = EncodedTexts(
        [one.query for one in drawn],
        [passage for one in drawn for passage in one.passages],
        network,
        load_base().tokenizer,
        TINY,
    )
    table = PairTable(drawn, texts, network)
    objective = PairObjective(
        network, table, epochs=[len(drawn)], loss="listwise", batch_queries=4, learning_rate=1e-3, judging=None
    )
    learned = [parameter for group in objective.parameter_groups() for parameter in group.parameters.values()]
    objective.train_mode(training=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = objective.loss(range(4))
    assert loss.dtype == torch.float32
    assert abs(float(loss.detach()) - float(objective.loss(range(4)).detach())) < 0.1
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in learned)
