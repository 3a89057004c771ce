"""Numbers with check digits, addresses and self-descriptions: what is personal and what is shop talk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.privacy import redact
from mangaassist_assets.privacy.payment import find_payment, iban_is_valid, luhn
from mangaassist_assets.privacy.profile_text import find_profile_text
from mangaassist_assets.privacy.structured import ORDER_RULES, find, my_number_is_valid
from tests.support.timing import growth


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
        ("群馬県高崎市栄町1613です", "[ADDRESS]です"),
        ("北海道札幌市中央区北1条西2丁目5番地 ABCビル3階", "[ADDRESS]"),
        ("静岡県三島市4123に送ってください", "[ADDRESS]に送ってください"),
        ("沖縄県那覇市泉崎一二三四にお願いします", "[ADDRESS]にお願いします"),
        ("名古屋市中区三の丸3-1-2まで", "[ADDRESS]まで"),
        ("card number 630427373398", "card number [CARD]"),
        ("カード番号\n630427373398", "カード番号\n[CARD]"),
        ("send it to 12 Main\nStreet, Leeds", "send it to [ADDRESS]"),
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
        "千葉市は2024年に3店舗です",
        "神奈川県鎌倉市が舞台の漫画の3巻",
        "山田町3巻セット",
        "JAN 4901234567894",
    ],
)
def test_shop_talk_stays_as_it_is(text):
    assert redact(text).text == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("D01-1234567-1234567", "[ORDER_ID]"),
        ("my d01-1234567-1234567 is gone", "my [ORDER_ID] is gone"),
        ("123 1234567 1234567 never came", "[ORDER_ID] never came"),
        ("Ｄ０１－１２３４５６７－１２３４５６７", "[ORDER_ID]"),
        ("order no.: AB_2024_00991", "order no.: [ORDER_ID]"),
        ("the order with the number 20240099", "the order with the number [ORDER_ID]"),
        ("ご注文番号は 250-1234567-7654321 です", "ご注文番号は [ORDER_ID] です"),
        ("受注コード：ZX-2024-77", "受注コード：[ORDER_ID]"),
        ("PO number 4500012345", "PO number [ORDER_ID]"),
    ],
)
def test_order_ids_become_placeholders_in_amazons_forms_and_in_other_shops(text, expected):
    assert redact(text).text == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PayPal 8XJ12345AB678901C", "PayPal [PAYMENT_REF]"),
        ("8XJ12345AB678901C is what I was charged with", "[PAYMENT_REF] is what I was charged with"),
        ("PayPal transaction id: 8xj12345ab678901c", "PayPal transaction id: [PAYMENT_REF]"),
        ("refund PAYID-MABCDEF12345678AB123456C", "refund [PAYMENT_REF]"),
        ("auth code 083421", "auth code [PAYMENT_REF]"),
        ("authorization code is 083421", "authorization code is [PAYMENT_REF]"),
        ("approval code: A1B2C3", "approval code: [PAYMENT_REF]"),
        ("authorisation: 083421", "authorisation: [PAYMENT_REF]"),
        ("承認番号は０８３４２１です", "承認番号は[PAYMENT_REF]です"),
        ("pi_3NabcDEFghi12345_secret_ab12", "[PAYMENT_REF]"),
        ("ch_1NabcDEFghi12345", "[PAYMENT_REF]"),
        ("cs_test_a1b2c3d4e5f6g7", "[PAYMENT_REF]"),
        ("S01-1234567-1234567-C012345", "[PAYMENT_REF]"),
        ("P01-1234567-1234567", "[PAYMENT_REF]"),
        ("SEPA mandate reference MB-2024-00123", "SEPA mandate reference [PAYMENT_REF]"),
        ("pay RF18 5390 0754 7034", "pay [PAYMENT_REF]"),
        ("払込番号 123456789012", "払込番号 [PAYMENT_REF]"),
        ("gift card code ABCD-123456-EFGH", "gift card code [PAYMENT_REF]"),
        ("ギフトカード番号：ABCD-123456-EFGH", "ギフトカード番号：[PAYMENT_REF]"),
    ],
)
def test_references_of_payments_become_placeholders(text, expected):
    assert redact(text).text == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Customer profile: 34-year-old mother of two from Leeds, allergic to latex, VIP since 2019. What for her?",
            "Customer profile: [PROFILE] What for her?",
        ),
        (
            "Customer profile: night-shift baker.\nQuestion: where is my order?",
            "Customer profile: [PROFILE]\nQuestion: where is my order?",
        ),
        ("USER_PROFILE = Jane, 34, call 090-1234-5678", "USER_PROFILE = [PROFILE]"),
        (
            '{"customerProfile": "34, says \\"hi\\", two cats", "q": "hi"}',
            '{"customerProfile": "[PROFILE]", "q": "hi"}',
        ),
        ("<user_profile>\n34\nLeeds\n</user_profile>\nhello", "<user_profile>\n[PROFILE]\n</user_profile>\nhello"),
        ("Shopper persona:\n- hoards horror\n- wed in May\n\nHi", "Shopper persona:\n[PROFILE]\n\nHi"),
        ("About me: retired teacher, two cats. Any tips?", "About me: [PROFILE] Any tips?"),
        ("Customer notes - lives in Leeds with two kids", "Customer notes - [PROFILE]"),
        ("The customer is a 42-year-old nurse from Osaka. Volume 3?", "The customer [PROFILE] Volume 3?"),
        (
            "お客様情報：34歳女性、渋谷区在住、二児の母。\n質問：おすすめは？",
            "お客様情報：[PROFILE]\n質問：おすすめは？",
        ),
        (
            "【お客様プロフィール】猫が好きなパン職人。在庫はありますか？",
            "【お客様プロフィール】[PROFILE]在庫はありますか？",
        ),
        ("このお客様は34歳の主婦で、二児の母です。", "このお客様は[PROFILE]"),
    ],
)
def test_a_text_about_a_customer_becomes_one_placeholder(text, expected):
    assert redact(text).text == expected
    assert redact(expected).text == expected


@pytest.mark.parametrize(
    "text",
    [
        "Character profile: Guts, a mercenary of 24 years",
        "キャラクタープロフィール：17歳の主人公",
        "プロフィール：少年漫画の巨匠",
        "Customer information: returns are accepted within thirty days.",
        "Customer profile: how do I change it?",
        "User profile: go to settings and click edit.",
        "User profile > Edit",
        "my profile is broken",
        "the customer is always right",
        "お客様は神様です",
        "Persona: volume 3",
        "approval rating 95",
        "gift card 50 euros for volumes 1-10",
        "gift cards - 10-20 euros",
        "promo code SUMMER10",
        "order no. 12",
        "the order that ends in 4567",
        "I paid by PayPal on 2024-05-03",
        "refund my order of 3 volumes",
        "engine 1HGCM82633A004352 of the mecha",
        "ISBN 978-4-08-882000-0 is on order",
    ],
)
def test_what_only_looks_like_a_profile_an_order_or_a_payment_stays(text):
    assert redact(text).text == text


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "customer profile: ",
            'customer profile: "',
            "customer info: a. ",
            "customer notes {",
            "the customer is ",
            "user_",
        ),
        *("お客様は", "お客様情報 ", "gift card ", "auth ", "A1B2C3D4E5F6G7H8I ", "paypal ", "D01-", "RF18 "),
    ],
)
def test_a_text_full_of_cues_costs_a_time_that_grows_as_its_length(unit):
    def work(length: int) -> None:
        text = (unit * length)[:length]
        for found in (find_profile_text(text, text), find(ORDER_RULES, text), find_payment(text)):
            list(found)

    # Four times the text costs four times as much; what is quadratic takes sixteen.
    assert growth(work, 5_000, 20_000, enough=8) < 8


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
    def work(size: int) -> None:
        redact(unit * (size // len(unit.encode("utf-8", "surrogatepass"))))

    # Three times the text costs three times as much, not nine.
    assert growth(work, 5_000, 15_000, enough=6) < 6
