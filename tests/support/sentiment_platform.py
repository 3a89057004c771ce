"""A platform with the sentiment model as its third pipeline, with MLflow, SageMaker and store of the stand-ins."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest

from mangaassist_assets.definitions import build_definitions
from mangaassist_assets.local.supervisor import Supervisor
from mangaassist_assets.models.model_types import ENTRY_POINT_GROUP as MODEL_TYPES
from mangaassist_assets.models.pipelines import ENTRY_POINT_GROUP as MODEL_PIPELINES
from mangaassist_assets.models.pipelines import OWN_PIPELINES, ModelPipeline
from mangaassist_assets.partitions import release_bundles
from resources.aws.clients import AwsResource
from resources.aws.endpoints import SageMakerResource
from resources.mlflow.tracking import MlflowResource
from resources.store import StoreResource
from tests.support.command_line import environment
from tests.support.sentiment import FIRST_BUNDLE, SECOND_BUNDLE, SENTIMENT


@dataclass(frozen=True, kw_only=True)
class SentimentPlatform:
    pipeline: ModelPipeline
    endpoints: SageMakerResource
    mlflow: MlflowResource
    store: StoreResource
    definitions: dg.Definitions
    instance: dg.DagsterInstance

    def retrain(self, bundle: str) -> dg.ExecuteInProcessResult:
        job = self.definitions.resolve_job_def("sentiment_retraining")
        return job.execute_in_process(partition_key=bundle, instance=self.instance, raise_on_error=False)

    def promote(self, override: dict[str, str] | None = None) -> dg.ExecuteInProcessResult:
        job = self.definitions.resolve_job_def("sentiment_promotion")
        config: dict[str, Any] = {}
        if override is not None:
            config = {"ops": {self.pipeline.champion_asset: {"config": {"override": override}}}}
        return job.execute_in_process(run_config=config, instance=self.instance, raise_on_error=False)

    def deploy(self) -> dg.ExecuteInProcessResult:
        """Materialize the endpoint alone."""
        job = self.definitions.resolve_job_def("sentiment_promotion")
        chosen = [dg.AssetKey(self.pipeline.endpoint_asset)]
        return job.execute_in_process(instance=self.instance, raise_on_error=False, asset_selection=chosen)


@pytest.fixture(scope="module")
def sentiment_package(container_code: Path) -> Iterator[Path]:
    """An installed package that brings model type and pipeline, as far as Python and the serving processes know."""
    info = container_code / "sentiment_model-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sentiment-model\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{MODEL_TYPES}]\nsentiment = tests.support.sentiment:SentimentModelType\n"
        f"[{MODEL_PIPELINES}]\nsentiment = tests.support.sentiment:SENTIMENT\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(container_code))
        yield container_code
    shutil.rmtree(info)


@contextmanager
def sentiment_pipeline(folder: Path, **changes: Any) -> Iterator[SentimentPlatform]:
    """Build the platform around the model pipeline with some of its fields changed."""
    own = uuid4().hex[:8]
    pipeline = replace(SENTIMENT, model_name=f"sentiment-{own}", endpoint_name=f"sentiment-{own}", **changes)
    resources: dict[str, Any] = {
        "endpoints": SageMakerResource(aws=AwsResource()),
        "mlflow": MlflowResource(training_experiment=f"training-{own}", traces_experiment=f"traces-{own}"),
        "store": StoreResource(root=str(folder / "store"), cache_folder=str(folder / "cache")),
    }
    definitions = build_definitions("local", pipelines=[*OWN_PIPELINES, pipeline], **resources)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(release_bundles.name, [FIRST_BUNDLE, SECOND_BUNDLE])
        yield SentimentPlatform(pipeline=pipeline, definitions=definitions, instance=instance, **resources)


@pytest.fixture(scope="module")
def sentiment_platform(
    stand_ins: Supervisor,
    sentiment_package: Path,  # noqa: ARG001 - it is installed
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[SentimentPlatform]:
    """The platform as another package would use it; the tests of a file follow each other on it."""
    folder = tmp_path_factory.mktemp("sentiment-platform")
    with environment(**stand_ins.environment), sentiment_pipeline(folder) as platform:
        yield platform
