"""What a LiteLLM proxy writes, on spans of any name and on the tags of the trace, read under the contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mangaassist_assets.tracing.contract.records import SpanEvent, SpanRecord, TraceRecord
from mangaassist_assets.tracing.contract.turns import ChatTurn
from mangaassist_assets.tracing.importing.imported_trace import to_record
from mangaassist_assets.tracing.importing.parsing import Part, read_parts
from mangaassist_assets.tracing.reading.turn_reader import read_trace
from tests.support.mined_turns import blame_turn, find_signals

NOVA = "amazon.nova-lite-v1:0"
ASKED = {"messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "is volume 7 sold out?"}]}
ANSWERED = {
    "choices": [{"message": {"role": "assistant", "content": "Three are left."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 40, "completion_tokens": 6, "total_tokens": 46},
}
PROXY = {"request_id": "req-41", "team_id": "osaka", "model": NOVA, "cache_hit": "None", "status": "success"}


def span(name: str, number: int = 1, **more: Any) -> SpanRecord:
    fields: dict[str, Any] = {"parent_id": None, "start_ns": number * 1_000, "end_ns": number * 1_000 + 500, **more}
    return SpanRecord(span_id=f"{number:016x}", name=name, **fields)


def trace(*spans: SpanRecord, tags: dict[str, str] | None = None, **more: Any) -> TraceRecord:
    named = {"session_id": "s-1", "release_bundle": "2026.05.01-rc1", **(tags or {})}
    fields: dict[str, Any] = {"state": "OK", "timestamp_ms": 1, "duration_ms": 1, **more}
    return TraceRecord(trace_id=f"tr-{1:032x}", spans=spans, tags=named, **fields)


def turn_of(record: TraceRecord) -> ChatTurn:
    turn = read_trace(record, pseudonym_key=b"k" * 32).outcome
    assert isinstance(turn, ChatTurn), turn
    return turn


def turns_in(file: Path) -> list[ChatTurn]:
    parts = [part for part in read_parts(file) if isinstance(part, Part)]
    return [turn_of(to_record(part.trace)) for part in parts]


def of_tags(**more: Any) -> TraceRecord:
    """Return a trace with the proxy's facts on its tags and a span of another name."""
    tags = {**PROXY, **more.pop("tags", {})}
    attributes = {"cost": 0.002, "latency_ms": 80, "prompt_tokens": 40, "completion_tokens": 6}
    fields = {"attributes": attributes, "inputs": ASKED, "outputs": ANSWERED, **more}
    return trace(span("ask_the_model", **fields), tags={key: value for key, value in tags.items() if value is not None})


def test_a_call_of_any_name_is_read_by_the_proxys_tags_with_answer_tokens_and_cost():
    turn = turn_of(of_tags())
    assert (turn.shape, turn.message, turn.answer) == ("litellm", "is volume 7 sold out?", "Three are left.")
    assert (turn.bedrock_model_id, turn.team, turn.response_id) == (NOVA, "osaka", "req-41")
    (call,) = turn.generations
    assert (call.model_id, call.input_tokens, call.output_tokens, call.stop_reason) == (NOVA, 40, 6, "stop")
    assert call.reported_cost_usd == 0.002


def test_the_tools_that_a_model_asked_for_in_openais_form_are_calls_with_what_came_back():
    def asking(*calls: tuple[str, str, str]) -> dict[str, Any]:
        tools = [{"id": one, "function": {"name": name, "arguments": said}} for one, name, said in calls]
        return {"choices": [{"message": {"role": "assistant", "content": None, "tool_calls": tools}}]}

    asked = {"role": "user", "content": "is volume 7 sold out?"}
    first = asking(("c-1", "stock", '{"volume": 7}'), ("c-2", "price", "{}"))
    stored = {"role": "tool", "tool_call_id": "c-1", "content": "three copies"}
    calls = [
        span("litellm-acompletion", 2, parent_id=f"{1:016x}", inputs={"messages": [asked]}, outputs=first),
        span("litellm-acompletion", 3, parent_id=f"{1:016x}", inputs={"messages": [asked, stored]}, outputs=ANSWERED),
    ]
    turn = turn_of(trace(span("handle", 1), *calls))
    assert [(one.name, one.arguments, one.result, one.outcome) for one in turn.tools] == [
        ("stock", '{"volume": 7}', "three copies", "success"),
        ("price", None, None, "no_result"),
    ]
    assert (turn.message, turn.answer) == ("is volume 7 sold out?", "Three are left.")


def test_a_call_that_is_written_after_it_took_place_took_as_long_as_it_says():
    turn = turn_of(of_tags())
    assert ({stage.name: stage.duration_ms for stage in turn.stages}["bedrock_generate"], turn.duration_ms) == (80, 80)


@pytest.mark.parametrize("said", [-5, "soon", 1e300, None, [80]])
def test_a_latency_that_is_none_changes_nothing(said):
    turn = turn_of(of_tags(attributes={"latency_ms": said}))
    assert turn.duration_ms == 1
    assert {stage.name: stage.duration_ms for stage in turn.stages}["bedrock_generate"] < 1


@pytest.mark.parametrize("left", [("request_id", "status"), ("team_id", "model"), ("model", "cache_hit")])
def test_two_of_the_proxys_tags_are_enough(left):
    turn = turn_of(of_tags(tags={name: None for name in PROXY if name not in left}))
    assert (turn.shape, turn.answer, turn.generations[0].output_tokens) == ("litellm", "Three are left.", 6)


def test_tokens_and_cost_on_the_tags_are_those_of_the_only_call():
    said = {"prompt_tokens": "31", "completion_tokens": "4", "response_cost": "0.125"}
    outputs = {"choices": ANSWERED["choices"]}
    (call,) = turn_of(of_tags(tags=said, attributes={}, outputs=outputs)).generations
    assert (call.input_tokens, call.output_tokens, call.reported_cost_usd) == (31, 4, 0.125)


def test_an_answer_as_plain_text_is_read_from_a_span_of_a_model():
    turn = turn_of(of_tags(outputs="Three are left.", span_type="LLM"))
    assert (turn.shape, turn.answer, turn.generations[0].input_tokens) == ("litellm", "Three are left.", 40)


def test_the_only_span_below_most_of_the_proxys_tags_is_the_call_in_any_form():
    record = of_tags(inputs={"prompt": "is volume 7 sold out?"}, outputs="Three are left.", attributes={})
    turn = turn_of(record)
    assert (turn.shape, turn.message, turn.answer) == ("litellm", "is volume 7 sold out?", "Three are left.")
    assert turn.generations[0].model_id == NOVA
    failed = turn_of(of_tags(inputs="hello", outputs=None, attributes={}, tags={"status": "failure"}))
    assert (failed.state, failed.message, failed.failed_span) == ("ERROR", "hello", "bedrock_generate")


def test_a_span_of_another_tool_is_not_taken_for_the_proxys_because_of_tags():
    asked = {"modelId": NOVA, "messages": [{"role": "user", "content": [{"text": "hello"}]}]}
    said = {"output": {"message": {"content": [{"text": "hi"}]}}, "usage": {"inputTokens": 3, "outputTokens": 1}}
    bedrock = span("BedrockRuntime.converse", inputs=asked, outputs=said, span_type="CHAT_MODEL")
    assert turn_of(trace(bedrock, tags=PROXY)).shape == "bedrock_autolog"


def test_a_stage_of_our_own_is_no_call_because_of_tags():
    root = span("chat_turn", inputs={"message": "hi"}, outputs={"answer": "hello"})
    stage = span("intent_classification", 2, parent_id=root.span_id, attributes={"model": "m", "status": "ok"})
    turn = turn_of(trace(root, stage, tags={"cache_hit": "true", "team_id": "osaka"}))
    assert (turn.shape, turn.answer, turn.generations) == ("mangaassist", "hello", ())


# Which span is the call


def test_an_outer_span_that_tells_nothing_above_the_call_is_no_call():
    outer = span("litellm-proxy-request", attributes={"litellm_call_id": "a", "model": NOVA})
    inner = span("chat", 2, parent_id=outer.span_id, attributes=PROXY, inputs=ASKED, outputs=ANSWERED)
    turn = turn_of(trace(outer, inner))
    assert (turn.message, turn.answer, len(turn.generations)) == ("is volume 7 sold out?", "Three are left.", 1)
    assert turn.generations[0].input_tokens == 40


def test_a_route_that_names_the_model_above_the_conventions_own_span_is_no_call():
    outer = span("POST /chat/completions", attributes={"gen_ai.request.model": NOVA, "http.route": "/chat"})
    told = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": NOVA,
        "gen_ai.usage.input_tokens": 40,
        "gen_ai.usage.output_tokens": 6,
        "gen_ai.input.messages": [{"role": "user", "parts": [{"type": "text", "content": "is volume 7 sold out?"}]}],
        "gen_ai.output.messages": [{"role": "assistant", "parts": [{"type": "text", "content": "Three are left."}]}],
    }
    turn = turn_of(trace(outer, span("litellm_request", 2, parent_id=outer.span_id, attributes=told)))
    assert (turn.message, turn.answer) == ("is volume 7 sold out?", "Three are left.")
    assert [call.input_tokens for call in turn.generations] == [40]


def test_a_span_named_by_litellm_with_messages_of_the_conventions_is_read_by_these():
    told = {
        "gen_ai.request.model": f"bedrock/{NOVA}",
        "gen_ai.prompt.0.role": "user",
        "gen_ai.prompt.0.content": "is volume 7 sold out?",
        "gen_ai.completion.0.content": "Three are left.",
        "gen_ai.usage.prompt_tokens": 40,
        "gen_ai.usage.completion_tokens": 6,
    }
    turn = turn_of(trace(span("litellm-completion", attributes=told)))
    assert (turn.shape, turn.message, turn.answer) == ("otel_genai", "is volume 7 sold out?", "Three are left.")
    assert turn.generations[0].model_id == NOVA


def test_a_call_below_a_span_that_is_not_in_the_trace_is_the_root():
    record = of_tags(parent_id="f" * 16)
    reading = read_trace(record)
    assert isinstance(reading.outcome, ChatTurn)
    assert (reading.outcome.answer, reading.problems) == ("Three are left.", ())


# The cache


@pytest.mark.parametrize("said", [None, "None", "null", "False", False, 0, ""])
def test_a_cache_hit_that_is_stated_as_nothing_is_a_miss(said):
    attributes = {"litellm_call_id": "c", "cache_hit": said, "response_cost": 0.002}
    record = trace(span("litellm-completion", attributes=attributes, inputs=ASKED, outputs=ANSWERED))
    assert turn_of(record).cache_hit is False


@pytest.mark.parametrize("said", ["True", "true", True, 1])
def test_a_cache_hit_in_any_word_is_one(said):
    attributes = {"litellm_call_id": "c", "cache_hit": said, "response_cost": 0.0}
    record = trace(span("litellm-completion", attributes=attributes, inputs=ASKED, outputs=ANSWERED))
    assert turn_of(record).cache_hit is True


def test_where_nothing_is_said_of_a_cache_nothing_is_known():
    record = trace(span("litellm-completion", attributes={"litellm_call_id": "c"}, inputs=ASKED, outputs=ANSWERED))
    assert turn_of(record).cache_hit is None


def test_an_embedding_beside_the_call_does_not_decide_on_its_cache():
    call = span("litellm-completion", attributes={"litellm_call_id": "c", "cache_hit": True}, inputs=ASKED)
    embedding = span("litellm-embedding", 2, attributes={"litellm_call_id": "e", "cache_hit": None, "model": "e"})
    assert turn_of(trace(call, embedding)).cache_hit is True


@pytest.mark.parametrize("said", ["True", "False", "None"])
def test_the_tag_says_the_same_in_its_words(said):
    assert turn_of(of_tags(tags={"cache_hit": said})).cache_hit is (said == "True")


@pytest.mark.parametrize(
    "record",
    [
        of_tags(tags={"status": "failure", "cache_hit": "True"}),
        trace(span("litellm-completion", inputs=ASKED, attributes={"cache_hit": True}, status="ERROR"), state="ERROR"),
    ],
)
def test_a_call_that_failed_is_no_hit(record):
    assert turn_of(record).cache_hit is False


# Failures


@pytest.mark.parametrize(
    "record",
    [
        of_tags(tags={"status": "failure"}, outputs=None),
        of_tags(tags={"status": "Failure"}),
        of_tags(tags={"status": None}, attributes={**PROXY, "status": "failure"}),
    ],
)
def test_a_call_that_the_proxy_calls_a_failure_is_an_error_of_the_generation(record):
    turn = turn_of(record)
    assert (turn.state, turn.failed_span, turn.error) == (
        "ERROR",
        "bedrock_generate",
        "the proxy reports the status failure",
    )
    signals = find_signals([turn])[turn.trace_id]
    assert "error" in {signal.name for signal in signals}
    assert blame_turn(turn).stage in {"generation", "infrastructure"}


def test_a_failure_says_what_the_proxy_says_of_it_and_nothing_personal():
    said = {"error_class": "RateLimitError", "error_message": "no quota left for jane.doe@example.invalid"}
    turn = turn_of(of_tags(tags={"status": "failure"}, attributes={"error_information": said}, outputs=None))
    assert turn.error is not None
    assert turn.error.startswith("RateLimitError: no quota left")
    assert "jane" not in turn.error


def test_an_exception_of_a_failed_call_stays_its_reason():
    raised = SpanEvent(name="exception", timestamp_ns=1, attributes={"exception.message": "slow down"})
    attributes = {"litellm_call_id": "c", "status": "failure"}
    failed = span("litellm-completion", inputs=ASKED, attributes=attributes, status="ERROR", events=(raised,))
    turn = turn_of(trace(failed, state="ERROR"))
    assert (turn.failed_span, turn.error) == ("bedrock_generate", "slow down")


def test_a_first_call_that_failed_and_was_done_again_is_no_failed_turn():
    root = span("application", inputs={"message": "hello"}, outputs={"answer": "Three are left."})
    told = {"litellm_call_id": "c", "inputs": ASKED}
    first = span("litellm-completion", 2, parent_id=root.span_id, inputs=ASKED, attributes=told | {"status": "failure"})
    again = span("litellm-completion", 3, parent_id=root.span_id, inputs=ASKED, outputs=ANSWERED, attributes=told)
    turn = turn_of(trace(root, first, again))
    assert (turn.state, turn.answer, turn.error) == ("OK", "Three are left.", None)


# Costs and models


@pytest.mark.parametrize(
    ("said", "cost"), [({}, 0.0), ({"response_cost": 0.0}, 0.0), ({"response_cost": 0.004}, 0.004)]
)
def test_a_cached_answer_costs_what_the_proxy_charged_and_else_nothing(said, cost):
    attributes = {"litellm_call_id": "c", "cache_hit": True, **said}
    record = trace(span("litellm-completion", attributes=attributes, inputs=ASKED, outputs=ANSWERED))
    assert turn_of(record).generations[0].reported_cost_usd == cost


def test_a_call_that_was_not_cached_and_has_no_reported_cost_has_none():
    record = trace(
        span("litellm-completion", attributes={"cache_hit": None}, inputs=ASKED, outputs=ANSWERED), tags={"model": NOVA}
    )
    assert turn_of(record).generations[0].reported_cost_usd is None


@pytest.mark.parametrize(
    "named",
    [f"bedrock/{NOVA}", f"bedrock/converse/{NOVA}", f"bedrock/us-east-1/{NOVA}", f"litellm_proxy/bedrock/{NOVA}"],
)
def test_a_vendors_prefix_is_no_other_model(named):
    turn = turn_of(of_tags(tags={"model": named}))
    assert (turn.bedrock_model_id, turn.generations[0].model_id) == (NOVA, NOVA)


def test_an_arn_keeps_its_slashes():
    arn = "arn:aws:bedrock:us-east-1:111122223333:application-inference-profile/abc"
    assert turn_of(of_tags(tags={"model": arn})).bedrock_model_id == arn


# Teams


@pytest.mark.parametrize(
    "attributes",
    [
        {"team_id": "osaka"},
        {"metadata": {"user_api_key_team_id": "osaka"}},
        {"request_tags": ["team_id:osaka", "session_id:s-1"]},
    ],
)
def test_a_team_is_read_wherever_the_proxy_writes_it(attributes):
    told = {"litellm_call_id": "c", **attributes}
    turn = turn_of(trace(span("litellm-completion", attributes=told, inputs=ASKED, outputs=ANSWERED)))
    assert (turn.team, turn.tenant) == ("osaka", "osaka")


@pytest.mark.parametrize("name", ["jane.doe@example.invalid", "+49 30 901820"])
def test_a_team_or_tenant_that_is_a_persons_address_becomes_a_pseudonym(name):
    turn = turn_of(of_tags(tags={"team_id": name, "tenant": name}))
    assert turn.team is not None
    assert turn.team == turn.tenant
    assert turn.team.startswith("t-")
    assert turn.team == turn_of(of_tags(tags={"team_id": name})).team


@pytest.mark.parametrize("name", ["team|blue", "<script>alert(1)</script>", "$x_1$", "漫画 チーム", "Jane's team"])
def test_an_unusual_name_of_a_team_is_kept_as_it_is(name):
    assert turn_of(of_tags(tags={"team_id": name})).team == name


def test_a_team_whose_name_cannot_be_written_is_a_missing_part():
    reading = read_trace(of_tags(tags={"team_id": "broken \ud800"}))
    assert isinstance(reading.outcome, ChatTurn)
    assert reading.outcome.team is None
    assert any(one.startswith("team: tags/team_id") for one in reading.problems)


# The recorded inputs


@pytest.fixture(scope="module")
def faults(repository_root: Path) -> Path:
    folder = repository_root.parent / "shared" / "faults"
    if not folder.is_dir():
        pytest.skip("the inputs beside the repository, ../shared/faults, are missing")
    return folder


def test_every_trace_with_tags_of_a_proxy_is_a_turn_of_its_team_with_its_cost(faults):
    turns = {turn.response_id: turn for turn in turns_in(faults / "litellm_trace_tags.jsonl")}
    assert set(turns) == {f"req-{number}" for number in range(1, 6)}
    assert {turn.shape for turn in turns.values()} == {"litellm"}
    assert [turn.team for turn in turns.values()].count("team-red") == 1
    assert sum(turn.cache_hit is True for turn in turns.values()) == 3
    assert all(turn.user_key is not None for turn in turns.values())
    assert {turn.team for turn in turns.values()} == {"team-blue", "team-red"}
    other = turns["req-4"]
    assert (other.answer, other.generations[0].input_tokens, other.generations[0].output_tokens) == (
        "Tomorrow.",
        100,
        10,
    )
    assert other.generations[0].reported_cost_usd == 0.003
    failed = turns["req-2"]
    assert (failed.state, failed.failed_span) == ("ERROR", "bedrock_generate")
    assert failed.error == "the proxy reports the status failure"


def test_one_of_four_requests_was_answered_from_the_cache_and_one_model_answered_all(faults):
    turns = turns_in(faults / "litellm_cached.jsonl")
    assert [turn.cache_hit for turn in turns].count(True) == 1
    assert [turn.cache_hit for turn in turns].count(False) == 3
    assert len({turn.bedrock_model_id for turn in turns}) == 1
    assert {turn.generations[0].reported_cost_usd for turn in turns if turn.cache_hit} == {0.0}
