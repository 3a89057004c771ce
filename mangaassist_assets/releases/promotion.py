"""Which challenger becomes champion: the rule that no selection of assets can go around.

Of all stored verdicts, the newest `pass` that was measured against the present champion and whose bundle did not begin
before the champion's own. So a backfill of an old bundle promotes nothing, and a verdict against a champion that has
since been replaced is stale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

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
    """The verdict to promote, or None, and why."""

    promoted: StoredVerdict | None
    reason: str


def choose_promotion(verdicts: Sequence[StoredVerdict], champion: Champion) -> Promotion:
    """Return what to promote over `champion`."""
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
    if not passed:
        newest = max(current, key=_age)
        return Promotion(
            promoted=None, reason=f"the newest verdict against version {champion.version} is {newest.verdict}"
        )
    newest = max(passed, key=_age)
    if newest.bundle_start_ms < champion.bundle_start_ms:
        return Promotion(
            promoted=None,
            reason=f"the passing bundle {newest.release_bundle} began before the champion's own: never back in time",
        )
    return Promotion(
        promoted=newest,
        reason=f"version {newest.challenger_version} of {newest.release_bundle} passed against {champion.version}",
    )


def _age(verdict: StoredVerdict) -> tuple[int, str]:
    return verdict.bundle_start_ms, verdict.release_bundle
