"""The platform's files: snapshots, datasets, caches, feedback ingestion; a directory locally, a bucket on AWS."""

from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

if TYPE_CHECKING:
    from upath import UPath

    from mangaassist_assets.core.ingestion_tables import IngestionTable
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.retrieval.embedding_cache import EmbeddingCache
    from mangaassist_assets.tracing.feedback.ingestion import FeedbackIngestion


class StoreResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Hands out what keeps files under one root."""

    root: str = Field(description="Directory or s3:// URL under which snapshots and datasets are kept.")
    cache_folder: str = Field(description="Local directory for what can be made again: embeddings, training scratch.")

    def path(self) -> "UPath":
        """Return the root; nothing is touched."""
        from upath import UPath

        return UPath(self.root)

    def snapshots(self) -> "SnapshotStore":
        """Return the snapshot store; nothing is touched until the first read or write."""
        from mangaassist_assets.core.snapshots import SnapshotStore

        return SnapshotStore(self.path())

    def feedback_ingestion(self) -> "FeedbackIngestion":
        """Return where feedback events come to rest."""
        from mangaassist_assets.tracing.feedback.ingestion import FeedbackIngestion

        return FeedbackIngestion.at(str(self.path() / "ingestion" / "feedback"))

    def trace_ingestion_table(self) -> "IngestionTable":
        """Return the table in which traces come to rest; nothing is touched."""
        from mangaassist_assets.core.ingestion_tables import IngestionTable, storage_options
        from mangaassist_assets.tracing.ingestion.ingested_traces import INGESTED_SCHEMA

        uri = str(self.path() / "ingestion" / "traces")
        return IngestionTable(
            uri, schema=INGESTED_SCHEMA, skipping=("timestamp_ms",), storage_options=storage_options(uri)
        )

    def cache(self, name: str) -> Path:
        """Return a local folder for what can be made again; it exists afterwards."""
        folder = Path(self.cache_folder) / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def embedding_cache(self) -> "EmbeddingCache":
        """Return the cache of vectors that all assets share, by model and content."""
        from mangaassist_assets.retrieval.embedding_cache import EmbeddingCache

        return EmbeddingCache(self.cache("embeddings"))

    def inputs(self) -> "UPath":
        """Return the folder of what people hand in: the training file of the bootstrap."""
        return self.path() / "inputs"
