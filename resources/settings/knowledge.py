"""The folder of knowledge documents, and what in it says whose a document is."""

import os
from pathlib import Path

import dagster as dg
from pydantic import Field

TENANT_VARIABLE = "MANGAASSIST_TENANT_ATTRIBUTE"


class KnowledgeResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Says where the knowledge documents are, and which attribute of theirs names the tenant."""

    folder: str = Field(description="Folder of .md, .txt, .html, .csv and .jsonl documents with optional metadata.")
    tenant_attribute: str | None = Field(
        default=None,
        description="Metadata attribute, or column of a table, that names the tenant of a document, such as customer; "
        "its case does not matter. Empty takes MANGAASSIST_TENANT_ATTRIBUTE, and `tenant` where that is empty too.",
    )

    def path(self) -> Path:
        """Return the folder."""
        return Path(self.folder)

    def named_tenant_attribute(self) -> str:
        """Return the name of the attribute that says whose a document is."""
        from mangaassist_assets.retrieval.documents.documents import DEFAULT_TENANT_ATTRIBUTE

        return self.tenant_attribute or os.environ.get(TENANT_VARIABLE) or DEFAULT_TENANT_ATTRIBUTE
