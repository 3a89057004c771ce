"""`mangaassist triggers` on a home whose servers do not run."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from upath import UPath

from mangaassist_assets.cli.commands.triggers import render_status, status
from mangaassist_assets.local.home import Home
from mangaassist_assets.triggers.ledger import TriggerLedger, ledger_chart, rows_of
from mangaassist_assets.triggers.settings import TriggerConfig
from mangaassist_assets.triggers.state_files import TriggerFiles, silence
from tests.support.command_line import run_here
from tests.support.feedback_triggers import BUNDLE, START_MS, Trigger, thumbs

MINUTE_MS = 60_000


@pytest.fixture
def home(tmp_path) -> Home:
    return Home.open(tmp_path / "home")


@pytest.fixture
def ledger(home) -> TriggerLedger:
    """Four looks of which the last fires, an hour apart."""
    ledger = TriggerLedger(UPath(home.store))
    trigger = Trigger(config=TriggerConfig(expected_share=0.1))
    for number, share in enumerate((0.1, 0.1, 0.1, 0.8)):
        found = trigger.look(thumbs(60, share=share, first=60 * number))
        keys = {one.release_bundle: "feedback-key" for one in found.fired}
        ledger.append(rows_of(found, at_ms=START_MS + number * 60 * MINUTE_MS, run_keys=keys))
    return ledger


def test_a_day_is_replayed_with_what_was_seen_and_why(home, ledger):
    assert ledger.days() == [datetime.fromtimestamp(START_MS / 1000, UTC).date()]
    report = json.loads(run_here(home.root, "triggers", "explain", "--json").stdout)
    assert [one["outcome"] for one in report["evaluations"]] == ["quiet", "quiet", "quiet", "fired"]
    assert report["evaluations"][3]["run_key"] == "feedback-key"
    assert "evidence" in report["evaluations"][0]["sentence"]
    shown = run_here(home.root, "triggers", "explain", "--bundle", BUNDLE, "--day", report["day"])
    assert f"{BUNDLE}: fired 1, quiet 3" in shown.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--day", "yesterday"), "is no day: YYYY-MM-DD"),
        (("--day", "1999-01-01"), "nothing is on record of 1999-01-01"),
        (("--bundle", "no, bundle\x1b[31m" * 50), "nothing of release bundle"),
    ],
)
@pytest.mark.usefixtures("ledger")
def test_what_is_not_on_record_is_said_in_one_line(home, options, said):
    done = run_here(home.root, "triggers", "explain", *options)
    assert done.code == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "\x1b[31m" not in done.stderr


def test_an_empty_ledger_and_a_damaged_line_are_said(home):
    assert "has counted no thumb yet" in run_here(home.root, "triggers", "explain").stderr
    folder = UPath(home.store) / "triggers" / "ledger" / "2026-03-24"
    folder.mkdir(parents=True)
    (folder / "10.jsonl").write_text("{}\n")
    done = run_here(home.root, "triggers", "explain")
    assert "line 1 of" in done.stderr
    assert "10.jsonl is no row of the trigger ledger" in done.stderr


def test_the_chart_has_every_bundle_and_no_row_is_no_error(ledger):
    (day,) = ledger.days()
    assert ledger_chart(ledger.rows(day), title="t").startswith(b"\x89PNG")
    assert ledger_chart([], title="t").startswith(b"\x89PNG")


class Waiting:
    """A stream with so many events behind any position."""

    def __init__(self, count: int) -> None:
        self.count = count

    def read_if_there(self, _cursor, limit):
        return SimpleNamespace(size=min(self.count, limit))


def session(home: Home, waiting: int) -> SimpleNamespace:
    store = SimpleNamespace(path=lambda: UPath(home.store), inputs=lambda: UPath(home.store) / "inputs")
    triggers = SimpleNamespace(feedback=lambda _: TriggerConfig())
    return SimpleNamespace(resources=SimpleNamespace(store=store, triggers=triggers, feedback_stream=Waiting(waiting)))


def test_status_names_the_last_evaluation_and_what_waits(home, capsys):
    assert "never evaluated" in status(session(home, 0))["silent"]
    now_ms = round(datetime.now(UTC).timestamp() * 1000)
    TriggerFiles(UPath(home.store)).sign({"shard": "7"}, reason="3 new events", now_ms=now_ms)
    report = status(session(home, 12))
    assert (report["silent"], report["events_waiting"], report["cursor"]) == (None, 12, {"shard": "7"})
    render_status(report)
    assert "events waiting: 12" in capsys.readouterr().out


def test_a_trigger_is_silent_that_was_not_evaluated_or_whose_cursor_stands_while_events_come(home):
    files = TriggerFiles(UPath(home.store))
    files.sign({"shard": "7"}, reason="r", now_ms=START_MS)
    alive = files.alive()
    late = START_MS + 16 * MINUTE_MS
    assert "evaluated 16 minutes ago" in silence(alive, waiting=0, now_ms=late, silent_minutes=15)
    files.sign({"shard": "7"}, reason="r", now_ms=late)
    alive = files.alive()
    assert silence(alive, waiting=0, now_ms=late, silent_minutes=15) is None
    assert "4 events wait" in silence(alive, waiting=4, now_ms=late, silent_minutes=15)
    files.sign({"shard": "9"}, reason="r", now_ms=late)
    assert silence(files.alive(), waiting=4, now_ms=late, silent_minutes=15) is None
