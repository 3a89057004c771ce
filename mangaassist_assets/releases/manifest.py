"""The release manifest: the exact versions that make one bundle, and which models were trained on it.

A manifest is made of what the bundle's own traces say served them, never of what production runs today; so the
manifest of an old bundle is the same whenever it is written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import polars as pl

from mangaassist_assets.core.figures import Figures
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.models.registration.registry import EVALUATION_FILE, MODEL_FILE

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.models.pipelines import ModelPipeline

SERVED_COMPONENTS = (
    "intent_model_version",
    "reranker_version",
    "prompt_version",
    "routing_policy_version",
    "guardrail_ruleset_version",
    "bedrock_model_id",
    "embedding_model_id",
    "index_generation",
)
MANIFEST_COLUMNS = ("trace_id", "release_bundle", *SERVED_COMPONENTS)
"""What of stored turns is looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedVersion:
    """One version of one component, and how many of the bundle's turns it served."""

    version: str
    turns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedModel:
    """What one model pipeline made of the bundle; None where the model pipeline did not get there."""

    dataset_digest: str | None
    challenger_version: str | None
    champion_version: str | None
    artifact_sha256: str | None
    verdict: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseManifest:
    """`served` maps a component to its versions, the most used first; more than one means a mixed bundle."""

    release_bundle: str
    turns: int
    served: Mapping[str, tuple[ServedVersion, ...]]
    learned: Mapping[str, LearnedModel]
    schema: Literal[1] = 1

    def files(self) -> dict[str, bytes]:
        """Return the manifest as it is stored."""
        return {"manifest.json": canonical_json(self)}

    @property
    def mixed_components(self) -> tuple[str, ...]:
        """Components of which more than one version served the bundle."""
        return tuple(name for name, versions in self.served.items() if len(versions) > 1)

    @property
    def missing_components(self) -> tuple[str, ...]:
        """Components that no trace of the bundle names."""
        return tuple(name for name, versions in self.served.items() if not versions)

    def figures(self) -> Figures:
        """Return the digest, and tables of what served the bundle and what was learned from it."""
        return {
            "manifest_digest": self.digest,
            "turns": self.turns,
            "mixed": [{"component": name} for name in self.mixed_components],
            "missing": [{"component": name} for name in self.missing_components],
            "served": [
                {"component": component, "version": one.version, "turns": one.turns}
                for component, versions in self.served.items()
                for one in versions
            ],
            "learned": [
                {
                    "model": name,
                    "dataset": (learned.dataset_digest or "none")[:12],
                    "challenger": learned.challenger_version,
                    "verdict": learned.verdict,
                }
                for name, learned in self.learned.items()
            ],
        }

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON form."""
        return hashlib.sha256(canonical_json(self)).hexdigest()


def read_learned_model(store: SnapshotStore, pipeline: ModelPipeline, release_bundle: str) -> LearnedModel:
    """Return what a model pipeline made of a bundle, as far as it got."""
    dataset = store.find(pipeline.dataset_asset, partition=release_bundle)
    model = store.find(pipeline.model_asset, partition=release_bundle)
    evaluation = store.find(pipeline.evaluation_asset, partition=release_bundle)
    trained = store.read_json(model, MODEL_FILE) if model else {}
    verdict = store.read_json(evaluation, EVALUATION_FILE) if evaluation else {}
    card = store.read_json(dataset, "card.json") if dataset else {}
    return LearnedModel(
        dataset_digest=card.get("digest"),
        challenger_version=trained.get("version"),
        champion_version=verdict.get("champion_version"),
        artifact_sha256=trained.get("artifact_sha256"),
        verdict=verdict.get("verdict"),
    )


def build_manifest(release_bundle: str, turns: pl.DataFrame, *, learned: Mapping[str, LearnedModel]) -> ReleaseManifest:
    """Count which versions served the turns of a bundle and join what the model pipelines learned from them.

    `turns` have the `MANIFEST_COLUMNS`.

    Raises:
        ValueError: a turn belongs to another bundle.
    """
    strangers = turns.filter(pl.col("release_bundle") != release_bundle)
    if strangers.height:
        trace_id, other = strangers.select("trace_id", "release_bundle").row(0)
        raise ValueError(f"trace {trace_id} belongs to bundle {other!r}, not {release_bundle!r}")
    served = {
        component: tuple(
            ServedVersion(version=version, turns=used)
            for version, used in sorted(
                turns[component].drop_nulls().value_counts().iter_rows(), key=lambda item: (-item[1], item[0])
            )
        )
        for component in SERVED_COMPONENTS
    }
    return ReleaseManifest(release_bundle=release_bundle, turns=turns.height, served=served, learned=dict(learned))
