"""Which labelled messages make it into a dataset: one copy of each, no crossing, no shopper with too much weight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mangaassist_assets.datasets.splits import Split, stronger_side
from mangaassist_assets.datasets.text_keys import normalise_text

ExampleKind = Literal["base", "human", "judge", "propagated"]
_TRUST: dict[ExampleKind, int] = {"base": 0, "human": 1, "judge": 2, "propagated": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
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
        return (_TRUST[self.kind], self.timestamp_ms, self.example_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """How many examples one shopper and one session may contribute: nobody teaches the model alone."""

    per_user: int = 10
    per_session: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The example ids that stay, and how many went for which reason."""

    kept: frozenset[str]
    excluded: Counter[str]


def select(candidates: Sequence[Candidate], *, caps: Caps, held_out: frozenset[str] = frozenset()) -> Selection:
    """Choose among candidates with distinct ids.

    In this order: messages of the golden set (`held_out`, near-duplicate keys) go; guesses (propagated labels) stay in
    train only; of a message or a session that is on two sides (somebody logged in halfway) what is on the weaker side
    goes; of copies on one side the most trusted, oldest one stays; what exceeds a cap goes.
    """
    excluded: Counter[str] = Counter()
    admitted = [one for one in candidates if not _refused(one, held_out, excluded)]
    one_sided = _on_stronger_sides(admitted, excluded)
    kept: set[str] = set()
    taken: set[str] = set()
    used: Counter[tuple[str, str]] = Counter()
    for candidate in sorted(one_sided, key=lambda one: one.order):
        if candidate.key in taken:
            excluded["duplicate message"] += 1
            continue
        shopper = ("shopper", candidate.user_key) if candidate.user_key else None
        session = ("session", candidate.session_id) if candidate.session_id else None
        if shopper and used[shopper] >= caps.per_user:
            excluded["over the cap per shopper"] += 1
            continue
        if session and used[session] >= caps.per_session:
            excluded["over the cap per session"] += 1
            continue
        kept.add(candidate.example_id)
        taken.add(candidate.key)
        used.update(owner for owner in (shopper, session) if owner)
    return Selection(kept=frozenset(kept), excluded=excluded)


def _refused(candidate: Candidate, held_out: frozenset[str], excluded: Counter[str]) -> bool:
    if candidate.key in held_out:
        excluded["in the golden set"] += 1
        return True
    if candidate.kind == "propagated" and candidate.split != "train":
        excluded["propagated label outside train"] += 1
        return True
    return False


def _on_stronger_sides(candidates: Sequence[Candidate], excluded: Counter[str]) -> list[Candidate]:
    messages: dict[str, Split] = {}
    sessions: dict[str, Split] = {}
    for one in candidates:
        messages[one.key] = stronger_side(messages.get(one.key, one.split), one.split)
        if one.session_id:
            sessions[one.session_id] = stronger_side(sessions.get(one.session_id, one.split), one.split)
    staying: list[Candidate] = []
    for one in candidates:
        if messages[one.key] != one.split:
            excluded[f"same message in {messages[one.key]}"] += 1
        elif one.session_id and sessions[one.session_id] != one.split:
            excluded[f"same session in {sessions[one.session_id]}"] += 1
        else:
            staying.append(one)
    return staying


def held_out_keys(texts: Sequence[str]) -> frozenset[str]:
    """Return the near-duplicate keys of a golden set's messages."""
    return frozenset(normalise_text(text) for text in texts)
