"""Which configuration profiles changed since the last look: edges, not levels.

The first look is a baseline and no change. A profile that is missing now (a deployment under way, a read that gave
nothing) keeps the version it had, so its return with the same version is no change either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileChange:
    """One profile whose deployed version moved; `before` is None for a profile that appeared.

    `edge` numbers all changes ever seen: 1 → 2 → 1 → 2 are three changes, and the first and last differ only by it.
    """

    profile: str
    before: str | None
    after: str
    edge: int

    @property
    def run_key(self) -> str:
        """Unique per change."""
        return f"configuration-{self.profile}-{self.after}-{self.edge}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationState:
    """What the sensor remembers: the last known version of each profile and how many changes there have been."""

    versions: Mapping[str, str]
    edges: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationChanges:
    """The changes, sorted by profile, the state to store, and a sentence with the versions."""

    changed: tuple[ProfileChange, ...]
    state: ConfigurationState
    reason: str


def find_configuration_changes(
    previous: ConfigurationState | None, current: Mapping[str, str | int]
) -> ConfigurationChanges:
    """Compare deployed versions by profile with those remembered; `previous` is None at the first look."""
    now = {profile: str(version) for profile, version in current.items()}
    standing = ", ".join(f"{profile} {version}" for profile, version in sorted(now.items())) or "no profile deployed"
    if previous is None:
        return ConfigurationChanges(
            changed=(), state=ConfigurationState(versions=now), reason=f"first look, baseline: {standing}"
        )
    moved = [profile for profile, version in sorted(now.items()) if previous.versions.get(profile) != version]
    changed = tuple(
        ProfileChange(profile=profile, before=previous.versions.get(profile), after=now[profile], edge=edge)
        for edge, profile in enumerate(moved, start=previous.edges + 1)
    )
    state = ConfigurationState(versions={**previous.versions, **now}, edges=previous.edges + len(changed))
    if not changed:
        return ConfigurationChanges(changed=(), state=state, reason=f"unchanged: {standing}")
    steps = ", ".join(f"{change.profile} {change.before or 'none'} → {change.after}" for change in changed)
    return ConfigurationChanges(changed=changed, state=state, reason=f"changed: {steps}")
