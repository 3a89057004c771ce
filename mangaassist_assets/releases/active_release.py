"""What production runs, component by component: one row each, with whether it is what was meant to run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mangaassist_assets.core.figures import Row
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.models.registration.registry import ModelVersion


class ServingEndpoint(Protocol):
    """An endpoint as SageMaker describes it."""

    @property
    def model_version(self) -> str | None:
        """The registered version that it serves."""

    @property
    def status(self) -> str:
        """SageMaker's status of it."""


class ServingProfile(Protocol):
    """A configuration profile as AppConfig has it."""

    @property
    def profile(self) -> str:
        """Its name."""

    @property
    def deployed(self) -> str:
        """The version that was deployed last."""

    @property
    def serving(self) -> str | None:
        """The version that chatbots answer with."""

    @property
    def state(self) -> str:
        """Why these two differ, if they do."""


def component_files(rows: Sequence[Row]) -> dict[str, bytes]:
    """Return what production runs as it is stored."""
    return {"components.json": canonical_json(rows)}


def endpoint_row(endpoint_name: str, deployed: ServingEndpoint | None, champion: ModelVersion | None) -> Row:
    """Return what an endpoint serves, beside the champion of the registry."""
    serving = deployed.model_version if deployed else None
    state = deployed.status if deployed else "no endpoint"
    return _row(endpoint_name, serving, state, agrees=serving == (champion.version if champion else None))


def index_row(live_generation: str | None) -> Row:
    """Return the index generation that the alias names."""
    return _row("search index", live_generation, "live", agrees=True)


def profile_row(profile: ServingProfile) -> Row:
    """Return the version of a configuration document that serves, beside the deployed one."""
    agrees = profile.serving == profile.deployed
    return _row(f"configuration {profile.profile}", profile.serving, profile.state, agrees=agrees)


def _row(component: str, version: str | None, state: str, *, agrees: bool) -> Row:
    return {"component": component, "version": version, "state": state, "agrees_with_registry": agrees}
