"""The story that several tests read: a tiny store through bootstrap, traffic and the loop, driven once a session."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mangaassist_assets.local.home import Home
from mangaassist_assets.local.supervisor import Supervisor
from tests.support.bootstrapped import bootstrapped_home
from tests.support.command_line import Production, Ran, production, run_apart, run_here
from tests.support.sentiment_platform import sentiment_package, sentiment_platform
from tests.support.tiny_store import BUNDLE, TinyStore

__all__ = ["sentiment_package", "sentiment_platform"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopedStore:
    """A home after one whole turn, with what each command said and what production looked like after it."""

    supervisor: Supervisor
    store: TinyStore
    home: Path
    ran: dict[str, Ran]
    after: dict[str, Production]

    def report(self, command: str) -> dict[str, Any]:
        """Return what a command printed on standard output, all of it, as JSON."""
        report: dict[str, Any] = json.loads(self.ran[command].stdout)
        return report


@pytest.fixture(scope="session")
def looped_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopedStore]:
    """Bootstrap, traffic, the loop without and with deployment, the loop again, by the command line."""
    start = bootstrapped_home(tmp_path_factory, "cli")
    store, home = start.store, start.home
    bundle = ("--release-bundle", BUNDLE)
    traffic = ("simulate", "--utterances", store.traffic, *bundle, "--review-budget", "400", "--feedback-noise", "0")
    steps: dict[str, tuple[str | Path, ...]] = {
        "simulate": (*traffic, "--json"),
        "loop --no-deploy": ("loop", *bundle, "--no-deploy", "--json"),
        "loop": ("loop", *bundle, "--json"),
        "loop again": ("loop", *bundle, "--json"),
    }
    ran = dict(start.ran)
    with Supervisor(Home.open(home)) as supervisor:
        after = {"bootstrap": production(supervisor)}
        for name, arguments in steps.items():
            # The one that trains most in a process of its own: what bypasses Python's standard output counts as well.
            apart = name == "loop --no-deploy"
            ran[name] = run_apart(home, *arguments) if apart else run_here(home, *arguments)
            assert ran[name].code == 0, f"{name} failed:\n{ran[name].stderr}"
            after[name] = production(supervisor)
        yield LoopedStore(supervisor=supervisor, store=store, home=home, ran=ran, after=after)
