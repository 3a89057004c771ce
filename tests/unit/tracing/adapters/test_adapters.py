"""Traces of other tools, as those tools really wrote them, read under the contract."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

from mangaassist_assets.tracing.adapters import Converted, in_contract_shape, otel_genai
from mangaassist_assets.tracing.contract.names import Attribute, SpanName, Tag
from mangaassist_assets.tracing.contract.records import SpanEvent, SpanRecord, TraceRecord
from mangaassist_assets.tracing.contract.turns import ChatTurn, Generation
from mangaassist_assets.tracing.importing.imported_trace import to_record
from mangaassist_assets.tracing.importing.mlflow_json import read_trace
from mangaassist_assets.tracing.reading.turn_reader import Quarantined
from mangaassist_assets.tracing.reading.turn_reader import read_trace as read_trace_of_turn
from tests.support.examples import examples
from tests.support.turn_reading import parse_turn

DATA = Path(__file__).parents[3] / "data" / "shapes"
CLAUDE = "anthropic.claude-3-5-sonnet-20241022-v2:0"
QUESTION = "Where is volume 3 of Lantern Street Blues?"
ANSWER = "It is in stock."
BUNDLE = "2026.03.24-rc2"


def recorded(tool: str) -> dict[str, TraceRecord]:
    traces = json.loads((DATA / f"{tool}.json").read_text(encoding="utf-8"))
    return {name: to_record(read_trace(trace)) for name, trace in traces.items()}


BEDROCK = recorded("bedrock_autolog")
LITELLM = recorded("litellm")


def turn_of(trace: TraceRecord) -> ChatTurn:
    turn = parse_turn(trace)
    assert isinstance(turn, ChatTurn), turn
    return turn


def generation(**more: Any) -> Generation:
    return Generation(**{"model_id": CLAUDE, "input_tokens": 42, "output_tokens": 7, "stop_reason": "end_turn"} | more)


CACHED = {"cache_read_tokens": 10, "cache_write_tokens": 5}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("converse", generation(**CACHED)),
        ("converse_stream", generation(**CACHED, stop_reason="max_tokens")),
        ("invoke_claude", generation()),
        ("invoke_claude_stream", generation()),
        ("invoke_titan", generation(model_id="amazon.titan-text-express-v1", stop_reason="FINISH")),
        ("invoke_llama", generation(model_id="meta.llama3-8b-instruct-v1:0", stop_reason="stop")),
    ],
)
def test_a_bedrock_call_is_read_as_a_turn(name, expected):
    turn = turn_of(BEDROCK[name])
    assert (turn.shape, turn.message, turn.answer) == ("bedrock_autolog", QUESTION, ANSWER)
    assert turn.generations == (expected,)
    assert (turn.session_id, turn.release_bundle, turn.bedrock_model_id) == ("s-1", BUNDLE, expected.model_id)


@pytest.mark.parametrize(
    ("name", "temperature", "max_tokens"),
    [("converse", 0.2, 256), ("invoke_claude", 0.5, 256), ("invoke_titan", 0.1, 128), ("invoke_llama", 0.1, 128)],
)
def test_what_a_model_was_asked_for_is_on_the_span(name, temperature, max_tokens):
    trace = in_contract_shape(BEDROCK[name]).trace
    span = next(span for span in trace.spans if span.name == SpanName.BEDROCK_GENERATE)
    assert span.attributes[Attribute.TEMPERATURE] == temperature
    assert span.attributes[Attribute.MAX_TOKENS] == max_tokens


def test_of_a_call_with_tools_only_text_is_read():
    turn = turn_of(BEDROCK["converse_tools"])
    assert (turn.message, turn.answer) == (QUESTION, "Let me look.")
    assert turn.generations[0].stop_reason == "tool_use"


def test_a_call_that_bedrock_refused_fails_in_generation_with_its_reason():
    turn = turn_of(BEDROCK["throttled"])
    assert (turn.state, turn.failed_span, turn.answer) == ("ERROR", "bedrock_generate", None)
    assert turn.error is not None
    assert turn.error.startswith("ThrottlingException")


def test_a_message_that_only_a_model_call_tells_has_its_source_too():
    sources = read_trace_of_turn(BEDROCK["converse"]).sources
    assert sources["turn.message"] == sources["turn.answer"] == "the model calls, as bedrock_autolog writes them"


def test_an_embedding_alone_is_no_turn():
    quarantined = parse_turn(BEDROCK["invoke_titan_embedding"])
    assert isinstance(quarantined, Quarantined)
    assert quarantined.reason.startswith("message cannot be read: root.inputs is an object")


def test_calls_below_our_own_root_fill_the_generation_and_leave_the_rest():
    turn = turn_of(BEDROCK["inside_a_turn"])
    assert (turn.shape, turn.answer) == ("mangaassist", "It is in stock. Anything else?")
    assert turn.generations == (generation(**CACHED),)


def test_an_application_around_several_calls_is_one_turn_with_all_of_them():
    turn = turn_of(BEDROCK["inside_an_application"])
    assert (turn.message, turn.answer, turn.session_id) == (QUESTION, ANSWER, "s-2")
    assert [one.stop_reason for one in turn.generations] == ["tool_use", "end_turn"]
    assert turn.embedding_model_id == "amazon.titan-embed-text-v2:0"


@pytest.mark.parametrize(("name", "tokens", "cost"), [("completion", (10, 20), 0.00033), ("stream", None, None)])
def test_a_litellm_call_is_read_as_a_turn_with_its_cost(name, tokens, cost):
    turn = turn_of(LITELLM[name])
    assert (turn.shape, turn.message, turn.answer) == ("litellm", QUESTION, ANSWER)
    assert (turn.session_id, turn.release_bundle, turn.bedrock_model_id) == ("s-9", BUNDLE, CLAUDE)
    found = turn.generations[0]
    assert found.reported_cost_usd is not None
    assert found.reported_cost_usd > 0
    if tokens:
        assert (found.input_tokens, found.output_tokens) == tokens
        assert found.reported_cost_usd == pytest.approx(cost)


def test_a_litellm_error_fails_in_generation():
    turn = turn_of(LITELLM["rate_limited"])
    assert (turn.state, turn.failed_span) == ("ERROR", "bedrock_generate")
    assert "slow down" in (turn.error or "")


def span(name: str, *, number: int = 1, **more: Any) -> SpanRecord:
    fields: dict[str, Any] = {"parent_id": None, "start_ns": number * 1_000, "end_ns": number * 1_000 + 500, **more}
    return SpanRecord(span_id=f"{number:016x}", name=name, **fields)


def trace(*spans: SpanRecord, **more: Any) -> TraceRecord:
    fields: dict[str, Any] = {"state": "OK", "tags": {"session_id": "s", "release_bundle": "b"}, **more}
    return TraceRecord(trace_id=f"tr-{1:032x}", timestamp_ms=1, duration_ms=1, spans=spans, **fields)


def test_a_proxy_payload_gives_session_bundle_cache_and_pseudonym():
    user = f"u-{'0' * 20}"
    attributes = {
        "model": CLAUDE,
        "request_id": "r-1",
        "team_id": "store",
        "user_id": user,
        "cache_hit": "True",
        "status": "success",
        "response_cost": 0.25,
        "metadata": {"requester_metadata": {"session_id": "s-7"}, "tags": ["release_bundle:b7"]},
    }
    said = {"messages": [{"role": "user", "content": "hello"}], "metadata": {}}
    answered = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}
    turn = turn_of(trace(span("proxy", attributes=attributes, inputs=said, outputs=answered), tags={}))
    assert (turn.session_id, turn.release_bundle, turn.cache_hit, turn.user_key) == ("s-7", "b7", True, user)
    assert (turn.message, turn.answer, turn.generations[0].reported_cost_usd) == ("hello", "hi", 0.25)


def test_a_plain_user_id_never_becomes_a_session():
    attributes = {"litellm_call_id": "c", "user_id": "jane", "release_bundle": "b"}
    said = {"messages": [{"role": "user", "content": "hello"}], "user": "jane@example.invalid"}
    quarantined = parse_turn(trace(span("litellm-completion", attributes=attributes, inputs=said), tags={}))
    assert isinstance(quarantined, Quarantined)
    assert quarantined.reason.startswith("session_id is missing")
    user = f"u-{'1' * 20}"
    pseudonymous = span("litellm-completion", attributes=attributes | {"user_id": user}, inputs=said)
    turn = turn_of(trace(pseudonymous, tags={}))
    assert (turn.session_id, turn.user_key) == (user, user)


def test_a_litellm_team_is_the_turns_tenant():
    attributes = {"litellm_call_id": "c", "session_id": "s-1", "release_bundle": "b", "team_id": "store-berlin"}
    said = {"messages": [{"role": "user", "content": "hello"}]}
    turn = turn_of(trace(span("litellm-completion", attributes=attributes, inputs=said), tags={}))
    assert turn.tenant == "store-berlin"


def test_tokens_that_only_mlflow_tells_are_counted_without_the_cache():
    usage = {"input_tokens": 57, "output_tokens": 7, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 5}
    call = BEDROCK["converse"].spans[0]
    outputs = {key: value for key, value in call.outputs.items() if key != "usage"}
    told = replace(call, outputs=outputs, attributes=call.attributes | {"mlflow.chat.tokenUsage": usage})
    assert turn_of(replace(BEDROCK["converse"], spans=(told,))).generations == (generation(**CACHED),)


MESSAGES = [
    {"role": "system", "parts": [{"type": "text", "content": "You sell manga."}]},
    {"role": "user", "parts": [{"type": "text", "content": QUESTION}]},
    {"role": "assistant", "parts": [{"type": "tool_call", "id": "t", "name": "stock", "arguments": {}}]},
    {"role": "tool", "parts": [{"type": "tool_call_response", "id": "t", "result": "2"}]},
]
ANSWERS = [{"role": "assistant", "parts": [{"type": "text", "content": ANSWER}], "finish_reason": "stop"}]
GENAI = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "aws.bedrock",
    "gen_ai.request.model": CLAUDE,
    "gen_ai.request.temperature": 0.2,
    "gen_ai.request.max_tokens": 256,
    "gen_ai.usage.input_tokens": 57,
    "gen_ai.usage.output_tokens": 7,
    "gen_ai.usage.cache_read.input_tokens": 10,
    "gen_ai.usage.cache_creation.input_tokens": 5,
    "gen_ai.response.finish_reasons": ["end_turn"],
    "gen_ai.conversation.id": "s-4",
    "resource.release_bundle": BUNDLE,
    "service.version": "9.9",
}


def event(name: str, **attributes: object) -> SpanEvent:
    return SpanEvent(name=name, timestamp_ns=1, attributes=attributes)


GENERATIONS_OF_THE_CONVENTIONS: dict[str, dict[str, Any]] = {
    "attributes": {
        "attributes": GENAI
        | {"gen_ai.input.messages": json.dumps(MESSAGES), "gen_ai.output.messages": json.dumps(ANSWERS)}
    },
    "decoded attributes": {
        "attributes": GENAI | {"gen_ai.input.messages": MESSAGES, "gen_ai.output.messages": ANSWERS}
    },
    "details event": {
        "attributes": GENAI,
        "events": (
            SpanEvent(
                name="gen_ai.client.inference.operation.details",
                timestamp_ns=1,
                attributes={"gen_ai.input.messages": json.dumps(MESSAGES), "gen_ai.output.messages": ANSWERS},
            ),
        ),
    },
    "message events": {
        "attributes": GENAI,
        "events": (
            event("gen_ai.system.message", content="You sell manga."),
            event("gen_ai.user.message", content=json.dumps([{"text": QUESTION}])),
            event("gen_ai.choice", index=0, finish_reason="stop", message=json.dumps({"content": ANSWER})),
        ),
    },
    "numbered": {
        "attributes": GENAI
        | {
            "gen_ai.prompt.0.role": "user",
            "gen_ai.prompt.0.content": "earlier",
            "gen_ai.prompt.1.role": "user",
            "gen_ai.prompt.1.content": QUESTION,
            "gen_ai.completion.0.content": ANSWER,
        }
    },
    "one prompt": {
        "attributes": GENAI
        | {
            "gen_ai.prompt": json.dumps([{"role": "user", "content": QUESTION}]),
            "gen_ai.completion": json.dumps([{"role": "assistant", "content": ANSWER}]),
        }
    },
}


@pytest.mark.parametrize("form", GENERATIONS_OF_THE_CONVENTIONS)
def test_every_generation_of_the_conventions_is_read_the_same(form):
    turn = turn_of(trace(span("chat", **GENERATIONS_OF_THE_CONVENTIONS[form]), tags={}))
    assert (turn.shape, turn.message, turn.answer) == ("otel_genai", QUESTION, ANSWER)
    assert (turn.session_id, turn.release_bundle) == ("s-4", BUNDLE)
    assert turn.generations == (generation(**CACHED),)


@pytest.mark.parametrize("kind", ["application-inference-profile", "default-prompt-router"])
def test_behind_an_arn_that_tells_no_model_the_one_that_answered_is_the_model(kind):
    asked = {"gen_ai.request.model": f"arn:aws:bedrock:us-east-1:000000000000:{kind}/ab12", "gen_ai.prompt": "hello"}
    answered = {"gen_ai.response.model": CLAUDE}
    found = [
        turn_of(trace(span("chat", attributes=GENAI | asked | told), tags={})).bedrock_model_id
        for told in (answered, {})
    ]
    assert found == [CLAUDE, asked["gen_ai.request.model"]]


def test_the_names_of_the_conventions_are_those_of_the_published_registry():
    published = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
    ours = {name for name in GENAI if name.startswith("gen_ai.")} | {"gen_ai.input.messages", "gen_ai.output.messages"}
    assert ours <= published
    assert {"gen_ai.retrieval.documents", "gen_ai.prompt", "gen_ai.completion"} <= published


def test_a_version_of_a_service_is_no_release_bundle():
    attributes = {name: value for name, value in GENAI.items() if name != "resource.release_bundle"}
    attributes["gen_ai.prompt"] = "hello"
    found = parse_turn(trace(span("chat", attributes=attributes), tags={}))
    assert isinstance(found, Quarantined)
    assert found.reason.startswith("release_bundle is missing")


def test_agents_tools_and_embeddings_are_no_model_calls_and_retrieval_gives_candidates():
    spans = [
        span("agent", number=1, attributes={"gen_ai.operation.name": "invoke_agent"}),
        span("embed", number=2, attributes={"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "titan"}),
        span(
            "search",
            number=3,
            attributes={
                "gen_ai.operation.name": "retrieval",
                "gen_ai.retrieval.documents": json.dumps([{"id": "d1", "score": 0.9}, {"id": "d2", "score": 0.5}]),
            },
        ),
        span("tool", number=4, attributes={"gen_ai.operation.name": "execute_tool"}),
        span("chat", number=5, **GENERATIONS_OF_THE_CONVENTIONS["attributes"]),
    ]
    turn = turn_of(trace(*spans))
    assert len(turn.generations) == 1
    assert [(one.document_id, one.retrieval_score) for one in turn.candidates] == [("d1", 0.9), ("d2", 0.5)]
    assert turn.embedding_model_id == "titan"


def test_a_client_traced_inside_a_proxy_is_one_call():
    outer = span("litellm_request", number=1, **GENERATIONS_OF_THE_CONVENTIONS["attributes"])
    inner = replace(outer, span_id=f"{2:016x}", parent_id=outer.span_id, name="raw_gen_ai_request")
    assert len(turn_of(trace(outer, inner)).generations) == 1


BODIES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"prompt": f"\n\nHuman: first\n\nAssistant: a\n\nHuman: {QUESTION}\n\nAssistant:"}, {"completion": ANSWER}),
    ({"prompt": f"<s>[INST] first [/INST] a </s>[INST] {QUESTION} [/INST]"}, {"outputs": [{"text": ANSWER}]}),
    (
        {"prompt": f"<|start_header_id|>user<|end_header_id|>\n\n{QUESTION}<|eot_id|><|start_header_id|>assistant"},
        {"generation": ANSWER},
    ),
    ({"message": QUESTION, "chat_history": []}, {"text": ANSWER, "finish_reason": "COMPLETE"}),
    ({"prompt": QUESTION}, {"generations": [{"text": ANSWER}]}),
    ({"prompt": QUESTION}, {"completions": [{"data": {"text": ANSWER}}]}),
    ({"messages": [{"role": "user", "content": QUESTION}]}, {"choices": [{"message": {"content": ANSWER}}]}),
    (
        {"messages": [{"role": "user", "content": [{"text": QUESTION}]}]},
        {"output": {"message": {"role": "assistant", "content": [{"text": ANSWER}]}}},
    ),
]


@pytest.mark.parametrize(("request_body", "response_body"), BODIES)
def test_the_body_of_every_provider_is_read(request_body, response_body):
    said = {"modelId": "arn:aws:bedrock:us-east-1:000000000000:inference-profile/x", "body": json.dumps(request_body)}
    call = span("BedrockRuntime.invoke_model", inputs=said, outputs={"body": response_body})
    turn = turn_of(trace(call))
    assert (turn.message, turn.answer) == (QUESTION, ANSWER)


def test_a_guardrail_that_stepped_in_blocks_the_turn():
    call = span(
        "BedrockRuntime.converse",
        inputs={
            "modelId": CLAUDE,
            "messages": [{"role": "user", "content": [{"text": QUESTION}]}],
            "guardrailConfig": {"guardrailIdentifier": "g-1", "guardrailVersion": "4"},
        },
        outputs={
            "stopReason": "guardrail_intervened",
            "output": {"message": {"role": "assistant", "content": [{"text": "No."}]}},
        },
    )
    turn = turn_of(trace(call))
    assert (turn.guardrail_blocked, turn.guardrail_reasons) == (True, ("guardrail_intervened",))
    assert turn.guardrail_ruleset_version == "g-1:4"


def test_our_own_trace_stays_as_it_is():
    ours = trace(
        span("chat_turn", inputs={"message": "hi"}),
        span("bedrock_generate", number=2, parent_id=f"{1:016x}"),
        span("BedrockRuntime.converse", number=3, parent_id=f"{2:016x}"),
    )
    assert in_contract_shape(ours) == Converted(shape="mangaassist", trace=ours)


WORDS = ["langchain", "tool", "ai", "tool_use", "tool_result", "assistant", "execute_tool", "chat", "t-1", "error"]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(WORDS)
    | st.just('{"messages": [1, {}]}'),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        *("gen_ai.operation.name", "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.usage.input_tokens"),
        *("gen_ai.request.model", "gen_ai.prompt.0.content", "gen_ai.response.finish_reasons", "litellm_call_id"),
        *(
            "model",
            "metadata",
            "request_tags",
            "response_cost",
            "cache_hit",
            "mlflow.chat.tokenUsage",
            "release_bundle",
        ),
        *("gen_ai.retrieval.documents", "gen_ai.conversation.id", "session.id", "json"),
        *("gen_ai.tool.name", "gen_ai.tool.call.id", "gen_ai.tool.call.arguments", "traceloop.span.kind", "tool_name"),
        *("mlflow.message.format", "invocation_params", "tool_call_id", "chunk"),
    ]
)
BODY = st.dictionaries(
    st.sampled_from(
        [
            *(
                "modelId",
                "body",
                "messages",
                "prompt",
                "inferenceConfig",
                "guardrailConfig",
                "requestMetadata",
                "usage",
            ),
            *("output", "content", "choices", "results", "stopReason", "metadata", "embedding", "user", "delta"),
            *("toolUse", "toolResult", "tool_calls", "toolUseId", "name", "id", "type", "role", "status", "input"),
            *("start", "contentBlockStart", "contentBlockDelta", "content_block", "index", "message", "isError"),
        ]
    ),
    JSON,
    max_size=4,
)
# Messages as models and graphs have them, any part of which may be anything.
BLOCK = st.fixed_dictionaries(
    {},
    optional={
        "toolUse": st.fixed_dictionaries({}, optional={"toolUseId": JSON, "name": JSON, "input": JSON}) | JSON,
        "toolResult": st.fixed_dictionaries({}, optional={"toolUseId": JSON, "content": JSON, "status": JSON}) | JSON,
        **dict.fromkeys(("type", "text", "id", "name", "input", "tool_use_id", "content", "arguments"), JSON),
    },
)
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "content": st.lists(BLOCK, max_size=3) | JSON,
        "tool_calls": st.lists(BODY, max_size=2) | JSON,
        **dict.fromkeys(("role", "type", "tool_call_id", "status", "response_metadata"), JSON),
    },
)
MESSAGES = st.lists(MESSAGE | JSON, max_size=3)
CONVERSATION = st.one_of(
    st.builds(lambda messages: {"messages": messages}, MESSAGES),
    st.builds(lambda message: {"output": {"message": message}}, MESSAGE),
    st.builds(lambda message: {"choices": [{"message": message}]}, MESSAGE),
    MESSAGE,
    MESSAGES,
)
SPANS = st.builds(
    lambda name, span_type, attributes, inputs, outputs, events, number, parent: span(
        name,
        span_type=span_type,
        number=number,
        attributes=attributes,
        inputs=inputs,
        outputs=outputs,
        parent_id=parent,
        events=tuple(SpanEvent(name=kind, timestamp_ns=1, attributes=told) for kind, told in events),
    ),
    st.sampled_from(
        [
            *("BedrockRuntime.converse", "BedrockRuntime.invoke_model", "litellm-completion", "chat", "chat_turn"),
            *("LangGraph", "ChatBedrockConverse", "stock", "tool_call"),
        ]
    ),
    st.sampled_from([None, "CHAIN", "CHAT_MODEL", "TOOL", "RETRIEVER", "RERANKER", "GUARDRAIL"]),
    st.dictionaries(KEYS, JSON, max_size=4),
    BODY | CONVERSATION | JSON,
    BODY | CONVERSATION | JSON,
    st.lists(
        st.tuples(
            st.sampled_from(["gen_ai.choice", "gen_ai.user.message", "exception", "chunk", "new_token"]),
            st.dictionaries(
                st.sampled_from(["content", "message", "json", "body", "exception.message", "chunk"]), JSON | BODY
            ),
        ),
        max_size=2,
    ),
    st.integers(1, 5),
    st.sampled_from([None, *(f"{number:016x}" for number in (1, 2, 3))]),
)


@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(SPANS, min_size=1, max_size=3), st.sampled_from(["OK", "ERROR"]))
def test_any_content_is_read_or_quarantined_and_nothing_there_is_changed(spans, state):
    before = trace(*spans, state=state)
    after = in_contract_shape(before).trace
    assert after.spans[: len(spans)] == before.spans
    assert all(after.tags[name] == value for name, value in before.tags.items())
    assert isinstance(parse_turn(before), ChatTurn | Quarantined)


@pytest.mark.parametrize("tag", [Tag.SESSION_ID, Tag.BEDROCK_MODEL_ID])
def test_a_tag_that_is_there_is_kept(tag):
    told = replace(BEDROCK["converse"], tags=BEDROCK["converse"].tags | {tag: "there"})
    assert in_contract_shape(told).trace.tags[tag] == "there"


def test_personal_data_does_not_become_a_tag():
    attributes = GENAI | {"gen_ai.conversation.id": "jane@example.invalid"}
    found = in_contract_shape(trace(span("chat", attributes=attributes), tags={})).trace
    assert otel_genai.recognises(found)
    assert Tag.SESSION_ID not in found.tags
