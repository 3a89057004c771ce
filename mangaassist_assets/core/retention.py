"""Retention: which snapshots stay, and why; the others are collected, with the files that nothing names any more.

Rules say how many snapshots of an asset and partition stay and for how long. Beside them stays what is needed: the
latest, what a run or the platform stands on, and what any of these was made of, back to the first input. Purged records
stay too: they hold no data, and say why.
"""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from mangaassist_assets.core.blobs import StoredFile, drop_blobs, half_written, stored_blobs
from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.core.files import read_json
from mangaassist_assets.core.snapshots import Snapshot, SnapshotStore, input_name

PACKAGED_RULES: Final = Path(__file__).with_name("retention.toml")
RETENTION_VARIABLE: Final = "MANGAASSIST_RETENTION"
RUNS_FOLDER: Final = "runs"
_NUMBERS = ("grace_hours", "run_days", "index_generations", "endpoint_configurations")
_ALL = "all"

InputsOf = Callable[[Snapshot], Mapping[str, str]]
"""What a snapshot was made of: `asset`, `asset/partition` or `asset/partition@rows` to digest."""


class RetentionRulesError(OperatorError, ValueError):
    """A file of rules that cannot be used; names the file, the key, and what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRule:
    """What stays of an asset: so many distinct snapshots of each partition (None for all), and those younger."""

    newest: int | None = 0
    days: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRules:
    """All rules; `assets` by name or pattern."""

    grace: timedelta
    run_age: timedelta
    index_generations: int
    endpoint_configurations: int
    assets: Mapping[str, RetentionRule]

    def of(self, asset: str) -> RetentionRule:
        """Return the rule of an asset: by its name, else by the longest pattern that matches."""
        patterns = [one for one in self.assets if fnmatchcase(asset, one)]
        return self.assets[asset if asset in self.assets else max(patterns, key=lambda one: (len(one), one))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A snapshot that stays, and why."""

    snapshot: Snapshot
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What a collection takes away, or took: snapshots, files with their sizes, pins of old runs.

    `files` are the blobs that nothing names any more, by SHA-256, and `half_written` what killed writers left.
    """

    gone: tuple[Snapshot, ...]
    kept: tuple[Kept, ...]
    files: Mapping[str, int]
    half_written: tuple[StoredFile, ...] = ()
    runs: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """How many bytes that is."""
        return sum(self.files.values()) + sum(one.size for one in self.half_written)

    def bytes_of(self, snapshots: Iterable[Snapshot]) -> int:
        """Return how many bytes go with some of the snapshots, each file counted once."""
        return sum(self.files.get(sha256, 0) for sha256 in {one for it in snapshots for one in it.files.values()})


@dataclass(frozen=True, slots=True, kw_only=True)
class _RunPins:
    """What a run reads: the snapshots with these numbers."""

    run_id: str
    file: str
    snapshots: frozenset[tuple[str, str | None, int]]
    age: timedelta


@dataclass(slots=True)
class _Reasons:
    """Why snapshots stay, by their place and number; the first reason counts."""

    snapshots: dict[tuple[str, str | None], dict[int, Snapshot]]
    why: dict[tuple[str, str | None, int], str] = field(default_factory=dict)

    def add(self, one: Snapshot, why: str) -> bool:
        key = (one.name, one.partition, one.number)
        new = key not in self.why
        self.why.setdefault(key, why)
        return new


def read_rules(path: Path | None = None) -> RetentionRules:
    """Read a file of rules and lay it over the packaged one; None is the packaged one alone.

    Raises:
        RetentionRulesError: the file is missing, is no TOML, or a key of it is wrong.
    """
    packaged = _parsed(PACKAGED_RULES)
    own = {} if path is None else _parsed(path)
    name = PACKAGED_RULES.name if path is None else path.name
    values = {**packaged, **own, "assets": {**packaged["assets"], **_table(own.get("assets", {}), name, "assets")}}
    if unknown := sorted(set(values) - {*_NUMBERS, "assets"}):
        raise RetentionRulesError(f"{name}: {unknown[0]!r} is no key; there are {', '.join(_NUMBERS)} and assets")
    for key in _NUMBERS:
        whole = not key.endswith(("hours", "days"))
        if not _is_number(values[key], whole=whole):
            raise RetentionRulesError(f"{name}: {key} is {values[key]!r}, and must be a number of at least 0")
    return RetentionRules(
        grace=timedelta(hours=values["grace_hours"]),
        run_age=timedelta(days=values["run_days"]),
        index_generations=values["index_generations"],
        endpoint_configurations=values["endpoint_configurations"],
        assets={asset: _rule(rule, name, asset) for asset, rule in values["assets"].items()},
    )


def plan_collection(
    store: SnapshotStore,
    rules: RetentionRules,
    *,
    needed: Mapping[str, str],
    now: datetime,
    inputs_of: InputsOf | None = None,
) -> Collection:
    """Return what a collection would take away; nothing is touched.

    Args:
        store: The snapshots.
        rules: How many stay, and for how long.
        needed: Digests of snapshots that something outside the store stands on, and what that is.
        now: The present (UTC); what is younger than the grace stays.
        inputs_of: What a snapshot was made of; by default what its record says.
    """
    # Records before pins: a run that pinned what was the latest until a moment ago has written its pins by then.
    places: dict[tuple[str, str | None], dict[int, Snapshot]] = defaultdict(dict)
    for one in store.everything():
        places[one.name, one.partition][one.number] = one
    pins = list(_pins(store, now))
    reasons = _Reasons(places)
    for (name, _), numbered in places.items():
        _by_rule(reasons, rules, rules.of(name), [numbered[number] for number in sorted(numbered)], needed, now)
    _of_runs(reasons, [one for one in pins if one.age < rules.run_age])
    _with_inputs(reasons, inputs_of or (lambda one: one.origin.inputs))
    kept: list[Kept] = []
    gone: list[Snapshot] = []
    for numbered in places.values():
        for one in numbered.values():
            why = reasons.why.get((one.name, one.partition, one.number))
            if why is None:
                gone.append(one)
            else:
                kept.append(Kept(snapshot=one, why=why))
    named = {sha256 for one in kept if not one.snapshot.purged for sha256 in one.snapshot.files.values()}
    return Collection(
        gone=tuple(sorted(gone, key=_place)),
        kept=tuple(sorted(kept, key=lambda one: _place(one.snapshot))),
        files={
            sha256: one.size
            for sha256, one in stored_blobs(store).items()
            if sha256 not in named and now - one.modified >= rules.grace
        },
        half_written=tuple(one for one in half_written(store) if now - one.modified >= rules.grace),
        runs=tuple(pin.file for pin in pins if pin.age >= rules.run_age),
    )


def collect(store: SnapshotStore, planned: Collection) -> None:
    """Take away what was planned; killed at any place, the next plan has the rest.

    Records go first, what was made before what it was made of, so that none is left without its inputs; then files. A
    file that an unpurged record still names, or names again, stays.
    """
    for one in sorted(planned.gone, key=_committed, reverse=True):
        store.drop_record(one)
    drop_blobs(store, planned.files)
    for file in planned.half_written:
        file.of(store).unlink(missing_ok=True)
    for name in planned.runs:
        (store.root / RUNS_FOLDER / name).unlink(missing_ok=True)


def _by_rule(
    reasons: _Reasons,
    rules: RetentionRules,
    rule: RetentionRule,
    snapshots: Sequence[Snapshot],
    needed: Mapping[str, str],
    now: datetime,
) -> None:
    """Note why snapshots of one place, the oldest first, stay by themselves."""
    distinct: set[str] = set()
    followed_at = now
    for one in reversed(snapshots):
        again = one.digest in distinct
        distinct.add(one.digest)
        age = now - _committed(one)
        if one is snapshots[-1]:
            reasons.add(one, "the latest")
        elif one.purged:
            reasons.add(one, f"was purged ({one.purged})")
        elif one.digest in needed and not again:
            reasons.add(one, needed[one.digest])
        elif now - followed_at < rules.grace:
            # The latest until a moment ago: a run may still read it.
            reasons.add(one, "younger than the grace, or the latest until then")
        elif age < timedelta(days=rule.days):
            reasons.add(one, f"younger than {rule.days:g} days")
        elif not again and (rule.newest is None or len(distinct) <= rule.newest):
            which = "all stay" if rule.newest is None else f"of the newest {rule.newest}"
            reasons.add(one, which)
        followed_at = _committed(one)


def _of_runs(reasons: _Reasons, runs: Sequence[_RunPins]) -> None:
    """Note what runs read, and what they made: a run that carries another one on reads that."""
    made_by = {one.run_id for one in runs}
    pinned = {place: f"run {one.run_id} reads it" for one in runs for place in one.snapshots}
    for numbered in reasons.snapshots.values():
        for one in numbered.values():
            if (why := pinned.get((one.name, one.partition, one.number))) is not None:
                reasons.add(one, why)
            elif one.origin.run_id in made_by:
                reasons.add(one, f"run {one.origin.run_id} made it, and may be carried on")


def _with_inputs(reasons: _Reasons, inputs_of: InputsOf) -> None:
    """Note that what kept snapshots were made of stays, back to the first input."""
    by_digest: dict[tuple[str, str], Snapshot] = {}
    for (name, partition), numbered in reasons.snapshots.items():
        for number in sorted(numbered):
            # The newest of a digest is what is found by it.
            by_digest[input_name(name, partition), numbered[number].digest] = numbered[number]
    waiting = [
        one
        for (name, partition), numbered in reasons.snapshots.items()
        for one in numbered.values()
        if (name, partition, one.number) in reasons.why and not one.purged
    ]
    while waiting:
        made = waiting.pop()
        for entry, digest in inputs_of(made).items():
            found = by_digest.get((entry.partition("@")[0], digest))
            if found is not None and reasons.add(found, f"{input_name(made.name, made.partition)} was made of it"):
                waiting.append(found)


def _pins(store: SnapshotStore, now: datetime) -> Iterator[_RunPins]:
    """Yield what runs pinned; see `run_pins`."""
    folder = store.root / RUNS_FOLDER
    folder.fs.invalidate_cache()
    for path in sorted(folder.iterdir(), key=lambda one: one.name) if folder.exists() else ():
        if path.name.endswith(".json") and not path.name.startswith("."):
            settled = read_json(path, what="what a run reads", mend="Delete it where that run is over.")
            places = {
                (asset, partition or None, number)
                for asset, numbers in settled["pins"].items()
                for partition, number in numbers.items()
            }
            age = now - datetime.fromisoformat(settled["pinned_at"]).astimezone(UTC)
            yield _RunPins(run_id=Path(path.name).stem, file=path.name, snapshots=frozenset(places), age=age)


def _committed(snapshot: Snapshot) -> datetime:
    return datetime.fromisoformat(snapshot.committed_at).astimezone(UTC)


def _place(snapshot: Snapshot) -> tuple[str, str, int]:
    return (snapshot.name, snapshot.partition or "", snapshot.number)


def _rule(values: object, file: str, asset: str) -> RetentionRule:
    table = _table(values, file, f"assets.{asset}")
    if unknown := sorted(set(table) - {"newest", "days"}):
        raise RetentionRulesError(f"{file}: assets.{asset}.{unknown[0]} is no key; there are newest and days")
    newest, days = table.get("newest", 0), table.get("days", 0)
    if newest != _ALL and not _is_number(newest, whole=True):
        raise RetentionRulesError(
            f'{file}: assets.{asset}.newest is {newest!r}, and must be a whole number or "{_ALL}"'
        )
    if not _is_number(days, whole=False):
        raise RetentionRulesError(f"{file}: assets.{asset}.days is {days!r}, and must be a number of at least 0")
    return RetentionRule(newest=None if newest == _ALL else newest, days=float(days))


def _is_number(value: object, *, whole: bool) -> bool:
    kinds = int if whole else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and value >= 0


def _table(value: object, file: str, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RetentionRulesError(f"{file}: {key} is {value!r}, and must be a table")
    return value


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RetentionRulesError(f"{path} cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RetentionRulesError(f"{path.name} is no TOML: {error}") from error
