"""What a finder reports: kind, place and strength of one piece of personal data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The kinds of personal data, and secrets, as they are written in placeholders and counts."""

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
    SECRET = "SECRET"  # noqa: S105 - the name of a kind


@dataclass(frozen=True, slots=True)
class Detection:
    """One piece of personal data: `[start, end)` in characters of the text.

    `introduced` says that the words around a name claim it ("my name is"), so that no vocabulary may allow it.
    """

    start: int
    end: int
    kind: Kind
    introduced: bool = False


def resolve(detections: list[Detection]) -> list[Detection]:
    """Return detections in order of place without overlaps.

    Overlapping detections become one that covers them all, so that nothing found is left over; its kind is that of the
    one named first, because the surer finders come first.
    """
    order = sorted(range(len(detections)), key=lambda index: (detections[index].start, -detections[index].end))
    merged: list[tuple[int, Detection]] = []
    for index in order:
        detection = detections[index]
        if not merged or merged[-1][1].end <= detection.start:
            merged.append((index, detection))
            continue
        before, last = merged[-1]
        kind = last.kind if before < index else detection.kind
        introduced = last.introduced or detection.introduced
        merged[-1] = (min(before, index), Detection(last.start, max(last.end, detection.end), kind, introduced))
    return [detection for _, detection in merged]
