"""Names for groups of messages: the words that this group uses and the others do not.

Class-based TF-IDF (BERTopic's: term share within the group × log(1 + mean words of a group / uses in all groups)),
so a name says what is particular. A word that is mostly said beside another is shown as that phrase ("order status",
"配送状況"). The same groups get the same names: ties go to the more frequent, then to the alphabet.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mangaassist_assets.mining.naming.name_words import NameWord, joined, name_words, phrases

NAMELESS = "no common words"
SEPARATOR = " · "
LONGEST_NAME = 60

# From so many speakers on, what one or few of them say is no subject of the group, and may be what redaction missed.
_SHARED_FROM = 3
_SHARED_SHARE = 0.05
# A word is shown as a phrase where at least this share of its speakers say it so.
_PHRASE_SHARE = 0.5


@dataclass(slots=True, kw_only=True)
class WordCounts:
    """What one group says: by how many speakers each word and each phrase is used, and how they write it."""

    speakers: int = 0
    words: Counter[str] = field(default_factory=Counter)
    phrases: Counter[tuple[str, str]] = field(default_factory=Counter)
    spellings: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    phrase_spellings: dict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def shared(self, word: str) -> bool:
        """Return whether enough speakers use a word for it to be the group's and not one speaker's."""
        return self.words[word] >= (max(2, _SHARED_SHARE * self.speakers) if self.speakers >= _SHARED_FROM else 1)


def count_words(messages: Sequence[str], *, speakers: Sequence[str] | None = None) -> WordCounts:
    """Count by how many speakers each word is used, however often one repeats it.

    Args:
        messages: of one group.
        speakers: who wrote each message; None if every message counts as another's.

    Raises:
        ValueError: messages and speakers differ in number.
    """
    if speakers is not None and len(speakers) != len(messages):
        raise ValueError(f"{len(messages)} messages but {len(speakers)} speakers: give one speaker for each message")
    said: dict[str, list[str]] = defaultdict(list)
    for row, message in enumerate(messages):
        said[speakers[row] if speakers is not None else str(row)].append(message)
    counts = WordCounts(speakers=len(said))
    for texts in said.values():
        _count_speaker(counts, [name_words(text) for text in dict.fromkeys(texts)])
    return counts


def name_groups(
    groups: Mapping[str, Sequence[str]],
    *,
    words: int = 3,
    speakers: Mapping[str, Sequence[str]] | None = None,
    kept: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return a name of up to `words` words or phrases, joined by " · ", for each group of messages by its key.

    A name has at most 60 characters: letters, digits, hyphens and spaces. Where it is already given, the smaller group
    gets a further word; groups without one keep equal names, the cluster id tells them apart.

    Args:
        groups: messages of each group.
        words: terms of a name, unless it needs more to be distinct.
        speakers: who wrote each message, for each group; a word counts once for each speaker, so that nobody names a
            group alone. None if every message counts as another's.
        kept: names that groups already have, by their key; no other group gets one of them.

    Raises:
        ValueError: a group's messages and speakers differ in number.
    """
    return name_counted(count_groups(groups, speakers=speakers), words=words, kept=kept)


def count_groups(
    groups: Mapping[str, Sequence[str]], *, speakers: Mapping[str, Sequence[str]] | None = None
) -> dict[str, WordCounts]:
    """Count the words of each group, see `count_words`.

    Raises:
        ValueError: speakers are given, but not for each message of each group.
    """
    if speakers is None:
        return {key: count_words(messages) for key, messages in groups.items()}
    return {key: count_words(messages, speakers=speakers.get(key, ())) for key, messages in groups.items()}


def name_counted(
    counts: Mapping[str, WordCounts], *, words: int = 3, kept: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the names of groups whose words are counted, see `name_groups`."""
    names = {key: name for key, name in (kept or {}).items() if key in counts}
    given = {frozenset(name.split(SEPARATOR)) for name in names.values()}
    ranked = rank_words(counts)
    for key in sorted(set(counts) - set(names), key=lambda key: (-counts[key].speakers, key)):
        terms = _distinct(list(_terms(ranked[key], counts[key])), words, given)
        given.add(frozenset(terms))
        names[key] = SEPARATOR.join(terms) or NAMELESS
    return {key: names[key] for key in counts}


def rank_words(counts: Mapping[str, WordCounts]) -> dict[str, list[str]]:
    """Return each group's words by their key, the most particular first (class-based TF-IDF)."""
    overall: Counter[str] = Counter()
    for count in counts.values():
        overall.update(count.words)
    mean_size = sum(overall.values()) / max(len(counts), 1)
    return {key: _ranked(count, overall, mean_size) for key, count in counts.items()}


def spelled(count: WordCounts, word: str) -> str:
    """Return a word as most of the group's speakers write it."""
    return _most_used(count.spellings[word])


def _count_speaker(counts: WordCounts, messages: Sequence[Sequence[NameWord]]) -> None:
    for key, text in {(word.key, word.text) for words in messages for word in words if not word.negation}:
        counts.spellings[key][text] += 1
    counts.words.update({word.key for words in messages for word in words if not word.negation})
    pairs = {((a.key, b.key), joined(a, b)) for words in messages for a, b in phrases(words)}
    for pair, text in pairs:
        counts.phrase_spellings[pair][text] += 1
    counts.phrases.update({pair for pair, _ in pairs})


def _ranked(count: WordCounts, overall: Counter[str], mean_size: float) -> list[str]:
    total = sum(count.words.values())
    shared = [word for word in count.words if count.shared(word)] or list(count.words)
    weights = {word: count.words[word] / total * math.log1p(mean_size / overall[word]) for word in shared}
    return sorted(weights, key=lambda word: (-round(weights[word], 9), -count.words[word], word))


def _terms(ranked: Sequence[str], count: WordCounts) -> Iterator[str]:
    """Yield what may be shown, the most particular first; no two say the same word in two forms."""
    shown: list[str] = []
    for word in ranked:
        if any(_same_stem(word, other) for other in shown):
            continue
        phrase = _phrase(word, count)
        # "time zone" beside "time difference" repeats what is already said: "zone" will do.
        if phrase is None or any(part in shown for part in phrase):
            yield spelled(count, word)
            shown.append(word)
        else:
            yield _most_used(count.phrase_spellings[phrase])
            shown.extend(phrase)


def _phrase(word: str, count: WordCounts) -> tuple[str, str] | None:
    """Return the phrase in which most speakers use a word, if there is one that at least two use."""
    least = max(2, _PHRASE_SHARE * count.words[word])
    telling = [pair for pair, used in count.phrases.items() if word in pair and used >= least and pair[0] != pair[1]]
    return min(telling, key=lambda pair: (-count.phrases[pair], pair), default=None)


def _distinct(terms: Sequence[str], words: int, given: set[frozenset[str]]) -> list[str]:
    chosen: list[str] = []
    for term in terms:
        if len(chosen) >= words and frozenset(chosen) not in given:
            break
        if len(SEPARATOR.join([*chosen, term])) <= LONGEST_NAME:
            chosen.append(term)
    # A longer name that is still not distinct says no more than the short one.
    return chosen[:words] if frozenset(chosen) in given else chosen


def _most_used(spellings: Counter[str]) -> str:
    return min(spellings, key=lambda text: (-spellings[text], len(text), text))


def _same_stem(first: str, second: str) -> bool:
    shorter, longer = sorted((first, second), key=len)
    return shorter == longer or (len(shorter) >= 4 and longer.startswith(shorter) and len(longer) - len(shorter) <= 3)
