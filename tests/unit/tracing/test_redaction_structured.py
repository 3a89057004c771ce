"""Numbers with check digits, addresses and self-descriptions: what is personal and what is shop talk."""

from __future__ import annotations

import gc
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.tracing.redaction import redact
from mangaassist_assets.tracing.redaction.payment import iban_is_valid, luhn
from mangaassist_assets.tracing.redaction.structured import my_number_is_valid


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("電話は〇九〇ー〇一二三ー四五六七です", "電話は[PHONE]です"),
        ("マイナンバーは1234 5678 9018です", "マイナンバーは[MY_NUMBER]です"),
        ("個人番号１２３４５６７８９０１８", "個人番号[MY_NUMBER]"),
        ("my SSN is 123-45-6789", "my SSN is [NATIONAL_ID]"),
        ("driver's license number is A125325867", "driver's license number is [LICENSE_ID]"),
        ("blocked from 192.0.2.17 today", "blocked from [IP_ADDRESS] today"),
        ("blocked from 2001:db8:0:1:1:1:1:1 today", "blocked from [IP_ADDRESS] today"),
        ("card number 4111 1111 1111 1112", "card number [CARD]"),
        ("iban gb82west12345698765432 please", "iban [PAYMENT_REF] please"),
        ("pay to gb82west12345698765432", "pay to [PAYMENT_REF]"),
        ("write to shopper at example dot com", "write to [EMAIL]"),
        ("東京都渋谷区神南一丁目二十三番四号", "[ADDRESS]"),
        ("住所は大阪市中央区見本町１－２－３　コーポ桜201号室です", "住所は[ADDRESS]です"),
        ("郵便番号は一五〇ー〇〇〇一です", "郵便番号は[POSTAL_CODE]です"),
        ("ship to Hauptstraße 12 please", "ship to [ADDRESS] please"),
        ("new address is 15 Rue de la Paix, Paris", "new address is [ADDRESS]"),
        ("send it to 1-2-3 Sakura, Setagaya-ku, Tokyo 154-0001", "send it to [ADDRESS]"),
        ("my zip code is 86881", "my zip code is [POSTAL_CODE]"),
    ],
)
def test_structured_data_becomes_a_placeholder(text, expected):
    assert redact(text).text == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I'm a 34 year old nurse from Leeds", "I'm a [PROFILE] from Leeds"),
        ("I am 34 years old", "I am [PROFILE]"),
        ("I work as a teacher", "I work as a [PROFILE]"),
        ("my date of birth is 4/17/1986", "my date of birth is [PROFILE]"),
        ("my birthday is March 3rd", "my birthday is [PROFILE]"),
        ("I have diabetes", "I have [PROFILE]"),
        ("I'm allergic to latex and dust", "I'm allergic to [PROFILE]"),
        ("34歳の看護師です", "[PROFILE]です"),
        ("生年月日は昭和６０年４月１日です", "生年月日は[PROFILE]です"),
        ("糖尿病があるので早めにお願いします", "[PROFILE]があるので早めにお願いします"),
    ],
)
def test_what_people_tell_of_themselves_becomes_a_placeholder(text, expected):
    assert redact(text).text == expected


@pytest.mark.parametrize(
    "text",
    [
        "volume 34 and age rating 16+",
        "my 8 year old likes dragons",
        "it was published on 4/17/1986",
        "I'm 3 volumes behind",
        "I am allergic to spoilers",
        "I am a big fan of volume 12",
        "対象年齢は15歳です",
        "8歳の子どもに合う漫画はありますか",
        "主人公は17歳です",
        "version 10.2.3.4 of the app",
        "3 at Lantern Street",
        "2 Naruto 12 and 3 Bleach 7",
        "tracking number 1234 5678 9018",
        "第十二巻の三話です",
        "ISBN 978-4-08-882000-0",
        "at 10:30:45 on 2026-03-10",
        "東京都内に店舗はありますか",
    ],
)
def test_shop_talk_stays_as_it_is(text):
    assert redact(text).text == text


@given(st.integers(0, 10**11 - 1))
def test_exactly_one_last_digit_makes_a_my_number(number):
    digits = f"{number:011d}"
    assert sum(my_number_is_valid(f"{digits}{last}") for last in range(10)) == 1


@given(st.integers(0, 10**14 - 1), st.integers(0, 14), st.integers(1, 9))
def test_luhn_sees_every_single_wrong_digit(number, place, change):
    digits = f"{number:014d}"
    whole = next(f"{digits}{last}" for last in range(10) if luhn(f"{digits}{last}"))
    wrong = str((int(whole[place]) + change) % 10)
    assert not luhn(whole[:place] + wrong + whole[place + 1 :])


def test_check_digits_of_known_numbers():
    assert my_number_is_valid("123456789018")
    assert not my_number_is_valid("213456789018")
    assert luhn("79927398713")
    assert not luhn("79927398731")


def test_twelve_digits_are_a_my_number_only_with_the_right_check_digit():
    assert redact("本人確認に 1234 5678 9018 を送ります").text == "本人確認に [MY_NUMBER] を送ります"
    assert redact("本人確認に 1234 5678 9019 を送ります").text == "本人確認に 1234 5678 9019 を送ります"


def test_iban_check_digits():
    assert iban_is_valid("GB82 WEST 1234 5698 7654 32")
    assert not iban_is_valid("GB82 WEST 1234 5698 7654 33")


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "Ann ",
            "Ann, ",
            "Ann's ",
            "Ann\n",
            "A ",
            "J. ",
            "van ",
            "Dear ",
            "(",
            '"Ann" ',
            "1 Rue ",
            "rue a ",
            "Suite 1 A ",
        ),
        *(
            "田中",
            "田中さん",
            "です。",
            "住所は",
            "氏名:あ",
            "〇",
            "一丁目",
            "ア1",
            "歳",
            "アレルギー",
            "0ー",
            "1:",
            "1.",
            "a at b dot ",
        ),
        *("I'm a ", "address is 1 ", "corner of a and ", ", A\n A", "[NAME", "\ud800", "GB12 AAAA ", "1234-", "card 1"),
    ],
)
def test_a_repeated_piece_costs_time_in_line_with_its_length(unit):
    def seconds(size: int) -> float:
        text = unit * (size // len(unit.encode("utf-8", "surrogatepass")))
        # A collection of all that the other tests left would be counted as well.
        gc.disable()
        try:
            started = time.process_time()
            redact(text)
            return time.process_time() - started
        finally:
            gc.enable()

    long = seconds(30_000)
    # Usually under 0.3 s; where the machine is busy, three times the text takes three times as long, not nine.
    assert long < 1.0 or long < 6 * seconds(10_000)
