"""What one word is worth as part of a name, by list and case."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum

from mangaassist_assets.privacy.names import cues
from mangaassist_assets.privacy.names.common_words import NEVER
from mangaassist_assets.privacy.names.lexicon import Lexicon

# Open syllables only ("Naruto", "Kagurabachi"): the shape of Japanese words, which are titles and characters here.
_ROMAJI = re.compile(r"(?:(?:[kgsztdnhbpmyrwjf]|ch|sh|ts|[kgnhbpmr]y)?[aiueoāīūēō]+n?|[kstp](?=[kstp]))+")


_SENTENCE_END = re.compile(r"[.!?][\"'”)\]]{0,2}\s|\n")
_CONTRACTED = ("'m", "'ve", "'ll", "'d", "'re", "'t")
_PRONOUN = frozenset({"i", "i'm", "i've", "i'll", "i'd"})
Token = tuple[int, int, str]


class Casing(Enum):
    """How a text uses capitals, and so what a capital means."""

    WRITTEN = "capitals begin sentences and names"
    HEADLINE = "Capitals Begin Most Words"
    CASELESS = "no capitals, or nothing else; but signs between sentences"
    SPOKEN = "neither capitals nor signs: speech turned into text"
    ANSWER = "the same in up to four words, or with a code behind: the answer to a question for the name"


def casings_of(text: str, tokens: Sequence[Token], folded: Sequence[str], lists: Lexicon) -> list[Casing]:
    """Return for each word how its sentence uses capitals; "hi. my name is ann. Thanks" uses them in two ways."""
    found: list[Casing] = []
    first = 0
    lines = "\n" in text
    signs = lines or cues.PUNCTUATION.search(text) is not None
    for index in range(1, len(tokens) + 1):
        if index < len(tokens):
            end, start = tokens[index - 1][1], tokens[index][0]
            # Most words are a space apart, and only a full stop that the word before took along ends its sentence.
            if start - end == 1 and text[end - 1] != "." and text[end] != "\n":
                continue
            if _SENTENCE_END.search(text, end - 1, start) is None:
                continue
        words = [token for _, _, token in tokens[first:index]]
        casing = _casing(
            text if index - first == len(tokens) else "", words, folded[first:index], lists, signs=signs, lines=lines
        )
        found += [casing] * (index - first)
        first = index
    return found


def _casing(
    message: str, tokens: Sequence[str], folded: Sequence[str], lists: Lexicon, *, signs: bool, lines: bool
) -> Casing:
    """Return how a sentence uses capitals; words that are clearly names have theirs by right and are not counted.

    `message` is the text of a message of one sentence. The pronoun "I" is written as one whatever the rest is.
    """
    # "… to jane doe Which volume is it": the full stop was forgotten, and that capital says nothing of the others.
    capitals = [token[0].isupper() and word not in _PRONOUN for token, word in zip(tokens, folded, strict=True)]
    telling = [one and not (index and folded[index] in NEVER) for index, one in enumerate(capitals)]
    if not any(telling) or (len(tokens) > 1 and all(token.isupper() for token in tokens)):
        if signs:
            return Casing.CASELESS
        with_code = any(character.isdigit() for character in message) and sum(len(token) > 3 for token in tokens) <= 3
        return Casing.ANSWER if len(tokens) <= 4 or with_code else Casing.SPOKEN
    if lines or len(tokens) < 2:
        return Casing.WRITTEN
    several = len(tokens) >= 5
    others = [
        capital
        for capital, word in zip(capitals, folded, strict=True)
        if not (several and (word in lists.clear_given or word in lists.clear_family or word in lists.doubtful))
    ]
    return Casing.HEADLINE if others and sum(others) > (0.6 if several else 0.99) * len(others) else Casing.WRITTEN


def word_weight(word: str, token: str, lists: Lexicon, casing: Casing, *, begins: bool) -> tuple[float, bool]:
    """Return what a word is worth as a name, and whether a list holds it.

    `word` is in lower case, without "'s"; `token` is the word as written; `begins`: a sentence, where a capital is due.
    """
    parts = word.split("-") if "-" in word else (word,)
    # "Pre-orders", "max-width": a word of the dictionary in a compound makes the whole an ordinary word.
    ordinary = len(parts) > 1 and any(part in lists.words and part not in lists.doubtful for part in parts)
    if ordinary or word.endswith(_CONTRACTED):
        return 0.0, False
    given = any(part in lists.clear_given for part in parts)
    family = not given and any(part in lists.clear_family for part in parts)
    if casing in {Casing.CASELESS, Casing.SPOKEN, Casing.ANSWER}:
        return _without_case(word, lists, casing, begins=begins, given=given, family=family), given or family
    if not token[0].isupper() or word in cues.ORGANIZATION or word in cues.SUFFIXES:
        return 0.0, False
    headline = casing is Casing.HEADLINE
    if given or family:
        return (2.2 if given else 1.9) - 0.6 * headline, True
    if any(part in lists.rare_family for part in parts):
        return (0.8 if headline else 1.0 if begins else 1.5), True
    return _unlisted(word, token, lists, headline=headline, begins=begins), False


def _unlisted(word: str, token: str, lists: Lexicon, *, headline: bool, begins: bool) -> float:
    if word in lists.doubtful:
        return 0.3 if headline else 0.6 if begins else 1.4
    if word in lists.places:
        return 0.5 if begins else 1.0
    if word in lists.words or (token.isupper() and len(token) > 1):
        return 0.0
    return _unknown(word, token, headline=headline, begins=begins)


def _unknown(word: str, token: str, *, headline: bool, begins: bool) -> float:
    if cues.FAMILY_FORM.search(word) or cues.CAPITAL_INSIDE.match(token):
        return 1.3 if headline else 1.8
    if headline:
        return 0.3
    return (0.6 if begins else 0.8) if _ROMAJI.fullmatch(word) else 0.7 if begins else 1.2


def _without_case(word: str, lists: Lexicon, casing: Casing, *, begins: bool, given: bool, family: bool) -> float:
    known = word in lists.words or word in lists.places or word in cues.PARTICLES or len(word) < 4
    if casing is not Casing.CASELESS:
        # "call sarah" is no answer: a word of the dictionary may only follow.
        possible = not known or (word in lists.doubtful and not begins)
        unknown = 0.3 if casing is Casing.ANSWER and possible else 0.0
        return 0.7 if given else 0.6 if family else unknown
    if given or family:
        return 0.9 if len(word) < 4 else 2.0 if given else 1.7
    if word in lists.doubtful:
        return 0.8
    return 0.0 if known else 1.2 if cues.FAMILY_FORM.search(word) else 0.5
