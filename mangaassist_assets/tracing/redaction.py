"""Redaction of personal data in free text, English and Japanese, before anything is written.

`redact` is pure, never raises and takes linear time: every pattern starts at a boundary or a literal and repeats
without backtracking (possessive or bounded), so 100 kB of hostile text costs milliseconds. What it finds becomes a
placeholder that no pattern matches again, which makes it idempotent.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

_D = "[0-9０-９]"
_DASH = r"[-‐‑‒–−ー－]"
_FULL_WIDTH = str.maketrans("０１２３４５６７８９", "0123456789")
_MAXIMUM_PASSES = 8


@dataclass(frozen=True, slots=True)
class RedactedText:
    """Text free of what the patterns know, and how often each kind was found (`{"EMAIL": 1}`)."""

    text: str
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRecord:
    """What a trace keeps of a prompt: its hash and length always, the text only up to the limit.

    `text` is the whole redacted prompt, or None where it was over the limit; `preview` is its beginning.
    """

    sha256: str
    characters: int
    preview: str
    text: str | None


_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+\-])[A-Za-z0-9._%+\-]++[@＠](?=[A-Za-z0-9\-]++[.．])[A-Za-z0-9.．\-]+(?<=[A-Za-z0-9])",
)
_ORDER_STORE = re.compile(rf"(?<![A-Za-z0-9])[MmＭ][AaＡ][-‐‑‒–−ー－ _]?{_D}{{8}}(?!{_D})")
_ORDER_MARKETPLACE = re.compile(rf"(?<!{_D}){_D}{{3}}{_DASH}{_D}{{7}}{_DASH}{_D}{{7}}(?!{_D})")
_ORDER_NAMED = re.compile(
    r"(?:\border\b|\bpurchase\b|注文)(?:[ \t]{0,2}(?:number|num|no\.?|id|ref|reference|code|番号|ＩＤ|#|＃)){0,2}"
    r"(?:[ \t]{0,2}(?:is|was|[:：#＃は=])){0,2}[ \t]{0,2}"
    r"(?P<value>(?=[A-Za-z\-]{0,8}[0-9０-９])[A-Za-z0-9０-９\-]{5,32}+)",
    re.IGNORECASE,
)
_PAYMENT_TOKEN = re.compile(r"(?<![A-Za-z0-9_])(?:pi|ch|pay|txn|tx|py|re|pm|cus)_[A-Za-z0-9]{8,}+")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?:[ ]?[A-Z0-9]{4}){3,7}(?:[ ]?[A-Z0-9]{1,3})?(?![A-Za-z0-9])")
_PAYMENT_NAMED = re.compile(
    r"(?:\btransaction\b|\bpayment\b|\breceipt\b|決済|取引)"
    r"(?:[ \t]{0,2}(?:number|no\.?|id|ref|reference|code|番号|#)){1,2}"
    r"(?:[ \t]{0,2}(?:is|was|[:：#は=])){0,2}[ \t]{0,2}"
    r"(?P<value>(?=[A-Za-z\-]{0,12}[0-9０-９])[A-Za-z0-9０-９\-]{5,40}+)",
    re.IGNORECASE,
)
_DIGIT_RUN = re.compile(rf"(?<!{_D}){_D}(?:[ \-‐−]?{_D}){{12,}}+")
_PHONE_INTERNATIONAL = re.compile(
    rf"(?<![0-9０-９A-Za-z])[+＋]{_D}(?:[ .\-‐−ー()（）]{{0,2}}{_D}){{7,14}}+",
)
_PHONE_JAPAN = re.compile(
    rf"(?<![0-9０-９A-Za-z])[(（]?[0０](?:{_D}{{9,10}}"
    rf"|{_D}{{1,4}}(?:{_DASH}|[ ()（）]){{1,2}}{_D}{{1,4}}(?:{_DASH}|[ ()（）]){{1,2}}{_D}{{3,4}})(?!{_D})",
)
# Three, three and four digits: with separators whatever they begin with, without only where an area code can.
_PHONE_US = re.compile(
    rf"(?<![0-9０-９A-Za-z/])(?:[1１][ .\-]?)?(?:[(（]{_D}{{3}}[)）][ .\-]?{_D}{{3}}[ .\-]{_D}{{4}}"
    rf"|{_D}{{3}}[ .\-]{_D}{{3}}[ .\-]{_D}{{4}}|[2-9２-９]{_D}{{2}}[2-9２-９]{_D}{{6}}(?![A-Za-z]))(?!{_D})",
)
_PHONE_NAMED = re.compile(
    r"(?:\b(?:call|phone|tel|mobile|cell|fax|answering at|reach (?:me|you|us) (?:at|on))\b|電話)"
    rf"[^0-9０-９\n]{{0,16}}(?P<value>[(（]?{_D}(?:[ .\-()（）]{{0,2}}{_D}){{6,12}}+)(?!{_D})",
    re.IGNORECASE,
)
_STREETS = (
    "street|st|avenue|ave|road|rd|boulevard|blvd|lane|ln|drive|dr|court|ct|place|pl|square|sq|terrace|way|"
    "parkway|pkwy|highway|hwy|close|crescent"
)
# "3 copies of Lantern Road" asks for a title: these words stand in no street name.
_NOT_A_STREET = (
    "of|cop(?:y|ies)|vols?|volumes?|books?|more|days?|weeks?|years?|items?|chapters?|and|or|the|in|is|min|mins|"
    "minutes?|hours?|at|this|that|for|to|on"
)
_ADDRESS_ENGLISH = re.compile(
    r"(?<![A-Za-z0-9])[0-9]{1,6}[A-Za-z]?,?[ \t]"
    rf"(?:(?!(?:{_NOT_A_STREET})\b)[A-Za-z0-9][A-Za-z0-9'.\-]{{0,24}}+[ \t]){{0,4}}?"
    rf"(?!(?:{_NOT_A_STREET})\b)[A-Za-z][A-Za-z'.\-]{{0,24}}[ \t](?:{_STREETS})\b\.?"
    r"(?:,?[ \t]{1,2}(?:apt|apartment|unit|suite|ste|flat|#)\.?[ \t]?#?[A-Za-z0-9\-]{1,8})?",
    re.IGNORECASE,
)
_PO_BOX = re.compile(r"\bP\.?[ ]?O\.?[ ]?Box[ ]{1,2}[0-9]{1,8}\b", re.IGNORECASE)
_KANJI_NUMBER = "[0-9０-９一二三四五六七八九十]"
_ADDRESS_JAPANESE = re.compile(
    r"(?:東京都|北海道|大阪府|京都府|[一-龠]{2,3}県|[一-龠ヶケァ-ヶ]{1,5}[市区郡](?=[^\s、。,.!?！？]{0,18}[町村区丁番0-9０-９]))"
    rf"[^\s、。,.!?！？0-9０-９]{{0,30}}?{_KANJI_NUMBER}{{1,4}}(?:丁目|番地|番|号|の|{_DASH})"
    rf"(?:{_KANJI_NUMBER}{{1,4}}(?:丁目|番地|番|号|の|{_DASH})?){{0,4}}(?:[ァ-ヶー一-龠]{{1,12}}{_D}{{1,4}}号室)?",
)
_US_STATES = (
    "A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY]"
)
_POSTAL_US = re.compile(rf"\b(?:{_US_STATES})[, ]{{1,2}}[0-9]{{5}}(?:-[0-9]{{4}})?(?![0-9])")
_POSTAL_ZIP_NAMED = re.compile(
    r"\b(?:zip|postal|post)[ ]?(?:code)?(?:[ ]{0,2}(?:is|[:#=])){0,2}[ ]{0,2}"
    r"(?P<value>[0-9]{5}(?:-[0-9]{4})?)(?![0-9])",
    re.IGNORECASE,
)
_POSTAL_UK = re.compile(r"(?<![A-Za-z0-9])[A-Z]{1,2}[0-9][A-Z0-9]?[ ][0-9][A-Z]{2}(?![A-Za-z0-9])")
_POSTAL_JAPAN = re.compile(
    rf"〒[ 　]?{_D}{{3}}{_DASH}?{_D}{{4}}(?!{_D})|(?<![0-9０-９A-Za-z\-]){_D}{{3}}{_DASH}{_D}{{4}}(?![0-9０-９\-])",
)
# "my name is on the parcel" tells no name: these words never start one.
_NOT_A_NAME = (
    "a|an|the|on|in|not|no|now|at|so|too|and|but|wrong|spelled|spelt|misspelled|written|missing|listed|printed|"
    "back|when|if|about|for|to|with|please|maybe|also|later|again|today|tomorrow|tonight|soon|crazy|old|as|or"
)
_NAME_ENGLISH = re.compile(
    r"\b(?:my (?:full |first |last )?name is|my name['’]?s|i am called|i['’]m called|call me|name:|signed,?)"
    rf"[ \t]{{1,3}}(?P<value>(?!(?:{_NOT_A_NAME})\b)[^\W\d_][^\W\d_'’\-]{{0,39}}"
    r"(?-i:(?:[ \t][A-Z][^\W\d_'’\-]{0,39}){1,2}|[ \t][^\W\d_]{2,39}(?=[.,!?\n]|\Z))?)",
    re.IGNORECASE,
)
_NAME_JAPANESE_AFTER = re.compile(r"(?:と申します|と申す|と言います|といいます|と申しま)")
_NAME_JAPANESE_BEFORE = re.compile(
    r"名前は[ 　]?(?P<value>[一-龠々ァ-ヶーぁ-んA-Za-z][一-龠々ァ-ヶーA-Za-z 　]{0,14})(?=です|だ|と)"
)
_NAME_STOPS = frozenset("はがもを、。,.!?！？「」『』()（）[]:： \t\r\n　")
_NAME_SPACES = frozenset(" 　")


_PSEUDONYM = re.compile(r"u-[0-9a-f]{20}")


def _fixed(kind: str) -> Callable[[re.Match[str]], str | None]:
    placeholder = f"[{kind}]"

    def replace(match: re.Match[str]) -> str | None:
        if "value" not in match.re.groupindex:
            return placeholder
        start, whole = match.start(), match.group(0)
        return whole[: match.start("value") - start] + placeholder + whole[match.end("value") - start :]

    return replace


def _luhn(digits: str) -> bool:
    total = 0
    for index, character in enumerate(reversed(digits)):
        value = int(character)
        if index % 2:
            value = value * 2 - 9 if value > 4 else value * 2
        total += value
    return total % 10 == 0


def _replace_cards(match: re.Match[str]) -> str | None:
    """Replace every window of whole digit groups that is a plausible card number, or None where there is none."""
    run = match.group(0)
    groups = [(found.start(), found.end()) for found in re.finditer(rf"{_D}+", run)]
    pieces: list[str] = []
    position = 0
    index = 0
    while index < len(groups):
        end = _card_end(run, groups, index)
        if end is None:
            index += 1
            continue
        pieces += [run[position : groups[index][0]], "[CARD]"]
        position = groups[end][1]
        index = end + 1
    return "".join([*pieces, run[position:]]) if pieces else None


def _card_end(run: str, groups: list[tuple[int, int]], first: int) -> int | None:
    digits = ""
    for index in range(first, len(groups)):
        start, stop = groups[index]
        if len(digits) + stop - start > 19:
            return None
        digits += run[start:stop].translate(_FULL_WIDTH)
        # 978 and 979 begin ISBNs; issuers of payment cards use 2 to 6.
        if len(digits) >= 13 and digits[0] in "23456" and _luhn(digits):
            return index
    return None


def _replace_japanese_phone(match: re.Match[str]) -> str | None:
    digits = sum(character.isdigit() for character in match.group(0))
    return "[PHONE]" if digits in (10, 11) else None


_RULES: tuple[tuple[str, re.Pattern[str], Callable[[re.Match[str]], str | None]], ...] = (
    ("EMAIL", _EMAIL, _fixed("EMAIL")),
    ("ORDER_ID", _ORDER_STORE, _fixed("ORDER_ID")),
    ("ORDER_ID", _ORDER_MARKETPLACE, _fixed("ORDER_ID")),
    ("PAYMENT_REF", _IBAN, _fixed("PAYMENT_REF")),
    ("CARD", _DIGIT_RUN, _replace_cards),
    ("PAYMENT_REF", _PAYMENT_TOKEN, _fixed("PAYMENT_REF")),
    ("PAYMENT_REF", _PAYMENT_NAMED, _fixed("PAYMENT_REF")),
    ("ORDER_ID", _ORDER_NAMED, _fixed("ORDER_ID")),
    ("ADDRESS", _ADDRESS_JAPANESE, _fixed("ADDRESS")),
    ("PHONE", _PHONE_INTERNATIONAL, _fixed("PHONE")),
    ("PHONE", _PHONE_JAPAN, _replace_japanese_phone),
    ("PHONE", _PHONE_US, _fixed("PHONE")),
    ("PHONE", _PHONE_NAMED, _fixed("PHONE")),
    ("ADDRESS", _ADDRESS_ENGLISH, _fixed("ADDRESS")),
    ("ADDRESS", _PO_BOX, _fixed("ADDRESS")),
    ("POSTAL_CODE", _POSTAL_US, _fixed("POSTAL_CODE")),
    ("POSTAL_CODE", _POSTAL_ZIP_NAMED, _fixed("POSTAL_CODE")),
    ("POSTAL_CODE", _POSTAL_UK, _fixed("POSTAL_CODE")),
    ("POSTAL_CODE", _POSTAL_JAPAN, _fixed("POSTAL_CODE")),
    ("NAME", _NAME_ENGLISH, _fixed("NAME")),
    ("NAME", _NAME_JAPANESE_BEFORE, _fixed("NAME")),
)


def redact(text: str) -> RedactedText:
    """Replace personal data by placeholders.

    Args:
        text: Any text, as long as memory allows.

    Returns:
        The text and the number of replacements of each kind: EMAIL, PHONE, ADDRESS, POSTAL_CODE, ORDER_ID, CARD,
        PAYMENT_REF, NAME. Redacting the result again changes nothing.
    """
    counts: Counter[str] = Counter()
    # A replacement may bring two halves of a pattern together: repeat until nothing is left to find.
    for _ in range(_MAXIMUM_PASSES):
        before = text
        text = _pass(text, counts)
        if text == before:
            break
    return RedactedText(text, dict(sorted(counts.items())))


def _pass(text: str, counts: Counter[str]) -> str:
    for kind, pattern, replacement in _RULES:
        text = _substitute(text, kind, pattern, replacement, counts)
    return _redact_introductions(text, counts)


def _substitute(
    text: str,
    kind: str,
    pattern: re.Pattern[str],
    replacement: Callable[[re.Match[str]], str | None],
    counts: Counter[str],
) -> str:
    def replace(match: re.Match[str]) -> str:
        replaced = replacement(match)
        if replaced is None:
            return match.group(0)
        counts[kind] += 1
        return replaced

    return pattern.sub(replace, text)


def _redact_introductions(text: str, counts: Counter[str]) -> str:
    """Replace the name before 「と申します」: up to twelve characters back to the last particle or punctuation."""
    pieces: list[str] = []
    position = 0
    for match in _NAME_JAPANESE_AFTER.finditer(text):
        start = match.start()
        while start > position and match.start() - start < 12 and not _ends_name(text, start - 1):
            start -= 1
        if start == match.start():
            continue
        pieces += [text[position:start], "[NAME]"]
        position = match.start()
        counts["NAME"] += 1
    return "".join([*pieces, text[position:]]) if pieces else text


def _ends_name(text: str, index: int) -> bool:
    character = text[index]
    if character in _NAME_SPACES and index > 0:
        # One space may stand between family name and given name, never between kana or Latin words.
        return not (_is_kanji(text[index - 1]) and index + 1 < len(text) and _is_kanji(text[index + 1]))
    return character in _NAME_STOPS


def _is_kanji(character: str) -> bool:
    return "一" <= character <= "龠"


def prompt_record(text: str, limit: int, *, preview: int = 200) -> PromptRecord:
    """Return what a trace may keep of a prompt.

    Args:
        text: The prompt as it was sent; it is redacted here.
        limit: Prompts of more characters keep only hash and preview.
        preview: Characters of the preview.
    """
    redacted = redact(text).text
    return PromptRecord(
        sha256=hashlib.sha256(redacted.encode("utf-8", "surrogatepass")).hexdigest(),
        characters=len(redacted),
        preview=redacted[:preview],
        text=redacted if len(redacted) <= limit else None,
    )


def pseudonym(value: str, key: bytes, *, prefix: str = "u") -> str:
    """Return a keyed hash of an identifier (HMAC-SHA-256, 20 hex digits), so that no id can be guessed back."""
    digest = hmac.new(key, value.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
    return f"{prefix}-{digest[:20]}"


def is_pseudonym(value: str | None) -> bool:
    """Return whether a value has the form that `pseudonym` gives to users."""
    return value is not None and _PSEUDONYM.fullmatch(value) is not None


def redact_json(value: object) -> object:
    """Return a JSON value with every string in it redacted; keys stay as they are."""
    if isinstance(value, str):
        return redact(value).text
    if isinstance(value, Mapping):
        return {key: redact_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_json(item) for item in value]
    return value
