"""Which version was made champion, by what and whom: the record that an endpoint is deployed by.

The registry's alias can be moved by anybody who reaches MLflow. What goes into production is what a gate, a person's
override or the bootstrap made champion, with the hash of its artifact; each promotion is one more record of a ledger in
the platform's own store, and an alias that names something else was moved by somebody else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from mangaassist_assets.core.codecs import from_json
from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.core.snapshots import canonical_json

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.models.pipelines import ModelPipeline
    from mangaassist_assets.models.registration.registry import ModelVersion

PROMOTIONS = "champion_promotions"
"""The ledger of promotions, a partition a registered model."""
CHAMPION_FILE = "champion.json"
_BUNDLE_TAG, _BOOTSTRAP = "release_bundle", "bootstrap"
_DIGITS = 12


class UnnamedChampionError(OperatorError):
    """The registry's alias names a version that nothing made champion; says what to do."""


class ForeignMoveError(UnnamedChampionError):
    """The registry's alias names another version than the last promotion on record; says which, and the ways on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedChampion:
    """A version that was made champion, the SHA-256 of its artifact, and by what; `nothing` where nobody knows.

    `replaced` is the champion before, `decided_at` when (ISO 8601, UTC), `carried_out_by` what the systems say of who
    did it. What was recorded before these were has none of them.
    """

    version: str
    artifact_sha256: str | None
    by: Literal["verdict", "override", "bootstrap", "nothing"]
    replaced: str | None = None
    decided_at: str | None = None
    carried_out_by: Mapping[str, str] = field(default_factory=dict)

    def files(self) -> dict[str, bytes]:
        """Return the record as it is stored."""
        return {CHAMPION_FILE: canonical_json(self)}

    def names(self, version: ModelVersion | None) -> bool:
        """Return whether this is a version, artifact and all, that something made champion."""
        if version is None or self.by == "nothing":
            return False
        return (self.version, self.artifact_sha256) == (version.version, version.artifact_sha256)


def process_user() -> dict[str, str]:
    """Return the user of the operating system that this process belongs to: unlike a typed name, not a free choice."""
    import pwd

    uid = os.getuid()
    try:
        return {"os_user": pwd.getpwuid(uid).pw_name, "os_uid": str(uid)}
    except KeyError:  # a container's user without an entry
        return {"os_uid": str(uid)}


def described(carried_out_by: Mapping[str, str]) -> str:
    """Return who carried something out, in a line."""
    return ", ".join(f"{name} {value}" for name, value in carried_out_by.items()) or "nobody knows"


def read_named(store: SnapshotStore, asset: str, *, partition: str | None = None) -> NamedChampion | None:
    """Return what an asset, or the ledger of a model, last named champion; None where it named none yet."""
    snapshot = store.find(asset, partition=partition)
    if snapshot is None or CHAMPION_FILE not in snapshot.files:
        return None
    return from_json(NamedChampion, store.read(snapshot, CHAMPION_FILE))


def record_promotion(store: SnapshotStore, model_name: str, named: NamedChampion) -> None:
    """Keep a promotion for ever, beside those of before."""
    store.write(PROMOTIONS, named.files(), partition=model_name)


def recorded_promotions(store: SnapshotStore, model_name: str) -> list[NamedChampion]:
    """Return all promotions of a model on record, oldest first."""
    found = list(store.records(PROMOTIONS, partition=model_name))
    return [from_json(NamedChampion, store.read(one, CHAMPION_FILE)) for one in reversed(found)]


def last_promotion(store: SnapshotStore, pipeline: ModelPipeline) -> NamedChampion | None:
    """Return the last promotion on record; None where there is none.

    A store of before the ledger has what the assets of the champion and of the bootstrap named.
    """
    if (recorded := read_named(store, PROMOTIONS, partition=pipeline.model_name)) is not None:
        return recorded
    for asset in (pipeline.champion_asset, pipeline.first_asset):
        named = read_named(store, asset) if asset else None
        if named is not None and named.by != "nothing":
            return named
    return None


def is_of_bootstrap(version: ModelVersion) -> bool:
    """Return whether a version says that the bootstrap trained it; to be believed where no promotion is on record."""
    return version.tags.get(_BUNDLE_TAG) == _BOOTSTRAP


def foreign_move(last: NamedChampion, pipeline: ModelPipeline, version: ModelVersion | None) -> ForeignMoveError:
    """Return the error of an alias that names something else than the last promotion on record."""
    alias = f"the alias champion of {pipeline.model_name}"
    command = f"`mangaassist models promote --model {pipeline.group} --version {{}} --reason …`"
    when = "" if last.decided_at is None else f" on {last.decided_at}"
    who = f", carried out by {described(last.carried_out_by)}" if last.carried_out_by else ""
    record = f"the last promotion on record made version {last.version} champion (by {last.by}{when}{who})"
    if version is not None and version.version == last.version:
        return ForeignMoveError(
            f"{alias} names version {version.version} with artifact {_short(version.artifact_sha256)}, but {record} "
            f"with artifact {_short(last.artifact_sha256)}: its tag artifact_sha256 was changed in MLflow, which does "
            f"not say by whom. Set the tag back, or make another version champion with {command.format('VERSION')}"
        )
    back = f"Put it back with {command.format(last.version)}"
    if version is None:
        return ForeignMoveError(f"{alias} is gone, but {record}: MLflow does not say who took it away. {back}")
    return ForeignMoveError(
        f"{alias} names version {version.version} with artifact {_short(version.artifact_sha256)}, but {record}: it "
        f"was moved past this platform, and MLflow does not say by whom. {back}, or keep version {version.version} "
        f"with {command.format(version.version)}"
    )


def require_named(last: NamedChampion | None, pipeline: ModelPipeline, version: ModelVersion | None) -> None:
    """Let pass what the last promotion on record made champion, artifact and all; see `last_promotion`.

    Raises:
        ForeignMoveError: The alias names something else.
        UnnamedChampionError: No promotion is on record, and the version is none of the bootstrap.
    """
    if last is not None:
        if last.names(version):
            return
        raise foreign_move(last, pipeline, version)
    if version is None or is_of_bootstrap(version):
        return
    raise UnnamedChampionError(
        f"the alias champion of {pipeline.model_name} names version {version.version} with artifact "
        f"{_short(version.artifact_sha256)}, which no verdict, override or bootstrap made champion: materialize "
        f"{pipeline.champion_asset}, or `mangaassist models promote --model {pipeline.group} …` with a reason"
    )


def _short(sha256: str | None) -> str:
    return (sha256 or "unknown")[:_DIGITS]
