"""Training pairs out of the knowledge itself, for the time before anybody has labelled a query."""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from mangaassist_assets.learning.examples import RankingExample

_WORD = re.compile(r"\w+", re.UNICODE)
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s*")
_QUERY_WORDS = (2, 24)
_WORDS_READ = 400


def weak_ranking_examples(
    passages: Sequence[tuple[str, str]],
    *,
    negatives: int = 4,
    limit: int = 300,
    seed: int = 0,
) -> list[RankingExample]:
    """Make queries from titles and first sentences, each answered by the rest of its passage.

    A title asks for the first passage under it; a passage's first sentence asks for what follows it (the inverse cloze
    task: Lee et al., ACL 2019). Half of the negatives are the passages that share most rare words with the query, the
    rest are drawn at random; a passage of the same title or the same text is never one, as it may answer too.

    Args:
        passages: (title or heading, text); either may be empty.
        negatives: Wanted for each query; fewer where there are fewer other passages.
        limit: At most so many examples, drawn with the seed.
        seed: Of all drawing; the same input and seed give the same examples.

    Returns:
        Examples with one relevant passage each. `first_stage_ranks` are ranks by rare shared words. Empty if there are
        fewer than two passages that differ in title and text.
    """
    if negatives < 1 or limit < 1:
        raise ValueError(f"negatives and limit must be at least 1, got {negatives} and {limit}")
    candidates = _queries(passages)
    generator = random.Random(seed)
    generator.shuffle(candidates)
    words = [_words(f"{title} {text}") for title, text in passages]
    frequencies = Counter(word for row in words for word in row)
    holders: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(words):
        for word in sorted(row):
            holders[word].append(place)

    examples: list[RankingExample] = []
    for query, own, answer in candidates:
        if len(examples) == limit:
            break
        overlap: Counter[int] = Counter()
        for word in sorted(_words(query)):
            rarity = math.log((len(passages) + 1) / frequencies[word]) if word in frequencies else 0.0
            for place in holders.get(word, ()):
                overlap[place] += rarity  # type: ignore[assignment]
        others = _others(passages, own, overlap, negatives, generator)
        if not others:
            continue
        texts = [answer, *(passages[place][1] for place in others)]
        strength = [overlap[own], *(overlap[place] for place in others)]
        by_strength = sorted(range(len(texts)), key=lambda place: (-strength[place], place))
        ranks = {place: rank for rank, place in enumerate(by_strength, start=1)}
        examples.append(
            RankingExample(
                example_id="weak-" + hashlib.sha256(f"{query}\0{answer}".encode("utf-8", "replace")).hexdigest()[:16],
                query=query,
                passages=tuple(texts),
                relevances=(1.0, *([0.0] * len(others))),
                first_stage_ranks=tuple(ranks[place] for place in range(len(texts))),
            )
        )
    return examples


def _queries(passages: Sequence[tuple[str, str]]) -> list[tuple[str, int, str]]:
    """(query, place of its passage, the text that answers it), in the order of the passages."""
    found: list[tuple[str, int, str]] = []
    titles_seen: set[str] = set()
    for place, (title, text) in enumerate(passages):
        body = text.strip()
        if not body:
            continue
        name = " ".join(title.split())
        if name and name.casefold() not in titles_seen and name.casefold() != body.casefold():
            titles_seen.add(name.casefold())
            found.append((name, place, body))
        first, _, rest = _first_sentence(body)
        if rest and _QUERY_WORDS[0] <= len(first.split()) <= _QUERY_WORDS[1]:
            found.append((first, place, rest))
    return found


def _first_sentence(text: str) -> tuple[str, str, str]:
    parts = _SENTENCE_END.split(text, maxsplit=1)
    return (" ".join(parts[0].split()), "", parts[1].strip() if len(parts) > 1 else "")


def _words(text: str) -> set[str]:
    return {match.casefold() for match in _WORD.findall(text)[:_WORDS_READ]}


def _others(
    passages: Sequence[tuple[str, str]],
    own: int,
    overlap: Counter[int],
    negatives: int,
    generator: random.Random,
) -> list[int]:
    title, text = passages[own]

    def differs(place: int) -> bool:
        other_title, other_text = passages[place]
        same_title = bool(title.strip()) and other_title.strip().casefold() == title.strip().casefold()
        return place != own and not same_title and other_text.strip() not in {"", text.strip()}

    ranked = sorted(overlap, key=lambda place: (-overlap[place], place))
    hard = [place for place in ranked if differs(place)][: (negatives + 1) // 2]
    rest = [place for place in range(len(passages)) if differs(place) and place not in set(hard)]
    return hard + generator.sample(rest, min(negatives - len(hard), len(rest)))
