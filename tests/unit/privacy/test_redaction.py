"""What redaction finds, what it leaves alone, and that it is idempotent and linear."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.privacy import is_pseudonym, prompt_record, pseudonym, redact, redact_json
from tests.support.examples import examples
from tests.support.timing import growth


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to shopper.one+manga@example.co.jp.", "write to [EMAIL]."),
        ("shopper＠example.com です", "[EMAIL] です"),
        ("call +81 90-0000-0000 please", "call [PHONE] please"),
        ("電話は０９０−００００−００００です", "電話は[PHONE]です"),
        ("tel 03-0000-0000", "tel [PHONE]"),
        ("(415) 555-0100 or 415.555.0199", "[PHONE] or [PHONE]"),
        ("you can call 73 448 266 now", "you can call [PHONE] now"),
        ("166-684-7899 fax", "[PHONE] fax"),
        ("pay to DE89 3704 0044 0532 0130 00 please", "pay to [PAYMENT_REF] please"),
        ("where is MA-12345678?", "where is [ORDER_ID]?"),
        ("ＭＡ－１２３４５６７８", "[ORDER_ID]"),
        ("order number AB-99812", "order number [ORDER_ID]"),
        ("注文番号は12345678です", "注文番号は[ORDER_ID]です"),
        ("250-1234567-1234567 is late", "[ORDER_ID] is late"),
        ("card 4111 1111 1111 1111 12/27", "card [CARD] 12/27"),
        ("5555555555554444", "[CARD]"),
        ("4111-1111-1111-1111", "[CARD]"),
        ("paid with txn_abcdef123456", "paid with [PAYMENT_REF]"),
        ("transaction id: QX12345678", "transaction id: [PAYMENT_REF]"),
        ("send it to 221b Sample Street, Apt 4", "send it to [ADDRESS]"),
        ("P.O. Box 99", "[ADDRESS]"),
        ("Springfield IL 62704", "Springfield [POSTAL_CODE]"),
        ("London NW1 6XE", "London [POSTAL_CODE]"),
        ("〒150-0000 東京都見本区例町1-2-3", "[POSTAL_CODE] [ADDRESS]"),
        ("大阪市北区例町3丁目1番3号です", "[ADDRESS]です"),
        ("My name is Ann Q Example. hi", "My name is [NAME]. hi"),
        ("my name is ann example", "my name is [NAME]"),
        ("私は見本太郎と申します。", "私は[NAME]と申します。"),
        ("見本 花子と申します", "[NAME]と申します"),
        ("名前は見本です", "名前は[NAME]です"),
    ],
)
def test_personal_data_becomes_a_placeholder(text, expected):
    assert redact(text).text == expected


@pytest.mark.parametrize(
    "text",
    [
        "ISBN 9784000000004 in stock?",
        "volume 12 came out on 2026-03-10 12:30",
        "I want 3 copies of Lantern Road",
        "order 5 volumes of vol 12345",
        "it costs 12,000 yen",
        "my name is on the parcel",
        "call me later",
        "laughed for 10 min. at this square",
        "img.example/2848051827/sizes/5/14308292543-orig.jpg",
        "call vol 12, 13 and 14",
        "第12巻は1500円ですか",
        "4111 1111 1111 1112",
        "[EMAIL] [PHONE] [ADDRESS] [POSTAL_CODE] [ORDER_ID] [CARD] [PAYMENT_REF] [NAME]",
    ],
)
def test_ordinary_text_stays_as_it_is(text):
    assert redact(text).text == text
    assert redact(text).counts == {}


def test_counts_say_how_often_each_kind_was_found():
    counts = redact("a@example.com b@example.com MA-00000000").counts
    assert counts == {"EMAIL": 2, "ORDER_ID": 1}


_FRAGMENTS = st.sampled_from(
    [
        *("a@example.com", "MA-12345678", "4111 1111 1111 1111", "090-0000-0000", "+1", "my name is ", "と申します"),
        *(
            "order number ",
            "12 Sample Street",
            "東京都",
            "1-2-3",
            "〒150-0000",
            "[NAME]",
            " ",
            "-",
            "0",
            "7",
            "@",
            "あ",
        ),
        *("call ", "\n", "\x00", "\ud800", "NW1 6XE", "名前は", "です", "txn_", "市", "区"),
    ]
)


@settings(max_examples=examples(300), deadline=None)
@given(st.one_of(st.text(), st.lists(_FRAGMENTS, max_size=12).map("".join)))
def test_redacting_twice_changes_nothing(text):
    once = redact(text)
    again = redact(once.text)
    assert again.text == once.text
    assert again.counts == {}


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "a",
            "1",
            "1 ",
            "1-",
            "a@",
            "a.",
            "市区",
            "東京都あ",
            "my name is ",
            "と申します",
            "order id is ",
            "1 a b c d ",
        ),
        *(
            "+1 ",
            "0-",
            " ",
            "東京都一",
            "名前は",
            "call ",
            "P.O. Box ",
            "〒1",
            "12 aaaaaaaaaaaaaaaa ",
            "payment id id ",
        ),
    ],
)
def test_the_cost_of_any_text_grows_as_its_length(unit):
    def work(size: int) -> None:
        redact(unit * (size // len(unit.encode())))

    # Four times the text costs four times as much; a quadratic pattern takes sixteen.
    assert growth(work, 10_000, 40_000, enough=8) < 8


def test_json_values_are_redacted_in_depth_and_keys_stay():
    value = {"a@example.com": ["b@example.com", {"n": 5, "t": "MA-12345678"}], "flag": True, "none": None}
    assert redact_json(value) == {"a@example.com": ["[EMAIL]", {"n": 5, "t": "[ORDER_ID]"}], "flag": True, "none": None}


def test_a_prompt_over_the_limit_keeps_only_hash_and_preview():
    prompt = "mail a@example.com " + "x" * 1_000
    short, long = prompt_record(prompt, 2_000), prompt_record(prompt, 100, preview=20)
    assert short.text is not None
    assert "a@example.com" not in short.text
    assert long.text is None
    assert long.preview == "mail [EMAIL] xxxxxxx"
    assert long.sha256 == short.sha256


def test_pseudonyms_depend_on_the_key_and_are_recognised():
    first, other = pseudonym("user-1", b"a" * 32), pseudonym("user-1", b"b" * 32)
    assert first == pseudonym("user-1", b"a" * 32)
    assert first != other
    assert is_pseudonym(first)
    assert not is_pseudonym("user-1")
    assert not is_pseudonym(None)
