"""Assets of the definitions, materialized in this process on resources that need no server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import dagster as dg
import numpy as np

from mangaassist_assets.definitions import build_definitions
from mangaassist_assets.tracing.contract.names import EXPECTED_INTENT, RELEVANT_DOCUMENTS, Tag
from mangaassist_assets.tracing.contract.records import AssessmentRecord, TraceRecord
from resources.aws.clients import AwsResource
from resources.aws.endpoints import SageMakerResource
from resources.aws.generation import GenerationResource
from resources.aws.judge import JudgeResource
from resources.feedback.feedback_stream import KinesisFeedbackResource
from resources.mlflow.tracking import MlflowResource
from resources.search.embeddings import EmbeddingsResource
from resources.search.indexes import LanceDbSearchResource
from resources.settings.knowledge import KnowledgeResource
from resources.settings.labelling import LabellingResource
from resources.settings.mining import MiningResource
from resources.settings.prices import PricesResource
from resources.settings.privacy import PrivacyResource
from resources.settings.trace_mapping import TraceMappingResource
from resources.store import StoreResource
from resources.warehouse.warehouse import DuckDbWarehouseResource
from tests.support.app_config_api import AppConfigInMemory, app_config_in_memory
from tests.support.kinesis import MemoryKinesis
from tests.support.trace_source import MemorySource, chat_trace

BUNDLE = "2026.03.24-rc2"
START_MS = 1_774_310_400_000
INTENTS = {
    "order_status": "where is my parcel now",
    "gift_wrapping": "please wrap this volume as a present",
}
DOCUMENTS = {
    "orders.md": "# Orders\n\nThe parcel page shows where a parcel is.\n",
    "wrapping.md": "# Wrapping\n\nWe wrap any volume as a present with ribbon.\n",
    "hours.md": "# Hours\n\nThe shop opens at ten.\n",
    "points.md": "# Points\n\nLoyal readers collect stamps.\n",
}
ANSWERED_BY = {"order_status": "orders.md", "gift_wrapping": "wrapping.md"}


class WordEmbedder:
    """Sums of the random vectors of a text's words, of length one: texts of like words are near each other."""

    model_id = "word-embedder"
    dimension = 64

    def embed(self, texts: Sequence[str], *, use: str = "passage") -> np.ndarray:
        del use
        rows = [sum((_vector(word) for word in text.lower().split()), _vector("")) for text in texts]
        vectors = np.asarray(rows, dtype=np.float32).reshape(len(texts), self.dimension)
        unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


def _vector(word: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8])
    return np.random.default_rng(seed).normal(size=WordEmbedder.dimension)


class WordEmbeddings(EmbeddingsResource):
    """Hands out the embedder of words."""

    def embedder(self) -> WordEmbedder:
        return WordEmbedder()


class MemoryAws(AwsResource):
    """Hands out the Kinesis of a name. Dagster copies resources: what they hold is the class's."""

    kinesis: ClassVar[dict[str, MemoryKinesis]] = {}
    name: str

    def client(self, service: str) -> Any:
        assert service == "kinesis"
        return self.kinesis[self.name]


class LocalMlflow(MlflowResource):
    """MLflow on its SQLite store in this process, with traces that are read from memory."""

    sources: ClassVar[dict[str, MemorySource]] = {}
    name: str

    def trace_source(self) -> Any:
        return self.sources[self.name]


class NoEndpoints(SageMakerResource):
    """A SageMaker that serves nothing yet."""

    def describe(self, endpoint_name: str) -> None:  # noqa: ARG002 - see base
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What one materialization reported; `version` is None and `left_out` says why where it made nothing."""

    version: str | None
    metadata: Mapping[str, Any]
    left_out: str | None

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return a table of the metadata; an empty one is shown as `none`."""
        value = self.metadata[name]
        return [] if isinstance(value, str) else [dict(record.data) for record in value.records]


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """The definitions on resources of one folder."""

    definitions: dg.Definitions
    instance: dg.DagsterInstance
    store: StoreResource
    kinesis: MemoryKinesis
    traces: MemorySource
    app_config: AppConfigInMemory
    knowledge: Path
    resources: Mapping[str, Any] = field(repr=False)

    def make(self, asset: str, *, bundle: str | None = None, config: Mapping[str, Any] | None = None) -> Made:
        """Materialize one asset alone; what it raises is raised here."""
        if bundle is not None:
            self.instance.add_dynamic_partitions("release_bundles", [bundle])
        result = dg.materialize(
            [self.definitions.get_assets_def(asset)],
            partition_key=bundle,
            resources=self.resources,
            instance=self.instance,
            run_config={"ops": {asset: {"config": dict(config)}}} if config else None,
        )
        events = result.asset_materializations_for_node(asset)
        seen = [one.asset_observation_data.asset_observation for one in result.get_asset_observation_events()]
        return Made(
            version=(events[0].tags or {})["dagster/data_version"] if events else None,
            metadata={name: value.value for name, value in events[0].metadata.items()} if events else {},
            left_out=str(seen[0].metadata["left_out"].value) if seen else None,
        )


def open_platform(folder: Path, *, tracking_uri: str, instance: dg.DagsterInstance) -> Platform:
    """Return a platform on a folder: nothing is materialized, and knowledge and training file are handed in."""
    knowledge = folder / "knowledge"
    for name, text in DOCUMENTS.items():
        knowledge.mkdir(parents=True, exist_ok=True)
        (knowledge / name).write_text(text, encoding="utf-8")
    inputs = folder / "store" / "inputs"
    inputs.mkdir(parents=True)
    lines = [
        {"text": f"{text} {extra}", "intent": intent, "relevant_documents": [ANSWERED_BY[intent]]}
        for intent, text in INTENTS.items()
        for extra in ("today dear shop", "maybe tell us", "soon I hope", "again and again")
    ]
    (inputs / "training.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in lines), encoding="utf-8")
    store = StoreResource(root=str(folder / "store"), cache_folder=str(folder / "cache"))
    name = str(folder)
    kinesis = MemoryAws.kinesis[name] = MemoryKinesis()
    traces = LocalMlflow.sources[name] = MemorySource()
    app_config = AppConfigInMemory()
    for profile in ("prompts", "routing", "guardrails"):
        app_config.put(profile, {"version": "1"})
    aws = MemoryAws(name=name)
    return Platform(
        definitions=build_definitions("local"),
        instance=instance,
        store=store,
        kinesis=kinesis,
        traces=traces,
        app_config=app_config,
        knowledge=knowledge,
        resources={
            "app_config": app_config_in_memory(app_config),
            "embeddings": WordEmbeddings(),
            "endpoints": NoEndpoints(aws=aws),
            "feedback_stream": KinesisFeedbackResource(aws=aws),
            "judge": JudgeResource(aws=aws),
            "generation": GenerationResource(aws=aws, provider="extractive"),
            "labelling": LabellingResource(),
            "knowledge": KnowledgeResource(folder=str(knowledge)),
            "mining": MiningResource(),
            "mlflow": LocalMlflow(tracking_uri=tracking_uri, name=name),
            "prices": PricesResource(),
            "privacy": PrivacyResource(key="ab" * 32),
            "search": LanceDbSearchResource(path=str(folder / "search")),
            "store": store,
            "trace_mapping": TraceMappingResource(),
            "warehouse": DuckDbWarehouseResource(path=str(folder / "warehouse.duckdb")),
        },
    )


def put_traffic(platform: Platform, *, turns: int = 24, bundle: str | None = BUNDLE) -> None:
    """Let shoppers ask, half of them with a thumbs-down, of whom half were reviewed; their thumbs are on the stream."""
    for number in range(turns):
        intent = list(INTENTS)[number % 2]
        down = number % 4 < 2
        trace = chat_trace(
            f"tr-{number:032x}",
            START_MS + 60_000 * number,
            bundle,
            # Unlike each other in more than a word: such messages would be copies.
            message=" ".join((INTENTS[intent], *("abcdefghijkl"[number % 12] * length for length in (3, 4, 5)))),
        )
        reviews = _reviews(trace, intent) if down and number % 8 < 4 else ()
        thumb = "thumbs_down" if down else "thumbs_up"
        tags = {**trace.tags, str(Tag.USER_FEEDBACK): thumb} if bundle else trace.tags
        platform.traces.put(replace(trace, tags=tags, assessments=reviews))
        if bundle is not None:
            put_thumb(platform, number, thumb, bundle)


def put_thumb(platform: Platform, number: int, thumb: str, bundle: str) -> None:
    """Press a thumb on a turn of the traffic."""
    event = {
        "event_id": f"fb-{number}",
        "trace_id": f"tr-{number:032x}",
        "session_id": f"s-tr-{number:032x}",
        "release_bundle": bundle,
        "feedback": thumb,
        "timestamp": f"2026-03-24T12:00:{number % 60:02d}.000Z",
    }
    platform.kinesis.put(json.dumps(event).encode())


def _reviews(trace: TraceRecord, intent: str) -> tuple[AssessmentRecord, ...]:
    answers = {EXPECTED_INTENT: intent, RELEVANT_DOCUMENTS: [ANSWERED_BY[intent]]}
    return tuple(
        AssessmentRecord(
            name=name,
            kind="expectation",
            value=value,
            source_type="HUMAN",
            source_id="aki",
            timestamp_ms=trace.timestamp_ms + 60_000,
        )
        for name, value in answers.items()
    )
