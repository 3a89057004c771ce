"""The report assets on real snapshots: what they load, say, link to and show; and the command that prints them."""

from __future__ import annotations

import base64
import json
import re
from types import SimpleNamespace

import dagster as dg
import polars as pl
import pytest

from mangaassist_assets.assets.reports import feedback_warehouse, satisfaction_report, usage_report
from mangaassist_assets.cli.commands.report import render_report, run_report
from mangaassist_assets.cli.session import CommandError, Session
from mangaassist_assets.core.bundles import TURNS_CARD_FILE
from mangaassist_assets.core.codecs import to_parquet
from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.partitions import release_bundles
from mangaassist_assets.reporting.stored_reports import REPORT_FILE
from mangaassist_assets.tracing.contract.turns import Generation, StageTiming
from mangaassist_assets.tracing.ingestion.stored_turns import QUARANTINE_FILE, TURNS_FILE
from resources.mlflow.tracking import MlflowResource
from resources.settings.prices import PricesResource
from resources.store import StoreResource
from resources.warehouse.warehouse import DuckDbWarehouseResource
from tests.support.reports import BUNDLE, EARLIER, HAIKU, START_MS, chat_turn, event, stored_events
from tests.support.turn_frames import quarantine_frame, turns_frame

pytestmark = pytest.mark.integration

DAY_MS = 86_400_000
SECRET = "nobody.invented@example.invalid"


@pytest.fixture
def platform(stand_ins_environment, tmp_path):  # noqa: ARG001 - the environment of clients
    """Two bundles in a store: 100 turns each, half of them rated; the later one pleases more on prompt p2."""
    store = StoreResource(root=str(tmp_path / "store"), cache_folder=str(tmp_path / "cache"))
    resources = {
        "mlflow": MlflowResource(),
        "prices": PricesResource(),
        "store": store,
        "warehouse": DuckDbWarehouseResource(path=str(tmp_path / "warehouse")),
    }
    snapshots = store.snapshots()

    def mined(bundle, *, start, good, prompt, events=()):
        turns = [
            chat_turn(
                number,
                release_bundle=bundle,
                timestamp_ms=start + number,
                prompt_version=prompt if number % 2 else "p1",
                message=SECRET,
                cache_hit=number % 4 == 0,
                experiment_id="treatment" if number % 2 else "control",
            )
            for number in range(100)
        ]
        thumbs = [event(n, "thumbs_up" if n < good else "thumbs_down", release_bundle=bundle) for n in range(50)]
        card = {"turns": 100, "first_timestamp_ms": start}
        files = {
            TURNS_FILE: to_parquet(turns_frame(turns)),
            QUARANTINE_FILE: to_parquet(quarantine_frame([])),
            TURNS_CARD_FILE: canonical_json(card),
        }
        snapshots.write("tagged_traces", files, partition=bundle)
        snapshots.write("feedback_events", stored_events([*thumbs, *events]), partition=bundle)

    mined(EARLIER, start=START_MS - 14 * DAY_MS, good=10, prompt="p1")
    mined(BUNDLE, start=START_MS, good=40, prompt="p2", events=[event(5_000, "thumbs_up")])
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(release_bundles.name, [BUNDLE, EARLIER])
        definitions = dg.Definitions(
            assets=[feedback_warehouse, satisfaction_report, usage_report],
            jobs=[dg.define_asset_job("reports", selection=dg.AssetSelection.groups("reports"))],
            resources=resources,
        )
        yield SimpleNamespace(
            instance=instance, definitions=definitions, resources=resources, snapshots=snapshots, mined=mined
        )


def materialize(platform, asset, bundle=BUNDLE):
    if asset is satisfaction_report:
        for loaded in (EARLIER, BUNDLE):
            materialize(platform, feedback_warehouse, loaded)
    result = dg.materialize(
        [asset], resources=platform.resources, instance=platform.instance, partition_key=bundle, raise_on_error=False
    )
    assert result.success, [one.step_failure_data.error.message for one in result.get_step_failure_events()]
    (materialization,) = result.asset_materializations_for_node(asset.key.path[-1])
    return {name: value.value for name, value in materialization.metadata.items() if hasattr(value, "value")}


def table(platform, asset, name, bundle=BUNDLE):
    return platform.snapshots.read_json(platform.snapshots.latest(asset, partition=bundle), REPORT_FILE)[name]


def test_satisfaction_is_compared_with_the_bundle_before_which_is_loaded_as_well(platform):
    metadata = materialize(platform, satisfaction_report)
    groups = {(one["dimension"], one["value"]): one for one in table(platform, "satisfaction_report", "groups")}
    overall = groups["overall", None]
    assert (overall["turns"], overall["rated"], overall["satisfaction"], overall["satisfaction_before"]) == (
        100,
        50,
        0.8,
        0.2,
    )
    assert overall["moved"]
    assert overall["difference_low"] < 0.6 < overall["difference_high"]
    assert groups["prompt_version", "p2"]["difference"] is None
    assert groups["prompt_version", "p1"]["rated"] + groups["prompt_version", "p2"]["rated"] == 50
    assert (metadata["compared_with"], metadata["feedback_events"], metadata["feedback_without_turn"]) == (
        EARLIER,
        51,
        1,
    )
    database = platform.resources["warehouse"].open()
    loaded = database.query("SELECT release_bundle, COUNT(*) AS n FROM chat_turns GROUP BY release_bundle")
    assert dict(loaded.rows()) == {BUNDLE: 100, EARLIER: 100}


def test_the_first_bundle_has_nothing_to_be_compared_with(platform):
    metadata = materialize(platform, satisfaction_report, EARLIER)
    assert (metadata["compared_with"], metadata["moved"]) == ("no earlier bundle", "nothing")


def test_the_report_of_the_same_snapshots_is_the_same_bytes_and_a_new_thumb_another(platform):
    def digest():
        materialize(platform, satisfaction_report)
        return platform.snapshots.latest("satisfaction_report", partition=BUNDLE).digest

    first = digest()
    assert digest() == first
    platform.mined(BUNDLE, start=START_MS, good=41, prompt="p2")
    assert digest() != first


def test_a_feedback_snapshot_without_events_says_what_to_do(platform, tmp_path):
    platform.snapshots.write(
        "feedback_events", {"events.parquet": to_parquet(pl.DataFrame({"id": [1]}))}, partition=BUNDLE
    )
    with pytest.raises(CommandError, match="materialize feedback_events again"):
        run_report(session(platform, tmp_path), release_bundle=BUNDLE, kind="satisfaction")


def test_satisfaction_links_back_to_traces_of_each_prompt_and_to_the_model(platform):
    links = materialize(platform, satisfaction_report)["mlflow"]
    urls = re.findall(r"\]\((\S+)\)", links)
    assert len(urls) == 4  # the bundle, two prompts, one model
    assert f"tag={'release_bundle%3D' + BUNDLE}" in urls[0]
    assert any(url.endswith("tag=prompt_version%3Dp2") for url in urls)
    assert urls[-1].endswith("/#/models/mangaassist-intent-classifier/versions/3")


def test_every_picture_is_a_small_png_in_markdown(platform):
    pictures = [materialize(platform, satisfaction_report)["chart"]]
    usage = materialize(platform, usage_report)
    pictures += [usage["latency_chart"], usage["cost_chart"]]
    assert "customer_chart" not in usage
    for markdown in pictures:
        content = base64.b64decode(re.fullmatch(r"!\[[\w ]+\]\(data:image/png;base64,(\S+)\)", markdown)[1])
        assert content.startswith(b"\x89PNG")
        assert len(markdown) < 60_000


def test_usage_has_latency_tokens_cost_and_rates_by_prompt_and_arm(platform):
    metadata = materialize(platform, usage_report)
    # 100 calls of 1,000 input and 100 output tokens at 0.80 and 4.00 USD per million.
    assert metadata["cost_usd"] == pytest.approx(100 * (1_000 * 0.8 + 100 * 4.0) / 1e6)
    assert (metadata["model_calls"], metadata["priced_calls"], metadata["unpriced_models"]) == (100, 100, "none")
    assert metadata["cache_hit_share"] == 0.25
    groups = {(one["dimension"], one["value"]): one for one in table(platform, "usage_report", "groups")}
    assert groups["experiment_id", "control"]["cache_hits"] == 25
    assert groups["prompt_version", "p2"]["turns"] == 50
    stages = {one["name"]: one for one in table(platform, "usage_report", "stages") if one["dimension"] == "overall"}
    assert stages["retrieve_chunks"]["p50"] == pytest.approx(69.5)
    assert stages["bedrock_generate"]["failed"] == 20


def test_a_team_and_a_tenant_have_turns_cost_hits_and_thumbs_whatever_they_are_called(
    platform, tmp_path, capsys, monkeypatch
):
    names = ["$red$", "it's | <b>blue</b> \u202e", "[bold]緑", *(f"team {number}" for number in range(20))]
    turns = [
        chat_turn(
            number,
            tenant="osaka" if number % 2 else None,
            team=names[number % len(names)] if number >= 60 else "blue",
            cache_hit=None if number < 20 else number % 4 == 0,
            generations=(Generation(model_id=HAIKU, input_tokens=10, output_tokens=1, reported_cost_usd=0.01),),
        )
        for number in range(100)
    ]
    platform.snapshots.write(
        "tagged_traces",
        {
            TURNS_FILE: to_parquet(turns_frame(turns)),
            QUARANTINE_FILE: to_parquet(quarantine_frame([])),
            TURNS_CARD_FILE: canonical_json({"turns": 100, "first_timestamp_ms": START_MS}),
        },
        partition=BUNDLE,
    )
    usage = materialize(platform, usage_report)
    assert (usage["cost_usd"], usage["reported_cost_usd"]) == (pytest.approx(1.0), pytest.approx(1.0))
    assert (usage["reported_calls"], usage["cache_hits"]) == (100, "20 of 80")
    assert usage["customer_chart"].startswith("![Cost by tenant and team](data:image/png;base64,")
    assert usage["groups_not_shown"] == "12 more by team"
    groups = {(one["dimension"], one["value"]): one for one in table(platform, "usage_report", "groups")}
    blue = groups["team", "blue"]
    assert (blue["turns"], blue["calls"], blue["cache_hits"], blue["cache_stated"]) == (60, 60, 10, 40)
    assert set(names) <= {value for dimension, value in groups if dimension == "team"}

    materialize(platform, satisfaction_report)
    thumbs = {(one["dimension"], one["value"]): one for one in table(platform, "satisfaction_report", "groups")}
    blue, osaka = thumbs["team", "blue"], thumbs["tenant", "osaka"]
    assert (blue["rated"], blue["thumbs_up"], blue["satisfaction"]) == (50, 40, 0.8)
    assert blue["low"] < 0.8 < blue["high"]
    assert (osaka["turns"], osaka["rated"]) == (50, 25)

    monkeypatch.setenv("COLUMNS", "240")
    render_report(run_report(session(platform, tmp_path), release_bundle=BUNDLE))
    printed = capsys.readouterr().out
    for expected in ("osaka", "[bold]緑", "it's | <b>blue</b>", "10 of 40", "12 more by team", "(100 calls)"):
        assert expected in printed
    assert "\u202e" not in printed


def test_many_stages_are_counted_where_they_are_not_shown(platform, tmp_path, capsys, monkeypatch):
    turns = [
        chat_turn(
            n, stages=(StageTiming(name="pii_detection", duration_ms=4), StageTiming(name=f"x{n}", duration_ms=9))
        )
        for n in range(60)
    ]
    snapshot = platform.snapshots.latest("tagged_traces", partition=BUNDLE)
    files = {name: platform.snapshots.read(snapshot, name) for name in snapshot.files}
    files[TURNS_FILE] = to_parquet(turns_frame(turns))
    platform.snapshots.write("tagged_traces", files, partition=BUNDLE)
    assert materialize(platform, usage_report)["stages_not_shown"] == 38
    monkeypatch.setenv("COLUMNS", "200")
    render_report(run_report(session(platform, tmp_path), release_bundle=BUNDLE, kind="usage"))
    printed = capsys.readouterr().out
    assert "pii_detection" in printed
    assert "38 more stages" in printed


def test_prices_of_ones_own_take_the_place_of_the_packaged_ones(platform, tmp_path, monkeypatch):
    line = {"model_id": "anthropic.*", "valid_from": "2026-01-01", "source": "a contract", "retrieved": "2026-01-01"}
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"prices": [{**line, "input": 1.0, "output": 0.0}]}), encoding="utf-8")
    monkeypatch.setenv("MANGAASSIST_PRICES", str(path))
    assert materialize(platform, usage_report)["cost_usd"] == pytest.approx(0.1)


def test_what_has_no_price_is_told_with_its_reason_on_the_page_and_on_the_terminal(
    platform, tmp_path, monkeypatch, capsys
):
    line = {"model_id": "other.*", "valid_from": "2026-01-01", "source": "a contract", "retrieved": "2026-01-01"}
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"prices": [{**line, "input": 1.0, "output": 0.0}]}), encoding="utf-8")
    monkeypatch.setenv("MANGAASSIST_PRICES", str(path))
    monkeypatch.setenv("COLUMNS", "200")
    assert (
        "100 calls without a cost: the price list has no such model id"
        in (materialize(platform, usage_report)["price_notes"])
    )
    (row,) = table(platform, "usage_report", "unpriced")
    assert row["calls"] == 100
    render_report(run_report(session(platform, tmp_path), release_bundle=BUNDLE, kind="usage"))
    assert "the price list has no such model id" in capsys.readouterr().out


def test_no_report_holds_what_a_shopper_wrote(platform):
    for asset in (satisfaction_report, usage_report):
        assert SECRET not in repr(materialize(platform, asset))
        snapshot = platform.snapshots.latest(asset.key.path[-1], partition=BUNDLE)
        assert all(SECRET.encode() not in platform.snapshots.read(snapshot, file) for file in snapshot.files)


def session(platform, tmp_path):
    return Session(
        instance=platform.instance,
        definitions=platform.definitions,
        resources=SimpleNamespace(**platform.resources),
        progress=lambda _: None,
        logs=tmp_path,
    )


def test_the_command_returns_both_reports_and_prints_them_as_tables(platform, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    report = run_report(session(platform, tmp_path), release_bundle=BUNDLE)
    assert json.loads(json.dumps(report)) == report
    assert report["satisfaction"]["compared_with"] == EARLIER
    assert report["usage"]["price_notes"] == report["usage"]["unpriced_models"] == []
    render_report(report)
    printed = capsys.readouterr().out
    for expected in ("0.800", "+0.600", "bedrock_generate", "treatment", "0.1200 (100 of 100 calls)"):
        assert expected in printed


def test_the_command_makes_only_the_report_that_is_asked_for(platform, tmp_path):
    report = run_report(session(platform, tmp_path), release_bundle=BUNDLE, kind="usage")
    assert set(report) == {"release_bundle", "usage"}
    assert platform.snapshots.find("satisfaction_report", partition=BUNDLE) is None


@pytest.mark.parametrize(
    ("bundle", "said"),
    [("2026.09.09-rc9", "has no tagged_traces yet: run `mangaassist loop"), ("no,bundle", "not valid")],
)
def test_the_command_says_what_is_missing_and_registers_no_partition(platform, tmp_path, bundle, said):
    with pytest.raises(OperatorError, match=said):
        run_report(session(platform, tmp_path), release_bundle=bundle)
    assert bundle not in platform.instance.get_dynamic_partitions(release_bundles.name)


def test_a_report_that_fails_says_why(platform, tmp_path, monkeypatch):
    path = tmp_path / "prices.json"
    path.write_text('{"prices": [7]}', encoding="utf-8")
    monkeypatch.setenv("MANGAASSIST_PRICES", str(path))
    with pytest.raises(CommandError, match=r"usage_report: .*price 1 is not an object"):
        run_report(session(platform, tmp_path), release_bundle=BUNDLE)
