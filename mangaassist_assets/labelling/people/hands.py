"""Whether one person reviews, or several: one hand alone decides where it is the only one there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from mangaassist_assets.labelling.people.policy import person_key

SECOND_HAND = 5
"""Labels that the second person must stand behind: somebody who tried it out once changes nothing for the others."""


def several_review(people: Iterable[Collection[str]]) -> bool:
    """Whether more than one person reviews in earnest; `people` are those behind each label."""
    counted = labels_by_person(people)
    return len(counted) > 1 and sorted(counted.values())[-2] >= SECOND_HAND


def labels_by_person(people: Iterable[Collection[str]]) -> Counter[str]:
    """Return how many labels each person stands behind, by `person_key`."""
    return Counter(key for behind in people for key in {person_key(one) for one in behind})
