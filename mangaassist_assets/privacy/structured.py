"""Personal data that has a form: e-mail, telephone, order ids, national ids, internet addresses."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from mangaassist_assets.privacy.detections import Detection, Kind

Check = Callable[[re.Match[str]], bool]


class Rule(NamedTuple):
    """A pattern, what it finds, and a check of each match.

    Where none of `words` (small letters) is in a text the pattern cannot match and is not tried.
    """

    kind: Kind
    pattern: re.Pattern[str]
    check: Check | None = None
    words: tuple[str, ...] = ()


_EMAIL = re.compile(
    r"(?<![A-Za-z0-9À-ɏ._%+\-])[A-Za-z0-9À-ɏ._%+\-]++@(?=[A-Za-z0-9À-ɏ\-]++\.)[A-Za-z0-9À-ɏ.\-]+(?<=[A-Za-z0-9])",
)
_EMAIL_SPELLED = re.compile(
    r"(?<![A-Za-z0-9._+\-])[A-Za-z0-9._+\-]{1,64}+[ ]?(?:\(at\)|\[at\]|[ ]at[ ])[ ]?[A-Za-z0-9\-]{1,63}+"
    r"(?:[ ]?(?:\(dot\)|\[dot\]|[ ]dot[ ])[ ]?[A-Za-z]{2,12}+){1,3}",
    re.IGNORECASE,
)

_ORDER_STORE = re.compile(r"(?<![A-Za-z0-9])MA[- _ー]?[0-9]{8}(?![0-9])", re.IGNORECASE)
# Amazon's: 123-1234567-1234567, and D01-1234567-1234567 of what is digital.
_ORDER_MARKETPLACE = re.compile(
    r"(?<![0-9])[0-9]{3}(?P<separator>[- ])[0-9]{7}(?P=separator)[0-9]{7}(?![0-9])"
    r"|(?<![A-Za-z0-9])D[0-9]{2}[- ]?[0-9]{7}[- ]?[0-9]{7}(?![0-9])",
    re.IGNORECASE,
)
_ORDER_NAMED = re.compile(
    r"(?:\b(?:order|purchase|invoice)(?:'s)?\b|\bpo(?= ?(?:number|no\b|#))|注文|受注|発注|オーダー|予約(?=番号))"
    r"(?:[ \t]{0,2}\(?(?:with )?(?:the )?(?:number|num|no\.?|id|ref|reference|code|番号|コード|#)){0,2}"
    r"(?:[ \t]{0,2}(?:is|was|[:#は=])){0,2}[ \t「\"'(]{0,2}"
    r"(?P<value>(?=[A-Za-z_\-]{0,8}[0-9])[A-Za-z0-9_\-]{5,40}+)",
    re.IGNORECASE,
)

_SSN = re.compile(r"(?<![0-9\-])(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}(?![0-9\-])")
_SSN_NAMED = re.compile(
    r"\b(?:ssn|social security(?: number)?)\b[^0-9\n]{0,16}(?P<value>[0-9]{3}[ \-]?[0-9]{2}[ \-]?[0-9]{4})(?![0-9])",
    re.IGNORECASE,
)
_LICENSE = re.compile(
    r"(?:\bdriver'?s?'? licen[cs]e|\bdriving licen[cs]e|\bpassport|運転免許証?|免許証|パスポート|旅券)"
    r"(?:[ \t]{0,2}(?:number|num|no\.?|id|番号|#)){0,2}(?:[ \t]{0,2}(?:is|was|[:#は=])){0,2}[ \t]{0,2}"
    r"(?P<value>(?=[A-Za-z\-]{0,4}[0-9])[A-Za-z0-9\-]{6,24}+)",
    re.IGNORECASE,
)
_MY_NUMBER_NAMED = re.compile(
    r"(?:マイ・?ナンバー|個人番号|\bmy number(?: card)?(?= (?:is|no|id|number|[0-9])|[:#]))[^0-9\n]{0,12}"
    r"(?P<value>[0-9]{4}[ \-]?[0-9]{4}[ \-]?[0-9]{4})(?![0-9])",
    re.IGNORECASE,
)
_MY_NUMBER = re.compile(
    r"(?<![0-9A-Za-z\-])(?<![0-9] )[0-9]{4}(?P<separator>[ \-]?)[0-9]{4}(?P=separator)[0-9]{4}(?![0-9A-Za-z\-]| [0-9])"
)
_IPV4 = re.compile(r"(?<![0-9A-Za-z.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9A-Za-z]|\.[0-9])")
_IPV6 = re.compile(r"(?<![0-9A-Za-z:])(?=[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:]{6,39}+(?![0-9A-Za-z:])")

_PHONE_INTERNATIONAL = re.compile(
    r"(?<![0-9A-Za-z])(?:\+|00(?=[1-9][0-9]?[\-. ]))[0-9](?:[ .\-ー()]{0,2}[0-9]){7,14}+(?:[ ]?(?:x|"
    r"ext\.?)[ ]?[0-9]{1,6})?",
)
_PHONE_LEADING_ZERO = re.compile(
    r"(?<![0-9A-Za-z.,\-/])[(]?0(?:[0-9]{9,10}|[0-9]{1,4}(?:[ .()\-ー]{1,2}[0-9]{1,8}){1,4})(?:[ ]?(?:x|"
    r"ext\.?)[ ]?[0-9]{1,6})?(?![0-9])",
)
# Three, three and four digits: with separators whatever they begin with, without only where an area code can.
_PHONE_US = re.compile(
    r"(?<![0-9A-Za-z/])(?:(?:1|001)[ .\-]?)?(?:[(][0-9]{3}[)][ .\-]?[0-9]{3}[ .\-][0-9]{4}"
    r"|[0-9]{3}[ .\-][0-9]{3}[ .\-][0-9]{4}|[2-9][0-9]{2}[2-9][0-9]{6}(?![A-Za-z]))(?:[ ]?(?:x|"
    r"ext\.?)[ ]?[0-9]{1,6})?(?![0-9])",
)
_PHONE_AREA_CODE = re.compile(r"(?<![0-9A-Za-z])[(][0-9]{2,4}[)][ ]?[0-9]{2,4}[ \-]?[0-9]{3,4}(?![0-9])")
_PHONE_NAMED = re.compile(
    r"(?:\b(?:call|phone|tel|telephone|mobile|cell|fax|answering at|whatsapp|reach (?:me|you|us) (?:at|on))\b|"
    r"電話|携帯|連絡先)"
    r"[^0-9\n]{0,16}(?P<value>[(]?[0-9](?:[ .\-()]{0,2}[0-9]){5,13}+(?:[ ]?(?:x|ext\.?)[ ]?[0-9]{1,6})?)(?![0-9])",
    re.IGNORECASE,
)
_PHONE_LABELLED = re.compile(
    r"(?<![0-9A-Za-z])(?P<value>[(+]?[0-9](?:[ .\-()]{0,2}[0-9]){5,13}+(?:[ ]?(?:x|ext\.?)[ ]?[0-9]{1,6})?)"
    r"[ \-]{1,2}(?:office|fax|mobile|cell|work|home)\b",
    re.IGNORECASE,
)
_CATALOGUE_NUMBER = re.compile(r"(?:isbn|jan|ean|upc|伝票|追跡|tracking)[^0-9\n]{0,24}\Z", re.IGNORECASE)


def my_number_is_valid(digits: str) -> bool:
    """Return whether twelve digits end in the check digit of the Japanese individual number.

    Source: Ministerial ordinance no. 85 of 2014 (総務省令), article 5.
    """
    weights = (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)
    rest = sum(int(digit) * weight for digit, weight in zip(digits[:11], weights, strict=True)) % 11
    return int(digits[11]) == (0 if rest <= 1 else 11 - rest)


def _is_my_number(match: re.Match[str]) -> bool:
    digits = re.sub(r"[ \-]", "", match.group())
    if _is_catalogue_number(match) or not my_number_is_valid(digits):
        return False
    # Twelve digits are an article number of the American trade as well; its check digit weighs 3, 1, 3, 1 …
    article = sum(int(digit) * (1 if place % 2 else 3) for place, digit in enumerate(digits)) % 10 == 0
    return not article or match.group("separator") != ""


def _is_catalogue_number(match: re.Match[str]) -> bool:
    return _CATALOGUE_NUMBER.search(match.string, max(0, match.start() - 32), match.start()) is not None


def _digits_between(low: int, high: int) -> Check:
    def check(match: re.Match[str]) -> bool:
        value = re.split(r"x|ext", match.group(), maxsplit=1, flags=re.IGNORECASE)[0]
        return low <= sum(character.isdigit() for character in value) <= high and not _is_catalogue_number(match)

    return check


def _is_version(match: re.Match[str]) -> bool:
    before = match.string[max(0, match.start() - 10) : match.start()].lower()
    return re.search(r"(?:\bv|ver|version|firmware|release)[. ]{0,2}\Z", before) is not None


def _is_internet_address(match: re.Match[str]) -> bool:
    if _is_version(match):
        return False
    try:
        ipaddress.ip_address(match.group())
    except ValueError:
        return False
    return ":" not in match.group() or match.group().count(":") >= 4


def _not_catalogue(match: re.Match[str]) -> bool:
    return not _is_catalogue_number(match)


EMAIL_RULES: tuple[Rule, ...] = (Rule(Kind.EMAIL, _EMAIL),)
SPELLED_EMAIL_RULES: tuple[Rule, ...] = (Rule(Kind.EMAIL, _EMAIL_SPELLED),)
ORDER_RULES: tuple[Rule, ...] = (
    Rule(Kind.ORDER_ID, _ORDER_STORE, words=("ma",)),
    Rule(Kind.ORDER_ID, _ORDER_MARKETPLACE),
    Rule(
        Kind.ORDER_ID,
        _ORDER_NAMED,
        words=("order", "purchase", "invoice", "po", "注文", "受注", "発注", "オーダー", "予約"),
    ),
)
IDENTITY_RULES: tuple[Rule, ...] = (
    Rule(Kind.MY_NUMBER, _MY_NUMBER_NAMED, words=("my number", "ナンバー", "個人番号")),
    Rule(Kind.NATIONAL_ID, _SSN, words=("-",)),
    Rule(Kind.NATIONAL_ID, _SSN_NAMED, words=("ssn", "social")),
    Rule(Kind.LICENSE_ID, _LICENSE, words=("licen", "passport", "免許", "パスポート", "旅券")),
    Rule(Kind.IP_ADDRESS, _IPV4, _is_internet_address, (".",)),
    Rule(Kind.IP_ADDRESS, _IPV6, _is_internet_address, (":",)),
    Rule(Kind.MY_NUMBER, _MY_NUMBER, _is_my_number),
)
_PHONE_WORDS = (
    "call",
    "phone",
    "tel",
    "mobile",
    "cell",
    "fax",
    "answering",
    "whatsapp",
    "reach",
    "電話",
    "携帯",
    "連絡先",
)
_KINDS_OF_PHONE = ("office", "fax", "mobile", "cell", "work", "home")
PHONE_RULES: tuple[Rule, ...] = (
    Rule(Kind.PHONE, _PHONE_INTERNATIONAL, _digits_between(9, 15), ("+", "00")),
    Rule(Kind.PHONE, _PHONE_US, _not_catalogue),
    Rule(Kind.PHONE, _PHONE_LEADING_ZERO, _digits_between(9, 11)),
    Rule(Kind.PHONE, _PHONE_AREA_CODE, _not_catalogue, ("(",)),
    Rule(Kind.PHONE, _PHONE_NAMED, _digits_between(6, 14), _PHONE_WORDS),
    Rule(Kind.PHONE, _PHONE_LABELLED, _digits_between(6, 14), _KINDS_OF_PHONE),
)


def find(rules: tuple[Rule, ...], text: str) -> Iterator[Detection]:
    """Yield what the rules find in a folded text; a group named `value` is the personal part of a match."""
    lower = text.lower()
    for kind, pattern, check, words in rules:
        if words and not any(word in lower for word in words):
            continue
        group: str | int = "value" if "value" in pattern.groupindex else 0
        for match in pattern.finditer(text):
            if check is None or check(match):
                start, end = match.span(group)
                yield Detection(start, end, kind)
