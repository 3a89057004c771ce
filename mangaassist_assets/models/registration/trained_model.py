"""A registered challenger, as its training asset stored it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore

MODEL_FILE = "model.json"
EVALUATION_FILE = "evaluation.json"
"""What the evaluation of a challenger stores, beside the snapshot of the challenger itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """A registered challenger as the training asset left it."""

    name: str
    version: str
    run_id: str
    artifact_uri: str
    artifact_sha256: str
    dataset_digest: str
    release_bundle: str | None
    bundle_start_ms: int

    @staticmethod
    def read(store: SnapshotStore, asset: str, release_bundle: str) -> TrainedModel:
        """Return what the training asset registered for a bundle."""
        return TrainedModel(**store.read_json(store.latest(asset, partition=release_bundle), MODEL_FILE))
