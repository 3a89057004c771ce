"""The trigger ledger: every evaluation that had something to say, with its numbers, for ever; a file an hour.

Only the sensor writes, one tick after another. A file is written whole: a killed tick leaves it as it was, or with its
lines, which the same tick may then write again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import numpy as np

from mangaassist_assets.core.codecs import from_json
from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.core.files import write_whole
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.triggers.feedback_trigger import BundleEvaluation, Evaluation, Outcome
from mangaassist_assets.triggers.state_files import FOLDER

if TYPE_CHECKING:
    from upath import UPath

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_OF_CHART = 6


class LedgerDamagedError(OperatorError):
    """A line of the ledger cannot be read; the message names file and line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerStream:
    """Where one stream stood; numbers as in `Standing`."""

    stream: str
    evidence: float
    needed: float
    down: float
    votes: float
    share_before: float
    reference_votes: float
    shoppers: int
    since_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """One evaluation of one bundle. `at_ms` is when (ms since the epoch, UTC), `run_key` of what was asked for."""

    at_ms: int
    release_bundle: str
    outcome: Outcome
    epoch: int
    counted: int
    sentence: str
    heard: str
    streams: tuple[LedgerStream, ...] = ()
    changes: tuple[str, ...] = ()
    run_key: str | None = None

    @property
    def at(self) -> datetime:
        """When it was (UTC)."""
        return datetime.fromtimestamp(self.at_ms / 1000, UTC)

    @property
    def place(self) -> np.datetime64:
        """When it was, as a chart takes it."""
        return np.datetime64(self.at_ms, "ms")


def rows_of(evaluation: Evaluation, *, at_ms: int, run_keys: dict[str, str]) -> list[LedgerRow]:
    """Return what an evaluation leaves in the ledger: the bundles with new votes, and those that fire or are held.

    `run_keys` are of what is asked for, by bundle.
    """
    heard = evaluation.heard.described()
    return [
        _row(one, at_ms=at_ms, heard=heard, run_key=run_keys.get(one.release_bundle))
        for one in evaluation.bundles
        if one.counted or one.recovered or one.release_bundle in run_keys
    ]


def _row(one: BundleEvaluation, *, at_ms: int, heard: str, run_key: str | None) -> LedgerRow:
    return LedgerRow(
        at_ms=at_ms,
        release_bundle=one.release_bundle,
        outcome=one.outcome,
        epoch=one.epoch,
        counted=one.counted,
        sentence=one.sentence,
        heard=heard,
        streams=tuple(
            LedgerStream(
                stream=near.stream,
                evidence=near.evidence,
                needed=near.needed,
                down=near.down,
                votes=near.votes,
                share_before=near.share_before,
                reference_votes=near.reference_votes,
                shoppers=near.shoppers,
                since_ms=near.since_ms,
            )
            for near in one.nearest
        ),
        changes=tuple(map(str, one.changes)),
        run_key=run_key,
    )


class TriggerLedger:
    """The ledger under the root of the store."""

    def __init__(self, root: UPath) -> None:
        self._folder = root / FOLDER / "ledger"

    def append(self, rows: Sequence[LedgerRow]) -> None:
        """Add rows of one moment."""
        if not rows:
            return
        path = self._folder / f"{rows[0].at:%Y-%m-%d}" / f"{rows[0].at:%H}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.fs.invalidate_cache()
        before = path.read_bytes() if path.exists() else b""
        write_whole(path, before + b"".join(canonical_json(row) + b"\n" for row in rows))

    def days(self) -> list[date]:
        """Return the days with rows, the oldest first."""
        self._folder.fs.invalidate_cache()
        names = (path.name for path in self._folder.iterdir()) if self._folder.exists() else ()
        return sorted(date.fromisoformat(name) for name in names if _DAY.fullmatch(name))

    def rows(self, day: date, *, release_bundle: str | None = None) -> list[LedgerRow]:
        """Return the rows of a day (UTC), of one bundle or all, in the order they were written.

        Raises:
            LedgerDamagedError: A line is no row.
        """
        found = self._read(day)
        return [row for row in found if release_bundle in (None, row.release_bundle)]

    def _read(self, day: date) -> Iterator[LedgerRow]:
        folder = self._folder / f"{day:%Y-%m-%d}"
        folder.fs.invalidate_cache()
        for path in sorted(folder.iterdir(), key=lambda one: one.name) if folder.exists() else ():
            if not path.name.endswith(".jsonl"):
                continue
            for number, line in enumerate(path.read_bytes().splitlines(), start=1):
                try:
                    yield from_json(LedgerRow, line)
                except ValueError as error:
                    raise LedgerDamagedError(
                        f"line {number} of {path} is no row of the trigger ledger: restore the file from a backup, or "
                        "take the line out"
                    ) from error


def summary(rows: Iterable[LedgerRow]) -> dict[str, dict[str, int]]:
    """Return how often each bundle came out how."""
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        outcomes = found.setdefault(row.release_bundle, {})
        outcomes[row.outcome] = outcomes.get(row.outcome, 0) + 1
    return found


def ledger_chart(rows: Sequence[LedgerRow], *, title: str) -> bytes:
    """Return a PNG of the evidence over what is needed, of the nearest stream of each bundle, over time."""
    from matplotlib.figure import Figure

    from mangaassist_assets.core.plotting import name_fonts, png

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    drawn = [row for row in rows if row.streams]
    newest = {row.release_bundle: row.at_ms for row in drawn}
    shown = sorted(newest, key=lambda one: (newest[one], one))[-_OF_CHART:]
    for bundle in shown:
        own = [row for row in drawn if row.release_bundle == bundle]
        times = np.array([row.place for row in own])
        axes.plot(times, [_share(row) for row in own], marker=".", markersize=3, linewidth=1, label=bundle)
        for mark, outcome, colour in (("v", "fired", "tab:red"), ("s", "held", "tab:orange")):
            of = [row for row in own if row.outcome == outcome]
            axes.scatter(
                np.array([row.place for row in of], dtype="datetime64[ms]"),
                [_share(row) for row in of],
                marker=mark,
                color=colour,
                zorder=3,
            )
    axes.axhline(1.0, color="black", linewidth=0.8, linestyle="--")
    axes.set_yscale("log")
    axes.set_ylabel("evidence over needed evidence")
    axes.set_title(title, family=name_fonts())
    if shown:
        axes.legend(fontsize=8, loc="upper left", prop={"family": name_fonts(), "size": 8})
    figure.autofmt_xdate()
    return png(figure)


def _share(row: LedgerRow) -> float:
    nearest = row.streams[0]
    return math.exp(min(math.log(max(nearest.evidence, 1e-12)) - math.log(nearest.needed), 12.0))
