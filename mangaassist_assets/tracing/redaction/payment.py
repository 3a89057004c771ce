"""Payment references: cards by the Luhn formula, IBAN by its check digits, tokens and named references."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mangaassist_assets.tracing.redaction.findings import Finding, Kind
from mangaassist_assets.tracing.redaction.structured import Rule, find

_DIGIT_RUN = re.compile(r"(?<![0-9])[0-9](?:[ \-]?[0-9]){12,}+")
_GROUP = re.compile(r"[0-9]+")
_CARD_NAMED = re.compile(
    r"(?:\b(?:card|visa|mastercard|amex|jcb)\b|カード|クレカ)[^0-9\n]{0,16}(?P<value>[0-9]{13,19}|"
    r"[0-9]{4}(?:[ \-][0-9]{4}){3}|[0-9]{4}[ \-][0-9]{6}[ \-][0-9]{5})(?![0-9])",
    re.IGNORECASE,
)
_SECURITY_CODE = re.compile(
    r"(?:\b(?:cvv|cvc|cvv2|security code)\b|セキュリティコード)[^0-9\n]{0,8}(?P<value>[0-9]{3,4})(?![0-9])",
    re.IGNORECASE,
)
_IBAN = re.compile(
    r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?:[ ]?[A-Z0-9]{4}){3,7}(?:[ ]?[A-Z0-9]{1,3})?(?![A-Za-z0-9])", re.IGNORECASE
)
_IBAN_NAMED = re.compile(
    r"\biban\b[ :#=]{0,4}(?:is|number|no\.?)?[ :#=]{0,3}(?P<value>[A-Z]{2}[0-9]{2}[A-Z0-9]{8,30}+)", re.IGNORECASE
)
_TOKEN = re.compile(r"(?<![A-Za-z0-9_])(?:pi|ch|pay|txn|tx|py|re|pm|cus)_[A-Za-z0-9]{8,}+")
_NAMED = re.compile(
    r"(?:\btransaction\b|\bpayment\b|\breceipt\b|決済|取引|振込)"
    r"(?:[ \t]{0,2}(?:number|no\.?|id|ref|reference|code|番号|#)){1,2}"
    r"(?:[ \t]{0,2}(?:is|was|[:#は=])){0,2}[ \t]{0,2}"
    r"(?P<value>(?=[A-Za-z\-]{0,12}[0-9])[A-Za-z0-9\-]{5,40}+)",
    re.IGNORECASE,
)
_ACCOUNT = re.compile(
    r"(?:\b(?:bank )?account (?:number|no\.?)|口座(?:番号)?)(?:[ \t]{0,2}(?:is|was|[:#は=])){0,2}[ \t]{0,2}"
    r"(?P<value>[0-9](?:[ \-]?[0-9]){5,16}+)",
    re.IGNORECASE,
)


def luhn(digits: str) -> bool:
    """Return whether digits satisfy the Luhn formula (ISO/IEC 7812-1)."""
    total = 0
    for place, character in enumerate(reversed(digits)):
        value = int(character)
        if place % 2:
            value = value * 2 - 9 if value > 4 else value * 2
        total += value
    return total % 10 == 0


def iban_is_valid(value: str) -> bool:
    """Return whether the check digits of an IBAN are right (ISO 13616: the number modulo 97 is 1)."""
    compact = value.replace(" ", "").upper()
    return int("".join(str(int(character, 36)) for character in compact[4:] + compact[:4])) % 97 == 1


def _is_iban(match: re.Match[str]) -> bool:
    value = match.group()
    return value.isupper() or iban_is_valid(value)


_RULES_BEFORE: tuple[Rule, ...] = ((Kind.PAYMENT_REF, _IBAN_NAMED, None), (Kind.PAYMENT_REF, _IBAN, _is_iban))
_RULES_AFTER: tuple[Rule, ...] = (
    (Kind.CARD, _CARD_NAMED, None),
    (Kind.CARD, _SECURITY_CODE, None),
    (Kind.PAYMENT_REF, _TOKEN, None),
    (Kind.PAYMENT_REF, _NAMED, None),
    (Kind.PAYMENT_REF, _ACCOUNT, None),
)


def find_payment(text: str) -> Iterator[Finding]:
    """Yield the payment references of a folded text."""
    yield from find(_RULES_BEFORE, text)
    for run in _DIGIT_RUN.finditer(text):
        yield from _cards(run)
    yield from find(_RULES_AFTER, text)


def _cards(run: re.Match[str]) -> Iterator[Finding]:
    """Yield every window of whole digit groups that is a plausible card number."""
    groups = [match.span() for match in _GROUP.finditer(run.string, run.start(), run.end())]
    index = 0
    while index < len(groups):
        last = _card_end(run.string, groups, index)
        if last is None:
            index += 1
            continue
        yield Finding(groups[index][0], groups[last][1], Kind.CARD)
        index = last + 1


def _card_end(text: str, groups: list[tuple[int, int]], first: int) -> int | None:
    digits = ""
    for index in range(first, len(groups)):
        start, stop = groups[index]
        if len(digits) + stop - start > 19:
            return None
        digits += text[start:stop]
        # 978 and 979 begin ISBNs; issuers of payment cards use 2 to 6.
        if len(digits) >= 13 and digits[0] in "23456" and luhn(digits):
            return index
    return None
