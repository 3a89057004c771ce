"""The mapping of traces as a resource: the packaged one, or with a file of one's own laid over it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

if TYPE_CHECKING:
    from mangaassist_assets.tracing.reading.mapping import TraceMapping


class TraceMappingResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Hands out where the facts of a turn are found in a trace."""

    path: str | None = Field(
        default=None,
        description="TOML file in the form of tracing/reading/trace_mapping.toml, laid over it; empty takes "
        "MANGAASSIST_TRACE_MAPPING, and the packaged mapping alone where that is empty too.",
    )

    def mapping(self) -> "TraceMapping":
        """Return the mapping in force.

        Raises:
            TraceMappingError: The file is no mapping; names the key.
        """
        from mangaassist_assets.tracing.reading.mapping import MAPPING_VARIABLE, read_mapping

        path = self.path or os.environ.get(MAPPING_VARIABLE) or None
        return read_mapping(Path(path) if path else None)
