"""Which challenger becomes champion: the rule that no selection of assets can go around.

Of all stored verdicts, the newest `pass` that was measured against the present champion and whose bundle did not begin
before the champion's own. So a backfill of an old bundle promotes nothing, and a verdict against a champion that has
since been replaced is stale.

A person may override that, once, with a request (`overrides`). Past overrides promote nothing; but what they overruled
does not come back by a verdict that was known when they were decided.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mangaassist_assets.models.registration.trained_model import EVALUATION_FILE
from mangaassist_assets.releases.overrides import Override, OverrideRequest, check_request

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.models.pipelines import ModelPipeline

Verdict = Literal["pass", "fail", "insufficient_evidence"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVerdict:
    """One evaluation as its asset left it. `bundle_start_ms` is when the bundle's first trace began."""

    release_bundle: str
    bundle_start_ms: int
    verdict: Verdict
    challenger_version: str
    champion_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """The present champion; a first one from the bootstrap has `bundle_start_ms` 0."""

    version: str
    bundle_start_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """The verdict or the request to promote by, both None to leave the champion, and why.

    `begun` is the record of a request that was decided before and perhaps not carried out to its end.
    """

    promoted: StoredVerdict | None
    reason: str
    requested: OverrideRequest | None = None
    begun: Override | None = None


def read_verdicts(store: SnapshotStore, pipeline: ModelPipeline) -> list[StoredVerdict]:
    """Return the stored verdicts of a model pipeline, one a bundle."""
    verdicts: list[StoredVerdict] = []
    for bundle in store.partitions(pipeline.evaluation_asset):
        stored = store.read_json(store.latest(pipeline.evaluation_asset, partition=bundle), EVALUATION_FILE)
        verdicts.append(
            StoredVerdict(
                release_bundle=bundle,
                bundle_start_ms=stored["bundle_start_ms"],
                verdict=stored["verdict"],
                challenger_version=stored["challenger_version"],
                champion_version=stored["champion_version"],
            )
        )
    return verdicts


def choose_promotion(
    verdicts: Sequence[StoredVerdict],
    champion: Champion,
    *,
    request: OverrideRequest | None = None,
    overrides: Sequence[Override] = (),
    carried_out: Collection[str] = (),
) -> Promotion:
    """Return what to promote over `champion`.

    Args:
        verdicts: All stored ones of the model.
        champion: The present one.
        request: What a person asks for now; it is looked at alone.
        overrides: All that were decided before.
        carried_out: Ids of those that the registry says were carried out.

    Raises:
        OverrideRefusedError: the request is stale, or was carried out before.
    """
    if request is not None:
        begun = check_request(request, champion.version, overrides, carried_out=carried_out)
        done = champion.version == request.version
        return Promotion(
            promoted=None,
            requested=request,
            begun=begun,
            reason=f"version {request.version} {'is' if done else 'becomes'} champion in place of {request.against} by "
            f"an override of {request.by}: {request.reason}",
        )
    return _by_verdict(verdicts, champion, overrides)


def _by_verdict(verdicts: Sequence[StoredVerdict], champion: Champion, overrides: Sequence[Override]) -> Promotion:
    if not verdicts:
        return Promotion(promoted=None, reason="no evaluation is stored yet")
    current = [one for one in verdicts if one.champion_version == champion.version]
    if not current:
        newest = max(verdicts, key=_age)
        if newest.challenger_version == champion.version:
            return Promotion(promoted=None, reason=f"version {champion.version} of {newest.release_bundle} is champion")
        return Promotion(
            promoted=None,
            reason=(
                f"every evaluation was against another champion than version {champion.version}, the newest one "
                f"({newest.release_bundle}) against version {newest.champion_version}: evaluate again"
            ),
        )
    passed = [one for one in current if one.verdict == "pass"]
    standing = [one for one in passed if not _is_overruled(one, overrides)]
    if not standing:
        newest = max(passed or current, key=_age)
        overruled = "; an override that knew it decided otherwise, so only a new bundle's verdict counts"
        return Promotion(
            promoted=None,
            reason=f"the newest verdict against version {champion.version} is {newest.verdict}"
            + (overruled if passed else ""),
        )
    newest = max(standing, key=_age)
    if newest.bundle_start_ms < champion.bundle_start_ms:
        return Promotion(
            promoted=None,
            reason=f"the passing bundle {newest.release_bundle} began before the champion's own: never back in time",
        )
    return Promotion(
        promoted=newest,
        reason=f"version {newest.challenger_version} of {newest.release_bundle} passed against {champion.version}",
    )


def _is_overruled(verdict: StoredVerdict, overrides: Sequence[Override]) -> bool:
    known = (verdict.release_bundle, verdict.challenger_version)
    return any(one.version == verdict.champion_version and known in one.overruled for one in overrides)


def _age(verdict: StoredVerdict) -> tuple[int, str]:
    return verdict.bundle_start_ms, verdict.release_bundle
