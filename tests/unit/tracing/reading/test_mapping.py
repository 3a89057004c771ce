"""Where facts are found is a file: laid over the packaged one, checked, and never a reason to lose a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.tracing.contract.records import SpanRecord, TraceRecord
from mangaassist_assets.tracing.contract.turns import ChatTurn, Verdict
from mangaassist_assets.tracing.reading.mapping import MAPPING_VARIABLE, TraceMapping, TraceMappingError, read_mapping
from mangaassist_assets.tracing.reading.turn_reader import TraceReading, identifying_tags, read_trace
from resources.settings.trace_mapping import TraceMappingResource
from tests.support.examples import examples

BUNDLE = "2026.03.24-rc2"
KEY = b"k" * 32


def span(name: str, *, number: int = 1, parent: int | None = 1, **more: Any) -> SpanRecord:
    fields = {"start_ns": number * 1_000, "end_ns": number * 1_000 + 500, **more}
    return SpanRecord(
        span_id=f"{number:016x}", parent_id=None if parent is None else f"{parent:016x}", name=name, **fields
    )


def root(name: str = "handle_message", **more: Any) -> SpanRecord:
    return span(name, parent=None, **{"inputs": {"message": "hi"}, "outputs": "hello", **more})


def trace(*spans: SpanRecord, **more: Any) -> TraceRecord:
    fields: dict[str, Any] = {"tags": {"session_id": "s1", "release_bundle": BUNDLE}, "state": "OK", **more}
    return TraceRecord(trace_id=f"tr-{1:032x}", timestamp_ms=1, duration_ms=1, spans=spans, **fields)


def mapping(folder: Path, text: str) -> TraceMapping:
    path = folder / "own.toml"
    path.write_text(f"schema = 1\n{text}", encoding="utf-8")
    return read_mapping(path)


def turn_of(record: TraceRecord, where: TraceMapping | None = None) -> ChatTurn:
    outcome = reading_of(record, where).outcome
    assert isinstance(outcome, ChatTurn), outcome
    return outcome


def reading_of(record: TraceRecord, where: TraceMapping | None = None) -> TraceReading:
    return read_trace(record, mapping=where, pseudonym_key=KEY)


@pytest.mark.parametrize("name", ["chat_turn", "handle_message", "LangGraph", "", "x" * 300])
def test_the_root_may_have_any_name(name):
    turn = turn_of(trace(root(name)))
    assert (turn.message, turn.answer) == ("hi", "hello")
    assert "chat_turn" in {stage.name for stage in turn.stages}


@pytest.mark.parametrize(
    "outputs",
    [
        "hello",
        '"hello"',
        {"answer": "hello"},
        {"response": {"text": "hello"}},
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": [{"text": "hello"}]}]},
        {"messages": [{"type": "human", "content": "hi"}, {"type": "ai", "content": "hello"}]},
        [{"type": "text", "text": "hello"}],
    ],
)
def test_an_answer_is_a_text_or_an_object_that_holds_one(outputs):
    assert turn_of(trace(root(outputs=outputs))).answer == "hello"


@pytest.mark.parametrize(
    "inputs",
    [
        {"message": "hi"},
        {"message": [{"type": "text", "text": "hi"}]},
        {"message": {"role": "user", "content": [{"text": "hi"}]}},
        {"messages": [{"role": "user", "content": "old"}, {"role": "user", "content": "hi"}]},
        {"messages": '[{"role": "user", "content": "hi"}]'},
        {"question": "hi", "session": "s1"},
        '{"message": "hi"}',
        "hi",
    ],
)
def test_a_message_is_a_text_content_blocks_or_the_last_that_the_user_said(inputs):
    assert turn_of(trace(root(inputs=inputs))).message == "hi"


def test_a_message_that_looks_like_json_stays_what_the_shopper_wrote():
    assert turn_of(trace(root(inputs={"message": '{"a": 1}'}))).message == '{"a": 1}'
    assert turn_of(trace(root(inputs={"message": "[1] is sold out?"}))).message == "[1] is sold out?"


def test_tags_with_json_in_them_are_read_as_what_they_hold():
    tags = {"session_id": '"s1"', "release_bundle": f'"{BUNDLE}"', "tenant": '{"name": "berlin"}', "cache_hit": "None"}
    reading = reading_of(trace(root(), tags=tags))
    assert isinstance(reading.outcome, ChatTurn)
    assert (reading.outcome.session_id, reading.outcome.release_bundle) == ("s1", BUNDLE)
    assert (reading.outcome.tenant, reading.outcome.cache_hit) == (None, False)
    assert "tenant: tags/tenant is an object, not a name" in reading.problems


def test_a_file_of_ones_own_is_looked_at_before_the_packaged_one_and_keeps_the_rest(tmp_path):
    own = mapping(
        tmp_path,
        """
        [stages]
        intent_classification = ["classify*"]
        [turn]
        session_id = ["tags/conv"]
        intent_confidence = ["intent_classification.outputs/top/0/p"]
        """,
    )
    found = trace(
        root(),
        span("classify_intent", number=2, outputs={"intent": "order", "top": [{"p": 0.5}]}),
        tags={"conv": "mine", "session_id": "other", "release_bundle": BUNDLE},
    )
    turn = turn_of(found, own)
    assert (turn.session_id, turn.intent, turn.intent_confidence) == ("mine", "order", 0.5)
    assert turn_of(found).session_id == "other"
    assert turn_of(found).intent is None
    assert own.digest != read_mapping().digest


def test_a_span_name_that_ones_own_file_gives_to_a_stage_is_no_other_stages(tmp_path):
    own = mapping(tmp_path, '[stages]\nretrieve_chunks = ["vector_search"]\n')
    names = [stage.name for stage in turn_of(trace(root(), span("vector_search", number=2)), own).stages]
    assert names == ["chat_turn", "retrieve_chunks"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[turn]\nmessage = []", "turn.message names no place"),
        ('[turn]\nmesage = ["tags/x"]', "turn.mesage is unknown"),
        ('[turns]\nmessage = ["tags/x"]', "turns is unknown"),
        ('[turn]\nmessage = ["tag/x"]', "turn.message 'tag/x' is no place"),
        ('[turn]\nmessage = ["tags"]', "names no key"),
        ('[turn]\nmessage = ["nowhere.inputs/x"]', "names no stage"),
        ('[turn]\nmessage = ["root.attributes"]', "names no attribute"),
        ('[turn]\nmessage = ["root.inputs//x"]', "has an empty key"),
        ('[turn]\nmessage = ["span.inputs/x"]', "no span at hand"),
        ('[turn]\nmessage = "tags/x"', "is not a list of texts"),
        ('[stages]\nembed_query = ["e"]\nvector_search = ["e"]', "names 'e', which stages.embed_query has already"),
        ('[stages]\n"Vector Search" = ["e"]', "is no name"),
        ("[turn]\nmessage = [", "is not TOML"),
    ],
)
def test_a_mapping_that_cannot_be_used_names_the_file_the_key_and_what_is_wrong(tmp_path, text, error):
    with pytest.raises(TraceMappingError, match=r"own\.toml") as raised:
        mapping(tmp_path, text)
    assert error in str(raised.value)


def test_another_schema_or_no_file_is_an_error_by_name(tmp_path):
    (tmp_path / "old.toml").write_text("schema = 7", encoding="utf-8")
    with pytest.raises(TraceMappingError, match="schema is 7"):
        read_mapping(tmp_path / "old.toml")
    with pytest.raises(TraceMappingError, match="cannot be read"):
        read_mapping(tmp_path / "missing.toml")


def test_the_resource_takes_its_path_or_the_variable(tmp_path, monkeypatch):
    own = mapping(tmp_path, '[turn]\nsession_id = ["tags/conv"]')
    monkeypatch.delenv(MAPPING_VARIABLE, raising=False)
    assert TraceMappingResource().mapping().digest == read_mapping().digest
    monkeypatch.setenv(MAPPING_VARIABLE, str(tmp_path / "own.toml"))
    assert TraceMappingResource().mapping().digest == own.digest


def test_a_place_with_two_different_values_is_told_and_the_first_counts():
    spans = [span("work", number=n, attributes={"session.id": f"s{n}"}) for n in (2, 3)]
    reading = reading_of(trace(root(), *spans, tags={"release_bundle": BUNDLE}))
    assert isinstance(reading.outcome, ChatTurn)
    assert reading.outcome.session_id == "s2"
    assert "session_id: any.attributes/session.id holds 2 different values; the first counts" in reading.problems


def test_a_span_that_two_stages_match_is_told_and_the_first_stage_has_it(tmp_path):
    own = mapping(tmp_path, '[stages]\nembed_query = ["*find*"]\nvector_search = ["*chunks_find*"]')
    reading = reading_of(trace(root(), span("all_chunks_find", number=2)), own)
    assert isinstance(reading.outcome, ChatTurn)
    assert "embed_query" in reading.spans
    assert any("embed_query and of vector_search" in problem for problem in reading.problems)


def test_spans_that_are_each_others_parents_are_told_and_the_turn_is_kept():
    first = span("one", number=1, parent=2, inputs={"message": "hi"})
    reading = reading_of(trace(first, span("two", number=2, parent=1)))
    assert isinstance(reading.outcome, ChatTurn)
    assert reading.outcome.message == "hi"
    assert any("form a cycle" in problem for problem in reading.problems)


def test_a_parent_that_is_not_in_the_trace_makes_a_root():
    turn = turn_of(trace(span("handle", number=2, parent=99, inputs={"message": "hi"})))
    assert turn.message == "hi"


@pytest.mark.parametrize(
    ("attributes", "blocked"),
    [
        ({"blocked": "true"}, True),
        ({"blocked": "False"}, False),
        ({"blocked": 1}, True),
        ({"action": "GUARDRAIL_INTERVENED"}, True),
        ({"action": "NONE"}, False),
        ({"action": "BLOCKED", "topics_blocked": 2}, True),
    ],
)
def test_guardrails_say_it_in_their_own_words(attributes, blocked):
    turn = turn_of(trace(root(), span("guardrails", number=2, attributes=attributes)))
    assert turn.guardrail_blocked is blocked


def test_counters_and_verdicts_of_guardrails_and_moderators_are_kept():
    turn = turn_of(
        trace(
            root(),
            span("guardrails", number=2, attributes={"blocked": False, "pii_masked": 2, "action": "NONE"}),
            span("comprehend.moderation", number=3, attributes={"toxicity": 0.93, "prompt_safety": "Unsafe"}),
            tags={"session_id": "s1", "release_bundle": BUNDLE, "pii": "PHONE"},
        )
    )
    assert set(turn.verdicts) >= {
        Verdict(name="pii_masked", score=2.0, stage="guardrails"),
        Verdict(name="toxicity", score=0.93, stage="guardrails"),
        Verdict(name="prompt_safety", text="unsafe", stage="guardrails"),
        Verdict(name="pii", text="phone"),
    }


def test_a_verdict_that_quotes_the_shopper_is_none():
    said = {"toxicity": "jane.doe@example.com", "pii": "call me at 090-1234-5678 please, or write to my address"}
    turn = turn_of(trace(root(), span("guardrails", number=2, attributes=said)))
    assert turn.verdicts == ()


def test_searches_that_tell_only_ids_give_an_order_and_the_rerankers_counts():
    turn = turn_of(
        trace(
            root(),
            span("retrieve_chunks", number=2, attributes={"candidate_count": 3, "selected_chunk_ids": ["c2"]}),
            span("vector_search", number=3, attributes={"top_chunk_ids": ["c1", "c2"], "chunk_count": 2}),
            span("keyword_search", number=4, attributes={"top_chunk_ids": '["c2", "c3"]'}),
            span("rerank_chunks", number=5, attributes={"top_chunk_ids": ["c2", "c1"], "source_types": ["faq"]}),
        )
    )
    assert [(one.chunk_id, one.retrieval_rank, one.rerank_rank, one.selected) for one in turn.candidates] == [
        ("c1", 1, 2, False),
        ("c2", 2, 1, True),
        ("c3", 3, None, False),
    ]
    assert all(one.retrieval_score is None for one in turn.candidates)
    assert turn.candidate_count == 3
    assert {stage.name: (stage.chunk_count, stage.source_types) for stage in turn.stages}["rerank_chunks"][1] == (
        "faq",
    )


@pytest.mark.parametrize(
    ("attributes", "count"), [({}, None), ({"candidate_count": 0}, 0), ({"chunk_ids": []}, 0), ({"chunk_count": 4}, 4)]
)
def test_how_many_chunks_were_found_is_told_or_not_known(attributes, count):
    assert turn_of(trace(root(), span("retrieve_chunks", number=2, attributes=attributes))).candidate_count == count


def test_stages_of_no_contract_are_in_the_latency_under_their_own_names():
    turn = turn_of(
        trace(
            root(),
            span("load_profile_20261130", number=2),
            span(
                "invoke_sentiment_endpoint", number=3, attributes={"endpoint_name": "sentiment-1", "sentiment": "NEG"}
            ),
            span("deep", number=4, parent=2),
            span("jane.doe@example.com", number=5),
        )
    )
    assert [stage.name for stage in turn.stages] == ["chat_turn", "load_profile_#", "sentiment_analysis", "other"]
    assert turn.stages[2].endpoint_name == "sentiment-1"
    assert Verdict(name="sentiment", text="neg", stage="sentiment_analysis") in turn.verdicts


@pytest.mark.parametrize(
    ("more", "keys"),
    [
        ({"inputs": {"endpoint_name": "e", "text": "hi"}}, ("text",)),
        ({"inputs": {"payload": {"inputs": ["hi"], "parameters": {}}}}, ("inputs", "parameters")),
        ({"attributes": {"payload_keys": ["text"]}}, ("text",)),
        ({"inputs": {"endpoint_name": "e"}}, ()),
    ],
)
def test_what_production_sends_to_the_intent_endpoint_is_read_where_the_trace_tells(more, keys):
    assert turn_of(trace(root(), span("intent_classification", number=2, **more))).stages[-1].request_keys == keys


def test_a_tool_call_has_name_arguments_outcome_and_error():
    good = span("look_up", number=2, span_type="TOOL", inputs={"order": "x@example.com"}, outputs={"result": "shipped"})
    bad = span(
        "tool_call", number=3, attributes={"tool_name": "refund"}, status="ERROR", status_message="no such order"
    )
    turn = turn_of(trace(root(), good, bad))
    assert [(one.name, one.failed, one.error) for one in turn.tools] == [
        ("look_up", False, None),
        ("refund", True, "no such order"),
    ]
    assert turn.tools[0].result == "shipped"
    assert str(turn.tools[0].arguments).startswith('{"order": "[EMAIL_')


def test_a_session_that_is_an_e_mail_becomes_a_pseudonym_and_stays_the_same():
    tags = {"session_id": "jane.doe@example.com", "release_bundle": BUNDLE}
    first, second = (turn_of(trace(root(), tags=tags)).session_id for _ in range(2))
    assert first == second
    assert first.startswith("s-")
    assert "jane" not in first


def test_identifying_tags_are_found_where_a_collector_puts_them():
    said = {
        "traceloop.association.properties.session_id": "s9",
        "traceloop.association.properties.release_bundle": BUNDLE,
    }
    assert identifying_tags(trace(span("w", parent=None, attributes=said), tags={})) == {
        "release_bundle": BUNDLE,
        "session_id": "s9",
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from([
    "confidence", "blocked", "action", "candidate_ids", "top_chunk_ids", "scores", "endpoint_name", "payload", "pii",
    "input_tokens", "stop_reason", "tool_arguments", "chunk_count", "filters", "source_types", "text", "result",
])  # fmt: skip
NAMES = st.sampled_from([
    "intent_classification", "retrieve_chunks", "rerank_chunks", "bedrock_generate", "guardrails", "tool_call",
    "vector_search", "anything",
])  # fmt: skip
TAGS = st.sampled_from(["cache_hit", "intent", "tenant", "user_feedback", "team_id"])


@settings(max_examples=examples(200), deadline=None)
@given(
    st.lists(st.tuples(NAMES, st.dictionaries(KEYS, JSON, max_size=4), JSON, JSON, st.integers(1, 4)), max_size=5),
    st.dictionaries(TAGS, st.text(max_size=9)),
)
def test_whatever_the_parts_are_a_trace_with_bundle_session_and_message_is_a_turn(parts, tags):
    spans = [
        span(name, number=number + 2, parent=parent, attributes=attributes, inputs=inputs, outputs=outputs)
        for number, (name, attributes, inputs, outputs, parent) in enumerate(parts)
    ]
    tags = {**tags, "session_id": "s1", "release_bundle": BUNDLE}
    turn = turn_of(trace(root(), *spans, tags=tags))
    assert (turn.message, turn.session_id, turn.release_bundle) == ("hi", "s1", BUNDLE)
