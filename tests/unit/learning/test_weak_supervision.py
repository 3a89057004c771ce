"""Claims about training pairs made from the knowledge itself."""

import pytest

from mangaassist_assets.learning.weak_supervision import weak_ranking_examples

PASSAGES = [
    ("Returns", "Books can be returned within thirty days. Keep the receipt and the wrapping."),
    ("Returns", "Opened boxes are refunded as store credit. Ask at the counter."),
    ("Shipping", "Parcels leave the store every weekday. International parcels take two weeks."),
    ("Gift cards", "A gift card never expires. It can be used online."),
    ("", "Untitled words about nothing in particular"),
    ("Empty", ""),
]


def test_every_example_has_one_answer_and_comes_from_its_passage() -> None:
    examples = weak_ranking_examples(PASSAGES, negatives=3)
    assert {example.query for example in examples} >= {"Returns", "Shipping", "Gift cards"}
    for example in examples:
        assert sum(example.relevances) == 1.0
        assert sorted(example.first_stage_ranks) == list(range(1, len(example.passages) + 1))
        assert len(set(example.passages)) == len(example.passages)


def test_a_first_sentence_asks_for_the_rest_and_not_for_itself() -> None:
    examples = {example.query: example for example in weak_ranking_examples(PASSAGES)}
    example = examples["A gift card never expires."]
    answer = example.passages[example.relevances.index(1.0)]
    assert answer == "It can be used online."


def test_a_passage_under_the_same_title_is_never_a_negative() -> None:
    for example in weak_ranking_examples(PASSAGES, negatives=10):
        if example.query == "Returns":
            assert not any("store credit" in passage for passage in example.passages)


def test_the_same_seed_gives_the_same_examples() -> None:
    assert weak_ranking_examples(PASSAGES, seed=3) == weak_ranking_examples(PASSAGES, seed=3)


def test_the_limit_is_kept() -> None:
    assert len(weak_ranking_examples(PASSAGES, limit=2)) == 2


@pytest.mark.parametrize(
    "passages", [[], [("Only", "One passage. With two sentences.")], [("A", "same"), ("B", "same")]]
)
def test_knowledge_without_contrast_gives_nothing(passages: list[tuple[str, str]]) -> None:
    assert weak_ranking_examples(passages) == []


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="negatives and limit"):
        weak_ranking_examples(PASSAGES, negatives=0)
