"""Attacks on `mangaassist dev` by what a browser shows: foreign pages, names that rebind, texts in reports."""

from __future__ import annotations

import json
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import dagster as dg
import pytest

from mangaassist_assets.assets.common import check_result
from mangaassist_assets.local.home import Home
from mangaassist_assets.local.sharing import running_services
from tests.browser.test_dagster_page import CHROMIUM, FLAGS
from tests.support.command_line import environment, start
from tests.support.hostile_pages import hostile_pages
from tests.support.hostile_texts import HOSTILE_TEXTS, MARK

pytestmark = [pytest.mark.browser, pytest.mark.integration]

# The name of a page's own server that has come to mean this machine (DNS rebinding).
REBOUND = "evil.test"
# Chromium keeps public pages from this machine's addresses by itself, since lately. Other browsers do not.
OTHER_BROWSERS = ("--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests",)
SELECTOR = '{repositoryName: "__repository__", repositoryLocationName: "mangaassist"}'
ADD_BUNDLE = (
    'mutation { addDynamicPartition(partitionKey: "%s", partitionsDefName: "release_bundles", repositorySelector: '
    + SELECTOR
    + ") { __typename } }"
)
ASSET = "intent_dataset"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dev:
    """A running `mangaassist dev` on an empty home."""

    home: Home
    urls: dict[str, str]

    def ask(self, query: str) -> Any:
        """Return what Dagster answers to a client of this machine."""
        body = json.dumps({"query": query}).encode()
        request = urllib.request.Request(f"{self.urls['dagster']}/graphql", body, {"Content-Type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return json.load(answer)["data"]

    def instance(self) -> dg.DagsterInstance:
        """Return the instance behind the page."""
        return dg.DagsterInstance.from_config(str(self.home.dagster))

    def bundles(self) -> set[str]:
        """Return the release bundles that Dagster knows."""
        with self.instance() as instance:
            return set(instance.get_dynamic_partitions("release_bundles"))


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    if CHROMIUM is None:
        pytest.skip("no Chromium: `apt-get install chromium`")
    home = Home.open(tmp_path_factory.mktemp("attacked") / "home")
    process = start(home.root, "dev", "--json", variables={"OMP_NUM_THREADS": "1"})
    assert process.stdout is not None
    assert process.stderr is not None
    said: list[str] = []
    threading.Thread(target=said.extend, args=(process.stderr,), daemon=True).start()
    try:
        line = process.stdout.readline()
        assert line, "".join(said)
        yield Dev(home=home, urls=json.loads(line)["urls"])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=90)
        process.stdout.close()
        process.stderr.close()


@pytest.fixture
def page() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    rebinding = f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *OTHER_BROWSERS, rebinding])
        page = browser.new_page(viewport={"width": 1600, "height": 1200})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def visit(page: Any, url: str, html: str = "<p>hello</p>") -> None:
    """Look at a page of somebody else's server."""
    page.route(url, lambda route: route.fulfill(body=f"<!doctype html>{html}", content_type="text/html"))
    page.goto(url)


FETCH = """async ([url, method, headers, body]) => {
    const answer = await fetch(url, {method, headers, body});
    return [answer.status, await answer.text()];
}"""


def fetched(
    page: Any, url: str, *, method: str = "POST", headers: dict[str, str] | None = None, body: str = "{}"
) -> Any:
    """Return status and text of a request that a page sends to its own origin."""
    return page.evaluate(FETCH, [url, method, headers or {}, None if method == "GET" else body])


POINTING = """(node, mark) => [...node.querySelectorAll("*")].filter(one =>
    ["src", "href", "srcset", "data", "poster"].some(name => (one.getAttribute(name) || "").includes(mark))).length"""


def signed(service: str, key: str = "test") -> dict[str, str]:
    scope = f"{key}/20260324/us-east-1/{service}/aws4_request"
    return {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"}


def test_a_client_of_this_machine_is_answered(dev: Dev) -> None:
    assert dev.ask(ADD_BUNDLE % "2026.01.01-control")["addDynamicPartition"]["__typename"].endswith("Success")
    assert "2026.01.01-control" in dev.bundles()


@pytest.mark.parametrize(
    ("server", "path", "headers", "body"),
    [
        ("ministack", "/2015-03-31/functions", signed("lambda"), '{"FunctionName": "f"}'),
        ("ministack", "/", signed("dynamodb") | {"X-Amz-Target": "DynamoDB_20120810.ListTables"}, "{}"),
        ("ministack", "/", signed("kinesis") | {"X-Amz-Target": "Kinesis_20131202.ListStreams"}, "{}"),
        ("ministack", "/_ministack/reset", {}, ""),
        ("sagemaker", "/", signed("sagemaker") | {"X-Amz-Target": "SageMaker.ListModels"}, "{}"),
        ("sagemaker", "/endpoints/mangaassist-intent-classifier/invocations", signed("sagemaker"), '{"text": "hi"}'),
        ("mlflow", "/api/2.0/mlflow/experiments/create", {"Content-Type": "application/json"}, '{"name": "stolen"}'),
        ("dagster", "/graphql", {"Content-Type": "application/json"}, json.dumps({"query": "{ __typename }"})),
    ],
)
def test_a_page_whose_name_comes_to_mean_this_machine_is_answered_by_no_server(
    dev: Dev, page: Any, server: str, path: str, headers: dict[str, str], body: str
) -> None:
    port = urlsplit(dev.urls[server]).port
    visit(page, f"http://{REBOUND}:{port}/own-page.html")
    status, text = fetched(page, path, headers=headers, body=body)
    assert status == 403
    assert f"the Host '{REBOUND}:{port}' is none of" in text
    assert fetched(page, "/", method="GET")[0] == 403
    assert page.evaluate("url => fetch(url, {method: 'OPTIONS'}).then(answer => answer.status)", path) == 403


EMBEDDED = """
<img src="{url}"><script src="{url}"></script><link rel=stylesheet href="{url}"><iframe src="{url}"></iframe>
<video src="{url}"></video><object data="{url}"></object><embed src="{url}">
<form id=form target=frame method=POST enctype="text/plain" action="{graphql}">
<input name='{before}' value='{after}'></form><iframe name=frame></iframe>
<form id=query target=other method=POST action="{url}"></form><iframe name=other></iframe>
<script>
document.getElementById("form").submit();
document.getElementById("query").submit();
for (const type of ["text/plain", "text/plain; x=application/json", "application/x-www-form-urlencoded"])
  fetch("{graphql}", {{method: "POST", mode: "no-cors", headers: {{"Content-Type": type}}, body: {body}}})
    .catch(() => 0);
fetch("{url}", {{method: "POST", mode: "no-cors"}}).catch(() => 0);
navigator.sendBeacon("{url}");
window.socket = new Promise(resolve => {{
  const socket = new WebSocket("{socket}", "graphql-ws");
  socket.onopen = () => resolve("open");
  socket.onerror = () => resolve("refused");
}});
</script>"""


@pytest.mark.parametrize("origin", ["http://other.test", "http://127.0.0.1:9"])
def test_nothing_that_a_foreign_page_embeds_or_sends_changes_anything(dev: Dev, page: Any, origin: str) -> None:
    graphql = f"{dev.urls['dagster']}/graphql"
    stolen = f"2026.01.01-{urlsplit(origin).hostname}"
    mutation = ADD_BUNDLE % stolen
    before, _, after = json.dumps({"query": mutation, "x": "="}).partition("=")
    html = EMBEDDED.format(
        url=f"{graphql}?query={quote(mutation)}",
        graphql=graphql,
        socket=graphql.replace("http:", "ws:"),
        before=before.replace("'", "&#39;"),
        after=after,
        body=json.dumps(json.dumps({"query": mutation})),
    )
    visit(page, f"{origin}/page.html", html)
    assert page.evaluate("window.socket") == "refused"
    page.wait_for_load_state("networkidle")
    # A person who follows a link to it sees the page where queries are typed, and nothing is run.
    page.goto(f"{graphql}?query={quote(mutation)}")
    assert stolen not in dev.bundles()


@pytest.mark.parametrize("path", ["/graphql", "/graphql/", "//graphql", "/%67raphql"])
def test_a_mutation_by_get_is_refused_even_to_its_own_page(dev: Dev, path: str) -> None:
    stolen = "2026.01.01-get"
    url = f"{dev.urls['dagster']}{path}?query={quote(ADD_BUNDLE % stolen)}"
    for method in ("GET", "HEAD"):
        request = urllib.request.Request(url, method=method, headers={"Accept": "image/avif,*/*"})  # noqa: S310
        try:
            urllib.request.urlopen(request, timeout=30).close()  # noqa: S310
        except urllib.error.HTTPError as error:
            error.close()
    assert stolen not in dev.bundles()


def test_dagsters_own_page_asks_and_listens(dev: Dev, page: Any) -> None:
    page.goto(f"{dev.urls['dagster']}/assets")
    page.get_by_text("failure_clusters", exact=True).first.wait_for()
    opened = page.evaluate(
        """() => new Promise(resolve => {
            const socket = new WebSocket(`ws://${location.host}/graphql`, "graphql-ws");
            socket.onopen = () => socket.send(JSON.stringify({type: "connection_init"}));
            socket.onmessage = message => resolve(JSON.parse(message.data).type);
            socket.onerror = () => resolve("refused");
        })"""
    )
    assert opened == "connection_ack"


def test_mlflows_own_page_asks_and_writes(dev: Dev, page: Any) -> None:
    refused: list[str] = []
    page.on("response", lambda answer: refused.append(answer.url) if answer.status == 403 else None)
    page.goto(f"{dev.urls['mlflow']}/#/experiments")
    page.get_by_text("Default").first.wait_for()
    body = json.dumps({"name": "by its page"})
    made = fetched(
        page, "/ajax-api/2.0/mlflow/experiments/create", headers={"Content-Type": "application/json"}, body=body
    )
    assert made[0] == 200
    assert refused == []


def test_a_hostile_text_is_a_text_on_the_page_of_an_asset(dev: Dev, page: Any) -> None:
    stolen = "2026.01.01-markdown"
    raw = f"![x](/graphql?query={quote(ADD_BUNDLE % stolen)}&{MARK}) ![y](http://{REBOUND}:9/{MARK}.png)"
    raw += " long enough to be shown in a window of its own" * 50
    shown = {**hostile_pages(), "unescaped": raw}
    result = check_result([text for text in HOSTILE_TEXTS if text != "["], {}, all_well="")
    key, running = dg.AssetKey(ASSET), running_services(dev.home)
    assert running is not None
    with environment(**running.environment), dev.instance() as instance:
        instance.add_dynamic_partitions("release_bundles", ["2026.01.02-rc1"])
        metadata = {name: dg.MetadataValue.md(text) for name, text in shown.items()}
        event = dg.AssetMaterialization(key, partition="2026.01.02-rc1", metadata=metadata)
        instance.report_runless_asset_event(event)
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                check_name="few_duplicates", asset_key=key, passed=False, metadata={}, description=result.description
            )
        )
    asked: list[str] = []
    failed: dict[str, str] = {}
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: failed.update({request.url: str(request.failure)}))
    page.goto(f"{dev.urls['dagster']}/assets/{ASSET}?view=events&partition=2026.01.02-rc1")
    page.get_by_text("data_card", exact=True).first.wait_for()
    for name in shown:
        row = page.locator("tr").filter(has=page.get_by_text(name, exact=True)).last
        row.get_by_text("Show Markdown").click()
        dialog = page.locator(".dagster-markdown").last
        opened = dialog.element_handle()
        loaded = dialog.evaluate(POINTING, MARK)
        # What is looked for is found where it is: in the text that nobody escaped.
        assert loaded == (2 if name == "unescaped" else 0), name
        page.get_by_text("Close", exact=True).last.click()
        opened.wait_for_element_state("hidden")
    page.goto(f"{dev.urls['dagster']}/assets/{ASSET}?view=checks")
    page.get_by_text("few_duplicates", exact=True).first.click()
    page.get_by_text(f"strong {MARK}").first.wait_for()
    assert page.locator(f"img[src*={MARK}], a[href*={MARK}]").count() == 0
    # And that one did nothing: its mutation was refused, and the picture of another server not asked for.
    assert [url for url in asked if MARK in url and "graphql" in url]
    assert stolen not in dev.bundles()
    elsewhere = [url for url in asked if REBOUND in urlsplit(url).netloc]
    assert elsewhere
    assert all("csp" in failed[url].lower() for url in elsewhere), failed
