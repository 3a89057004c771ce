"""From declared inputs to what Dagster takes of them: dependencies, partition mappings, and the declaration itself."""

from collections.abc import Callable, Iterable
from typing import Any

import dagster as dg

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
        deps=_dependencies(declared), metadata=metadata, **options
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
    return dg.asset_check(asset=asset, additional_deps=_dependencies(others), metadata=_metadata(declared), **options)


def _dependencies(declared: Iterable[Read]) -> list[dg.AssetDep]:
    return [
        dg.AssetDep(one.asset, partition_mapping=_mapping(one)) for one in declared if not one.own and not one.ledger
    ]


def _mapping(read: Read) -> dg.PartitionMapping | None:
    match read.bundles:
        case "none":
            return None
        case "same":
            return dg.IdentityPartitionMapping()
        case "until" | "all":
            # Which bundles began before is in the store, where Dagster's page cannot look: it is told of all.
            return dg.AllPartitionMapping()


def _metadata(declared: Iterable[Read]) -> dict[str, dg.MetadataValue]:
    return {READS: dg.MetadataValue.json(reads_to_json(declared))}
