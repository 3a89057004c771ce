"""When two messages are nearly the same message: one is the other with a word more, less, misspelt or replaced.

Compared are the sets of character trigrams of the near-duplicate keys (`text_keys`), of Japanese runs the characters
and pairs of characters; similarity is Jaccard's. Which pairs are compared at all is decided by MinHash signatures in
bands (Broder 1997; Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3): a pair at the threshold
is missed once in two thousand. The hash functions are fixed, so whether two messages are near-duplicates depends on
the two alone, never on what else there is: builder and guard see the same pairs, today and in every later version.

The relation is no equivalence: A may be near B and B near C without A being near C. Nothing here joins messages to
groups, because a group would grow with the data and take its members along.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

THRESHOLD = 0.8
"""From here on two messages are near-duplicates. On hwu64's training messages 98 % of the pairs above it have one
intent, on Bitext's all; below it begin pairs that differ in what is asked ("turn on", "turn off": 0.7)."""

_WINDOW_MS = 10 * 60 * 1000
# Looser than a near-duplicate: whom nobody understood says it again in other words, and at once.
_SAME_CONVERSATION = 0.6
_BANDS = 20
_ROWS = 5
_CHUNK = 8_192
_JAPANESE = re.compile(r"[぀-ヿ㐀-鿿]+")
_GOLDEN_RATIO = 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a message is compared by: its shingles, hashed to 64 bits, and the keys of its MinHash bands."""

    shingles: frozenset[int]
    bands: tuple[int, ...]

    def similarity(self, other: Fingerprint) -> float:
        """Return the Jaccard similarity of the two messages, 0 to 1."""
        shared = len(self.shingles & other.shingles)
        return shared / (len(self.shingles) + len(other.shingles) - shared)

    def reaches(self, threshold: float, other: Fingerprint) -> bool:
        """Return whether the similarity is the threshold or more; lengths that rule it out are compared first."""
        fewer, more = sorted((len(self.shingles), len(other.shingles)))
        return fewer >= threshold * more and self.similarity(other) >= threshold


class Fingerprints:
    """Makes fingerprints and remembers the hashes of shingles, of which there are few."""

    def __init__(self) -> None:
        self._hashes: dict[str, int] = {}

    def of(self, keys: Sequence[str]) -> list[Fingerprint]:
        """Return the fingerprints of near-duplicate keys (`normalise_text`), in their order."""
        found: list[Fingerprint] = []
        for start in range(0, len(keys), _CHUNK):
            shingles = [frozenset(map(self._hash, _shingles(key))) for key in keys[start : start + _CHUNK]]
            found += [
                Fingerprint(one, tuple(bands)) for one, bands in zip(shingles, _bands(shingles).tolist(), strict=True)
            ]
        return found

    def _hash(self, shingle: str) -> int:
        known = self._hashes.get(shingle)
        if known is None:
            encoded = shingle.encode("utf-8", errors="surrogatepass")
            known = int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "big")
            self._hashes[shingle] = known
        return known


class NearDuplicateIndex:
    """Messages seen so far; says which of them a message is a near-duplicate of, itself included if it is there."""

    def __init__(self, *, threshold: float = THRESHOLD) -> None:
        """Make an empty index.

        Raises:
            ValueError: the threshold is lower than the bands can find (0.7), or above 1.
        """
        if not 0.7 <= threshold <= 1:
            raise ValueError(f"a threshold of {threshold} cannot be searched for: choose one from 0.7 to 1")
        self._threshold = threshold
        self._items: list[tuple[str, Fingerprint]] = []
        self._buckets: dict[int, list[int]] = {}

    @staticmethod
    def of(keys: Sequence[str], made: Fingerprints) -> NearDuplicateIndex:
        """Return an index of near-duplicate keys, each under itself as its name."""
        index = NearDuplicateIndex()
        for key, fingerprint in zip(keys, made.of(keys), strict=True):
            index.add(key, fingerprint)
        return index

    def __len__(self) -> int:
        """Return how many messages were added."""
        return len(self._items)

    def add(self, name: str, fingerprint: Fingerprint) -> None:
        """Add a message under any name."""
        number = len(self._items)
        self._items.append((name, fingerprint))
        for band in fingerprint.bands:
            self._buckets.setdefault(band, []).append(number)

    def near(self, fingerprint: Fingerprint) -> Iterator[str]:
        """Yield the names of near-duplicates, each once, in an order that depends on what was added alone."""
        looked_at: set[int] = set()
        for band in fingerprint.bands:
            for number in self._buckets.get(band, ()):
                if number in looked_at:
                    continue
                looked_at.add(number)
                name, other = self._items[number]
                if fingerprint.reaches(self._threshold, other):
                    yield name

    def has_near(self, fingerprint: Fingerprint) -> bool:
        """Return whether there is a near-duplicate."""
        return next(self.near(fingerprint), None) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """A message with who wrote it and when."""

    name: str
    fingerprint: Fingerprint
    timestamp_ms: int
    session_id: str
    user_key: str | None

    def continues(self, other: Spoken) -> bool:
        """Return whether the two are probably one conversation; two known shoppers never are."""
        return (
            self.session_id != other.session_id
            and not (self.user_key and other.user_key)
            and abs(self.timestamp_ms - other.timestamp_ms) <= _WINDOW_MS
            and self.fingerprint.reaches(_SAME_CONVERSATION, other.fingerprint)
        )


class Conversations:
    """Messages by the time they were written, so that only those minutes apart are compared.

    A session that ends and another that begins a moment later with nearly the same words (somebody logs in, or starts
    anew) look like two shoppers. On two sides of a dataset they would be one conversation in train and in test.
    """

    def __init__(self) -> None:
        self._by_window: dict[int, list[Spoken]] = {}

    def add(self, spoken: Spoken) -> None:
        """Add a message."""
        self._by_window.setdefault(spoken.timestamp_ms // _WINDOW_MS, []).append(spoken)

    def continued_by(self, spoken: Spoken) -> Iterator[str]:
        """Yield the names of messages that this one is probably one conversation with, in an order that is fixed."""
        window = spoken.timestamp_ms // _WINDOW_MS
        for near in (window - 1, window, window + 1):
            for other in self._by_window.get(near, ()):
                if spoken.continues(other):
                    yield other.name


def group_key(key: str) -> str:
    """Return a name that near-duplicates often share and other messages hardly ever; it depends on the message alone.

    Two messages of similarity J share it with probability J⁴: it is the smallest shingle under four fixed orders. Fewer
    orders would bring more near-duplicates together, and hundreds of messages that only begin alike with them.
    """
    shingles = _shingles(key)
    return "\n".join(min(shingles, key=lambda one: (_rank(order, one), one)) for order in ("1", "2", "3", "4"))


def _rank(order: str, shingle: str) -> bytes:
    return hashlib.blake2b(f"group/{order}/{shingle}".encode("utf-8", errors="surrogatepass"), digest_size=8).digest()


def _shingles(key: str) -> set[str]:
    found: set[str] = set()
    for run in _JAPANESE.findall(key):
        found.update(run)
        found.update(run[start : start + 2] for start in range(len(run) - 1))
    words = f" {' '.join(_JAPANESE.sub(' ', key).split())} "
    if words.strip():
        found.update(words[start : start + 3] for start in range(len(words) - 2))
    return found or {key}


def _bands(shingles: Sequence[frozenset[int]]) -> NDArray[np.uint64]:
    """Return the band keys of messages, uint64 of shape (messages, bands)."""
    flat = np.fromiter((hashed for one in shingles for hashed in one), dtype=np.uint64)
    starts = np.cumsum([0, *(len(one) for one in shingles[:-1])])
    keys = np.zeros((len(shingles), _BANDS), dtype=np.uint64)
    for number, (factor, summand) in enumerate(_FUNCTIONS):
        smallest = np.minimum.reduceat((flat * factor + summand) >> np.uint64(32), starts)
        band = number // _ROWS
        keys[:, band] = (keys[:, band] ^ smallest) * np.uint64(_GOLDEN_RATIO) + np.uint64(band + 1)
    return keys


def _functions() -> list[tuple[np.uint64, np.uint64]]:
    """Return fixed hash functions x → (factor · x + summand) mod 2^64, of which the high half counts."""
    numbers = [
        int.from_bytes(hashlib.blake2b(f"near-duplicates-1/{number}".encode(), digest_size=16).digest(), "big")
        for number in range(_BANDS * _ROWS)
    ]
    return [(np.uint64((one >> 64) | 1), np.uint64(one & (2**64 - 1))) for one in numbers]


_FUNCTIONS = _functions()
