"""What stands around a turn: the message after it in the session, and which scores are usual in its bundle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Literal

from mangaassist_assets.mining.blame.rules import MiningRules
from mangaassist_assets.mining.naming.words import word_overlap
from mangaassist_assets.tracing.contract.turns import ChatTurn

ScoreKind = Literal["reranker", "retriever"]
ScoreGroup = tuple[str, ScoreKind, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rephrasing:
    """The message that asked the same again: how alike (Jaccard, 0 to 1), how much later, and what came of it."""

    overlap: float
    seconds: float
    following: ChatTurn


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnContext:
    """What the other turns say about each turn.

    `rephrasings` is by the trace id of the turn that was asked again. `usual_scores` holds, sorted, the best score of
    each well-rated turn; scores compare only within one bundle and one version of what gave them.
    """

    rephrasings: Mapping[str, Rephrasing]
    usual_scores: Mapping[ScoreGroup, tuple[float, ...]]


def context_of(turns: Iterable[ChatTurn], rules: MiningRules) -> TurnContext:
    """Return the context of turns; pass whole sessions and whole bundles."""
    ordered = sorted(turns, key=lambda turn: (turn.timestamp_ms, turn.trace_id))
    return TurnContext(rephrasings=_rephrasings(ordered, rules), usual_scores=_usual_scores(ordered))


def best_score(turn: ChatTurn) -> tuple[ScoreGroup, float] | None:
    """Return the best score among the candidates with what it compares with; the reranker's where it gave any.

    A candidate without a score has no low one. Fused retrieval scores depend on ranks only and vary little: they tell
    much less than the reranker's.
    """
    reranked = [score for one in turn.candidates if (score := one.rerank_score) is not None and isfinite(score)]
    if reranked:
        return (turn.release_bundle, "reranker", turn.reranker_version or ""), max(reranked)
    retrieved = [score for one in turn.candidates if (score := one.retrieval_score) is not None and isfinite(score)]
    if retrieved:
        return (turn.release_bundle, "retriever", turn.index_generation or ""), max(retrieved)
    return None


def _usual_scores(turns: Iterable[ChatTurn]) -> dict[ScoreGroup, tuple[float, ...]]:
    found: defaultdict[ScoreGroup, list[float]] = defaultdict(list)
    for turn in turns:
        if turn.user_feedback == "thumbs_up" and (best := best_score(turn)) is not None:
            group, score = best
            found[group].append(score)
    return {group: tuple(sorted(scores)) for group, scores in found.items()}


def _rephrasings(ordered: Iterable[ChatTurn], rules: MiningRules) -> dict[str, Rephrasing]:
    rule = rules.signals["rephrased"]
    sessions: defaultdict[tuple[str, str], list[ChatTurn]] = defaultdict(list)
    for turn in ordered:
        sessions[turn.release_bundle, turn.session_id].append(turn)
    found: dict[str, Rephrasing] = {}
    for session in sessions.values():
        for turn, following in pairwise(session):
            seconds = (following.timestamp_ms - turn.timestamp_ms) / 1000
            if seconds > rule.number("within_s"):
                continue
            overlap = word_overlap(turn.message, following.message)
            if overlap >= rule.number("word_overlap"):
                found[turn.trace_id] = Rephrasing(overlap=overlap, seconds=seconds, following=following)
    return found
