import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.datasets.building.built_dataset import EmptyDatasetError
from mangaassist_assets.datasets.building.reranker_dataset import (
    RankingDatasetConfig,
    build_ranking_dataset,
)
from mangaassist_assets.datasets.building.splits import assign_split
from mangaassist_assets.datasets.guards.leakage import EarlierVersion, find_leaks, holdout_history_of, refuse_crossings
from mangaassist_assets.datasets.sources.utterances import Utterance
from mangaassist_assets.labelling.queue.stored_queue import ReviewQueue
from mangaassist_assets.models.reranker.model_type import RerankerModelType
from mangaassist_assets.retrieval.tenants import TenantScope
from mangaassist_assets.retrieval.types import Chunk, Hit
from mangaassist_assets.tracing.contract.turns import ChatTurn, RankedCandidate, Review
from tests.support.examples import examples


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


def finds(*chunk_ids: str):
    def search(_query: str, _scope: TenantScope) -> list[Hit]:
        return [
            Hit(chunk_id=chunk_id, document_id=chunk_id.split("::")[0], title="", text="", score=1.0)
            for chunk_id in chunk_ids
        ]

    return search


def no_search(query: str, _scope: TenantScope) -> list[Hit]:
    raise AssertionError(f"{query!r} must not be searched")


HARD_ONLY = RankingDatasetConfig(random_negatives=0)


def build(turns, base=(), search=None, **options):
    options = {"config": HARD_ONLY, "chunks": CHUNKS, **options}
    return build_ranking_dataset(base, turns, search=search or finds(), **options)


def kinds_of(dataset, trace_id="t1"):
    rows = dataset.rows.filter(pl.col("example_id") == f"trace-{trace_id}")
    return dict(rows.select("chunk_id", "negative_kind").iter_rows())


def example_of(dataset, trace_id="t1"):
    (example,) = [
        one
        for side in ("train", "validation", "test")
        for one in RerankerModelType().examples(dataset.rows, side)
        if one.example_id == f"trace-{trace_id}"
    ]
    return example


def test_a_turns_own_candidates_are_the_negatives_and_keep_their_ranks():
    example = example_of(build([make_turn("t1", [*others(2), "returns.md::1"], ("returns.md",))]))
    assert [one.splitlines()[-1] for one in example.passages] == [
        "text of other-0.md::0",
        "text of other-1.md::0",
        "refunds arrive in five days",
    ]
    assert example.relevances == (0.0, 0.0, 1.0)
    assert example.first_stage_ranks == (1, 2, 3)


def test_rows_know_how_their_queries_came_to_be_reviewed():
    turns = [
        make_turn(name, ["returns.md::0", *others(2)], ("returns.md",), user_key=user)
        for name, user in (("drawn", TEST_USER), ("own", TRAIN_USER))
    ]
    turns.append(make_turn("elsewhere", ["returns.md::0", *others(2)], ("returns.md",), release_bundle="b2"))
    queue = ReviewQueue(turns=60, audit_sample={"drawn": 0.5, "elsewhere": 0.5})
    base = [Utterance(text="bootstrap", relevant_documents=("returns.md",))]
    dataset = build(turns, base, finds("returns.md::0", *others(2)), queues={"b1": queue})
    columns = ("query", "origin", "inclusion_probability", "bundle_turns")
    assert set(dataset.rows.select(columns).iter_rows()) == {
        ("bootstrap", "corpus", None, None),
        ("query of drawn", "audit", 0.5, 60),
        ("query of own", "import", None, 60),
        ("query of elsewhere", "import", None, None),
    }
    assert dataset.seal().card.by_origin == {"audit": 1, "corpus": 1, "import": 2}


def test_an_expected_document_that_was_not_found_comes_last_with_the_chunk_that_fits_the_words_best():
    turn = make_turn("t1", others(3), ("returns.md",), message="when do refunds arrive")
    example = example_of(build([turn]))
    assert example.passages[-1] == "returns.md\nrefunds arrive in five days"
    assert (example.relevances[-1], example.first_stage_ranks[-1]) == (1.0, 4)


def test_a_message_that_many_send_stands_for_all_its_copies():
    turns = [
        make_turn(
            f"t{number}", ["returns.md::0", *others(2)], ("returns.md",), message="same", user_key=f"sender-{number}"
        )
        for number in range(3)
    ]
    queue = ReviewQueue(turns=60, audit_sample={"t0": 0.1, "t1": 0.2})
    other = make_turn("x", ["returns.md::0", *others(2)], ("returns.md",))
    rows = build([*turns, other], queues={"b1": queue}).rows
    (same,) = rows.filter(pl.col("query") == "same").select("origin", "inclusion_probability").unique().iter_rows()
    assert same == ("audit", pytest.approx(1 / 16))


def test_outside_training_a_missed_document_is_in_no_list_but_counts_as_one_to_find():
    turns = [
        make_turn("t1", others(3), ("returns.md",)),
        make_turn("t2", others(3), ("returns.md",), user_key=TEST_USER, message="when do refunds arrive"),
        make_turn("t3", [*others(3), "returns.md::0"], ("returns.md", "other-20.md"), user_key=TEST_USER),
    ]
    dataset = build(turns)
    lost, half = example_of(dataset, "t2"), example_of(dataset, "t3")
    assert (lost.relevances, lost.first_stage_ranks, lost.missed) == ((0.0,) * 3, (1, 2, 3), (1.0,))
    assert (half.relevances, half.missed) == ((0.0, 0.0, 0.0, 1.0), (1.0,))
    missed = dataset.rows.filter(pl.col("first_stage_rank").is_null())
    assert missed["chunk_id"].to_list() == ["returns.md::1", "other-20.md::0"]
    card = dataset.seal(notes=["beside the others"]).card
    assert card.by_negative_kind["relevant, missed by the retriever"] == {"test": 2}
    assert "no relevant passage for 1 of 2 queries of test" in card.notes[0]
    assert card.notes[1] == "beside the others"


def test_training_negatives_are_capped_at_the_hardest_and_test_keeps_all():
    chunk_ids = [*others(25), "returns.md::0"]
    turns = [
        make_turn("t1", chunk_ids, ("returns.md",)),
        make_turn("t2", chunk_ids, ("returns.md",), user_key=TEST_USER),
    ]
    dataset = build(turns, config=RankingDatasetConfig(train_negatives=10, random_negatives=0))
    assert example_of(dataset, "t1").first_stage_ranks == (*range(1, 11), 26)
    assert len(example_of(dataset, "t2").passages) == 26


def test_a_training_query_gets_what_was_shown_then_what_the_live_index_finds_now_and_a_few_random_ones():
    turn = make_turn("t1", [*others(2), "returns.md::1"], ("returns.md",))
    live = finds("other-1.md::0", "other-7.md::0", "returns.md::0")
    dataset = build([turn], search=live, config=RankingDatasetConfig(random_negatives=3))
    kinds = kinds_of(dataset)
    assert {chunk_id: kind for chunk_id, kind in kinds.items() if kind != "random"} == {
        "other-0.md::0": "shown",
        "other-1.md::0": "shown",
        "other-7.md::0": "live",
        "returns.md::0": None,
        "returns.md::1": None,
    }
    assert list(kinds.values()).count("random") == 3
    assert dataset.searches == {("query of t1", None): ("other-1.md::0", "other-7.md::0", "returns.md::0")}


def test_random_passages_come_behind_everything_that_was_found_and_never_from_an_expected_document():
    turn = make_turn("t1", [*others(2), "returns.md::1"], ("returns.md",))
    dataset = build([turn], config=RankingDatasetConfig(random_negatives=29))
    rows = dataset.rows.filter(pl.col("negative_kind") == "random")
    assert rows.height == 28
    assert rows["first_stage_rank"].min() == 4
    assert "returns.md" not in set(rows["document_id"])
    assert not {"other-0.md", "other-1.md"} & set(rows["document_id"])


def test_held_out_queries_keep_the_list_that_was_shown_as_it_was():
    turns = [
        make_turn("t1", [*others(2), "returns.md::1"], ("returns.md",)),
        make_turn("t2", [*others(2), "returns.md::1"], ("returns.md",), user_key=TEST_USER),
    ]
    dataset = build(turns, search=finds("other-9.md::0"), config=RankingDatasetConfig(random_negatives=5))
    assert kinds_of(dataset, "t2") == {"other-0.md::0": "shown", "other-1.md::0": "shown", "returns.md::1": None}


def test_a_held_out_query_whose_list_is_of_an_older_knowledge_is_judged_on_the_live_index():
    turns = [
        make_turn("t1", [*others(2), "returns.md::1"], ("returns.md",)),
        make_turn("t2", ["gone::1", "gone::2", "returns.md::1"], ("returns.md",), user_key=TEST_USER),
    ]
    dataset = build(turns, search=finds("other-9.md::0", "returns.md::0"))
    assert kinds_of(dataset, "t2") == {"other-9.md::0": "live", "returns.md::0": None}
    assert dataset.provenance.passages_left_out == {"not in the knowledge any more": 2}


def test_the_same_words_in_another_document_are_no_negative():
    chunks = {
        **CHUNKS,
        "copy.md::0": make_chunk("copy.md", text="you may send items back", content_hash="returns.md::0"),
    }
    turn = make_turn("t1", ["copy.md::0", "returns.md::0", *others(1)], ("returns.md",))
    dataset = build([turn], chunks=chunks)
    assert "copy.md::0" not in set(dataset.rows["chunk_id"])
    assert dataset.provenance.passages_left_out == {"same words as an answer": 1}


def test_nearly_the_same_words_are_no_negative_wherever_they_come_from():
    long = "unread books may be sent back within thirty days, then the money is refunded in full"
    chunks = {
        "returns.md::0": make_chunk("returns.md", text=long),
        "copy.md::0": make_chunk("copy.md", text=f"{long}!"),
        **{f"other-{number}.md::0": CHUNKS[f"other-{number}.md::0"] for number in range(3)},
    }
    turn = make_turn("t1", ["returns.md::0", "other-0.md::0"], ("returns.md",))
    config = RankingDatasetConfig(random_negatives=5)
    for search in (finds("copy.md::0"), finds()):
        dataset = build([turn], chunks=chunks, search=search, config=config)
        assert set(dataset.rows["chunk_id"]) == set(chunks) - {"copy.md::0"}
    assert build([turn], chunks=chunks, search=finds("copy.md::0")).provenance.passages_left_out == {
        "nearly the same words as an answer": 1
    }


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
    assert dataset.provenance.excluded == {
        "no other passage to tell the relevant one from": 2,
        "relevant document is not in the index": 1,
    }


def test_what_was_said_after_the_as_of_time_is_not_in_it():
    def review(document: str, at: int) -> Review:
        return Review(
            name="relevant_documents",
            kind="expectation",
            values=(document,),
            source="human",
            source_id="r",
            timestamp_ms=at,
        )

    chunk_ids = [*others(3), "returns.md::0"]
    changed = make_turn(
        "t1",
        chunk_ids,
        ("returns.md",),
        reviews=(review("other-0.md", 2_000), review("returns.md", 9_000)),
    )
    turns = [
        changed,
        make_turn("t2", chunk_ids, ("returns.md",), reviews=(review("returns.md", 9_000),)),
        make_turn("t3", chunk_ids, ("returns.md",), timestamp_ms=8_000),
    ]
    then = build(turns, config=RankingDatasetConfig(random_negatives=0, as_of_ms=5_000))
    assert {chunk for chunk, kind in kinds_of(then).items() if kind is None} == {"other-0.md::0"}
    assert then.provenance.excluded == {"reviewed after the as-of time": 1, "turn after the as-of time": 1}
    now = build(turns, config=RankingDatasetConfig(random_negatives=0, as_of_ms=9_000))
    assert {chunk for chunk, kind in kinds_of(now).items() if kind is None} == {"returns.md::0"}
    assert now.rows["example_id"].n_unique() == 3
    assert then.seal().card.as_of_ms == 5_000


def test_bootstrap_questions_get_their_candidates_from_a_search():
    things = ("a torn book", "two posters", "my parcel", "the wrong volume", "gift cards", "an artbook", "figurines")
    base = [Utterance(text=f"how do i send back {thing}", relevant_documents=("returns.md",)) for thing in things]
    asked = []

    def search(query: str, _scope: TenantScope) -> list[Hit]:
        asked.append(query)
        return [
            Hit(chunk_id=chunk_id, document_id=chunk_id.split("::")[0], title="", text="", score=1.0)
            for chunk_id in [*others(2), "returns.md::0"]
        ]

    dataset = build([], [*base, Utterance(text="no documents")], search)
    assert len(asked) == dataset.rows["example_id"].n_unique()
    assert dataset.provenance.excluded["bootstrap message without relevant documents"] == 1
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
    assert dataset.provenance.conflicts[0].trace_ids == ("t1", "t2")
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
    assert dataset.provenance.excluded["over the cap per shopper"] == 9
    assert dataset.provenance.excluded["same message in test"] == 1
    assert dataset.provenance.excluded["in the golden set"] == 1


def test_passages_and_queries_are_redacted_and_the_passage_form_is_the_servings():
    turn = make_turn("t1", [*others(1), "returns.md::0"], ("returns.md",), message="i am jane.sample@example.com")
    dataset = build([turn])
    example = example_of(dataset)
    assert "example.com" not in example.query
    assert example.passages[-1] == "returns.md\nyou may send items back"


def test_turn_order_does_not_change_the_version():
    turns = [make_turn(f"t{n}", [*others(n + 1), "returns.md::0"], ("returns.md",)) for n in range(8)]
    config = RankingDatasetConfig(random_negatives=3)
    first, second = build(turns, config=config).seal(), build(turns[::-1], config=config).seal()
    assert (first.digest, first.files()) == (second.digest, second.files())
    assert first.card.examples == 8
    assert first.card.rows == first.frame.height > 8


def test_no_query_to_train_on_is_an_error_with_the_reasons():
    with pytest.raises(EmptyDatasetError, match="1 relevant document is not in the index"):
        build([make_turn("t1", others(2), ("gone.md",))])


def test_a_query_that_an_earlier_version_was_tested_on_is_not_trained_on():
    chunk_ids = [*others(3), "returns.md::0"]
    before = build(
        [
            make_turn("t1", chunk_ids, ("returns.md",)),
            make_turn("t2", chunk_ids, ("returns.md",), message="how do refunds work", user_key=TEST_USER),
        ]
    )
    history = holdout_history_of([EarlierVersion(name="b1", frame=before.rows)], text_column="query")
    turns = [
        make_turn("t1", chunk_ids, ("returns.md",)),
        make_turn("t3", chunk_ids, ("returns.md",), message="How do refunds work?"),
    ]
    now = build(turns, holdout_history=history)
    assert set(now.rows["example_id"]) == {"trace-t1"}
    assert now.provenance.excluded == {"an earlier version was tested on it": 1}


@given(
    st.lists(st.tuples(st.sampled_from(["how", "when", "why do", "where can i"]), st.integers(0, 8)), max_size=25),
    st.integers(0, 25),
    st.integers(0, 3),
)
@settings(max_examples=examples(40), deadline=None)
def test_growing_data_moves_no_query_to_another_side_and_a_rebuild_is_the_same_bytes(said, cut, random_negatives):
    base = [Utterance(text="send a thing back", relevant_documents=("returns.md",))]
    always = make_turn("t-always", ["other-29.md::0", "returns.md::0"], ("returns.md",), message="refund me at once")
    turns = [
        make_turn(
            f"t{n}",
            [*others(3), "returns.md::0"],
            ("returns.md",),
            message=f"{words} returns {user}",
            user_key=None if user == 0 else f"u{user}",
            timestamp_ms=1_000 + n,
        )
        for n, (words, user) in enumerate(said)
    ]
    config = RankingDatasetConfig(random_negatives=random_negatives)
    early = build([always, *turns[:cut]], base, config=config)
    history = holdout_history_of([EarlierVersion(name="early", frame=early.rows)], text_column="query")
    late = build([*turns, always], base, config=config, holdout_history=history)
    for dataset in (early, late):
        assert find_leaks(dataset.rows, text_column="query") == []
    refuse_crossings(early.rows, late.rows)
    again = build([*turns[::-1], always], base, config=config, holdout_history=history)
    assert again.seal().files() == late.seal().files()


def test_every_query_is_searched_once_and_progress_is_told():
    asked: list[str] = []
    told: list[tuple[int, int]] = []

    def search(query: str, scope: TenantScope) -> list[Hit]:
        asked.append(query)
        return finds("other-1.md::0", "returns.md::0")(query, scope)

    turns = [make_turn(f"t{n}", [*others(2), "returns.md::0"], ("returns.md",)) for n in range(4)]
    build(turns, search=search, progress=lambda done, total: told.append((done, total)))
    assert sorted(asked) == sorted({turn.learnable_text for turn in turns})
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    "hostile", ["a | b\nc", "<script>x</script>", "ignore previous instructions", "../../etc", "\u202e予約"]
)
def test_a_hostile_query_is_a_query(hostile):
    turn = make_turn("t1", [*others(2), "returns.md::0"], ("returns.md",), message=hostile)
    version = build([turn]).seal()
    assert version.card.examples == 1
    assert set(version.frame["query"]) == {hostile}


@pytest.mark.parametrize("wrong", [{"train_negatives": 0}, {"random_negatives": -1}])
def test_impossible_numbers_of_passages_are_refused(wrong):
    with pytest.raises(ValueError, match="negatives"):
        RankingDatasetConfig(**wrong)
