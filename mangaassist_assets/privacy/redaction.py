"""Redaction: find personal data in a text and write placeholders in its place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mangaassist_assets.privacy.addresses.english import find_addresses
from mangaassist_assets.privacy.addresses.japanese import find_japanese_addresses
from mangaassist_assets.privacy.conversation import placeholder
from mangaassist_assets.privacy.detections import Detection, Kind, resolve
from mangaassist_assets.privacy.folding import fold, joined_lines, mask_placeholders, with_digits
from mangaassist_assets.privacy.names.english import find_english_names
from mangaassist_assets.privacy.names.japanese import find_japanese_names
from mangaassist_assets.privacy.payment import find_payment
from mangaassist_assets.privacy.profile import find_profile
from mangaassist_assets.privacy.profile_text import find_profile_text
from mangaassist_assets.privacy.secrets.credentials import find_credentials
from mangaassist_assets.privacy.secrets.passwords import find_passwords
from mangaassist_assets.privacy.structured import (
    EMAIL_RULES,
    IDENTITY_RULES,
    ORDER_RULES,
    PHONE_RULES,
    SPELLED_EMAIL_RULES,
    find,
)
from mangaassist_assets.privacy.vocabulary import Vocabulary

_MAXIMUM_PASSES = 8
# A card has 19 digits at most.
_LEAST_NUMBER, _GREATEST_NUMBER = 10**8, 10**19
_NUMBER_KINDS = frozenset({Kind.CARD, Kind.PHONE})
_VOCABULARY_KINDS = frozenset({Kind.NAME, Kind.ADDRESS, Kind.PROFILE})


@dataclass(frozen=True, slots=True)
class RedactedText:
    """Text free of what the finders know, and how often each kind was found (`{"EMAIL": 1}`)."""

    text: str
    counts: Mapping[str, int] = field(default_factory=dict)


def redact(text: str, *, conversation: bytes | None = None, vocabulary: Vocabulary | None = None) -> RedactedText:
    """Replace personal data by placeholders.

    Args:
        text: Any text, as long as memory allows.
        conversation: Key of the conversation (`conversation_key`): equal values get equal suffixes, `[NAME_7q]`.
        vocabulary: The store's titles, characters and authors, which are no personal data.

    Returns:
        The text and the number of replacements of each `Kind`. Redacting the result again changes nothing.
    """
    counts: Counter[str] = Counter()
    # A replacement may bring two halves of a pattern together: repeat until nothing is left to find.
    for _ in range(_MAXIMUM_PASSES):
        detections = find_personal_data(text, vocabulary=vocabulary)
        if not detections:
            break
        counts.update(str(detection.kind) for detection in detections)
        text = _write(text, detections, conversation)
    return RedactedText(text, dict(sorted(counts.items())))


def redact_number(value: float) -> object:
    """Return a JSON number, or its placeholder where it is the number of a card or a telephone.

    Numbers below nine digits, times and what is no whole number stay.
    """
    if isinstance(value, bool) or not _LEAST_NUMBER <= abs(value) <= _GREATEST_NUMBER or value != int(value):
        return value
    found = find_personal_data(str(int(abs(value))))
    return f"[{found[0].kind}]" if found and found[0].kind in _NUMBER_KINDS else value


def _write(text: str, detections: Sequence[Detection], conversation: bytes | None) -> str:
    pieces: list[str] = []
    position = 0
    for detection in detections:
        value = text[detection.start : detection.end]
        pieces += [text[position : detection.start], placeholder(detection.kind, value, conversation)]
        position = detection.end
    return "".join([*pieces, text[position:]])


def find_personal_data(text: str, *, vocabulary: Vocabulary | None = None) -> list[Detection]:
    """Return what one pass finds, in order of place, without overlaps."""
    folded = fold(mask_placeholders(text))
    lower = folded.lower()
    digits = with_digits(folded)
    # First: a description of a customer is one detection, whatever else stands in it.
    detections: list[Detection] = [*find_profile_text(folded, text)]
    detections += find_credentials(folded, lower)
    detections += find_passwords(folded, lower)
    if "@" in folded:
        detections += find(EMAIL_RULES, folded)
    if "at" in lower and "dot" in lower:
        detections += find(SPELLED_EMAIL_RULES, folded)
    detections += _numbers_and_addresses(folded, digits)
    if "\n" in folded:
        # A number goes on below where its line breaks off, and its label may stand on the line above.
        detections += _numbers_and_addresses(joined_lines(folded), joined_lines(digits))
    detections += find_profile(folded)
    detections += find_english_names(folded)
    detections += find_japanese_names(folded)
    if vocabulary is not None:
        detections = [one for one in detections if not _is_allowed(one, text, vocabulary)]
    return resolve(detections)


def _numbers_and_addresses(folded: str, digits: str) -> Iterator[Detection]:
    if any(character in digits for character in "0123456789"):
        yield from find(ORDER_RULES, digits)
        yield from find_payment(digits)
        yield from find(IDENTITY_RULES, digits)
        yield from find(PHONE_RULES, digits)
    elif ":" in folded:
        yield from find(IDENTITY_RULES, folded)
    yield from find_addresses(folded)
    yield from find_japanese_addresses(folded, digits)


def _is_allowed(detection: Detection, text: str, vocabulary: Vocabulary) -> bool:
    allowable = detection.kind in _VOCABULARY_KINDS and not detection.introduced
    return allowable and vocabulary.covers(text, detection.start, detection.end)


def residual(text: str, *, vocabulary: Vocabulary | None = None) -> dict[str, int]:
    """Return how often each kind of personal data is still found in a text; empty where it is clean.

    The guard of dataset writes: what was redacted once must have no residue, whoever wrote it.
    """
    counts = Counter(str(detection.kind) for detection in find_personal_data(text, vocabulary=vocabulary))
    return dict(sorted(counts.items()))
