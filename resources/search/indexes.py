"""Search indexes as resources: LanceDB in a folder, OpenSearch or OpenSearch Serverless over HTTP."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import dagster as dg
from pydantic import Field, PrivateAttr

if TYPE_CHECKING:
    from mangaassist_assets.retrieval.search_index import SearchIndex


class SearchResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # hands out an index, not itself
    """What assets ask for: whatever search index the environment has."""

    def index(self) -> "SearchIndex":
        """Return the index."""
        raise NotImplementedError(
            f"{type(self).__name__} is no search index: use LanceDbSearchResource or OpenSearchResource"
        )


class LanceDbSearchResource(SearchResource):
    """Index generations in a folder of this machine."""

    path: str = Field(description="Folder of the tables and the alias file; created when first written to.")

    _index: "SearchIndex | None" = PrivateAttr(default=None)

    def index(self) -> "SearchIndex":
        """Return the index; it opens nothing before it is used, and keeps open what it used."""
        from resources.search.lancedb_index import LanceDbIndex

        if self._index is None:
            self._index = LanceDbIndex(Path(self.path))
        return self._index


class OpenSearchResource(SearchResource):
    """Index generations in an OpenSearch cluster or an OpenSearch Serverless vector collection."""

    url: str = Field(description="Address of the cluster or collection, such as https://search.example:443.")
    alias: str = Field(default="mangaassist-knowledge", description="Alias that names the live generation.")
    serverless: bool = Field(
        default=False,
        description="True for a vector collection of OpenSearch Serverless: no document ids of ours, no refresh, no "
        "shard settings. A chunk's identity is then the field chunk_id alone.",
    )
    engine: Literal["lucene", "faiss"] = Field(
        default="faiss",
        description="Engine of the vector field. Serverless has only faiss; the local test node only lucene.",
    )
    auth: Literal["none", "basic", "sigv4"] = Field(default="sigv4", description="How requests are signed.")
    username: str | None = Field(default=None, description="User for basic authentication.")
    password: str | None = Field(default=None, description="Password for basic authentication; give an EnvVar.")
    region_name: str | None = Field(default=None, description="Region for sigv4; empty for boto3's own resolution.")
    replicas: int = Field(default=1, ge=0, description="Replicas of each generation; not used in serverless.")
    timeout_seconds: float = Field(default=30.0, gt=0, description="Longest wait for one request.")
    visibility_timeout_seconds: float = Field(
        default=180.0,
        gt=0,
        description="Longest wait until a search sees what was written; serverless refreshes by itself once a minute.",
    )

    _index: "SearchIndex | None" = PrivateAttr(default=None)

    def index(self) -> "SearchIndex":
        """Return the index; its client connects with the first request.

        Raises:
            ValueError: If the settings contradict each other.
        """
        from resources.search.opensearch_index import OpenSearchIndex, OpenSearchLayout, connect

        if self._index is None:
            client = connect(
                self.url,
                auth=self.auth,
                service="aoss" if self.serverless else "es",
                username=self.username,
                password=self.password,
                region_name=self.region_name,
                timeout_seconds=self.timeout_seconds,
            )
            layout = OpenSearchLayout(
                alias=self.alias, engine=self.engine, serverless=self.serverless, replicas=self.replicas
            )
            self._index = OpenSearchIndex(
                client, layout=layout, visibility_timeout_seconds=self.visibility_timeout_seconds
            )
        return self._index
