"""What earlier versions were tested on. It is never trained on again, or their scores and ours would mean nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import polars as pl

from mangaassist_assets.core.text_keys import normalise_text


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierVersion:
    """A stored version that this one must not leak into; `name` says which in messages: bundle and digest."""

    name: str
    frame: pl.DataFrame = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldoutHistory:
    """The test sides of earlier versions: what was on one → the name of the first version it was in.

    `messages` are near-duplicate keys, each with its version and the example it came from.
    """

    examples: Mapping[str, str] = field(default_factory=dict)
    sessions: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict)
    messages: Mapping[str, tuple[str, str]] = field(default_factory=dict)


NO_HOLDOUT_HISTORY = HoldoutHistory()


def holdout_history_of(versions: Iterable[EarlierVersion], *, text_column: str = "text") -> HoldoutHistory:
    """Return what the versions were tested on, looked at in the order of their names."""
    examples: dict[str, str] = {}
    sessions: dict[str, str] = {}
    users: dict[str, str] = {}
    messages: dict[str, tuple[str, str]] = {}
    keys: dict[str, str] = {}
    for version in sorted(versions, key=lambda one: one.name):
        test = version.frame.filter(pl.col("split") == "test")
        rows = test.select("example_id", text_column, "session_id", "user_key").unique().sort("example_id", text_column)
        for example_id, text, session_id, user_key in rows.iter_rows():
            examples.setdefault(example_id, version.name)
            # Versions grow out of each other: most of their texts are the same.
            if text not in keys:
                keys[text] = normalise_text(text)
                messages.setdefault(keys[text], (version.name, example_id))
            if session_id:
                sessions.setdefault(session_id, version.name)
            if user_key:
                users.setdefault(user_key, version.name)
    return HoldoutHistory(examples=examples, sessions=sessions, users=users, messages=messages)
