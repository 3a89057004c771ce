"""Who is champion: the registry's alias moves by the gate's verdict, or by a person's override that is recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from mangaassist_assets.models.artifacts import ArtifactMismatchError, artifact_kind, verify_artifact
from mangaassist_assets.models.champion_challenger import present_champion
from mangaassist_assets.models.registration.registry import (
    BUNDLE_START_TAG,
    CHAMPION,
    EVALUATION_FILE,
    ModelStore,
    ModelVersion,
    RegistryError,
)
from mangaassist_assets.releases.named_champion import NamedChampion, is_of_bootstrap, read_named
from mangaassist_assets.releases.overrides import (
    ID_TAG,
    NO_CHAMPION,
    Override,
    OverrideRefusedError,
    OverrideRequest,
    check_request,
    read_overrides,
    record_override,
)
from mangaassist_assets.releases.promotion import (
    Champion,
    StoredVerdict,
    choose_promotion,
    newest_verdict,
    read_verdicts,
)

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.models.pipelines import ModelPipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoted:
    """What a promotion came to: the champion, the one before it, and the override that did it, if one did."""

    version: ModelVersion
    previous: ModelVersion | None
    moved: bool
    reason: str
    override: Override | None
    overrides: tuple[Override, ...]
    named: NamedChampion


def promote(
    models: ModelStore,
    snapshots: SnapshotStore,
    pipeline: ModelPipeline,
    *,
    override: OverrideRequest | None = None,
    admit: Callable[[ModelVersion], object] = lambda _: None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Promoted:
    """Let the alias `champion` name what the gate or a person decided.

    An override is written down first, then the alias moves, then the version is tagged: one that was killed on the way
    goes on where it stopped when it is asked for again, and leaves one record.

    `admit` is asked about the version that would become champion, and raises where it must not. Without an `override`
    the verdicts decide.

    Raises:
        NoChampionError: there is no champion, and no override that names the first one.
        OverrideRefusedError: the override is stale, of an unknown version, or of an artifact that is not what was
            registered. Nothing was moved then.
    """
    if override is None:
        return _promote_by_verdict(models, snapshots, pipeline, admit=admit)
    try:
        return _promote_by_override(models, snapshots, pipeline, override, admit=admit, now=now)
    except (OverrideRefusedError, RegistryError, ArtifactMismatchError) as error:
        raise OverrideRefusedError(f"no override, nothing was moved: {error}") from error


def _promote_by_verdict(
    models: ModelStore, snapshots: SnapshotStore, pipeline: ModelPipeline, *, admit: Callable[[ModelVersion], object]
) -> Promoted:
    present = present_champion(models, pipeline)
    overrides = read_overrides(snapshots, pipeline.model_name)
    champion = Champion(version=present.version, bundle_start_ms=int(present.tags.get(BUNDLE_START_TAG, "0")))
    verdicts = read_verdicts(snapshots, pipeline)
    chosen = choose_promotion(verdicts, champion, overrides=overrides)
    version, reason = present, chosen.reason
    if (verdict := chosen.promoted) is not None:
        judged = models.registry().get(pipeline.model_name, verdict.challenger_version)
        passed_as = verdict.challenger_artifact_sha256
        if passed_as is None or passed_as != judged.artifact_sha256:
            reason = (
                f"version {judged.version} passed as artifact {(passed_as or 'unknown')[:12]}, but is registered as "
                f"{(judged.artifact_sha256 or 'unknown')[:12]}: evaluate it again"
            )
        else:
            admit(judged)
            version = judged
            models.set_alias(pipeline.model_name, CHAMPION, version.version)
    return Promoted(
        version=version,
        previous=present,
        moved=version is not present,
        reason=reason,
        override=None,
        overrides=tuple(overrides),
        named=_named(snapshots, pipeline, version, verdicts, overrides, by_verdict=version is not present),
    )


def _named(
    snapshots: SnapshotStore,
    pipeline: ModelPipeline,
    version: ModelVersion,
    verdicts: Sequence[StoredVerdict],
    overrides: Sequence[Override],
    *,
    by_verdict: bool,
) -> NamedChampion:
    """Return by what a version is champion: what was just decided, what was on record before, or nothing known."""
    before = read_named(snapshots, pipeline.champion_asset)
    # Killed after the alias moved, a promotion left no record; the verdict or override that moved it is there.
    passed = {(one.challenger_version, one.challenger_artifact_sha256) for one in verdicts if one.verdict == "pass"}
    by: Literal["verdict", "override", "bootstrap", "nothing"] = "nothing"
    if by_verdict or (version.version, version.artifact_sha256) in passed:
        by = "verdict"
    elif before is not None and before.names(version):
        by = before.by
    elif any(one.version == version.version and one.artifact_sha256 == version.artifact_sha256 for one in overrides):
        by = "override"
    elif is_of_bootstrap(version):
        by = "bootstrap"
    return NamedChampion(version=version.version, artifact_sha256=version.artifact_sha256, by=by)


def _promote_by_override(
    models: ModelStore,
    snapshots: SnapshotStore,
    pipeline: ModelPipeline,
    override: OverrideRequest,
    *,
    admit: Callable[[ModelVersion], object],
    now: Callable[[], datetime],
) -> Promoted:
    overrides = read_overrides(snapshots, pipeline.model_name)
    wanted = _registered(models, pipeline, override.version)
    present = models.version_by_alias(pipeline.model_name, CHAMPION)
    champion_version = NO_CHAMPION if present is None else present.version
    begun = check_request(override, champion_version, overrides, carried_out={wanted.tags.get(ID_TAG, "")})
    digest = _verified(models, wanted, pipeline)
    admit(wanted)
    decided = begun or _decide(snapshots, pipeline, override, digest, len(overrides), now())
    moved = models.set_alias(pipeline.model_name, CHAMPION, override.version)
    registry = models.registry()
    registry.set_tags(pipeline.model_name, override.version, decided.tags())
    becomes = "is" if champion_version == override.version else "becomes"
    return Promoted(
        version=registry.get(pipeline.model_name, override.version),
        previous=None if decided.replaced == NO_CHAMPION else registry.get(pipeline.model_name, decided.replaced),
        moved=moved,
        reason=f"version {override.version} {becomes} champion in place of {override.against} by an override of "
        f"{override.by}: {override.reason}",
        override=decided,
        overrides=tuple(read_overrides(snapshots, pipeline.model_name)),
        named=NamedChampion(version=override.version, artifact_sha256=digest, by="override"),
    )


def _registered(models: ModelStore, pipeline: ModelPipeline, version: str) -> ModelVersion:
    known = models.registry().versions(pipeline.model_name)
    found = next((one for one in known if one.version == version), None)
    if found is None:
        names = ", ".join(one.version for one in known)
        raise OverrideRefusedError(f"{pipeline.model_name} has no version {version}; its versions are {names}")
    return found


def _verified(models: ModelStore, version: ModelVersion, pipeline: ModelPipeline) -> str:
    """Return the digest of a version's artifact after looking at every file.

    Raises:
        OverrideRefusedError: it has no hash to compare with, or is not of the model pipeline's kind.
        ArtifactMismatchError: a file is not what was registered.
        RegistryError: the artifact is gone.
    """
    if version.artifact_sha256 is None:
        raise OverrideRefusedError(
            f"version {version.version} of {version.name} has no artifact hash to check: register it anew"
        )
    directory = models.artifact_directory(version)
    digest = verify_artifact(directory, version.artifact_sha256)
    if (kind := artifact_kind(directory)) != pipeline.kind:
        raise OverrideRefusedError(
            f"version {version.version} of {version.name} is of kind {kind}, not {pipeline.kind}"
        )
    return digest


def _decide(
    snapshots: SnapshotStore,
    pipeline: ModelPipeline,
    request: OverrideRequest,
    digest: str,
    sequence: int,
    now: datetime,
) -> Override:
    verdicts = read_verdicts(snapshots, pipeline)
    own = [one for one in verdicts if one.challenger_version == request.version]
    judged = newest_verdict(own) if own else None
    reasons: tuple[str, ...] = ()
    if judged is not None:
        stored = snapshots.latest(pipeline.evaluation_asset, partition=judged.release_bundle)
        reasons = tuple(snapshots.read_json(stored, EVALUATION_FILE).get("reasons", ()))
    overruled = {
        (one.release_bundle, one.challenger_version)
        for one in verdicts
        if one.champion_version == request.version or one.challenger_version == request.against
    }
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
        overruled=tuple(sorted(overruled)),
    )
    record_override(snapshots, override)
    return override
