"""What the name of a field says of its value, in any casing; most names say nothing."""

from __future__ import annotations

import pytest

from mangaassist_assets.privacy import Kind, clear_named_fields, field_kind, redact_json


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(
            (one, Kind.SECRET)
            for one in ("accessToken", "api_key", "x-api-key", "secretAccessKey", "AWS_SESSION_TOKEN")
        ),
        *(
            (one, Kind.SECRET)
            for one in ("http.request.header.authorization", "authorization.0", "Set-Cookie", "apikey")
        ),
        *(
            (one, Kind.SECRET)
            for one in ("password_hash", "dbPassword", "clientsecret", "idToken", "user_api_key_hash")
        ),
        *((one, Kind.NAME) for one in ("firstName", "last_name", "CustomerName", "user.name")),
        *((one, Kind.ADDRESS) for one in ("shippingAddress", "billing_address_line_1", "address")),
        *((one, Kind.PHONE) for one in ("phoneNumber", "mobile", "contact.tel")),
        ("cardNumber", Kind.CARD),
        ("emailAddress", Kind.EMAIL),
        ("X-Forwarded-For", Kind.IP_ADDRESS),
        ("net.peer.ip", Kind.IP_ADDRESS),
        ("dateOfBirth", Kind.PROFILE),
        ("customerProfile", Kind.PROFILE),
        ("piiEntities.0.match", Kind.PROFILE),
        ("会員パスワード", Kind.SECRET),
        ("届け先住所", Kind.ADDRESS),
    ],
)
def test_the_last_part_of_a_name_in_any_casing_tells_the_kind(name, kind):
    assert field_kind(name) is kind


@pytest.mark.parametrize(
    "name",
    [
        *("input_tokens", "gen_ai.usage.input_tokens", "token", "key", "cache_key", "nextToken", "time_to_first_token"),
        *("server.address", "host.ip", "name", "model_name", "author_name", "hostname", "filename", "secret_name"),
        *(
            "token_type",
            "partition_key",
            "address_type",
            "status_code",
            "promo_code",
            "tracking_number",
            "",
            "42",
            "題名",
        ),
    ],
)
def test_a_name_that_mostly_means_something_else_tells_nothing(name):
    assert field_kind(name) is None


def test_json_is_cleared_by_the_names_of_its_fields_and_numbers_are_read_as_text():
    told: dict[str, object] = {
        "firstName": "Mika",
        "shippingAddress": {"city": "Leeds"},
        "accessToken": ["abc"],
        "tel": 9012345678,
        "n": 4111111111111111,
        "at": 1774000000000,
        "items": [{"pin": 1}, True, float("inf"), 0.5],
    }
    found = redact_json(told)
    assert found == told | {
        "firstName": "[NAME]",
        "n": "[CARD]",
        "tel": "[PHONE]",
        "shippingAddress": "[ADDRESS]",
        "accessToken": "[SECRET]",
    }
    assert redact_json(found) == found
    assert clear_named_fields({"q": "mail a@example.com", "password": "x"}) == {
        "q": "mail a@example.com",
        "password": "[SECRET]",
    }
