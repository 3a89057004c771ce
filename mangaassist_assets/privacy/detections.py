"""What a finder reports: kind, place and strength of one piece of personal data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The kinds of personal data, as they are written in placeholders and counts."""

    EMAIL = "EMAIL"
    PHONE = "PHONE"
    ADDRESS = "ADDRESS"
    POSTAL_CODE = "POSTAL_CODE"
    ORDER_ID = "ORDER_ID"
    CARD = "CARD"
    PAYMENT_REF = "PAYMENT_REF"
    MY_NUMBER = "MY_NUMBER"
    NATIONAL_ID = "NATIONAL_ID"
    LICENSE_ID = "LICENSE_ID"
    IP_ADDRESS = "IP_ADDRESS"
    NAME = "NAME"
    PROFILE = "PROFILE"


@dataclass(frozen=True, slots=True)
class Finding:
    """One piece of personal data: `[start, end)` in characters of the text.

    `introduced` says that the words around a name claim it ("my name is"), so that no vocabulary may allow it.
    """

    start: int
    end: int
    kind: Kind
    introduced: bool = False


def resolve(findings: list[Finding]) -> list[Finding]:
    """Return findings in order of place without overlaps.

    Overlapping findings become one that covers them all, so that nothing found is left over; its kind is that of the
    one named first, because the surer finders come first.
    """
    order = sorted(range(len(findings)), key=lambda index: (findings[index].start, -findings[index].end))
    merged: list[tuple[int, Finding]] = []
    for index in order:
        finding = findings[index]
        if not merged or merged[-1][1].end <= finding.start:
            merged.append((index, finding))
            continue
        before, last = merged[-1]
        kind = last.kind if before < index else finding.kind
        introduced = last.introduced or finding.introduced
        merged[-1] = (min(before, index), Finding(last.start, max(last.end, finding.end), kind, introduced))
    return [finding for _, finding in merged]
