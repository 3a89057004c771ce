"""Secrets: found by their form or by the sentence that tells them; talk about passwords and codes of the trade stay."""

from __future__ import annotations

import pytest

from mangaassist_assets.privacy import redact
from mangaassist_assets.privacy.secrets.credentials import find_credentials
from mangaassist_assets.privacy.secrets.passwords import find_passwords
from tests.support.secrets import HARMLESS, ISSUED, PRIVATE_KEY, SAID
from tests.support.timing import growth


@pytest.mark.parametrize("issuer", ISSUED)
@pytest.mark.parametrize(
    "sentence", ["{}", "my token is {} and volume 3 is late", "キーは{}です", '{{"x": "{}"}}', "{}, ok"]
)
def test_what_an_issuer_gives_out_is_found_wherever_it_stands(issuer, sentence):
    found = redact(sentence.format(ISSUED[issuer])).text
    assert not any(line in found for line in ISSUED[issuer].split("\n") if len(line) > 8)
    assert "[SECRET]" in found


@pytest.mark.parametrize(("text", "secret"), SAID)
def test_what_a_sentence_or_a_program_tells_is_found_in_any_surrounding(text, secret):
    for around in ("{}", "I want volume 3. {}", "{}\nI want volume 3.", "Hello,\n{}"):
        found = redact(around.format(text)).text
        assert secret not in found
        assert "[SECRET]" in found
        assert redact(found).text == found


@pytest.mark.parametrize("text", HARMLESS)
def test_talk_about_passwords_and_codes_of_the_trade_stay(text):
    assert redact(text).text == text


def test_only_the_secret_goes():
    assert redact("my password is hunter2, what now?").text == "my password is [SECRET], what now?"
    assert redact("postgres://app:topsecret1@db:5432/shop").text == "postgres://app:[SECRET]@db:5432/shop"
    assert redact(f"{PRIVATE_KEY} does not open").text == "[SECRET] does not open"
    assert redact("パスワードはsakura2024です").text == "パスワードは[SECRET]です"


@pytest.mark.parametrize(
    "unit",
    [
        *("password is ", "key token ", "a=b&", "http://a:b", "-----BEGIN PRIVATE KEY-----\n", "パスワードは", "aws "),
        *(
            "-----END PRIVATE KEY-----\n",
            "Zt8Bq2LxM4vK9sHd ",
            "key=",
            "eyJabcdefghij.",
            "change my password ",
            "pin code ",
        ),
        *("authorization: ", "a.b.c.", "PRIVATE KEY ZtBq2LxM4vK9sHd0 ", '"password": "', "login a / "),
    ],
)
def test_a_text_full_of_cues_costs_a_time_that_grows_as_its_length(unit):
    def work(length: int) -> None:
        text = (unit * length)[:length]
        for found in (find_credentials(text, text.lower()), find_passwords(text, text.lower())):
            list(found)

    # Four times the text costs four times as much; what is quadratic takes sixteen.
    assert growth(work, 10_000, 40_000, enough=8) < 8
