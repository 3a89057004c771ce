"""The DuckDB warehouse: one bundle's rows all at once, one process at a time."""

from __future__ import annotations

import subprocess
import sys
import threading

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.core.bundles import InvalidBundleError
from mangaassist_assets.reporting.warehouse.queries import LOADED
from mangaassist_assets.reporting.warehouse.types import WarehouseBusyError, WarehouseError
from resources.warehouse.warehouse import DuckDbWarehouseResource, dollar_parameters
from tests.support.reports import BUNDLE, EARLIER, bundle_rows, chat_turn, event

TURNS = [chat_turn(number) for number in range(5)]
COUNT = "SELECT COUNT(*) AS n FROM chat_turns WHERE release_bundle = :release_bundle"

HOLD = """
import sys, duckdb
from filelock import FileLock
with FileLock(sys.argv[1] + ".lock"), duckdb.connect(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def warehouse(tmp_path):
    return DuckDbWarehouseResource(path=str(tmp_path), wait_seconds=30).open()


def count(warehouse, bundle=BUNDLE):
    return warehouse.query(COUNT, {"release_bundle": bundle}).item()


def test_a_load_replaces_its_bundle_and_no_other(warehouse):
    earlier = [chat_turn(number, release_bundle=EARLIER) for number in range(3)]
    assert warehouse.load(bundle_rows(earlier, release_bundle=EARLIER), release_bundle=EARLIER)
    assert warehouse.load(bundle_rows(TURNS), release_bundle=BUNDLE)
    assert warehouse.load(bundle_rows(TURNS[:2]), release_bundle=BUNDLE)
    assert (count(warehouse, EARLIER), count(warehouse)) == (3, 2)


def test_the_same_rows_again_write_nothing(warehouse):
    rows = bundle_rows(TURNS, [event(1, "thumbs_up")])
    assert warehouse.load(rows, release_bundle=BUNDLE)
    assert not warehouse.load(rows, release_bundle=BUNDLE)
    assert warehouse.query(LOADED, {"release_bundle": BUNDLE})["load_number"].to_list() == [1]


def test_one_more_thumb_is_a_new_load(warehouse):
    warehouse.load(bundle_rows(TURNS), release_bundle=BUNDLE)
    assert warehouse.load(bundle_rows(TURNS, [event(1, "thumbs_up")]), release_bundle=BUNDLE)
    assert warehouse.query("SELECT feedback FROM feedback_events").rows() == [("thumbs_up",)]


def test_a_load_that_fails_half_way_changes_nothing(warehouse):
    warehouse.load(bundle_rows(TURNS), release_bundle=BUNDLE)
    # The last table refuses what is inserted, after the others were deleted and filled.
    warehouse.query("ALTER TABLE feedback_events ALTER COLUMN timestamp_ms TYPE SMALLINT")
    with pytest.raises(WarehouseError, match="refused a statement"):
        warehouse.load(bundle_rows(TURNS[:2], [event(1, "thumbs_up")]), release_bundle=BUNDLE)
    assert count(warehouse) == 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.pop("turn_stages"), "needs the tables"),
        (
            lambda rows: rows.update(chat_turns=rows["chat_turns"].drop("intent")),
            "rows for chat_turns have the columns",
        ),
        (
            lambda rows: rows.update(chat_turns=rows["chat_turns"].with_columns(release_bundle=pl.lit(EARLIER))),
            "5 rows",
        ),
    ],
)
def test_rows_that_do_not_belong_are_refused_before_anything_is_written(warehouse, change, said):
    rows = bundle_rows(TURNS)
    change(rows)
    with pytest.raises(WarehouseError, match=said):
        warehouse.load(rows, release_bundle=BUNDLE)


def test_a_bundle_key_that_is_none_is_refused(warehouse):
    with pytest.raises(InvalidBundleError):
        warehouse.load(bundle_rows([]), release_bundle="' OR 1 = 1 --")


def test_an_erased_user_is_gone_from_every_table_and_from_the_file(warehouse, tmp_path):
    key, other = "ab" * 16, "cd" * 16
    turns = [chat_turn(number, user_key=key if number < 2 else other) for number in range(5)]
    rows = bundle_rows(turns, [event(1, "thumbs_up", user_key=key), event(4, "thumbs_up", user_key=other)])
    warehouse.load(rows, release_bundle=BUNDLE)
    assert key.encode() in (tmp_path / "warehouse.duckdb").read_bytes()
    assert warehouse.erase("user_key", [key]) == 3
    assert warehouse.erase("trace_id", ["tr-0", "tr-1", "it's \\ nobody's"]) == 2 * 3 + 2  # stages and model calls
    left = (tmp_path / "warehouse.duckdb").read_bytes()
    assert key.encode() not in left
    assert other.encode() in left
    assert count(warehouse) == 3
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_bundle_that_lost_rows_is_loaded_anew(warehouse):
    rows = bundle_rows(TURNS)
    warehouse.load(rows, release_bundle=BUNDLE)
    assert warehouse.erase("trace_id", ["tr-1"]) == 1 + 3 + 1
    assert warehouse.load(rows, release_bundle=BUNDLE)
    assert warehouse.query(LOADED, {"release_bundle": BUNDLE})["load_number"].to_list() == [2]


def test_nobody_to_erase_changes_nothing(warehouse):
    warehouse.load(bundle_rows(TURNS), release_bundle=BUNDLE)
    assert warehouse.erase("user_key", []) == warehouse.erase("user_key", ["ef" * 16]) == 0
    assert not warehouse.load(bundle_rows(TURNS), release_bundle=BUNDLE)
    with pytest.raises(ValueError, match="no table of the warehouse has the column 'message'"):
        warehouse.erase("message", ["x"])


def test_another_process_is_waited_for_and_then_named(tmp_path):
    path = tmp_path / "warehouse.duckdb"
    patient = DuckDbWarehouseResource(path=str(path), wait_seconds=60).open()
    impatient = DuckDbWarehouseResource(path=str(path), wait_seconds=0.1).open()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(WarehouseBusyError, match=r"for 0\.1 s: end it, or wait"):
            impatient.query("SELECT 1 AS one")
        answers = []
        waiting = threading.Thread(target=lambda: answers.append(patient.query("SELECT 1 AS one").item()))
        waiting.start()
        holder.stdin.close()
        waiting.join(timeout=60)
        assert answers == [1]
    finally:
        holder.stdin.close()
        holder.wait(timeout=60)
        holder.stdout.close()


def test_a_damaged_file_says_what_to_do(tmp_path):
    path = tmp_path / "warehouse.duckdb"
    path.write_bytes(b"no database" * 1_000)
    with pytest.raises(WarehouseError, match="damaged file may be deleted"):
        DuckDbWarehouseResource(path=str(path)).open().query("SELECT 1 AS one")


def test_a_parameter_is_a_value_and_never_sql(warehouse):
    warehouse.load(bundle_rows(TURNS), release_bundle=BUNDLE)
    assert count(warehouse, "'; DROP TABLE chat_turns; --") == 0
    assert count(warehouse) == 5


def test_only_parameters_are_rewritten():
    assert dollar_parameters("SELECT ':a', \":b\", c::TEXT, :d FROM t WHERE e=:f") == (
        "SELECT ':a', \":b\", c::TEXT, $d FROM t WHERE e=$f"
    )


@given(st.text())
def test_a_quoted_text_stays_as_it_is(text):
    quoted = "'" + text.replace("'", "''") + "'"
    assert dollar_parameters(f"SELECT {quoted}, :x") == f"SELECT {quoted}, $x"
