"""What learning may be told: base models by configuration, and the gate's levels."""

from __future__ import annotations

from dataclasses import fields

import pytest
from pydantic import ValidationError

from mangaassist_assets.evaluation.gate.decision import GateConfig
from mangaassist_assets.models.pipelines import INTENT, RERANKER
from resources.settings.learning import LearningResource


def base_of(resource, pipeline):
    return resource.model_type(pipeline).settings()["base"]


def test_a_base_model_is_named_by_the_field_then_by_the_variable_then_by_the_family(monkeypatch):
    assert base_of(LearningResource(), INTENT) == "packaged-minilm"
    monkeypatch.setenv("MANGAASSIST_BASE_MODEL_INTENT_CLASSIFIER", "distilbert-base-uncased")
    assert base_of(LearningResource(), INTENT) == "distilbert-base-uncased"
    assert base_of(LearningResource(), RERANKER) == "packaged-minilm"
    named = LearningResource(base_models={"intent_classifier": "bases/ours"})
    assert base_of(named, INTENT) == "bases/ours"


def test_network_start_and_budget_of_rerankers_reach_their_model_type_alone():
    named = LearningResource(
        reranker_network="cross-encoder", reranker_cross_encoder="published/one", reranker_budget_minutes=5.0
    )
    settings = named.model_type(RERANKER).settings()
    assert (settings["network"], settings["cross_encoder"]) == ("cross-encoder", "published/one")
    assert settings["budget_minutes"] == 5.0
    assert LearningResource().model_type(RERANKER).settings()["network"] == "auto"
    assert "network" not in named.model_type(INTENT).settings()


def test_every_level_of_the_resource_reaches_the_gate():
    values = {
        "alpha": 0.01,
        "power": 0.9,
        "slice_margin": 0.04,
        "known_margin": 0.02,
        "calibration_margin": 0.03,
        "scope_margin": 0.06,
        "max_latency_ratio": 1.1,
        "max_size_ratio": 1.2,
    }
    gate = LearningResource(**values).gate()
    assert {name: getattr(gate, name) for name in values} == values
    assert LearningResource().gate() == GateConfig()
    assert set(values) <= {one.name for one in fields(GateConfig)}


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": 0.5},
        {"slice_margin": 0.0},
        {"max_size_ratio": -1.0},
        {"reranker_network": "poly-encoder"},
        {"reranker_budget_minutes": 0.0},
    ],
)
def test_a_level_that_is_none_is_refused(wrong):
    with pytest.raises(ValidationError):
        LearningResource(**wrong)
