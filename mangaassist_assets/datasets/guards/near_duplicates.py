"""When two messages are nearly the same message: one is the other with a word more, less, misspelt or replaced.

Two ways lead there. Long messages have most of their words in common: compared are the sets of character trigrams of
the near-duplicate keys (`text_keys`), of Japanese runs the characters and pairs of characters; similarity is Jaccard's.
Which pairs are compared at all is decided by MinHash signatures in bands (Broder 1997; Leskovec, Rajaraman and Ullman,
"Mining of Massive Datasets", chapter 3): a pair at the threshold is missed once in two thousand. Of short messages one
letter takes a third of the trigrams away: they are compared word by word (`one_change`), and no pair is missed. The
hash functions are fixed, so whether two messages are near-duplicates depends on the two alone, never on what else there
is: builder and guard see the same pairs, today and in every later version.

With vectors of the messages, short ones with a word replaced count as well, if the two mean nearly the same. The
builders of datasets give none: sides would depend on the encoder, and change with it.

The relation is no equivalence: A may be near B and B near C without A being near C. Nothing here joins messages to
groups, because a group would grow with the data and take its members along.
"""

from __future__ import annotations

import functools
import hashlib
import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.datasets.guards.one_change import Words, is_one_change, rests, words_of_key

THRESHOLD = 0.8
"""From here on two messages are near-duplicates, whatever differs. On hwu64's training messages 98 % of the pairs above
it have one intent, on Bitext's all; below it begin pairs that differ in what is asked ("turn on", "turn off": 0.7)."""

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
    """What a message is compared by.

    Attributes:
        shingles: hashed to 64 bits.
        bits: one of 1,024 for each shingle, which tell most unlike messages apart at once.
        bands: the keys of its MinHash bands, of which messages with four of five shingles in common share one.
        words: the message, see `one_change`.
        rests: what messages that differ in one word share one of.
        vector: its meaning, float32 of length one; None where nobody embedded it.
    """

    shingles: frozenset[int]
    bits: int
    bands: tuple[int, ...]
    words: Words
    rests: tuple[int, ...]
    vector: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)

    def similarity(self, other: Fingerprint) -> float:
        """Return the Jaccard similarity of the two messages, 0 to 1."""
        shared = len(self.shingles & other.shingles)
        return shared / (len(self.shingles) + len(other.shingles) - shared)

    def reaches(self, threshold: float, other: Fingerprint) -> bool:
        """Return whether the similarity is the threshold or more; what rules it out at once is looked at first."""
        both = len(self.shingles) + len(other.shingles)
        unlike = (self.bits ^ other.bits).bit_count()
        return unlike * (1 + threshold) <= both * (1 - threshold) + 1e-6 and self.similarity(other) >= threshold

    def is_one_change_of(self, other: Fingerprint) -> bool:
        """Return whether the two are the same but for one word (`is_one_change`)."""
        if self.vector is None or other.vector is None:
            return is_one_change(self.words, other.words)
        return is_one_change(self.words, other.words, likeness=float(np.dot(self.vector, other.vector)))


class Fingerprints:
    """Makes fingerprints and remembers the hashes of shingles, of which there are few."""

    def __init__(self, vectors: Mapping[str, NDArray[np.float32]] | None = None) -> None:
        """Make one. `vectors` are those of keys, of length one; a key without one is compared by its words alone."""
        self._vectors = vectors or {}
        self._hashes: dict[str, int] = {}

    def of(self, keys: Sequence[str]) -> list[Fingerprint]:
        """Return the fingerprints of near-duplicate keys (`normalise_text`), in their order."""
        found: list[Fingerprint] = []
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            shingles = [frozenset(map(self._hash, _shingles(key))) for key in chunk]
            for key, one, bands in zip(chunk, shingles, _bands(shingles).tolist(), strict=True):
                words = words_of_key(key)
                found.append(
                    Fingerprint(
                        shingles=one,
                        bits=functools.reduce(operator.or_, map(_bit_of, one)),
                        bands=tuple(bands),
                        words=words,
                        rests=tuple(dict.fromkeys(rests(words))),
                        vector=self._vectors.get(key),
                    )
                )
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

    def __init__(self) -> None:
        self._items: list[tuple[str, Fingerprint]] = []
        self._by_band: dict[int, list[int]] = {}
        self._by_rest: dict[int, list[int]] = {}

    @staticmethod
    def of(keys: Sequence[str], made: Fingerprints) -> NearDuplicateIndex:
        """Return an index of near-duplicate keys, each under itself as its name."""
        index = NearDuplicateIndex()
        for key, fingerprint in zip(keys, made.of(keys), strict=True):
            index.add(key, fingerprint)
        return index

    def __len__(self) -> int:
        return len(self._items)

    def add(self, name: str, fingerprint: Fingerprint) -> None:
        """Add a message under any name."""
        number = len(self._items)
        self._items.append((name, fingerprint))
        for buckets, keys in ((self._by_rest, fingerprint.rests), (self._by_band, fingerprint.bands)):
            for key in keys:
                buckets.setdefault(key, []).append(number)

    def near(self, fingerprint: Fingerprint) -> Iterator[str]:
        """Yield the names of near-duplicates, each once, in an order that depends on what was added alone."""
        yielded: set[int] = set()
        ways = (
            (self._by_rest, fingerprint.rests, fingerprint.is_one_change_of),
            (self._by_band, fingerprint.bands, functools.partial(fingerprint.reaches, THRESHOLD)),
        )
        for buckets, keys, is_near in ways:
            looked_at = set(yielded)
            for key in keys:
                for number in buckets.get(key, ()):
                    if number in looked_at:
                        continue
                    looked_at.add(number)
                    name, other = self._items[number]
                    if is_near(other):
                        yielded.add(number)
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


def _bit_of(shingle: int) -> int:
    return _BITS[shingle & 1_023]


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
_BITS = [1 << place for place in range(1_024)]
