"""Building a stored dataset version again from the inputs on its card, and comparing every byte.

The proof that a version is what its card says: nobody edited it, and nothing that is not on the card went into it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from mangaassist_assets.core.declared_inputs import InputGoneError, PinnedStore
from mangaassist_assets.core.snapshots import SnapshotMissingError, SnapshotStore
from mangaassist_assets.datasets.building.built_dataset import EmptyDatasetError
from mangaassist_assets.datasets.building.intent_dataset import DEFAULT_INTENT_DATASET
from mangaassist_assets.datasets.building.intent_versions import build_intent_version
from mangaassist_assets.datasets.building.ranking_versions import build_ranking_version
from mangaassist_assets.datasets.building.recorded_searches import SEARCHES_FILE, recorded_search
from mangaassist_assets.datasets.building.reranker_dataset import DEFAULT_RANKING_DATASET
from mangaassist_assets.datasets.guards.leakage import LeakageError
from mangaassist_assets.datasets.versions.stored_versions import StoredVersion, problems_of, read_rows
from mangaassist_assets.datasets.versions.versions import EXAMPLES_FILE, content_digest, from_parquet
from mangaassist_assets.tracing.erasure import erased_users
from mangaassist_assets.tracing.purging import PurgedVersion

Outcome = Literal["identical", "different", "impossible"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """The outcome of building a version again: for each of its files how the new one compares with the stored one."""

    asset: str
    release_bundle: str
    version: str
    digest: str
    outcome: Outcome
    files: Mapping[str, str] = field(default_factory=dict)
    reason: str | None = None


Rebuild = Callable[[SnapshotStore, StoredVersion], Mapping[str, bytes]]


def rebuild(store: SnapshotStore, stored: StoredVersion, how: Rebuild | None) -> Rebuilt:
    """Build a version again and compare it with what is stored; nothing is written.

    `how` builds versions of its dataset, None where no model pipeline says how. `impossible` says that it cannot be
    built again, and why: it has no recorded inputs, one of them is gone, or it holds data of somebody who was erased
    since.
    """
    files, reason = _built_again(store, stored, how)
    compared = {} if files is None else _compared(store, stored, files)
    same = bool(compared) and set(compared.values()) == {"identical"}
    if files is not None and not same and reason is None:
        reason = (
            "the code or its libraries are not those that built it, or a user was erased since: see which files differ"
        )
    return Rebuilt(
        asset=stored.asset,
        release_bundle=stored.snapshot.partition or "",
        version=stored.version,
        digest=stored.card.digest,
        outcome="impossible" if files is None else "identical" if same else "different",
        files=compared,
        reason=reason,
    )


def rebuild_of_purged(version: PurgedVersion) -> Rebuilt:
    """Return that a version cannot be built again, because it was purged."""
    return Rebuilt(
        asset=version.asset,
        release_bundle=version.release_bundle,
        version=version.version,
        digest=version.digest,
        outcome="impossible",
        reason=version.reason,
    )


def _built_again(
    store: SnapshotStore, stored: StoredVersion, how: Rebuild | None
) -> tuple[Mapping[str, bytes] | None, str | None]:
    if problems := problems_of(store, stored):
        return None, f"the stored version is damaged: {'; '.join(problems)}"
    if not stored.card.inputs:
        return None, "its card records no inputs"
    erased = erased_users(store) & set(read_rows(store, stored)["user_key"].drop_nulls())
    if erased:
        return None, (
            f"{len(erased)} of its users were erased since: what they gave is not to be built again; the next version "
            "of the bundle is without them"
        )
    if how is None:
        return None, f"nothing is known of how {stored.asset} is built"
    try:
        return how(store, stored), None
    except (InputGoneError, SnapshotMissingError, EmptyDatasetError, LeakageError) as error:
        return None, str(error)


def _compared(store: SnapshotStore, stored: StoredVersion, files: Mapping[str, bytes]) -> dict[str, str]:
    found: dict[str, str] = {}
    for file in sorted({*stored.snapshot.files, *files}):
        if file not in files:
            found[file] = "not built again"
        elif file not in stored.snapshot.files:
            found[file] = "was not stored"
        elif (before := store.read(stored.snapshot, file)) == files[file]:
            found[file] = "identical"
        elif file == EXAMPLES_FILE and content_digest(from_parquet(before)) == content_digest(
            from_parquet(files[file])
        ):
            found[file] = "the same rows in other bytes: another version of Polars wrote it"
        else:
            found[file] = "different"
    return found


def rebuild_reranker_dataset(store: SnapshotStore, stored: StoredVersion) -> Mapping[str, bytes]:
    """Return the files of a reranker dataset version, built again from its recorded inputs and searches."""
    card = stored.card
    config = DEFAULT_RANKING_DATASET.with_settings(card.settings, as_of_ms=card.as_of_ms)
    built = build_ranking_version(
        PinnedStore(store, card.inputs),
        stored.snapshot.partition or "",
        search_for=recorded_search(store.read(stored.snapshot, SEARCHES_FILE)),
        config=config,
        settings={name: value for name, value in card.settings.items() if name not in config.settings()},
    )
    return built.files()


def rebuild_intent_dataset(store: SnapshotStore, stored: StoredVersion) -> Mapping[str, bytes]:
    """Return the files of an intent dataset version, built again from its recorded inputs."""
    card = stored.card
    config = DEFAULT_INTENT_DATASET.with_settings(card.settings, as_of_ms=card.as_of_ms)
    return build_intent_version(PinnedStore(store, card.inputs), stored.snapshot.partition or "", config=config).files()
