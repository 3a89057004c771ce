"""Arms of experiments and challengers in the shadow, as an ML engineer compares them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.chatbot.configuration.documents import (
    ExperimentsDocument,
    RoutingDocument,
    ShadowMode,
    parse_document,
)
from mangaassist_assets.chatbot.orchestrator import ChatRequest
from mangaassist_assets.core.intervals import newcombe_difference, wilson_interval
from mangaassist_assets.mining.blame.blame import find_failures
from mangaassist_assets.reporting.experiments import arm_rows, arms_of, shadow_rows
from tests.support.reports import chat_turn
from tests.support.store_chatbot import FixedConfiguration, MemorySink, RuleEndpoint, store_chatbot
from tests.support.turn_frames import turns_frame
from tests.support.turn_reading import read_turns


@pytest.mark.parametrize(
    ("tag", "arms"),
    [
        (None, ()),
        ("", ()),
        ("none", ()),
        ("None", ()),
        ("depth:control", (("depth", "control"),)),
        ("depth:deep,tone:kind", (("depth", "deep"), ("tone", "kind"))),
        ("depth:deep, depth:deep", (("depth", "deep"),)),
        ("treatment", (("(not named)", "treatment"),)),
        (":treatment", (("(not named)", "treatment"),)),
        ("depth:", ()),
        (",,", ()),
        ("a:b:c", (("a", "b:c"),)),
    ],
)
def test_the_tag_says_experiment_and_arm(tag, arms):
    assert arms_of(tag) == arms


@given(st.text(max_size=250))
def test_no_text_in_the_tag_breaks_the_comparison(text):
    rows = arm_rows(turns_frame([chat_turn(1, experiment_id=text)]), set())
    assert len(rows) == len(arms_of(text))


def test_arms_are_counted_with_intervals_and_compared_with_the_control():
    turns = [
        *(chat_turn(n, experiment_id="depth:control", user_key=f"u{n % 10}", user_feedback=None) for n in range(40)),
        *(
            chat_turn(n, experiment_id="depth:deep", user_key=f"v{n}", user_feedback="thumbs_up" if n % 2 else None)
            for n in range(100, 160)
        ),
        chat_turn(900, experiment_id="none"),
    ]
    failed = {turn.trace_id for turn in turns[:10]} | {turn.trace_id for turn in turns[40:43]}
    control, deep = arm_rows(turns_frame(turns), failed)
    rate = wilson_interval(10, 40)
    difference = newcombe_difference(3, 60, 10, 40)
    assert rate is not None
    assert difference is not None
    assert (control["experiment"], control["arm"], control["turns"], control["shoppers"]) == (
        "depth",
        "control",
        40,
        10,
    )
    assert (control["failures"], control["failure_rate"], control["against"]) == (10, 0.25, "")
    assert (control["failure_rate_low"], control["failure_rate_high"]) == (round(rate.low, 4), round(rate.high, 4))
    assert (control["difference"], control["satisfaction"]) == (None, None)
    assert (deep["failures"], deep["against"], deep["difference"]) == (3, "control", -0.2)
    assert (deep["difference_low"], deep["difference_high"]) == (round(difference.low, 4), round(difference.high, 4))
    assert (deep["thumbs_up"], deep["thumbs_down"], deep["satisfaction"]) == (30, 0, 1.0)


def test_a_turn_in_two_experiments_counts_in_both():
    rows = arm_rows(turns_frame([chat_turn(1, experiment_id="depth:deep,tone:kind")]), set())
    assert [(row["experiment"], row["arm"], row["turns"]) for row in rows] == [
        ("depth", "deep", 1),
        ("tone", "kind", 1),
    ]


def test_without_a_control_the_largest_arm_is_compared_with():
    turns = [chat_turn(n, experiment_id="x:a" if n < 5 else "x:b") for n in range(20)]
    assert {row["arm"]: row["against"] for row in arm_rows(turns_frame(turns), set())} == {"a": "b", "b": ""}


def test_no_experiment_is_no_row():
    assert arm_rows(turns_frame([chat_turn(1, experiment_id=None), chat_turn(2, experiment_id="none")]), set()) == []


def test_champion_and_shadow_are_compared_on_the_turns_that_both_answered():
    def turn(number, intent, shadow, expected=None, version="9"):
        return chat_turn(
            number,
            intent=intent,
            intent_model_version="3",
            shadow_intent=shadow,
            shadow_model_version=version,
            expected_intent=expected,
        )

    rows = shadow_rows(
        turns_frame(
            [
                turn(1, "a", "a"),
                turn(2, "a", "b", expected="b"),
                turn(3, "a", "b", expected="a"),
                turn(4, "a", "a", expected="a"),
                turn(5, "a", "b", expected="c"),
                turn(6, "a", None),
                turn(7, None, "a"),
                turn(8, "a", "a", version="10"),
            ]
        )
    )
    assert [(row["champion"], row["shadow"], row["turns"], row["agree"]) for row in rows] == [
        ("3", "10", 1, 1),
        ("3", "9", 5, 2),
    ]
    nine = rows[1]
    assert nine["agreement"] == 0.4
    assert (nine["reviewed"], nine["only_champion_right"], nine["only_shadow_right"], nine["both_right"]) == (
        4,
        1,
        1,
        1,
    )


def test_arms_and_shadow_of_a_chatbot_are_compared_from_its_traces_alone():
    arms = {"control": {"share": 0.5}, "broken": {"share": 0.5, "reranker_endpoint": "reranker-b"}}
    experiments = parse_document(
        "experiments",
        json.dumps({"version": "1", "experiments": {"reranker": {"control": "control", "arms": arms}}}),
    )
    assert isinstance(experiments, ExperimentsDocument)
    routing = RoutingDocument(
        version="r1", shadow_mode=ShadowMode(enabled=True, intent_endpoint="intent-b", deadline_ms=10_000)
    )
    others = {
        "reranker-b": RuleEndpoint("reranker-b", broken="no capacity"),
        "intent-b": RuleEndpoint("intent-b", intents={"book": "return_item"}),
    }
    sink = MemorySink()
    chatbot = store_chatbot(
        sink,
        configuration=FixedConfiguration(routing=routing, experiments=experiments),
        endpoints=others.__getitem__,
    )
    for number in range(60):
        message = "return a book" if number % 3 else "ship it"
        chatbot.answer(
            ChatRequest(
                message=message, session_id=f"s{number}", user_id=f"u{number % 30}", release_bundle="2026.03.24-rc2"
            )
        )
    turns = read_turns(sink.traces).turns
    rows = {
        row["arm"]: row for row in arm_rows(turns_frame(turns), {one.turn.trace_id for one in find_failures(turns)})
    }
    assert set(rows) == {"control", "broken"}
    assert rows["control"]["failures"] == 0
    assert rows["broken"]["failures"] == rows["broken"]["turns"] == 60 - rows["control"]["turns"]
    assert rows["control"]["shoppers"] + rows["broken"]["shoppers"] == 30
    (shadow,) = shadow_rows(turns_frame(turns))
    assert (shadow["turns"], shadow["agree"]) == (60, 40)
