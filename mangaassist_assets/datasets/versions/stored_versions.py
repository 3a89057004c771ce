"""Dataset versions at rest: written once, found again by their names, checked against their cards."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mangaassist_assets.core.bundles import bundles_until
from mangaassist_assets.core.declared_inputs import StepStore
from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.core.snapshots import Snapshot, SnapshotDamagedError, SnapshotStore
from mangaassist_assets.datasets.guards.leakage import EarlierVersion
from mangaassist_assets.datasets.versions.data_card import CARD_SCHEMA, DataCard
from mangaassist_assets.datasets.versions.versions import (
    CARD_FILE,
    CARD_TEXT_FILE,
    EXAMPLES_FILE,
    DatasetDamagedError,
    DatasetVersion,
    content_digest,
    from_parquet,
    version_id,
)

if TYPE_CHECKING:
    import polars as pl

SHORTEST_NAME = 6


class ImmutableVersionError(ValueError):
    """Something else was to be stored under the name of a version."""


class UnknownVersionError(OperatorError, LookupError):
    """No stored version has this name, or more than one has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVersion:
    """One stored snapshot of a dataset; `latest` says whether it is what its bundle's dataset is now."""

    snapshot: Snapshot
    card: DataCard
    latest: bool

    @property
    def asset(self) -> str:
        """The dataset it is a version of."""
        return self.snapshot.name

    @property
    def version(self) -> str:
        """Its name."""
        return self.card.version


def keep_version(step: StepStore, asset: str, version: DatasetVersion) -> Snapshot:
    """Store a version as what a step makes; that it was there before is no input of it."""
    files = version_files(step, asset, version)
    return step.keep(files, own_rows=files[EXAMPLES_FILE])


def version_files(store: SnapshotStore, asset: str, version: DatasetVersion) -> dict[str, bytes]:
    """Return a version as it is stored. The rows of a version are written once.

    Where the version is stored already, its Parquet bytes stand: a newer Polars may write the same rows in other bytes.

    Raises:
        ImmutableVersionError: the rows are not those that the version is named by.
        DatasetDamagedError: the version is stored already, and its stored rows are not those it is named by.
    """
    expected = version_id(version.card.kind, version.digest, version.card.as_of_ms)
    digest = content_digest(version.frame)
    if (digest, expected) != (version.digest, version.card.version):
        raise ImmutableVersionError(
            f"the rows have digest {digest[:12]}…, but are called version {version.card.version[:12]}… of digest "
            f"{version.digest[:12]}…: a version never changes; seal the rows to get a version of their own"
        )
    files = version.files()
    for stored in store.history(asset):
        card = _readable_card(store, stored) if _is_dataset(stored) else None
        # What is damaged is mended by what is written now.
        if card is not None and card.version == expected and not store.defects(stored):
            rows = store.read(stored, EXAMPLES_FILE)
            _rows_of(stored, rows, digest)
            files[EXAMPLES_FILE] = rows
            break
    return files


def dataset_assets(store: SnapshotStore) -> tuple[str, ...]:
    """Return the assets that dataset versions are stored under: those with rows and a card, of any model pipeline."""
    return tuple(
        name
        for name in store.names()
        if any(_is_dataset(store.latest(name, partition=one)) for one in store.partitions(name))
    )


def _is_dataset(snapshot: Snapshot) -> bool:
    return {CARD_FILE, EXAMPLES_FILE} <= snapshot.files.keys()


def stored_versions(store: SnapshotStore, assets: Collection[str] | None = None) -> list[StoredVersion]:
    """Return every stored version by asset, as-of time and name; without those whose card is damaged.

    Without `assets` those of all datasets.
    """
    found: list[StoredVersion] = []
    for asset in sorted(dataset_assets(store) if assets is None else assets):
        latest = {(name, store.latest(asset, partition=name).digest) for name in store.partitions(asset)}
        for snapshot in store.history(asset):
            if _is_dataset(snapshot) and (card := _readable_card(store, snapshot)) is not None:
                is_latest = (snapshot.partition, snapshot.digest) in latest
                found.append(StoredVersion(snapshot=snapshot, card=card, latest=is_latest))
    return sorted(
        found,
        key=lambda one: (
            one.asset,
            -1 if one.card.as_of_ms is None else one.card.as_of_ms,
            one.snapshot.partition or "",
            one.version,
            one.snapshot.digest,
        ),
    )


def _readable_card(store: SnapshotStore, snapshot: Snapshot) -> DataCard | None:
    try:
        return DataCard.from_json(store.read(snapshot, CARD_FILE))
    except SnapshotDamagedError:
        return None


def find_version(store: SnapshotStore, name: str) -> StoredVersion:
    """Return the stored version whose name, or whose rows' digest, begins with `name`.

    Of several snapshots of one version the latest counts: their rows are the same.

    Raises:
        UnknownVersionError: there is none, there are several, or the name is too short.
    """
    wanted = name.strip().lower()
    if len(wanted) < SHORTEST_NAME:
        msg = f"{name!r} is too short for the name of a dataset version: give at least {SHORTEST_NAME} of its digits"
        raise UnknownVersionError(msg)
    matching = [
        one for one in stored_versions(store) if one.version.startswith(wanted) or one.card.digest.startswith(wanted)
    ]
    names = {one.version for one in matching}
    if len(names) == 1:
        return next((one for one in matching if one.latest), matching[-1])
    if not names:
        damaged = list(damaged_snapshots(store))
        hint = f"; {len(damaged)} damaged snapshots could not be read: {', '.join(damaged)}" if damaged else ""
        msg = f"no stored dataset version is called {name!r}: `mangaassist datasets list` names them all{hint}"
    else:
        shown = ", ".join(f"{one.version[:12]} ({one.asset} {one.snapshot.partition})" for one in matching)
        msg = f"{name!r} names {len(names)} dataset versions: {shown}; give more digits of the version"
    raise UnknownVersionError(msg)


def read_rows(store: SnapshotStore, stored: StoredVersion) -> pl.DataFrame:
    """Return the rows of a stored version.

    Raises:
        DatasetDamagedError: they are not those it is named by; names the file.
    """
    return _rows_of(stored.snapshot, store.read(stored.snapshot, EXAMPLES_FILE), stored.card.digest)


def read_dataset(store: SnapshotStore, asset: str, release_bundle: str) -> DatasetVersion:
    """Return a bundle's dataset, its rows checked against their digest."""
    snapshot = store.latest(asset, partition=release_bundle)
    card = DataCard.from_json(store.read(snapshot, CARD_FILE))
    return DatasetVersion(
        frame=from_parquet(store.read(snapshot, EXAMPLES_FILE), expected_digest=card.digest), card=card
    )


def earlier_versions(
    store: SnapshotStore, asset: str, release_bundle: str, *, as_of_ms: int | None
) -> list[EarlierVersion]:
    """Return the versions of a dataset, of this bundle and those before, as of the same time or an earlier one.

    What was stored when does not count: a past bundle that is built again must come out as it did, whatever newer
    bundles were built in between. Older snapshots that are no longer the latest of their bundle count, for a model may
    have been judged by them; the version itself is among them once it is stored, which changes nothing.
    """
    bundles = set(bundles_until(store, release_bundle))
    found: dict[str, EarlierVersion] = {}
    for snapshot in store.history(asset):
        if snapshot.partition not in bundles or not _is_dataset(snapshot):
            continue
        card = store.read_json(snapshot, CARD_FILE)
        name = f"{snapshot.partition} {card['digest'][:12]}"
        known_ms = card["as_of_ms"]
        if name not in found and (as_of_ms is None or known_ms is None or known_ms <= as_of_ms):
            rows = from_parquet(store.read(snapshot, EXAMPLES_FILE), expected_digest=card["digest"])
            found[name] = EarlierVersion(name=name, frame=rows)
    return [found[name] for name in sorted(found)]


def problems_of(store: SnapshotStore, stored: StoredVersion) -> Sequence[str]:
    """Return what is wrong with a stored version: empty where rows, names and the card's text agree."""
    found: list[str] = []
    card = stored.card
    try:
        read_rows(store, stored)
    except (DatasetDamagedError, SnapshotDamagedError) as error:
        found.append(str(error))
    if card.version != version_id(card.kind, card.digest, card.as_of_ms):
        found.append(f"{CARD_FILE} calls itself version {card.version[:12]}…, which its digest and time do not make")
    # The text of a card of before is as it was written then.
    same_form = json.loads(store.read(stored.snapshot, CARD_FILE)).get("schema") == CARD_SCHEMA
    if same_form and store.read(stored.snapshot, CARD_TEXT_FILE) != card.to_markdown().encode():
        found.append(f"{CARD_TEXT_FILE} does not say what {CARD_FILE} says")
    return found


def damaged_snapshots(store: SnapshotStore, assets: Collection[str] | None = None) -> Iterator[str]:
    """Yield the records of stored datasets with files that are gone or changed, and those files.

    Writing the same version again mends it. Without `assets` those of all datasets. Every byte is read.
    """
    for asset in sorted(dataset_assets(store) if assets is None else assets):
        for snapshot in store.history(asset):
            if defects := store.defects(snapshot):
                yield f"{snapshot.uri} ({', '.join(defects)})"


def _rows_of(snapshot: Snapshot, content: bytes, digest: str) -> pl.DataFrame:
    try:
        return from_parquet(content, expected_digest=digest)
    except DatasetDamagedError as error:
        raise DatasetDamagedError(f"{snapshot.uri}/{EXAMPLES_FILE}: {error}") from error
