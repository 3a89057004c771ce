"""Person names in Latin, Greek and Cyrillic letters, found by evidence.

A word of a name list is not yet a name, and a name need not be in a list. Each run of candidate words collects
evidence: membership in the lists, a capital where none is due, a neighbouring name, the words around ("Dear", "Mr.",
"said"), and evidence against ("in", "Ltd.", "volume"). What reaches `THRESHOLD` is a name. The weights were set on
one half of the templates of a public set of sentences and measured on both (`benchmarks/bench_redaction.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from mangaassist_assets.privacy.detections import Detection, Kind
from mangaassist_assets.privacy.names import cues
from mangaassist_assets.privacy.names.common_words import NEVER
from mangaassist_assets.privacy.names.introductions import find_introductions
from mangaassist_assets.privacy.names.lexicon import Lexicon, lexicon
from mangaassist_assets.privacy.names.weights import Casing, Token, casings_of, word_weight

THRESHOLD = 1.7
_COORDINATION = 1.1
# "call jane": these speak for the name behind them, and lists call people so.
_LEFT = cues.LEFT_PERSON | cues.LEFT_LISTED
_WITHOUT_CAPITALS = frozenset({Casing.CASELESS, Casing.SPOKEN, Casing.ANSWER})
_LONGEST_RUN = 6
# How far before a name a word of the catalogue stands beside it, in characters.
_BESIDE = 40
_TOKEN = re.compile(rf"[{cues.LETTERS}]+(?:['\-][{cues.LETTERS}]+)*\.?")
# A line that breaks off behind a word in small letters or a comma goes on below.
_WRAPPED = re.compile(r"[a-z,][ ]?\n")
_LINE_BREAK = re.compile(r"[ ]?\r?\n[ >]{0,2}")
_LINE_START = re.compile(r"(?:\A|\n)[ >?*]*\Z")


@dataclass(slots=True)
class _Candidate:
    start: int
    end: int
    word: str
    weight: float
    listed: bool


@dataclass(slots=True)
class _Run:
    """Neighbouring candidates, `first` and `after` as token numbers, and the evidence they collected."""

    first: int
    after: int
    words: list[_Candidate]
    score: float = 0.0

    @property
    def start(self) -> int:
        return self.words[0].start

    @property
    def end(self) -> int:
        return self.words[-1].end

    @property
    def listed(self) -> bool:
        return any(word.listed for word in self.words)


def find_english_names(text: str) -> Iterator[Detection]:
    """Yield person names of a folded text."""
    yield from find_introductions(text)
    tokens = [(match.start(), match.end(), match.group()) for match in _TOKEN.finditer(text)]
    if tokens:
        yield from _Reader(text, tokens, lexicon()).names()


class _Reader:
    """Reads one text's words into runs of candidates and weighs them."""

    def __init__(self, text: str, tokens: list[Token], lists: Lexicon) -> None:
        self.text = text
        self.tokens = tokens
        self.lists = lists
        self.folded = [token.rstrip(".").lower() for _, _, token in tokens]
        self.casings = casings_of(text, tokens, self.folded, lists)

    def names(self) -> Iterator[Detection]:
        runs = list(self._runs())
        if not runs:
            return
        for run in runs:
            run.score = self._score(run)
        self._coordinate(runs)
        for run in runs:
            if run.score >= THRESHOLD and run.score - self._catalogue(run) >= THRESHOLD:
                yield self._detection(run)
            elif self._is_street(run):
                yield Detection(run.start, self.tokens[run.after][1], Kind.ADDRESS)

    def _runs(self) -> Iterator[_Run]:
        index = 0
        while index < len(self.tokens):
            first = self._candidate(index)
            if first is None:
                index += 1
                continue
            run = self._run(first, index)
            yield run
            index = run.after

    def _run(self, first: _Candidate, index: int) -> _Run:
        run = _Run(index, index + 1, [first])
        while run.after < len(self.tokens) and len(run.words) < _LONGEST_RUN and self._adjacent(run.after):
            place = run.after
            following = self._candidate(place)
            if following is None and (skipped := self._joined(place)):
                place += skipped
                following = self._candidate(place) or self._any_capital(place)
            if following is None and run.words[-1].word in self.lists.clear_given:
                following = self._any_capital(place) or self._any_unknown(place)
            if following is None:
                break
            run.words.append(following)
            run.after = place + 1
        return run

    def _adjacent(self, index: int) -> bool:
        """Return whether only a space parts a word from the one before; a full stop only behind "Dr." and "J."."""
        gap = self.text[self.tokens[index - 1][1] : self.tokens[index][0]]
        last = self.tokens[index - 1][2]
        if last.endswith(".") and len(last) > 4:
            return False
        return gap in (" ", "  ", "\t") or (_LINE_BREAK.fullmatch(gap) is not None and self._goes_on(index))

    def _goes_on(self, index: int) -> bool:
        """Return whether a line breaks off inside a name: words before it on the same line, and a family name below."""
        before = self.text.rfind("\n", 0, self.tokens[index - 1][1]) + 1
        starts_line = before > self.tokens[index - 1][0] - 3
        word = self.folded[index].removesuffix("'s")
        known = word in self.lists.clear_family or word in self.lists.rare_family or word not in self.lists.words
        known = known or (word in self.lists.doubtful and self.tokens[index][2][0].isupper())
        return known and word not in self.lists.never and not (starts_line and self._ends_line(index))

    def _ends_line(self, index: int) -> bool:
        end = self.tokens[index][1]
        return end == len(self.text) or self.text[end] == "\n"

    def _joined(self, index: int) -> int:
        """Return how many particles or initials ("van der", "J.") stand here before another word of the name."""
        skipped = 0
        while skipped < 3 and index + skipped + 1 < len(self.tokens):
            word = self.folded[index + skipped]
            initial = len(word) == 1 and self.tokens[index + skipped][2][0].isupper()
            if not ((word in cues.PARTICLES or initial) and self._adjacent(index + skipped + 1)):
                break
            skipped += 1
        return skipped

    def _candidate(self, index: int) -> _Candidate | None:
        start, end, token = self.tokens[index]
        casing = self.casings[index]
        word = self.folded[index]
        # Most words of a text are none: what can be seen at once is seen first.
        if token[0].islower() and casing not in _WITHOUT_CAPITALS:
            return None
        titled = index > 0 and self.folded[index - 1] in cues.TITLES and word not in NEVER
        if not titled and (word in self.lists.plain or (casing in _WITHOUT_CAPITALS and word in _LEFT)):
            return None
        if word.endswith("'s"):
            word, end = word[:-2], end - 2
            token = self.text[start:end]
        if len(word) < 2 or (word in cues.CODES and cues.CODE_BEHIND.match(self.text, end)):
            return None
        begins = self._begins_sentence(index)
        weight, listed = word_weight(word, token, self.lists, casing, begins=begins)
        # Behind "Mr." a country is a name.
        weight = max(weight, 0.3 * titled)
        return _Candidate(start, end - token.endswith("."), word, weight, listed) if weight > 0 else None

    def _leads(self, index: int) -> bool:
        """Return whether a word belongs to the name behind it: a title ("Dr.") or an initial ("K.")."""
        token = self.tokens[index][2]
        initial = len(token) == 2 and token.endswith(".") and token[0].isupper()
        return initial or self.folded[index] in cues.TITLES

    def _any_capital(self, index: int) -> _Candidate | None:
        """Return a family name that is an English word ("Luis Dill"): a capital right behind a given name."""
        start, _, token = self.tokens[index]
        word = self.folded[index].removesuffix("'s")
        plain = token[0].isupper() and not (token.isupper() and len(token) > 1) and len(word) > 2
        if (
            self.casings[index] is not Casing.WRITTEN
            or not plain
            or word in cues.ORGANIZATION
            or word in self.lists.never
        ):
            return None
        return _Candidate(start, start + len(word), word, 0.2, listed=False)

    def _any_unknown(self, index: int) -> _Candidate | None:
        """Return a family name that no list holds ("maybe under scott deutekom"), where there are no capitals."""
        start, _, token = self.tokens[index]
        word = self.folded[index].removesuffix("'s")
        known = word in self.lists.words or len(word) < 4
        if self.casings[index] not in _WITHOUT_CAPITALS or known or word in self.lists.never or token.endswith("."):
            return None
        return _Candidate(start, start + len(word), word, 0.6, listed=False)

    def _begins_sentence(self, index: int) -> bool:
        if index == 0:
            return True
        gap = self.text[self.tokens[index - 1][1] - 1 : self.tokens[index][0]]
        if _WRAPPED.fullmatch(gap):
            return False
        return any(character in '.!?:;\n"“>|•([' for character in gap[:8])

    def _score(self, run: _Run) -> float:
        weights = sorted((word.weight for word in run.words), reverse=True)
        score = weights[0] + (0.8 * weights[1] if len(weights) > 1 else 0.0)
        if all(word.word in self.lists.doubtful for word in run.words):
            # Two words of the dictionary in capitals ("Ferry Line") are a title as likely as a person.
            score = min(score, weights[0] + 0.2)
        if all(word.word in self.lists.places for word in run.words):
            score = weights[0]
        if run.listed and run.first == 0 and self.casings[0] is Casing.ANSWER and self._only_codes_behind(run):
            # The whole message is a name: the answer to "What is the name on the order?".
            score += 1.3
        if len(run.words) > 1 and self._fills_line(run):
            score += 0.5
        if self._is_spoken(run) and len(run.words) > 1 and run.words[0].word in self.lists.clear_given:
            # Given and family name one behind the other: speech has nothing else to tell them by.
            score += 0.9
        return score + self._left(run) + self._right(run) - self._titled(run)

    def _left(self, run: _Run) -> float:
        if run.first == 0:
            return 0.0
        gap = self.text[self.tokens[run.first - 1][1] : run.start]
        word = self.folded[run.first - 1]
        if "\n" in gap and word not in cues.LEFT_STRONG and not self._is_wrapped(run):
            return 0.3
        if word in cues.LEFT_STRONG and not gap.strip(" ,:\n"):
            return 2.5
        return self._left_word(run, word, gap)

    def _is_wrapped(self, run: _Run) -> bool:
        """Return whether the line of a run goes on one above: words behind it, and a small letter where that ends."""
        end = self.tokens[run.first - 1][1]
        behind = self.text[run.end : run.end + 1]
        return _WRAPPED.fullmatch(self.text[end - 1 : run.start]) is not None and behind not in ("", "\n")

    def _left_word(self, run: _Run, word: str, gap: str) -> float:
        if word in cues.LEFT_PERSON:
            return 0.6
        doubtful = run.words[0].word in self.lists.doubtful_given and self.casings[run.first] is Casing.WRITTEN
        # Somebody is spoken to: "Please help, Amber!"
        if gap == ", " and self.text[run.end : run.end + 1] in ("!", "?") and (run.listed or doubtful):
            return 0.5
        if word in cues.LEFT_LISTED and (run.listed or doubtful):
            return 0.3 if not run.listed else 0.15 if self._is_spoken(run) else 0.6
        before = self.folded[run.first - 2] if run.first > 1 else ""
        return self._left_of_self(word, before) or self._left_against(run, word, gap)

    @staticmethod
    def _left_of_self(word: str, before: str) -> float:
        """Return what words speak for a name that somebody gives: "this is", "I'm"; or calls: "shouted at"."""
        if word == "this" or (word == "is" and before in {"this", "name"}):
            return 0.8
        if word == "at" and before in cues.SPEAKING_AT:
            return 1.0
        return 0.5 if word in {"i'm", "im", "am"} else 0.0

    def _left_against(self, run: _Run, word: str, gap: str) -> float:
        if word in cues.LEFT_AGAINST:
            given = run.words[0].word in self.lists.clear_given
            return -0.5 if given else -1.0 if run.listed else -1.5
        return -0.4 if word in cues.LEFT_DETERMINER and gap == " " else 0.0

    def _right(self, run: _Run) -> float:
        if cues.SPEAKER.match(self.text, run.end) and _LINE_START.search(self.text[max(0, run.start - 8) : run.start]):
            return 1.2
        if self.text.startswith("'s", run.end):
            owned = 0.8 if self._is_spoken(run) else 1.2
            return owned if cues.OWNED.match(self.text, run.end) else 0.4
        if run.after >= len(self.tokens):
            return 0.0
        gap = self.text[run.end : self.tokens[run.after][0]]
        word = self.folded[run.after]
        if word in cues.ORGANIZATION and gap.strip(" ,.") in ("", "&"):
            return -3.0
        if cues.PREDICATE.match(self.text, run.end):
            return 1.0 if self._is_spoken(run) else 1.2
        return 0.4 if word in cues.RIGHT and gap in (" ", ", ") else 0.0

    def _only_codes_behind(self, run: _Run) -> bool:
        return all(len(word) <= 3 for word in self.folded[run.after :])

    def _is_spoken(self, run: _Run) -> bool:
        return self.casings[run.first] in {Casing.SPOKEN, Casing.ANSWER}

    def _titled(self, run: _Run) -> float:
        """Return what speaks for a title: quotation marks or brackets around it, or particles of Japanese in romaji."""
        before, behind = self.text[max(0, run.start - 1) : run.start], self.text[run.end : run.end + 1]
        against = 0.6 if before in cues.OPENING and behind in cues.CLOSING and before and behind else 0.0
        left = self.folded[run.first - 1] if run.first else ""
        right = self.folded[run.after] if run.after < len(self.tokens) else ""
        if (
            left in cues.ROMAJI_PARTICLES
            or right in cues.ROMAJI_PARTICLES
            or run.words[-1].word.endswith(cues.CHARACTER_ENDINGS)
        ):
            against += 1.0
        if self._in_title_case(run):
            against += 1.0 if not run.listed else 0.5
        return against + (0.5 if right in {"fan", "fans"} else 0.0)

    def _in_title_case(self, run: _Run) -> bool:
        """Return whether a capitalised word of the dictionary stands beside a run ("Salt Line", "Lady Barrow")."""
        if self.casings[run.first] is not Casing.WRITTEN:
            return False
        beside = [run.after] if run.after < len(self.tokens) and self._adjacent(run.after) else []
        if run.first and self._adjacent(run.first) and not self._begins_sentence(run.first - 1):
            beside.append(run.first - 1)
        return any(self._is_capitalised_word(index) for index in beside)

    def _is_capitalised_word(self, index: int) -> bool:
        token, word = self.tokens[index][2], self.folded[index].removesuffix("'s")
        plain = token[0].isupper() and not token.isupper() and word in self.lists.words
        return plain and word not in cues.LEFT_PERSON | cues.LEFT_STRONG | cues.TITLES | cues.SUFFIXES | cues.STREETS

    def _fills_line(self, run: _Run) -> bool:
        """Return whether a run is a line of its own among others, as in a signature or on a label."""
        behind = self.text[run.end : run.end + 1]
        before = self.text[max(0, run.start - 8) : run.start]
        return "\n" in self.text and behind in ("", "\n") and _LINE_START.search(before) is not None

    def _coordinate(self, runs: list[_Run]) -> None:
        """Let a name speak for its neighbours in an enumeration ("Nadbath, Smith and Stanton"), both ways."""
        for order in (runs, runs[::-1]):
            for one, other in pairwise(order):
                first, second = (one, other) if one.start < other.start else (other, one)
                if all(word.word in self.lists.places for word in other.words):
                    continue
                if one.score >= THRESHOLD and cues.COORDINATED.fullmatch(self.text, first.end, second.start):
                    other.score += _COORDINATION * (other.score < THRESHOLD)

    def _catalogue(self, run: _Run) -> float:
        """Return what a word of the catalogue beside a run speaks against it: "Naruto volume 3", "manga by Ito"."""
        before = self.text[max(0, run.start - _BESIDE) : run.start]
        beside = cues.CATALOGUE_BEFORE.search(before) or cues.CATALOGUE_BEHIND.match(self.text, run.end)
        return 1.0 if beside else 0.0

    def _is_street(self, run: _Run) -> bool:
        if run.after >= len(self.tokens) or self.folded[run.after] not in cues.STREETS:
            return False
        is_certain = any(word.weight >= 0.8 and word.word not in self.lists.words for word in run.words)
        return is_certain and self._adjacent(run.after)

    def _detection(self, run: _Run) -> Detection:
        start, end = run.start, run.end
        if run.first and self._adjacent(run.first) and self._leads(run.first - 1):
            start = self.tokens[run.first - 1][0]
        if run.after < len(self.tokens) and self.folded[run.after] in cues.SUFFIXES:
            following = self.tokens[run.after]
            end = following[1] if self.text[end : following[0]] in (" ", ", ") else end
        return Detection(start, end, Kind.NAME)
