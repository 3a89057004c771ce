import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from mangaassist_assets.tracing.feedback_landing import FeedbackLanding


def event(number, bundle="rc1", feedback="thumbs_down"):
    return {
        "event_id": f"event-{number}",
        "release_bundle": bundle,
        "feedback": feedback,
        "timestamp": f"2026-03-24T10:00:{number % 60:02d}Z",
    }


@pytest.fixture
def landing(tmp_path):
    return FeedbackLanding(UPath(tmp_path) / "landing")


def test_an_empty_landing_starts_at_the_beginning_of_the_stream(landing):
    assert landing.cursor() == {}
    assert landing.table("rc1").events == ()


def test_events_and_position_arrive_together(landing):
    assert landing.append(events=[event(1)], rejects=[], cursor={"shard-0": "17"})
    assert landing.cursor() == {"shard-0": "17"}
    assert landing.table("rc1").count("thumbs_down") == 1


def test_nothing_new_writes_nothing(landing):
    assert not landing.append(events=[], rejects=[], cursor={"shard-0": "17"})
    assert landing.cursor() == {}


def test_a_repeated_delivery_counts_once(landing):
    landing.append(events=[event(1), event(2)], rejects=[], cursor={"shard-0": "2"})
    landing.append(events=[event(2), event(3)], rejects=[], cursor={"shard-0": "3"})
    table = landing.table("rc1")
    assert [one["event_id"] for one in table.events] == ["event-1", "event-2", "event-3"]
    assert table.duplicates == 1


def test_bundles_are_kept_apart_and_rejects_are_kept(landing):
    landing.append(events=[event(1), event(2, bundle="rc2")], rejects=[{"reason": "no JSON"}], cursor={"s": "2"})
    assert len(landing.table("rc2").events) == 1
    assert landing.rejects() == [{"reason": "no JSON"}]


def test_the_eleventh_segment_comes_after_the_tenth(landing):
    for number in range(1, 12):
        landing.append(events=[event(number)], rejects=[], cursor={"s": str(number)})
    assert landing.cursor() == {"s": "11"}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 30), max_size=60), st.integers(0, 2**32))
def test_any_duplication_and_order_gives_the_same_table(tmp_path_factory, numbers, seed):
    clean = FeedbackLanding(UPath(tmp_path_factory.mktemp("clean")))
    messy = FeedbackLanding(UPath(tmp_path_factory.mktemp("messy")))
    clean.append(events=[event(number) for number in sorted(set(numbers))], rejects=[], cursor={})
    shuffled = numbers + numbers[::2]
    random.Random(seed).shuffle(shuffled)
    for start in range(0, len(shuffled), 7):
        messy.append(events=[event(number) for number in shuffled[start : start + 7]], rejects=[], cursor={})
    assert messy.table("rc1").events == clean.table("rc1").events
