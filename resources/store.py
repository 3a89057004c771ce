"""The platform's files: snapshots, datasets, caches, feedback landing; a directory locally, a bucket on AWS."""

from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

if TYPE_CHECKING:
    from upath import UPath

    from mangaassist_assets.core.ingestion_tables import LandingTable
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.tracing.feedback.ingestion import FeedbackLanding


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

    def feedback_landing(self) -> "FeedbackLanding":
        """Return where feedback events come to rest."""
        from mangaassist_assets.tracing.feedback.ingestion import FeedbackLanding

        return FeedbackLanding.at(str(self.path() / "landing" / "feedback"))

    def trace_landing_table(self) -> "LandingTable":
        """Return the table in which traces come to rest; nothing is touched."""
        from mangaassist_assets.core.ingestion_tables import LandingTable, storage_options
        from mangaassist_assets.tracing.ingestion.ingested_rows import LANDED_SCHEMA

        uri = str(self.path() / "landing" / "traces")
        return LandingTable(uri, schema=LANDED_SCHEMA, skipping=("timestamp_ms",), storage_options=storage_options(uri))

    def cache(self, name: str) -> Path:
        """Return a local folder for what can be made again; it exists afterwards."""
        folder = Path(self.cache_folder) / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def inputs(self) -> "UPath":
        """Return the folder of what people hand in: the training file of the bootstrap."""
        return self.path() / "inputs"
