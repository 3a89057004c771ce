"""Model pipelines by name: which registered model, endpoint and assets belong together.

The assets of a model pipeline are made by `model_pipeline`; only its dataset is an asset of its own, for where
examples come from is what differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mangaassist_assets.models.model_types import ModelType
    from mangaassist_assets.serving.endpoint_schemas import EndpointSchemas


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPipeline:
    """One model from dataset to endpoint.

    Attributes:
        title: What people call the model.
        about: One clause on what the challenger is, for its description.
        group: Asset group, and the beginning of the model pipeline's names.
        kind: Kind of artifact; says which `ModelType` trains, judges and serves it.
        model_name: Registered model in MLflow.
        endpoint_name: SageMaker endpoint.
        dataset_asset: The asset that its dataset versions come from.
        model_asset: The challenger.
        first_asset: The first champion of the bootstrap; None where a person promotes the first version.
        label_assets: What is materialized before the dataset when the model pipeline runs.
        request_forms: How production asks the endpoint where traces do not tell, by names in `serving.request_forms`.
        schemas: Folder with the endpoint's request and response schema; None takes the packaged ones of its kind.
    """

    title: str
    about: str
    group: str
    kind: str
    model_name: str
    endpoint_name: str
    dataset_asset: str
    model_asset: str
    first_asset: str | None = None
    label_assets: tuple[str, ...] = ()
    request_forms: tuple[str, ...] = ("inputs",)
    schemas: Path | None = None

    @property
    def evaluation_asset(self) -> str:
        """Champion against challenger."""
        return f"{self.group}_evaluation"

    @property
    def gate(self) -> str:
        """The blocking check of the evaluation."""
        return f"{self.group}_gate"

    @property
    def champion_asset(self) -> str:
        """The registry's alias."""
        return f"{self.group}_champion"

    @property
    def health_asset(self) -> str:
        """The champion on fresh reviewed traffic."""
        return f"{self.champion_asset}_health"

    @property
    def endpoint_asset(self) -> str:
        """The deployment."""
        return f"{self.group}_endpoint"

    @property
    def job(self) -> str:
        """The job that takes the model pipeline from dataset to endpoint."""
        return f"{self.group}_retraining"

    @property
    def learning_assets(self) -> tuple[str, ...]:
        """What is learned from a bundle, without touching production."""
        return (*self.label_assets, self.dataset_asset, self.model_asset, self.evaluation_asset)

    @property
    def deployment_assets(self) -> tuple[str, ...]:
        """What a passed gate changes in production."""
        return (self.champion_asset, self.endpoint_asset)

    def model_type(self, **options: Any) -> ModelType[Any]:  # noqa: ANN401 - a model type's own options
        """Return the class that knows this kind of model."""
        from mangaassist_assets.models.model_type_registry import load_model_type

        return load_model_type(self.kind, **options)

    def endpoint_schemas(self) -> EndpointSchemas:
        """Return what the endpoint takes and answers.

        Raises:
            EndpointSchemaError: The model pipeline's own schemas cannot be used.
        """
        from mangaassist_assets.serving.endpoint_schemas import packaged_schemas, read_schemas

        return packaged_schemas(self.kind) if self.schemas is None else read_schemas(self.schemas)


INTENT = ModelPipeline(
    title="intent classifier",
    about="a DistilBERT with a logistic head, calibrated, that refuses what is none of its intents",
    group="intent",
    kind="intent_classifier",
    model_name="mangaassist-intent-classifier",
    endpoint_name="mangaassist-intent",
    dataset_asset="intent_dataset",
    model_asset="intent_classifier",
    first_asset="first_intent_classifier",
    label_assets=("intent_labels",),
    request_forms=("text",),
)

RERANKER = ModelPipeline(
    title="reranker",
    about="a cross-encoder that orders the retriever's passages",
    group="reranker",
    kind="reranker",
    model_name="mangaassist-reranker",
    endpoint_name="mangaassist-reranker",
    dataset_asset="reranker_dataset",
    model_asset="reranker",
    first_asset="first_reranker",
)

MODEL_PIPELINES = (INTENT, RERANKER)
