"""`mangaassist rebuild`: make a stored output again from what its record names, and compare every byte."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from mangaassist_assets.cli.options import Command, json_option
from mangaassist_assets.cli.output import console, emit, new_table, say
from mangaassist_assets.cli.session import CommandError, Session, open_session

if TYPE_CHECKING:
    import dagster as dg

    from mangaassist_assets.core.rebuilding import RebuiltOutput
    from mangaassist_assets.core.snapshots import Snapshot, SnapshotStore

_DIGITS = 12


@click.command(cls=Command)
@click.argument("asset")
@click.option("--partition", help="The release bundle, for an asset that has them.")
@click.option("--digest", help="The beginning of the digest of an older output; without it the latest one.")
@json_option
@click.pass_obj
def rebuild(home: str | None, asset: str, partition: str | None, digest: str | None, *, as_json: bool) -> None:
    """Make ASSET again from the inputs that its record names, and compare it byte for byte; nothing is written."""
    with open_session(home, say, services=("mlflow",), imports=()) as session:
        report = run_rebuild(session, asset, partition=partition, digest=digest)
    emit(report, render_rebuild, as_json=as_json)
    if report["outcome"] != "identical":
        raise SystemExit(1)


def run_rebuild(session: Session, asset: str, *, partition: str | None, digest: str | None) -> dict[str, Any]:
    """Return how an output that is made again compares with the stored one; see `RebuiltOutput`.

    Raises:
        CommandError: There is no such asset or output.
    """
    store = session.resources.store.snapshots()
    snapshot = _stored(store, asset, partition, digest)
    made = _rebuilt(session, store, snapshot)
    return {
        **asdict(made),
        "inputs": dict(snapshot.origin.inputs),
        "code_version": snapshot.origin.code_version,
        "run_id": snapshot.origin.run_id,
    }


def _stored(store: SnapshotStore, asset: str, partition: str | None, digest: str | None) -> Snapshot:
    if digest is None:
        return store.latest(asset, partition=partition)
    found = [one for one in store.records(asset, partition=partition) if one.digest.startswith(digest.lower())]
    if not found:
        raise CommandError(f"no stored output of {asset} has a digest that begins with {digest!r}")
    return found[0]


def _rebuilt(session: Session, store: SnapshotStore, snapshot: Snapshot) -> RebuiltOutput:
    from mangaassist_assets.core.declared_inputs import InputGoneError, UndeclaredReadError
    from mangaassist_assets.core.rebuilding import RebuiltOutput, compare_rebuilt
    from mangaassist_assets.core.snapshots import SnapshotMissingError
    from resources.store import OUTSIDE

    def impossible(reason: str) -> RebuiltOutput:
        return RebuiltOutput(
            asset=snapshot.name,
            partition=snapshot.partition,
            digest=snapshot.digest,
            outcome="impossible",
            reason=reason,
        )

    definition = _definition(session, snapshot.name)
    spec = next(iter(definition.specs))
    if snapshot.purged:
        return impossible(f"it was purged: {snapshot.purged}")
    if snapshot.origin.code_version is None:
        return impossible("its record does not say what it was made of")
    if (outside := spec.metadata.get(OUTSIDE)) is not None:
        return impossible(f"it is made of {outside.value}, as that was then")
    try:
        files = _made_again(session, definition, store, snapshot)
    except (InputGoneError, SnapshotMissingError, UndeclaredReadError) as error:
        return impossible(str(error))
    if files is None:
        return impossible("it makes nothing now: the log says why")
    return compare_rebuilt(store, snapshot, files)


def _definition(session: Session, asset: str) -> dg.AssetsDefinition:
    import dagster as dg

    try:
        return session.definitions.resolve_assets_def(asset)
    except dg.DagsterInvariantViolationError as error:
        raise CommandError(f"no asset is called {asset!r}") from error


def _made_again(
    session: Session, definition: dg.AssetsDefinition, store: SnapshotStore, snapshot: Snapshot
) -> Mapping[str, bytes] | None:
    """Call the asset's own function on a store of then; None where it makes nothing."""
    import dagster as dg

    from mangaassist_assets.core.rebuilding import RebuildStep
    from resources.store import StoreOfThen, declared_reads

    reads = declared_reads(next(iter(definition.specs)).metadata)
    step = RebuildStep(store, reads, snapshot)
    arguments: dict[str, Any] = {}
    body: Any = definition.op.compute_fn
    for name, parameter in inspect.signature(body.decorated_fn).parameters.items():
        if name == "config":
            arguments[name] = parameter.annotation(**snapshot.origin.settings)
        elif name != "context":
            arguments[name] = getattr(session.resources, name)
    now = session.resources.store
    arguments["store"] = StoreOfThen(root=now.root, cache_folder=now.cache_folder).of(step)
    with dg.build_asset_context(partition_key=snapshot.partition) as context:
        # Called through Dagster, the store would be replaced by a copy of its configuration.
        result = body.decorated_fn(context, **arguments)
        # A generator makes what it yields only when it is asked.
        if inspect.isgenerator(result):
            list(result)
    return step.kept


def render_rebuild(report: Mapping[str, Any]) -> None:
    """Print how each file compares, and why the output is not identical."""
    terminal = console()
    where = f"{report['asset']} {report['partition'] or ''}".strip()
    if files := report["files"].items():
        terminal.print(new_table(f"{where} {report['digest'][:_DIGITS]}, made again", ("file", "is"), files))
    terminal.print(f"{report['outcome']}{': ' + report['reason'] if report['reason'] else ''}", markup=False)
