"""Names for groups of messages: the words that this group uses and the others do not.

Class-based TF-IDF (BERTopic's: share within the group × log(1 + mean words of a group / uses in all groups)), of the
messages nearest to the group's centre, so a name says what is particular, and about what most of the group is. The
share counts by its power of one and a half: without that, a word that two say and no other group knows outweighs the
one that half of the group says. A third word is shown only where enough say it beside the first. A word that is
mostly said beside another is shown as that phrase ("order status", "配送状況"). What people say to be polite names a
group only where most say nothing else. The same groups get the same names: ties go to the more frequent, then to the
alphabet.
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
# Of a group that is ordered by nearness to its centre so much names it, and all of it where it is small.
_CORE_SHARE = 0.5
_SMALLEST_CORE = 8
_POWER = 1.5
_BESIDE_THE_FIRST = 0.2
# A title or a name that two or three mention is no subject of a group where others share more.
_SUBJECT_FROM = 0.12
# A group says nothing where no word is said by so many and small talk by so many more.
_SUBJECT_SHARE = 0.34
# A word is shown as a phrase where at least this share of its speakers say it so.
_PHRASE_SHARE = 0.5


@dataclass(slots=True, kw_only=True)
class WordCounts:
    """What one group says: by how many speakers each word and each phrase is used, and how they write it.

    `small_talk` is what they say to be polite.
    """

    speakers: int = 0
    words: Counter[str] = field(default_factory=Counter)
    small_talk: Counter[str] = field(default_factory=Counter)
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


def nearest_half(rows: Sequence[int]) -> Sequence[int]:
    """Return the rows that name a group, of all its rows, those nearest to its centre first."""
    return rows[: max(_SMALLEST_CORE, math.ceil(_CORE_SHARE * len(rows)))]


def name_counted(
    counts: Mapping[str, WordCounts],
    *,
    cores: Mapping[str, WordCounts] | None = None,
    words: int = 3,
    kept: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return a name of up to `words` words or phrases, joined by " · ", for each group whose words are counted.

    A name has at most 60 characters: letters, digits, hyphens and spaces. Where it is already given, the smaller group
    gets a further word; groups without one keep equal names, the cluster id tells them apart. `kept` are names that
    groups already have, by their key; no other group gets one of them. `cores` are the words of the messages nearest
    to the centres, which names are made of; None for those of all messages.
    """
    names = {key: name for key, name in (kept or {}).items() if key in counts}
    given = {frozenset(name.split(SEPARATOR)) for name in names.values()}
    chosen = cores or counts
    ranked = rank_words(counts, cores=cores)
    for key in sorted(set(counts) - set(names), key=lambda key: (-counts[key].speakers, key)):
        core = chosen[key]
        small_talk, subjects = small_talk_of(core), list(_terms(ranked[key], core))
        terms = _distinct([*small_talk, *subjects], len(small_talk) or words, given)
        given.add(frozenset(terms))
        names[key] = SEPARATOR.join(terms) or NAMELESS
    return {key: names[key] for key in counts}


def rank_words(
    counts: Mapping[str, WordCounts], *, cores: Mapping[str, WordCounts] | None = None
) -> dict[str, list[str]]:
    """Return each group's words by their key, the most particular first (class-based TF-IDF).

    With `cores` the words of those, and how rare a word is by all messages.
    """
    overall: Counter[str] = Counter()
    for count in counts.values():
        overall.update(count.words)
    mean_size = sum(overall.values()) / max(len(counts), 1)
    return {key: _ranked(count, overall, mean_size) for key, count in (cores or counts).items()}


def spelled(count: WordCounts, word: str) -> str:
    """Return a word as most of the group's speakers write it."""
    return _most_used(count.spellings[word])


def small_talk_of(count: WordCounts) -> list[str]:
    """Return up to two words of small talk of a group that says nothing else, none for one that does."""
    said = count.small_talk
    subject = max(count.words.values(), default=0) / max(count.speakers, 1)
    polite = max(said.values(), default=0) / max(count.speakers, 1)
    if count.words and not subject < _SUBJECT_SHARE <= polite - subject:
        return []
    ordered = sorted(said, key=lambda word: (-said[word], word))
    return [word for word in ordered if said[word] >= _PHRASE_SHARE * said[ordered[0]]][:2]


def _count_speaker(counts: WordCounts, messages: Sequence[Sequence[NameWord]]) -> None:
    said = {(word.key, word.text) for words in messages for word in words if not (word.negation or word.small_talk)}
    for key, text in said:
        counts.spellings[key][text] += 1
    counts.words.update({key for key, _ in said})
    counts.small_talk.update({word.key for words in messages for word in words if word.small_talk})
    pairs = {((a.key, b.key), joined(a, b)) for words in messages for a, b in phrases(words)}
    for pair, text in pairs:
        counts.phrase_spellings[pair][text] += 1
    counts.phrases.update({pair for pair, _ in pairs})


def _ranked(count: WordCounts, overall: Counter[str], mean_size: float) -> list[str]:
    shared = [word for word in count.words if count.shared(word)]
    subject = [word for word in shared if count.words[word] >= _SUBJECT_FROM * count.speakers]
    weights = {
        word: (count.words[word] / count.speakers) ** _POWER * math.log1p(mean_size / overall[word])
        for word in subject or shared or count.words
    }
    return sorted(weights, key=lambda word: (-round(weights[word], 9), -count.words[word], word))


def _terms(ranked: Sequence[str], count: WordCounts) -> Iterator[str]:
    """Yield what may be shown, the most particular first; no two say the same word in two forms."""
    shown: list[str] = []
    terms = 0
    for word in ranked:
        if any(_same_stem(word, other) for other in shown):
            continue
        if terms >= 2 and count.words[word] < _BESIDE_THE_FIRST * count.words[shown[0]]:
            continue
        terms += 1
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
