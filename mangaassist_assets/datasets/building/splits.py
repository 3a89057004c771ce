"""Which side an example is on: train, validation or test, now and in every later version.

The rule has no memory, so it cannot be changed by what comes later: the side is a hash of the shopper if the trace
knows one, else of the session, else of the text's near-duplicate group. All that one shopper (or one anonymous
session) wrote is therefore on one side for ever. Two shoppers may write nearly the same message on different sides;
moving either would make an example cross, so the copy on the weaker side is *dropped* (test is stronger than
validation, validation than train; `selection`). An example can disappear from train when its twin arrives in test; it
can never change sides.

Bootstrap examples have neither shopper nor session, and often many paraphrases of one template. Groups found by
comparing messages would grow together as data comes in, and a group that joins two sides would have to move one. So
the group is a hash of the message's own words (`near_duplicates.group_key`), which near-duplicates share about every
other time. What it separates is dropped like any other copy: of Bitext's 19,590 messages, which are made of templates,
27 % instead of the 42 % that a hash of the whole message costs; of hwu64's 5 % instead of 7 %.

An intent all of whose bootstrap examples fall outside train could not be learned, so the one with the smallest hash is
put into train. That exception does depend on what else there is; `pinned`, the sides of the version before, keeps it
where it was when the bootstrap data grows.

Where labels of traffic are tested by models that have not seen them (`folds`), they are on no test side at all: what
the hash puts there is in train.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mangaassist_assets.core.text_keys import normalise_text, text_digest
from mangaassist_assets.datasets.guards.near_duplicates import group_key
from mangaassist_assets.datasets.schema import Split

_BUCKETS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitShares:
    """Shares of validation and test; train gets the rest. `salt` makes an independent assignment.

    Changing any of them moves examples between sides: it starts a new history of versions.
    """

    validation: float = 0.1
    test: float = 0.2
    salt: str = "mangaassist-splits-1"

    def __post_init__(self) -> None:
        if self.validation < 0 or self.test < 0 or self.validation + self.test >= 1:
            msg = f"validation {self.validation} and test {self.test} must not be negative and leave a share for train"
            raise ValueError(msg)


DEFAULT_SHARES = SplitShares()


def assign_split(
    text: str, session_id: str | None = None, user_key: str | None = None, *, shares: SplitShares = DEFAULT_SHARES
) -> Split:
    """Return the side of one message; the same for the same shopper, whatever else the data holds."""
    return _split_of(owner_of(text, session_id, user_key), shares)


def owner_of(text: str, session_id: str | None, user_key: str | None) -> str:
    """Return what a message is kept together by: its shopper, else its session, else its near-duplicate group."""
    if user_key:
        return f"user:{user_key}"
    if session_id:
        return f"session:{session_id}"
    return f"text:{group_key(normalise_text(text))}"


def assign_taught_split(
    text: str, session_id: str | None = None, user_key: str | None = None, *, shares: SplitShares = DEFAULT_SHARES
) -> Split:
    """Return the side of a message that teaches and is tested by folds: validation by the same hash, else train."""
    side = assign_split(text, session_id, user_key, shares=shares)
    return "train" if side == "test" else side


def assign_base_splits(
    texts: Sequence[str],
    intents: Sequence[str],
    *,
    pinned: Mapping[str, Split] | None = None,
    shares: SplitShares = DEFAULT_SHARES,
) -> list[Split]:
    """Return the sides of bootstrap messages, at least one of each intent in train.

    `pinned` maps near-duplicate keys (`normalise_text`) to the sides an earlier version gave them.

    Raises:
        ValueError: `texts` and `intents` differ in length.
    """
    earlier = pinned or {}
    splits = [earlier.get(normalise_text(text)) or assign_split(text, shares=shares) for text in texts]
    in_train = {intent for intent, split in zip(intents, splits, strict=True) if split == "train"}
    for intent in sorted(set(intents) - in_train):
        # A pinned example may have been tested on: prefer one without a history.
        members = [index for index, name in enumerate(intents) if name == intent]
        fresh = [index for index in members if normalise_text(texts[index]) not in earlier]
        if not fresh and earlier:
            continue
        chosen = min(fresh or members, key=lambda index: text_digest(texts[index]))
        key = normalise_text(texts[chosen])
        for index, text in enumerate(texts):
            if normalise_text(text) == key:
                splits[index] = "train"
    return splits


def _split_of(identity: str, shares: SplitShares) -> Split:
    digest = hashlib.sha256(f"{shares.salt}\n{identity}".encode("utf-8", errors="surrogatepass")).digest()
    position = int.from_bytes(digest[:8], "big") % _BUCKETS / _BUCKETS
    if position < shares.test:
        return "test"
    return "validation" if position < shares.test + shares.validation else "train"
