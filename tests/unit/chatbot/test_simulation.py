"""Simulated traffic: what shoppers do, that it repeats, and that no trace gets lost."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from datetime import UTC, datetime

import pytest

from mangaassist_assets.chatbot.shopper import ShopperBehaviour
from mangaassist_assets.chatbot.simulation import (
    LostTracesError,
    SimulationConfig,
    SimulationError,
    SimulationReport,
    simulate,
)
from mangaassist_assets.core.bundles import InvalidBundleError
from mangaassist_assets.datasets.sources.utterances import Utterance
from mangaassist_assets.tracing.contract.turns import ChatTurn
from tests.support.store_chatbot import MemoryReviewer, MemorySink, MemoryStream, RuleEndpoint, store_chatbot
from tests.support.turn_reading import read_turns

BUNDLE = "2026.03.24-rc2"


class Store:
    """A chatbot with everything around it."""

    def __init__(self, *, lose: int = 0, broken: str | None = None) -> None:
        self.sink = MemorySink(lose=lose)
        self.stream = MemoryStream()
        self.reviewer = MemoryReviewer(self.sink)
        endpoint = RuleEndpoint("mangaassist-intent", intents={"return": "return_item"}, broken=broken)
        self.chatbot = store_chatbot(self.sink, intent=endpoint)

    def simulate(self, utterances: list[Utterance], **options) -> SimulationReport:
        rates = {name: options.pop(name) for name in ("feedback_noise",) if name in options}
        run = {name: options.pop(name) for name in ("release_bundle", "earlier", "progress") if name in options}
        config = SimulationConfig(behaviour=ShopperBehaviour(**rates), **options)
        run = {"release_bundle": BUNDLE, "config": config, **run}
        return simulate(utterances, self.chatbot, self.stream, self.reviewer, **run)


def utterances(count: int, **fields) -> list[Utterance]:
    return [
        Utterance(text=f"how do i return book {number}", line_number=number, **{"user_id": f"u{number % 9}", **fields})
        for number in range(count)
    ]


def test_wrong_intents_are_thumbed_down_and_nobody_reviews_them():
    store = Store()
    report = store.simulate(utterances(200, intent="gift_card"), feedback_noise=0.0)
    assert (report.turns, report.failing, report.wrong_intents, report.missing_documents) == (200, 200, 200, 0)
    assert report.thumbs_up == 0
    assert 135 <= report.thumbs_down <= 185
    assert store.reviewer.reviews == {}


def test_missing_documents_fail_a_turn_and_used_ones_do_not():
    report = Store().simulate(utterances(40, relevant_documents=("nowhere.md",)), feedback_noise=0.0)
    assert report.missing_documents == report.failing == 40
    report = Store().simulate(
        utterances(40, relevant_documents=("nowhere.md", "policies/returns.md")), feedback_noise=0.0
    )
    assert report.failing == report.thumbs_down == 0


def test_utterances_without_truth_give_no_signal():
    report = Store().simulate(utterances(100), feedback_noise=0.0)
    assert (report.failing, report.thumbs_down) == (0, 0)
    assert 5 <= report.thumbs_up <= 30


def test_noise_makes_good_turns_look_bad():
    report = Store().simulate(utterances(200, intent="return_item"), feedback_noise=0.5)
    assert report.failing == 0
    assert 45 <= report.thumbs_down <= 115


def test_every_thumb_is_an_event_on_the_stream_and_a_mark_on_the_trace():
    store = Store()
    report = store.simulate(utterances(100, intent="gift_card"))
    assert len(store.stream.events) == report.thumbs_up + report.thumbs_down == len(store.reviewer.feedback)
    traces = {trace.trace_id: trace for trace in store.sink.traces}
    for event in store.stream.events:
        assert store.reviewer.feedback[event.trace_id] == event.feedback
        assert event.release_bundle == BUNDLE
        assert event.session_id == traces[event.trace_id].tags["session_id"]
        assert event.user_key == traces[event.trace_id].user_key
    assert len({event.event_id for event in store.stream.events}) == len(store.stream.events)


@pytest.mark.parametrize("threads", [1, 4])
def test_the_same_seed_repeats_every_decision(threads):
    def decisions(seed: int, **options) -> Counter[tuple[str, str]]:
        store = Store()
        store.simulate(utterances(60, intent="gift_card"), seed=seed, **options)
        messages = {trace.trace_id: str(trace.spans[0].inputs) for trace in store.sink.traces}
        return Counter((messages[trace_id], thumb) for trace_id, thumb in store.reviewer.feedback.items())

    assert decisions(7) == decisions(7, threads=threads, portion=17)
    assert decisions(7) != decisions(8)


def stored_turns(store: Store) -> dict[str, ChatTurn]:
    """What a later process reads back: the traces with the thumbs that made it onto them."""
    turns = read_turns(store.sink.traces).turns
    return {turn.trace_id: replace(turn, user_feedback=store.reviewer.feedback.get(turn.trace_id)) for turn in turns}


def test_a_simulation_that_was_killed_goes_on_and_ends_as_if_it_had_not_been():
    messages = utterances(60, intent="gift_card", session_id="s1")
    whole, halved = Store(), Store()
    expected = whole.simulate(messages, seed=3)
    halved.simulate(messages[:35], seed=3)
    # The last portion's traces were stored, what people said of them was not.
    for trace in halved.sink.traces[20:]:
        halved.reviewer.feedback.pop(trace.trace_id, None)
    halved.stream.events = [event for event in halved.stream.events if event.trace_id in halved.reviewer.feedback]

    report = halved.simulate(messages, seed=3, earlier=stored_turns(halved))

    assert (report.turns, report.already_there) == (60, 35)
    assert len(halved.sink.traces) == 60
    assert {trace.trace_id for trace in halved.sink.traces} == {trace.trace_id for trace in whole.sink.traces}
    assert halved.reviewer.feedback == whole.reviewer.feedback
    assert Counter(event.event_id for event in halved.stream.events) == Counter(
        event.event_id for event in whole.stream.events
    )
    ignored = {"seconds", "already_there"}
    assert {k: v for k, v in asdict(report).items() if k not in ignored} == {
        k: v for k, v in asdict(expected).items() if k not in ignored
    }


def test_a_turn_driven_again_under_its_trace_id_replaces_its_spans():
    store = Store()
    store.simulate(utterances(3))
    store.simulate(utterances(3))
    first, second = store.sink.traces[:3], store.sink.traces[3:]
    assert {one.trace_id: [span.span_id for span in one.spans] for one in first} == {
        one.trace_id: [span.span_id for span in one.spans] for one in second
    }
    store.simulate(utterances(3), seed=1)
    assert not {one.trace_id for one in store.sink.traces[6:]} & {one.trace_id for one in first}


def test_replayed_messages_keep_their_time_and_thumbs_come_after_them():
    store = Store()
    moment = datetime(2026, 3, 24, 12, 0, tzinfo=UTC)
    store.simulate(utterances(30, intent="gift_card", timestamp=moment))
    assert {trace.timestamp_ms for trace in store.sink.traces} == {int(moment.timestamp() * 1000)}
    assert all("2026-03-24T12:00:03" <= event.timestamp < "2026-03-24T12:01:01" for event in store.stream.events)


def test_messages_without_a_session_get_one_each():
    store = Store()
    store.simulate(utterances(30))
    assert len({trace.tags["session_id"] for trace in store.sink.traces}) == 30


def test_a_lost_trace_is_an_error_with_numbers():
    with pytest.raises(LostTracesError, match=r"3 of 30 traces of bundle 2026\.03\.24-rc2 .* for example tr-"):
        Store(lose=10).simulate(utterances(30))


def test_a_simulation_in_which_every_turn_fails_says_why():
    store = Store(broken="endpoint mangaassist-intent: could not be reached")
    with pytest.raises(SimulationError, match=r"all 12 turns .* could not be reached"):
        store.simulate(utterances(12))
    assert len(store.sink.traces) == 12


def test_progress_is_told_by_portions():
    told: list[tuple[int, int]] = []
    Store().simulate(utterances(25), portion=10, progress=lambda done, total: told.append((done, total)))
    assert told == [(10, 25), (20, 25), (25, 25)]


def test_nothing_to_simulate_is_a_report_of_nothing():
    report = Store().simulate([])
    assert (report.turns, report.traces_stored) == (0, 0)
    assert asdict(report)["release_bundle"] == BUNDLE


def test_a_wrong_bundle_is_refused_before_anything_is_driven():
    store = Store()
    with pytest.raises(InvalidBundleError):
        store.simulate(utterances(2), release_bundle="no/bundle")
    assert store.sink.traces == []


@pytest.mark.parametrize("name", ["feedback_noise", "thumbs_up_rate", "thumbs_down_rate"])
def test_rates_are_probabilities(name):
    with pytest.raises(ValueError, match=name):
        ShopperBehaviour(**{name: 1.5})


def test_thumbs_that_are_published_only_leave_the_traces_alone():
    published, put = Store(), Store()
    put.simulate(utterances(60, intent="gift_card"), seed=3)
    report = published.simulate(utterances(60, intent="gift_card"), seed=3, thumbs_on_traces=False)
    assert published.reviewer.feedback == {}
    assert {event.event_id: event.feedback for event in published.stream.events} == {
        f"fb-{trace_id}": feedback for trace_id, feedback in put.reviewer.feedback.items()
    }
    assert report.thumbs_up + report.thumbs_down == len(published.stream.events)
