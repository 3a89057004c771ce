import pytest

from mangaassist_assets.labelling.known_intents import known_intents
from mangaassist_assets.labelling.people.policy import LabellingPolicy
from tests.support.labelling import make_turn, reviewed_turn, said

CORPUS = {"gift_card": ["a", "b", "c", "d"]}


def answered(*intents, message=None):
    return [
        reviewed_turn(f"t{number}", said(intent), message=message or f"message {number}")
        for number, intent in enumerate(intents)
    ]


def test_the_corpus_intents_are_known_with_a_few_examples():
    assert known_intents(CORPUS, [make_turn("a")]) == {"gift_card": ("a", "b", "c")}


def test_where_everybody_may_review_a_name_counts_once_the_messages_of_two_shoppers_need_it():
    assert list(known_intents(CORPUS, answered("zine"))) == ["gift_card"]
    assert known_intents(CORPUS, answered("zine", "Zine", "zine"))["zine"] == ("message 0", "message 1", "message 2")
    of_one = [reviewed_turn(name, said("zine"), user_key="u") for name in "abc"]
    assert list(known_intents(CORPUS, of_one)) == ["gift_card"]


def test_a_name_of_a_listed_reviewer_counts_at_once():
    assert "zine" in known_intents(CORPUS, answered("zine"), LabellingPolicy(reviewers=("aki",)))


def test_a_declared_or_accepted_intent_counts_from_its_first_review_and_any_other_name_waits():
    policy = LabellingPolicy(catalogue=("Zine Fair",), accepted_intents=("swap_meet",))
    known = known_intents(CORPUS, answered("zine_fair", *["cosplay"] * 9), policy)
    assert known == {"Zine Fair": ("message 0",), "gift_card": ("a", "b", "c"), "swap_meet": ()}


def test_what_earlier_bundles_were_labelled_with_stays_known_though_it_was_never_declared():
    policy = LabellingPolicy(catalogue=("zine",))
    assert list(known_intents(CORPUS, [], policy, labelled_before={"cosplay", "Gift-Card"})) == [
        "cosplay",
        "gift_card",
        "zine",
    ]


def test_another_spelling_of_a_known_intent_is_no_new_one():
    assert list(known_intents(CORPUS, answered("Gift Card", "gift-card", "GIFT_CARD"))) == ["gift_card"]


@pytest.mark.parametrize("name", ["no idea?", "<b>x</b>", "a|b", "x" * 80, "=1+1", "two\nlines"])
def test_what_is_no_name_is_no_intent_however_often_it_is_typed(name):
    assert list(known_intents(CORPUS, answered(name, name, name))) == ["gift_card"]


def test_japanese_names_are_names():
    assert "電子書籍" in known_intents(CORPUS, answered(*["電子書籍"] * 3))
