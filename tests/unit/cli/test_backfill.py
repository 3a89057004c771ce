"""Which bundles a backfill makes, in which order, and what it does when it is called again."""

from __future__ import annotations

from datetime import datetime
from types import SimpleNamespace

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.cli.commands import backfill as command
from mangaassist_assets.cli.commands.backfill import BACKFILL_TAG, JOB, choose_bundles, run_backfill
from mangaassist_assets.cli.session import CommandError, RunOutcome
from mangaassist_assets.partitions import release_bundles

DAY = 86_400_000
# The names are in another order than the starts.
KNOWN = {"c": 1 * DAY, "a": 2 * DAY, "d": 3 * DAY, "b": 4 * DAY}


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ({}, ["c", "a", "d", "b"]),
        ({"first": "a"}, ["a", "d", "b"]),
        ({"last": "d"}, ["c", "a", "d"]),
        ({"first": "a", "last": "d"}, ["a", "d"]),
        ({"bundles": ("b", "c")}, ["c", "b"]),
        ({"since": datetime(1970, 1, 3), "until": datetime(1970, 1, 5)}, ["a", "d"]),  # noqa: DTZ001 - click gives such
        ({"bundles": ("b", "c"), "first": "a"}, ["b"]),
    ],
)
def test_bundles_are_chosen_in_the_order_in_which_they_began(asked, chosen):
    assert choose_bundles(KNOWN, **asked) == chosen


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"bundles": ("zz, ../x",)}, r"bundle 'zz, \.\./x' has no traces; the newest that have are a, d, b"),
        ({"first": "nope"}, "bundle 'nope' has no traces"),
        ({"first": "b", "last": "c"}, "b began after c: give the range the other way round"),
        ({"since": datetime(1980, 1, 1)}, "no bundle fits; 4 have traces"),  # noqa: DTZ001 - click gives such
    ],
)
def test_a_choice_of_nothing_says_why(asked, said):
    with pytest.raises(CommandError, match=said):
        choose_bundles(KNOWN, **asked)


@given(st.dictionaries(st.text(min_size=1, max_size=4), st.integers(0, 10**12), min_size=1, max_size=8), st.data())
def test_a_range_is_what_lies_between_its_ends(starts, data):
    known = dict(sorted(starts.items(), key=lambda item: (item[1], item[0])))
    order = list(known)
    low = data.draw(st.integers(0, len(order) - 1))
    high = data.draw(st.integers(low, len(order) - 1))
    assert choose_bundles(known, first=order[low], last=order[high]) == order[low : high + 1]


class Runs:
    """A session whose runs end as they are told to; the instance is a real one."""

    def __init__(self, instance) -> None:
        self.instance = instance
        self.broken: dict[str, Exception | str] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.lines: list[str] = []
        self.resources = SimpleNamespace(store=SimpleNamespace(snapshots=lambda: None))

    def progress(self, line):
        self.lines.append(line)

    def register_bundle(self, bundle):
        self.instance.add_dynamic_partitions(release_bundles.name, [bundle])

    def run_job(self, name, *, partition=None, tags=None, **_):
        self.asked.append((name, partition))
        wrong = self.broken.get(partition)
        if isinstance(wrong, BaseException):
            raise wrong
        status = dg.DagsterRunStatus.FAILURE if wrong else dg.DagsterRunStatus.SUCCESS
        self.instance.create_run_for_job(
            empty.to_job(name), status=status, tags={**(tags or {}), "dagster/partition": partition or ""}
        )
        errors = (wrong,) if wrong else ()
        return RunOutcome(run_id="r", job=name, succeeded=not wrong, failed_checks=(), failed_assets=(), errors=errors)


@dg.graph
def empty():
    pass


@pytest.fixture
def session(monkeypatch):
    monkeypatch.setattr("mangaassist_assets.reporting.bundle_comparison.compare_bundles", lambda *_, **__: [])
    with dg.DagsterInstance.ephemeral() as instance:
        yield Runs(instance)


def made_of(session):
    return [partition for name, partition in session.asked if name == JOB]


def test_all_are_made_in_order_and_compared_once(session):
    report = run_backfill(session, ["c", "a"])
    assert (report["made"], report["failed"], made_of(session)) == (["c", "a"], {}, ["c", "a"])
    assert session.asked[-1] == ("comparison", None)
    assert session.lines == ["bundle 1 of 2: c", "bundle 2 of 2: a"]


def test_what_is_finished_is_not_made_again_unless_asked(session):
    first = run_backfill(session, ["c", "a"])
    again = run_backfill(session, ["c", "a"])
    assert (again["backfill"], again["made"], again["made_before"]) == (first["backfill"], [], ["c", "a"])
    assert run_backfill(session, ["c", "a"], again=True)["made"] == ["c", "a"]
    # Another choice or depth is another backfill.
    assert run_backfill(session, ["c"])["made"] == ["c"]
    assert run_backfill(session, ["c", "a"], depth="mining")["made"] == ["c", "a"]


def test_one_that_was_killed_goes_on_with_what_is_missing(session):
    session.broken["d"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run_backfill(session, ["c", "a", "d", "b"])
    session.broken.clear()
    report = run_backfill(session, ["c", "a", "d", "b"])
    assert (report["made_before"], report["made"]) == (["c", "a"], ["d", "b"])
    assert made_of(session) == ["c", "a", "d", "d", "b"]


def test_a_bundle_that_fails_stops_no_other_and_is_tried_again(session):
    session.broken["a"] = "the traces are gone"
    report = run_backfill(session, ["c", "a", "d"])
    assert (report["made"], report["failed"]) == (["c", "d"], {"a": ["the traces are gone"]})
    session.broken.clear()
    assert run_backfill(session, ["c", "a", "d"])["made"] == ["a"]


def test_a_dry_run_makes_nothing(session):
    report = run_backfill(session, ["c", "a"], dry_run=True)
    assert (report["wanted"], report["made"], session.asked) == (["c", "a"], [], [])


def test_the_runs_carry_the_name_of_their_backfill(session):
    report = run_backfill(session, ["c"])
    (run,) = session.instance.get_runs(dg.RunsFilter(job_name=JOB))
    assert run.tags[BACKFILL_TAG] == report["backfill"]


def test_each_depth_ends_where_it_says():
    from mangaassist_assets.definitions import build_definitions

    session = SimpleNamespace(definitions=build_definitions("local"))
    mining, datasets = (set(command._assets_of(session, depth)) for depth in ("mining", "datasets"))
    assert mining < datasets
    assert {"intent_dataset", "reranker_dataset"} <= datasets
    assert not datasets & {
        "intent_classifier",
        "reranker",
        "intent_evaluation",
        "reranker_evaluation",
        "intent_champion",
    }
    assert command._assets_of(session, "training") is None
