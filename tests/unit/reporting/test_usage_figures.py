"""What the usage report shows of itself."""

from __future__ import annotations

import json

import polars as pl

from mangaassist_assets.reporting.stored_reports import REPORT_FILE, report_files
from mangaassist_assets.reporting.usage.figures import STAGES_SHOWN, describe_usage, usage_figures
from mangaassist_assets.reporting.usage.prices import read_prices
from mangaassist_assets.reporting.usage.report import build_usage_report
from mangaassist_assets.tracing.contract.turns import Generation, StageTiming
from tests.support.reports import BUNDLE, chat_turn
from tests.support.turn_frames import turns_frame


def report(turns):
    return build_usage_report(turns_frame(turns), read_prices(), release_bundle=BUNDLE)


def test_figures_say_their_unit_and_tables_are_rounded():
    figures = usage_figures(report([chat_turn(number) for number in range(10)]))
    assert figures["latency_p50_ms"] == 104.5
    assert "p50" not in figures
    assert figures["cost_usd"] == 0.012
    assert (figures["model_calls"], figures["priced_calls"], figures["unpriced_models"]) == (10, 10, "none")
    assert {"latency_p50_ms", "turns", "dimension", "value"} <= set(figures["groups"][0])
    assert figures["groups"][0]["value"] == ""


def test_what_is_not_known_is_left_out_or_named():
    unpriced = report(
        [chat_turn(1, generations=(Generation(model_id="nobody.knows", input_tokens=1, output_tokens=1),))]
    )
    figures = usage_figures(unpriced)
    assert "cost_usd" not in figures
    assert figures["unpriced_models"] == "nobody.knows"
    assert "nobody.knows" in figures["price_notes"]
    assert describe_usage(unpriced).endswith("0.0000 USD; no price for: nobody.knows")


def test_of_many_stages_the_most_called_are_shown_and_the_others_counted():
    stages = tuple(StageTiming(name=f"x{number}", duration_ms=1.0) for number in range(40))
    figures = usage_figures(report([chat_turn(1, stages=stages)]))
    assert len(figures["stages"]) == STAGES_SHOWN
    assert figures["stages_not_shown"] == 41 - STAGES_SHOWN


def test_a_report_is_stored_as_json_and_as_its_tables():
    found = report([chat_turn(1)])
    files = report_files(found.to_dict(), found.tables())
    assert set(files) == {REPORT_FILE, *(f"{name}.parquet" for name in found.tables())}
    assert json.loads(files[REPORT_FILE])["groups"] == found.groups.to_dicts()
    assert pl.read_parquet(files["groups.parquet"]).equals(found.groups)
