"""The body of a model pipeline's champion asset: by the gate's verdict, or by a person's override that is recorded."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mangaassist_assets.assets.common import table
from mangaassist_assets.models.pipelines import ModelPipeline
from mangaassist_assets.releases.overrides import DEFAULT_BY, NO_CHAMPION, Override, OverrideRequest

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from resources.mlflow.registry import ModelVersion
    from resources.mlflow.tracking import MlflowResource
    from resources.store import StoreResource


class OverrideConfig(dg.Config):
    """A version that is to be champion whatever its verdict, who says so and why."""

    version: str = Field(description="The version to promote.")
    against: str = Field(
        description="The version that is champion now, or none. If another one is by the time this runs, nothing is "
        "moved."
    )
    reason: str = Field(
        description="Why, in 10 to 500 characters. It is kept redacted; Dagster keeps what is typed here as it is, so "
        "name nobody."
    )
    by: str = Field(default=DEFAULT_BY, description="A name or a role that answers for it.")


class ChampionConfig(dg.Config):
    """By default the gate decides."""

    override: OverrideConfig | None = Field(
        default=None, description="Acts once, against the champion it names; running it again changes nothing."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoted:
    """What a promotion came to: the champion, the one before it, and the override that did it, if one did."""

    version: "ModelVersion"
    previous: "ModelVersion | None"
    moved: bool
    reason: str
    override: Override | None
    overrides: tuple[Override, ...]


def requested_override(config: ChampionConfig, store: "StoreResource") -> OverrideRequest | None:
    """Return the checked and redacted request of a champion asset's configuration.

    Raises:
        Failure: it cannot be one; says why.
    """
    from mangaassist_assets.assets.reading import read_vocabulary
    from mangaassist_assets.releases.overrides import OverrideRefusedError, override_request

    asked = config.override
    if asked is None:
        return None
    try:
        return override_request(
            version=asked.version,
            against=asked.against,
            reason=asked.reason,
            by=asked.by,
            vocabulary=read_vocabulary(store.snapshots()),
        )
    except OverrideRefusedError as error:
        raise dg.Failure(f"no override: {error}", allow_retries=False) from error


def promote(
    mlflow: "MlflowResource",
    store: "StoreResource",
    pipeline: ModelPipeline,
    *,
    override: OverrideRequest | None = None,
    admit: "Callable[[ModelVersion], object]" = lambda _: None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Promoted:
    """Let the alias `champion` name what the gate or a person decided.

    An override is written down first, then the alias moves, then the version is tagged: one that was killed on the way
    goes on where it stopped when it is asked for again, and leaves one record.

    Args:
        mlflow: the registry.
        store: verdicts and overrides.
        pipeline: whose champion.
        override: what a person asks for; None lets the verdicts decide.
        admit: is asked about the version that would become champion, and raises where it must not.
        now: the clock.

    Raises:
        Failure: there is no champion, or the override is refused: stale, of an unknown version, or of an artifact that
            is not what was registered. Nothing was moved then.
    """
    from mangaassist_assets.assets.reading import read_verdicts
    from mangaassist_assets.models.artifacts import ArtifactMismatchError
    from mangaassist_assets.releases.overrides import ID_TAG, OverrideRefusedError, read_overrides
    from mangaassist_assets.releases.promotion import Champion, choose_promotion
    from resources.mlflow.registry import RegistryError

    present = mlflow.version_by_alias(pipeline.model_name, "champion")
    if present is None and override is None:
        raise dg.Failure(f"{pipeline.model_name} has no champion to compare with: {no_champion(pipeline)}")
    snapshots = store.snapshots()
    overrides = read_overrides(snapshots, pipeline.model_name)
    champion = Champion(version=NO_CHAMPION, bundle_start_ms=0)
    if present is not None:
        champion = Champion(version=present.version, bundle_start_ms=int(present.tags.get("bundle_start_ms", "0")))
    try:
        wanted = None if override is None else _registered(mlflow, pipeline, override.version)
        promotion = choose_promotion(
            read_verdicts(snapshots, pipeline),
            champion,
            request=override,
            overrides=overrides,
            carried_out=() if wanted is None else {wanted.tags.get(ID_TAG, "")},
        )
        if override is not None and wanted is not None:
            digest = _verified(mlflow, wanted, pipeline)
            admit(wanted)
            decided = promotion.begun or _decide(snapshots, pipeline, override, digest, len(overrides), now())
            moved = mlflow.set_alias(pipeline.model_name, "champion", override.version)
            mlflow.registry().set_tags(pipeline.model_name, override.version, decided.tags())
            return Promoted(
                version=mlflow.registry().get(pipeline.model_name, override.version),
                previous=None
                if decided.replaced == NO_CHAMPION
                else mlflow.registry().get(pipeline.model_name, decided.replaced),
                moved=moved,
                reason=promotion.reason,
                override=decided,
                overrides=tuple(read_overrides(snapshots, pipeline.model_name)),
            )
    except (OverrideRefusedError, RegistryError, ArtifactMismatchError) as error:
        raise dg.Failure(f"no override, nothing was moved: {error}", allow_retries=False) from error
    if promotion.promoted is not None:
        admit(mlflow.registry().get(pipeline.model_name, promotion.promoted.challenger_version))
        mlflow.set_alias(pipeline.model_name, "champion", promotion.promoted.challenger_version)
    return Promoted(
        version=mlflow.registry().get(
            pipeline.model_name, promotion.promoted.challenger_version if promotion.promoted else champion.version
        ),
        previous=present,
        moved=promotion.promoted is not None,
        reason=promotion.reason,
        override=None,
        overrides=tuple(overrides),
    )


def champion_result(
    mlflow: "MlflowResource", pipeline: ModelPipeline, promoted: Promoted
) -> dg.MaterializeResult[None]:
    """Return the materialization of a model pipeline's champion."""
    version, override = promoted.version, promoted.override
    metadata: dict[str, Any] = {
        "version": dg.MetadataValue.text(version.version),
        "previous_version": dg.MetadataValue.text(promoted.previous.version if promoted.previous else "none"),
        "promoted": dg.MetadataValue.bool(promoted.moved),
        "reason": dg.MetadataValue.text(promoted.reason),
        "artifact_sha256": dg.MetadataValue.text(version.artifact_sha256 or "unknown"),
        "model_version": dg.MetadataValue.url(mlflow.model_version_url(pipeline.model_name, version.version)),
    }
    if override is not None:
        metadata |= {
            "override_by": dg.MetadataValue.text(override.by),
            "override_reason": dg.MetadataValue.text(override.reason),
            "override_at": dg.MetadataValue.text(override.decided_at),
            "overridden_verdict": dg.MetadataValue.text(override.verdict or "never judged"),
        }
    if promoted.overrides:
        metadata["overrides"] = table(
            [
                {
                    "decided": one.decided_at,
                    "by": one.by,
                    "version": one.version,
                    "in place of": one.replaced,
                    "the gate had said": one.verdict or "nothing",
                    "reason": one.reason,
                }
                for one in reversed(promoted.overrides)
            ]
        )
    return dg.MaterializeResult(data_version=dg.DataVersion(version.version), metadata=metadata)


def _registered(mlflow: "MlflowResource", pipeline: ModelPipeline, version: str) -> "ModelVersion":
    from mangaassist_assets.releases.overrides import OverrideRefusedError

    known = mlflow.registry().versions(pipeline.model_name)
    found = next((one for one in known if one.version == version), None)
    if found is None:
        names = ", ".join(one.version for one in known)
        msg = f"{pipeline.model_name} has no version {version}; its versions are {names}"
        raise OverrideRefusedError(msg)
    return found


def no_champion(pipeline: ModelPipeline) -> str:
    """Return what to do about a model pipeline without a champion."""
    by_hand = f"promote a first version by hand (`mangaassist models promote --model {pipeline.group} …`)"
    return f"run `mangaassist bootstrap`, which makes the first one, or {by_hand}" if pipeline.first_asset else by_hand


def _verified(mlflow: "MlflowResource", version: "ModelVersion", pipeline: ModelPipeline) -> str:
    """Return the digest of a version's artifact after looking at every file.

    Raises:
        OverrideRefusedError: it has no hash to compare with, or is not of the model pipeline's kind.
        ArtifactMismatchError: a file is not what was registered.
        RegistryError: the artifact is gone.
    """
    from mangaassist_assets.models.artifacts import artifact_kind, verify_artifact
    from mangaassist_assets.releases.overrides import OverrideRefusedError

    if version.artifact_sha256 is None:
        msg = f"version {version.version} of {version.name} has no artifact hash to check: register it anew"
        raise OverrideRefusedError(msg)
    directory = mlflow.artifact_directory(version)
    digest = verify_artifact(directory, version.artifact_sha256)
    if (kind := artifact_kind(directory)) != pipeline.kind:
        msg = f"version {version.version} of {version.name} is of kind {kind}, not {pipeline.kind}"
        raise OverrideRefusedError(msg)
    return digest


def _decide(
    snapshots: "SnapshotStore",
    pipeline: ModelPipeline,
    request: OverrideRequest,
    digest: str,
    sequence: int,
    now: datetime,
) -> Override:
    from mangaassist_assets.assets.reading import EVALUATION_FILE, read_json, read_verdicts
    from mangaassist_assets.releases.overrides import record_override

    verdicts = read_verdicts(snapshots, pipeline)
    own = [one for one in verdicts if one.challenger_version == request.version]
    judged = max(own, key=lambda one: (one.bundle_start_ms, one.release_bundle), default=None)
    reasons: tuple[str, ...] = ()
    if judged is not None:
        stored = snapshots.latest(pipeline.evaluation_asset, partition=judged.release_bundle)
        reasons = tuple(read_json(snapshots, stored, EVALUATION_FILE).get("reasons", ()))
    override = Override(
        request_id=request.request_id,
        model_name=pipeline.model_name,
        sequence=sequence,
        version=request.version,
        replaced=request.against,
        reason=request.reason,
        by=request.by,
        decided_at=now.astimezone(UTC).isoformat(timespec="seconds"),
        artifact_sha256=digest,
        verdict=judged.verdict if judged else None,
        judged_against=judged.champion_version if judged else None,
        verdict_reasons=reasons,
        overruled=tuple(
            sorted(
                {
                    (one.release_bundle, one.challenger_version)
                    for one in verdicts
                    if one.champion_version == request.version or one.challenger_version == request.against
                }
            )
        ),
    )
    record_override(snapshots, override)
    return override
