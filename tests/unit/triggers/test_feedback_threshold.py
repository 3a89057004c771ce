"""When a bundle fires: votes since the last firing, counted once a trace whatever forms its thumb has."""

import json
import random
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.triggers.cursors import CursorError, from_cursor, to_cursor
from mangaassist_assets.triggers.feedback_threshold import Decision, FeedbackState, ThresholdConfig, decide
from mangaassist_assets.triggers.thumbs import PressedThumb, TraceVote, Votes
from tests.support.examples import examples

BUNDLE = "b1"


def again(state: FeedbackState) -> FeedbackState | None:
    """Return the state as the next look finds it."""
    return from_cursor("feedback", 2, to_cursor("feedback", 2, state), FeedbackState)


def press(number: int, *, down: bool = True, bundle: str | None = BUNDLE, at: int = 0, **fields) -> PressedThumb:
    made = {"event_id": f"e-{number}-{at}", "trace_id": f"tr-{number}", "release_bundle": bundle, "time_ms": at}
    return PressedThumb(feedback="thumbs_down" if down else "thumbs_up", **{**made, **fields})


def presses(bundle: str, *, down: int = 0, up: int = 0, start: int = 0) -> list[PressedThumb]:
    words = [True] * down + [False] * up
    return [
        press(start + number, down=word, bundle=bundle, trace_id=f"{bundle}-{start + number}")
        for number, word in enumerate(words)
    ]


def look(
    state: FeedbackState,
    events: Sequence[PressedThumb] = (),
    *,
    traces: Mapping[str, TraceVote] | None = None,
    on_traces: Mapping[str, Votes] | None = None,
    config: ThresholdConfig | None = None,
) -> Decision:
    """Decide as the sensor does: the votes on traces are those of the traces, if nothing else is said."""
    known = traces or {}
    votes: dict[str, Votes] = {}
    for trace in {one.trace_id: one for one in known.values()}.values():
        if trace.feedback is not None and trace.release_bundle is not None:
            votes[trace.release_bundle] = votes.get(trace.release_bundle, Votes()).plus(trace.feedback)
    counted = on_traces if on_traces is not None else votes
    return decide(state, events, on_traces=counted, traces=known, config=config or ThresholdConfig())


def carrying(*numbers: int, down: bool = True, event_ms: int | None = None) -> dict[str, TraceVote]:
    thumb = "thumbs_down" if down else "thumbs_up"
    return {
        f"tr-{number}": TraceVote(trace_id=f"tr-{number}", release_bundle=BUNDLE, feedback=thumb, event_ms=event_ms)
        for number in numbers
    }


def silent(*numbers: int, bundle: str | None = BUNDLE) -> dict[str, TraceVote]:
    return {
        f"tr-{number}": TraceVote(trace_id=f"tr-{number}", release_bundle=bundle, feedback=None, event_ms=None)
        for number in numbers
    }


def test_enough_thumbs_downs_fire_once_and_the_count_starts_anew():
    decision = look(FeedbackState(), presses("b1", down=20, up=5))
    (firing,) = decision.fire
    assert (firing.release_bundle, firing.down, firing.up, firing.epoch) == ("b1", 20, 5, 1)
    assert look(decision.state).fire == ()
    again = look(decision.state, presses("b1", down=20, start=100))
    assert [one.run_key for one in again.fire] == ["feedback-b1-2"]


def test_one_thumbs_down_short_of_the_minimum_waits_and_says_the_numbers():
    decision = look(FeedbackState(), presses("b1", down=19, up=1))
    assert decision.fire == ()
    assert decision.reason == "20 new events; b1: 19 thumbs-down of 20 (95%); needed 20 and 20%"


def test_many_thumbs_downs_that_are_a_small_share_do_not_fire():
    assert look(FeedbackState(), presses("b1", down=20, up=81)).fire == ()
    assert look(FeedbackState(), presses("b1", down=20, up=80)).fire != ()


def test_counts_add_up_over_ticks_and_bundles_are_counted_apart():
    state = FeedbackState()
    for tick in range(3):
        decision = look(state, [*presses("b1", down=7, start=10 * tick), *presses("b2", down=1, start=10 * tick)])
        state = again(decision.state)
    assert [one.release_bundle for one in decision.fire] == ["b1"]
    assert "b2: 3 thumbs-down of 3" in look(state).reason


def test_an_event_that_comes_twice_counts_once_also_in_a_later_tick():
    events = presses("b1", down=12)
    first = look(FeedbackState(), [*events, *events])
    second = look(again(first.state), events)
    assert "b1: 12 thumbs-down of 12" in second.reason


def test_thirty_thumbs_that_are_only_on_traces_fire_as_thirty_events_do():
    (tagged,) = look(FeedbackState(), traces=carrying(*range(30))).fire
    (pressed,) = look(FeedbackState(), presses("b1", down=30)).fire
    assert (tagged.down, tagged.run_key) == (pressed.down, pressed.run_key) == (30, "feedback-b1-1")


def test_an_event_whose_trace_is_not_there_and_that_names_no_bundle_waits_for_it():
    events = [press(number, bundle=None) for number in range(20)]
    waiting = look(FeedbackState(), events)
    assert (
        waiting.reason == "20 new events, 20 wait for their traces; no thumb since the last firing, needed 20 and 20%"
    )
    assert len(look(waiting.state, traces=silent(*range(20), bundle=None)).state.remembered) == 20
    assert len(look(waiting.state, traces=silent(*range(20))).fire) == 1


def test_a_response_that_was_found_is_remembered_by_its_trace():
    event = press(1, bundle=None, trace_id=None, response_id="r-1")
    found = look(FeedbackState(), [event], traces={"r-1": silent(1)["tr-1"]}, on_traces={})
    assert [one.trace_id for one in found.state.remembered] == ["tr-1"]
    both = [event, press(1, down=False, bundle=None, at=5)]
    traces = {"r-1": silent(1)["tr-1"], **silent(1)}
    assert "b1: 0 thumbs-down of 1" in look(FeedbackState(), both, traces=traces, on_traces={}).reason


def test_an_event_of_another_bundle_than_its_trace_changes_nothing_and_is_told():
    decision = look(FeedbackState(), [press(1, bundle="b2")], traces=silent(1))
    assert "1 new events, 1 of another bundle than their traces" in decision.reason
    assert decision.state == FeedbackState()


def test_a_mind_changed_after_the_firing_counts_on_the_new_side_only():
    traces = carrying(*range(20)) | carrying(*range(20, 25), down=False)
    fired = look(FeedbackState(), traces=traces)
    changed = look(fired.state, [press(number, down=True, at=9) for number in range(20, 25)], traces=traces)
    assert "b1: 5 thumbs-down of 5 (100%)" in changed.reason


def test_after_an_erasure_new_votes_count_from_the_first():
    fired = look(FeedbackState(), traces=carrying(*range(30)))
    fewer = look(fired.state, traces=carrying(*range(5)))
    assert "no thumb since" in fewer.reason
    assert "b1: 3 thumbs-down of 3" in look(fewer.state, traces=carrying(*range(8))).reason


def test_votes_that_were_mined_before_the_first_look_are_no_news():
    state = FeedbackState.beginning({"b1": Votes(up=1, down=30)})
    assert look(state, traces=carrying(*range(30))).fire == ()
    assert "b1: 2 thumbs-down of 2" in look(state, traces=carrying(*range(32))).reason


def test_the_cursor_stays_small_whatever_comes_and_says_what_it_let_go():
    state = FeedbackState()
    config = ThresholdConfig(minimum_negative=10**9)
    for bundle in range(60):
        decision = look(state, presses(f"bundle-{bundle}", down=30), config=config)
        state = decision.state
    assert len(state.remembered) == 1_000
    assert "30 too many to remember, which count when they are recorded on their traces" in decision.reason
    assert len(to_cursor("feedback", 2, state)) < 100_000


def test_what_changes_no_count_is_let_go_first():
    events = [press(number) for number in range(6)]
    traces = carrying(0, 1, 2) | silent(3, 4, 5)
    decision = look(FeedbackState(), events, traces=traces, config=ThresholdConfig(remembered_events=3))
    assert [one.trace_id for one in decision.state.remembered] == ["tr-3", "tr-4", "tr-5"]
    assert "too many" not in decision.reason


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "17",
        '{"kind": "other", "version": 2, "state": {}}',
        '{"kind": "feedback", "version": 1, "state": {}}',
        '{"kind": "feedback", "version": 2}',
        '{"kind": "feedback", "version": 2, "state": {"marks": {"b": 1}, "remembered": []}}',
        '{"kind": "feedback", "version": 2, "state": {"marks": {"b": {"votes": {"up": -1}, "epoch": 0}}}}',
        '{"kind": "feedback", "version": 2, "state": {"marks": {"b": {"votes": {"up": "1"}, "epoch": 0}}}}',
        '{"kind": "feedback", "version": 2, "state": {"marks": {"b": {"votes": {"sideways": 1}, "epoch": 0}}}}',
        '{"kind": "feedback", "version": 2, "state": {"remembered": ["abc"]}}',
        '{"kind": "feedback", "version": 2, "state": {"remembered": [["e", "t", "thumb", 6, null, null]]}}',
        '{"kind": "feedback", "version": 2, "state": {"remembered": [[1, "t", "thumbs_up", 6, null, null]]}}',
    ],
)
def test_a_cursor_that_cannot_be_read_says_to_reset_it(text):
    with pytest.raises(CursorError, match="reset the sensor's cursor"):
        from_cursor("feedback", 2, text, FeedbackState)


def test_no_cursor_is_the_empty_state_and_a_state_comes_back_whole():
    assert from_cursor("feedback", 2, None, FeedbackState) is from_cursor("feedback", 2, "", FeedbackState) is None
    assert json.loads(to_cursor("feedback", 2, FeedbackState()))["version"] == 2
    state = look(FeedbackState(), [*presses("b1", down=20), press(9, bundle=None, response_id="r")]).state
    assert again(state) == state


@given(st.lists(st.tuples(st.sampled_from(["b1", "b2"]), st.booleans()), max_size=120), st.lists(st.integers(1, 30)))
@settings(max_examples=examples(100))
def test_no_thumb_is_lost_or_counted_twice_however_the_events_are_cut_into_ticks(thumb_list, cuts):
    events = [press(number, down=down, bundle=bundle) for number, (bundle, down) in enumerate(thumb_list)]
    state, fired, position = FeedbackState(), 0, 0
    for size in [*cuts, len(events)]:
        decision = look(state, events[position : position + size])
        state = again(decision.state)
        fired += sum(one.up + one.down for one in decision.fire)
        position += size
    left = look(state, config=ThresholdConfig(minimum_negative=1, minimum_share=0.0))
    waiting = sum(one.up + one.down for one in left.fire)
    ups = {bundle for bundle, _ in thumb_list} - {one.release_bundle for one in left.fire}
    assert fired + waiting + sum(_left_of(left, bundle) for bundle in ups) == len(events)


def _left_of(decision: Decision, bundle: str) -> int:
    """Thumbs-ups alone never fire: what is left of them."""
    total = sum(one.release_bundle == bundle for one in decision.state.remembered)
    return total - decision.state.marks[bundle].votes.total if bundle in decision.state.marks else total


class OneTrace:
    """The life of one trace: its shopper's minds, the forms in which they arrive, and a sensor that looks on."""

    def __init__(self, chance: random.Random, *, stated: bool) -> None:
        self.chance = chance
        self.stated = stated
        self.exists = chance.random() < 0.5
        self.tag: str | None = None
        self.recorded_ms: int | None = None
        self.due: list[PressedThumb] = []
        self.delivered: list[PressedThumb] = []
        self.state = FeedbackState()

    def change_mind(self, at: int, *, down: bool, pressed: bool, tagged: bool) -> None:
        """Say it as an event, which the stream may repeat, as a tag or an assessment, or both."""
        if tagged:
            self.exists = True
            self.tag = "thumbs_down" if down else "thumbs_up"
        if pressed:
            bundle = BUNDLE if self.stated else None
            self.due += [press(1, down=down, at=at, bundle=bundle)] * self.chance.randint(1, 3)

    def pass_time(self) -> None:
        """Deliver some events in any order, let the sensor look, and perhaps record what was delivered."""
        events = [
            self.due.pop(self.chance.randrange(len(self.due))) for _ in range(self.chance.randint(0, len(self.due)))
        ]
        self.tick(events)
        if self.exists and self.delivered and self.chance.random() < 0.5:
            self.record()

    def record(self) -> None:
        newest = max(self.delivered, key=lambda one: one.time_ms)
        self.tag, self.recorded_ms = newest.feedback, newest.time_ms

    def tick(self, events: Sequence[PressedThumb]) -> str:
        self.delivered += events
        trace = TraceVote(trace_id="tr-1", release_bundle=BUNDLE, feedback=self.tag, event_ms=self.recorded_ms)
        decision = look(self.state, events, traces={"tr-1": trace} if self.exists else {})
        self.state = again(decision.state)
        return decision.reason


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=4), st.booleans(), st.integers(0, 2**32))
@settings(max_examples=examples(300))
def test_any_interleaving_of_the_forms_of_a_thumb_is_one_vote_with_the_last_word(minds, as_events, seed):
    """Minds arrive as events and perhaps on the trace as well, or on the trace alone."""
    chance = random.Random(seed)
    trace = OneTrace(chance, stated=chance.random() < 0.5)
    for at, (down, tagged) in enumerate(minds, start=1):
        trace.change_mind(at, down=down, pressed=as_events, tagged=tagged or not as_events)
        for _ in range(chance.randint(0, 3)):
            trace.pass_time()
    trace.exists = True
    trace.tick([*trace.due, *chance.sample(trace.delivered, len(trace.delivered) // 2)])
    expected = f"b1: {int(minds[-1][0])} thumbs-down of 1 ("
    assert expected in trace.tick([])
    if as_events:
        trace.record()
        assert expected in trace.tick(chance.sample(trace.delivered, len(trace.delivered) // 2))
        assert trace.state.remembered == ()
