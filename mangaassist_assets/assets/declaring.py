"""From declared inputs to what Dagster takes of them: dependencies, partition mappings, and the declaration itself."""

from collections.abc import Callable, Iterable
from typing import Any

import dagster as dg

from mangaassist_assets.assets.common import table
from mangaassist_assets.core.declared_inputs import Input, Read, merged_reads, reads_to_json
from resources.store import OUTSIDE, READS


def declared_asset(
    *,
    reads: Iterable[Input[Any] | Read] = (),
    outside: str | None = None,
    **options: Any,  # noqa: ANN401 - those of Dagster
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Return `dagster.asset` with what the asset reads: its dependencies, their partition mappings, the declaration.

    `outside` names the system whose present state goes into the asset as well, or that it changes: its output cannot be
    made again from its record. Without it the same inputs make the same bytes.
    """
    declared = merged_reads(reads)
    metadata = _metadata(declared) | ({} if outside is None else {OUTSIDE: dg.MetadataValue.text(outside)})
    decorate: Callable[[Callable[..., Any]], dg.AssetsDefinition] = dg.asset(
        deps=_dependencies(declared, options.get("partitions_def")), metadata=metadata, **options
    )
    return decorate


def declared_check(
    *,
    asset: str,
    reads: Iterable[Input[Any] | Read] = (),
    **options: Any,  # noqa: ANN401 - those of Dagster
) -> Callable[[Callable[..., Any]], dg.AssetChecksDefinition]:
    """Return `dagster.asset_check` with what the check reads; its own asset is no further dependency."""
    declared = merged_reads(reads)
    others = [one for one in declared if one.asset != asset]
    dependencies = _dependencies(others, options.get("partitions_def"))
    return dg.asset_check(asset=asset, additional_deps=dependencies, metadata=_metadata(declared), **options)


def _dependencies(declared: Iterable[Read], partitions: object) -> list[dg.AssetDep]:
    """Return the dependencies of an asset with these partitions, None where it has none."""
    return [
        dg.AssetDep(one.asset, partition_mapping=_mapping(one, partitioned=partitions is not None))
        for one in declared
        if not one.own and not one.ledger
    ]


def _mapping(read: Read, *, partitioned: bool) -> dg.PartitionMapping | None:
    match read.bundles:
        case "none":
            return None
        case "until" | "all" if not partitioned:
            return dg.AllPartitionMapping()
        case "same" | "until" | "all":
            # A bundle that reads those before it is mapped to itself all the same: mapped to all, Dagster's page would
            # make every bundle of this asset again in a backfill of one. Which others it read, its record says.
            return dg.IdentityPartitionMapping()


def _metadata(declared: Iterable[Read]) -> dict[str, dg.MetadataValue]:
    return {READS: table(reads_to_json(declared))}
