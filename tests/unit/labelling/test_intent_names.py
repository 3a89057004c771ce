from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.labelling.intent_names import IntentSpelling, is_name, plain_name, spelling_key


@pytest.mark.parametrize(
    "typed",
    [
        *("return_item", "Return Item", "return-item", " RETURN_ITEM ", "return‑item"),
        *("return\u200b_item", "\ufeffreturn_item", "re\u2060turn_item", "return_item\ufe0f", "ｒｅｔｕｒｎ＿ｉｔｅｍ"),
        *("return\u00a0item", "return\u3000item", "\u202ereturn_item\u202c"),
    ],
)
def test_one_name_is_one_intent_however_it_is_typed_and_whatever_nobody_sees_in_it(typed):
    assert IntentSpelling(["return_item", "gift_card"]).corrected(typed) == "return_item"


@pytest.mark.parametrize("other", ["返品", "возврат", "return_items", "réturn_item"])
def test_another_script_or_another_word_is_another_name(other):
    assert IntentSpelling(["return_item"]).corrected(other) == other
    assert is_name(plain_name(other))


def test_a_name_in_half_width_letters_is_the_one_in_full_width():
    assert plain_name("ｶﾞﾁｬ") == "ガチャ"


def test_a_name_that_two_intents_share_but_for_its_spelling_is_left_as_it_is():
    assert IntentSpelling(["gift card", "gift_card"]).corrected("giftcard") == "giftcard"
    assert IntentSpelling(["gift card", "gift_card"]).corrected("gift_card") == "gift_card"


@pytest.mark.parametrize("text", ["", "two\nlines", "<b>x</b>", "=1+1", "x" * 65, "_", "\u200b"])
def test_what_is_no_name_stays_none(text):
    assert not is_name(plain_name(text))


@given(st.text(max_size=30))
def test_the_plain_form_and_its_key_are_stable(text):
    plain = plain_name(text)
    assert plain_name(plain) == plain
    assert spelling_key(plain) == spelling_key(text)
    assert spelling_key(f"\u200b{text}\u200d") == spelling_key(text)
