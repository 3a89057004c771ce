"""Calls of tools: from what models asked and were told, from spans of the application, and each of them once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mangaassist_assets.tracing.contract.records import SpanEvent, SpanRecord, TraceRecord
from mangaassist_assets.tracing.contract.turns import ChatTurn, Generation, ToolCall
from mangaassist_assets.tracing.importing.imported_trace import to_record
from mangaassist_assets.tracing.importing.mlflow_json import read_trace as read_exported
from mangaassist_assets.tracing.reading.mapping import TraceMapping, read_mapping
from mangaassist_assets.tracing.reading.turn_reader import Quarantined, read_trace
from tests.support.turn_reading import parse_turn

DATA = Path(__file__).parents[3] / "data"
CLAUDE = "anthropic.claude-3-5-sonnet-20241022-v2:0"
QUESTION = "Where is volume 3 of Lantern Street Blues?"
TAGS = {"session_id": "s", "release_bundle": "b"}


def recorded(tool: str) -> dict[str, TraceRecord]:
    traces = json.loads((DATA / "shapes" / f"{tool}.json").read_text(encoding="utf-8"))
    found = {name: to_record(read_exported(one)) for name, one in traces.items()}
    return {name: replace(one, tags={**one.tags, **TAGS}) for name, one in found.items()}


BEDROCK = recorded("bedrock_autolog")
LANGGRAPH = recorded("langgraph")


def turn_of(trace: TraceRecord, mapping: TraceMapping | None = None) -> ChatTurn:
    turn = read_trace(trace, mapping=mapping).outcome
    assert isinstance(turn, ChatTurn), turn
    return turn


def told(call: ToolCall) -> tuple[str, str | None, str | None, str, str | None]:
    return call.name, call.arguments, call.result, call.outcome, call.error


def span(name: str, *, number: int = 1, **more: Any) -> SpanRecord:
    fields: dict[str, Any] = {"parent_id": None, "start_ns": number * 1_000, "end_ns": number * 1_000 + 500, **more}
    return SpanRecord(span_id=f"{number:016x}", name=name, **fields)


def trace(*spans: SpanRecord, **more: Any) -> TraceRecord:
    fields: dict[str, Any] = {"state": "OK", "tags": TAGS, **more}
    return TraceRecord(trace_id=f"tr-{1:032x}", timestamp_ms=1, duration_ms=1, spans=spans, **fields)


def converse(number: int, *content: dict[str, Any], brings: list[dict[str, Any]] | None = None) -> SpanRecord:
    messages = [{"role": "user", "content": [{"text": QUESTION}]}]
    if brings is not None:
        messages.append({"role": "user", "content": brings})
    return span(
        "BedrockRuntime.converse",
        number=number,
        parent_id=f"{1:016x}",
        inputs={"modelId": CLAUDE, "messages": messages},
        outputs={"output": {"message": {"role": "assistant", "content": list(content)}}},
    )


def use(use_id: object, name: object, arguments: object) -> dict[str, Any]:
    return {"toolUse": {"toolUseId": use_id, "name": name, "input": arguments}}


def result(use_id: str, *content: dict[str, Any], status: str = "success") -> dict[str, Any]:
    return {"toolResult": {"toolUseId": use_id, "content": list(content), "status": status}}


ROOT = span("handle", inputs={"message": QUESTION})
ASKED = ("stock", '{"volume": 3}', '{"copies": 2}', "success", None)
REFUSED = ("price", '{"currency": "JPY", "volume": 3}', "no price in JPY", "error", "no price in JPY")


@pytest.mark.parametrize("name", ["agent", "agent_stream", "agent_claude"])
def test_the_tools_that_a_model_asked_for_are_calls_with_what_came_back(name):
    turn = turn_of(BEDROCK[name])
    assert [told(call) for call in turn.tools[:2]] == [ASKED, REFUSED]
    assert [stage.failed for stage in turn.stages if stage.name == "tool_call"][:2] == [False, True]
    assert (turn.message, turn.answer) == (QUESTION, "It is in stock.")


def test_a_call_whose_result_never_came_says_so():
    reading = read_trace(BEDROCK["agent"])
    assert isinstance(reading.outcome, ChatTurn)
    # The call of an earlier turn stands in every request, and is none of this one.
    assert told(reading.outcome.tools[2]) == ("stock", None, None, "no_result", None)
    assert len(reading.outcome.tools) == 3
    assert reading.outcome.tools[2].duration_ms is None
    assert "result: 1 of 3 calls of tools have none in the trace" in reading.problems


def test_results_that_every_later_request_repeats_are_one_call():
    came = result("t-1", {"text": "2 copies"})
    calls = [
        converse(2, use("t-1", "stock", {})),
        converse(3, use("t-2", "price", {}), brings=[came]),
        converse(4, {"text": "Yes."}, brings=[came, result("t-2", {"text": "9 dollars"})]),
    ]
    found = turn_of(trace(ROOT, *calls)).tools
    assert [(one.name, one.result) for one in found] == [("stock", "2 copies"), ("price", "9 dollars")]


def test_an_id_that_is_used_again_is_another_call():
    first, second = result("t", {"text": "first"}), result("t", {"text": "second"})
    calls = [
        converse(2, use("t", "stock", {})),
        converse(3, use("t", "stock", {}), brings=[first]),
        converse(4, {"text": "Yes."}, brings=[first, second]),
    ]
    assert [one.result for one in turn_of(trace(ROOT, *calls)).tools] == ["first", "second"]


def test_an_empty_result_is_a_result():
    calls = [converse(2, use("t", "find", {})), converse(3, {"text": "No."}, brings=[result("t", {"json": []})])]
    assert [(one.result, one.outcome) for one in turn_of(trace(ROOT, *calls)).tools] == [("[]", "success")]


OWN_SPANS = {
    "by its id": {"name": "run", "span_type": "TOOL", "attributes": {"tool_call_id": "t-1"}, "inputs": {"x": 1}},
    "by its name": {"name": "stock", "span_type": "TOOL", "inputs": {"volume": 3}},
    "by an attribute": {"name": "call", "span_type": "TOOL", "attributes": {"tool_name": "stock"}},
    "by its arguments": {"name": "run", "span_type": "TOOL", "inputs": {"tool": "s", "arguments": {"volume": 3}}},
    "by the contract": {"name": "tool_call", "inputs": {"volume": 3}},
}


@pytest.mark.parametrize("own", OWN_SPANS.values(), ids=list(OWN_SPANS))
def test_a_tool_that_has_a_span_of_its_own_is_counted_once(own):
    tool = span(number=3, parent_id=ROOT.span_id, **own)
    last = converse(4, {"text": "Yes."}, brings=[result("t-1", {"text": "2 copies"})])
    found = turn_of(trace(ROOT, converse(2, use("t-1", "stock", {"volume": 3})), tool, last)).tools
    # The span has no outputs: what the model was told fills them in.
    assert [(one.result, one.duration_ms) for one in found] == [("2 copies", 0.0005)]


def test_a_failure_that_only_the_model_was_told_of_fails_the_tools_own_span():
    tool = span("stock", number=3, span_type="TOOL", inputs={"volume": 3}, outputs="oh")
    last = converse(4, {"text": "No."}, brings=[result("t-1", {"text": "no such volume"}, status="error")])
    found = turn_of(trace(ROOT, converse(2, use("t-1", "stock", {"volume": 3})), tool, last)).tools
    assert [told(one) for one in found] == [("stock", '{"volume": 3}', "oh", "error", "no such volume")]


def test_spans_of_other_tools_are_other_calls():
    other = span("log_event", number=3, span_type="TOOL", inputs={"event": "asked"}, outputs="ok")
    last = converse(4, {"text": "Yes."}, brings=[result("t-1", {"text": "2 copies"})])
    found = turn_of(trace(ROOT, converse(2, use("t-1", "stock", {"volume": 3})), other, last)).tools
    assert {(one.name, one.result) for one in found} == {("stock", "2 copies"), ("log_event", "ok")}


def test_an_argument_called_name_is_not_the_tools_name():
    tool = span(
        "greet", number=2, span_type="TOOL", inputs={"name": "Rose", "input": 1}, outputs={"content": "x", "n": 2}
    )
    found = turn_of(trace(ROOT, tool)).tools[0]
    assert (found.name, found.result) == ("greet", '{"content": "x", "n": 2}')
    assert '"input": 1' in (found.arguments or "")


@pytest.mark.parametrize(
    "outputs",
    [
        {"type": "tool", "content": "no such volume", "status": "error"},
        {"isError": True, "content": [{"type": "text", "text": "no such volume"}]},
    ],
)
def test_a_tool_that_says_that_it_failed_has_failed(outputs):
    tool = span("stock", number=2, span_type="TOOL", inputs={}, outputs=outputs)
    found = turn_of(trace(ROOT, tool)).tools[0]
    assert (found.outcome, found.result, found.error) == ("error", "no such volume", "no such volume")


def test_the_status_of_an_order_is_no_failure():
    tool = span("order", number=2, span_type="TOOL", outputs={"status": "delayed"})
    assert turn_of(trace(ROOT, tool)).tools[0].outcome == "success"


BAD_ARGUMENTS = ["not JSON {", "x" * 1_000_000, {"deep": [[[]]] * 3}, ["a"], 7, None, '{"cut": ']


@pytest.mark.parametrize("arguments", BAD_ARGUMENTS, ids=lambda one: str(one)[:12])
def test_arguments_of_any_kind_are_kept_as_far_as_they_fit(arguments):
    found = turn_of(trace(ROOT, converse(2, use("t", "stock", arguments)))).tools
    assert [one.name for one in found] == ["stock"]
    assert len(found[0].arguments or "") <= 2_001
    assert (found[0].arguments is None) == (arguments is None)


def test_values_a_thousand_lists_deep_are_told_and_stop_nothing():
    deep: Any = 1
    for _ in range(1_020):
        deep = [deep]
    tool = span("stock", number=3, span_type="TOOL", inputs=deep, outputs=deep)
    last = converse(4, {"text": "Yes."}, brings=[result("t", {"json": deep})])
    reading = read_trace(trace(ROOT, converse(2, use("t", "stock", deep)), tool, last))
    assert isinstance(reading.outcome, ChatTurn)
    assert [(one.name, one.arguments, one.result) for one in reading.outcome.tools] == [("stock", None, None)]
    assert "arguments: span.inputs is nested too deeply to be kept" in reading.problems


def test_tools_below_a_chatbots_own_generation_are_calls_and_the_generation_stays_its_own():
    own = span("bedrock_generate", number=2, parent_id=ROOT.span_id, attributes={"input_tokens": 5})
    calls = [
        converse(3, use("t", "stock", {"volume": 3})),
        converse(4, {"text": "Yes."}, brings=[result("t", {"json": {"copies": 2}})]),
    ]
    below = [replace(one, parent_id=own.span_id) for one in calls]
    turn = turn_of(trace(replace(ROOT, name="chat_turn"), own, *below))
    assert [told(one) for one in turn.tools] == [ASKED]
    assert [one.input_tokens for one in turn.generations] == [5]


def test_a_use_without_a_name_is_none_and_stops_nothing():
    content = [use("t", None, {}), use("u", "", {}), use(["v"], "stock", {}), {"toolUse": 7}, {"text": "Yes."}]
    turn = turn_of(trace(ROOT, converse(2, *content)))
    assert ([one.name for one in turn.tools], turn.answer) == (["stock"], "Yes.")


def test_what_a_tool_was_told_and_said_is_redacted():
    calls = [
        converse(2, use("t", "mail", {"to": "jane.roe@example.invalid"})),
        converse(
            3, {"text": "Done."}, brings=[result("t", {"text": "sent to jane.roe@example.invalid"}, status="error")]
        ),
    ]
    assert "jane.roe" not in repr(turn_of(trace(ROOT, *calls)))


def test_the_tools_of_opentelemetrys_conventions_are_calls():
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "stock",
        "gen_ai.tool.call.id": "t-1",
        "gen_ai.tool.call.arguments": '{"volume": 3}',
        "gen_ai.tool.call.result": '{"copies": 2}',
    }
    asks = [{"role": "assistant", "parts": [{"type": "tool_call", "id": "t-1", "name": "stock", "arguments": {}}]}]
    chat = span(
        "chat", number=2, attributes={"gen_ai.operation.name": "chat", "gen_ai.output.messages": json.dumps(asks)}
    )
    failed = span(
        "execute_tool price",
        number=4,
        status="ERROR",
        status_message="timed out",
        attributes={"gen_ai.operation.name": "execute_tool"},
    )
    found = turn_of(trace(ROOT, chat, span("execute_tool stock", number=3, attributes=attributes), failed)).tools
    assert [told(one) for one in found] == [ASKED, ("price", None, None, "error", "timed out")]


def test_tools_that_only_the_messages_of_the_conventions_tell_are_calls():
    asks = [
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "t", "name": "stock", "arguments": {"volume": 3}}]}
    ]
    brings = [{"role": "tool", "parts": [{"type": "tool_call_response", "id": "t", "response": {"copies": 2}}]}]
    first = {"gen_ai.operation.name": "chat", "gen_ai.output.messages": json.dumps(asks)}
    second = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": json.dumps(brings)}
    found = turn_of(
        trace(ROOT, span("chat", number=2, attributes=first), span("chat", number=3, attributes=second))
    ).tools
    assert [told(one) for one in found] == [ASKED]


def test_a_tool_that_openllmetry_traced_is_a_call():
    attributes = {
        "traceloop.span.kind": "tool",
        "traceloop.entity.name": "stock",
        "traceloop.entity.input": '{"volume": 3}',
        "traceloop.entity.output": '{"copies": 2}',
    }
    chat = span("chat", number=2, attributes={"gen_ai.system": "aws.bedrock", "gen_ai.request.model": CLAUDE})
    found = turn_of(trace(ROOT, chat, span("stock.tool", number=3, attributes=attributes))).tools
    assert [told(one) for one in found] == [ASKED]


def generation(stop_reason: str) -> Generation:
    tokens = {"input_tokens": 40, "output_tokens": 9, "cache_read_tokens": 10, "cache_write_tokens": 0}
    return Generation(model_id=CLAUDE, stop_reason=stop_reason, **tokens)


class TestLangGraph:
    """Turns of an agent in LangGraph, as MLflow's LangChain autologging wrote them, by the packaged mapping."""

    def test_a_turn_has_its_calls_of_the_model_with_tokens_and_stop_reasons(self):
        turn = turn_of(LANGGRAPH["tools"])
        assert turn.shape == "langchain"
        assert (turn.message, turn.answer) == ("When does volume 3 arrive in Osaka?", "On Thursday.")
        assert turn.generations == (generation("tool_use"), generation("end_turn"))

    def test_tools_have_name_arguments_outcome_and_error(self):
        # LangGraph runs tools side by side: which of them begins first is chance.
        first, second = sorted(told(call) for call in turn_of(LANGGRAPH["tools"]).tools)
        assert first == (
            "copies_left",
            '{"name": "Lantern Street", "volume": 3}',
            "3 copies of Lantern Street",
            "success",
            None,
        )
        assert (second[0], second[1], second[3:]) == (
            "deliver_by",
            '{"city": "Atlantis"}',
            ("error", "no delivery to Atlantis"),
        )

    def test_the_documents_of_a_retriever_are_candidates_with_scores(self):
        found = turn_of(LANGGRAPH["plain"]).candidates
        assert [(one.chunk_id, one.document_id, one.retrieval_score) for one in found] == [
            ("ships-1", "shipping", 1.0),
            ("ships-2", "shipping", 0.5),
            ("stock-1", "stock", pytest.approx(1 / 3)),
        ]

    def test_of_a_state_with_a_history_the_last_turn_counts(self):
        turn = turn_of(LANGGRAPH["plain"])
        assert (turn.message, turn.answer, turn.tools) == ("Is it in stock?", "Yes.", ())

    def test_a_question_in_content_blocks_is_the_message(self):
        content = [{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": {"url": "data:…"}}]
        root = span("LangGraph", span_type="CHAIN", inputs={"messages": [{"type": "human", "content": content}]})
        assert turn_of(trace(root)).message == QUESTION

    def test_the_client_traced_below_its_models_counts_nothing_twice(self):
        before = LANGGRAPH["tools"]
        models = [one for one in before.spans if one.span_type == "CHAT_MODEL"]
        answered: list[list[dict[str, Any]]] = [
            [use("t-1", "copies_left", {"volume": 3}), use("t-2", "deliver_by", {})],
            [{"text": "On Thursday."}],
        ]
        clients = [
            replace(
                converse(90 + number, *content),
                parent_id=model.span_id,
                start_ns=model.start_ns,
                end_ns=model.end_ns,
            )
            for number, (model, content) in enumerate(zip(models, answered, strict=True))
        ]
        turn = turn_of(replace(before, spans=(*before.spans, *clients)))
        assert (len(turn.generations), turn.answer) == (2, "On Thursday.")
        assert {(one.name, one.outcome) for one in turn.tools} == {("copies_left", "success"), ("deliver_by", "error")}

    def test_a_turn_without_a_model_is_a_turn(self):
        turn = turn_of(LANGGRAPH["refused"])
        assert (turn.shape, turn.answer, turn.generations) == ("langchain", "I only talk about manga.", ())

    def test_a_refused_call_of_the_model_is_what_failed(self):
        turn = turn_of(LANGGRAPH["throttled"])
        assert (turn.state, turn.failed_span, turn.answer) == ("ERROR", "bedrock_generate", None)
        assert "ThrottlingException" in (turn.error or "")

    def test_an_unanswered_question_has_no_answer_of_an_earlier_one(self):
        state = [["user", "first"], ["ai", "An answer."], ["human", "second"]]
        root = span(
            "LangGraph", span_type="CHAIN", inputs={"messages": [["human", "second"]]}, outputs={"messages": state}
        )
        turn = turn_of(trace(root))
        assert (turn.message, turn.answer) == ("second", None)

    def test_tools_without_spans_of_their_own_are_read_from_the_messages(self):
        spans = [one for one in LANGGRAPH["tools"].spans if one.span_type != "TOOL"]
        first, second = turn_of(replace(LANGGRAPH["tools"], spans=tuple(spans))).tools
        assert (first.name, first.result, first.outcome) == ("copies_left", "3 copies of Lantern Street", "success")
        assert (second.name, second.outcome) == ("deliver_by", "error")
        assert "no delivery to Atlantis" in (second.error or "")

    def test_a_streamed_answer_tells_its_stop_reason_in_its_last_chunk(self):
        message = {"kwargs": {"content": "", "response_metadata": {"stopReason": "max_tokens"}}}
        events = [
            SpanEvent(name="new_token", timestamp_ns=1, attributes={"token": "Yes", "chunk": "no JSON"}),
            SpanEvent(
                name="new_token", timestamp_ns=2, attributes={"chunk": json.dumps({"kwargs": {"message": message}})}
            ),
        ]
        model = span(
            "ChatBedrockConverse", number=2, attributes={"mlflow.message.format": "langchain"}, events=tuple(events)
        )
        assert turn_of(trace(ROOT, model)).generations[0].stop_reason == "max_tokens"

    @pytest.mark.parametrize("state", [{}, {"shelf": []}, {"messages": []}, {"messages": [{"type": "ai"}]}, None])
    def test_a_state_without_a_question_is_quarantined_with_its_reason(self, state):
        root = span("LangGraph", span_type="CHAIN", inputs=state, outputs=state)
        found = parse_turn(trace(root))
        assert isinstance(found, Quarantined)
        assert found.reason.startswith("message ")


def mapping_of(tmp_path: Path, text: str) -> TraceMapping:
    file = tmp_path / "mapping.toml"
    file.write_text(f"schema = 1\n{text}", encoding="utf-8")
    return read_mapping(file)


class TestToldTwice:
    """A mapping may name a span of which an adapter or MLflow's type tells as well."""

    def test_a_node_that_is_named_as_the_generation_is_one_call_of_the_model(self, tmp_path):
        own = mapping_of(tmp_path, '[stages]\nbedrock_generate = ["ChatBedrockConverse"]')
        turn = turn_of(LANGGRAPH["tools"], own)
        assert turn.generations == (generation("tool_use"), generation("end_turn"))
        assert [stage.name for stage in turn.stages].count("bedrock_generate") == 2

    def test_a_node_around_several_calls_of_the_model_is_none_itself(self, tmp_path):
        own = mapping_of(tmp_path, '[stages]\nbedrock_generate = ["agent loop"]')
        loop = span("agent loop", inputs={"message": QUESTION})
        turn = turn_of(trace(loop, converse(2, {"text": "a"}), converse(3, {"text": "b"})), own)
        assert len(turn.generations) == 2

    def test_a_node_that_is_named_as_the_retrieval_tells_what_its_retriever_tells(self, tmp_path):
        own = mapping_of(tmp_path, '[stages]\nretrieve_chunks = ["gather"]')
        turn = turn_of(LANGGRAPH["plain"], own)
        assert [one.chunk_id for one in turn.candidates] == ["ships-1", "ships-2", "stock-1"]
        assert [stage.name for stage in turn.stages].count("retrieve_chunks") == 1

    def test_a_node_that_is_named_as_the_tools_is_not_a_tool_beside_them(self, tmp_path):
        own = mapping_of(tmp_path, '[stages]\ntool_call = ["tools"]')
        assert sorted(one.name for one in turn_of(LANGGRAPH["tools"], own).tools) == ["copies_left", "deliver_by"]

    def test_a_span_has_the_stage_of_its_name_before_that_of_its_type(self, tmp_path):
        own = mapping_of(tmp_path, '[stages]\nkeyword_search = ["bm25"]')
        found = read_trace(trace(ROOT, span("bm25", number=2, span_type="RETRIEVER", outputs=["c-1"])), mapping=own)
        assert "keyword_search" in found.spans
        assert "retrieve_chunks" not in found.spans
        assert found.problems == ()

    def test_spans_in_a_circle_are_told_and_end(self):
        first = span("stock", number=2, span_type="TOOL", parent_id=f"{3:016x}", inputs={"message": QUESTION})
        second = span("stock", number=3, span_type="TOOL", parent_id=f"{2:016x}")
        reading = read_trace(trace(first, second))
        assert isinstance(reading.outcome, ChatTurn)
        assert "spans: their parents form a cycle, so the first span counts as the root" in reading.problems
