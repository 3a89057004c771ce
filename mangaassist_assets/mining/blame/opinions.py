"""What others said of a turn: assessments that were put on it later, and verdicts that stand on its trace."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from mangaassist_assets.mining.blame.turn_facts import MOST_SHOWN, shown
from mangaassist_assets.mining.blame.verdicts import Outcome, VerdictRules
from mangaassist_assets.tracing.contract.names import EXPECTED_INTENT
from mangaassist_assets.tracing.contract.turns import ChatTurn, Review

_PLAIN_WORDS = frozenset({"true", "false", "yes", "no", "pass", "passed", "fail", "failed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What is said under one name, by the most trusted: a person before a judge or code, then the latest.

    `figure` is the score with its threshold or the word, ready for a sentence, empty for a plain yes or no.
    """

    name: str
    failed: bool
    by: Literal["human", "judge", "trace"]
    figure: str = ""


def opinions(turn: ChatTurn, names: Collection[str], rules: VerdictRules) -> list[Opinion]:
    """Return what the assessments of these names say, by name; one without a clear meaning says nothing."""
    best: dict[str, tuple[tuple[bool, int, str], Opinion]] = {}
    for review in turn.reviews:
        name = rules.key(review.name)
        if review.kind != "feedback" or name not in names or len(review.values) != 1:
            continue
        text, score = word_or_score(review.values[0])
        outcome = rules.outcome(name, text, score)
        if outcome not in ("failed", "passed"):
            continue
        human = review.source == "human"
        rank = (human, review.timestamp_ms, review.source_id)
        if name not in best or rank >= best[name][0]:
            by: Literal["human", "judge"] = "human" if human else "judge"
            best[name] = rank, _opinion(name, outcome, by, _figure(rules, name, text, score))
    return [best[name][1] for name in sorted(best)]


def trace_opinions(turn: ChatTurn, names: Collection[str], rules: VerdictRules) -> list[Opinion]:
    """Return what the trace's own verdicts of these names say, by name: it fails where one of them does.

    A person's assessment of the same name stands above them.
    """
    said: defaultdict[str, list[tuple[Outcome, str]]] = defaultdict(list)
    for verdict in turn.verdicts:
        name = rules.key(verdict.name, verdict.stage)
        outcome = rules.outcome(name, verdict.text, verdict.score) if name in names else None
        if outcome in ("failed", "passed"):
            said[name].append((outcome, _figure(rules, name, verdict.text, verdict.score)))
    if not said:
        return []
    by_people = {one.name for one in opinions(turn, said.keys(), rules) if one.by == "human"}
    found: list[Opinion] = []
    for name in sorted(said.keys() - by_people):
        failed = [figure for outcome, figure in said[name] if outcome == "failed"]
        figures = list(dict.fromkeys(figure for figure in failed if figure))[:MOST_SHOWN]
        found.append(_opinion(name, "failed" if failed else "passed", "trace", ", ".join(figures)))
    return found


def shown_opinions(found: Iterable[Opinion]) -> str:
    """Return names with the figure of each for a sentence, a few at most."""
    named = [f"{shown(one.name)} ({one.figure})" if one.figure else shown(one.name) for one in found]
    rest = f" and {len(named) - MOST_SHOWN} more" if len(named) > MOST_SHOWN else ""
    return ", ".join(named[:MOST_SHOWN]) + rest


def judged_intent(turn: ChatTurn) -> str | None:
    """Return the intent that a judging model expects, its latest word; None where none judged."""
    words = [
        review
        for review in turn.reviews
        if review.kind == "expectation" and review.name == EXPECTED_INTENT and review.source != "human"
    ]
    latest: Review | None = max(words, key=lambda one: (one.timestamp_ms, one.source_id, one.values), default=None)
    return None if latest is None else latest.values[0]


def word_or_score(value: str) -> tuple[str | None, float | None]:
    """Return the value of an assessment as a word or as a number."""
    try:
        return None, float(value)
    except ValueError:
        return value, None


def _opinion(name: str, outcome: Outcome, by: Literal["human", "judge", "trace"], figure: str) -> Opinion:
    return Opinion(name=name, failed=outcome == "failed", by=by, figure=figure)


def _figure(rules: VerdictRules, name: str, text: str | None, score: float | None) -> str:
    if text is not None:
        return "" if text in _PLAIN_WORDS else shown(text)
    return rules.scored(name, score) if score is not None else ""
