"""The satisfaction report of a bundle out of its snapshots and a warehouse: loaded, compared, shown, linked."""

from __future__ import annotations

import pytest
from upath import UPath

from mangaassist_assets.core.bundles import TURNS_CARD_FILE
from mangaassist_assets.core.codecs import to_parquet
from mangaassist_assets.core.snapshots import SnapshotStore, canonical_json
from mangaassist_assets.reporting.satisfaction.bundle_report import report_links, report_satisfaction
from mangaassist_assets.reporting.warehouse.loading import WAREHOUSE_ASSET, load_bundle
from mangaassist_assets.reporting.warehouse.types import WarehouseError
from mangaassist_assets.tracing.feedback.ingestion import read_feedback
from mangaassist_assets.tracing.ingestion.stored_turns import TURNS_FILE, read_turn_frame
from resources.warehouse.warehouse import DuckDbWarehouseResource
from tests.support.reports import BUNDLE, EARLIER, START_MS, chat_turn, event, stored_events
from tests.support.turn_frames import turns_frame


@pytest.fixture
def store(tmp_path):
    store = SnapshotStore(UPath(tmp_path / "store"))
    for bundle, start, good in ((EARLIER, START_MS - 1_000_000, 10), (BUNDLE, START_MS, 40)):
        turns = [
            chat_turn(n, release_bundle=bundle, timestamp_ms=start + n, prompt_version="p[1]" if n % 2 else "p2")
            for n in range(100)
        ]
        thumbs = [event(n, "thumbs_up" if n < good else "thumbs_down", release_bundle=bundle) for n in range(50)]
        card = canonical_json({"first_timestamp_ms": start})
        turn_files = {TURNS_FILE: to_parquet(turns_frame(turns)), TURNS_CARD_FILE: card}
        store.write("tagged_traces", turn_files, partition=bundle)
        store.write("feedback_events", stored_events(thumbs), partition=bundle)
    return store


@pytest.fixture
def database(tmp_path):
    return DuckDbWarehouseResource(path=str(tmp_path / "warehouse")).open()


def load(database, store, *bundles):
    """Load bundles, and keep the records of it, as `feedback_warehouse` does."""
    for bundle in bundles:
        loaded = load_bundle(
            database, read_turn_frame(store, bundle), read_feedback(store, bundle), release_bundle=bundle
        )
        store.write(WAREHOUSE_ASSET, loaded.load.files(), partition=bundle)
    return loaded


def test_a_bundle_is_loaded_once_and_known_as_before(store, database):
    loaded = load(database, store, BUNDLE)
    assert (loaded.load.rows["chat_turns"], loaded.load.rows["feedback_events"]) == (100, 50)
    assert (loaded.number, loaded.changed) == (1, True)
    again = load(database, store, BUNDLE)
    assert (again.load, again.number, again.changed) == (loaded.load, 1, False)
    assert str(again).endswith(", as before")


@pytest.mark.parametrize("happened", ["loaded by another", "lost"])
def test_a_report_counts_only_what_its_record_names(store, database, happened):
    load(database, store, EARLIER, BUNDLE)
    if happened == "lost":
        database.erase("release_bundle", [BUNDLE])
    else:
        store.write("feedback_events", stored_events([]), partition=BUNDLE)
        feedback = read_feedback(store, BUNDLE)
        load_bundle(database, read_turn_frame(store, BUNDLE), feedback, release_bundle=BUNDLE)
    with pytest.raises(WarehouseError, match=f"materialize feedback_warehouse of {BUNDLE} again"):
        report_satisfaction(database, store, BUNDLE)


def test_a_bundle_is_compared_with_the_one_before(store, database):
    load(database, store, EARLIER, BUNDLE)
    found = report_satisfaction(database, store, BUNDLE)
    figures = found.figures()
    assert (figures["turns"], figures["rated"], figures["satisfaction"]) == (100, 50, 0.8)
    assert (figures["compared_with"], figures["feedback_events"]) == (EARLIER, 50)
    assert str(figures["moved"]).startswith("overall (not stated) +0.600")
    assert figures["groups"][0]["difference"] == 0.6
    assert str(found).startswith(f"40 of 50 rated turns are thumbs up, 100 turns; compared with {EARLIER}: ")


def test_the_first_bundle_is_compared_with_none(store, database):
    load(database, store, EARLIER, BUNDLE)
    found = report_satisfaction(database, store, EARLIER)
    assert (found.figures()["compared_with"], found.figures()["moved"]) == ("no earlier bundle", "nothing")


def test_without_ratings_there_is_no_share(store, database):
    store.write("feedback_events", stored_events([]), partition=EARLIER)
    load(database, store, EARLIER)
    figures = report_satisfaction(database, store, EARLIER).figures()
    assert figures["rated"] == 0
    assert "satisfaction" not in figures


def test_links_lead_to_the_traces_of_each_prompt_and_to_the_intent_model_and_nowhere_else(store, database):
    load(database, store, BUNDLE)
    report = report_satisfaction(database, store, BUNDLE).report
    links = report_links(report, traces_url="https://m.invalid/t?x=1", intent_model_url="https://m.invalid/v{}".format)
    assert links.splitlines() == [
        f"- [all traces of {BUNDLE}](https://m.invalid/t?x=1)",
        r"- prompt p2: [50 traces](https://m.invalid/t?x=1&tag=prompt_version%3Dp2)",
        r"- prompt p\[1\]: [50 traces](https://m.invalid/t?x=1&tag=prompt_version%3Dp%255B1%255D)",
        "- intent model: [version 3](https://m.invalid/v3), 100 turns",
    ]
