"""What the local SageMaker remembers: models, endpoint configurations, endpoints and tags, in one JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from mangaassist_assets.core.files import write_whole
from mangaassist_assets.local.home import HomeError

SCHEMA = 1

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

    @staticmethod
    def parse(content: Mapping[str, Any]) -> Deployment:
        """Return the deployment that `asdict` wrote."""
        return Deployment(
            config_name=content["config_name"], variants=tuple(VariantPlan(**plan) for plan in content["variants"])
        )


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

    @staticmethod
    def parse(content: Mapping[str, Any]) -> EndpointRecord:
        """Return the record that `asdict` wrote."""
        values = dict(content)
        for name in ("deployed", "pending"):
            if values[name] is not None:
                values[name] = Deployment.parse(values[name])
        return EndpointRecord(**values)


@dataclass(slots=True)
class State:
    """Everything, by name; tags by ARN. `save` after each change."""

    path: Path
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    endpoints: dict[str, EndpointRecord] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> State:
        """Return the state kept at `path`, empty where there is none.

        Raises:
            HomeError: the file cannot be understood.
        """
        if not path.exists():
            return cls(path)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["schema"] != SCHEMA:
                raise HomeError(f"{path} has schema {content['schema']!r}; this version reads {SCHEMA}.")
            return cls(
                path,
                models=dict(content["models"]),
                configs=dict(content["configs"]),
                endpoints={name: EndpointRecord.parse(record) for name, record in content["endpoints"].items()},
                tags=dict(content["tags"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise HomeError(
                f"{path} cannot be understood ({type(error).__name__}: {error}). Restore it, or delete it: "
                "endpoints must then be deployed again."
            ) from error

    def save(self) -> None:
        """Write everything, so that a crash leaves the old state or this one."""
        content = {
            "schema": SCHEMA,
            "models": self.models,
            "configs": self.configs,
            "endpoints": {name: asdict(record) for name, record in self.endpoints.items()},
            "tags": self.tags,
        }
        write_whole(self.path, json.dumps(content, indent=1).encode(), durable=True)
