"""What deployments left behind in SageMaker: endpoint configurations and models that no endpoint uses any more.

Their names are made of what they hold (`endpoints`), so one that is needed again is made again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from resources.aws.clients import error_code

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient

_PAGE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """An endpoint configuration or a model that nobody uses; `created` in UTC."""

    kind: Literal["configuration", "model"]
    name: str
    created: datetime


def leftovers(
    client: SageMakerClient,
    endpoint_names: Collection[str],
    *,
    keep: int,
    grace: timedelta,
    now: datetime,
    protect: Collection[str] = (),
) -> list[Leftover]:
    """Return what is left of deployments of some endpoints, configurations before their models.

    What any endpoint of the account serves, or is about to, stays, and so do `protect`, the `keep` newest other
    configurations of each endpoint, what is younger than the grace, and what is not named as deployments name it.
    """
    used = {*protect, *_in_use(client)}
    found: list[Leftover] = []
    for endpoint in sorted(endpoint_names):
        ours = re.compile(re.escape(endpoint) + r"-v[^-]+-[0-9a-f]{8}-[0-9a-f]{6}")
        configs = _named(client.list_endpoint_configs, "EndpointConfigs", "EndpointConfigName", endpoint, ours)
        spare = sorted((one for one in configs if one not in used), key=lambda one: (configs[one], one), reverse=True)
        kept = {*used, *spare[:keep], *(one for one in spare if now - configs[one] < grace)}
        gone = [one for one in spare if one not in kept]
        found += [Leftover(kind="configuration", name=one, created=configs[one]) for one in gone]
        models = _named(client.list_models, "Models", "ModelName", endpoint, ours)
        # A model has its configuration's name; one without was left by a deployment or a collection that was killed.
        needed = kept | (configs.keys() - set(gone))
        found += [
            Leftover(kind="model", name=one, created=created)
            for one, created in sorted(models.items())
            if one not in needed and now - created >= grace
        ]
    return found


def delete_leftovers(client: SageMakerClient, found: Collection[Leftover]) -> None:
    """Delete what was left; what is gone already is fine."""
    from botocore.exceptions import ClientError

    for one in found:
        try:
            if one.kind == "configuration":
                client.delete_endpoint_config(EndpointConfigName=one.name)
            else:
                client.delete_model(ModelName=one.name)
        except ClientError as error:
            # SageMaker says so of what it cannot find.
            if error_code(error) != "ValidationException":
                raise


def _in_use(client: SageMakerClient) -> Iterator[str]:
    for page in _pages(client.list_endpoints):
        for endpoint in page["Endpoints"]:
            described: Mapping[str, Any] = client.describe_endpoint(EndpointName=endpoint["EndpointName"])
            yield described.get("EndpointConfigName", "")
            yield described.get("PendingDeploymentSummary", {}).get("EndpointConfigName", "")


def _named(
    list_page: Callable[..., Any], items: str, name: str, endpoint: str, pattern: re.Pattern[str]
) -> dict[str, datetime]:
    return {
        item[name]: item["CreationTime"].astimezone(UTC)
        for page in _pages(list_page, NameContains=endpoint)
        for item in page[items]
        if pattern.fullmatch(item[name])
    }


def _pages(list_page: Callable[..., Any], **asked: str) -> Iterator[Mapping[str, Any]]:
    token: dict[str, str] = {}
    while True:
        page = list_page(MaxResults=_PAGE, **asked, **token)
        yield page
        if not page.get("NextToken"):
            return
        token = {"NextToken": page["NextToken"]}
