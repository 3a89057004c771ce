"""When two messages differ in one place only: a word misspelt, more, less, or another one.

A word is what stands between spaces; Japanese, which has none, is compared by characters, of which one to four next to
each other are a word. What two messages have in common at their beginnings and ends is taken away, and what is left of
each is compared: nothing against a word is an addition, two words of one edit (Damerau's: a letter more, less, another,
or two swapped; of long words two) are a misspelling, two other words are a replacement.

A replacement is the same message where enough is left around it. Of fewer words it is where the two mean nearly the
same, which only vectors can say: "start the radio" and "open the radio" do, "next alarm" and "cancel alarm" do not.
Without vectors short messages with a word replaced stay two. A word that denies, and a Chinese character for another,
are never a slip of the pen.

Pairs are found by what is left of a message when a word is taken out of it (as SymSpell finds words by letters taken
out): two messages that differ in one place have such a rest in common.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rapidfuzz.distance import OSA

Words = tuple[str, ...]

JAPANESE = r"぀-ヿ㐀-鿿々"
_PIECE = re.compile(rf"[{JAPANESE}]|[^\s{JAPANESE}]+")
_IS_JAPANESE = re.compile(rf"[{JAPANESE}]")
_HAS_IDEOGRAPH = re.compile(r"[㐀-鿿々]")

# Longer messages than these that differ in one word have four of five shingles in common anyway.
_MOST_WORDS = 30
_MOST_CHARACTERS = 60
_JAPANESE_WORD = 4
# Who misspells a word of two letters wrote another word; in a long one two letters may be wrong.
_SHORTEST_MISSPELT = 3
_TWICE_MISSPELT = 9
# So many words around a replaced one, or characters of Japanese, say what is asked.
_ENOUGH_WORDS = 5
_ENOUGH_CHARACTERS = 14
# Cosine by the number of words; of Japanese two characters are one. Between these the planted and the real ones lie
# farthest apart (`benchmarks/bench_near_duplicates.py`).
_LIKE_MEANING = (1.0, 1.0, 0.38, 0.48, 0.53, 0.58)
_DENYING = frozenset(
    """
    no not never none nothing without cannot cant dont doesnt didnt wont wouldnt isnt arent wasnt t
    ない なく ません ませ せん ず ぬ なし
    """.split()  # noqa: SIM905  # a list of quoted words reads worse
)


def words_of_key(key: str) -> Words:
    """Return the words of a near-duplicate key, of Japanese the characters."""
    return tuple(_PIECE.findall(key))


def rests(words: Words) -> Iterator[int]:
    """Yield hashes, of this process, of the message and of what is left when a word is taken out; too long ones: none.

    Of one word the letters are taken out.
    """
    yield hash("".join(words))
    japanese = [bool(_IS_JAPANESE.match(word)) for word in words]
    if len(words) > (_MOST_CHARACTERS if any(japanese) else _MOST_WORDS):
        return
    if len(words) == 1:
        word = words[0][:_MOST_CHARACTERS]
        yield from (hash(word[:place] + word[place + 1 :]) for place in range(len(word)))
    yield hash(words)
    for start in range(len(words)):
        for end in range(start + 1, start + 1 + (_JAPANESE_WORD if japanese[start] else 1)):
            if end > len(words) or (end > start + 1 and not japanese[end - 1]):
                break
            if rest := words[:start] + words[end:]:
                yield hash(rest)


def is_one_change(first: Words, second: Words, *, likeness: float | None = None) -> bool:
    """Return whether two messages are the same but for one word.

    `likeness` is the cosine of their vectors, -1 to 1; None where there are none.
    """
    if "".join(first) == "".join(second):
        return True
    begin = _common(first, second)
    end = _common(first[begin:][::-1], second[begin:][::-1])
    before, after = first[begin : len(first) - end], second[begin : len(second) - end]
    if not (_is_a_word(before) and _is_a_word(after)):
        return False
    one, other = "".join(before), "".join(after)
    if (one in _DENYING) != (other in _DENYING):
        return False
    kept = first[:begin] + first[len(first) - end :]
    if not (one and other):
        return bool(kept)
    return _is_misspelt(one, other) or _says_the_same(kept, likeness)


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count


def _is_a_word(part: Words) -> bool:
    return len(part) <= 1 or (len(part) <= _JAPANESE_WORD and all(map(_IS_JAPANESE.match, part)))


def _is_misspelt(one: str, other: str) -> bool:
    if _IS_JAPANESE.match(one) or _IS_JAPANESE.match(other):
        # What the two have in common is taken away already: a character is another one, or two are swapped.
        return not _HAS_IDEOGRAPH.search(one + other) and OSA.distance(one, other, score_cutoff=1) <= 1
    longest = max(len(one), len(other))
    if longest < _SHORTEST_MISSPELT or (one.isdecimal() and other.isdecimal()):
        return False
    allowed = 2 if longest >= _TWICE_MISSPELT else 1
    return OSA.distance(one, other, score_cutoff=allowed) <= allowed


def _says_the_same(kept: Words, likeness: float | None) -> bool:
    characters = sum(map(bool, map(_IS_JAPANESE.match, kept)))
    words = len(kept) - characters
    if words >= _ENOUGH_WORDS or characters + 2 * words >= _ENOUGH_CHARACTERS:
        return True
    around = words + characters // 2
    return likeness is not None and likeness >= _LIKE_MEANING[min(around + 1, len(_LIKE_MEANING) - 1)]
