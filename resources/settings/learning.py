"""Settings of training and gate: base models, and what the gate counts as proof."""

import os
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

if TYPE_CHECKING:
    from mangaassist_assets.evaluation.gate.decision import GateConfig
    from mangaassist_assets.models.model_types import ModelType
    from mangaassist_assets.models.pipelines import ModelPipeline

BASE_MODEL_VARIABLE = "MANGAASSIST_BASE_MODEL_"


class LearningResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Hands out model types with their base models, and the gate's levels."""

    base_models: dict[str, str] = Field(
        default={},
        description="Pretrained model by kind of model: packaged-minilm, a folder, or a name on the model hub such as "
        "distilbert-base-uncased. A kind that is not named takes MANGAASSIST_BASE_MODEL_<KIND>, or its own default.",
    )
    alpha: float = Field(default=0.05, gt=0, lt=0.5, description="One-sided level of the gate's tests.")
    power: float = Field(default=0.8, gt=0, lt=1, description="Power that the gate's sample sizes are computed for.")
    slice_margin: float = Field(
        default=0.05, gt=0, lt=1, description="How much worse a slice may be and still count as not worse."
    )
    known_margin: float = Field(
        default=0.03, gt=0, lt=1, description="How much worse messages may be whose intent the champion knows."
    )
    calibration_margin: float = Field(
        default=0.01, gt=0, lt=1, description="How much the Brier score of the stated confidence may rise."
    )
    scope_margin: float = Field(
        default=0.05, gt=0, lt=1, description="How many more in-scope messages may be refused, or others answered."
    )
    max_latency_ratio: float = Field(
        default=1.25, gt=0, description="The challenger's p95 latency over the champion's, at most."
    )
    max_size_ratio: float = Field(
        default=1.5, gt=0, description="The challenger's artifact size over the champion's, at most."
    )

    def model_type(self, pipeline: "ModelPipeline") -> "ModelType[Any]":
        """Return a model pipeline's model type with the base model that is configured for it."""
        base = self.base_models.get(pipeline.kind) or os.environ.get(BASE_MODEL_VARIABLE + pipeline.kind.upper())
        return pipeline.model_type(base=base) if base else pipeline.model_type()

    def gate(self) -> "GateConfig":
        """Return what the gate counts as proof."""
        from mangaassist_assets.evaluation.gate.decision import GateConfig

        return GateConfig(
            alpha=self.alpha,
            power=self.power,
            slice_margin=self.slice_margin,
            known_margin=self.known_margin,
            calibration_margin=self.calibration_margin,
            scope_margin=self.scope_margin,
            max_latency_ratio=self.max_latency_ratio,
            max_size_ratio=self.max_size_ratio,
        )
