"""Which files a reranker's artifact has, by its network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mangaassist_assets.models.artifacts import ArtifactMismatchError, artifact_settings
from mangaassist_assets.models.reranker.training_config import NETWORKS, Network

ARTIFACT_KIND = "reranker"
EXTRA_FILE = "reranker.safetensors"
"""What a split-attention network has beside its encoder."""
ONNX_FILES: Mapping[Network, tuple[str, ...]] = {
    "cross-encoder": ("model.onnx",),
    "split-attention": ("lower.onnx", "joint.onnx"),
}


def network_of(directory: Path) -> Network:
    """Return which network an artifact holds, without checking its files.

    Raises:
        ArtifactMismatchError: It is no reranker, or of a network that is not known.
    """
    return network_in(artifact_settings(directory), directory)


def network_in(settings: Mapping[str, Any], directory: Path) -> Network:
    """Return which network the settings of an artifact name.

    Raises:
        ArtifactMismatchError: One that is not known.
    """
    network = settings.get("network")
    for known in NETWORKS:
        if network == known:
            return known
    raise ArtifactMismatchError(f"{directory} is no reranker of a known network: {str(network)[:80]!r}")
