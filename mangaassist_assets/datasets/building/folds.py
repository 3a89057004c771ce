"""Folds: every label that people gave traffic is a test of a model that has not seen it.

The labels are dealt out by a hash of the shopper, else of the session, else of the message's near-duplicate group. A
fold's model learns from everything that teaches, corpus and traffic, but what it would know its tests by: the fold's
shoppers and sessions, its messages and their near-duplicates, and conversations that went on in another session.

Labels of a judge, propagated ones and the corpus are no tests: the first two are guesses, and the corpus is no traffic.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import polars as pl

from mangaassist_assets.core.text_keys import normalise_text
from mangaassist_assets.datasets.building.splits import owner_of
from mangaassist_assets.datasets.guards.near_duplicates import (
    Conversations,
    Fingerprint,
    Fingerprints,
    NearDuplicateIndex,
    Spoken,
)
from mangaassist_assets.datasets.schema import labels_of_people

_SALT = "mangaassist-folds-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One fold, counted from 1: the ids of the examples that test its model, and of those that it learns from."""

    number: int
    tests: frozenset[str]
    learned: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Row:
    """A row as folds see it; `person` stands for all sessions and accounts that are linked, empty for none."""

    example_id: str
    fingerprint: Fingerprint
    person: str
    spoken: Spoken | None


def folds_of(frame: pl.DataFrame, *, count: int, text_column: str = "text") -> tuple[Fold, ...]:
    """Deal the tests of a dataset out to folds; those that get none are left out.

    Args:
        frame: the rows of a dataset version, one an example.
        count: how many folds there are.
        text_column: what the model reads.
    """
    tests = {
        example_id: _fold(owner_of(text, session_id, user_key), count)
        for example_id, text, session_id, user_key in labels_of_people(frame)
        .select("example_id", text_column, "session_id", "user_key")
        .iter_rows()
    }
    rows = _rows(frame, text_column)
    teaching = frozenset(frame.filter(pl.col("split") != "test")["example_id"])
    return tuple(
        _fold_of(number, frozenset(one for one, fold in tests.items() if fold == number), rows, teaching)
        for number in sorted(set(tests.values()))
    )


def _fold(owner: str, count: int) -> int:
    digest = hashlib.sha256(f"{_SALT}\n{owner}".encode("utf-8", errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % count + 1


def _fold_of(number: int, tests: frozenset[str], rows: Collection[_Row], teaching: frozenset[str]) -> Fold:
    messages, conversations = NearDuplicateIndex(), Conversations()
    people: set[str] = set()
    for row in rows:
        if row.example_id in tests:
            messages.add(row.example_id, row.fingerprint)
            people |= {row.person} - {""}
            if row.spoken is not None:
                conversations.add(row.spoken)
    learned = frozenset(
        row.example_id
        for row in rows
        if row.example_id in teaching
        and row.person not in people
        and not messages.has_near(row.fingerprint)
        and (row.spoken is None or next(conversations.continued_by(row.spoken), None) is None)
    )
    return Fold(number=number, tests=tests, learned=learned)


def _rows(frame: pl.DataFrame, text_column: str) -> list[_Row]:
    columns = ("example_id", text_column, "session_id", "user_key", "timestamp_ms")
    values = list(frame.select(columns).sort("example_id").iter_rows())
    prints = Fingerprints().of([normalise_text(text) for _, text, *_ in values])
    people = _people([(session_id, user_key) for _, _, session_id, user_key, _ in values])
    return [
        _Row(
            example_id,
            fingerprint,
            person,
            None
            if session_id is None or timestamp_ms is None
            else Spoken(
                name=example_id,
                fingerprint=fingerprint,
                timestamp_ms=timestamp_ms,
                session_id=session_id,
                user_key=user_key,
            ),
        )
        for (example_id, _, session_id, user_key, timestamp_ms), fingerprint, person in zip(
            values, prints, people, strict=True
        )
    ]


def _people(owners: Sequence[tuple[str | None, str | None]]) -> list[str]:
    """Return a name for the person behind each session and account: a session with both links the two."""
    linked: dict[str, str] = {}

    def root(name: str) -> str:
        while linked.setdefault(name, name) != name:
            linked[name] = name = linked[linked[name]]
        return name

    named = [
        [f"{kind}:{name}" for kind, name in (("session", session_id), ("user", user_key)) if name]
        for session_id, user_key in owners
    ]
    for names in named:
        for name in names:
            linked[root(name)] = root(names[0])
    return [root(names[0]) if names else "" for names in named]
