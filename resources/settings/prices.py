"""Prices of language models as a resource: the packaged list, or a file of one's own."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

if TYPE_CHECKING:
    from mangaassist_assets.reporting.usage.prices import PriceTable

PRICES_VARIABLE = "MANGAASSIST_PRICES"


class PricesResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Hands out what models cost."""

    path: str | None = Field(
        default=None,
        description="JSON file of prices in the form of usage/bedrock_prices.json, in place of it; empty takes "
        "MANGAASSIST_PRICES, and the packaged list where that is empty too.",
    )
    region: str | None = Field(
        default=None, description="AWS region whose prices go before those of any region; empty takes AWS_REGION."
    )

    def table(self) -> "PriceTable":
        """Return the prices.

        Raises:
            PriceTableError: The file is not a price file; names the entry.
        """
        from mangaassist_assets.reporting.usage.prices import read_prices

        path = self.path or os.environ.get(PRICES_VARIABLE) or None
        return read_prices(Path(path) if path else None)

    def priced_region(self) -> str | None:
        """Return the region to look prices up for, if one is known."""
        return self.region or os.environ.get("AWS_REGION") or None
