"""The operations of the SageMaker API that this project uses, from parsed request to answer.

Names, texts of errors and statuses follow the service; where something exists there and not here, the answer says so
instead of accepting it silently.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

from mangaassist_assets.local.sagemaker.container_variables import refusal_of
from mangaassist_assets.local.sagemaker.endpoints import Endpoints, require_changeable
from mangaassist_assets.local.sagemaker.errors import ApiError, unsupported, validation
from mangaassist_assets.local.sagemaker.model_data import check_uri
from mangaassist_assets.local.sagemaker.parameters import (
    Answer,
    Parameters,
    arn_of,
    check_number,
    checked_tags,
    page,
    required_mapping,
    required_name,
    required_text,
)
from mangaassist_assets.local.sagemaker.state import Deployment, EndpointRecord, State, VariantPlan

DEFAULT_START_SECONDS = 120
VARIABLE = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,1023}")
MAX_VARIABLES, MAX_VALUE_CHARACTERS = 100, 1024

Kind = Literal["Model", "EndpointConfig"]
_KINDS: Mapping[Kind, tuple[str, str]] = {
    "Model": ("model", "model"),
    "EndpointConfig": ("endpoint configuration", "endpoint-config"),
}
"""What its errors call a resource, and what its ARN does."""


class SageMakerApi:
    """Answers operations by name; one instance per process, used from the event loop's thread only."""

    def __init__(self, state: State, endpoints: Endpoints) -> None:
        self._state = state
        self._endpoints = endpoints
        self._operations: dict[str, Callable[[Parameters], Answer]] = {
            "CreateModel": self._create_model,
            "CreateEndpointConfig": self._create_config,
            "CreateEndpoint": self._create_endpoint,
            "DescribeEndpoint": lambda p: self._describe_endpoint(self._endpoint(p)),
            "UpdateEndpoint": self._update_endpoint,
            "DeleteEndpoint": self._delete_endpoint,
            "ListEndpoints": self._list_endpoints,
            "AddTags": self._add_tags,
            "ListTags": self._list_tags,
            "DeleteTags": self._delete_tags,
        }
        for kind in _KINDS:
            self._operations |= {
                f"Describe{kind}": lambda p, kind=kind: dict(self._kept(kind, p)),  # type: ignore[misc]
                f"Delete{kind}": partial(self._delete, kind),
                f"List{kind}s": partial(self._list, kind),
            }

    def answer(self, operation: str, parameters: Parameters) -> Answer:
        """Return the answer of one operation.

        Raises:
            ApiError: as the service would refuse it, or an operation that is not among those here.
        """
        handler = self._operations.get(operation)
        if handler is None:
            raise ApiError(
                "UnknownOperationException",
                f"{operation} is not supported by the local SageMaker of MangaAssist, which knows "
                f"{', '.join(self._operations)}.",
            )
        return handler(parameters)

    # Models and endpoint configurations

    def _of(self, kind: Kind) -> dict[str, Answer]:
        return self._state.models if kind == "Model" else self._state.configs

    def _kept(self, kind: Kind, parameters: Parameters) -> Answer:
        name = required_text(parameters, f"{kind}Name")
        if name not in self._of(kind):
            title, resource = _KINDS[kind]
            raise validation(f'Could not find {title} "{arn_of(resource, name)}".')
        return self._of(kind)[name]

    def _require_new(self, kind: Kind, parameters: Parameters) -> None:
        name = required_name(parameters, f"{kind}Name")
        if name in self._of(kind):
            title, resource = _KINDS[kind]
            raise validation(f'Cannot create already existing {title} "{arn_of(resource, name)}".')

    def _create(self, kind: Kind, parameters: Parameters) -> Answer:
        name = parameters[f"{kind}Name"]
        arn = {f"{kind}Arn": arn_of(_KINDS[kind][1], name)}
        self._state.tags[arn[f"{kind}Arn"]] = checked_tags(parameters.get("Tags"))
        given = {key: value for key, value in parameters.items() if key != "Tags" and value is not None}
        self._of(kind)[name] = given | arn | {"CreationTime": time.time()}
        self._state.save()
        return arn

    def _delete(self, kind: Kind, parameters: Parameters) -> Answer:
        record = self._kept(kind, parameters)
        del self._of(kind)[record[f"{kind}Name"]]
        self._state.tags.pop(record[f"{kind}Arn"], None)
        self._state.save()
        return {}

    def _list(self, kind: Kind, parameters: Parameters) -> Answer:
        members = (f"{kind}Name", f"{kind}Arn", "CreationTime")
        items = [{member: record[member] for member in members} for record in self._of(kind).values()]
        return page(parameters, items, key=f"{kind}s", name=f"{kind}Name")

    def _create_model(self, parameters: Parameters) -> Answer:
        self._require_new("Model", parameters)
        if parameters.get("Containers"):
            raise unsupported("A model of several Containers")
        self._check_container(required_mapping(parameters, "PrimaryContainer"))
        return self._create("Model", parameters)

    def _check_container(self, container: Parameters) -> None:
        required_text(container, "Image")
        variables = container.get("Environment") or {}
        if not isinstance(variables, Mapping) or len(variables) > MAX_VARIABLES:
            raise validation(f"Environment must be a map of at most {MAX_VARIABLES} entries.")
        for name, value in variables.items():
            if not VARIABLE.fullmatch(name):
                raise validation(f"Environment has the key {name[:80]!r}, which is not the name of a variable.")
            if not isinstance(value, str) or len(value) > MAX_VALUE_CHARACTERS or "\0" in value:
                raise validation(f"Environment's {name} must be a text of at most {MAX_VALUE_CHARACTERS} characters.")
        if (refusal := refusal_of(variables)) is not None:
            raise validation(refusal)
        if "ModelDataUrl" in container:
            raise unsupported("An archive in ModelDataUrl (name a prefix in ModelDataSource.S3DataSource instead)")
        try:
            check_uri(_model_uri(container))
        except ValueError as error:
            raise validation(str(error)) from error

    def _create_config(self, parameters: Parameters) -> Answer:
        self._require_new("EndpointConfig", parameters)
        for refused in ("AsyncInferenceConfig", "ShadowProductionVariants", "ExplainerConfig"):
            if parameters.get(refused):
                raise unsupported(refused)
        variants = parameters.get("ProductionVariants")
        if not isinstance(variants, list) or not variants:
            raise validation("ProductionVariants must be a list of at least one variant.")
        for variant in variants:
            self._check_variant(variant)
        names = [variant["VariantName"] for variant in variants]
        if len(set(names)) != len(names):
            raise validation("The variant names of an endpoint configuration must differ.")
        return self._create("EndpointConfig", parameters)

    def _check_variant(self, variant: object) -> None:
        if not isinstance(variant, Mapping):
            raise validation("A production variant must be a structure.")
        required_name(variant, "VariantName")
        self._kept("Model", variant)
        if not variant.get("ServerlessConfig") and not (
            variant.get("InstanceType") and variant.get("InitialInstanceCount")
        ):
            raise validation(
                f"Production variant {variant['VariantName']} needs InstanceType and InitialInstanceCount, "
                "or ServerlessConfig."
            )
        weight = variant.get("InitialVariantWeight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
            raise validation(f"InitialVariantWeight of {variant['VariantName']} must be a number of at least 0.")
        for key, least, most in (
            ("InitialInstanceCount", 1, 1000),
            ("ContainerStartupHealthCheckTimeoutInSeconds", 60, 3600),
        ):
            value = variant.get(key, least)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise validation(f"{key} of {variant['VariantName']} must be an integer from {least} to {most}.")

    # Endpoints

    def _create_endpoint(self, parameters: Parameters) -> Answer:
        name = required_name(parameters, "EndpointName")
        arn = arn_of("endpoint", name)
        if name in self._state.endpoints:
            raise validation(f'Cannot create already existing endpoint "{arn}".')
        deployment = self._deployment(parameters)
        tags = checked_tags(parameters.get("Tags"))
        created = time.time()
        record = EndpointRecord(
            name=name,
            arn=arn,
            config_name=deployment.config_name,
            created=created,
            modified=created,
            status="Creating",
            deployment_config=_deployment_config(parameters),
        )
        self._state.tags[arn] = tags
        self._endpoints.create(record, deployment)
        return {"EndpointArn": arn}

    def _update_endpoint(self, parameters: Parameters) -> Answer:
        record = self._endpoint(parameters)
        if parameters.get("RetainAllVariantProperties"):
            raise unsupported("RetainAllVariantProperties")
        deployment = self._deployment(parameters)
        require_changeable(record, deleting=False)
        if not parameters.get("RetainDeploymentConfig"):
            record.deployment_config = _deployment_config(parameters)
        self._endpoints.update(record, deployment)
        return {"EndpointArn": record.arn}

    def _delete_endpoint(self, parameters: Parameters) -> Answer:
        record = self._endpoint(parameters)
        require_changeable(record, deleting=True)
        self._endpoints.delete(record)
        return {}

    def _endpoint(self, parameters: Parameters) -> EndpointRecord:
        name = required_text(parameters, "EndpointName")
        if name not in self._state.endpoints:
            raise validation(f'Could not find endpoint "{arn_of("endpoint", name)}".')
        return self._state.endpoints[name]

    def _deployment(self, parameters: Parameters) -> Deployment:
        config = self._kept("EndpointConfig", parameters)
        variants = tuple(map(self._plan, config["ProductionVariants"]))
        return Deployment(config_name=config["EndpointConfigName"], variants=variants)

    def _plan(self, variant: Parameters) -> VariantPlan:
        container = self._kept("Model", variant)["PrimaryContainer"]
        return VariantPlan(
            name=variant["VariantName"],
            model_name=variant["ModelName"],
            image=container["Image"],
            model_uri=_model_uri(container),
            environment=dict(container.get("Environment") or {}),
            weight=float(variant.get("InitialVariantWeight", 1.0)),
            instance_count=int(variant.get("InitialInstanceCount", 1)),
            start_seconds=int(variant.get("ContainerStartupHealthCheckTimeoutInSeconds", DEFAULT_START_SECONDS)),
        )

    def _describe_endpoint(self, record: EndpointRecord) -> Answer:
        answer: Answer = {
            "EndpointName": record.name,
            "EndpointArn": record.arn,
            "EndpointConfigName": record.config_name,
            "EndpointStatus": record.status,
            "CreationTime": record.created,
            "LastModifiedTime": record.modified,
        }
        if record.failure_reason:
            answer["FailureReason"] = record.failure_reason
        if record.deployment_config:
            answer["LastDeploymentConfig"] = record.deployment_config
        if record.deployed and record.status != "Failed":
            answer["ProductionVariants"] = [
                _variant_summary(plan, record.modified, count=int(self._endpoints.serving(record, plan.name)))
                for plan in record.deployed.variants
            ]
        if record.pending:
            answer["PendingDeploymentSummary"] = {
                "EndpointConfigName": record.pending.config_name,
                "StartTime": record.pending_since,
                "ProductionVariants": [
                    {
                        "VariantName": plan.name,
                        "DesiredWeight": plan.weight,
                        "DesiredInstanceCount": plan.instance_count,
                    }
                    for plan in record.pending.variants
                ],
            }
        return answer

    def _list_endpoints(self, parameters: Parameters) -> Answer:
        status = parameters.get("StatusEquals")
        items = [
            {
                "EndpointName": record.name,
                "EndpointArn": record.arn,
                "EndpointStatus": record.status,
                "CreationTime": record.created,
                "LastModifiedTime": record.modified,
            }
            for record in self._state.endpoints.values()
            if status is None or status == record.status
        ]
        return page(parameters, items, key="Endpoints", name="EndpointName")

    # Tags

    def _known_arn(self, parameters: Parameters) -> str:
        arn = required_text(parameters, "ResourceArn")
        known = {
            *(model["ModelArn"] for model in self._state.models.values()),
            *(config["EndpointConfigArn"] for config in self._state.configs.values()),
            *(record.arn for record in self._state.endpoints.values()),
        }
        if arn not in known:
            raise validation(f'Could not find resource "{arn}".')
        return arn

    def _add_tags(self, parameters: Parameters) -> Answer:
        arn = self._known_arn(parameters)
        merged = self._state.tags.get(arn, {}) | checked_tags(parameters.get("Tags"))
        check_number(merged)
        self._state.tags[arn] = merged
        self._state.save()
        return self._list_tags(parameters)

    def _list_tags(self, parameters: Parameters) -> Answer:
        tags = self._state.tags.get(self._known_arn(parameters), {})
        return {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}

    def _delete_tags(self, parameters: Parameters) -> Answer:
        tags = self._state.tags.get(self._known_arn(parameters), {})
        keys = parameters.get("TagKeys")
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise validation("TagKeys must be a list of texts.")
        for key in keys:
            tags.pop(key, None)
        self._state.save()
        return {}


def _deployment_config(parameters: Parameters) -> Answer | None:
    return dict(required_mapping(parameters, "DeploymentConfig")) if parameters.get("DeploymentConfig") else None


def _model_uri(container: Parameters) -> str:
    source = required_mapping(required_mapping(container, "ModelDataSource"), "S3DataSource")
    if source.get("S3DataType") != "S3Prefix" or source.get("CompressionType") != "None":
        raise unsupported("Model data other than S3DataType S3Prefix with CompressionType None")
    return required_text(source, "S3Uri")


def _variant_summary(plan: VariantPlan, since: float, *, count: int) -> Answer:
    return {
        "VariantName": plan.name,
        "DeployedImages": [{"SpecifiedImage": plan.image, "ResolvedImage": plan.image, "ResolutionTime": since}],
        "CurrentWeight": plan.weight,
        "DesiredWeight": plan.weight,
        "CurrentInstanceCount": count * plan.instance_count,
        "DesiredInstanceCount": plan.instance_count,
    }
