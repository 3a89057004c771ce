"""The folder of knowledge documents."""

from pathlib import Path

import dagster as dg
from pydantic import Field


class KnowledgeResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Says where the knowledge documents are."""

    folder: str = Field(description="Folder of .md, .txt, .html, .csv and .jsonl documents with optional metadata.")

    def path(self) -> Path:
        """Return the folder."""
        return Path(self.folder)
