import pytest

from mangaassist_assets.labelling.known_intents import known_intents
from tests.support.labelling import make_turn, reviewed_turn, said

CORPUS = {"gift_card": ["a", "b", "c", "d"]}


def answered(*intents, message=None):
    return [
        reviewed_turn(f"t{number}", said(intent), message=message or f"message {number}")
        for number, intent in enumerate(intents)
    ]


def test_the_corpus_intents_are_known_with_a_few_examples():
    assert known_intents(CORPUS, [make_turn("a")]) == {"gift_card": ("a", "b", "c")}


def test_a_new_intent_is_known_once_three_messages_name_it():
    assert list(known_intents(CORPUS, answered("zine", "zine"))) == ["gift_card"]
    known = known_intents(CORPUS, answered("zine", "Zine", "zine"))
    assert known["zine"] == ("message 0", "message 1", "message 2")


def test_one_message_many_times_makes_no_intent():
    assert list(known_intents(CORPUS, answered(*["zine"] * 9, message="the same"))) == ["gift_card"]


def test_another_spelling_of_a_known_intent_is_no_new_one():
    assert list(known_intents(CORPUS, answered("Gift Card", "gift-card", "GIFT_CARD"))) == ["gift_card"]


@pytest.mark.parametrize("name", ["no idea?", "<b>x</b>", "a|b", "x" * 80, "=1+1", "two\nlines"])
def test_what_is_no_name_is_no_intent_however_often_it_is_typed(name):
    assert list(known_intents(CORPUS, answered(name, name, name))) == ["gift_card"]


def test_japanese_names_are_names():
    assert "電子書籍" in known_intents(CORPUS, answered(*["電子書籍"] * 3))
