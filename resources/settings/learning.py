"""Settings of learning: base models, and what the gate counts as proof. The gate's defaults are `GateConfig`'s."""

import os
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mangaassist_assets.evaluation.gate.decision import GateConfig
from mangaassist_assets.models.encoders import BASE_MODEL_VARIABLE, DEFAULT_BASE
from mangaassist_assets.models.pipelines import OWN_PIPELINES, RERANKER
from mangaassist_assets.models.reranker.training_config import NetworkChoice

if TYPE_CHECKING:
    from mangaassist_assets.models.model_types import ModelType
    from mangaassist_assets.models.pipelines import ModelPipeline


_GATE = GateConfig()
_RERANKER_FIELDS = ("reranker_network", "reranker_cross_encoder", "reranker_budget_minutes")


def configured_base_model() -> str:
    """Return the pretrained encoder that models and embeddings take where nothing names another."""
    return os.environ.get(BASE_MODEL_VARIABLE, "").strip() or DEFAULT_BASE


class LearningResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Hands out model types with their base models, and the gate's levels."""

    base_models: dict[str, str] = Field(
        default={},
        description="Pretrained model by kind of model: packaged-minilm, packaged-multilingual-e5, a folder, or a name "
        "on the model hub such as distilbert-base-uncased. A kind that is not named takes "
        "MANGAASSIST_BASE_MODEL_<KIND>, or MANGAASSIST_BASE_MODEL, or the platform's default.",
    )
    reranker_network: NetworkChoice = Field(
        default="auto",
        description="Network of rerankers: split-attention, cross-encoder, or auto, which trains what is sensible for "
        "the data and the starts at hand and lets validation choose.",
    )
    reranker_cross_encoder: str | None = Field(
        default=None,
        description="Published cross-encoder of one label that rerankers start from: a folder, or a name on the model "
        "hub such as cross-encoder/ms-marco-MiniLM-L6-v2. Empty for a fresh head on the base model.",
    )
    reranker_budget_minutes: float | None = Field(
        default=None,
        gt=0,
        description="About how many minutes of one core a reranker's training may take, for each network: it is turned "
        "into training pairs at a fixed rate, so that the same seed gives the same model. Empty for 30.",
    )
    alpha: float = Field(default=_GATE.alpha, gt=0, lt=0.5, description="One-sided level of the gate's tests.")
    false_promotions_a_year: float = Field(
        default=_GATE.false_promotions_a_year,
        gt=0,
        lt=1,
        description="Chance that any challenger that is no better is promoted within a year: all looks of the gate at "
        "one champion share it.",
    )
    worth_seeing: float = Field(
        default=_GATE.worth_seeing, gt=0, lt=1, description="The gain that the gate's sample sizes are planned for."
    )
    sign_off: float = Field(
        default=_GATE.sign_off,
        ge=0.5,
        lt=1,
        description="With a slice that lost more than its margin with at least this probability, a person decides.",
    )
    power: float = Field(
        default=_GATE.power, gt=0, lt=1, description="Power that the gate's sample sizes are computed for."
    )
    slice_margin: float = Field(
        default=_GATE.slice_margin,
        gt=0,
        lt=1,
        description="How much a slice may lose: a proven loss of more fails the challenger.",
    )
    known_margin: float = Field(
        default=_GATE.known_margin,
        gt=0,
        lt=1,
        description="How much may be lost on what the champion knows and on the golden set; a proven larger loss fails",
    )
    calibration_margin: float = Field(
        default=_GATE.calibration_margin,
        gt=0,
        lt=1,
        description="How much the Brier score of the stated confidence may rise.",
    )
    scope_margin: float = Field(
        default=_GATE.scope_margin,
        gt=0,
        lt=1,
        description="How many more in-scope messages may be refused, or others answered.",
    )
    max_latency_ratio: float = Field(
        default=_GATE.max_latency_ratio, gt=0, description="The challenger's p95 latency over the champion's, at most."
    )
    max_size_ratio: float = Field(
        default=_GATE.max_size_ratio, gt=0, description="The challenger's artifact size over the champion's, at most."
    )

    def model_type(self, pipeline: "ModelPipeline") -> "ModelType[Any]":
        """Return a model pipeline's model type with the base model that is configured for it."""
        base = self.base_models.get(pipeline.kind) or os.environ.get(f"{BASE_MODEL_VARIABLE}_{pipeline.kind.upper()}")
        if pipeline in OWN_PIPELINES:
            base = base or configured_base_model()
        options: dict[str, Any] = {"base": base} if base else {}
        if pipeline is RERANKER:
            options |= {
                "network": self.reranker_network,
                "cross_encoder": self.reranker_cross_encoder,
                "budget_minutes": self.reranker_budget_minutes,
            }
        return pipeline.model_type(**options)

    def gate(self) -> GateConfig:
        """Return what the gate counts as proof."""
        return GateConfig(**self.model_dump(exclude={"base_models", *_RERANKER_FIELDS}))
