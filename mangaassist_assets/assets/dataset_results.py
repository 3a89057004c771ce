"""How a stored dataset version looks in Dagster: its names, its card, its counts as a picture."""

import dagster as dg

from mangaassist_assets.assets.common import image
from mangaassist_assets.core.snapshots import Snapshot
from mangaassist_assets.datasets.versions.card_chart import counts_chart
from mangaassist_assets.datasets.versions.data_card import moment
from mangaassist_assets.datasets.versions.versions import DatasetVersion


def dataset_result(snapshot: Snapshot, version: DatasetVersion) -> dg.MaterializeResult[None]:
    """Return the materialization of a dataset version.

    The version is the data version: a card that reads otherwise (an input was stored anew with the same meaning) is no
    reason to train again.
    """
    card = version.card
    return dg.MaterializeResult(
        data_version=dg.DataVersion(card.version[:16]),
        metadata={
            "dagster/row_count": dg.MetadataValue.int(card.rows),
            "examples": dg.MetadataValue.int(card.examples),
            "dataset_version": dg.MetadataValue.text(card.version),
            "dataset_digest": dg.MetadataValue.text(version.digest),
            "as_of": dg.MetadataValue.text("no turns" if card.as_of_ms is None else moment(card.as_of_ms)),
            "data_card": dg.MetadataValue.md(card.to_markdown()),
            "counts": image("examples by side", counts_chart(card)),
            "digest": dg.MetadataValue.text(snapshot.digest),
            "files": dg.MetadataValue.path(snapshot.uri),
        },
    )
