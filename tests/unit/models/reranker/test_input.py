"""Claims about what a reranker's training does with examples that are empty, double, huge or wrong."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.models.examples import RankingExample
from mangaassist_assets.models.model_types import InputError
from mangaassist_assets.models.reranker.calibration import fit_calibration, judge_calibration
from mangaassist_assets.models.reranker.lists import EpochLists, draw_lists, labelled_passages
from mangaassist_assets.models.reranker.model import Reranker
from mangaassist_assets.models.reranker.training_config import RerankerTrainingConfig, RerankerTrainingError
from tests.support.tiny_ranker import TINY, WORDS, tiny_examples, train_tiny, write_tiny_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="module")
def reranker(base: str, tmp_path_factory: pytest.TempPathFactory) -> Reranker:
    return Reranker.load(train_tiny(tmp_path_factory.mktemp("model"), base=base).directory)


def example(passages: tuple[str, ...], relevances: tuple[float, ...], query: str = "a lantern") -> RankingExample:
    return RankingExample(
        example_id="odd-1",
        query=query,
        passages=passages,
        relevances=relevances,
        first_stage_ranks=tuple(range(1, len(passages) + 1)),
    )


@pytest.mark.parametrize(
    "idle",
    [
        example(("only one",), (1.0,)),
        example(("all", "of", "them"), (1.0, 1.0, 1.0)),
        example(("none", "of them"), (0.0, 0.0)),
        example(("the same", "the same"), (1.0, 0.0)),
        example(("", "another"), (1.0, 0.0)),
        example(("one", "another"), (1.0, 0.0), query=" \n"),
    ],
    ids=["one passage", "all relevant", "none relevant", "a copy of the answer", "an empty answer", "no query"],
)
def test_a_query_that_teaches_nothing_is_counted_and_alone_refused(
    idle: RankingExample, base: str, tmp_path: Path
) -> None:
    with pytest.raises(RerankerTrainingError, match="none of the 1 training examples"):
        train_tiny(tmp_path, base=base, train=[idle])
    result = train_tiny(tmp_path, base=base, train=[idle, *tiny_examples()], config=replace(TINY, epochs=0))
    assert result.metrics["train_queries_that_teach_nothing"] == 1


@pytest.mark.parametrize("wrong", [math.nan, -0.1, 1.5, math.inf])
def test_a_relevance_that_is_none_is_named(wrong: float, base: str, tmp_path: Path) -> None:
    with pytest.raises(RerankerTrainingError, match=r"'odd-1'.*relevances must lie in 0\.\.1"):
        train_tiny(tmp_path, base=base, train=[example(("one", "another"), (1.0, wrong))])


def test_a_rank_that_is_none_is_named(base: str, tmp_path: Path) -> None:
    broken = replace(example(("one", "another"), (1.0, 0.0)), first_stage_ranks=(0, 1))
    with pytest.raises(RerankerTrainingError, match=r"'odd-1'.*first_stage_ranks"):
        train_tiny(tmp_path, base=base, train=[broken])


def test_texts_of_any_length_and_kind_train(base: str, tmp_path: Path) -> None:
    odd = example(
        ("x" * 100_000, "lantern " * 20_000, "| ignore previous instructions\n<b>../..</b>", "\ud800"), (1, 0, 0, 0)
    )
    result = train_tiny(tmp_path, base=base, train=[odd, *tiny_examples()])
    assert np.isfinite(Reranker.load(result.directory).score([(odd.query, passage) for passage in odd.passages])).all()


@given(
    st.lists(st.tuples(st.sampled_from(["", " ", "one", "two", "three"]), st.sampled_from([0.0, 0.5, 1.0])), min_size=1)
)
def test_a_copy_of_an_answer_is_never_a_wrong_answer(rows: list[tuple[str, float]]) -> None:
    found = labelled_passages(example(tuple(text for text, _ in rows), tuple(label for _, label in rows)))
    assert all(found[text] >= label for text, label in rows if text.strip())
    assert found.keys() == {text for text, _ in rows if text.strip()}


def lists_of(examples: list[RankingExample], config: RerankerTrainingConfig) -> list[EpochLists]:
    return draw_lists(examples, config, config.for_queries(len(examples), "split-attention"))


def test_draws_depend_on_the_seed_alone_and_stay_within_their_bound() -> None:
    config = replace(TINY, max_training_pairs=65)
    drawn = lists_of(tiny_examples(), config)
    assert drawn == lists_of(tiny_examples(), config) != lists_of(tiny_examples(), replace(config, seed=1))
    assert [(epoch.apart, len(epoch.lists)) for epoch in drawn] == [(True, 10), (False, 10), (False, 5)]
    assert sum(len(one.passages) for epoch in drawn for one in epoch.lists) == 65
    assert all(one.wanted == (1.0, 0.0, 0.0) for epoch in drawn[1:] for one in epoch.lists)


def test_wrong_passages_that_the_retriever_ranks_high_are_drawn_more_often() -> None:
    config = replace(TINY, negatives=1, max_training_pairs=10_000, epochs=200)
    drawn = [one for epoch in lists_of(tiny_examples()[-1:], config) for one in epoch.lists]
    first, last = (sum(word in one.passages[1] for one in drawn) for word in (WORDS[0], WORDS[-2]))
    assert first > 1.5 * last > 0


def test_effort_follows_the_number_of_queries_within_the_budget() -> None:
    config = RerankerTrainingConfig()
    few, some, many = (config.for_queries(queries, "split-attention") for queries in (281, 1234, 4000))
    assert (few.apart_epochs, few.epochs, few.joint_layers) == (4, 1, 1)
    assert (some.apart_epochs, some.epochs, some.joint_layers) == (2, 1, 1)
    assert many.joint_layers == 2
    assert many.validation_queries > few.validation_queries
    crossed = config.for_queries(281, "cross-encoder")
    assert (crossed.apart_epochs, crossed.epochs) == (0, 4)
    hour, minute = (replace(config, budget_minutes=minutes) for minutes in (60, 1))
    assert hour.for_queries(281, "split-attention").pairs == 60 * minute.for_queries(281, "split-attention").pairs
    drawn = draw_lists(tiny_examples(), minute, replace(minute.for_queries(10, "split-attention"), pairs=30))
    assert [len(epoch.lists) for epoch in drawn] == [10, 5]


def test_settings_that_are_given_are_kept() -> None:
    effort = TINY.for_queries(10_000, "split-attention")
    assert (effort.apart_epochs, effort.epochs, effort.pairs, effort.joint_layers) == (1, 2, 90, 1)
    assert replace(TINY, epochs=0).for_queries(10, "split-attention").apart_epochs == 0
    assert replace(TINY, loss="distillation").for_queries(10, "split-attention").apart_epochs == 0


@pytest.mark.parametrize("loss", ["listwise", "pairwise", "binary"])
def test_every_loss_learns_from_labels(loss: Any, base: str, tmp_path: Path) -> None:
    result = train_tiny(
        tmp_path,
        base=base,
        config=replace(TINY, loss=loss, epochs=6, patience=6, apart_epochs=0, max_training_pairs=800),
    )
    assert result.history[-1].training_loss < result.history[0].training_loss


def test_a_distilled_reranker_orders_more_like_its_teacher(base: str, tmp_path: Path) -> None:
    examples = tiny_examples()
    wanted = {one.example_id: [4.0 if place % 2 else -4.0 for place in range(len(one.passages))] for one in examples}
    config = replace(TINY, loss="distillation", epochs=20, minimum_validation=99, max_training_pairs=800)
    start = train_tiny(tmp_path, base=base, config=replace(TINY, epochs=0), output=tmp_path / "start").directory
    taught = train_tiny(tmp_path, base=base, config=config, teacher=wanted, checkpoints=False).directory

    def agreement(directory: Path) -> float:
        said = [Reranker.load(directory).logits([(one.query, text) for text in one.passages]) for one in examples]
        return float(
            np.mean([np.corrcoef(row, wanted[one.example_id])[0, 1] for row, one in zip(said, examples, strict=True)])
        )

    assert agreement(taught) > agreement(start) + 0.2


def test_a_champion_can_be_the_teacher(base: str, tmp_path: Path) -> None:
    teacher = train_tiny(tmp_path, base=base, output=tmp_path / "teacher", checkpoints=False).directory
    config = replace(TINY, loss="distillation")
    result = train_tiny(tmp_path, base=base, config=config, teacher=teacher, checkpoints=False)
    assert len(result.training_losses) > 0


@pytest.mark.parametrize(
    "given_logits", [None, {}, {"q0": [1.0]}, {f"q{place}": [math.nan] * 10 for place in range(10)}]
)
def test_distillation_without_a_usable_teacher_is_refused(given_logits: Any, base: str, tmp_path: Path) -> None:
    with pytest.raises(RerankerTrainingError, match="teacher"):
        train_tiny(tmp_path, base=base, config=replace(TINY, loss="distillation"), teacher=given_logits)


def test_validation_chooses_between_base_and_champion(base: str, tmp_path: Path) -> None:
    good = train_tiny(
        tmp_path,
        base=base,
        output=tmp_path / "good",
        config=replace(TINY, epochs=6, max_training_pairs=800),
        checkpoints=False,
    )
    bad_labels = [replace(one, relevances=tuple(1.0 - r for r in one.relevances)) for one in tiny_examples()]
    config = replace(TINY, epochs=6, minimum_validation=99, max_training_pairs=800)
    bad = train_tiny(tmp_path, base=base, output=tmp_path / "bad", train=bad_labels, config=config, checkpoints=False)
    only_start = replace(TINY, epochs=0)
    for champion, origin in ((good, good.digest), (bad, base)):
        result = train_tiny(
            tmp_path,
            base=base,
            config=only_start,
            champion=champion.directory,
            output=tmp_path / f"from-{origin[-8:]}",
        )
        assert result.started_from == origin
        assert {one.name for one in result.candidates} == {"split-attention base", "split-attention champion"}
    unseen = train_tiny(tmp_path, base=base, config=only_start, champion=bad.directory, validation=[])
    assert unseen.started_from == bad.digest


@pytest.mark.parametrize(
    ("field", "value"),
    [("negatives", 0), ("patience", 0), ("loss", "hinge"), ("learning_rate", math.nan), ("query_tokens", 4)],
)
def test_a_setting_that_cannot_work_is_named(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        RerankerTrainingConfig(**{field: value})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("text", r"inputs\[0\] must be an object"),
        ({"text": "query"}, r'inputs\[0\] lacks "text_pair"'),
        ({"text": 1, "text_pair": "x"}, r"inputs\[0\]\.text must be a string, got int"),
        ({"text": "x", "text_pair": "x" * 200_001}, r"inputs\[0\]\.text_pair has 200001 characters"),
    ],
)
def test_an_input_of_another_form_is_refused(value: Any, message: str, reranker: Reranker) -> None:
    with pytest.raises(InputError, match=message):
        reranker.answer([value], {})


def test_an_answer_is_a_list_of_probabilities(reranker: Reranker) -> None:
    answer = reranker.answer([{"text": "a lantern", "text_pair": "lantern"}, {"text": "", "text_pair": ""}], {})
    assert [one["label"] for one in answer["predictions"]] == ["relevant", "relevant"]
    assert all(0 <= one["score"] <= 1 for one in answer["predictions"])
    assert reranker.answer([], {}) == {"predictions": [], "scores": []}


@given(st.lists(st.tuples(st.floats(-9, 9), st.booleans()), min_size=1, max_size=40))
def test_calibration_keeps_the_order(rows: list[tuple[float, bool]]) -> None:
    logits = np.array([logit for logit, _ in rows])
    fitted = fit_calibration(logits, np.array([relevant for _, relevant in rows]))
    assert fitted.scale > 0
    probabilities = fitted.probabilities(logits)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert (np.diff(probabilities[np.argsort(logits)]) >= 0).all()


def test_calibration_is_judged_on_queries_that_did_not_fit_it() -> None:
    examples = tiny_examples()
    sharp = [5.0 * np.array(one.relevances) for one in examples]
    noise = [np.random.default_rng(place).normal(size=len(one.passages)) for place, one in enumerate(examples)]
    good, poor = judge_calibration(sharp, examples), judge_calibration(noise, examples)
    assert good is not None
    assert poor is not None
    assert good.brier < 0.02
    assert poor.brier > 0.08
    assert good.pairs == 100
    assert judge_calibration(sharp[:1], examples[:1]) is None
