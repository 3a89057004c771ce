"""Placeholders inside one conversation, and the guard of dataset writes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.privacy import (
    conversation_key,
    plain_placeholders,
    prompt_record,
    redact,
    redact_json,
    residual,
)
from mangaassist_assets.privacy.folding import MASK, mask_placeholders
from tests.support.examples import examples

KEY = conversation_key("session-1", b"k" * 32)
OTHER = conversation_key("session-2", b"k" * 32)


def placeholders(text: str) -> list[str]:
    return re.findall(r"\[[A-Z_]+(?:_[0-9a-z]{2})?\]", text)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("call 090-0123-4567", "電話は０９００１２３４５６７です"),
        ("電話は〇九〇〇一二三四五六七です", "call 090 0123 4567"),
        ("My name is Ann Example.", "my name is ANN EXAMPLE."),
        ("mail Shopper@Example.com", "mail shopper@example.com"),
        ("ＭＡ－１２３４５６７８", "ma-12345678"),
        ("受取人は山田花子です", "受取人は山田 花子です"),
    ],
)
def test_the_same_value_in_any_spelling_gets_the_same_placeholder(first, second):
    one, other = redact(first, conversation=KEY).text, redact(second, conversation=KEY).text
    assert placeholders(one) == placeholders(other) != []
    assert re.fullmatch(r"\[[A-Z_]+_[0-9a-z]{2}\]", placeholders(one)[0])


def test_placeholders_differ_between_values_and_between_conversations():
    values = [f"buyer{number}@example.com" for number in range(200)]
    here = [redact(value, conversation=KEY).text for value in values]
    there = [redact(value, conversation=OTHER).text for value in values]
    # 200 values in 1,024 drawers: about 18 share one by chance.
    assert len(set(here)) > 150
    assert sum(one == other for one, other in zip(here, there, strict=True)) < 10


def test_a_suffix_holds_ten_bits_so_that_many_names_share_it():
    suffixes = {redact(f"buyer{number}@example.com", conversation=KEY).text for number in range(6_000)}
    assert len(suffixes) <= 1_024


def test_plain_placeholders_forget_the_conversation():
    text = redact("My name is Ann Example, mail ann@example.com", conversation=KEY).text
    assert plain_placeholders(text) == redact("My name is Ann Example, mail ann@example.com").text
    assert plain_placeholders("[NAME_7q] [UNKNOWN_7q] [NAME_7q7]") == "[NAME] [UNKNOWN_7q] [NAME_7q7]"


def test_finders_do_not_see_inside_placeholders():
    text = "Dear [NAME_7q], [PHONE] and [OTHER]"
    masked = mask_placeholders(text)
    assert len(masked) == len(text)
    assert masked == f"Dear {MASK * 9}, {MASK * 7} and [OTHER]"


def test_prompts_and_json_values_keep_the_conversation():
    suffixed = redact("ann@example.com", conversation=KEY).text
    assert prompt_record("ann@example.com", 100, conversation=KEY).text == suffixed
    assert redact_json({"a": ["ann@example.com"]}, conversation=KEY) == {"a": [suffixed]}


def test_the_guard_names_what_a_writer_forgot():
    assert residual("mail ann@example.com and call 090-0123-4567") == {"EMAIL": 1, "PHONE": 1}
    assert residual("mail [EMAIL] and call [PHONE_7q]") == {}


_PIECES = st.sampled_from(
    [
        *(
            "Ann Example",
            "Dear ",
            "Mr. ",
            "my name is ",
            "Ann, ",
            " and ",
            "'s address",
            "van der ",
            "Street",
            "I'm ",
            "34",
        ),
        *(
            "[NAME]",
            "[NAME_7q]",
            "[NAME_",
            "7q]",
            "[",
            "]",
            "住所は",
            "東京都",
            "一丁目",
            "田中",
            "さん",
            "と申します",
            "です",
            "。",
        ),
        *(
            "〇九〇",
            "1234",
            "-",
            " ",
            "\n",
            ", ",
            "a@example.com",
            "+1",
            "12 ",
            "Rue ",
            "Apt. 4",
            "歳",
            "\ud800",
            "\ue000",
            "ー",
        ),
    ]
)


@settings(max_examples=examples(400), deadline=None)
@given(st.one_of(st.text(), st.lists(_PIECES, max_size=14).map("".join)))
def test_redacting_again_changes_nothing_in_a_conversation_or_out_of_it(text):
    for conversation in (None, KEY):
        once = redact(text, conversation=conversation).text
        assert redact(once, conversation=conversation).text == once
        assert residual(once) == {}
        assert residual(plain_placeholders(once)) == {}
