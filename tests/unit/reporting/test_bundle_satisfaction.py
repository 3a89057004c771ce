"""The satisfaction report of a bundle out of its snapshots and a warehouse: loaded, compared, shown, linked."""

from __future__ import annotations

import polars as pl
import pytest
from upath import UPath

from mangaassist_assets.core.bundles import TURNS_CARD_FILE
from mangaassist_assets.core.codecs import SnapshotSchemaError, to_parquet
from mangaassist_assets.core.snapshots import SnapshotStore, canonical_json
from mangaassist_assets.reporting.satisfaction.bundle_report import report_links, report_satisfaction
from mangaassist_assets.reporting.warehouse.loading import load_bundle
from mangaassist_assets.tracing.feedback.ingestion import EVENTS_FILE
from mangaassist_assets.tracing.ingestion.stored_turns import TURNS_FILE
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


def test_a_bundle_is_loaded_once_and_known_as_before(store, database):
    loaded = load_bundle(database, store, BUNDLE)
    assert (loaded.turns, loaded.events, loaded.changed) == (100, 50, True)
    assert str(load_bundle(database, store, BUNDLE)) == (
        f"{BUNDLE} in the warehouse: 100 turns, 50 feedback events, as before"
    )


def test_a_snapshot_without_events_says_what_to_do(store, database):
    store.write("feedback_events", {EVENTS_FILE: to_parquet(pl.DataFrame({"id": [1]}))}, partition=BUNDLE)
    with pytest.raises(SnapshotSchemaError, match=r"holds no feedback events, .*materialize feedback_events again"):
        load_bundle(database, store, BUNDLE)


def test_a_bundle_is_compared_with_the_one_before(store, database):
    found = report_satisfaction(database, store, BUNDLE)
    assert [one.release_bundle for one in found.loaded] == [BUNDLE, EARLIER]
    figures = found.figures()
    assert (figures["turns"], figures["rated"], figures["satisfaction"]) == (100, 50, 0.8)
    assert (figures["compared_with"], figures["feedback_events"]) == (EARLIER, 50)
    assert str(figures["moved"]).startswith("overall (not stated) +0.600")
    assert figures["groups"][0]["difference"] == 0.6
    assert str(found).startswith(f"40 of 50 rated turns are thumbs up, 100 turns; compared with {EARLIER}: ")


def test_the_first_bundle_is_compared_with_none(store, database):
    found = report_satisfaction(database, store, EARLIER)
    assert len(found.loaded) == 1
    assert (found.figures()["compared_with"], found.figures()["moved"]) == ("no earlier bundle", "nothing")


def test_without_ratings_there_is_no_share(store, database):
    store.write("feedback_events", stored_events([]), partition=EARLIER)
    figures = report_satisfaction(database, store, EARLIER).figures()
    assert figures["rated"] == 0
    assert "satisfaction" not in figures


def test_links_lead_to_the_traces_of_each_prompt_and_to_the_intent_model_and_nowhere_else(store, database):
    report = report_satisfaction(database, store, BUNDLE).report
    links = report_links(report, traces_url="https://m.invalid/t?x=1", intent_model_url="https://m.invalid/v{}".format)
    assert links.splitlines() == [
        f"- [all traces of {BUNDLE}](https://m.invalid/t?x=1)",
        r"- prompt p2: [50 traces](https://m.invalid/t?x=1&tag=prompt_version%3Dp2)",
        r"- prompt p\[1\]: [50 traces](https://m.invalid/t?x=1&tag=prompt_version%3Dp%255B1%255D)",
        "- intent model: [version 3](https://m.invalid/v3), 100 turns",
    ]
