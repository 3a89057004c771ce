"""Who is champion: the registry's alias moves by the gate's verdict, or by a person's override that is recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mangaassist_assets.models.artifacts import ArtifactMismatchError, artifact_kind, verify_artifact
from mangaassist_assets.models.champion_challenger import present_champion
from mangaassist_assets.models.registration.registry import (
    BUNDLE_START_TAG,
    CHAMPION,
    ModelStore,
    ModelVersion,
    RegistryError,
)
from mangaassist_assets.releases.named_champion import (
    NamedChampion,
    foreign_move,
    is_of_bootstrap,
    last_promotion,
    record_promotion,
)
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
    last_word_on,
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
    carried_out_by: Mapping[str, str] | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Promoted:
    """Let the alias `champion` name what the gate or a person decided.

    An override is written down first, then the alias moves, then the version is tagged, and last the promotion goes on
    record: one that was killed on the way goes on where it stopped when it is asked for again, and leaves one record.

    `admit` is asked about the version that would become champion, and raises where it must not. Without an `override`
    the verdicts decide. `carried_out_by` is what the systems say of who does this.

    Raises:
        ForeignMoveError: the alias names another version than the last promotion on record, and no override settles it.
        NoChampionError: there is no champion, and no override that names the first one.
        OverrideRefusedError: the override is stale, of an unknown version, or of an artifact that is not what was
            registered. Nothing was moved then.
    """
    stamp = _Stamp(
        decided_at=now().astimezone(UTC).isoformat(timespec="seconds"), carried_out_by=dict(carried_out_by or {})
    )
    if override is None:
        return _promote_by_verdict(models, snapshots, pipeline, admit=admit, stamp=stamp)
    try:
        return _promote_by_override(models, snapshots, pipeline, override, admit=admit, stamp=stamp)
    except (OverrideRefusedError, RegistryError, ArtifactMismatchError) as error:
        raise OverrideRefusedError(f"no override, nothing was moved: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stamp:
    decided_at: str
    carried_out_by: Mapping[str, str] = field(default_factory=dict)


def _promote_by_verdict(
    models: ModelStore,
    snapshots: SnapshotStore,
    pipeline: ModelPipeline,
    *,
    admit: Callable[[ModelVersion], object],
    stamp: _Stamp,
) -> Promoted:
    last = last_promotion(snapshots, pipeline)
    if last is not None and models.version_by_alias(pipeline.model_name, CHAMPION) is None:
        raise foreign_move(last, pipeline, None)
    present = present_champion(models, pipeline)
    overrides = read_overrides(snapshots, pipeline.model_name)
    verdicts = read_verdicts(snapshots, pipeline)
    before = _on_record(models, pipeline, present, last, verdicts, overrides)
    champion = Champion(version=present.version, bundle_start_ms=_bundle_start(present))
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
            before = NamedChampion(
                version=version.version, artifact_sha256=version.artifact_sha256, by="verdict", replaced=present.version
            )
    return Promoted(
        version=version,
        previous=present,
        moved=version is not present,
        reason=reason,
        override=None,
        overrides=tuple(overrides),
        named=_recorded(snapshots, pipeline, before, last, stamp),
    )


def _bundle_start(version: ModelVersion) -> int:
    return int(version.tags.get(BUNDLE_START_TAG, "0"))


def _on_record(
    models: ModelStore,
    pipeline: ModelPipeline,
    present: ModelVersion,
    last: NamedChampion | None,
    verdicts: Sequence[StoredVerdict],
    overrides: Sequence[Override],
) -> NamedChampion:
    """Return by what the present champion is champion.

    A promotion that was killed after the alias moved left no record: what it would have moved the alias to is known.

    Raises:
        ForeignMoveError: it is not what the last promotion on record, or one that was killed, made champion.
    """
    if last is not None and last.names(present):
        return last
    named = NamedChampion(
        version=present.version,
        artifact_sha256=present.artifact_sha256,
        by="nothing",
        replaced=None if last is None else last.version,
    )
    judged = (present.version, present.artifact_sha256)
    if last is None:
        if judged in {(one.challenger_version, one.challenger_artifact_sha256) for one in verdicts if _passed(one)}:
            return replace(named, by="verdict")
        if judged in {(one.version, one.artifact_sha256) for one in overrides}:
            return replace(named, by="override")
        return replace(named, by="bootstrap") if is_of_bootstrap(present) else named
    before = models.registry().get(pipeline.model_name, last.version)
    champion = Champion(version=last.version, bundle_start_ms=_bundle_start(before))
    due = choose_promotion(verdicts, champion, overrides=overrides).promoted
    if due is not None and judged == (due.challenger_version, due.challenger_artifact_sha256):
        return replace(named, by="verdict")
    if overrides and _follows(overrides[-1], present, last):
        return replace(named, by="override")
    raise foreign_move(last, pipeline, present)


def _follows(override: Override, version: ModelVersion, last: NamedChampion) -> bool:
    """Return whether an override made a version champion in place of the one on record."""
    made = (override.version, override.artifact_sha256, override.replaced)
    return made == (version.version, version.artifact_sha256, last.version)


def _passed(verdict: StoredVerdict) -> bool:
    return verdict.verdict == "pass"


def _recorded(
    snapshots: SnapshotStore, pipeline: ModelPipeline, named: NamedChampion, last: NamedChampion | None, stamp: _Stamp
) -> NamedChampion:
    """Put a promotion on record that is not the last one, and return the record."""
    if named.by == "nothing" or named == last:
        return named
    made = replace(named, decided_at=stamp.decided_at, carried_out_by=stamp.carried_out_by)
    record_promotion(snapshots, pipeline.model_name, made)
    return made


def _promote_by_override(
    models: ModelStore,
    snapshots: SnapshotStore,
    pipeline: ModelPipeline,
    override: OverrideRequest,
    *,
    admit: Callable[[ModelVersion], object],
    stamp: _Stamp,
) -> Promoted:
    overrides = read_overrides(snapshots, pipeline.model_name)
    wanted = _registered(models, pipeline, override.version)
    present = models.version_by_alias(pipeline.model_name, CHAMPION)
    last = last_promotion(snapshots, pipeline)
    champion_version = NO_CHAMPION if present is None else present.version
    begun_here = bool(overrides) and last is not None and _follows(overrides[-1], wanted, last)
    if last is not None and champion_version == override.version != last.version and not begun_here:
        # The alias was moved there past this platform: what is to be replaced is the champion on record.
        champion_version = last.version
    begun = check_request(override, champion_version, overrides, carried_out={wanted.tags.get(ID_TAG, "")})
    digest = _verified(models, wanted, pipeline)
    admit(wanted)
    decided = begun or _decide(snapshots, pipeline, override, wanted, digest, len(overrides), stamp)
    moved = models.set_alias(pipeline.model_name, CHAMPION, override.version)
    registry = models.registry()
    registry.set_tags(pipeline.model_name, override.version, decided.tags())
    becomes = "is" if champion_version == override.version else "becomes"
    named = NamedChampion(version=override.version, artifact_sha256=digest, by="override", replaced=decided.replaced)
    if last is not None and last.names(wanted):
        # Carried out before, or put back: where the alias had been moved this is a promotion of its own.
        named = last if not moved else named
    return Promoted(
        version=registry.get(pipeline.model_name, override.version),
        previous=None if decided.replaced == NO_CHAMPION else registry.get(pipeline.model_name, decided.replaced),
        moved=moved,
        reason=f"version {override.version} {becomes} champion in place of {override.against} by an override of "
        f"{override.by}: {override.reason}",
        override=decided,
        overrides=tuple(read_overrides(snapshots, pipeline.model_name)),
        named=_recorded(snapshots, pipeline, named, last, stamp),
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
    wanted: ModelVersion,
    digest: str,
    sequence: int,
    stamp: _Stamp,
) -> Override:
    verdict, judged_against, reasons = last_word_on(snapshots, pipeline, wanted)
    overruled = {
        (one.release_bundle, one.challenger_version)
        for one in read_verdicts(snapshots, pipeline)
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
        decided_at=stamp.decided_at,
        artifact_sha256=digest,
        verdict=verdict,
        judged_against=judged_against,
        verdict_reasons=reasons,
        overruled=tuple(sorted(overruled)),
        carried_out_by=stamp.carried_out_by,
    )
    record_override(snapshots, override)
    return override
