"""Claims about epochs in which texts are encoded apart and every passage of a step is compared with every query."""

from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch

from mangaassist_assets.models.encoders.pretrained import load_base
from mangaassist_assets.models.reranker.lists import CandidateList, EpochLists
from mangaassist_assets.models.reranker.networks.pair_network import PairNetwork
from mangaassist_assets.models.reranker.networks.pair_table import PairTable, SplitTexts
from mangaassist_assets.models.reranker.pair_objective import PairObjective
from mangaassist_assets.training.objective import Validation
from tests.support.tiny_ranker import TINY, train_tiny, write_tiny_base

LISTS = [
    CandidateList("is there a crane", ("the crane", "the diver"), (1.0, 0.0), frozenset({"the crane", "cranes"})),
    CandidateList("any cranes", ("cranes", "the poster"), (1.0, 0.0), frozenset({"the crane", "cranes"})),
    CandidateList("a voucher", ("the voucher", "the crane"), (1.0, 0.0), frozenset({"the voucher"})),
]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> SplitTexts:
    base = load_base(write_tiny_base(tmp_path_factory.mktemp("tiny") / "base"))
    network = PairNetwork(base.encoder, joint_layers=1).eval()
    passages = [passage for one in LISTS for passage in one.passages]
    queries = [one.query for one in LISTS]
    return SplitTexts(queries, passages, network, base.tokenizer, query_tokens=16, passage_tokens=16)


def test_an_answer_that_stands_beside_another_one_is_neither_right_nor_wrong(texts: SplitTexts) -> None:
    logits, wanted, present = PairTable(LISTS, texts).crossed_logits([0, 1, 2], [0, 1, 2])
    passages = sorted({passage for one in LISTS for passage in one.passages})
    assert passages == ["cranes", "the crane", "the diver", "the poster", "the voucher"]
    assert logits.shape == (3, 5)
    assert wanted.tolist() == [[0, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1]]
    assert present.tolist() == [[False, True, True, True, True], [True, False, True, True, True], [True] * 5]


def test_scores_are_those_of_pairs_with_closed_gates(texts: SplitTexts) -> None:
    with torch.no_grad():
        crossed, _, _ = PairTable(LISTS, texts).crossed_logits([2], [2])
        open_gates = texts.network.gates.clone()
        texts.network.gates.fill_(-1e9)
        alone = texts.logits([("a voucher", "the crane"), ("a voucher", "the voucher")])
        texts.network.gates.copy_(open_gates)
    assert torch.allclose(crossed[0], alone, atol=1e-4)


def test_the_loss_of_a_step_does_not_depend_on_who_computes_it(texts: SplitTexts) -> None:
    objective = PairObjective(
        texts.network, [EpochLists(LISTS, apart=True)], texts, loss="listwise", batch_queries=1, learning_rate=1e-3,
        judging=None,
    )  # fmt: skip
    assert objective.batches(1) == [[0, 1, 2]]
    with torch.no_grad():
        whole = objective.loss([0, 1, 2])
        shared = objective.loss([0, 2]) + objective.loss([1])
    assert float(whole) == pytest.approx(float(shared), abs=1e-5)


def test_training_does_not_stop_before_texts_were_read_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, times = PairObjective.validate, count(1)

    def worse_each_time(objective: PairObjective) -> Validation:
        found = judge(objective)
        assert found is not None
        return Validation(score=(-float(next(times)),), figures=found.figures)

    monkeypatch.setattr(PairObjective, "validate", worse_each_time)
    config = replace(TINY, apart_epochs=4, epochs=3, patience=1, max_training_pairs=10_000)
    result = train_tiny(tmp_path, base=write_tiny_base(tmp_path / "base"), config=config, checkpoints=False)
    assert (result.best_epoch, len(result.history)) == (1, 5)
