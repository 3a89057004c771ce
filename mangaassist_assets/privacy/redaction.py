"""Redaction: find personal data in a text and write placeholders in its place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mangaassist_assets.privacy.addresses.english import find_addresses
from mangaassist_assets.privacy.addresses.japanese import find_japanese_addresses
from mangaassist_assets.privacy.conversation import placeholder
from mangaassist_assets.privacy.detections import Finding, Kind, resolve
from mangaassist_assets.privacy.folding import fold, mask_placeholders, with_digits
from mangaassist_assets.privacy.names.english import find_english_names
from mangaassist_assets.privacy.names.japanese import find_japanese_names
from mangaassist_assets.privacy.payment import find_payment
from mangaassist_assets.privacy.profile import find_profile
from mangaassist_assets.privacy.profile_text import find_profile_text
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
_VOCABULARY_KINDS = frozenset({Kind.NAME, Kind.ADDRESS, Kind.PROFILE})
_SPAWN_FROM = 2_000


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
        findings = find_personal_data(text, vocabulary=vocabulary)
        if not findings:
            break
        counts.update(str(finding.kind) for finding in findings)
        text = _write(text, findings, conversation)
    return RedactedText(text, dict(sorted(counts.items())))


def _write(text: str, findings: Sequence[Finding], conversation: bytes | None) -> str:
    pieces: list[str] = []
    position = 0
    for finding in findings:
        value = text[finding.start : finding.end]
        pieces += [text[position : finding.start], placeholder(finding.kind, value, conversation)]
        position = finding.end
    return "".join([*pieces, text[position:]])


def find_personal_data(text: str, *, vocabulary: Vocabulary | None = None) -> list[Finding]:
    """Return what one pass finds, in order of place, without overlaps."""
    folded = fold(mask_placeholders(text))
    digits = with_digits(folded)
    # First: what is told of a customer is one finding, whatever else stands in it.
    findings: list[Finding] = [*find_profile_text(folded, text)]
    has_digit = any(character in digits for character in "0123456789")
    if "@" in folded:
        findings += find(EMAIL_RULES, folded)
    lower = folded.lower()
    if "at" in lower and "dot" in lower:
        findings += find(SPELLED_EMAIL_RULES, folded)
    if has_digit:
        findings += find(ORDER_RULES, digits)
        findings += find_payment(digits)
        findings += find(IDENTITY_RULES, digits)
        findings += find(PHONE_RULES, digits)
    elif ":" in folded:
        findings += find(IDENTITY_RULES, folded)
    findings += find_addresses(folded)
    findings += find_japanese_addresses(folded, digits)
    findings += find_profile(folded)
    findings += find_english_names(folded)
    findings += find_japanese_names(folded)
    if vocabulary is not None:
        findings = [one for one in findings if not _is_allowed(one, text, vocabulary)]
    return resolve(findings)


def _is_allowed(finding: Finding, text: str, vocabulary: Vocabulary) -> bool:
    allowable = finding.kind in _VOCABULARY_KINDS and not finding.introduced
    return allowable and vocabulary.covers(text, finding.start, finding.end)


def residual(text: str, *, vocabulary: Vocabulary | None = None) -> dict[str, int]:
    """Return how often each kind of personal data is still found in a text; empty where it is clean.

    The guard of dataset writes: what was redacted once must have no residue, whoever wrote it.
    """
    counts = Counter(str(finding.kind) for finding in find_personal_data(text, vocabulary=vocabulary))
    return dict(sorted(counts.items()))


def redact_many(
    texts: Sequence[str], *, processes: int = 1, conversation: bytes | None = None, vocabulary: Vocabulary | None = None
) -> list[RedactedText]:
    """Redact texts in order, in several processes where there are enough of them to pay for starting those.

    Raises:
        ValueError: `processes` is below one.
    """
    if processes < 1:
        raise ValueError(f"redact_many needs at least one process, got processes={processes}")
    if processes == 1 or len(texts) < _SPAWN_FROM:
        return [redact(text, conversation=conversation, vocabulary=vocabulary) for text in texts]
    from concurrent.futures import ProcessPoolExecutor
    from functools import partial
    from multiprocessing import get_context

    work = partial(redact, conversation=conversation, vocabulary=vocabulary)
    # Spawned, not forked: the caller may hold threads.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return list(pool.map(work, texts, chunksize=max(1, len(texts) // (processes * 8))))
