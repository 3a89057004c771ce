"""What the local SageMaker remembers: models, endpoint configurations, endpoints and tags, in one JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mangaassist_assets.core.codecs import from_json
from mangaassist_assets.core.files import write_whole
from mangaassist_assets.local.home import HomeError

Status = Literal["Creating", "InService", "Updating", "SystemUpdating", "Deleting", "Failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantPlan:
    """One production variant with a copy of its model's container definition.

    The copy lets an endpoint serve on, and come back after a restart, when its model has been deleted, as on AWS.
    """

    name: str
    model_name: str
    image: str
    model_uri: str
    environment: Mapping[str, str]
    weight: float
    instance_count: int
    start_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """An endpoint configuration made concrete."""

    config_name: str
    variants: tuple[VariantPlan, ...]


@dataclass(slots=True, kw_only=True)
class EndpointRecord:
    """One endpoint. Times are seconds since the epoch.

    `deployed` is what serves, `pending` what a create or update is bringing up.
    """

    name: str
    arn: str
    config_name: str
    created: float
    modified: float
    status: Status
    failure_reason: str | None = None
    deployed: Deployment | None = None
    pending: Deployment | None = None
    pending_since: float | None = None
    deployment_config: dict[str, Any] | None = None


@dataclass(slots=True)
class State:
    """Everything, by name; tags by ARN. `save` after each change."""

    path: Path
    models: dict[str, dict[str, Any]]
    configs: dict[str, dict[str, Any]]
    endpoints: dict[str, EndpointRecord]
    tags: dict[str, dict[str, str]]

    @classmethod
    def load(cls, path: Path) -> State:
        """Return the state kept at `path`, empty where there is none.

        Raises:
            HomeError: the file cannot be understood.
        """
        if not path.exists():
            return cls(path, models={}, configs={}, endpoints={}, tags={})
        try:
            content = {**json.loads(path.read_bytes()), "path": str(path)}
            return from_json(cls, json.dumps(content).encode())
        except (ValueError, TypeError) as error:
            raise HomeError(
                f"{path} cannot be understood ({error}). Restore it, or delete it: "
                "endpoints must then be deployed again."
            ) from error

    def save(self) -> None:
        """Write everything, so that a crash leaves the old state or this one."""
        content = asdict(self)
        del content["path"]
        write_whole(self.path, json.dumps(content, indent=1).encode())
