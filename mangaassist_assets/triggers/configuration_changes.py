"""Which configuration profiles changed since the last look: edges, not levels.

Deployments are what is looked at. One that is COMPLETE counts; one under way, its bake included, is waited for; one
that was rolled back or reverted is recorded and triggers nothing. The first look is a baseline and no change. A
profile that is missing now keeps the version it had, so its return with the same version is no change either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

UNDONE = frozenset({"ROLLED_BACK", "REVERTED"})
_COMPLETE = "COMPLETE"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationDeployment:
    """One deployment as AppConfig lists it: its number counts up in its environment, `state` is AppConfig's word."""

    number: int
    profile: str
    version: str
    state: str
    percentage: float | None = None

    def __str__(self) -> str:
        done = "" if self.percentage is None else f" {self.percentage:.0f} %"
        return f"{self.profile} {self.version} {self.state}{done}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileChange:
    """One profile whose version in force moved; `before` is None for a profile that appeared.

    `deployment` is the number of the one that moved it: 1 → 2 → 1 → 2 are three changes, and the first and last differ
    only by it.
    """

    profile: str
    before: str | None
    after: str
    deployment: int

    @property
    def run_key(self) -> str:
        """Unique per change."""
        return f"configuration-{self.profile}-{self.after}-{self.deployment}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationState:
    """What the sensor remembers: version and deployment in force of each profile, and the last one that was undone."""

    versions: Mapping[str, str]
    deployments: Mapping[str, int] = field(default_factory=dict)
    undone: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationChanges:
    """What a look found.

    Attributes:
        changed: What triggers, sorted by profile.
        in_force: Profiles that another version is in force of than at the last look, all of them at the first one.
        undone: Deployments that were rolled back or reverted since the last look.
        state: To be stored.
        reason: A sentence with the versions.
    """

    changed: tuple[ProfileChange, ...]
    in_force: tuple[ConfigurationDeployment, ...]
    undone: tuple[ConfigurationDeployment, ...]
    state: ConfigurationState
    reason: str


def find_configuration_changes(
    previous: ConfigurationState | None, deployments: Iterable[ConfigurationDeployment]
) -> ConfigurationChanges:
    """Compare what is deployed with what is remembered; `previous` is None at the first look."""
    listed = sorted(deployments, key=lambda one: one.number)
    now = {one.profile: one for one in listed if one.state == _COMPLETE}
    by_number = {one.number: one for one in listed}
    before = ConfigurationState(versions={}) if previous is None else previous
    moved = [one for profile, one in sorted(now.items()) if before.versions.get(profile) != one.version]
    # What the profile had is reverted, and an older deployment holds again: nobody deployed anything.
    returned = {
        one.profile
        for one in moved
        if (had := by_number.get(before.deployments.get(one.profile, -1))) is not None and had.state in UNDONE
        if one.number < had.number
    }
    undone = tuple(
        one
        for one in listed
        if one.state in UNDONE and (one.number > before.undone or before.deployments.get(one.profile) == one.number)
    )
    changed = tuple(
        ProfileChange(
            profile=one.profile,
            before=before.versions.get(one.profile),
            after=one.version,
            deployment=one.number,
        )
        for one in moved
        if previous is not None and one.profile not in returned
    )
    gone = {one.number for one in undone}
    standing = {profile: number for profile, number in before.deployments.items() if number not in gone}
    state = ConfigurationState(
        versions={**before.versions, **{profile: one.version for profile, one in now.items()}},
        deployments={**standing, **{profile: one.number for profile, one in now.items()}},
        undone=max([before.undone, *(one.number for one in listed if one.state in UNDONE)]),
    )
    return ConfigurationChanges(
        changed=changed,
        in_force=tuple(moved),
        undone=() if previous is None else undone,
        state=state,
        reason=_reason(previous, now, changed, () if previous is None else undone, listed),
    )


def _reason(
    previous: ConfigurationState | None,
    now: Mapping[str, ConfigurationDeployment],
    changed: tuple[ProfileChange, ...],
    undone: tuple[ConfigurationDeployment, ...],
    listed: list[ConfigurationDeployment],
) -> str:
    standing = ", ".join(f"{name} {one.version}" for name, one in sorted(now.items())) or "no profile deployed"
    if previous is None:
        said = f"first look, baseline: {standing}"
    elif changed:
        said = "changed: " + ", ".join(f"{one.profile} {one.before or 'none'} → {one.after}" for one in changed)
    else:
        said = f"unchanged: {standing}"
    if undone:
        said += "; undone, which triggers nothing: " + ", ".join(map(str, undone))
    waits = [one for one in listed if one.state not in UNDONE and one.state != _COMPLETE]
    if waits:
        said += "; under way, waited for: " + ", ".join(map(str, waits))
    return said
