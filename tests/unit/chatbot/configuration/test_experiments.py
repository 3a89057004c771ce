"""Experiments: who is in which arm, and that the arm is what the turn runs with."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.chatbot.configuration.documents import (
    ExperimentsDocument,
    GuardrailsDocument,
    PromptsDocument,
    RoutingDocument,
    parse_document,
)
from mangaassist_assets.chatbot.configuration.experiments import TurnConfigurations, arm_of
from mangaassist_assets.chatbot.orchestrator import ChatRequest
from mangaassist_assets.tracing.contract.turns import ChatTurn
from tests.support.store_chatbot import FixedConfiguration, MemorySink, RuleEndpoint, store_chatbot
from tests.support.turn_reading import parse_turn

UNITS = [f"shopper {number}" for number in range(4_000)]
HALF = {"share": 0.5}
PINNED = "ccoocttcoccccctccocccccc"
names = st.from_regex(r"[a-z][a-z0-9._-]{0,11}", fullmatch=True)


@st.composite
def splits(draw, *, arms: int = 5) -> dict[str, float]:
    chosen = draw(st.lists(names, min_size=2, max_size=arms, unique=True))
    weights = draw(st.lists(st.integers(1, 20), min_size=len(chosen), max_size=len(chosen)))
    return {name: weight / sum(weights) for name, weight in zip(chosen, weights, strict=True)}


def experiments(**definitions: dict[str, object]) -> ExperimentsDocument:
    content = {"version": "e1", "experiments": definitions}
    document = parse_document("experiments", json.dumps(content))
    assert isinstance(document, ExperimentsDocument)
    return document


def everybody(**arm: object) -> dict[str, object]:
    """An experiment that puts everybody into the arm `new`."""
    return {"control": "old", "arms": {"old": {"share": 0.0}, "new": {"share": 1.0, **arm}}}


def turn_under(document: ExperimentsDocument, *, endpoints=None, **documents) -> ChatTurn:
    sink = MemorySink()
    chatbot = store_chatbot(
        sink, configuration=FixedConfiguration(experiments=document, **documents), endpoints=endpoints
    )
    chatbot.answer(
        ChatRequest(message="how do i return a book?", session_id="s-1", user_id="u", release_bundle="2026.03.24-rc2")
    )
    turn = parse_turn(sink.traces[0])
    assert isinstance(turn, ChatTurn)
    return turn


class TestAssignment:
    """The arm of a unit."""

    @settings(deadline=None, max_examples=25)
    @given(name=names, shares=splits())
    def test_arms_get_their_shares(self, name, shares):
        counts = Counter(arm_of(name, shares, unit) for unit in UNITS)
        for arm, share in shares.items():
            deviation = math.sqrt(share * (1 - share) / len(UNITS))
            assert abs(counts[arm] / len(UNITS) - share) <= 5 * deviation + 1e-9

    @given(name=names, shares=splits(), unit=st.text(max_size=20))
    def test_an_arm_is_for_ever_and_no_matter_of_order(self, name, shares, unit):
        assert arm_of(name, shares, unit) == arm_of(name, dict(reversed(shares.items())), unit)

    def test_assignments_never_change_from_one_version_of_the_code_to_the_next(self):
        shares = {"control": 0.5, "treatment": 0.3, "other": 0.2}
        assert [arm_of("depth", shares, unit)[0] for unit in UNITS[:24]] == list(PINNED)

    @settings(deadline=None, max_examples=25)
    @given(name=names, shares=splits(), other=names)
    def test_two_experiments_draw_independently(self, name, shares, other):
        if name == other:
            return
        ours = [arm_of(name, shares, unit) for unit in UNITS]
        theirs = [arm_of(other, {"x": 0.5, "y": 0.5}, unit) for unit in UNITS]
        for arm, share in shares.items():
            members = [one for one, mine in zip(theirs, ours, strict=True) if mine == arm]
            if len(members) > 50:
                assert abs(members.count("x") / len(members) - 0.5) <= 5 * 0.5 / math.sqrt(len(members)), share

    @settings(deadline=None, max_examples=25)
    @given(name=names, share=st.floats(0.05, 0.5), more=st.floats(0.01, 0.4))
    def test_a_growing_arm_keeps_all_it_had(self, name, share, more):
        before = {unit: arm_of(name, {"a": share, "b": 1 - share}, unit) for unit in UNITS}
        after = {unit: arm_of(name, {"a": share + more, "b": 1 - share - more}, unit) for unit in UNITS}
        assert all(after[unit] == "a" for unit in UNITS if before[unit] == "a")

    def test_changing_or_adding_an_experiment_moves_nobody_in_another(self):
        before = FixedConfiguration(experiments=experiments(one={"control": "a", "arms": {"a": HALF, "b": HALF}}))
        after = FixedConfiguration(
            experiments=experiments(
                one={"control": "a", "arms": {"a": HALF, "b": HALF}},
                two={"control": "x", "arms": {"x": {"share": 0.1}, "y": {"share": 0.9}}},
            )
        )
        for number in range(300):
            ids = [
                TurnConfigurations(one).of(one.prompts(), user_key=f"u{number}", session_id="s").experiment_id
                for one in (before, after)
            ]
            assert ids[1].split(",")[0] == ids[0]

    def test_a_shopper_keeps_the_arm_over_sessions_and_an_unknown_one_over_a_session(self):
        configuration = FixedConfiguration(
            experiments=experiments(one={"control": "a", "arms": {"a": HALF, "b": HALF}})
        )
        turns = TurnConfigurations(configuration)

        def arms(user_key, sessions):
            return {
                turns.of(configuration.prompts(), user_key=user_key, session_id=session).experiment_id
                for session in sessions
            }

        sessions = [f"s{number}" for number in range(50)]
        assert all(len(arms(f"u{number}", sessions)) == 1 for number in range(20))
        assert arms(None, sessions) == {"one:a", "one:b"}
        assert all(len(arms(None, [session] * 3)) == 1 for session in sessions)

    def test_an_experiment_by_session_gives_a_shopper_both_arms(self):
        definition = {"control": "a", "assign_by": "session", "arms": {"a": HALF, "b": HALF}}
        configuration = FixedConfiguration(experiments=experiments(one=definition))
        turns = TurnConfigurations(configuration)
        found = {
            turns.of(configuration.prompts(), user_key="u", session_id=f"s{number}").experiment_id
            for number in range(50)
        }
        assert found == {"one:a", "one:b"}


class TestTurn:
    """An arm's overrides are what the turn runs with, and what its trace says."""

    def test_without_an_experiment_a_turn_has_none(self):
        disabled = everybody(routing={"version": "r-new"}) | {"enabled": False}
        for document in (experiments(), experiments(depth=disabled)):
            turn = turn_under(document)
            assert (turn.experiment_id, turn.routing_policy_version) == (None, "r1")

    def test_a_turn_that_fails_before_the_configuration_is_there_is_in_no_experiment(self):
        class Unreachable(FixedConfiguration):
            def prompts(self) -> PromptsDocument:
                from mangaassist_assets.chatbot.parts import StageError

                raise StageError("no prompts configuration can be read")

        sink = MemorySink()
        store_chatbot(sink, configuration=Unreachable(experiments=experiments(depth=everybody()))).answer(
            ChatRequest(message="hi", session_id="s", release_bundle="b")
        )
        assert sink.traces[0].tags["experiment_id"] == "none"

    def test_a_routing_arm_selects_as_it_says(self):
        turn = turn_under(experiments(depth=everybody(routing={"version": "r-deep", "selected_chunks": 4})))
        assert (turn.experiment_id, turn.routing_policy_version) == ("depth:new", "r-deep")
        assert sum(one.selected for one in turn.candidates) == 4

    def test_a_prompt_arm_is_what_the_generator_gets(self):
        asked = []

        class Listening:
            def generate(self, request):
                from mangaassist_assets.chatbot.generation import ExtractiveGenerator

                asked.append(request)
                return ExtractiveGenerator().generate(request)

        sink = MemorySink()
        document = experiments(tone=everybody(prompts={"version": "p-kind", "system": "Be kind."}))
        store_chatbot(sink, configuration=FixedConfiguration(experiments=document), generator=Listening()).answer(
            ChatRequest(message="how do i return a book?", session_id="s", release_bundle="b")
        )
        assert asked[0].system == "Be kind."
        assert asked[0].user.startswith("Passages:")
        assert sink.traces[0].tags["prompt_version"] == "p-kind"

    def test_a_fallback_of_an_arm_is_what_a_failed_turn_says(self):
        document = experiments(tone=everybody(prompts={"version": "p-kind", "fallback": "So sorry."}))
        sink = MemorySink()
        broken = RuleEndpoint("mangaassist-intent", intents={}, broken="gone")
        reply = store_chatbot(sink, intent=broken, configuration=FixedConfiguration(experiments=document)).answer(
            ChatRequest(message="hi", session_id="s", release_bundle="b")
        )
        assert (reply.state, reply.answer) == ("ERROR", "So sorry.")
        assert sink.traces[0].tags["experiment_id"] == "tone:new"

    def test_a_guardrail_arm_blocks_as_it_says(self):
        turn = turn_under(
            experiments(strict=everybody(guardrails={"version": "g-strict", "blocked_patterns": ["book"]}))
        )
        assert turn.guardrail_blocked
        assert turn.guardrail_ruleset_version == "g-strict"

    def test_endpoint_arms_answer_in_place_of_the_champions(self):
        others = {
            "intent-b": RuleEndpoint("intent-b", intents={"return": "refund"}),
            "reranker-b": RuleEndpoint("reranker-b"),
        }
        document = experiments(models=everybody(intent_endpoint="intent-b", reranker_endpoint="reranker-b"))
        turn = turn_under(document, endpoints=others.__getitem__)
        assert (turn.intent, turn.experiment_id) == ("refund", "models:new")
        assert [len(one.requests) for one in others.values()] == [1, 1]

    def test_an_endpoint_of_an_arm_that_is_not_there_is_an_error_of_that_arm(self):
        turn = turn_under(experiments(models=everybody(intent_endpoint="intent-b")))
        assert (turn.state, turn.experiment_id) == ("ERROR", "models:new")

    def test_several_experiments_apply_together_and_are_all_named(self):
        document = experiments(
            tone=everybody(prompts={"version": "p-kind"}), depth=everybody(routing={"version": "r-deep"})
        )
        turn = turn_under(document)
        assert turn.experiment_id == "depth:new,tone:new"
        assert (turn.prompt_version, turn.routing_policy_version) == ("p-kind", "r-deep")

    def test_an_arm_that_does_not_fit_the_documents_in_force_stops_its_experiment_for_all(self, caplog):
        document = experiments(
            depth={
                "control": "old",
                "arms": {"old": HALF, "deep": HALF | {"routing": {"version": "r-deep", "selected_chunks": 20}}},
            },
            tone=everybody(prompts={"version": "p-kind"}),
        )
        for number in range(10):
            configuration = FixedConfiguration(
                routing=RoutingDocument(version="r1", rerank_candidates=8), experiments=document
            )
            turns = TurnConfigurations(configuration)
            turn = turns.of(configuration.prompts(), user_key=f"u{number}", session_id="s")
            assert turn.experiment_id == "tone:new"
        assert "experiments.depth.arms.deep.routing: selected_chunks (20) must not exceed" in caplog.text

    def test_a_document_that_changes_is_taken_up_with_the_next_turn(self):
        configuration = FixedConfiguration(
            guardrails=GuardrailsDocument(version="g1"),
            experiments=experiments(depth=everybody(routing={"version": "r-deep", "selected_chunks": 3})),
        )
        turns = TurnConfigurations(configuration)
        assert turns.of(configuration.prompts(), user_key="u", session_id="s").routing.vector_candidates == 20
        configuration._routing = RoutingDocument(version="r2", vector_candidates=5)
        routing = turns.of(configuration.prompts(), user_key="u", session_id="s").routing
        assert (routing.vector_candidates, routing.selected_chunks) == (5, 3)


@pytest.mark.parametrize("count", [1, 3])
def test_the_tag_of_as_many_experiments_as_can_run_fits_into_a_tag(count):
    document = experiments(
        **{
            f"{number}" * 40: {"control": "a" * 40, "arms": {"a" * 40: {"share": 1.0}, "b" * 40: {"share": 0.0}}}
            for number in range(count)
        }
    )
    turn = turn_under(document)
    assert turn.experiment_id == ",".join(f"{str(number) * 40}:{'a' * 40}" for number in range(count))
    assert len(turn.experiment_id) <= 250
