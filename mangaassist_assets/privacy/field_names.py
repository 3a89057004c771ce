"""What the name of a field, attribute, header or query parameter says of its value: a secret, or personal data.

The last part of a name counts, in any casing: `accessToken`, `x-api-key`, `http.request.header.authorization`,
`SHIPPING_ADDRESS_1`. A word that mostly means something else counts with a word before it only: `key` and `token`
alone say nothing, for a model's stream is made of tokens and every table has keys.
"""

from __future__ import annotations

import re
from functools import lru_cache

from mangaassist_assets.privacy.detections import Kind
from mangaassist_assets.privacy.names.common_words import word_set
from mangaassist_assets.privacy.profile_text import is_profile_key

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_LONGEST = 200
# Behind the word that counts: `password_hash`, `authorization.0`, `address_line_1`.
_TRAILING = word_set("value values raw hash hashed header text plain line string confirmation confirm encoded b")

_SECRETS = word_set(
    "password passwords passwd passwort pwd passphrase passcode secret secrets authorization cookie cookies credential "
    "credentials creds jwt bearer apikey otp totp cvv cvc"
)
_QUALIFIED_SECRETS: dict[str, frozenset[str]] = {
    "key": word_set(
        "api access secret private encryption signing master account storage auth ssh client service shared "
        "subscription functions function webhook app admin hmac aes rsa deploy license"
    ),
    "pass": word_set("db database user admin root smtp mail email ftp proxy http redis sql login my"),
    "pin": word_set("card user security account access my"),
    "code": word_set("authorization auth verification otp reset recovery backup security mfa sms access login"),
    "signature": word_set("amz goog url request aws oauth"),
}
# Of these, and only of these, a token is none: those of models, of pages, of time.
_HARMLESS_TOKENS = word_set(
    "next continuation continue page pagination sync max min input output prompt completion total count eos bos pad "
    "stop first last cls sep mask unk special per cached reasoning cursor start end generated new old"
)

_NAMES = word_set(
    "first last full given family middle maiden customer recipient contact holder cardholder buyer shopper user "
    "shipping billing delivery addressee receiver sender person guest caller patient"
)
_HOSTS = word_set(
    "server host local destination listen bind service memory wallet contract base upstream proxy pod node"
)
_PERSONAL: dict[str, Kind] = {
    **dict.fromkeys(word_set("surname firstname lastname fullname cardholder"), Kind.NAME),
    **dict.fromkeys(word_set("email mail emails"), Kind.EMAIL),
    **dict.fromkeys(word_set("phone telephone mobile tel fax cellphone msisdn phones"), Kind.PHONE),
    **dict.fromkeys(word_set("address addresses addr street"), Kind.ADDRESS),
    **dict.fromkeys(word_set("zip zipcode postcode postalcode"), Kind.POSTAL_CODE),
    **dict.fromkeys(word_set("birthday birthdate dob"), Kind.PROFILE),
    **dict.fromkeys(word_set("ssn passport mynumber"), Kind.NATIONAL_ID),
    **dict.fromkeys(word_set("iban pan"), Kind.PAYMENT_REF),
    "ip": Kind.IP_ADDRESS,
}
_PAIRS: dict[tuple[str, str], Kind] = {
    **{(first, "number"): Kind.PHONE for first in ("phone", "telephone", "mobile", "tel", "fax", "cell", "contact")},
    **{(first, "number"): Kind.CARD for first in ("card", "cc", "credit")},
    **{(first, "number"): Kind.NATIONAL_ID for first in ("security", "passport", "my", "licence", "license")},
    **{(first, "number"): Kind.PAYMENT_REF for first in ("account", "routing")},
    **dict.fromkeys((("postal", "code"), ("zip", "code"), ("post", "code")), Kind.POSTAL_CODE),
    **dict.fromkeys((("birth", "date"), ("of", "birth"), ("birth", "day")), Kind.PROFILE),
    **dict.fromkeys((("national", "id"), ("tax", "id")), Kind.NATIONAL_ID),
    **dict.fromkeys((("forwarded", "for"), ("remote", "addr"), ("real", "ip")), Kind.IP_ADDRESS),
    ("credit", "card"): Kind.CARD,
    **{(first, "address"): Kind.EMAIL for first in ("email", "mail")},
}
_JAPANESE: tuple[tuple[str, Kind], ...] = (
    *((word, Kind.SECRET) for word in ("パスワード", "暗証番号", "秘密鍵", "トークン", "シークレット", "APIキー")),
    ("氏名", Kind.NAME),
    ("住所", Kind.ADDRESS),
    *((word, Kind.PHONE) for word in ("電話番号", "電話", "携帯番号")),
    *((word, Kind.EMAIL) for word in ("メール", "メールアドレス")),
    ("郵便番号", Kind.POSTAL_CODE),
    ("生年月日", Kind.PROFILE),
    ("カード番号", Kind.CARD),
)


def field_kind(name: str) -> Kind | None:
    """Return what kind of personal data or secret a field of this name holds; None where its name tells nothing."""
    return _kind_of(name[-_LONGEST:])


@lru_cache(maxsize=8_192)
def _kind_of(name: str) -> Kind | None:
    if is_profile_key(name):
        return Kind.PROFILE
    if not name.isascii():
        return next((kind for word, kind in _JAPANESE if name.endswith(word)), None)
    words = [word.lower() for word in _WORD.findall(name)]
    while len(words) > 1 and words[-1] in _TRAILING:
        words.pop()
    if not words:
        return None
    head, before = words[-1], words[-2] if len(words) > 1 else ""
    if "pii" in words and head == "match":
        return Kind.PROFILE
    return Kind.SECRET if _is_secret(head, before) else _personal(head, before)


def _is_secret(head: str, before: str) -> bool:
    if head in _SECRETS or before in _QUALIFIED_SECRETS.get(head, ()):
        return True
    if head == "token":
        return bool(before) and before not in _HARMLESS_TOKENS
    # Words without a sign between them: `accesstoken`, `clientsecret`, `dbpassword`.
    if head.endswith("token"):
        return head[:-5] in _QUALIFIED_SECRETS["key"] | {"id", "refresh", "session", "csrf", "xsrf", "bearer", "user"}
    if head.endswith(("secret", "password", "passwd")):
        return True
    return any(head.endswith(one) and head[: -len(one)] in words for one, words in _QUALIFIED_SECRETS.items())


def _personal(head: str, before: str) -> Kind | None:
    if (pair := _PAIRS.get((before, head))) is not None:
        return pair
    if head == "name":
        return Kind.NAME if before in _NAMES else None
    if head in _PERSONAL:
        hosted = _PERSONAL[head] in {Kind.ADDRESS, Kind.IP_ADDRESS} and before in _HOSTS
        return None if hosted else _PERSONAL[head]
    for end in ("name", "address", "number"):
        if head.endswith(end) and len(head) > len(end):
            return _personal(end, head[: -len(end)]) if head[: -len(end)] not in {"host", "file", "user"} else None
    return None
