"""Turns for tests of mining: one that went well unless a field says otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any

from mangaassist_assets.mining.blame.blame import Blame, consider, decide
from mangaassist_assets.mining.blame.rules import MiningRules, read_rules
from mangaassist_assets.mining.blame.signals import Signal, signals_of
from mangaassist_assets.mining.blame.turn_context import context_of
from mangaassist_assets.tracing.contract.turns import ChatTurn, RankedCandidate, Review, StageTiming

_NUMBERS = count()


def make_turn(**fields: Any) -> ChatTurn:
    number = next(_NUMBERS)
    defaults: dict[str, Any] = {
        "trace_id": f"tr-{number:04d}",
        "timestamp_ms": 1_000_000 + number * 3_600_000,
        "duration_ms": 20,
        "state": "OK",
        "release_bundle": "b1",
        "session_id": f"s-{number}",
        "message": f"message {number}",
        "intent": "order_status",
        "intent_confidence": 0.9,
        "answer": "Within two days.",
        "stages": (StageTiming(name="guardrails", duration_ms=1.0),),
        "candidates": (candidate("a.md", 1, selected=True), candidate("b.md", 2)),
    }
    told = {**defaults, **fields}
    # Our own chatbot tells how many chunks it found; a trace that does not says None.
    return ChatTurn(**{"candidate_count": len(told["candidates"]), **told})


def candidate(
    document: str, rank: int, *, rerank_rank: int | None = None, score: float | None = 0.5, selected: bool = False
) -> RankedCandidate:
    return RankedCandidate(
        chunk_id=f"{document}::0",
        document_id=document,
        retrieval_rank=rank,
        retrieval_score=1 / rank,
        rerank_rank=rank if rerank_rank is None else rerank_rank,
        rerank_score=score,
        selected=selected,
    )


def assessment(name: str, value: str, *, source: str = "human", at: int = 1, kind: str = "feedback") -> Review:
    return Review(name=name, kind=kind, values=(value,), source=source, source_id=f"{source}-1", timestamp_ms=at)  # type: ignore[arg-type]


def blame_turn(turn: ChatTurn, *, config: MiningRules | None = None) -> Blame:
    """The blame of one turn by itself."""
    rules = config or read_rules()
    return decide(consider(turn, rules, context_of([turn], rules)), rules)


def find_signals(turns: Iterable[ChatTurn], *, config: MiningRules | None = None) -> dict[str, tuple[Signal, ...]]:
    """The signals of each turn that has some, by trace id."""
    rules = config or read_rules()
    all_turns = list(turns)
    around = context_of(all_turns, rules)
    found = {turn.trace_id: signals_of(turn, rules, around) for turn in all_turns}
    return {trace_id: signals for trace_id, signals in found.items() if signals}
