"""Embedders as resources: all-MiniLM-L6-v2 on this machine, Titan Text Embeddings v2 on Amazon Bedrock."""

import os
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field, PrivateAttr

from resources.settings.learning import configured_base_model

if TYPE_CHECKING:
    from mangaassist_assets.models.encoders.sentence_encoder import SentenceEncoder
    from mangaassist_assets.retrieval.types import Embedder

TITAN_MODEL_ID = "amazon.titan-embed-text-v2:0"

EMBEDDING_MODEL_VARIABLE = "MANGAASSIST_EMBEDDING_MODEL"
_LOADING = Lock()


class EmbeddingsResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # hands out an embedder, not itself
    """What assets ask for: whatever embedding model the environment has."""

    def embedder(self) -> "Embedder":
        """Return the embedder."""
        raise NotImplementedError(
            f"{type(self).__name__} is no embedder: use LocalEmbedderResource or BedrockTitanEmbedderResource"
        )


class LocalEmbedderResource(EmbeddingsResource):
    """A sentence encoder in this process, loaded once however many resources name it."""

    model: str = Field(
        default="",
        description="Sentence encoder: packaged-minilm, packaged-multilingual-e5, a folder as sentence-transformers "
        "writes it (safetensors), or a name on the model hub. Empty for MANGAASSIST_EMBEDDING_MODEL, or "
        "MANGAASSIST_BASE_MODEL, or the platform's default.",
    )
    max_tokens: int = Field(default=256, ge=8, le=8192, description="Texts are cut after this many tokens.")

    def embedder(self) -> "Embedder":
        """Return the encoder; the first call of a process loads it.

        Raises:
            EmbeddingError: If there is no such model.
        """
        with _LOADING:
            named = self.model or os.environ.get(EMBEDDING_MODEL_VARIABLE) or configured_base_model()
            return _load_encoder(named, self.max_tokens)


class BedrockTitanEmbedderResource(EmbeddingsResource):
    """Amazon Titan Text Embeddings v2 through Bedrock's `invoke_model`."""

    model_id: str = Field(default=TITAN_MODEL_ID, description="Bedrock model or inference profile to invoke.")
    dimension: int = Field(default=1024, description="Length of a vector: 256, 512 or 1024.")
    region_name: str | None = Field(default=None, description="AWS region; empty for boto3's own resolution.")
    endpoint_url: str | None = Field(default=None, description="Endpoint of Bedrock Runtime; empty for AWS's own.")
    concurrency: int = Field(default=8, ge=1, le=64, description="Texts embedded at once; Titan takes one a call.")
    max_attempts: int = Field(default=8, ge=1, description="Tries of one call, throttling included.")
    timeout_seconds: float = Field(default=30.0, gt=0, description="Longest wait for one answer.")

    _embedder: "Embedder | None" = PrivateAttr(default=None)

    def embedder(self) -> "Embedder":
        """Return the embedder; the client is made once for each resource."""
        with _LOADING:
            if self._embedder is None:
                self._embedder = self._connect()
            return self._embedder

    def _connect(self) -> "Embedder":
        import boto3
        from botocore.config import Config

        from resources.aws.titan_embedder import TitanEmbedder

        client = boto3.client(
            "bedrock-runtime",
            region_name=self.region_name,
            endpoint_url=self.endpoint_url,
            config=Config(
                retries={"mode": "adaptive", "total_max_attempts": self.max_attempts},
                read_timeout=self.timeout_seconds,
                connect_timeout=min(self.timeout_seconds, 10.0),
                max_pool_connections=self.concurrency,
            ),
        )
        return TitanEmbedder(client, model_id=self.model_id, dimension=self.dimension, concurrency=self.concurrency)


@lru_cache(maxsize=4)
def _load_encoder(model: str, max_tokens: int) -> "SentenceEncoder":
    from mangaassist_assets.models.encoders.sentence_encoder import load_sentence_encoder

    return load_sentence_encoder(model, max_tokens=max_tokens)
