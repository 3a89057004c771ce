"""Payment references: cards by the Luhn formula, IBAN by its check digits, tokens and named references."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mangaassist_assets.privacy.detections import Detection, Kind
from mangaassist_assets.privacy.structured import Rule, find

_DIGIT_RUN = re.compile(r"(?<![0-9])[0-9](?:[ \-]?[0-9]){12,}+")
_GROUP = re.compile(r"[0-9]+")
_CARD_NAMED = re.compile(
    r"(?:\b(?:card|visa|mastercard|amex|jcb)\b|カード|クレカ)[^0-9\n]{0,16}(?P<value>[0-9]{12,19}|"
    r"[0-9]{4}(?:[ \-][0-9]{4}){2,3}|[0-9]{4}[ \-][0-9]{6}[ \-][0-9]{5})(?![0-9])",
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
# Stripe's and its like, with the secret that may hang on; PayPal's; Amazon Pay's charges, permissions and refunds.
_TOKEN = re.compile(
    r"(?<![A-Za-z0-9_])(?:(?:pi|ch|pay|txn|tx|py|re|pm|cus)_[A-Za-z0-9]{8,}+|(?:cs|seti|sub|src|tok|card|acct|ba|in|po|"
    r"dp|du|mandate)_(?:test_|live_)?(?=[A-Za-z]{0,24}[0-9])[A-Za-z0-9]{12,}+)(?:_secret_[A-Za-z0-9]++)?"
    r"|(?<![A-Za-z0-9])(?:(?:PAYID|PAY)-[A-Z0-9]{12,40}+(?:-[A-Z0-9]++)?|[BI]-(?=[A-Z]{0,9}[0-9])[A-Z0-9]{12,17}"
    r"|[PSBC][0-9]{2}-[0-9]{7}-[0-9]{7}(?:-[A-Z][0-9]{6})?)(?![A-Za-z0-9])"
)
# Seventeen capitals and digits are a transaction of PayPal's where one speaks of paying.
_PAYPAL = re.compile(r"(?<![A-Za-z0-9])(?=[A-Z]{0,16}[0-9])(?=[0-9]{0,16}[A-Z])[A-Z0-9]{17}(?![A-Za-z0-9])")
_PAYING = re.compile(r"pay|transaction|refund|charge|\btxn\b|支払|決済|取引|返金|振込", re.IGNORECASE)
_NEAR = 80
_PROCESSOR = (
    r"pay ?pal|stripe|klarna|adyen|braintree|worldpay|venmo|cash ?app|(?:apple|google|amazon|line|rakuten|au|d) ?pay|"
    r"sepa|swift|bank transfer|wire(?: transfer)?|direct debit|creditor|end[- ]to[- ]end|acquirer|chargeback|refund|"
    r"charge"
)
_NOUN = r"(?:number|num|no\.?|id|ref(?:erence)?|code|token|番号|コード|#)"
_LINK = r"(?:[ \t]{0,2}(?:is|was|reads|[:#は=])){0,2}[ \t「\"'(]{0,2}"
_NAMED = re.compile(
    rf"(?:\b(?:(?:{_PROCESSOR})(?: (?:transaction|payment|mandate|capture|order))?|transaction|txn|payment|receipt|"
    r"mandate|remittance)\b|決済|取引|振込|払込|支払い?|入金|収納|返金|ペイペイ|楽天ペイ)"
    rf"(?:[ \t]{{0,2}}{_NOUN}){{1,3}}{_LINK}"
    r"(?P<value>(?=[A-Za-z_\-]{0,12}[0-9])[A-Za-z0-9_\-]{5,48}+)",
    re.IGNORECASE,
)
_PROCESSED = re.compile(
    rf"\b(?:pay ?pal|stripe|klarna|sepa)\b(?:[ \t]{{1,2}}(?:transaction|payment|mandate))?{_LINK}"
    r"(?P<value>(?=[A-Za-z\-]{0,8}[0-9])(?![0-9]{4}-[0-9]{2}-[0-9]{2})[A-Za-z0-9\-]{10,48}+)",
    re.IGNORECASE,
)
_AUTHORISATION = re.compile(
    rf"(?:\b(?:pre-?)?(?:auth(?:ori[sz]ation)?|approval)\b(?:(?:[ \t]{{0,2}}(?:{_NOUN}|response)){{1,2}}{_LINK}|"
    rf"[ \t]{{0,2}}[:#=][ \t]{{0,2}})|(?:承認|オーソリ|信用照会)(?:番号|コード|No\.?){_LINK})"
    r"(?P<value>(?=[A-Za-z\-]{0,6}[0-9])[A-Za-z0-9\-]{4,16}+)",
    re.IGNORECASE,
)
# Whoever reads the code of a gift card can spend it. Codes of campaigns are for everybody.
_CLAIM = re.compile(
    r"(?:\b(?:gift[ \-]?(?:card|certificate|voucher)|voucher|claim|redemption|store credit)\b|"
    rf"ギフト(?:カード|券|コード)?|商品券|バウチャー|プリペイド)"
    rf"(?:[ \t]{{0,2}}(?:claim )?(?:{_NOUN}|pin)){{0,2}}{_LINK}"
    r"(?P<value>(?=[A-Za-z\-]{0,12}[0-9])(?=[A-Za-z0-9\-]{8})[A-Za-z0-9]{2,32}+(?:-[A-Za-z0-9]{2,16}+){0,5})",
    re.IGNORECASE,
)
_CREDITOR_REFERENCE = re.compile(
    r"(?<![A-Za-z0-9])RF[0-9]{2}(?:[ ]?[A-Z0-9]{4}){0,5}(?:[ ]?[A-Z0-9]{1,4})(?![A-Za-z0-9])"
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


def is_article_number(digits: str) -> bool:
    """Return whether digits are a JAN, the article number of Japan's trade: 45 or 49 and the check digit of an EAN.

    Cards of thirteen digits are not issued any more.
    """
    total = sum(int(one) * (3 if place % 2 else 1) for place, one in enumerate(digits))
    return len(digits) == 13 and digits.startswith(("45", "49")) and total % 10 == 0


def iban_is_valid(value: str) -> bool:
    """Return whether the check digits of an IBAN are right (ISO 13616: the number modulo 97 is 1)."""
    compact = value.replace(" ", "").upper()
    return int("".join(str(int(character, 36)) for character in compact[4:] + compact[:4])) % 97 == 1


def _is_iban(match: re.Match[str]) -> bool:
    value = match.group()
    return value.isupper() or iban_is_valid(value)


def _is_creditor_reference(match: re.Match[str]) -> bool:
    """Return whether the check digits are right (ISO 11649, those of an IBAN)."""
    return len(match.group().replace(" ", "")) > 4 and iban_is_valid(match.group())


def _speaks_of_paying(match: re.Match[str]) -> bool:
    start = max(0, match.start() - _NEAR)
    before, after = match.string[start : match.start()], match.string[match.end() : match.end() + _NEAR]
    return _PAYING.search(before) is not None or _PAYING.search(after) is not None


# One of these is in whatever `_NAMED` takes for the name of a payment.
_PAYMENTS = (
    *(
        "pay",
        "stripe",
        "klarna",
        "adyen",
        "braintree",
        "venmo",
        "cash",
        "sepa",
        "swift",
        "transfer",
        "debit",
        "creditor",
    ),
    *("end", "acquirer", "charge", "refund", "transaction", "txn", "receipt", "mandate", "remittance"),
    *("決済", "取引", "振込", "払", "入金", "収納", "返金", "ペイ"),
)
_CLAIMS_JAPANESE = ("ギフト", "商品券", "バウチャー", "プリペイド")
_RULES_BEFORE: tuple[Rule, ...] = (
    Rule(Kind.PAYMENT_REF, _IBAN_NAMED, words=("iban",)),
    Rule(Kind.PAYMENT_REF, _IBAN, _is_iban),
    Rule(Kind.PAYMENT_REF, _CREDITOR_REFERENCE, _is_creditor_reference, ("rf",)),
)
_RULES_AFTER: tuple[Rule, ...] = (
    Rule(Kind.CARD, _CARD_NAMED, words=("card", "visa", "amex", "jcb", "カード", "クレカ")),
    Rule(Kind.CARD, _SECURITY_CODE, words=("cv", "security", "セキュリティ")),
    Rule(Kind.PAYMENT_REF, _TOKEN, words=("_", "-")),
    Rule(Kind.PAYMENT_REF, _PAYPAL, _speaks_of_paying),
    Rule(Kind.PAYMENT_REF, _NAMED, words=_PAYMENTS),
    Rule(Kind.PAYMENT_REF, _PROCESSED, words=("pal", "stripe", "klarna", "sepa")),
    Rule(Kind.PAYMENT_REF, _AUTHORISATION, words=("auth", "approval", "承認", "オーソリ", "信用")),
    Rule(Kind.PAYMENT_REF, _CLAIM, words=("gift", "voucher", "claim", "redemption", "store credit", *_CLAIMS_JAPANESE)),
    Rule(Kind.PAYMENT_REF, _ACCOUNT, words=("account", "口座")),
)


def find_payment(text: str) -> Iterator[Detection]:
    """Yield the payment references of a folded text."""
    yield from find(_RULES_BEFORE, text)
    for run in _DIGIT_RUN.finditer(text):
        yield from _cards(run)
    yield from find(_RULES_AFTER, text)


def _cards(run: re.Match[str]) -> Iterator[Detection]:
    """Yield every window of whole digit groups that is a plausible card number."""
    groups = [match.span() for match in _GROUP.finditer(run.string, run.start(), run.end())]
    index = 0
    while index < len(groups):
        last = _card_end(run.string, groups, index)
        if last is None:
            index += 1
            continue
        yield Detection(groups[index][0], groups[last][1], Kind.CARD)
        index = last + 1


def _card_end(text: str, groups: list[tuple[int, int]], first: int) -> int | None:
    digits = ""
    for index in range(first, len(groups)):
        start, stop = groups[index]
        if len(digits) + stop - start > 19:
            return None
        digits += text[start:stop]
        # 978 and 979 begin ISBNs; issuers of payment cards use 2 to 6.
        if len(digits) >= 13 and digits[0] in "23456" and luhn(digits) and not is_article_number(digits):
            return index
    return None
