"""Random passages that nobody rolled dice for, and passages that must not be called wrong."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.datasets.building.passages import FalseNegativeGuard, PassagePool
from mangaassist_assets.retrieval.types import Chunk
from tests.support.timing import growth


def chunk(name: str, text: str = "", content_hash: str = "") -> Chunk:
    return Chunk(
        chunk_id=f"{name}::0",
        document_id=name,
        position=0,
        title=name,
        text=text or f"all about {name}",
        content_hash=content_hash or name,
    )


def pool_of(*chunks: Chunk, **options) -> PassagePool:
    return PassagePool({one.chunk_id: one for one in chunks}, **options)


def nothing(_: Chunk) -> bool:
    return False


names = st.lists(st.text("abcdefgh", min_size=1, max_size=4), min_size=1, max_size=40, unique=True)


@given(names, st.integers(0, 10), st.randoms(use_true_random=False))
def test_the_draw_depends_on_the_ids_alone(documents, count, random):
    chunks = [chunk(name) for name in documents]
    drawn = pool_of(*chunks).draw("base-1", count, refuse=nothing)
    random.shuffle(chunks)
    assert pool_of(*chunks).draw("base-1", count, refuse=nothing) == drawn
    assert len({one.chunk_id for one in drawn}) == len(drawn) == min(count, len(chunks))


@given(names, st.integers(1, 5))
def test_a_new_passage_only_takes_the_place_of_one(documents, count):
    *before, added = documents
    old = pool_of(*map(chunk, before)).draw("q", count, refuse=nothing)
    new = pool_of(*map(chunk, documents)).draw("q", count, refuse=nothing)
    assert {one.document_id for one in new} <= {one.document_id for one in old} | {added}


@given(names, st.integers(1, 30))
def test_what_is_refused_is_never_drawn_and_everything_else_can_be(documents, count):
    kept = [name for name in documents if "a" not in name]
    drawn = pool_of(*map(chunk, documents)).draw("q", count, refuse=lambda one: "a" in one.document_id)
    assert len(drawn) == min(count, len(kept))
    assert {one.document_id for one in drawn} <= set(kept)


def test_every_passage_is_drawn_about_as_often_as_any_other():
    pool = pool_of(*(chunk(f"d{number}") for number in range(50)))
    drawn = Counter(one.chunk_id for query in range(2_000) for one in pool.draw(f"q{query}", 2, refuse=nothing))
    assert len(drawn) == 50
    assert 50 < min(drawn.values()) <= max(drawn.values()) < 115


def test_a_draw_looks_at_no_passage_one_by_one():
    pools = {size: pool_of(*(chunk(f"d{number}") for number in range(size))) for size in (500, 10_000)}

    def draw(size: int) -> None:
        for query in range(200):
            assert len(pools[size].draw(f"q{query}", 2, refuse=nothing)) == 2

    # Twenty times the passages: all of them in one array cost about seven times as much.
    assert growth(draw, 500, 10_000, enough=14) < 14


LONG = "unread books may be sent back within thirty days, then the money is refunded in full"
JAPANESE = "未読の本は三十日以内であれば返品でき、代金は全額返金されます。"


@pytest.mark.parametrize(
    ("passage", "answer", "above", "expected"),
    [
        (chunk("a", "other", "same"), chunk("b", "words", "same"), False, "same words as an answer"),
        (chunk("a", LONG + "!"), chunk("b", LONG), False, "nearly the same words as an answer"),
        (chunk("a", JAPANESE + "です"), chunk("b", JAPANESE), False, "nearly the same words as an answer"),
        (chunk("a", LONG), chunk("b", JAPANESE), True, None),
        (chunk("a", "we wrap books in patterned paper"), chunk("b", LONG), True, None),
        (chunk("a", "?"), chunk("b", "!"), True, None),
    ],
)
def test_a_copy_of_an_answer_is_not_called_wrong(passage, answer, above, expected):
    assert pool_of(passage, answer).why_no_negative(passage, [answer], above=above) == expected


def test_much_of_an_answers_words_is_suspicious_only_above_it():
    answer = chunk("b", LONG)
    passage = chunk("a", LONG.replace("in full", "as a voucher"))
    pool = pool_of(passage, answer)
    assert 0.6 <= pool.likeness(passage, answer) < 0.9
    strict = pool_of(passage, answer, guard=FalseNegativeGuard(near_identical=0.95))
    assert strict.why_no_negative(passage, [answer]) is None
    assert strict.why_no_negative(passage, [answer], above=True) == "ranked above the answer with much of its words"


def test_shares_that_are_none_are_refused():
    with pytest.raises(ValueError, match="above_answer"):
        FalseNegativeGuard(near_identical=0.5, above_answer=0.6)
