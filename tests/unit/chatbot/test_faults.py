"""Planted faults: each breaks its own stage only, and mining finds the stage by the traces and what people say."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from mangaassist_assets.chatbot.orchestrator import ChatReply
from mangaassist_assets.chatbot.shopper import ShopperBehaviour
from mangaassist_assets.chatbot.simulation import SimulationConfig, simulate, traces_of
from mangaassist_assets.datasets.sources.utterances import Utterance
from mangaassist_assets.mining.blame.blame import find_failures
from mangaassist_assets.tracing.contract.turns import ChatTurn
from tests.support.answer_check import ExtractCheck
from tests.support.chatbot_faults import (
    FailingPart,
    Fault,
    InvertedScores,
    MissingDocuments,
    Overblocking,
    SwappedIntents,
    WrongAnswers,
    touches,
)
from tests.support.planted_faults import (
    BUNDLE,
    DOCUMENTS,
    INTENTS,
    AssessedSink,
    PlantedTraffic,
    drive,
    messages,
    passage,
    share_named,
    truthful_parts,
    without_evidence,
)
from tests.support.reviewers import review_failing
from tests.support.store_chatbot import KEY, MemoryStream

MESSAGES = messages(160)
FAULTS: dict[str, Fault] = {
    "a part times out": FailingPart(part="generator"),
    "harmless messages are refused": Overblocking(patterns=(r"\bhardcover\b", r"\bbox set\b")),
    "intents are swapped": SwappedIntents(swaps={"gift_card": "order_status", "order_status": "gift_card"}),
    "documents are missing": MissingDocuments(documents=frozenset(one for one in DOCUMENTS if one.endswith("-1.md"))),
    "the index is empty": MissingDocuments(),
    "relevance is upside down": InvertedScores(share=0.5),
    "answers are cut off": WrongAnswers(kind="truncated"),
    "answers are about something else": WrongAnswers(kind="off_topic"),
    "answers are empty": WrongAnswers(kind="empty"),
}
NAMED = 0.9


@cache
def traffic(name: str) -> PlantedTraffic:
    return drive(MESSAGES, truthful_parts(MESSAGES), FAULTS[name])


@pytest.mark.parametrize("name", FAULTS)
def test_nine_in_ten_blamed_failures_name_the_planted_stage(name):
    found = traffic(name)
    failures = found.failures()
    named, unknown = share_named(failures, FAULTS[name].stage)
    assert len(failures) >= 15
    assert named >= NAMED
    assert unknown < 0.7


def test_where_every_stage_slips_now_and_then_nine_in_ten_blames_are_right_all_the_same():
    slipping = truthful_parts(MESSAGES, slip=0.08)
    found = drive(MESSAGES, slipping, FAULTS["relevance is upside down"], reviewed=0.6)
    failures = found.failures()
    assert len({failure.blame.stage for failure in failures}) >= 3
    assert found.share_right(failures) >= NAMED


@pytest.mark.parametrize("name", FAULTS)
def test_without_evidence_every_failure_is_unknown(name):
    stripped = find_failures([without_evidence(turn) for turn in traffic(name).turns])
    assert len(stripped) >= 10
    assert {failure.blame.stage for failure in stripped} == {"unknown"}


def test_a_store_without_a_fault_blames_nobody_although_some_shoppers_misjudge_it():
    found = drive(MESSAGES, truthful_parts(MESSAGES), None, behaviour=ShopperBehaviour(feedback_noise=0.2))
    failures = found.failures()
    assert (found.report.failing, len(failures) > 10) == (0, True)
    assert {failure.blame.stage for failure in failures} == {"unknown"}


def test_the_same_messages_are_touched_however_many_threads_drive_them():
    fault = FAULTS["relevance is upside down"]
    alone = drive(MESSAGES[:60], truthful_parts(MESSAGES), fault, threads=1)
    together = drive(MESSAGES[:60], truthful_parts(MESSAGES), fault, threads=4)
    assert alone.failing == together.failing
    assert 10 <= len(alone.failing) <= 50


def test_a_share_is_kept_and_another_seed_touches_other_messages():
    texts = [f"message {number}" for number in range(2_000)]
    first = {text for text in texts if touches(text, share=0.3, seed=1)}
    other = {text for text in texts if touches(text, share=0.3, seed=2)}
    assert 500 <= len(first) <= 700
    assert first != other
    assert not any(touches(text, share=0.0, seed=1) for text in texts)
    assert all(touches(text, share=1.0, seed=1) for text in texts)


def test_swapped_intents_keep_the_confidence_they_had():
    right = drive(MESSAGES[:60], truthful_parts(MESSAGES), None)
    swapped = drive(MESSAGES[:60], truthful_parts(MESSAGES), FAULTS["intents are swapped"])
    before = {turn.trace_id: turn for turn in right.turns}
    changed = [turn for turn in swapped.turns if turn.intent != before[turn.trace_id].intent]
    assert {turn.intent for turn in changed} == {"gift_card", "order_status"}
    assert all(turn.intent_confidence == before[turn.trace_id].intent_confidence for turn in changed)


def test_a_reviewer_says_no_to_the_answer_only_where_all_before_it_was_right():
    def judged(name: str) -> list[bool]:
        return [one.expected_intent == one.intent for one in traffic(name).turns if named_wrong(one)]

    assert len(judged("answers are about something else")) >= 5
    assert all(judged("answers are about something else"))
    assert judged("intents are swapped") == judged("documents are missing") == judged("a part times out") == []


def named_wrong(turn: ChatTurn) -> bool:
    return any((review.name, review.values) == ("correctness", ("false",)) for review in turn.reviews)


def test_a_simulation_that_goes_on_says_nothing_twice():
    fault = FAULTS["answers are about something else"]
    chatbot_parts = fault.plant(truthful_parts(MESSAGES))
    sink = AssessedSink()
    check = ExtractCheck({document: [passage(document)] for document in DOCUMENTS})

    def run(earlier: dict[str, ChatTurn]) -> None:
        chatbot = chatbot_parts.chatbot(sink, pseudonym_key=KEY)
        simulate(
            MESSAGES[:60],
            chatbot,
            MemoryStream(),
            sink,
            release_bundle=BUNDLE,
            config=SimulationConfig(answer_check=check),
            earlier=earlier,
        )
        turns = {turn.trace_id: turn for turn in sink.turns()}
        truths = traces_of(MESSAGES[:60], chatbot, release_bundle=BUNDLE, seed=0)
        review_failing(truths, turns, sink, share=0.5, answer_check=check)

    run({})
    before = sink.turns()
    assert any(named_wrong(turn) for turn in before)
    run({turn.trace_id: turn for turn in before})
    assert sink.turns() == before


def test_each_fault_leaves_its_marks_on_the_trace_and_no_others():
    def count(name: str) -> Counter[str]:
        found: Counter[str] = Counter()
        for turn in traffic(name).turns:
            found["error"] += turn.state == "ERROR"
            found["blocked"] += turn.guardrail_blocked
            found["nothing found"] += not turn.candidates and turn.state == "OK" and not turn.guardrail_blocked
            found["cut off"] += any(one.stop_reason == "max_tokens" for one in turn.generations)
            found["unknown intent"] += turn.intent not in (*INTENTS, None)
        return +found

    assert set(count("a part times out")) == {"error"}
    assert set(count("harmless messages are refused")) == {"blocked"}
    assert set(count("answers are cut off")) == {"cut off"}
    assert count("relevance is upside down") == count("intents are swapped") == Counter()


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("Returns are free.", True),
        ("Returns are free. Refunds take a week!", True),
        ("Author: Rin Synopsis: A road.", True),
        ("Returns are", False),
        ("Returns are free. Refunds take a", False),
        ("Returns are free. The moon is far.", False),
        ("", False),
    ],
)
def test_an_extract_is_right_if_every_sentence_of_it_stands_in_a_document_that_answers(answer, right):
    texts = ["Returns are free. Refunds take a week!", "Author: Rin\nSynopsis: A road."]
    check = ExtractCheck({"returns.md": texts, "moon.md": ["The moon is far."]})
    reply = ChatReply(
        trace_id="tr-1",
        timestamp_ms=0,
        duration_ms=1,
        session_id="s",
        user_key=None,
        state="OK",
        answer=answer,
        intent="return_item",
        used_documents=("returns.md",),
        blocked=False,
    )
    assert check(Utterance(text="returns?", relevant_documents=("returns.md",)), reply) is right
    assert check(Utterance(text="returns?"), reply) is None
