"""Amazon Titan Text Embeddings v2 as an `Embedder`.

Request and answer as in the Amazon Bedrock User Guide, "Amazon Titan Embeddings G1 - Text / Text Embeddings V2".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_bedrock_runtime import BedrockRuntimeClient

    from mangaassist_assets.retrieval.types import TextUse, Vectors

_DIMENSIONS = (256, 512, 1024)
# Titan's limit is 50,000 characters and 8,192 tokens; a CJK character can be a token and more.
_MAX_CHARACTERS = 8_000
# Titan refuses an empty text; all of them get this one's vector.
_BLANK = "-"


class TitanEmbedder:
    """Embeds texts by `invoke_model`, one text a call, several calls at once. Thread-safe."""

    def __init__(
        self, client: BedrockRuntimeClient, *, model_id: str, dimension: int = 1024, concurrency: int = 8
    ) -> None:
        if dimension not in _DIMENSIONS:
            raise ValueError(f"Titan Text Embeddings v2 has dimensions {_DIMENSIONS}, got {dimension}")
        self._client = client
        self._model_id = model_id
        self._dimension = dimension
        self._pool = ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="titan")

    @property
    def model_id(self) -> str:
        """The Bedrock model id."""
        return self._model_id

    @property
    def dimension(self) -> int:
        """Length of one vector."""
        return self._dimension

    def embed(self, texts: Sequence[str], *, use: TextUse = "passage") -> Vectors:
        """Return float32 of shape (len(texts), dimension), each row of length one; Titan takes all texts alike.

        Raises:
            EmbeddingError: If Bedrock refuses after its retries, or answers no embedding of that length.
        """
        import numpy as np

        from mangaassist_assets.retrieval.embedding_cache import check_vectors

        del use

        if not texts:
            return np.empty((0, self._dimension), dtype=np.float32)
        rows = list(self._pool.map(self._embed_one, texts))
        vectors = np.asarray(rows, dtype=np.float32)
        check_vectors(vectors, count=len(texts), dimension=self._dimension, model_id=self._model_id)
        return vectors

    def _embed_one(self, text: str) -> list[float]:
        from botocore.exceptions import BotoCoreError, ClientError

        from mangaassist_assets.retrieval.documents.text import clean_text
        from mangaassist_assets.retrieval.errors import EmbeddingError

        request = {
            "inputText": clean_text(text[:_MAX_CHARACTERS]).strip() or _BLANK,
            "dimensions": self._dimension,
            "normalize": True,
        }
        try:
            answer = self._client.invoke_model(
                modelId=self._model_id,
                contentType="application/json",
                accept="application/json",
                body=json.dumps(request),
            )
            content = answer["body"].read()
        except (BotoCoreError, ClientError) as error:
            raise EmbeddingError(f"Bedrock did not embed with {self._model_id}: {error}") from error
        try:
            embedding = json.loads(content)["embedding"]
        except (ValueError, KeyError, TypeError) as error:
            raise EmbeddingError(
                f"{self._model_id} answered without an embedding: check that the model id names an embedding model"
            ) from error
        if not isinstance(embedding, list) or len(embedding) != self._dimension:
            raise EmbeddingError(f"{self._model_id} answered an embedding that is not {self._dimension} numbers long")
        return embedding
