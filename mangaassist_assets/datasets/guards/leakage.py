"""The leakage guard: what is on one side of a dataset is not on another, in no way that can be checked.

The builders do not leak by construction; this checks the frame that was written, and trusts nobody. Looked at are the
sides of the frame itself, the golden set, the test sides of all earlier versions, and time. Offenders are named by
example id and version, never by what they say.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import polars as pl

from mangaassist_assets.core.text_keys import normalise_text
from mangaassist_assets.datasets.guards.near_duplicates import (
    Conversations,
    Fingerprint,
    Fingerprints,
    NearDuplicateIndex,
    Spoken,
)

GOLDEN_SET = "the golden set"
_SHOWN = 5
_MOST_PARTNERS = 20
_SIDES = ("test", "validation", "train")


class LeakageError(ValueError):
    """A dataset holds the same thing on two sides, or an example changed sides between versions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierVersion:
    """A stored version that this one must not leak into; `name` says which in messages: bundle and digest."""

    name: str
    frame: pl.DataFrame = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldoutHistory:
    """The test sides of earlier versions: what was on one → the name of the first version it was in.

    What was on one is never trained on again, or the scores of then and now would mean nothing.
    `messages` are near-duplicate keys, each with its version and the example it came from.
    """

    examples: Mapping[str, str] = field(default_factory=dict)
    sessions: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict)
    messages: Mapping[str, tuple[str, str]] = field(default_factory=dict)


NO_HOLDOUT_HISTORY = HoldoutHistory()


def holdout_history_of(
    versions: Iterable[EarlierVersion], *, text_column: str = "text", cross_fitted: bool = False
) -> HoldoutHistory:
    """Return what the versions were tested on, looked at in the order of their names.

    With `cross_fitted` of the corpus only: labels of traffic are tested by models that have not seen them.
    """
    examples: dict[str, str] = {}
    sessions: dict[str, str] = {}
    users: dict[str, str] = {}
    messages: dict[str, tuple[str, str]] = {}
    keys: dict[str, str] = {}
    for version in sorted(versions, key=lambda one: one.name):
        test = version.frame.filter(pl.col("split") == "test")
        test = _corpus_of(test) if cross_fitted else test
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """One thing found where it must not be.

    `kind` is how it was recognised: example, text, near duplicate, session, user, conversation (minutes apart in two
    sessions) or time (later than the dataset's as-of time). `sides` are those it is on; `example_ids` name the
    offenders. `beside` is the golden set or the earlier version it leaks from, None inside the dataset.
    """

    kind: str
    sides: tuple[str, ...]
    example_ids: tuple[str, ...]
    beside: str | None = None

    def describe(self) -> str:
        """Return the leak as one phrase without any text of a shopper."""
        shown = ", ".join(self.example_ids[:_SHOWN])
        if self.kind == "time":
            return f"later than the as-of time: {shown}"
        where = f"{' and '.join(self.sides)} and in {self.beside}" if self.beside else " and ".join(self.sides)
        return f"{self.kind} on {where}: {shown}"


@dataclass(frozen=True, slots=True)
class _Example:
    example_id: str
    split: str
    key: str
    session_id: str | None
    user_key: str | None
    timestamp_ms: int | None


def find_leaks(
    frame: pl.DataFrame,
    *,
    text_column: str = "text",
    golden: Sequence[str] = (),
    earlier: Sequence[EarlierVersion] = (),
    as_of_ms: int | None = None,
    cross_fitted: bool = False,
) -> list[Leak]:
    """Return everything that is where it must not be, sorted by kind, place and example ids.

    Args:
        frame: the columns example_id, split, session_id, user_key and `text_column`, where there is a time
            timestamp_ms and labelled_ms, and label_kind for `cross_fitted`; null sessions and users match nothing.
        text_column: what the model reads.
        golden: messages of the golden set; no near-duplicate of them may be on any side.
        earlier: versions whose test sides must not be in train or validation.
        as_of_ms: nothing may have been written or labelled after it (ms since the epoch); None to not look.
        cross_fitted: labels of traffic may teach whatever earlier versions were tested on, for models that have not
            seen them test them; the corpus may not.
    """
    examples = _examples(frame, text_column)
    keys = sorted({one.key for one in examples})
    made = Fingerprints()
    fingerprints = dict(zip(keys, made.of(keys), strict=True))
    leaks = [
        *_on_two_sides(examples),
        *_nearly_on_two_sides(examples, fingerprints),
        *_conversations_on_two_sides(examples, fingerprints),
        *_in_golden_set(examples, fingerprints, sorted({normalise_text(text) for text in golden}), made),
        *_in_holdout_history(
            _examples(_corpus_of(frame), text_column) if cross_fitted else examples,
            fingerprints,
            holdout_history_of(earlier, text_column=text_column, cross_fitted=cross_fitted),
            made,
        ),
        *_after(frame, as_of_ms),
    ]
    return sorted(leaks, key=lambda leak: (leak.kind, leak.beside or "", leak.example_ids))


def refuse_leaks(leaks: Sequence[Leak]) -> None:
    """Raise if there are any.

    Raises:
        LeakageError: names the offending examples.
    """
    if leaks:
        shown = "; ".join(leak.describe() for leak in leaks[:_SHOWN])
        raise LeakageError(f"{len(leaks)} leaks in the dataset: {shown}; do not train on it")


def refuse_crossings(previous: pl.DataFrame, current: pl.DataFrame, *, cross_fitted: bool = False) -> None:
    """Raise if an example of the version before is on another side now.

    With `cross_fitted` a label of traffic may have left the test side, where versions of before had some.

    Raises:
        LeakageError: names the examples with both sides.
    """
    if cross_fitted:
        previous = previous.filter((pl.col("label_kind") == "base") | (pl.col("split") != "test"))
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
        raise LeakageError(f"{len(moved)} examples changed sides since the previous version: {shown}")


def _corpus_of(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("label_kind") == "base")


def _examples(frame: pl.DataFrame, text_column: str) -> list[_Example]:
    time = pl.col("timestamp_ms") if "timestamp_ms" in frame.columns else pl.lit(None, dtype=pl.Int64)
    rows = (
        frame.select("example_id", "split", text_column, "session_id", "user_key", time.alias("timestamp_ms"))
        .unique()
        .sort("example_id", "split", text_column)
    )
    return [
        _Example(example_id, split, normalise_text(text), session_id, user_key, timestamp_ms)
        for example_id, split, text, session_id, user_key, timestamp_ms in rows.iter_rows()
    ]


def _on_two_sides(examples: Sequence[_Example]) -> Iterator[Leak]:
    places: defaultdict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    for one in examples:
        place = (one.split, one.example_id)
        places["example", one.example_id].add(place)
        places["text", one.key].add(place)
        if one.user_key:
            places["user", one.user_key].add(place)
        if one.session_id:
            places["session", one.session_id].add(place)
    for (kind, _), found in places.items():
        if len({split for split, _ in found}) > 1:
            yield _leak(kind, {split for split, _ in found}, {example_id for _, example_id in found})


def _nearly_on_two_sides(examples: Sequence[_Example], fingerprints: dict[str, Fingerprint]) -> Iterator[Leak]:
    index = NearDuplicateIndex()
    seen: dict[str, _Example] = {}
    for side in _SIDES:
        # One example of each message of a side: the same message again is no news.
        members = {one.key: one for one in examples if one.split == side}
        for key, one in members.items():
            near = (seen[name] for name in index.near(fingerprints[key]))
            partners = list(islice((other for other in near if other.key != key), _MOST_PARTNERS))
            if partners:
                yield _leak_of("near duplicate", [one, *partners])
        for key, one in members.items():
            seen[f"{side}/{one.example_id}"] = one
            index.add(f"{side}/{one.example_id}", fingerprints[key])


def _conversations_on_two_sides(examples: Sequence[_Example], fingerprints: dict[str, Fingerprint]) -> Iterator[Leak]:
    named = {f"{one.split}/{one.example_id}": one for one in examples}
    spoken = [(one, message) for one in examples if (message := _spoken(one, fingerprints[one.key])) is not None]
    stronger = Conversations()
    for side in _SIDES:
        members = [(one, message) for one, message in spoken if one.split == side]
        for one, message in members:
            partners = [named[other] for other in islice(stronger.continued_by(message), _MOST_PARTNERS)]
            if partners:
                yield _leak_of("conversation", [one, *partners])
        for _, message in members:
            stronger.add(message)


def _in_golden_set(
    examples: Sequence[_Example], fingerprints: dict[str, Fingerprint], golden: Sequence[str], made: Fingerprints
) -> Iterator[Leak]:
    index = NearDuplicateIndex.of(golden, made)
    for one in examples:
        if index.has_near(fingerprints[one.key]):
            yield _leak("near duplicate", {one.split}, {one.example_id}, beside=GOLDEN_SET)


def _in_holdout_history(
    examples: Sequence[_Example],
    fingerprints: dict[str, Fingerprint],
    history: HoldoutHistory,
    made: Fingerprints,
) -> Iterator[Leak]:
    index = NearDuplicateIndex.of(list(history.messages), made)
    for one in examples:
        if one.split == "test":
            continue
        owners = (
            ("example", history.examples.get(one.example_id)),
            ("session", history.sessions.get(one.session_id or "")),
            ("user", history.users.get(one.user_key or "")),
        )
        for kind, version in owners:
            if version is not None:
                yield _leak(kind, {one.split}, {one.example_id}, beside=f"the test side of {version}")
        near = next(index.near(fingerprints[one.key]), None)
        if near is not None:
            version, example_id = history.messages[near]
            kind = "text" if near == one.key else "near duplicate"
            yield _leak(kind, {one.split}, {one.example_id, example_id}, beside=f"the test side of {version}")


def _after(frame: pl.DataFrame, as_of_ms: int | None) -> Iterator[Leak]:
    times = [name for name in ("timestamp_ms", "labelled_ms") if name in frame.columns]
    if as_of_ms is None or not times:
        return
    late = frame.filter(pl.any_horizontal(pl.col(name) > as_of_ms for name in times))
    for example_id, split in late.select("example_id", "split").unique().sort("example_id").iter_rows():
        yield _leak("time", {split}, {example_id})


def _spoken(one: _Example, fingerprint: Fingerprint) -> Spoken | None:
    if one.session_id is None or one.timestamp_ms is None:
        return None
    return Spoken(
        name=f"{one.split}/{one.example_id}",
        fingerprint=fingerprint,
        timestamp_ms=one.timestamp_ms,
        session_id=one.session_id,
        user_key=one.user_key,
    )


def _leak_of(kind: str, found: Sequence[_Example]) -> Leak:
    return _leak(kind, {one.split for one in found}, {one.example_id for one in found})


def _leak(kind: str, sides: set[str], example_ids: set[str], *, beside: str | None = None) -> Leak:
    return Leak(kind=kind, sides=tuple(sorted(sides)), example_ids=tuple(sorted(example_ids)), beside=beside)


def leak_counts(leaks: Sequence[Leak]) -> dict[str, int]:
    """Return how many leaks there are by kind and place."""
    counts = Counter(f"{leak.kind}, beside {leak.beside}" if leak.beside else leak.kind for leak in leaks)
    return dict(sorted(counts.items()))
