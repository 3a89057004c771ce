"""SageMaker models: made once under a name made of their content, tagged with where they come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from resources.aws.clients import error_code, error_message
from resources.aws.endpoint_tags import from_tags, to_tags

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient


def ensure_model(
    client: SageMakerClient, name: str, *, container: Mapping[str, Any], role_arn: str, tags: Mapping[str, str]
) -> None:
    """Make a model with its tags, or give those that it lacks to the one of this name.

    Raises:
        TagError: A tag is none that AWS takes; nothing was made then.
    """
    written = to_tags(tags)
    created = create_once(
        lambda: client.create_model(
            ModelName=name,
            PrimaryContainer=dict(container),  # type: ignore[arg-type]
            ExecutionRoleArn=role_arn,
            Tags=written,  # type: ignore[arg-type]
        )
    )
    if created or not tags:
        return
    # Made before there were tags, or retagged by hand since.
    arn = client.describe_model(ModelName=name)["ModelArn"]
    present = tags_of(client, arn)
    if lacking := to_tags({key: value for key, value in tags.items() if present.get(key) != value}):
        client.add_tags(ResourceArn=arn, Tags=lacking)  # type: ignore[arg-type]


def create_once(create: Callable[[], object]) -> bool:
    """Create what a name stands for; return whether it was not there before."""
    from botocore.exceptions import ClientError

    try:
        create()
    except ClientError as error:
        # The name is made of the content, so what exists under it is what was asked for.
        if error_code(error) != "ValidationException" or "already existing" not in error_message(error).lower():
            raise
        return False
    return True


def tags_of(client: SageMakerClient, arn: str) -> dict[str, str]:
    """Return the tags of a resource."""
    pages = client.get_paginator("list_tags").paginate(ResourceArn=arn)
    return from_tags(tag for page in pages for tag in page["Tags"])  # type: ignore[misc]


def model_of(client: SageMakerClient, config_name: str, variant: str) -> dict[str, Any]:
    """Return the model of a variant of an endpoint configuration, nothing where one of them is gone."""
    from botocore.exceptions import ClientError

    try:
        config = client.describe_endpoint_config(EndpointConfigName=config_name)
        variants = [item for item in config["ProductionVariants"] if item["VariantName"] == variant]
        return dict(client.describe_model(ModelName=variants[0]["ModelName"])) if variants else {}
    except ClientError as error:
        if error_code(error) != "ValidationException":
            raise
        # Configuration or model was deleted under a running endpoint, which AWS allows.
        return {}
