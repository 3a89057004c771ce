"""What the words and scores of moderators, classifiers, guardrails and judges mean: table `[verdicts]` of the rules.

A verdict on the trace and a feedback assessment of MLflow are read alike. Names are compared without case, spaces and
dashes (`AnswerRelevancy` is `answer_relevancy`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import isfinite
from typing import Literal

Outcome = Literal["failed", "passed", "off_scale"]

_FAILING = frozenset({"false", "no", "fail", "failed", "bad", "incorrect"})
_PASSING = frozenset({"true", "yes", "pass", "passed", "good", "correct"})
_ANY = "*"
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NO_LETTER = re.compile(r"(?:[^\w/]|_)+")


@lru_cache(maxsize=4096)
def plain_name(name: str) -> str:
    """Return a name as rules are looked up by it: small letters, words parted by one underscore."""
    return _NO_LETTER.sub("_", _HUMP.sub("_", name.strip())).strip("_").lower()


@dataclass(frozen=True, kw_only=True)
class VerdictRules:
    """By name: the words that fail (`*` is any but the harmless ones), the score above which or below which it fails.

    A name is a verdict's or an assessment's own, or `STAGE/NAME` for what a span of that stage says.
    """

    fails: Mapping[str, frozenset[str]]
    above: Mapping[str, float]
    below: Mapping[str, float]
    harmless: frozenset[str]

    @cached_property
    def names(self) -> frozenset[str]:
        """Every name that has a meaning."""
        return frozenset(self.fails) | frozenset(self.above) | frozenset(self.below)

    def key(self, name: str, stage: str | None = None) -> str:
        """Return the name under which the rules know a verdict: its stage's own where there is one."""
        plain = plain_name(name)
        own = plain if stage is None else f"{plain_name(stage)}/{plain}"
        return own if own in self.names else plain

    def outcome(self, key: str, text: str | None, score: float | None) -> Outcome | None:
        """Return what a word or a score says under a name; None where the rules give it no meaning.

        A threshold between 0 and 1 is on a scale from 0 to 1: a score off that scale neither fails nor passes, it is
        `off_scale`, as is one that is no finite number. At the threshold a score passes.
        """
        if text is not None:
            return self._of_word(key, text.strip().lower())
        low, high = self.below.get(key), self.above.get(key)
        bound = low if low is not None else high
        if score is None or bound is None:
            return None
        if not isfinite(score) or (0.0 < bound < 1.0 and not 0.0 <= score <= 1.0):
            return "off_scale"
        return "failed" if (low is not None and score < low) or (high is not None and score > high) else "passed"

    def scored(self, key: str, score: float) -> str:
        """Return a score with the threshold it missed, for a sentence."""
        low, high = self.below.get(key), self.above.get(key)
        if low is not None and score < low:
            return f"{score:.3g}, below {low:g}"
        return f"{score:.3g}, above {high:g}" if high is not None and score > high else f"{score:.3g}"

    def _of_word(self, key: str, word: str) -> Outcome | None:
        listed = self.fails.get(key)
        if listed is None:
            return "failed" if word in _FAILING else "passed" if word in _PASSING else None
        if word in listed:
            return "failed"
        if word in self.harmless or word in _PASSING:
            return "passed"
        return "failed" if _ANY in listed else None
