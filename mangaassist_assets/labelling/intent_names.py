"""Names of intents as people type them: one name in many ways, and no letter that nobody can see.

Reviewers type the intent. Width, case, spaces, hyphens and underscores do not make it another one, nor do characters
without a width, which come along where somebody copies a name out of a document. Another script does.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection

LONGEST_NAME = 64
_NAME = re.compile(rf"[^\W_][\w \-]{{0,{LONGEST_NAME - 1}}}")
# Unicode's default ignorable code points that are not of the category Cf (DerivedCoreProperties.txt).
_SPACES = re.compile(r"[^\S\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+")  # no line end: what has several lines is no name
_UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0]")


def plain_name(text: str) -> str:
    """Return a name without characters that nobody sees, in its compatible form (NFKC), with single spaces."""
    # What is unseen goes first: of two letters around it NFKC may make one.
    seen = _UNSEEN.sub("", "".join(one for one in text if unicodedata.category(one) != "Cf"))
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", seen)).strip()


def spelling_key(name: str) -> str:
    """Return what all spellings of one name share: no case, hyphens, underscores and spaces."""
    folded = unicodedata.normalize("NFKC", plain_name(name).casefold())
    return "".join(one for one in folded if one != "_" and unicodedata.category(one)[0] != "Z" and not _is_dash(one))


def is_name(name: str) -> bool:
    """Whether a plain name may be the name of an intent: letters and digits of any script, up to `LONGEST_NAME`."""
    return _NAME.fullmatch(name) is not None


class IntentSpelling:
    """The known intents by what all their spellings share: people type names in many ways."""

    def __init__(self, known: Collection[str]) -> None:
        by_key: defaultdict[str, list[str]] = defaultdict(list)
        for intent in sorted(set(known)):
            by_key[spelling_key(intent)].append(intent)
        self._exact = frozenset(known)
        self._by_key = {key: same[0] for key, same in by_key.items() if len(same) == 1}

    def corrected(self, answer: str) -> str:
        """Return the known intent that is meant, or the answer in its plain form."""
        if (stripped := answer.strip()) in self._exact:
            return stripped
        plain = plain_name(answer)
        return plain if plain in self._exact else self._by_key.get(spelling_key(plain), plain)


def _is_dash(character: str) -> bool:
    return unicodedata.category(character) == "Pd"
