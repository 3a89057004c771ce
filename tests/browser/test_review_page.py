"""What a reviewer sees behind the link of `review_queue`: MLflow's own page, in a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from resources.mlflow.assessments.review_queues import MlflowReviewQueues, queue_name
from resources.mlflow.tracking import MlflowResource
from tests.browser.test_dagster_page import CHROMIUM, FLAGS
from tests.support.feedback_events import BUNDLE, store_traces
from tests.support.trace_source import chat_trace
from tests.support.turn_reading import read_turns

pytestmark = [pytest.mark.browser, pytest.mark.integration, pytest.mark.usefixtures("stand_ins_environment")]


@pytest.fixture
def page() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium: `apt-get install chromium`")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1600, "height": 900})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def test_a_reviewers_answer_in_mlflow_is_the_expected_intent_of_the_turn(page):
    mlflow = MlflowResource(traces_experiment=f"traces-{uuid4().hex[:8]}")
    keys = [f"tr-{uuid4().hex}" for _ in range(2)]
    for number, key in enumerate(keys):
        message = f"where is my parcel {number}"
        store_traces(mlflow, chat_trace(key, 1_774_000_000_000 + number, BUNDLE, message=message))
    queues = MlflowReviewQueues(*mlflow.traces(), traces_url=mlflow.traces_url())
    published = queues.publish(BUNDLE, keys, intents=["gift_card", "order_status"], reviewed={})
    page.goto(published.url)
    page.get_by_text(queue_name(BUNDLE)).first.wait_for()
    page.get_by_text("where is my parcel 0").first.click()
    answer = page.get_by_placeholder("gift_card, order_status")
    answer.fill("order_status")
    page.get_by_role("button", name="Submit").click()
    page.get_by_text("1 of 2 reviewed").first.wait_for()
    turns = {turn.trace_id: turn for turn in read_turns(mlflow.read_traces(BUNDLE)).turns}
    assert [turns[key].expected_intent for key in keys] == ["order_status", None]
    assert turns[keys[0]].reviews[0].source == "human"
    assert queues.state(BUNDLE).complete == {keys[0]}
