"""What production stands on: the stored snapshots behind champions, live index and release manifests.

Retention keeps what is named here and, back to the first input, what it was made of.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mangaassist_assets.core.snapshots import Snapshot, SnapshotDamagedError, SnapshotStore
from mangaassist_assets.datasets.versions.versions import CARD_FILE, EXAMPLES_FILE
from mangaassist_assets.models.pipelines import ModelPipeline
from mangaassist_assets.models.registration.registry import EVALUATION_FILE, MODEL_FILE
from mangaassist_assets.retrieval.stored_knowledge import GENERATION_FILE

_MANIFEST, _MANIFEST_FILE = "release_manifest", "manifest.json"
_LIVE_INDEX = "live_index"


def stood_on(
    store: SnapshotStore,
    pipelines: Iterable[ModelPipeline],
    *,
    versions: Mapping[str, Mapping[str, str]],
    generations: Mapping[str, str],
) -> dict[str, str]:
    """Return the digests of snapshots that production stands on, and what stands on each.

    Args:
        store: The snapshots.
        pipelines: The model pipelines.
        versions: By registered model, its versions that are in use, and what each is, such as `champion`.
        generations: Index generations that are in use, and what each is.
    """
    found: dict[str, str] = {}
    learned = _learned(store)
    for pipeline in pipelines:
        used = {**learned.get(pipeline.model_asset, {}), **versions.get(pipeline.model_name, {})}
        datasets: dict[str, str] = {}
        for one, model in _files(store, pipeline.model_asset, MODEL_FILE, found):
            if why := used.get(str(model["version"])):
                found[one.digest] = f"{pipeline.model_name} {model['version']}: {why}"
                datasets[model["dataset_digest"]] = found[one.digest]
        for one, evaluation in _files(store, pipeline.evaluation_asset, EVALUATION_FILE, found):
            version = str(evaluation.get("challenger_version"))
            if why := used.get(version):
                found[one.digest] = f"the verdict on {pipeline.model_name} {version}: {why}"
        for one, card in _files(store, pipeline.dataset_asset, CARD_FILE, found):
            if why := datasets.get(card["digest"]):
                found[one.digest] = f"the data of {why}"
    for one, index in _files(store, "search_index", GENERATION_FILE, found):
        if why := generations.get(index["generation"]):
            found[one.digest] = why
    return found


def made_of(store: SnapshotStore, snapshot: Snapshot) -> Mapping[str, str]:
    """Return what a snapshot was made of: by its record, and for a dataset version by its card."""
    if snapshot.purged or not {CARD_FILE, EXAMPLES_FILE} <= snapshot.files.keys():
        return snapshot.origin.inputs
    try:
        card = store.read_json(snapshot, CARD_FILE)
    except SnapshotDamagedError:
        return snapshot.origin.inputs
    return {**snapshot.origin.inputs, **(card.get("inputs") or {})}


def previous_generation(store: SnapshotStore, live: str | None) -> str | None:
    """Return the index generation that was live before the one that is, as far as it is on record."""
    for one in store.records(_LIVE_INDEX):
        if not one.purged and (name := store.read_json(one, GENERATION_FILE)["generation"]) != live:
            return str(name)
    return None


def _learned(store: SnapshotStore) -> dict[str, dict[str, str]]:
    """Return the model versions that the latest release manifests name, by model asset."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for bundle in store.partitions(_MANIFEST):
        manifest = store.read_json(store.latest(_MANIFEST, partition=bundle), _MANIFEST_FILE)
        for asset, learned in manifest["learned"].items():
            for version in (learned["challenger_version"], learned["champion_version"]):
                if version is not None:
                    found[asset][str(version)] = f"in the manifest of {bundle}"
    return found


def _files(store: SnapshotStore, asset: str, file: str, found: dict[str, str]) -> Iterator[tuple[Snapshot, Any]]:
    """Yield the distinct snapshots of an asset with one of their files; what cannot be read stays, and says so."""
    for one in store.history(asset):
        if file not in one.files:
            continue
        try:
            content = store.read_json(one, file)
        except SnapshotDamagedError:
            found[one.digest] = f"{file} is damaged: nobody can tell what stands on it"
            continue
        yield one, content
