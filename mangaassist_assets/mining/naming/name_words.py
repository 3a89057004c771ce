"""Words that may stand in a name that people read: subjects of a message, never its markup, links or figures.

Latin-like words are folded in case and counted by stem, so that "refund" and "refunds" are one. Japanese is cut by
Sudachi (`japanese_words`). What a hostile message may carry is cut out before words are looked for: control and
invisible characters, tags, links, addresses, placeholders. A word holds letters and digits, at most hyphens between.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from mangaassist_assets.mining.naming.japanese_words import JAPANESE, japanese_words

# Nobody's subject stands only after this many characters, and hostile texts may be megabytes.
_READ_CHARACTERS = 2_000
_LONGEST_WORD = 24
_MOST_DIGITS = 2

_CUT = re.compile(
    r"""
      \[[A-Z][A-Z_]{1,30}(?:_[0-9a-z]{2})?\] | <[A-Z][A-Z_]{1,30}>      # redaction placeholders
    | </?[A-Za-z!][^<>]{0,500}>? | &\#?[A-Za-z0-9]{1,10};               # tags and entities
    | [A-Za-z][A-Za-z0-9+]{1,9}:/\S{0,1000} | \bjavascript:\S{0,1000}   # links with a scheme
    | \S{1,200}@\S{1,200}                                               # addresses of any kind
    | [A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}(?:/\S{0,1000})?   # host names
    """,
    re.VERBOSE,
)
# A figure stays with its counter: 第100巻.
_JAPANESE_PIECE = rf"(?:[0-9]+(?=[{JAPANESE}]))?[{JAPANESE}]+(?:[0-9]+[{JAPANESE}]+)*"
_PIECE = re.compile(rf"{_JAPANESE_PIECE}|[^\W_{JAPANESE}]+(?:['’-][^\W_{JAPANESE}]+)*")
_IS_JAPANESE = re.compile(f"[{JAPANESE}]")
_NEGATION = re.compile(r"not|never|cannot|[a-z]{2,7}n['’]t")
_CONTRACTION = re.compile(r"[a-z]{1,6}['’](?:d|ll|m|re|ve)")
_APOSTROPHE = re.compile(r"['’]s$|['’]")
_CUT_SIGN = re.compile(r"[\[<&:@.]")
# "Morning" and "day" are subjects, but not here.
_WISHES = (
    (re.compile(r"\bgood ?(?:morning|afternoon|evening|day)\b"), "hello"),
    (re.compile(r"\b(?:have|enjoy) (?:an? )?(?:(?:very )?\w+ )?(?:day|weekend|evening|night)\b"), "bye"),
)
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f]+")
_REPEATED = re.compile(r"(.)\1{3}")

STOP_WORDS = frozenset(
    """
    a about after again ago ain all also am an and any anything are aren arent as ask at be because been before being
    between but by can cant could couldnt did didnt do does doesnt doing don dont else for from get gets getting give
    given go goes going gonna got gotta had has hasnt have havent having he hello help her here hey hi him his how
    however i if ill im in into is isnt it its ive just know let lets like ll look looking make many may maybe me mine
    more most much my need no now of off ok okay on once one only or other our out over own please pls plz re really
    said same say says see she should show since so some someone something still such sure tell than thank thanks that
    thats the their them then there theres these they thing things this those thru to today too try trying u until up
    ur us use ve very wanna want was wasnt we well were what whats when where wheres which while who why will with
    wont would wouldnt yes yet you youll your youre youve
    """.split()  # noqa: SIM905  # a list of a hundred quoted words reads worse
)

# What people say to be polite, or to say no more; it names a group only where that is all there is.
SMALL_TALK: dict[str, str] = {
    form: shown
    for shown, forms in {
        "hello": "hello hi hey hiya greetings welcome",
        "thanks": "thanks thank thankyou thx ty appreciate appreciated grateful",
        "bye": "bye goodbye byebye byee cya",
        "yes": "yes yeah yep yup yea ya okay ok okey alright sure",
        "no": "no nope nah nothing nothanks",
        "sorry": "sorry apologies",
        "great": "great perfect wonderful awesome excellent super amazing fantastic glad happy nice fine good cool",
        "": "sir madam maam mam dear guys mate kindly hmm oh um uh lol enough later bit lot idea ideas",
    }.items()
    for form in forms.split()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NameWord:
    """One word of a message.

    `key` is what it is counted by, `text` what is shown. `follows` says whether nothing but a space stands between it
    and the word before. `joins` says whether it may be a part of a phrase; a `negation` ("not") is shown only at the
    head of one. What is `small_talk` is no subject ("thanks"), and shown only where there is none.
    """

    key: str
    text: str
    follows: bool = False
    joins: bool = True
    negation: bool = False
    japanese: bool = False
    small_talk: bool = False


def name_words(message: str) -> list[NameWord]:
    """Return the words of a message that can name a subject, in order."""
    cleaned = _cleaned(message)
    words: list[NameWord] = []
    previous_end = -1
    for piece in _PIECE.finditer(cleaned):
        japanese = bool(_IS_JAPANESE.search(piece.group()))
        for start, end, word in _japanese(piece) if japanese else _latin(piece):
            follows = previous_end >= 0 and cleaned[previous_end:start] == ("" if japanese else " ")
            words.append(replace(word, follows=follows))
            previous_end = end
    return words


def phrases(words: Sequence[NameWord]) -> Iterator[tuple[NameWord, NameWord]]:
    """Yield the pairs of neighbours among the words of a message that read as one term."""
    for first, second in pairwise(words):
        if second.follows and first.joins and second.joins and not second.negation:
            yield first, second


def joined(first: NameWord, second: NameWord) -> str:
    """Return a phrase as it is written: Japanese without a space."""
    return f"{first.text}{second.text}" if first.japanese else f"{first.text} {second.text}"


def stem(word: str) -> str:
    """Return the word without its plural ending (Harman's S-stemmer, 1991, and "boxes"), hyphens and apostrophes."""
    bare = re.sub(r"['’]s$|['’-]", "", word)
    if len(bare) > 4 and bare.endswith("ies") and not bare.endswith(("eies", "aies")):
        return f"{bare[:-3]}y"
    if len(bare) > 4 and bare.endswith(("ches", "shes", "sses", "xes", "zzes")):
        return bare[:-2]
    if len(bare) > 3 and bare.endswith("es") and not bare.endswith(("aes", "ees", "oes")):
        return bare[:-1]
    if len(bare) > 3 and bare.endswith("s") and not bare.endswith(("us", "ss")):
        return bare[:-1]
    # What "movies" became.
    return f"{bare[:-2]}y" if len(bare) > 3 and bare.endswith("ie") else bare


def _cleaned(message: str) -> str:
    text = message[:_READ_CHARACTERS]
    if not text.isascii():
        text = "".join(_visible(character) for character in unicodedata.normalize("NFKC", text))
    # A comma keeps what stood left and right of a cut from becoming one phrase.
    text = _CUT.sub(" , ", text) if _CUT_SIGN.search(text) else text
    text = _BLANKS.sub(" ", text).casefold()
    for wish, shown in _WISHES:
        text = wish.sub(shown, text)
    return text


@functools.lru_cache(maxsize=10_000)
def _visible(character: str) -> str:
    """Return a character; a blank for one that controls, nothing for one that is invisible within a word."""
    category = unicodedata.category(character)
    return "" if category == "Cf" else " " if category in {"Cc", "Zl", "Zp", "Co", "Cs"} else character


def _latin(piece: re.Match[str]) -> Iterator[tuple[int, int, NameWord]]:
    text = piece.group()
    if shown := SMALL_TALK.get(text):
        yield piece.start(), piece.end(), NameWord(key=shown, text=shown, joins=False, small_talk=True)
    if text in SMALL_TALK or text in STOP_WORDS:
        return
    if _NEGATION.fullmatch(text):
        yield piece.start(), piece.end(), NameWord(key="not", text="not", negation=True)
        return
    shown = _APOSTROPHE.sub("", text)
    if _can_name(shown) and not _CONTRACTION.fullmatch(text):
        yield piece.start(), piece.end(), NameWord(key=stem(shown), text=shown)


def _can_name(word: str) -> bool:
    """Return whether a word can name a subject: "2nd" and "ps5" can, an order number, "a" and "looooool" cannot."""
    if not 2 <= len(word) <= _LONGEST_WORD or word in STOP_WORDS or _REPEATED.search(word):
        return False
    if word.isalpha():
        return True
    digits = sum(character.isdigit() for character in word)
    letters = sum(character.isalpha() for character in word)
    return digits <= _MOST_DIGITS and letters >= max(digits, 1)


def _japanese(piece: re.Match[str]) -> Iterator[tuple[int, int, NameWord]]:
    for word in japanese_words(piece.group()):
        if word.text.isalnum() and len(word.text) <= _LONGEST_WORD and not _REPEATED.search(word.text):
            named = NameWord(key=word.key, text=word.text, joins=word.noun, japanese=True)
            yield piece.start() + word.start, piece.start() + word.end, named
