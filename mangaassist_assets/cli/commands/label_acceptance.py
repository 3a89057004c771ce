"""`mangaassist labels intents`, `accept-intent`, `accept-reviewer`: what waits for a person's word, and that word."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from mangaassist_assets.cli.options import Command, json_option
from mangaassist_assets.cli.output import console, emit, new_table
from mangaassist_assets.cli.session import open_store

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.labelling.people.acceptances import AcceptanceKind
    from mangaassist_assets.labelling.people.policy import LabellingPolicy

_BY = click.option("--by", required=True, help="A name or a role that answers for it.")
_REASON = click.option(
    "--reason", required=True, help="Why, in 10 to 500 characters; kept for ever, personal data replaced."
)


@click.command("intents", cls=Command)
@click.option("--release-bundle", help="Only those of one bundle.")
@json_option
@click.pass_obj
def intents(home: str | None, release_bundle: str | None, *, as_json: bool) -> None:
    """New names that wait to be accepted, reviewers whose answers are held back, and what was accepted."""
    emit(list_waiting(open_store(home), release_bundle=release_bundle), render_waiting, as_json=as_json)


@click.command("accept-intent", cls=Command)
@click.argument("name")
@_BY
@_REASON
@json_option
@click.pass_obj
def accept_intent(home: str | None, name: str, *, by: str, reason: str, as_json: bool) -> None:
    """Let NAME be an intent: the reviews that wait for it count when their bundle's labels are gathered next."""
    emit(run_accept(open_store(home), "intent", name, by=by, reason=reason), render_accepted, as_json=as_json)


@click.command("accept-reviewer", cls=Command)
@click.argument("name")
@_BY
@_REASON
@json_option
@click.pass_obj
def accept_reviewer(home: str | None, name: str, *, by: str, reason: str, as_json: bool) -> None:
    """Vouch for a reviewer whose answers are held back: they count when labels are gathered next."""
    emit(run_accept(open_store(home), "reviewer", name, by=by, reason=reason), render_accepted, as_json=as_json)


def labelling_policy(store: SnapshotStore) -> LabellingPolicy:
    """Return who may label and which intents are declared, as assets see it where nothing overrides the resource.

    Raises:
        CatalogueError: the file of intents cannot be used.
    """
    from mangaassist_assets.labelling.people.acceptances import read_acceptances
    from resources.settings.labelling import LabellingResource

    return LabellingResource().policy(store.root / "inputs", read_acceptances(store))


def list_waiting(store: SnapshotStore, *, release_bundle: str | None = None) -> dict[str, Any]:
    """Return what the latest labels of each bundle say waits, and everything that was accepted."""
    from mangaassist_assets.labelling.people.acceptances import read_acceptances

    reports = list(_reports(store, release_bundle))
    policy = labelling_policy(store)
    return {
        "reviewers": policy.describe_reviewers(),
        "catalogue": policy.describe_catalogue(),
        "waiting": [
            {"release_bundle": bundle, **one} for bundle, report in reports for one in report.get("waiting", ())
        ],
        "held_back": [
            {"release_bundle": bundle, "reviewer": one["person"], "why": one["held_back"], "answers": one["answers"]}
            for bundle, report in reports
            for one in report.get("people", ())
            if one["held_back"]
        ],
        "accepted": [asdict(one) for one in read_acceptances(store)],
    }


def run_accept(store: SnapshotStore, kind: AcceptanceKind, name: str, *, by: str, reason: str) -> dict[str, Any]:
    """Keep a person's word on a name, and return the record with the bundles whose labels it concerns.

    Raises:
        AcceptanceRefusedError: it is refused; says why.
    """
    from mangaassist_assets.labelling.intent_names import spelling_key
    from mangaassist_assets.labelling.people.acceptances import accept
    from mangaassist_assets.labelling.people.policy import person_key
    from mangaassist_assets.retrieval.stored_knowledge import read_vocabulary

    accepted = accept(
        store,
        kind,
        name,
        by=by,
        reason=reason,
        now_ms=round(time.time() * 1000),
        vocabulary=read_vocabulary(store) if store.find("knowledge_chunks") else None,
    )
    waiting = list_waiting(store)
    if kind == "intent":
        key = spelling_key(accepted.name)
        concerned = {one["release_bundle"] for one in waiting["waiting"] if spelling_key(one["name"]) == key}
    else:
        key = person_key(accepted.name)
        concerned = {one["release_bundle"] for one in waiting["held_back"] if person_key(one["reviewer"]) == key}
    return {**asdict(accepted), "bundles": sorted(concerned)}


def _reports(store: SnapshotStore, release_bundle: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    from mangaassist_assets.labelling.stored_labels import REPORT_FILE

    bundles = store.partitions("intent_labels") if release_bundle is None else [release_bundle]
    for bundle in bundles:
        stored = store.latest("intent_labels", partition=bundle)
        yield bundle, store.read_json(stored, REPORT_FILE)


def render_waiting(report: dict[str, Any]) -> None:
    """Print who may label, what waits and who is held back, and what was accepted."""
    terminal = console()
    terminal.print(f"Reviewers: {report['reviewers']}", markup=False)
    terminal.print(f"Intents: {report['catalogue']}", markup=False)
    waiting = (
        (one["release_bundle"], one["name"], len(one["trace_ids"]), one["shoppers"], ", ".join(one["by"]))
        for one in report["waiting"]
    )
    terminal.print(new_table("Waiting intents", ("bundle", "intent", "answers", "shoppers", "by"), waiting))
    if report["held_back"]:
        held = ([one[name] for name in ("release_bundle", "reviewer", "answers", "why")] for one in report["held_back"])
        terminal.print(new_table("Held back", ("bundle", "reviewer", "answers", "why"), held))
    if report["accepted"]:
        names = ("kind", "name", "by", "decided_at", "reason")
        accepted = ([one[name] for name in names] for one in report["accepted"])
        terminal.print(new_table("Accepted", ("what", "name", "by", "when", "why"), accepted))


def render_accepted(report: dict[str, Any]) -> None:
    """Print what was accepted and what to do next."""
    terminal = console()
    terminal.print(f"{report['kind']} {report['name']} is accepted, by {report['by']}", markup=False)
    again = ", ".join(report["bundles"])
    terminal.print(f"materialize intent_labels again for {again}" if again else "no answer waits for it", markup=False)
