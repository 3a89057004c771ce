"""Names for groups of messages: the words that this group uses and the others do not.

Class-based TF-IDF (BERTopic's: term share within the group × log(1 + mean words of a group / uses in all groups)),
so a name says what is particular. The same groups get the same names: ties go to the more frequent, then to the
alphabet.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from mangaassist_assets.mining.words import telling_words

NAMELESS = "no common words"


def name_groups(groups: Mapping[str, Sequence[str]], *, words: int = 3) -> dict[str, str]:
    """Return a name of up to `words` words, joined by " · ", for each group of messages by its key.

    A message counts a word once, so one shopper's repetition does not name a group. Groups whose names would be equal
    keep equal names: the cluster id tells them apart.
    """
    counts = {
        key: Counter(word for message in messages for word in set(telling_words(message)))
        for key, messages in groups.items()
    }
    overall: Counter[str] = Counter()
    for count in counts.values():
        overall.update(count)
    mean_size = sum(overall.values()) / max(len(groups), 1)
    return {key: _name(count, overall, mean_size, words) for key, count in counts.items()}


def _name(count: Counter[str], overall: Counter[str], mean_size: float, words: int) -> str:
    total = sum(count.values())
    weights = {word: used / total * math.log1p(mean_size / overall[word]) for word, used in count.items()}
    ranked = sorted(weights, key=lambda word: (-round(weights[word], 9), -count[word], word))
    chosen: list[str] = []
    for word in ranked:
        if len(chosen) == words:
            break
        # "refund" beside "refunds" says nothing new, nor do overlapping Japanese bigrams of one word.
        if not any(_same_stem(word, other) for other in chosen):
            chosen.append(word)
    return " · ".join(chosen) or NAMELESS


def _same_stem(first: str, second: str) -> bool:
    shorter, longer = sorted((first, second), key=len)
    if len(shorter) == 2 and not shorter.isascii():
        return shorter[0] == longer[-1] or shorter[-1] == longer[0]
    return len(shorter) >= 4 and longer.startswith(shorter) and len(longer) - len(shorter) <= 3
