"""The warehouse's SQL says the same on DuckDB and on PostgreSQL, and the same as counting by hand."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mangaassist_assets.reporting.satisfaction.report import build_report, read_counts
from mangaassist_assets.reporting.warehouse.queries import (
    OVERALL,
    SATISFACTION_DIMENSIONS,
    STRAY_EVENTS,
    satisfaction_query,
)
from mangaassist_assets.reporting.warehouse.tables import BUNDLE_TABLES, create_statement
from resources.warehouse.warehouse import DuckDbWarehouseResource
from tests.support.reports import BUNDLE, EARLIER, bundle_rows, chat_turn, event

pytestmark = pytest.mark.integration

PARAMETERS = {"release_bundle": BUNDLE}
NAMES = st.sampled_from([None, "p1", "p2", "Ärger", "漫画", "it's", ":release_bundle", "a b"])
THUMBS = st.sampled_from(["thumbs_up", "thumbs_down"])
TURN = st.fixed_dictionaries(
    {
        **dict.fromkeys(SATISFACTION_DIMENSIONS, NAMES),
        "duration_ms": st.integers(0, 100_000),
        "user_feedback": st.none() | THUMBS,
    }
)
EVENT = st.tuples(st.integers(0, 12), THUMBS, st.integers(0, 3))


@pytest.fixture(scope="module")
def postgres(postgres_server):
    """A function that puts rows into an empty PostgreSQL and asks it."""
    import sqlalchemy as sa

    engine = sa.create_engine(postgres_server.create_database())
    with engine.begin() as connection:
        for table in BUNDLE_TABLES:
            connection.execute(sa.text(create_statement(table)))

    def ask(loads, sql):
        with engine.begin() as connection:
            for table in BUNDLE_TABLES:
                connection.execute(sa.text(f"TRUNCATE {table.name}"))
                for rows in loads:
                    if rows[table.name].height:
                        names = [column.name for column in table.columns]
                        statement = sa.table(table.name, *map(sa.column, names)).insert()
                        connection.execute(statement, rows[table.name].to_dicts())
            return [tuple(row) for row in connection.execute(sa.text(sql), PARAMETERS)]

    yield ask
    engine.dispose()


@pytest.fixture(scope="module")
def duckdb(tmp_path_factory):
    return DuckDbWarehouseResource(path=str(tmp_path_factory.mktemp("warehouse"))).open()


def ordered(rows):
    return sorted(rows, key=lambda row: (row[0], row[1] is None, row[1] or ""))


def expected_ratings(turns, events):
    """Return the rating of each turn as the design says it: the newest event by (time, event id), else the trace's."""
    newest = {}
    for one in sorted(events, key=lambda one: (one["timestamp"], one["event_id"])):
        newest[one["trace_id"]] = one["feedback"]
    return [newest.get(turn.trace_id, turn.user_feedback) for turn in turns]


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    # What explains a failure costs minutes with two databases behind it.
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
@given(st.lists(TURN, max_size=9), st.lists(EVENT, max_size=12))
def test_both_databases_count_as_one_counts_by_hand(postgres, duckdb, fields, thumbs):
    turns = [chat_turn(number, **one) for number, one in enumerate(fields)]
    events = [event(trace, feedback, second=second) for trace, feedback, second in thumbs]
    # Distinct by event id, as the feedback snapshot is.
    events = list({one["event_id"]: one for one in events}.values())
    loads = [
        bundle_rows(turns, events),
        bundle_rows(
            [chat_turn(1, release_bundle=EARLIER)],
            [event(1, "thumbs_up", release_bundle=EARLIER)],
            release_bundle=EARLIER,
        ),
    ]
    for rows, bundle in zip(loads, (BUNDLE, EARLIER), strict=True):
        duckdb.load(rows, release_bundle=bundle)

    counted = duckdb.query(satisfaction_query(), PARAMETERS)
    theirs = postgres(loads, satisfaction_query())
    assert [row[:5] for row in ordered(counted.rows())] == [row[:5] for row in ordered(theirs)]
    for ours, other in zip(ordered(counted.rows()), ordered(theirs), strict=True):
        for mine, their in zip(ours[5:], other[5:], strict=True):
            assert (mine is None and their is None) or math.isclose(mine, their, rel_tol=1e-12)

    ratings = expected_ratings(turns, events)
    for dimension in SATISFACTION_DIMENSIONS:
        by_hand = Counter((getattr(turn, dimension), rating) for turn, rating in zip(turns, ratings, strict=True))
        for row in counted.filter(counted["dimension"] == dimension).iter_rows(named=True):
            assert row["thumbs_up"] == by_hand[row["value"], "thumbs_up"]
            assert row["thumbs_down"] == by_hand[row["value"], "thumbs_down"]

    report = build_report(read_counts(counted), release_bundle=BUNDLE)
    for dimension in (OVERALL, *SATISFACTION_DIMENSIONS):
        assert sum(group.turns for group in report.of(dimension)) == len(turns)
        assert sum(group.rated for group in report.of(dimension)) == sum(one is not None for one in ratings)

    known = {turn.trace_id for turn in turns}
    stray = (len(events), sum(one["trace_id"] not in known for one in events))
    assert duckdb.query(STRAY_EVENTS, PARAMETERS).rows() == postgres(loads, STRAY_EVENTS) == [stray]
