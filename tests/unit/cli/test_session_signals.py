"""Signals of a process that runs jobs."""

from __future__ import annotations

import signal

import dagster as dg

from mangaassist_assets.cli.session import keeping_sigterm


@dg.asset
def nothing() -> None:
    """An asset without content."""


def test_a_background_job_still_ends_by_sigterm_after_a_run():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        with keeping_sigterm():
            assert dg.materialize([nothing]).success
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN, "Dagster changed: keeping_sigterm may go"
        assert signal.getsignal(signal.SIGTERM) == terminate
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, terminate)
