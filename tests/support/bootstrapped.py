"""A home of the tiny store after `mangaassist bootstrap`: made once a test run, copied for each use."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from mangaassist_assets.local.home import Home
from mangaassist_assets.local.supervisor import Supervisor
from tests.support.command_line import Ran, run_here
from tests.support.tiny_store import BUNDLE, TinyStore, write_tiny_store


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrapped:
    """The home, on which nothing runs, the store it was made of, and how commands ended before and at its bootstrap."""

    home: Path
    store: TinyStore
    ran: dict[str, Ran]


def bootstrapped_home(factory: pytest.TempPathFactory, use: str) -> Bootstrapped:
    """Return a home of one's own; `use` are three letters of its folder's name."""
    folder = factory.getbasetemp()
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    template, own = shared / "tiny-store-all", shared / f"tiny-store-{use}"
    with FileLock(shared / "tiny-store.lock"):
        if not (template / "ran.json").exists():
            _make(template)
    shutil.copytree(template, own, ignore=shutil.ignore_patterns("run"))
    # Databases hold the home's path as well. Another one of the same length can take its place.
    before, after = bytes(template), bytes(own)
    assert len(before) == len(after)
    for path in own.rglob("*"):
        if path.is_file() and before in (content := path.read_bytes()):
            path.write_bytes(content.replace(before, after))
    ran = {name: Ran(**ended) for name, ended in json.loads((own / "ran.json").read_bytes()).items()}
    return Bootstrapped(home=own / "home", store=write_tiny_store(own / "handed-in"), ran=ran)


def _make(folder: Path) -> None:
    store, home = write_tiny_store(folder / "handed-in"), folder / "home"
    bundle = ("--release-bundle", BUNDLE)
    commands: dict[str, tuple[str | Path, ...]] = {
        "loop before bootstrap": ("loop", *bundle),
        "simulate before bootstrap": ("simulate", "--utterances", store.traffic, *bundle),
        "evaluate before bootstrap": ("evaluate", "intent", "--data", store.unseen),
        "bootstrap": ("bootstrap", "--training", store.training, "--knowledge", store.knowledge, "--json"),
    }
    with Supervisor(Home.open(home)):
        ran = {name: run_here(home, *arguments) for name, arguments in commands.items()}
    assert ran["bootstrap"].code == 0, ran["bootstrap"].stderr
    (folder / "ran.json").write_text(json.dumps({name: asdict(ended) for name, ended in ran.items()}))
