import polars as pl
import pytest

from mangaassist_assets.datasets.intent_dataset import EmptyDatasetError
from mangaassist_assets.datasets.leakage import find_leaks
from mangaassist_assets.datasets.reranker_dataset import (
    RankingDatasetConfig,
    build_ranking_dataset,
    ranking_examples,
)
from mangaassist_assets.datasets.splits import assign_split
from mangaassist_assets.datasets.utterances import Utterance
from mangaassist_assets.knowledge.types import Chunk, Hit
from mangaassist_assets.tracing.turns import ChatTurn, RankedCandidate


def make_chunk(document: str, position: int = 0, text: str = "", content_hash: str = "") -> Chunk:
    chunk_id = f"{document}::{position}"
    return Chunk(
        chunk_id=chunk_id,
        document_id=document,
        position=position,
        title=document,
        text=text or f"text of {chunk_id}",
        content_hash=content_hash or chunk_id,
    )


CHUNKS = {
    chunk.chunk_id: chunk
    for chunk in [
        make_chunk("returns.md", 0, "you may send items back"),
        make_chunk("returns.md", 1, "refunds arrive in five days"),
        *(make_chunk(f"other-{number}.md") for number in range(30)),
    ]
}
TRAIN_USER = next(f"u{n}" for n in range(1000) if assign_split("", None, f"u{n}") == "train")
TEST_USER = next(f"u{n}" for n in range(1000) if assign_split("", None, f"u{n}") == "test")


def make_turn(trace_id: str, chunk_ids: list[str], documents: tuple[str, ...], **fields) -> ChatTurn:
    candidates = tuple(
        RankedCandidate(
            chunk_id=chunk_id, document_id=chunk_id.split("::")[0], retrieval_rank=rank, retrieval_score=1.0
        )
        for rank, chunk_id in enumerate(chunk_ids, start=1)
    )
    defaults = {
        "trace_id": trace_id,
        "timestamp_ms": 1_000,
        "duration_ms": 5,
        "state": "OK",
        "release_bundle": "b1",
        "session_id": f"s-{trace_id}",
        "message": f"query of {trace_id}",
        "user_key": TRAIN_USER,
        "candidates": candidates,
        "expected_documents": documents,
    }
    return ChatTurn(**{**defaults, **fields})


def others(count: int) -> list[str]:
    return [f"other-{number}.md::0" for number in range(count)]


def no_search(query: str) -> list[Hit]:
    raise AssertionError(f"a turn brings its own candidates, {query!r} must not be searched")


def build(turns, base=(), search=no_search, **options):
    return build_ranking_dataset(base, turns, chunks=CHUNKS, search=search, **options)


def example_of(dataset, trace_id="t1"):
    (example,) = [
        one
        for side in ("train", "validation", "test")
        for one in ranking_examples(dataset.rows, side)
        if one.example_id == f"trace-{trace_id}"
    ]
    return example


def test_a_turns_own_candidates_are_the_negatives_and_keep_their_ranks():
    example = example_of(build([make_turn("t1", [*others(2), "returns.md::1"], ("returns.md",))]))
    assert example.passages == ("text of other-0.md::0", "text of other-1.md::0", "refunds arrive in five days")
    assert example.relevances == (0.0, 0.0, 1.0)
    assert example.first_stage_ranks == (1, 2, 3)


def test_an_expected_document_that_was_not_found_comes_last_with_the_chunk_that_fits_the_words_best():
    turn = make_turn("t1", others(3), ("returns.md",), message="when do refunds arrive")
    example = example_of(build([turn]))
    assert example.passages[-1] == "refunds arrive in five days"
    assert (example.relevances[-1], example.first_stage_ranks[-1]) == (1.0, 4)


def test_training_negatives_are_capped_at_the_hardest_and_test_keeps_all():
    chunk_ids = [*others(25), "returns.md::0"]
    turns = [
        make_turn("t1", chunk_ids, ("returns.md",)),
        make_turn("t2", chunk_ids, ("returns.md",), user_key=TEST_USER),
    ]
    dataset = build(turns, config=RankingDatasetConfig(train_negatives=10))
    assert example_of(dataset, "t1").first_stage_ranks == (*range(1, 11), 26)
    assert len(example_of(dataset, "t2").passages) == 26


def test_the_same_words_in_another_document_are_no_negative():
    chunks = {
        **CHUNKS,
        "copy.md::0": make_chunk("copy.md", text="you may send items back", content_hash="returns.md::0"),
    }
    turn = make_turn("t1", ["copy.md::0", "returns.md::0", *others(1)], ("returns.md",))
    dataset = build_ranking_dataset([], [turn], chunks=chunks, search=no_search)
    assert "copy.md::0" not in set(dataset.rows["chunk_id"])


def test_what_can_teach_nothing_is_counted_out_with_its_reason():
    turns = [
        make_turn("t1", [*others(2), "returns.md::0"], ("returns.md",)),
        make_turn("t2", others(2), ("gone.md",)),
        make_turn("t3", ["returns.md::0"], ("returns.md",)),
        make_turn("t4", ["old-generation::7", "returns.md::0"], ("returns.md",)),
        make_turn("t5", others(2), ()),
    ]
    dataset = build(turns)
    assert set(dataset.rows["example_id"]) == {"trace-t1"}
    assert dataset.excluded == {
        "no other passage to tell the relevant one from": 2,
        "relevant document is not in the index": 1,
    }


def test_bootstrap_questions_get_their_candidates_from_a_search():
    base = [Utterance(text=f"how to return item {'a' * n}", relevant_documents=("returns.md",)) for n in range(1, 12)]
    asked = []

    def search(query: str) -> list[Hit]:
        asked.append(query)
        return [
            Hit(chunk_id=chunk_id, document_id=chunk_id.split("::")[0], title="", text="", score=1.0)
            for chunk_id in [*others(2), "returns.md::0"]
        ]

    dataset = build([], [*base, Utterance(text="no documents")], search)
    assert len(asked) == dataset.rows["example_id"].n_unique()
    assert dataset.excluded["bootstrap message without relevant documents"] == 1
    assert set(dataset.rows["label_kind"]) == {"base"}
    assert dataset.rows.filter(pl.col("relevance") == 1.0)["first_stage_rank"].unique().to_list() == [3]


def test_reviews_that_name_disjoint_documents_for_one_message_are_a_conflict():
    chunk_ids = [*others(3), "returns.md::0"]
    turns = [
        make_turn("t1", chunk_ids, ("returns.md",), message="How?"),
        make_turn("t2", chunk_ids, ("other-1.md",), message="how"),
        make_turn("t3", chunk_ids, ("returns.md",)),
    ]
    dataset = build(turns)
    assert dataset.conflicts[0].trace_ids == ("t1", "t2")
    assert set(dataset.rows["example_id"]) == {"trace-t3"}


def test_sides_do_not_leak_caps_hold_and_golden_queries_stay_out():
    chunk_ids = [*others(3), "returns.md::0"]
    turns = [
        *(make_turn(f"t{n}", chunk_ids, ("returns.md",), message=f"how {n}") for n in range(20)),
        make_turn("twin", chunk_ids, ("returns.md",), message="HOW 2?", user_key=TEST_USER),
        make_turn("golden", chunk_ids, ("returns.md",), message="golden question", user_key=TEST_USER),
    ]
    dataset = build(turns, golden_texts=["Golden question?"])
    assert find_leaks(dataset.rows, text_column="query") == []
    assert dataset.rows.filter(pl.col("split") == "train")["example_id"].n_unique() == 10
    assert dataset.excluded["over the cap per shopper"] == 9
    assert dataset.excluded["same message in test"] == 1
    assert dataset.excluded["in the golden set"] == 1


def test_passages_and_queries_are_redacted_and_the_passage_form_is_the_servings():
    turn = make_turn("t1", [*others(1), "returns.md::0"], ("returns.md",), message="i am jane.sample@example.com")
    dataset = build([turn], passage_of=lambda chunk: f"{chunk.title}\n{chunk.text}")
    example = example_of(dataset)
    assert "example.com" not in example.query
    assert example.passages[-1] == "returns.md\nyou may send items back"


def test_turn_order_does_not_change_the_version():
    turns = [make_turn(f"t{n}", [*others(n + 1), "returns.md::0"], ("returns.md",)) for n in range(8)]
    first, second = build(turns).seal(), build(turns[::-1]).seal()
    assert (first.digest, first.files()) == (second.digest, second.files())
    assert first.card.examples == 8
    assert first.card.rows == first.frame.height > 8


def test_no_query_to_train_on_is_an_error_with_the_reasons():
    with pytest.raises(EmptyDatasetError, match="1 relevant document is not in the index"):
        build([make_turn("t1", others(2), ("gone.md",))])
