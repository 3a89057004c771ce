import pytest

from mangaassist_assets.core.text_keys import normalise_text
from mangaassist_assets.datasets.guards.one_change import is_one_change, rests, words_of_key


def words(text):
    return words_of_key(normalise_text(text))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("play music", "paly music"),
        ("play music", "play musicc"),
        ("play music", "playmusic"),
        ("help", "hepl"),
        ("track parcel", "track my parcel"),
        ("refund status please", "refund status"),
        ("漫画を取り置きできますか", "漫画は取り置きできますか"),
        ("注文をとりけしたい", "注文をとけりしたい"),
        ("送料いくら", "送料はいくら"),
        ("when does the third volume come out", "when does the tenth volume come out"),
    ],
)
def test_a_short_message_with_a_word_misspelt_more_or_less_is_the_same(first, second):
    assert is_one_change(words(first), words(second))
    assert is_one_change(words(second), words(first))
    assert set(rests(words(first))) & set(rests(words(second)))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("play music", "play a song"),
        ("cancel my order", "track my order"),
        ("i can pay", "i cant pay"),
        ("it did work", "it did not work"),
        ("返品したいです", "返金したいです"),
        ("table for 12", "table for 13"),
        ("no", "so"),
        ("turn on", "turn off"),
        ("", "yes"),
    ],
)
def test_a_short_message_with_another_word_or_a_denial_is_another(first, second):
    assert not is_one_change(words(first), words(second))
    assert not is_one_change(words(second), words(first))


def test_of_a_short_message_with_another_word_its_meaning_decides_and_the_shorter_the_looser():
    pair = (words("open the radio"), words("start the radio"))
    assert is_one_change(*pair, likeness=0.7)
    assert not is_one_change(*pair, likeness=0.3)
    longer = (words("can you open the radio"), words("can you start the radio"))
    assert is_one_change(*pair, likeness=0.5)
    assert not is_one_change(*longer, likeness=0.5)


def test_one_word_for_another_is_nothing_to_recognise_a_message_by():
    assert not is_one_change(words("hello"), words("refund"), likeness=0.99)


def test_two_words_of_japanese_are_no_misspelling_of_each_other():
    assert not is_one_change(words("本が届きました"), words("本が汚れました"))


def test_what_is_looked_up_grows_as_the_message_and_not_for_ever():
    assert len(list(rests(words("a b c d e f g h")))) == 10
    assert len(list(rests(words("word " * 5_000)))) == 1
    assert len(list(rests(words("返品" * 5_000)))) == 1
    assert len(list(rests(words("xy" * 5_000)))) < 70
