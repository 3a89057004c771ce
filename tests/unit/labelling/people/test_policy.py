from __future__ import annotations

import pytest

from mangaassist_assets.labelling.people.policy import (
    EVERYBODY,
    CatalogueError,
    LabellingPolicy,
    heard,
    read_catalogue,
    read_catalogue_file,
)
from mangaassist_assets.labelling.reviews import is_reviewed
from mangaassist_assets.tracing.contract.names import RELEVANT_DOCUMENTS
from mangaassist_assets.tracing.contract.turns import Review
from tests.support.labelling import make_turn, reviewed_turn, said

AKI = LabellingPolicy(reviewers=("Aki",))


def documents(*ids, by="eve", at=3):
    return Review(
        name=RELEVANT_DOCUMENTS, kind="expectation", values=ids, source="human", source_id=by, timestamp_ms=at
    )


def test_without_a_list_everybody_may_review_and_the_report_says_so():
    assert EVERYBODY.may_review("anybody")
    assert EVERYBODY.describe_reviewers() == "everybody: no list of reviewers is configured"
    assert "the messages of two shoppers" in EVERYBODY.describe_catalogue()


def test_a_list_names_people_in_any_case_and_nobody_else_may_review():
    assert AKI.may_review("aKi")
    assert not AKI.may_review("unknown")
    assert LabellingPolicy(reviewers=("unknown",)).may_review("Unknown")


def test_a_turn_is_heard_without_what_others_said_of_it():
    turn = reviewed_turn("a", said("x", by="aki", at=1), said("y", by="eve", at=2), documents("d1"))
    alone = heard(turn, AKI)
    assert (alone.expected_intent, alone.expected_documents, alone.reviewer) == ("x", (), "aki")
    assert heard(turn, EVERYBODY) is turn


def test_a_turn_that_only_others_reviewed_is_to_be_asked_about():
    assert not is_reviewed(heard(reviewed_turn("a", said("y", by="eve"), documents("d1")), AKI))
    assert not is_reviewed(heard(make_turn("a", expected_intent="x", reviewer="eve"), AKI))
    assert is_reviewed(heard(make_turn("a", expected_intent="x", reviewer="aki"), AKI))
    assert not is_reviewed(heard(reviewed_turn("a", said("x", by="aki")), EVERYBODY, held_back={"aki"}))


def test_what_judges_and_shoppers_said_stays_with_the_turn():
    judged = Review(name="safe", kind="feedback", values=("no",), source="judge", source_id="j", timestamp_ms=1)
    turn = reviewed_turn("a", said("y", by="eve"))
    with_judge = make_turn("a", reviews=(judged, *turn.reviews), expected_intent="y", reviewer="eve")
    assert heard(with_judge, AKI).reviews == (judged,)


def test_a_catalogue_is_one_name_a_line_with_comments():
    assert read_catalogue("# ours\nreturn_item\n\n電子書籍  # e-books\n", source="f") == ("return_item", "電子書籍")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f declares no intent"),
        ("ok\n<b>\n", "f, line 2: '<b>' is no name"),
        ("gift_card\nGift Card\n", "f, line 2: 'Gift Card' is 'gift_card' once more"),
    ],
)
def test_a_catalogue_that_cannot_be_used_names_the_line(text, message):
    with pytest.raises(CatalogueError, match=message):
        read_catalogue(text, source="f")


def test_a_file_of_intents_that_is_not_there_is_no_empty_catalogue(tmp_path):
    with pytest.raises(CatalogueError, match="cannot be read"):
        read_catalogue_file(tmp_path / "none.txt")
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(CatalogueError, match="not UTF-8"):
        read_catalogue_file(tmp_path / "bad.txt")
