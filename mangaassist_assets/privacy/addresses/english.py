"""Postal addresses in Latin letters: street and number, unit, box, and the lines that follow to the postal code.

A bare city, state or country is no address: it decides shipping rules and names no person, and stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mangaassist_assets.privacy.detections import Detection, Kind
from mangaassist_assets.privacy.names.lexicon import lexicon

_STREETS = (
    "street|st|avenue|ave|road|rd|boulevard|blvd|lane|ln|drive|dr|court|ct|place|pl|square|sq|terrace|way|"
    "parkway|pkwy|highway|hwy|close|crescent|str"
)
# "3 copies of Lantern Road" asks for a title: these words stand in no street name.
_NOT_A_STREET = (
    "of|cop(?:y|ies)|vols?|volumes?|books?|more|days?|weeks?|years?|items?|chapters?|and|or|the|in|is|min|mins|"
    "minutes?|hours?|at|this|that|for|to|on|from|with|by|pm|am|out|my|your|his|her|it|its|was|are"
)
_CAPITAL = "[A-ZÀ-ÖØ-ÞŠŽČĆŁŚŻĐΆΈΉΊΌΎΏΑ-ΩА-Я]"
# How far before and behind numbers a word of the catalogue makes them those of volumes, in characters.
_NEAR = 16
_LETTER = r"[^\W\d_]"
_WORD = rf"{_LETTER}[\w'.\-]{{0,24}}+"
_UNIT = r"(?:apt|apartment|unit|suite|ste|flat|room|#)\.?[ \t]?#?[A-Za-z0-9\-]{1,8}"

_NUMBER_FIRST = re.compile(
    r"(?<![\w.,/$€£¥#\-])[0-9]{1,6}[A-Za-z]?,?[ \t]"
    rf"(?:(?!(?:{_NOT_A_STREET})\b)[\w][\w'.\-]{{0,24}}+[ \t]){{0,4}}?"
    rf"(?!(?:{_NOT_A_STREET})\b)(?:{_WORD}|[0-9]{{1,3}}(?:st|nd|rd|th))[ \t](?:{_STREETS})\b\.?",
    re.IGNORECASE,
)
# A street without a number needs its capital letters: "Edmunds Street", "St. John Street".
_STREET_NAMED = re.compile(
    r"\b(?:liv(?:e|es|ed|ing)|meet|turn|enter|stay(?:ing)?)(?: me| us)? (?:on|at|into)[ ]"
    r"(?P<value>(?:[A-ZÀ-ÞΑ-ΩА-Я][\w'.\-]{1,24}+[ ]){1,3}(?:Street|Avenue|Boulevard|Road|Lane)(?![\w']))"
)
# As Japanese addresses are written in Latin letters: "1-2-3 Sakura, Setagaya-ku, Tokyo 154-0001".
_ROMAJI = re.compile(
    rf"(?<![\w\-])[0-9]{{1,4}}(?:-[0-9]{{1,4}}){{1,3}}[, ]{{1,2}}(?:{_CAPITAL}[\w'\-]{{1,24}}+[, ]{{1,2}}){{0,5}}?"
    rf"(?:{_CAPITAL}\w{{1,20}}-(?:ku|shi|gun|machi|cho|fu|ken)\b|(?:Tokyo|Osaka|Kyoto|Japan)\b|"
    r"[0-9]{3}-[0-9]{4}(?![0-9]))"
    rf"(?:[, ]{{1,2}}(?:{_CAPITAL}\w{{1,20}}(?:-(?:ku|shi|gun|machi|cho|to|fu|ken))?|[0-9]{{3}}-[0-9]{{4}})"
    r"(?![\w\-])){0,4}"
)
_NUMBER_LAST = re.compile(rf"(?<![\w\-])(?:{_CAPITAL}[\w'.\-]{{1,24}}+[ ]){{1,3}}[0-9]{{1,4}}\.?(?=[ ](?:street|St\.))")
_SUFFIXES = (
    "stra(?:ss|ß)e|gasse|platz|allee|weg|straat|laan|plein|gracht|steeg|dijk|vej|gade|vegen|veien|gata|gaten|gatan|"
    "vägen|väg|gränd|stræde|tie|katu|utca|hoek|kade|singel|bakken|haven|havn"
)
_SUFFIX_WORDS = ("ulica", *_SUFFIXES.replace("stra(?:ss|ß)e", "strasse|straße").split("|"))
_COMPOUND = re.compile(
    rf"(?<![\w\-])(?:[0-9]{{1,4}}[A-Za-z]?[ ])?(?-i:(?:{_CAPITAL}[\w'.\-]{{0,24}}+[ ]){{0,2}}?)"
    rf"(?:{_LETTER}{{2,24}}?(?:{_SUFFIXES})|"
    rf"(?:{_LETTER}{{2,24}}[ ])(?:strasse|straße|vej|utca|ulica|tie|katu))[ ]?[0-9]{{1,4}}[A-Za-z]?(?![\w])",
    re.IGNORECASE,
)
_PREFIXES = (
    "rue|avenue|via|viale|calle|c/|avenida|av\\.?|rua|r\\.?|travessa|estrada|largo|ul\\.?|ulica|boulevard|bd\\.?|chemin|"
    "plaza|piazza|corso|trg|cesta|quai|allée|place|passage|carrer|paseo|camino|route|impasse"
)
_NUMBERS_THEN_PREFIX = rf"(?<![\w\-])(?:[0-9]{{1,5}}[A-Za-z]?,?[ ]){{1,2}}(?:{_PREFIXES})[ ]"
_STREET_WORD = rf"(?:{_CAPITAL}[\w'.\-]{{0,24}}+|de|du|des|da|do|dos|di|la|le|del|della|e|[0-9]{{1,4}})"
_PREFIXED_CAPITALS = re.compile(
    rf"{_NUMBERS_THEN_PREFIX}(?-i:(?:{_STREET_WORD}(?:[ ]|(?!\w))){{1,6}}(?<![ ]))", re.IGNORECASE
)
_PREFIXED = re.compile(
    rf"{_NUMBERS_THEN_PREFIX}(?:[\w'.\-]{{1,24}}+[ ]){{0,5}}?[\w'.\-]{{1,24}}(?:[ ][0-9]{{1,4}})?(?![\w])"
    rf"|(?<![\w\-])(?:{_PREFIXES})[ ](?:{_WORD}[ ]){{1,5}}?[0-9]{{1,4}}(?![\w])",
    re.IGNORECASE,
)
# Number, words, number ("56 Canelones 2266"): where no dictionary knows one of the words, it is a street.
_BETWEEN_NUMBERS = re.compile(
    rf"(?<![\w.,/$€£¥#\-])[0-9]{{1,4}}[ ](?P<words>(?!(?:{_NOT_A_STREET})\b){_WORD}(?:[ ]{_WORD}){{0,4}})"
    r"[ ][0-9]{1,4}\.?(?![\w.,]?[0-9])",
    re.IGNORECASE,
)
_UNIT_FOLLOWS = re.compile(r"[\s>?,]{1,8}(?:apt|suite|flat)\b", re.IGNORECASE)
_BOX = re.compile(
    r"\b(?:Postbox|Postfach|Postboks|Casella postale|Boîte postale)[ ][0-9]{1,6}\b|"
    r"\bP\.?[ ]?O\.?[ ]?Box[ ]{1,2}[0-9]{1,8}\b|\b(?:PSC|Unit|CMR)[ ][0-9]{3,5},?[ ]Box[ ][0-9]{1,6}\b"
    r"|\b(?:USNS|USNV|USS|USCGC)[ ][^\W\d_]{2,24}(?=\s(?:FPO|APO|DPO)\b)|\b(?:FPO|APO|DPO)[ ](?:AA|AE|AP)[ ][0-9]{5}\b",
    re.IGNORECASE,
)
_UNIT_ALONE = re.compile(r"(?<![\w])(?:Apt\.|Apartment|Suite|Apt)[ ][0-9]{1,4}[A-Za-z]?(?![\w])", re.IGNORECASE)
_CORNER = re.compile(
    r"\bcorner of (?P<value>(?:[\w'.\-]{1,24}+[ ]){1,5}?and (?:[\w'.\-]{1,24}+[ ]){0,4}?(?:[0-9]{1,4}|street|"
    r"st\.?|avenue|road)(?![\w]))",
    re.IGNORECASE,
)
_CUE = re.compile(
    r"\b(?:address(?:es)?(?:[ ](?:is|to|with|here they are|to the same))?|address:|(?:sent|send it|ship it|"
    r"deliver(?:ed)?|shipped|return|taxi|ship|deliver it) to|"
    r"office is at|arrived at|lives? at|living at|meet me at|reside at|it's in)[ ]{0,8}[:\-]?\s{0,8}"
    r"(?P<value>(?!the\b)(?:[\w'./,#\-]{1,32}+[ \t]{1,2}){0,6}?[0-9]{1,6}[A-Za-z]?(?![\w.,]?[0-9]))",
    re.IGNORECASE,
)
_CUE_STOPS = re.compile(
    r"\b(?:for|please|in|with|last|and also|the|my|your|a|order|volumes?|vol|copies)\b", re.IGNORECASE
)

# After a street: unit, and up to six capitalised words that end in a postal code, over commas and line ends.
_CONTINUED = re.compile(
    rf"(?:[,\s]{{1,4}}{_UNIT})?"
    rf"(?:(?:[,\s]{{1,4}}(?!(?:for|and|please|with|is|last|in|as|"
    rf"thanks?)\b){_LETTER}[\w'.\-]{{0,24}}+){{0,8}}?[,\s]{{1,4}}[0-9]{{4,6}}(?:-[0-9]{{4}})?(?![\w]))?",
    re.IGNORECASE,
)
# City and country below or behind a street, each with its capitals: "…, Quinta do Paço, Czech Republic".
_CITY_LINES = re.compile(
    rf"(?:(?:,[ ]|,?\n[ ]{{1,4}}|[ ]nan\b)(?!(?:Thanks?|Please|My|I|Can|The|Order|Phone|Tel|Email|For|And|Name|"
    rf"User|Bot|You|We|It|Is|Do|What|How)\b)"
    rf"{_CAPITAL}[\w'.\-]{{1,24}}+(?:[ ](?:{_CAPITAL}[\w'.\-]{{0,24}}+|of|and|the|de|do|da|di|"
    rf"la)){{0,4}}(?:[ ][0-9]{{4,6}}(?![\w]))?){{1,3}}"
)
_UNIT_AND_CITY = re.compile(
    rf"[,\s]{{1,3}}(?:Apt\.?|Suite|Flat)[ ][0-9]{{1,4}}(?:[ ](?!(?:Thanks?|Please|My|I|Can|The|Order|Phone|For|"
    rf"And)\b)(?:{_CAPITAL}[\w'.\-]{{0,24}}+|of|and|the|de|do|da|nan)){{1,8}}"
)
_CATALOGUE = (
    r"(?:manga|vols?|volumes?|chapters?|copies|books?|page|pages|issue(?= [0-9#])|part|season|episode|第)(?![A-Za-z])"
)
_CATALOGUE_BEFORE = re.compile(rf"(?<![A-Za-z]){_CATALOGUE}\W{{0,3}}(?:[0-9]{{1,3}},? (?:and )?)?\Z", re.IGNORECASE)
_CATALOGUE_BEHIND = re.compile(rf"\W{{0,3}}{_CATALOGUE}|[巻話]", re.IGNORECASE)
_CATALOGUE_INSIDE = re.compile(rf"\b{_CATALOGUE}", re.IGNORECASE)
_US_STATES = (
    "A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY]"
)
_POSTAL_US = re.compile(rf"\b(?:{_US_STATES})[, ]{{1,2}}[0-9]{{5}}(?:-[0-9]{{4}})?(?![0-9])")
_POSTAL_NAMED = re.compile(
    r"\b(?:zip|postal|post)[ ]?(?:code)?(?:[ ]{0,2}(?:is|"
    r"[:#=])){0,2}[ ]{0,2}(?P<value>[0-9]{5}(?:-[0-9]{4})?)(?![0-9])",
    re.IGNORECASE,
)
_POSTAL_UK = re.compile(r"(?<![A-Za-z0-9])[A-Z]{1,2}[0-9][A-Z0-9]?[ ][0-9][A-Z]{2}(?![A-Za-z0-9])")
# A line of its own that ends in five digits, below a line with a number: the last line of a label.
_LAST_LINE = re.compile(rf"\n[ >?]{{0,6}}(?P<value>(?:{_WORD}[ ]){{1,6}}[0-9]{{5}})(?=\s*(?:\n|\Z)|[.!?]|[ ][A-Z])")

_PATTERNS = (
    _NUMBER_FIRST,
    _PREFIXED_CAPITALS,
    _PREFIXED,
    _COMPOUND,
    _STREET_NAMED,
    _NUMBER_LAST,
    _ROMAJI,
    _BOX,
    _UNIT_ALONE,
    _CORNER,
)
_HAS_DIGIT_OR_STREET = re.compile(r"[0-9]|Street|Avenue|Boulevard|Road|Lane|corner of")


def find_addresses(text: str) -> Iterator[Detection]:
    """Yield addresses and postal codes of a folded text."""
    if not _HAS_DIGIT_OR_STREET.search(text):
        return
    lower = text.lower()
    compound = any(word in lower for word in _SUFFIX_WORDS)
    for pattern in _PATTERNS:
        if pattern is _COMPOUND and not compound:
            continue
        group: str | int = "value" if "value" in pattern.groupindex else 0
        for match in pattern.finditer(text):
            start, end = match.span(group)
            yield Detection(start, _continued(text, end), Kind.ADDRESS)
    yield from _between_numbers(text)
    yield from _after_cues(text)
    for match in _LAST_LINE.finditer(text):
        yield Detection(*match.span("value"), Kind.ADDRESS)
    for pattern, group in ((_POSTAL_US, 0), (_POSTAL_NAMED, "value"), (_POSTAL_UK, 0)):
        for match in pattern.finditer(text):
            yield Detection(*match.span(group), Kind.POSTAL_CODE)


def _between_numbers(text: str) -> Iterator[Detection]:
    """Yield "56 Canelones 2266"; "2 Naruto 12" is an order: short numbers, or only words of the dictionary."""
    words = lexicon().words
    for match in _BETWEEN_NUMBERS.finditer(text):
        digits = sum(character.isdigit() for character in match.group())
        unknown = any(word.lower().strip(".") not in words for word in match.group("words").split())
        end = _continued(text, match.end())
        labelled = digits >= 4 or end > match.end() + 4 or _UNIT_FOLLOWS.match(text, match.end()) is not None
        if labelled and unknown and not _is_of_the_catalogue(match):
            yield Detection(match.start(), end, Kind.ADDRESS)


def _is_of_the_catalogue(match: re.Match[str]) -> bool:
    """Return whether a word of the catalogue stands beside or between two numbers: "2 Naruto volume 12"."""
    before = match.string[max(0, match.start() - _NEAR) : match.start()]
    beside = _CATALOGUE_BEFORE.search(before) or _CATALOGUE_BEHIND.match(match.string, match.end())
    return bool(beside or _CATALOGUE_INSIDE.search(match["words"]))


def _continued(text: str, end: int) -> int:
    for pattern in (_UNIT_AND_CITY, _CONTINUED, _CITY_LINES):
        if (match := pattern.match(text, end)) is not None:
            end = match.end()
    return end


def _after_cues(text: str) -> Iterator[Detection]:
    for match in _CUE.finditer(text):
        start, end = match.span("value")
        if _CUE_STOPS.search(text, start, end) is None and re.search(r"[^\W\d_]{2}", text[start : end + 24]):
            yield Detection(start, _continued(text, end), Kind.ADDRESS)
