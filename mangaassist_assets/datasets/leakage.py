"""The leakage guard: what is on one side of a dataset is not on another, in no way that can be checked.

The builders do not leak by construction; this checks the frame that was written, and trusts nobody.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from mangaassist_assets.datasets.text_keys import normalise_text

_SHOWN = 5


class LeakageError(ValueError):
    """A dataset holds the same thing on two sides, or an example changed sides between versions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """One thing found on several sides. `kind` is example, text, session or user; ids name the offenders."""

    kind: str
    sides: tuple[str, ...]
    example_ids: tuple[str, ...]


def find_leaks(frame: pl.DataFrame, *, text_column: str = "text") -> list[Leak]:
    """Return everything that is on more than one side, sorted by kind and example ids.

    `frame` has the columns example_id, split, session_id, user_key and `text_column`; null sessions and users match
    nothing.
    """
    places: defaultdict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    columns = ["example_id", "split", text_column, "session_id", "user_key"]
    for example_id, split, text, session_id, user_key in frame.select(columns).unique().iter_rows():
        place = (split, example_id)
        places["example", example_id].add(place)
        places["text", normalise_text(text)].add(place)
        if user_key:
            places["user", user_key].add(place)
        if session_id:
            places["session", session_id].add(place)
    leaks = [
        Leak(
            kind=kind,
            sides=tuple(sorted({split for split, _ in found})),
            example_ids=tuple(sorted({example_id for _, example_id in found})),
        )
        for (kind, _), found in places.items()
        if len({split for split, _ in found}) > 1
    ]
    return sorted(leaks, key=lambda leak: (leak.kind, leak.example_ids))


def refuse_leaks(frame: pl.DataFrame, *, text_column: str = "text") -> None:
    """Raise if anything is on more than one side.

    Raises:
        LeakageError: names the offending examples.
    """
    leaks = find_leaks(frame, text_column=text_column)
    if leaks:
        shown = "; ".join(
            f"{leak.kind} on {' and '.join(leak.sides)}: {', '.join(leak.example_ids[:_SHOWN])}"
            for leak in leaks[:_SHOWN]
        )
        msg = f"{len(leaks)} leaks between the sides of the dataset: {shown}; do not train on it"
        raise LeakageError(msg)


def refuse_held_out(frame: pl.DataFrame, held_out: Sequence[str], *, text_column: str = "text") -> None:
    """Raise if a message of the golden set is in the dataset.

    Raises:
        LeakageError: names the offending examples.
    """
    keys = {normalise_text(text) for text in held_out}
    offenders = sorted(
        {
            example_id
            for example_id, text in frame.select("example_id", text_column).iter_rows()
            if normalise_text(text) in keys
        }
    )
    if offenders:
        msg = f"{len(offenders)} examples are messages of the golden set: {', '.join(offenders[:_SHOWN])}"
        raise LeakageError(msg)


def refuse_crossings(previous: pl.DataFrame, current: pl.DataFrame) -> None:
    """Raise if an example of the version before is on another side now.

    Raises:
        LeakageError: names the examples with both sides.
    """
    before = previous.select("example_id", pl.col("split").alias("split_before")).unique()
    moved = (
        current.select("example_id", "split")
        .unique()
        .join(before, on="example_id", how="inner")
        .filter(pl.col("split") != pl.col("split_before"))
        .sort("example_id")
    )
    if len(moved):
        shown = ", ".join(
            f"{row['example_id']} ({row['split_before']} → {row['split']})" for row in moved.head(_SHOWN).to_dicts()
        )
        msg = f"{len(moved)} examples changed sides since the previous version: {shown}"
        raise LeakageError(msg)
