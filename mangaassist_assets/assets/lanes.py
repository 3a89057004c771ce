"""The two model lanes by name: which registered model, endpoint and assets belong together."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One model from dataset to endpoint."""

    title: str
    group: str
    model_name: str
    endpoint_name: str
    first_asset: str
    dataset_asset: str
    model_asset: str
    evaluation_asset: str
    gate: str
    champion_asset: str
    endpoint_asset: str
    label_assets: tuple[str, ...] = ()


INTENT = Lane(
    title="intent classifier",
    group="intent",
    model_name="mangaassist-intent-classifier",
    endpoint_name="mangaassist-intent",
    first_asset="first_intent_classifier",
    dataset_asset="intent_dataset",
    model_asset="intent_classifier",
    evaluation_asset="intent_evaluation",
    gate="intent_gate",
    champion_asset="intent_champion",
    endpoint_asset="intent_endpoint",
    label_assets=("intent_labels",),
)

RERANKER = Lane(
    title="reranker",
    group="reranker",
    model_name="mangaassist-reranker",
    endpoint_name="mangaassist-reranker",
    first_asset="first_reranker",
    dataset_asset="reranker_dataset",
    model_asset="reranker",
    evaluation_asset="reranker_evaluation",
    gate="reranker_gate",
    champion_asset="reranker_champion",
    endpoint_asset="reranker_endpoint",
)

LANES = (INTENT, RERANKER)
