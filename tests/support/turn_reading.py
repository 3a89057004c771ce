"""Traces as turns of the contract."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mangaassist_assets.tracing.contract.records import TraceRecord
from mangaassist_assets.tracing.contract.turns import ChatTurn
from mangaassist_assets.tracing.reading.turn_reader import Quarantined, read_trace


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnReading:
    """What a set of traces said: valid turns, quarantined traces, and how many were still being written."""

    turns: tuple[ChatTurn, ...]
    quarantined: tuple[Quarantined, ...]
    in_progress: int


def read_turns(records: Iterable[TraceRecord]) -> TurnReading:
    """Parse traces; those still IN_PROGRESS are counted and left for the next reading."""
    turns: list[ChatTurn] = []
    quarantined: list[Quarantined] = []
    in_progress = 0
    for record in records:
        if record.state == "IN_PROGRESS":
            in_progress += 1
            continue
        parsed = parse_turn(record)
        if isinstance(parsed, ChatTurn):
            turns.append(parsed)
        else:
            quarantined.append(parsed)
    return TurnReading(turns=tuple(turns), quarantined=tuple(quarantined), in_progress=in_progress)


def parse_turn(trace: TraceRecord) -> ChatTurn | Quarantined:
    """Return the turn of a finished trace, or the quarantined trace with the first reason found."""
    return read_trace(trace).outcome
