"""What people see in Dagster's page and behind its links: a real Chromium on a running `mangaassist dev`."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from upath import UPath

from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.definitions import build_definitions
from mangaassist_assets.local.home import Home
from resources.store import declared_reads
from tests.support.command_line import run_here
from tests.support.dagster_dev import DagsterDev

pytestmark = [pytest.mark.browser, pytest.mark.integration]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
LOOKED_AT, OTHER = "2026.02.03-rc1", "2026.02.17-rc2"
GROUPS = ("bootstrap", "feedback", "intent", "knowledge", "mining", "release", "reports", "reranker")


@pytest.fixture(scope="module")
def dev(bootstrapped_dev: DagsterDev) -> DagsterDev:
    """One bundle that went through the loop, another that only has traces."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: `apt-get install chromium`")
    bootstrapped_dev.start()
    assert bootstrapped_dev.simulate(LOOKED_AT, lines=slice(10, 28), review_budget=36)["turns"] == 18
    assert bootstrapped_dev.simulate(OTHER, lines=slice(0, 3))["turns"] == 3
    ran = run_here(bootstrapped_dev.home, "loop", "--release-bundle", LOOKED_AT, "--no-deploy")
    assert ran.code == 0, ran.stderr
    return bootstrapped_dev


@pytest.fixture(scope="module")
def page(dev: DagsterDev) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    assert dev.urls
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1600, "height": 1200})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return build_definitions("local")


def test_the_lineage_page_shows_every_group_and_no_invitation_in_front(dev, page):
    page.goto(f"{dev.urls['dagster']}/asset-groups")
    for group in GROUPS:
        page.locator("svg foreignObject").filter(has_text=group).first.wait_for()
    assert page.get_by_text("Join the Dagster community").count() == 0


def test_the_catalog_lists_assets_with_their_groups_and_descriptions(dev, page):
    page.goto(f"{dev.urls['dagster']}/assets")
    page.get_by_text("failure_clusters", exact=True).first.wait_for()
    page.get_by_text("What production runs at this moment").first.wait_for()
    assert page.get_by_text("mangaassist", exact=True).count() > 1


@pytest.mark.parametrize("asset", ["failure_clusters", "intent_dataset", "active_release", "release_manifest"])
def test_the_lineage_of_an_asset_is_what_it_declares_to_read(dev, page, definitions, asset):
    assets = {key.to_user_string() for key in definitions.resolve_asset_graph().get_all_asset_keys()}
    (spec,) = definitions.resolve_assets_def(asset).specs
    reads = {read.asset for read in declared_reads(spec.metadata) if not read.own and not read.ledger}
    page.goto(f"{dev.urls['dagster']}/assets/{asset}?view=lineage&lineageScope=upstream&lineageDepth=1")
    nodes = page.locator("svg foreignObject").filter(has_text="Latest event")
    for name in {asset, *reads}:
        nodes.get_by_text(name, exact=True).wait_for()
    assert reads
    assert {name for name in assets if nodes.get_by_text(name, exact=True).count()} == {asset, *reads}


def test_a_materialization_shows_the_digests_of_its_inputs_as_its_record_has_them(dev, page):
    page.goto(f"{dev.urls['dagster']}/assets/failure_clusters?view=events")
    page.get_by_text(LOOKED_AT, exact=True).first.click()
    page.get_by_role("link", name=LOOKED_AT).wait_for()
    shown, inputs = (page.locator("tr").filter(has=page.get_by_text(key, exact=True)) for key in ("record", "inputs"))
    store = SnapshotStore(UPath(Home.open(dev.home).store))
    records = {one.uri: one for one in store.records("failure_clusters", partition=LOOKED_AT)}
    record = records[shown.locator("td").nth(1).inner_text().strip()]
    page.get_by_text(record.digest, exact=True).first.wait_for()
    rows = [row.locator("td").all_inner_texts() for row in inputs.locator("tbody tr").all()]
    assert len(rows) > 1
    assert {f"{name}/{bundle}".removesuffix("/none"): digest for name, bundle, digest in rows} == record.origin.inputs


def test_an_evaluation_shows_owner_kinds_description_figures_and_links(dev, page):
    page.goto(f"{dev.urls['dagster']}/assets/intent_evaluation")
    described = "Champion and challenger of the intent classifier on the same examples"
    for text in ("ml-engineering", "ML Flow", described):
        page.get_by_text(text).first.wait_for()
    for key in ("verdict", "champion", "challenger", "test_examples", "decision"):
        page.get_by_text(key, exact=True).first.wait_for()
    links = page.locator("a[href*='/#/models/mangaassist-intent-classifier/versions/']")
    links.first.wait_for()
    assert links.first.get_attribute("href").startswith(dev.urls["mlflow"])


def test_the_gate_of_an_evaluation_is_among_its_checks(dev, page):
    page.goto(f"{dev.urls['dagster']}/assets/intent_evaluation?view=checks")
    page.get_by_text("intent_gate").first.wait_for()
    page.get_by_text("better than the champion, with proof").first.wait_for()


def test_the_automation_page_lists_all_sensors_and_schedules_running(dev, page):
    page.goto(f"{dev.urls['dagster']}/automation")
    names = (
        *("configuration_versions", "feedback_threshold", "new_release_bundles"),
        *("release_after_retraining", "release_after_failed_retraining"),
        *("nightly_mining", "nightly_index_refresh", "weekly_retraining"),
    )
    for name in names:
        page.get_by_text(name, exact=True).first.wait_for()


def test_the_link_to_a_bundles_traces_lists_those_of_the_bundle_alone(dev, page):
    query = """{ assetOrError(assetKey: {path: ["tagged_traces"]}) { ... on Asset {
        assetMaterializations(limit: 20) { partition metadataEntries {
          label ... on UrlMetadataEntry { url } } } } } }"""
    found = dev.graphql(query)["assetOrError"]["assetMaterializations"]
    (url, *_) = [
        entry["url"]
        for materialization in found
        for entry in materialization["metadataEntries"]
        if materialization["partition"] == LOOKED_AT and entry["label"] == "mlflow_traces"
    ]
    page.goto(url)
    page.get_by_text(re.compile(r"^18 of \d+$")).first.wait_for()
