"""What a training has finished, kept until it is registered: a server that is away costs no second training."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from mangaassist_assets.core.files import write_whole
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.models.artifacts import ArtifactMismatchError, verify_artifact
from mangaassist_assets.models.model_types import TrainedArtifact
from mangaassist_assets.training.objective import EpochRecord

_ARTIFACT = "artifact"
_CHECKPOINTS = "checkpoints"
_CHARTS = "charts"
_FILE = "trained.json"


class TrainingFolder:
    """The scratch folder of one training, named by what decides its result."""

    def __init__(self, root: Path, key: str) -> None:
        self.path = root / key[:32]
        self.artifact = self.path / _ARTIFACT
        self.checkpoints = self.path / _CHECKPOINTS

    def finished(self) -> TrainedArtifact | None:
        """Return the training that was finished here, if its artifact is whole."""
        file = self.path / _FILE
        if not file.is_file():
            return None
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            verify_artifact(self.artifact, values["digest"])
            charts = {name: (self.path / _CHARTS / name).read_bytes() for name in values.pop("chart_names")}
            history = tuple(EpochRecord(**record) for record in values.pop("history"))
            limits = tuple(values.pop("limits"))
            return TrainedArtifact(directory=self.artifact, history=history, limits=limits, charts=charts, **values)
        except (ArtifactMismatchError, OSError, ValueError, KeyError, TypeError):
            # Killed while it was written, or damaged: it is trained again, from the last checkpoint.
            return None

    def start(self) -> None:
        """Make room for a new artifact; checkpoints stay."""
        shutil.rmtree(self.artifact, ignore_errors=True)
        (self.path / _FILE).unlink(missing_ok=True)
        self.path.mkdir(parents=True, exist_ok=True)

    def keep(self, trained: TrainedArtifact) -> None:
        """Write down what was trained; the last file makes it finished."""
        charts = self.path / _CHARTS
        charts.mkdir(parents=True, exist_ok=True)
        for name, png in trained.charts.items():
            (charts / name).write_bytes(png)
        values = {
            "digest": trained.digest,
            "metrics": dict(trained.metrics),
            "history": [asdict(record) for record in trained.history],
            "kept": trained.kept,
            "started_from": trained.started_from,
            "tables": {name: [dict(row) for row in rows] for name, rows in trained.tables.items()},
            "limits": list(trained.limits),
            "chart_names": sorted(trained.charts),
        }
        write_whole(self.path / _FILE, canonical_json(values))

    def remove(self) -> None:
        """Forget the training: it is registered."""
        shutil.rmtree(self.path, ignore_errors=True)
