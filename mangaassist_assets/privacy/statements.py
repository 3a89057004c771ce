"""What a person says about a decision that is kept for ever: why, and who answers for it."""

from __future__ import annotations

import re
import unicodedata

from mangaassist_assets.privacy.detections import Kind
from mangaassist_assets.privacy.redaction import find_personal_data, redact
from mangaassist_assets.privacy.vocabulary import Vocabulary

SHORTEST_REASON, LONGEST_REASON = 10, 500
LONGEST_BY = 60
_PLACEHOLDER = re.compile(r"\[[A-Z_]+\]")


class StatementError(ValueError):
    """A reason that says nothing or too much, or a decision of nobody."""


def stated_reason(text: str, decision: str, *, vocabulary: Vocabulary | None = None) -> str:
    """Return a reason in one line, free of personal data; `decision` names what it is for, such as "an override".

    Raises:
        StatementError: it says nothing or too much.
    """
    typed = one_line(text)
    # What is longer is refused anyway; redaction need not read a book first.
    reason = redact(typed[: 4 * LONGEST_REASON], vocabulary=vocabulary).text
    said = _PLACEHOLDER.sub("", reason)
    if len(typed) > 4 * LONGEST_REASON or len(said) > LONGEST_REASON:
        raise StatementError(f"the reason has {len(typed)} characters: say it in at most {LONGEST_REASON}")
    if sum(one.isalnum() for one in said) < SHORTEST_REASON:
        raise StatementError(
            f"{decision} needs a reason of {SHORTEST_REASON} to {LONGEST_REASON} characters that somebody can "
            f"understand later, personal data not counted: got {reason!r}"
        )
    return reason


def stated_by(text: str, decision: str) -> str:
    """Return who decided.

    A name may stand, for somebody answers for it; mail addresses and numbers become placeholders.

    Raises:
        StatementError: nobody, or more than a name.
    """
    by = one_line(text)
    if not by or len(by) > LONGEST_BY:
        raise StatementError(f"{decision} is by somebody: give a name or a role of 1 to {LONGEST_BY} characters")
    pieces, position = [], 0
    for finding in find_personal_data(by):
        if finding.kind is not Kind.NAME:
            pieces += [by[position : finding.start], f"[{finding.kind}]"]
            position = finding.end
    return "".join([*pieces, by[position:]])


def one_line(text: str) -> str:
    """Return a text without control characters and line ends, with single spaces."""
    kept = "".join(" " if unicodedata.category(one)[0] in "CZ" else one for one in text)
    return " ".join(kept.split())
