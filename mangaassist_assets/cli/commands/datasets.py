"""`mangaassist datasets`: which versions there are, what one is made of, and whether it can be made again.

Reads the store alone: no server is started.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from mangaassist_assets.cli.options import Group, json_option
from mangaassist_assets.cli.output import console, emit, new_table
from mangaassist_assets.cli.session import open_store

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.datasets.versions.stored_versions import StoredVersion

_DIGITS = 12


@click.group(cls=Group)
def datasets() -> None:
    """Dataset versions: list them, show what one is made of, make one again."""


@datasets.command("list")
@json_option
@click.pass_obj
def _list(home: str | None, *, as_json: bool) -> None:
    """Every stored version with its bundle, as-of time and counts."""
    emit(list_datasets(open_store(home)), render_list, as_json=as_json)


@datasets.command("show")
@click.argument("version")
@json_option
@click.pass_obj
def _show(home: str | None, version: str, *, as_json: bool) -> None:
    """The data card of a version, named by its first digits; exit code 1 if it is damaged."""
    report = show_dataset(open_store(home), version)
    emit(report, render_show, as_json=as_json)
    if report["problems"]:
        raise SystemExit(1)


@datasets.command("rebuild")
@click.argument("version")
@json_option
@click.pass_obj
def _rebuild(home: str | None, version: str, *, as_json: bool) -> None:
    """Make a version again from its recorded inputs and compare every byte; exit code 1 if it is not the same."""
    report = rebuild_dataset(open_store(home), version)
    emit(report, render_rebuild, as_json=as_json)
    if report["outcome"] != "identical":
        raise SystemExit(1)


def list_datasets(store: SnapshotStore) -> dict[str, Any]:
    """Return every stored version with its counts, by dataset and time, and the folders that are damaged.

    A version whose card was written again, because an input was stored again, is one version of several snapshots.
    """
    from mangaassist_assets.datasets.versions.stored_versions import damaged_snapshots, stored_versions

    versions: dict[tuple[str, str, str], dict[str, Any]] = {}
    for stored in stored_versions(store):
        summary = _summary(stored)
        key = (summary["asset"], summary["release_bundle"], summary["version"])
        known = versions.get(key, {"snapshots": 0})
        shown = summary if stored.latest or not known["snapshots"] else known
        versions[key] = {**shown, "snapshots": known["snapshots"] + 1}
    return {"versions": list(versions.values()), "damaged": list(damaged_snapshots(store))}


def show_dataset(store: SnapshotStore, name: str) -> dict[str, Any]:
    """Return the card of a version as it is stored, and what is wrong with it.

    Raises:
        UnknownVersionError: no version has this name, or several have.
    """
    import json

    from mangaassist_assets.datasets.versions.stored_versions import find_version, problems_of
    from mangaassist_assets.datasets.versions.versions import CARD_FILE

    stored = find_version(store, name)
    return {
        **_summary(stored),
        "problems": list(problems_of(store, stored)),
        "card": json.loads(store.read(stored.snapshot, CARD_FILE)),
        "text": stored.card.to_markdown(),
    }


def rebuild_dataset(store: SnapshotStore, name: str) -> dict[str, Any]:
    """Build a version again from its recorded inputs and compare it byte for byte; nothing is written.

    Raises:
        UnknownVersionError: no version has this name, or several have.
    """
    from mangaassist_assets.datasets.building.rebuilding import rebuild, rebuild_of_purged
    from mangaassist_assets.datasets.versions.stored_versions import UnknownVersionError, find_version
    from mangaassist_assets.models.pipelines import dataset_rebuild
    from mangaassist_assets.tracing.purging import find_purged_version

    try:
        stored = find_version(store, name)
    except UnknownVersionError:
        if (purged := find_purged_version(store, name.strip().lower())) is None:
            raise
        return asdict(rebuild_of_purged(purged))
    return asdict(rebuild(store, stored, dataset_rebuild(stored.asset)))


def render_list(report: Mapping[str, Any]) -> None:
    """Print the versions as a table."""
    rows = (
        (
            one["version"][:_DIGITS],
            one["asset"],
            one["release_bundle"],
            one["as_of"] or "–",
            one["examples"],
            " / ".join(str(one["by_split"].get(side, 0)) for side in ("train", "validation", "test")),
            "latest" if one["latest"] else "",
        )
        for one in report["versions"]
    )
    columns = (
        "version",
        "dataset",
        "release bundle",
        "nothing later than",
        "examples",
        "train / validation / test",
        "",
    )
    table = new_table("Dataset versions", columns, rows, whole="version")
    terminal = console()
    terminal.print(table if report["versions"] else "No dataset version is stored yet: run `mangaassist loop`.")
    for folder in report["damaged"]:
        terminal.print(f"damaged: {folder}", style="red", markup=False)


def render_show(report: Mapping[str, Any]) -> None:
    """Print the data card."""
    from rich.markdown import Markdown

    terminal = console()
    terminal.print(Markdown(report["text"]))
    terminal.print(report["uri"], markup=False)
    for problem in report["problems"]:
        terminal.print(problem, style="red", markup=False)


def render_rebuild(report: Mapping[str, Any]) -> None:
    """Print what came of a rebuild."""
    terminal = console()
    if files := report["files"].items():
        terminal.print(new_table(f"Rebuilt {report['asset']} {report['version'][:_DIGITS]}", ("file", "is"), files))
    terminal.print(f"{report['outcome']}{': ' + report['reason'] if report['reason'] else ''}", markup=False)


def _summary(stored: StoredVersion) -> dict[str, Any]:
    from mangaassist_assets.datasets.versions.data_card import moment

    card = stored.card
    return {
        "asset": stored.asset,
        "release_bundle": stored.snapshot.partition or "",
        "version": stored.version,
        "digest": card.digest,
        "as_of_ms": card.as_of_ms,
        "as_of": None if card.as_of_ms is None else moment(card.as_of_ms),
        "examples": card.examples,
        "rows": card.rows,
        "by_split": dict(card.by_split),
        "latest": stored.latest,
        "uri": stored.snapshot.uri,
    }
