"""The only place where definitions are assembled.

`build_definitions(environment, **overrides)` is what `dagster dev` and tests call; an override replaces one resource by
name. Loading this module imports no heavy library: they are imported when an asset runs.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import dagster as dg

from mangaassist_assets.assets import build_assets
from mangaassist_assets.checks.gates import build_checks
from mangaassist_assets.core.environment import ENVIRONMENT_VARIABLE, Environment, parse_environment
from mangaassist_assets.jobs import CHAMPION_EVALUATION, RETRAINING, build_jobs
from mangaassist_assets.loggers import console_lines
from mangaassist_assets.models.pipelines import ModelPipeline, registered_pipelines
from mangaassist_assets.schedules import ALL_SCHEDULES
from resources.aws.app_config import AppConfigResource
from resources.aws.clients import AwsResource
from resources.aws.endpoints import SageMakerResource
from resources.aws.generation import GenerationResource
from resources.aws.judge import JudgeResource
from resources.feedback.feedback_stream import KinesisFeedbackResource
from resources.mlflow.tracking import MlflowResource
from resources.ray.trainers import TrainerResource
from resources.search.embeddings import BedrockTitanEmbedderResource, LocalEmbedderResource
from resources.search.indexes import LanceDbSearchResource, OpenSearchResource
from resources.settings.knowledge import KnowledgeResource
from resources.settings.labelling import LabellingResource
from resources.settings.learning import LearningResource
from resources.settings.mining import MiningResource
from resources.settings.prices import PricesResource
from resources.settings.privacy import PrivacyResource
from resources.settings.trace_mapping import TraceMappingResource
from resources.settings.triggers import TriggersResource
from resources.store import StoreResource
from resources.warehouse.warehouse import DuckDbWarehouseResource, RedshiftWarehouseResource
from sensors import build_sensors

Resource: TypeAlias = "dg.ConfigurableResource[Any]"


def build_definitions(
    environment: Environment = "local",
    *,
    pipelines: Sequence[ModelPipeline] | None = None,
    **overrides: Resource,
) -> dg.Definitions:
    """Assemble assets, checks, jobs, sensors, schedules and resources for one environment.

    Args:
        environment: `local` (one machine, stand-ins for AWS) or `aws`.
        pipelines: the model pipelines, by default the registered ones; assets, checks and jobs are made of them.
        overrides: resources by name that replace the environment's own.

    Raises:
        KeyError: an override names no resource.
    """
    resources = dict(_local_resources() if environment == "local" else _aws_resources())
    unknown = sorted(set(overrides) - set(resources))
    if unknown:
        msg = f"no resource is named {unknown[0]!r}; there are {', '.join(sorted(resources))}"
        raise KeyError(msg)
    pipelines = registered_pipelines() if pipelines is None else pipelines
    jobs = {job.name: job for job in build_jobs(pipelines)}
    return dg.Definitions(
        assets=build_assets(pipelines),
        asset_checks=build_checks(pipelines),
        jobs=jobs.values(),
        sensors=build_sensors(jobs[RETRAINING], jobs[CHAMPION_EVALUATION]),
        schedules=ALL_SCHEDULES,
        resources=resources | overrides,
        # One machine of two cores gains nothing from a process a step, and each would import torch again.
        executor=dg.in_process_executor if environment == "local" else dg.multiprocess_executor,
        loggers={"console": console_lines},
    )


def _shared_resources(aws: AwsResource) -> dict[str, Resource]:
    return {
        "feedback_stream": KinesisFeedbackResource(aws=aws),
        "app_config": AppConfigResource(aws=aws),
        "store": StoreResource(root=dg.EnvVar("MANGAASSIST_STORE"), cache_folder=dg.EnvVar("MANGAASSIST_CACHE")),
        "knowledge": KnowledgeResource(folder=dg.EnvVar("MANGAASSIST_KNOWLEDGE")),
        "labelling": LabellingResource(),
        "learning": LearningResource(),
        "mining": MiningResource(),
        "mlflow": MlflowResource(tracking_uri=dg.EnvVar("MLFLOW_TRACKING_URI")),
        "prices": PricesResource(),
        "trace_mapping": TraceMappingResource(),
        "trainer": TrainerResource(),
        "triggers": TriggersResource(),
    }


def _local_resources() -> Mapping[str, Resource]:
    """MLflow, MiniStack, the local SageMaker and LanceDB; their addresses come from the supervisor's variables."""
    aws = AwsResource()
    return {
        **_shared_resources(aws),
        "privacy": PrivacyResource(key_file=dg.EnvVar("MANGAASSIST_PSEUDONYM_KEY_FILE")),
        "warehouse": DuckDbWarehouseResource(path=dg.EnvVar("MANGAASSIST_WAREHOUSE")),
        "endpoints": SageMakerResource(aws=aws),
        "search": LanceDbSearchResource(path=dg.EnvVar("MANGAASSIST_SEARCH")),
        "embeddings": LocalEmbedderResource(),
        "generation": GenerationResource(aws=aws, provider="extractive"),
        "judge": JudgeResource(aws=aws),
    }


def _aws_resources() -> Mapping[str, Resource]:
    """The AWS services themselves; docs/deployment.md lists the variables."""
    aws = AwsResource(names_callers=True)
    return {
        **_shared_resources(aws),
        "feedback_stream": KinesisFeedbackResource(
            aws=aws, delivery_url=os.environ.get("MANGAASSIST_FEEDBACK_DELIVERY") or None
        ),
        "privacy": PrivacyResource(key=dg.EnvVar("MANGAASSIST_PSEUDONYM_KEY")),
        "warehouse": RedshiftWarehouseResource(
            aws=aws,
            database=dg.EnvVar("MANGAASSIST_REDSHIFT_DATABASE"),
            workgroup_name=dg.EnvVar("MANGAASSIST_REDSHIFT_WORKGROUP"),
            staging_url=dg.EnvVar("MANGAASSIST_REDSHIFT_STAGING"),
            iam_role_arn=dg.EnvVar("MANGAASSIST_REDSHIFT_ROLE_ARN"),
        ),
        "endpoints": SageMakerResource(
            aws=aws,
            image=dg.EnvVar("MANGAASSIST_SAGEMAKER_IMAGE"),
            role_arn=dg.EnvVar("MANGAASSIST_SAGEMAKER_ROLE_ARN"),
        ),
        "search": OpenSearchResource(url=dg.EnvVar("MANGAASSIST_OPENSEARCH_URL")),
        "embeddings": BedrockTitanEmbedderResource(),
        "generation": GenerationResource(aws=aws, provider="bedrock"),
        "judge": JudgeResource(
            aws=AwsResource(max_attempts=4, read_timeout_s=30.0),
            model_id=os.environ.get("MANGAASSIST_JUDGE_MODEL", ""),
        ),
    }


defs = build_definitions(parse_environment(os.environ.get(ENVIRONMENT_VARIABLE)))
