"""Claims about the slices that are read off a message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.core.text_keys import language_of, length_slice


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("where is my order", "en"),
        ("Où est ma commande ?", "en"),
        ("返品したいです", "ja"),
        ("ONE PIECE の新刊はいつ発売ですか", "ja"),
        ("do you have any copies of 進撃の巨人?", "en"),
        ("ﾏﾝｶﾞ", "ja"),
        ("注文", "ja"),
        ("OnePiece を探して", "ja"),
        ("Ｗｈｅｒｅ", "en"),
        ("[ADDRESS_7q] に届きません", "ja"),
        ("где мой заказ", "other"),
        ("주문 어디 있어요", "other"),
    ],
)
def test_the_script_of_most_of_a_message_is_its_language(text: str, language: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize("text", ["", "   ", "1234 !?", "[NAME]!", "\udcff", "\x00"])
def test_a_message_without_letters_has_no_language_and_is_short(text: str) -> None:
    assert language_of(text) == "other"
    assert length_slice(text) == "short"


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("one two three four five", "short"),
        ("one two three four five six", "medium"),
        (" ".join(["word"] * 12), "medium"),
        (" ".join(["word"] * 13), "long"),
        ("在庫はありますか", "short"),
        ("先週注文した漫画がまだ届きません", "medium"),
        ("先週注文した漫画の三巻と四巻がまだ届いていないので確認してもらえますか", "long"),
    ],
)
def test_length_is_counted_in_words_and_two_japanese_characters_are_one(text: str, length: str) -> None:
    assert length_slice(text) == length


@given(st.text(), st.text(alphabet="\n\t |<>.,", max_size=20))
def test_every_text_has_a_slice_that_marks_around_it_do_not_change(text: str, marks: str) -> None:
    assert language_of(marks + text + marks) == language_of(text)
    assert length_slice(text) in {"short", "medium", "long"}


def test_a_hundred_kilobytes_are_long_and_read_only_at_their_start() -> None:
    assert length_slice("word " * 20_000) == "long"
    assert language_of("x" * 2_000 + "漫" * 98_000) == "en"
