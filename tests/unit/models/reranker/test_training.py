"""Claims about training and asking the reranker. All texts are invented."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mangaassist_assets.models.artifacts import ArtifactMismatchError
from mangaassist_assets.models.encoders import PACKAGED_MINILM
from mangaassist_assets.models.encoders.layer_states import LayerStates, States
from mangaassist_assets.models.encoders.pretrained import load_base, padded
from mangaassist_assets.models.encoders.tokens import tokenize
from mangaassist_assets.models.examples import RankingExample
from mangaassist_assets.models.model_types import TrainingRequest
from mangaassist_assets.models.reranker.model import Reranker
from mangaassist_assets.models.reranker.networks.files import EXTRA_FILE
from mangaassist_assets.models.reranker.networks.word_weights import idf_weights
from mangaassist_assets.models.reranker.training import RerankerTrainingResult, train_reranker
from mangaassist_assets.models.reranker.training_config import RerankerTrainingConfig, RerankerTrainingError
from tests.support.sentence_features import sentence_features
from tests.support.timing import growth
from tests.support.tiny_ranker import TINY, write_tiny_base

PASSAGES = [
    "Books can be returned within thirty days of delivery if they are unread.",
    "Parcels within the country arrive in three to five working days.",
    "A gift card never expires and can be used for any order.",
    "Lantern of the Deep: divers find a sunken city and its last librarian. Complete in four volumes.",
    "Paper Moon Courier: a comedy about a delivery girl who flies an origami crane.",
    "Members collect one point for every coin they spend and get a free volume for two hundred.",
]
QUESTIONS = {
    "how long do i have to send a book back": 0,
    "when will my parcel be here": 1,
    "does a voucher run out": 2,
    "manga about people under water": 3,
    "something funny with paper birds": 4,
    "what do i get for loyalty points": 5,
}
QUICK = RerankerTrainingConfig(epochs=1, apart_epochs=0, max_training_pairs=24, negatives=2, batch_queries=3)
UNTRAINED = replace(TINY, epochs=0, apart_epochs=0)


def ranking_examples() -> list[RankingExample]:
    return [
        RankingExample(
            example_id=f"q{number}",
            query=query,
            passages=tuple(PASSAGES),
            relevances=tuple(float(place == answer) for place in range(len(PASSAGES))),
            first_stage_ranks=tuple(range(1, len(PASSAGES) + 1)),
        )
        for number, (query, answer) in enumerate(QUESTIONS.items())
    ]


def train_on(
    train: list[RankingExample],
    validation: list[RankingExample],
    *,
    config: RerankerTrainingConfig,
    output: Path,
    champion: Path | None = None,
    base: str = PACKAGED_MINILM,
) -> RerankerTrainingResult:
    request = TrainingRequest(train=train, validation=validation, output=output, champion=champion)
    return train_reranker(request, config=config, base=base)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RerankerTrainingResult:
    output = tmp_path_factory.mktemp("reranker") / "model"
    return train_on(ranking_examples(), [], config=QUICK, output=output)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny encoder, where it does not matter how good a model is."""
    return write_tiny_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="module")
def tiny(base: str, tmp_path_factory: pytest.TempPathFactory) -> RerankerTrainingResult:
    output = tmp_path_factory.mktemp("tiny") / "model"
    return train_on(ranking_examples(), [], config=TINY, base=base, output=output)


@pytest.fixture(scope="module")
def reranker(trained: RerankerTrainingResult) -> Reranker:
    return Reranker.load(trained.directory, trained.digest)


def test_the_trained_reranker_puts_the_answer_first(reranker: Reranker) -> None:
    for query, answer in QUESTIONS.items():
        scores = reranker.score([(query, passage) for passage in PASSAGES])
        assert scores.argmax() == answer


def test_scores_are_probabilities_that_separate(reranker: Reranker) -> None:
    scores = reranker.score([(query, passage) for query in QUESTIONS for passage in PASSAGES])
    assert scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all()
    answers = [number * len(PASSAGES) + answer for number, answer in enumerate(QUESTIONS.values())]
    assert scores[answers].mean() > 0.5 > np.delete(scores, answers).mean()


def test_an_untrained_network_with_closed_gates_ranks_by_what_the_sentence_encoder_knows() -> None:
    from mangaassist_assets.models.reranker.networks.pair_network import PairNetwork, Segments

    base = load_base()
    network = PairNetwork(base.encoder, joint_layers=2).eval()
    network.gates.data.fill_(-1e9)
    network.interactions.data.copy_(torch.tensor([1.0, 0.0, 0.0]))
    question = tokenize(base.tokenizer, ["how long do i have to send a book back"], max_tokens=64)
    passages = tokenize(base.tokenizer, PASSAGES, max_tokens=64)
    features = sentence_features(base.encoder, [*question, *passages])
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    with torch.no_grad():
        asked = network.lower(*padded(question, base.encoder))
        read = network.lower(*padded(passages, base.encoder))
        repeated = (one.expand(len(PASSAGES), *one.shape[1:]) for one in (asked.states, asked.ids, asked.mask))
        logits = network(Segments(*repeated), read).numpy()
        network.interactions.data.copy_(torch.tensor([10.0, 10.0, 1.5]))
        together = network(
            Segments(*(one.expand(len(PASSAGES), *one.shape[1:]) for one in (asked.states, asked.ids, asked.mask))),
            read,
        )
        apart = network.apart_logits(asked, read)[0]
    assert np.abs(logits - features[1:] @ features[0]).max() < 1e-5
    assert (together - apart).abs().max() < 1e-4


def test_training_changes_the_model_and_repeats_exactly(
    tiny: RerankerTrainingResult, base: str, tmp_path: Path
) -> None:
    untrained = train_on(ranking_examples(), [], config=UNTRAINED, base=base, output=tmp_path / "untrained")
    again = train_on(ranking_examples(), [], config=TINY, base=base, output=tmp_path / "again")
    assert again.digest == tiny.digest != untrained.digest
    assert (tiny.kept, untrained.kept) == ("trained", "start")


def test_every_step_has_its_loss(trained: RerankerTrainingResult) -> None:
    assert len(trained.training_losses) == 2


def test_training_that_hurts_validation_is_undone(base: str, tmp_path: Path) -> None:
    contrary = [
        RankingExample(
            example_id=example.example_id,
            query=example.query,
            passages=example.passages,
            relevances=tuple(1.0 - relevance for relevance in example.relevances),
            first_stage_ranks=example.first_stage_ranks,
        )
        for example in ranking_examples()
    ]
    config = replace(TINY, epochs=3, apart_epochs=0, learning_rate=1e-2, negatives=1)
    result = train_on(contrary, ranking_examples(), config=config, base=base, output=tmp_path / "model")
    assert result.kept == "start"
    assert result.metrics["validation_ndcg_trained"] < result.metrics["validation_ndcg_start"]
    assert result.metrics["validation_mrr"] == result.metrics["validation_mrr_start"]
    untrained = train_on(contrary, [], config=UNTRAINED, base=base, output=tmp_path / "untrained").directory
    for file in ("model.safetensors", EXTRA_FILE):
        assert (result.directory / file).read_bytes() == (untrained / file).read_bytes()


def test_training_goes_on_from_a_champion(tiny: RerankerTrainingResult, base: str, tmp_path: Path) -> None:
    result = train_on(
        ranking_examples(), [], config=UNTRAINED, base=base, output=tmp_path / "model", champion=tiny.directory
    )
    champion, challenger = Reranker.load(tiny.directory), Reranker.load(result.directory)
    pairs = [(query, passage) for query in QUESTIONS for passage in PASSAGES]
    order = np.argsort(champion.score(pairs))
    assert (np.argsort(challenger.score(pairs)) == order).all()


def test_company_and_the_cache_do_not_change_a_score(trained: RerankerTrainingResult, reranker: Reranker) -> None:
    pairs = [(query, passage) for query in QUESTIONS for passage in PASSAGES]
    together = reranker.score(pairs)
    fresh = Reranker.load(trained.directory, passages=LayerStates())
    alone = np.concatenate([fresh.score([pair]) for pair in pairs])
    # Integers of eight bits are scaled by the largest value of a batch: company moves a score a little.
    assert np.abs(together - alone).max() < 0.02
    again = fresh.score(pairs)
    assert (again == fresh.score(pairs)).all()


def test_the_cache_stays_within_its_bytes(trained: RerankerTrainingResult) -> None:
    cache = LayerStates(limit=50_000)
    small = Reranker.load(trained.directory, passages=cache)
    small.score([("gift", passage) for passage in PASSAGES])
    assert 0 < cache.kept_bytes <= 50_000
    assert cache.kept_bytes == sum(states.nbytes for states in cache._states.values())


def test_models_with_other_lower_layers_do_not_share_states(
    trained: RerankerTrainingResult, tiny: RerankerTrainingResult
) -> None:
    cache = LayerStates()
    pairs = [("gift", passage) for passage in PASSAGES]
    Reranker.load(trained.directory, passages=cache).score(pairs)
    beside = Reranker.load(tiny.directory, passages=cache).score(pairs)
    alone = Reranker.load(tiny.directory, passages=LayerStates()).score(pairs)
    assert (beside == alone).all()


def test_what_was_computed_once_is_not_computed_again() -> None:
    cache = LayerStates()
    asked: list[int] = []

    def compute(sequences: list[tuple[int, ...]]) -> list[States]:
        asked.append(len(sequences))
        return [np.zeros((len(one), 4), dtype=np.float32) for one in sequences]

    cache.get("one", [(101, 102), (101, 2000, 102), (101, 102)], compute)
    cache.get("one", [(101, 102)], compute)
    cache.get("two", [(101, 102)], compute)
    assert asked == [2, 1]


@pytest.mark.parametrize("text", ["", " ", "\x00", "\ud800", "返品", "word " * 20_000])
def test_any_pair_gets_a_score(reranker: Reranker, text: str) -> None:
    scores = reranker.score([(text, PASSAGES[0]), (next(iter(QUESTIONS)), text), (text, text)])
    assert np.isfinite(scores).all()


def test_a_long_pair_costs_what_its_first_tokens_cost(reranker: Reranker) -> None:
    assert growth(lambda words: reranker.score([("word " * words, "word " * words)]), 500, 20_000, enough=4) < 4


def test_no_pairs_get_no_scores(reranker: Reranker) -> None:
    assert reranker.score([]).shape == (0,)


def test_examples_that_teach_nothing_are_counted_and_refused_when_alone(base: str, tmp_path: Path) -> None:
    idle = RankingExample(
        example_id="idle", query="gift", passages=(PASSAGES[2],), relevances=(1.0,), first_stage_ranks=(1,)
    )
    with pytest.raises(RerankerTrainingError, match="none of the 1 training examples"):
        train_on([idle], [], config=TINY, base=base, output=tmp_path / "model")
    result = train_on([idle, *ranking_examples()], [], config=UNTRAINED, base=base, output=tmp_path / "model")
    assert result.metrics["train_queries_that_teach_nothing"] == 1


def test_an_example_whose_fields_do_not_fit_is_named(tmp_path: Path) -> None:
    broken = RankingExample(
        example_id="broken-7", query="x", passages=("a", "b"), relevances=(1.0,), first_stage_ranks=(1, 2)
    )
    with pytest.raises(RerankerTrainingError, match="broken-7"):
        train_on([broken], [], config=QUICK, output=tmp_path / "model")


def test_another_artifact_is_not_loaded(trained: RerankerTrainingResult) -> None:
    with pytest.raises(ArtifactMismatchError, match="not the one that was registered"):
        Reranker.load(trained.directory, "f" * 64)


def test_rare_tokens_weigh_more_and_special_ones_nothing() -> None:
    weights = idf_weights([[1, 5, 6], [1, 5, 7], [1, 5, 8]], vocab_size=10, special=[1])
    assert weights[1] == 0.0
    assert weights[9] > weights[6] == weights[7] > weights[5] >= 0.0
