"""Model pipelines: which registered model, endpoint, dataset and assets belong together, in one list.

Assets, checks, jobs, the release manifest and the commands are all made from `registered_pipelines()`. Another package
adds a model pipeline by an entry point of the group `mangaassist_assets.model_pipelines` that points at its
`ModelPipeline`, and the class of its models by one in the group of `model_type_registry`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from mangaassist_assets.datasets.guards.limits import INTENT_LIMITS, RANKING_LIMITS, DatasetLimits
from mangaassist_assets.tracing.contract.names import SpanName

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.datasets.versions.stored_versions import StoredVersion
    from mangaassist_assets.models.model_types import ModelType

ENTRY_POINT_GROUP = "mangaassist_assets.model_pipelines"

Rebuild = Callable[["SnapshotStore", "StoredVersion"], Mapping[str, bytes]]


class InvalidPipelineError(ValueError):
    """What a package registers is no model pipeline, or takes names that another one has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineDataset:
    """The datasets that a model pipeline trains on.

    Attributes:
        asset: The asset that its dataset versions come from.
        limits: What a version must have to be trained on.
        text_columns: Columns of text; the first is what a shopper asked.
        label_column: Column of class labels, to be checked for balance and noise; None where there are no classes.
        judged_sides: Sides whose reviewed rows a champion can be judged on again. A ranking dataset gives its training
            queries other passages than the retriever found: those cannot be.
        rebuild: `module:function` that builds a stored version again from its recorded inputs: it takes the store and
            the `StoredVersion`, and returns the files. None where that cannot be done.
    """

    asset: str
    limits: DatasetLimits
    text_columns: tuple[str, ...] = ("text",)
    label_column: str | None = None
    judged_sides: tuple[str, ...] = ("train", "validation", "test")
    rebuild: str | None = None


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
        dataset: Its datasets.
        model_asset: The challenger.
        definitions: `module:name` of the assets that it brings: its dataset, and those named by `label_assets` and
            `first_asset`. All other assets are made from this description.
        first_asset: The first champion of the bootstrap; None where a person promotes the first version.
        label_assets: What is materialized before the dataset when the model pipeline runs.
        stage: Name of the span in which chatbots ask the endpoint; None where no span of the contract is about it.
        served_by: The turn's attribute that names the version which answered; None where traces do not record it.
        request_forms: How production asks the endpoint where traces do not record it, by names in
            `serving.request_forms`.
        reads_knowledge: Whether training reads the texts of the store's knowledge.
        schemas: Folder with the endpoint's request and response schema; None takes the packaged ones of its kind.
    """

    title: str
    about: str
    group: str
    kind: str
    model_name: str
    endpoint_name: str
    dataset: PipelineDataset
    model_asset: str
    definitions: tuple[str, ...]
    first_asset: str | None = None
    label_assets: tuple[str, ...] = ()
    stage: str | None = None
    served_by: str | None = None
    request_forms: tuple[str, ...] = ("inputs",)
    reads_knowledge: bool = False
    schemas: Path | None = None

    @property
    def dataset_asset(self) -> str:
        """Its dataset versions."""
        return self.dataset.asset

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
    def promotion_job(self) -> str:
        """The job that promotes and deploys."""
        return f"{self.group}_promotion"

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
        from mangaassist_assets.models.model_types import load_model_type

        return load_model_type(self.kind, **options)


INTENT = ModelPipeline(
    title="intent classifier",
    about="a DistilBERT with a logistic head, calibrated, that refuses what is none of its intents",
    group="intent",
    kind="intent_classifier",
    model_name="mangaassist-intent-classifier",
    endpoint_name="mangaassist-intent",
    dataset=PipelineDataset(
        asset="intent_dataset",
        limits=INTENT_LIMITS,
        label_column="intent",
        rebuild="mangaassist_assets.datasets.building.rebuilding:rebuild_intent_dataset",
    ),
    model_asset="intent_classifier",
    definitions=(
        "mangaassist_assets.assets.labels:intent_labels",
        "mangaassist_assets.assets.datasets:intent_dataset",
        "mangaassist_assets.assets.bootstrap:first_intent_classifier",
    ),
    first_asset="first_intent_classifier",
    label_assets=("intent_labels",),
    stage=SpanName.INTENT_CLASSIFICATION,
    served_by="intent_model_version",
    request_forms=("text",),
)

RERANKER = ModelPipeline(
    title="reranker",
    about="a network that orders the retriever's passages",
    group="reranker",
    kind="reranker",
    model_name="mangaassist-reranker",
    endpoint_name="mangaassist-reranker",
    dataset=PipelineDataset(
        asset="reranker_dataset",
        limits=RANKING_LIMITS,
        text_columns=("query", "passage"),
        judged_sides=("validation", "test"),
        rebuild="mangaassist_assets.datasets.building.rebuilding:rebuild_reranker_dataset",
    ),
    model_asset="reranker",
    definitions=(
        "mangaassist_assets.assets.datasets:reranker_dataset",
        "mangaassist_assets.assets.bootstrap:first_reranker",
    ),
    first_asset="first_reranker",
    stage=SpanName.RERANK_CHUNKS,
    served_by="reranker_version",
    reads_knowledge=True,
)

OWN_PIPELINES = (INTENT, RERANKER)


def registered_pipelines() -> tuple[ModelPipeline, ...]:
    """Return all model pipelines: the platform's own, then those of installed packages by name.

    Raises:
        InvalidPipelineError: A package registers something else, or a pipeline whose group or dataset another one has.
    """
    pipelines = list(OWN_PIPELINES)
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
        brought = point.load()
        if not isinstance(brought, ModelPipeline):
            raise InvalidPipelineError(
                f"entry point {point.name!r} of {ENTRY_POINT_GROUP} points at {point.value}: no ModelPipeline"
            )
        if any(brought.group == one.group or brought.dataset_asset == one.dataset_asset for one in pipelines):
            raise InvalidPipelineError(
                f"entry point {point.name!r} of {ENTRY_POINT_GROUP}: another pipeline has its group or its dataset"
            )
        pipelines.append(brought)
    return tuple(pipelines)


def dataset_rebuild(asset: str) -> Rebuild | None:
    """Return what builds stored versions of a dataset again; None where no model pipeline says how."""
    named = {pipeline.dataset_asset: pipeline.dataset.rebuild for pipeline in registered_pipelines()}.get(asset)
    rebuild: Rebuild | None = resolve_name(named) if named is not None else None
    return rebuild
