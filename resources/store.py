"""The platform's files: snapshots, datasets, caches, feedback ingestion; a directory locally, a bucket on AWS."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import dagster as dg
from pydantic import Field, PrivateAttr

if TYPE_CHECKING:
    from upath import UPath

    from mangaassist_assets.core.declared_inputs import Read, StepStore
    from mangaassist_assets.core.ingestion_tables import IngestionTable
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.retrieval.embedding_cache import EmbeddingCache
    from mangaassist_assets.tracing.feedback.ingestion import FeedbackIngestion


StepContext: TypeAlias = dg.AssetExecutionContext | dg.AssetCheckExecutionContext

READS = "reads"
"""Metadata of an asset or check: the inputs it declares."""
SETTLED_TAG = "mangaassist/inputs"
"""Tag of a run: the file of the store with the numbers of the snapshots that it reads."""
OUTSIDE = "outside"
"""Metadata of an asset: the system besides its inputs that it is made of, or that it changes."""


class StoreResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Hands out what keeps files under one root."""

    root: str = Field(description="Directory or s3:// URL under which snapshots and datasets are kept.")
    cache_folder: str = Field(description="Local directory for what can be made again: embeddings, training scratch.")

    def path(self) -> "UPath":
        """Return the root; nothing is touched."""
        from upath import UPath

        return UPath(self.root)

    def snapshots(self) -> "SnapshotStore":
        """Return the snapshot store; nothing is touched until the first read or write."""
        from mangaassist_assets.core.snapshots import SnapshotStore

        return SnapshotStore(self.path())

    def step(self, context: StepContext) -> "StepStore":
        """Return the store as a step sees it: what its asset or check declares, as of the beginning of its run."""
        from mangaassist_assets.core.declared_inputs import StepStore
        from mangaassist_assets.core.run_pins import RunStore, settle_pins
        from mangaassist_assets.core.snapshots import Origin

        snapshots, run = self.snapshots(), context.run
        spec, name = _definition(context)
        reads, bundle = _reads_of_run(context), run.tags.get("dagster/partition")
        pins, first = settle_pins(snapshots, run.run_id, reads, bundle=bundle)
        if first:
            there = sum(number > 0 for places in pins.values() for number in places.values())
            context.log.info("the inputs of this run are settled: %d snapshots of %d assets", there, len(pins))
            context.instance.add_run_tags(run.run_id, {SETTLED_TAG: f"runs/{run.run_id}.json"})
        run_ids = {one for one in (run.run_id, run.parent_run_id) if one is not None}
        return StepStore(
            RunStore(snapshots, pins, run_ids=run_ids, output=name),
            declared_reads(spec.metadata),
            output=name,
            # A run of a bundle may also make what has no partitions, such as a champion.
            bundle=None if spec.partitions_def is None else context.partition_key,
            origin=Origin(
                settings=context.op_execution_context.op_config or {},
                code_version=spec.code_version if isinstance(spec, dg.AssetSpec) else None,
                run_id=run.run_id,
            ),
        )

    def feedback_ingestion(self) -> "FeedbackIngestion":
        """Return where feedback events come to rest."""
        from mangaassist_assets.tracing.feedback.ingestion import FeedbackIngestion

        return FeedbackIngestion.at(str(self.path() / "ingestion" / "feedback"))

    def trace_ingestion_table(self) -> "IngestionTable":
        """Return the table in which traces come to rest; nothing is touched."""
        from mangaassist_assets.core.ingestion_tables import IngestionTable, storage_options
        from mangaassist_assets.tracing.ingestion.ingested_traces import INGESTED_SCHEMA

        uri = str(self.path() / "ingestion" / "traces")
        return IngestionTable(
            uri, schema=INGESTED_SCHEMA, skipping=("timestamp_ms",), storage_options=storage_options(uri)
        )

    def cache(self, name: str) -> Path:
        """Return a local folder for what can be made again; it exists afterwards."""
        folder = Path(self.cache_folder) / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def embedding_cache(self) -> "EmbeddingCache":
        """Return the cache of vectors that all assets share, by model and content."""
        from mangaassist_assets.retrieval.embedding_cache import EmbeddingCache

        return EmbeddingCache(self.cache("embeddings"))

    def inputs(self) -> "UPath":
        """Return the folder of what people hand in: the training file of the bootstrap."""
        return self.path() / "inputs"


class StoreOfThen(StoreResource):
    """The platform's files as a step saw them that is done again."""

    _step: "StepStore | None" = PrivateAttr(default=None)

    def of(self, step: "StepStore") -> "StoreOfThen":
        """Return itself, with the step that it hands out."""
        self._step = step
        return self

    def step(self, context: StepContext) -> "StepStore":  # noqa: ARG002 - see base
        """Return the store as the step saw it."""
        if self._step is None:
            raise RuntimeError("a store of then needs the step that it is of")
        return self._step


def declared_reads(metadata: Mapping[str, Any]) -> "tuple[Read, ...]":
    """Return the inputs that the metadata of an asset or check declare."""
    from mangaassist_assets.core.declared_inputs import reads_from_json

    declared = metadata.get(READS)
    # A table without rows is the text that says so.
    rows = declared.records if isinstance(declared, dg.TableMetadataValue) else ()
    return reads_from_json(row.data for row in rows)


def _definition(context: StepContext) -> tuple[dg.AssetSpec | dg.AssetCheckSpec, str]:
    """Return the asset or check of a step, and its name."""
    if isinstance(context, dg.AssetCheckExecutionContext):
        (check,) = context.check_specs
        return check, f"{check.asset_key.to_user_string()}:{check.name}"
    asset = context.assets_def.get_asset_spec(context.asset_key)
    return asset, asset.key.to_user_string()


def _reads_of_run(context: StepContext) -> "list[Read]":
    """Return what all assets and checks of the step's run declare."""
    made = [one.assets_def for one in context.job_def.asset_layer.data]
    assets = (spec.metadata for one in made for spec in one.specs)
    checks = (spec.metadata for one in made for spec in one.check_specs)
    return [read for metadata in (*assets, *checks) for read in declared_reads(metadata)]
