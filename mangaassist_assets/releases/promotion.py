"""Which challenger becomes champion: the rule that no selection of assets can go around.

Of all stored verdicts, the newest `pass` that was measured against the present champion and whose bundle did not begin
before the champion's own. So a backfill of an old bundle promotes nothing, and a verdict against a champion that has
since been replaced is stale.

A person may override that, once, with a request (`overrides`). Past overrides promote nothing; but what they overruled
does not come back by a verdict that was known when they were decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from mangaassist_assets.evaluation.gate.decision import Verdict
from mangaassist_assets.models.registration.registry import EVALUATION_FILE
from mangaassist_assets.releases.overrides import Override

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.models.pipelines import ModelPipeline
    from mangaassist_assets.models.registration.registry import ModelVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVerdict:
    """One evaluation as its asset left it. `bundle_start_ms` is when the bundle's first trace began.

    `challenger_artifact_sha256` is of the artifact that was judged; None in what was stored before it was written down.
    """

    release_bundle: str
    bundle_start_ms: int
    verdict: Verdict
    challenger_version: str
    champion_version: str
    challenger_artifact_sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """The present champion; a first one from the bootstrap has `bundle_start_ms` 0."""

    version: str
    bundle_start_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """The verdict to promote by, None to leave the champion, and why."""

    promoted: StoredVerdict | None
    reason: str


def read_verdicts(store: SnapshotStore, pipeline: ModelPipeline) -> list[StoredVerdict]:
    """Return the stored verdicts of a model pipeline, one a bundle."""
    names = [field.name for field in fields(StoredVerdict)]
    stored = (
        store.read_json(store.latest(pipeline.evaluation_asset, partition=bundle), EVALUATION_FILE)
        for bundle in store.partitions(pipeline.evaluation_asset)
    )
    return [StoredVerdict(**{name: evaluation[name] for name in names if name in evaluation}) for evaluation in stored]


def last_word_on(
    store: SnapshotStore, pipeline: ModelPipeline, version: ModelVersion
) -> tuple[str | None, str | None, tuple[str, ...]]:
    """Return what the gate said of a version last, against which champion, and its reasons; None where it said nothing.

    A bundle that was trained again has another challenger's verdict now: all evaluations that were ever stored count.
    Where none of the version is stored any more, the registry's tags are asked, and the verdict says so.
    """
    judged = [
        (one.committed_at, store.read_json(one, EVALUATION_FILE)) for one in store.history(pipeline.evaluation_asset)
    ]
    own = [(at, values) for at, values in judged if values["challenger_version"] == version.version]
    if own:
        _, newest = max(own, key=lambda one: one[0])
        return newest["verdict"], newest["champion_version"], tuple(newest.get("reasons", ()))
    if (told := version.tags.get("evaluation_verdict")) is None:
        return None, None, ()
    return f"{told} (by the registry's tag alone)", version.tags.get("evaluated_against"), ()


def newest_verdict(verdicts: Iterable[StoredVerdict]) -> StoredVerdict:
    """Return the verdict of the bundle that began last."""
    return max(verdicts, key=lambda one: (one.bundle_start_ms, one.release_bundle))


def choose_promotion(
    verdicts: Sequence[StoredVerdict], champion: Champion, *, overrides: Sequence[Override] = ()
) -> Promotion:
    """Return what to promote over `champion`."""
    if not verdicts:
        return Promotion(promoted=None, reason="no evaluation is stored yet")
    current = [one for one in verdicts if one.champion_version == champion.version]
    if not current:
        newest = newest_verdict(verdicts)
        reason = (
            f"every evaluation was against another champion than version {champion.version}, the newest one "
            f"({newest.release_bundle}) against version {newest.champion_version}: evaluate again"
        )
        if newest.challenger_version == champion.version:
            reason = f"version {champion.version} of {newest.release_bundle} is champion"
        return Promotion(promoted=None, reason=reason)
    passed = [one for one in current if one.verdict == "pass"]
    standing = [one for one in passed if not _is_overruled(one, overrides)]
    if not standing:
        newest = newest_verdict(passed or current)
        reason = f"the newest verdict against version {champion.version} is {newest.verdict}"
        if newest.verdict == "needs_sign_off":
            reason += (
                f": a person who has seen its reasons may sign version {newest.challenger_version} of "
                f"{newest.release_bundle} with `mangaassist models promote`"
            )
        if passed:
            reason += "; an override that knew it decided otherwise, so only a new bundle's verdict counts"
        return Promotion(promoted=None, reason=reason)
    newest = newest_verdict(standing)
    if newest.bundle_start_ms < champion.bundle_start_ms:
        reason = f"the passing bundle {newest.release_bundle} began before the champion's own: never back in time"
        return Promotion(promoted=None, reason=reason)
    reason = f"version {newest.challenger_version} of {newest.release_bundle} passed against {champion.version}"
    return Promotion(promoted=newest, reason=reason)


def _is_overruled(verdict: StoredVerdict, overrides: Sequence[Override]) -> bool:
    known = (verdict.release_bundle, verdict.challenger_version)
    return any(one.version == verdict.champion_version and known in one.overruled for one in overrides)
