"""What stands around a turn: the message after it in the session, and which scores are usual in its bundle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from operator import attrgetter
from typing import Literal, NamedTuple

from mangaassist_assets.mining.blame.rules import MiningRules
from mangaassist_assets.mining.naming.words import word_overlap
from mangaassist_assets.tracing.contract.turns import ChatTurn

ScoreKind = Literal["reranker", "retriever"]
ScoreGroup = tuple[str, ScoreKind, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rephrasing:
    """The message that asked the same again: how alike (Jaccard, 0 to 1), how much later, and what came of it.

    `intent` is the classifier's then; `failed` says that this turn ended in an error or with a thumbs-down.
    """

    overlap: float
    seconds: float
    intent: str | None
    failed: bool


class SessionTurn(NamedTuple):
    """What of a turn is needed to see whether it asks again; the fields are columns of the stored turns."""

    trace_id: str
    timestamp_ms: int
    release_bundle: str
    session_id: str
    message: str
    intent: str | None
    state: str
    user_feedback: str | None


_session_turn = attrgetter(*SessionTurn._fields)


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
    said = map(SessionTurn._make, map(_session_turn, ordered))
    return TurnContext(rephrasings=rephrasings(said, rules), usual_scores=usual_scores(ordered))


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


def usual_scores(turns: Iterable[ChatTurn]) -> dict[ScoreGroup, tuple[float, ...]]:
    """Return the best scores of the well-rated turns, sorted; other turns add nothing."""
    found: defaultdict[ScoreGroup, list[float]] = defaultdict(list)
    for turn in turns:
        if turn.user_feedback == "thumbs_up" and (best := best_score(turn)) is not None:
            group, score = best
            found[group].append(score)
    return {group: tuple(sorted(scores)) for group, scores in found.items()}


def rephrasings(ordered: Iterable[SessionTurn], rules: MiningRules) -> dict[str, Rephrasing]:
    """Return by trace id the turns that were asked again, of turns in the order of (timestamp_ms, trace_id)."""
    rule = rules.signals["rephrased"]
    within_s, least_overlap = rule.number("within_s"), rule.number("word_overlap")
    last: dict[tuple[str, str], SessionTurn] = {}
    found: dict[str, Rephrasing] = {}
    for turn in ordered:
        session = turn.release_bundle, turn.session_id
        before = last.get(session)
        last[session] = turn
        if before is None:
            continue
        seconds = (turn.timestamp_ms - before.timestamp_ms) / 1000
        if seconds > within_s:
            continue
        overlap = word_overlap(before.message, turn.message)
        if overlap >= least_overlap:
            found[before.trace_id] = Rephrasing(
                overlap=overlap,
                seconds=seconds,
                intent=turn.intent,
                failed=turn.state == "ERROR" or turn.user_feedback == "thumbs_down",
            )
    return found
