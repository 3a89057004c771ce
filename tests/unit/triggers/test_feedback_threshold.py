import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.triggers.cursors import CursorError
from mangaassist_assets.triggers.feedback_threshold import (
    FeedbackEvent,
    FeedbackState,
    ThresholdConfig,
    decide,
)


def thumbs(bundle: str, *, down: int = 0, up: int = 0, start: int = 0) -> list[FeedbackEvent]:
    words = ["thumbs_down"] * down + ["thumbs_up"] * up
    return [
        FeedbackEvent(event_id=f"{bundle}-{start + number}", release_bundle=bundle, feedback=word)
        for number, word in enumerate(words)
    ]


def test_enough_thumbs_downs_fire_once_and_the_count_starts_anew():
    decision = decide(FeedbackState(), thumbs("b1", down=20, up=5))
    (firing,) = decision.fire
    assert (firing.release_bundle, firing.down, firing.up, firing.epoch) == ("b1", 20, 5, 1)
    assert decide(decision.state, []).fire == ()
    again = decide(decision.state, thumbs("b1", down=20, start=100))
    assert [one.run_key for one in again.fire] == ["feedback-b1-2"]


def test_one_thumbs_down_short_of_the_minimum_waits_and_says_the_numbers():
    decision = decide(FeedbackState(), thumbs("b1", down=19, up=1))
    assert decision.fire == ()
    assert decision.reason == "20 new events; b1: 19 thumbs-down of 20 (95%); needed 20 and 20%"


def test_many_thumbs_downs_that_are_a_small_share_do_not_fire():
    assert decide(FeedbackState(), thumbs("b1", down=20, up=81)).fire == ()
    assert decide(FeedbackState(), thumbs("b1", down=20, up=80)).fire != ()


def test_counts_add_up_over_ticks_and_bundles_are_counted_apart():
    state = FeedbackState()
    for tick in range(3):
        decision = decide(state, [*thumbs("b1", down=7, start=10 * tick), *thumbs("b2", down=1, start=10 * tick)])
        state = FeedbackState.from_json(decision.state.to_json())
    assert [one.release_bundle for one in decision.fire] == ["b1"]
    assert state.counts["b2"].down == 3


def test_an_event_that_comes_twice_counts_once_also_in_a_later_tick():
    events = thumbs("b1", down=12)
    first = decide(FeedbackState(), [*events, *events])
    second = decide(FeedbackState.from_json(first.state.to_json()), events)
    assert second.state.counts["b1"].down == 12
    assert "12 repeated" in second.reason


def test_an_event_without_a_valid_bundle_or_thumb_changes_nothing():
    events = [
        FeedbackEvent(event_id="1", release_bundle="../etc", feedback="thumbs_down"),
        FeedbackEvent(event_id="2", release_bundle="b1", feedback="meh"),
        FeedbackEvent(event_id="3", release_bundle="", feedback="thumbs_down"),
    ]
    decision = decide(FeedbackState(), events)
    assert decision.state == FeedbackState()
    assert decision.reason == "0 new events, 3 invalid; no thumb since the last firing, needed 20 and 20%"


def test_the_cursor_stays_small_whatever_comes():
    state = FeedbackState()
    config = ThresholdConfig(minimum_negative=10**9)
    for bundle in range(300):
        state = decide(state, thumbs(f"bundle-{bundle}", down=30), config=config).state
    assert len(state.counts) == 100
    assert "bundle-299" in state.counts
    assert "bundle-0" not in state.counts
    assert len(state.to_json()) < 50_000


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "17",
        '{"kind": "other", "version": 1, "state": {}}',
        '{"kind": "feedback_threshold", "version": 2, "state": {}}',
        '{"kind": "feedback_threshold", "version": 1, "state": {}}',
        '{"kind": "feedback_threshold", "version": 1, "state": {"counts": [["b", 1]], "recent": ""}}',
        '{"kind": "feedback_threshold", "version": 1, "state": {"counts": [["b", -1, 0, 0]], "recent": ""}}',
        '{"kind": "feedback_threshold", "version": 1, "state": {"counts": [], "recent": "abc"}}',
    ],
)
def test_a_cursor_that_cannot_be_read_says_to_reset_it(text):
    with pytest.raises(CursorError, match="reset the sensor's cursor"):
        FeedbackState.from_json(text)


def test_no_cursor_is_the_empty_state():
    assert FeedbackState.from_json(None) == FeedbackState.from_json("") == FeedbackState()
    assert json.loads(FeedbackState().to_json())["version"] == 1


@given(st.lists(st.tuples(st.sampled_from(["b1", "b2"]), st.booleans()), max_size=120), st.lists(st.integers(1, 30)))
@settings(max_examples=100)
def test_no_thumb_is_lost_or_counted_twice_however_the_events_are_cut_into_ticks(thumb_list, cuts):
    events = [
        FeedbackEvent(event_id=str(number), release_bundle=bundle, feedback="thumbs_down" if down else "thumbs_up")
        for number, (bundle, down) in enumerate(thumb_list)
    ]
    state, fired, position = FeedbackState(), 0, 0
    for size in [*cuts, len(events)]:
        decision = decide(state, events[position : position + size])
        state = FeedbackState.from_json(decision.state.to_json())
        fired += sum(one.up + one.down for one in decision.fire)
        position += size
    assert fired + sum(count.up + count.down for count in state.counts.values()) == len(events)
