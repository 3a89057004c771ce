"""The word lists behind English names, read once and only when a text is redacted."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from mangaassist_assets.privacy.names.common_words import NEVER, PLACES, TRADE, word_set

# Given names so common that the ordinary word beside them ("a jack", "to frank a letter") is the rarer reading.
_COMMON_GIVEN = word_set(
    "john jack smith bob jim joe tom tim ben sam dan ron ken jane anna mary maria peter paul michael george james "
    "harry henry jean jimmy bobby tommy johnny joey sally nancy jenny molly kate emma alice eric kevin brian jason "
    "justin steve stephen dave mike mick chris kim lee ann anne rob robert roger ray max martin simon josh alex "
    "charlie oscar carol diana dolly kelly terry jerry larry barry gene guy lance marge peg tony vic walter "
    "wally"
)
# People more often than the places that bear the same name.
_PEOPLE = word_set("antonio francisco diego santiago vincent helena florence victoria lucia jackson")


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Folded names and words. `clear` names are no English words; `doubtful` ones are ("will", "rose").

    `doubtful_given` are those of the doubtful that somebody is called by first, `plain` the words that are no name.
    """

    clear_given: frozenset[str]
    clear_family: frozenset[str]
    rare_family: frozenset[str]
    doubtful: frozenset[str]
    doubtful_given: frozenset[str]
    words: frozenset[str]
    places: frozenset[str]
    never: frozenset[str]
    plain: frozenset[str]


@cache
def lexicon() -> Lexicon:
    """Return the lists of the package (`tools/build_name_lists.py` makes them)."""
    words = frozenset(_lines("words.txt.gz"))
    given: list[str] = []
    family: list[str] = []
    rare: list[str] = []
    doubtful: list[str] = []
    doubtful_given: list[str] = []
    for line in _lines("names.txt.gz"):
        name, _, flags = line.partition("\t")
        if name in TRADE or name in NEVER or len(name) < 3:
            continue
        if name in words and name not in _COMMON_GIVEN:
            doubtful.append(name)
            if "g" in flags:
                doubtful_given.append(name)
        elif "g" in flags:
            given.append(name)
        elif flags == "r":
            rare.append(name)
        else:
            family.append(name)
    known = words | TRADE | NEVER
    return Lexicon(
        clear_given=frozenset((*given, *_COMMON_GIVEN)) - (PLACES - _PEOPLE),
        clear_family=frozenset(family) - PLACES,
        rare_family=frozenset(rare) - PLACES,
        doubtful=frozenset(doubtful) - PLACES,
        doubtful_given=frozenset(doubtful_given) - PLACES,
        words=known,
        places=PLACES,
        never=NEVER | TRADE | PLACES,
        plain=known.difference(given, family, rare, doubtful, PLACES, _COMMON_GIVEN),
    )


def _lines(name: str) -> list[str]:
    data = files("mangaassist_assets.privacy").joinpath("data", name).read_bytes()
    return gzip.decompress(data).decode().split("\n")[:-1]
