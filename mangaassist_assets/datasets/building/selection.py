"""Which labelled messages make it into a dataset: one copy of each, no crossing, no shopper with too much weight.

The sides are filled one after the other, test first. So what is dropped from train is dropped for something that *is*
in test or validation, not for something that was dropped itself: messages that a cap keeps out push out nothing. It
also makes choosing again a matter of course: with the version that came out among the earlier ones, the same comes out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from mangaassist_assets.core.text_keys import normalise_text
from mangaassist_assets.datasets.guards.leakage import NO_HOLDOUT_HISTORY, HoldoutHistory
from mangaassist_assets.datasets.guards.limits import Caps
from mangaassist_assets.datasets.guards.near_duplicates import (
    Conversations,
    Fingerprint,
    Fingerprints,
    NearDuplicateIndex,
    Spoken,
)
from mangaassist_assets.datasets.schema import TRUST, ExampleKind, Split


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetCandidate:
    """A labelled message before selection. `key` is its near-duplicate key; base examples have no shopper."""

    example_id: str
    key: str
    split: Split
    kind: ExampleKind
    timestamp_ms: int = 0
    session_id: str | None = None
    user_key: str | None = None

    @property
    def order(self) -> tuple[int, int, str]:
        """Most trusted first, then oldest: growing data does not displace what was there."""
        return (TRUST[self.kind], self.timestamp_ms, self.example_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The example ids that stay, and how many went for which reason."""

    kept: frozenset[str]
    excluded: Counter[str]


def select(
    candidates: Sequence[DatasetCandidate],
    *,
    caps: Caps,
    golden_texts: Sequence[str] = (),
    holdout_history: HoldoutHistory = NO_HOLDOUT_HISTORY,
    cross_fitted: bool = False,
) -> Selection:
    """Choose among candidates with distinct ids.

    In this order: near-duplicates of the golden set (`golden_texts`) go; guesses (propagated labels)
    stay in train only. Then side by side, test, validation, train, the most trusted and oldest first: what is on a
    stronger side already (message, near-duplicate, shopper, session of somebody who logged in halfway, the same
    conversation minutes apart) goes; of copies on one side one stays; what exceeds a cap goes; what is in
    `holdout_history` (the example, a near-duplicate, the session or shopper) stays in test only.

    `cross_fitted` says that labels of traffic are tested by models that have not seen them. Then the test side is the
    corpus's alone, and what people labelled in traffic comes first: the test copy of such a message goes, so that what
    many shoppers send may teach, and `holdout_history` holds back nothing but the corpus.
    """
    made = Fingerprints()
    prints = made.of([one.key for one in candidates])
    fingerprints = {one.example_id: fingerprint for one, fingerprint in zip(candidates, prints, strict=True)}
    excluded: Counter[str] = Counter()
    golden = NearDuplicateIndex.of(sorted({normalise_text(text) for text in golden_texts}), made)
    sides: dict[Split, list[DatasetCandidate]] = {"test": [], "validation": [], "train": []}
    labelled = NearDuplicateIndex()
    for candidate in candidates if cross_fitted else ():
        if candidate.kind == "human" and not golden.has_near(fingerprints[candidate.example_id]):
            labelled.add(candidate.example_id, fingerprints[candidate.example_id])
    for candidate in candidates:
        if golden.has_near(fingerprints[candidate.example_id]):
            excluded["in the golden set"] += 1
        elif candidate.split == "test" and labelled.has_near(fingerprints[candidate.example_id]):
            excluded["test copy of a message that people labelled"] += 1
        elif candidate.kind == "propagated" and candidate.split != "train":
            excluded["propagated label outside train"] += 1
        else:
            sides[candidate.split].append(candidate)
    filled = _Filled(
        caps=caps,
        holdout_history=holdout_history,
        holdout_messages=NearDuplicateIndex.of(sorted(holdout_history.messages), made),
        cross_fitted=cross_fitted,
    )
    for members in sides.values():
        for candidate in sorted(members, key=lambda one: one.order):
            fingerprint = fingerprints[candidate.example_id]
            reason = filled.reason(candidate, fingerprint)
            if reason:
                excluded[reason] += 1
            else:
                filled.keep(candidate, fingerprint)
    return Selection(kept=frozenset(filled.sides), excluded=excluded)


@dataclass(slots=True)
class _Filled:
    """The sides as far as they are filled; `sides` is example id → side."""

    caps: Caps
    holdout_history: HoldoutHistory
    holdout_messages: NearDuplicateIndex
    cross_fitted: bool
    sides: dict[str, Split] = field(default_factory=dict)
    _keys: dict[str, Split] = field(default_factory=dict)
    _owners: dict[tuple[str, str], Split] = field(default_factory=dict)
    _used: Counter[tuple[str, str]] = field(default_factory=Counter)
    _messages: NearDuplicateIndex = field(default_factory=NearDuplicateIndex)
    _conversations: Conversations = field(default_factory=Conversations)

    def reason(self, candidate: DatasetCandidate, fingerprint: Fingerprint) -> str | None:
        """Return why a candidate does not fit beside what is kept, None if it does."""
        side = candidate.split
        copy = self._keys.get(candidate.key)
        if copy is not None:
            return "duplicate message" if copy == side else f"same message in {copy}"
        alike = [self.sides[name] for name in self._messages.near(fingerprint)]
        elsewhere = next((other for other in alike if other != side), None)
        if elsewhere is not None:
            return f"nearly the same message in {elsewhere}"
        for kind, name in _owners(candidate):
            other = self._owners.get((kind, name), side)
            if other != side:
                return f"same {kind} in {other}"
        if (spoken := _spoken(candidate, fingerprint)) is not None:
            continued = (self.sides[name] for name in self._conversations.continued_by(spoken))
            stronger = next((other for other in continued if other != side), None)
            if stronger is not None:
                return f"same conversation in {stronger}"
        return self._over_a_cap(candidate, alike) or self._in_holdout_history(candidate, fingerprint)

    def keep(self, candidate: DatasetCandidate, fingerprint: Fingerprint) -> None:
        """Put a candidate on its side."""
        self.sides[candidate.example_id] = candidate.split
        self._keys[candidate.key] = candidate.split
        self._messages.add(candidate.example_id, fingerprint)
        for owner in _owners(candidate):
            self._used[owner] += 1
            self._owners[owner] = candidate.split
        if (spoken := _spoken(candidate, fingerprint)) is not None:
            self._conversations.add(spoken)

    def _over_a_cap(self, candidate: DatasetCandidate, alike: Sequence[Split]) -> str | None:
        if len(alike) >= self.caps.per_near_duplicate:
            return "over the cap per near-duplicate"
        limits = {"shopper": self.caps.per_user, "session": self.caps.per_session}
        over = [kind for kind, name in _owners(candidate) if self._used[kind, name] >= limits[kind]]
        return f"over the cap per {over[0]}" if over else None

    def _in_holdout_history(self, candidate: DatasetCandidate, fingerprint: Fingerprint) -> str | None:
        if candidate.split == "test" or (self.cross_fitted and candidate.kind != "base"):
            return None
        known = (
            candidate.example_id in self.holdout_history.examples
            or candidate.session_id in self.holdout_history.sessions
            or candidate.user_key in self.holdout_history.users
            or self.holdout_messages.has_near(fingerprint)
        )
        return "an earlier version was tested on it" if known else None


def _owners(candidate: DatasetCandidate) -> list[tuple[str, str]]:
    named = (("shopper", candidate.user_key), ("session", candidate.session_id))
    return [(kind, name) for kind, name in named if name]


def _spoken(candidate: DatasetCandidate, fingerprint: Fingerprint) -> Spoken | None:
    """Return a turn's message with its place in time; None for base examples, which nobody spoke."""
    if candidate.session_id is None:
        return None
    return Spoken(
        name=candidate.example_id,
        fingerprint=fingerprint,
        timestamp_ms=candidate.timestamp_ms,
        session_id=candidate.session_id,
        user_key=candidate.user_key,
    )
