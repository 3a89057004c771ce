"""The graph of the definitions as plain values: what stands in a snapshot, in an order that a diff can show."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import dagster as dg


def graph_of(definitions: dg.Definitions) -> dict[str, dict[str, Any]]:
    """Return assets, checks, jobs, sensors and schedules, each by name."""
    repository = definitions.get_repository_def()
    return {
        "assets": _sorted({spec.key.to_user_string(): _asset(definitions, spec) for spec in _specs(definitions)}),
        "checks": _sorted({key.to_user_string(): value for key, value in _checks(definitions)}),
        "jobs": _sorted({name: _job(definitions, name) for name in repository.job_names if not name.startswith("__")}),
        "sensors": _sorted({sensor.name: _sensor(sensor) for sensor in repository.sensor_defs}),
        "schedules": _sorted({schedule.name: _schedule(schedule) for schedule in repository.schedule_defs}),
    }


def resources_of(definitions: dg.Definitions) -> dict[str, Any]:
    """Return executor, and the resources by name: their class and what of their configuration is no default."""
    executor: Any = definitions.executor
    resources = {name: _resource(resource) for name, resource in (definitions.resources or {}).items()}
    return {"executor": executor.name, "resources": _sorted(resources)}


def _specs(definitions: dg.Definitions) -> Iterable[dg.AssetSpec]:
    return definitions.resolve_all_asset_specs()


def _asset(definitions: dg.Definitions, spec: dg.AssetSpec) -> dict[str, Any]:
    made = definitions.get_assets_def(spec.key)
    return {
        "group": spec.group_name,
        "kinds": sorted(spec.kinds),
        "owners": list(spec.owners),
        "code_version": spec.code_version,
        "partitions": _partitions(spec.partitions_def),
        "automation": None if spec.automation_condition is None else str(spec.automation_condition.get_label()),
        "pool": made.op.pool if made.is_executable else None,
        "deps": {dep.asset_key.to_user_string(): _mapping(dep.partition_mapping) for dep in _deps(spec)},
        "resources": sorted(made.required_resource_keys - {"io_manager"}),
    }


def _deps(spec: dg.AssetSpec) -> list[dg.AssetDep]:
    return sorted(spec.deps, key=lambda dep: dep.asset_key.to_user_string())


def _mapping(mapping: dg.PartitionMapping | None) -> str:
    return "default" if mapping is None else type(mapping).__name__


def _partitions(partitions: dg.PartitionsDefinition[Any] | None) -> str | None:
    if partitions is None:
        return None
    return f"dynamic: {partitions.name}" if isinstance(partitions, dg.DynamicPartitionsDefinition) else str(partitions)


def _checks(definitions: dg.Definitions) -> Iterable[tuple[dg.AssetCheckKey, dict[str, Any]]]:
    graph = definitions.resolve_asset_graph()
    for key in graph.asset_check_keys:
        node = graph.get(key)
        yield key, {"blocking": node.blocking, "partitions": _partitions(node.partitions_def)}


def _job(definitions: dg.Definitions, name: str) -> dict[str, Any]:
    layer = definitions.resolve_job_def(name).asset_layer
    return {
        "assets": sorted(key.to_user_string() for key in layer.executable_asset_keys),
        "checks": sorted(key.to_user_string() for key in layer.asset_graph.asset_check_keys),
    }


def _sensor(sensor: dg.SensorDefinition) -> dict[str, Any]:
    return {
        "type": sensor.sensor_type.name,
        "jobs": sorted(target.job_name for target in sensor.targets),
        "every_s": sensor.minimum_interval_seconds,
        "status": sensor.default_status.name,
    }


def _schedule(schedule: dg.ScheduleDefinition) -> dict[str, Any]:
    return {
        "job": schedule.job_name,
        "cron": schedule.cron_schedule,
        "timezone": schedule.execution_timezone,
        "status": schedule.default_status.name,
    }


def _resource(resource: Any) -> Any:
    if isinstance(resource, dg.EnvVar):
        return f"${resource.env_var_name}"
    if not isinstance(resource, dg.ConfigurableResource):
        return resource
    fields = type(resource).model_fields
    # Not resolved yet: what comes from a variable is still an EnvVar.
    given = {name: getattr(resource, name) for name in fields}
    set_here = {name: _resource(value) for name, value in given.items() if value != fields[name].default}
    return {"class": type(resource).__name__, **_sorted(set_here)}


def _sorted(values: dict[str, Any]) -> dict[str, Any]:
    return dict(sorted(values.items()))
