"""No personal data of a file reaches a store, wherever it hides; identifiers and structure stay."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.privacy import is_pseudonym, redact_json
from mangaassist_assets.tracing.adapters.stream_events import streamed_response
from mangaassist_assets.tracing.contract.records import SpanEvent
from mangaassist_assets.tracing.importing.imported_trace import (
    INPUTS,
    OUTPUTS,
    ImportedAssessment,
    ImportedLink,
    ImportedSpan,
    ImportedTrace,
    digest_of,
    to_record,
)
from mangaassist_assets.tracing.importing.scrubbing import LONGEST_TEXT, REMOVED, Scrubber
from tests.support.examples import examples

MAIL = "jane@example.invalid"
PHONE = "090-1234-5678"
scrubber = Scrubber(key=b"k" * 32)


def trace(**span: Any) -> ImportedTrace:
    fields: dict[str, Any] = {"parent_id": None, "name": "root", "start_ns": 1, "end_ns": 2, **span}
    return ImportedTrace(trace_id=f"tr-{1:032x}", spans=(ImportedSpan(span_id=f"{1:016x}", **fields),))


def chunk(text: str, number: int) -> SpanEvent:
    said = json.dumps({"delta": {"text": text}, "contentBlockIndex": 0})
    return SpanEvent(name="contentBlockDelta", timestamp_ns=number, attributes={"json": said})


EVERYWHERE: dict[str, ImportedTrace] = {
    "attribute": trace(attributes={"x": f"mail {MAIL}"}),
    "nested": trace(attributes={"x": {"y": [{"z": MAIL}]}}),
    "JSON in a text": trace(attributes={"x": json.dumps({"y": json.dumps({"z": MAIL})})}),
    "key": trace(attributes={MAIL: 1, "x": {MAIL: 2}}),
    "inputs": trace(attributes={INPUTS: {"message": MAIL}}),
    "span name": trace(name=f"answer {MAIL}"),
    "status": trace(status="ERROR", status_message=f"no order of {MAIL}"),
    "event": trace(events=(SpanEvent(name=MAIL, timestamp_ns=1, attributes={"exception.message": MAIL}),)),
    "link": trace(links=(ImportedLink(trace_id="a" * 32, span_id="b" * 16, attributes={"x": MAIL}),)),
    "user": trace(attributes={"user.id": MAIL, "enduser.id": "jane", "user": "jane", "x": {"user_id": 7}}),
    "identifier": trace(attributes={"candidate_ids": [MAIL], "prompt_hash": MAIL, "modelId": MAIL}),
    "session": trace(attributes={"session.id": MAIL}),
    "tags": replace(trace(), tags={"session_id": MAIL, "release_bundle": MAIL, "x": MAIL, MAIL: "x"}),
    "metadata": replace(trace(), metadata={"mlflow.trace.user": MAIL, "mlflow.trace.session": MAIL, "x": MAIL}),
    "previews": replace(trace(), request_preview=MAIL, response_preview=f'{{"a": "{MAIL}'),
    "ids": replace(trace(), original_id=MAIL, client_request_id=MAIL),
    "assessment": replace(
        trace(),
        assessments=(
            ImportedAssessment(
                assessment_id="a-1",
                name=f"by {MAIL}",
                kind="feedback",
                value={"x": MAIL},
                source_type="HUMAN",
                source_id=MAIL,
                created_ms=1,
                updated_ms=1,
                rationale=f"{MAIL} said so",
                metadata={"x": MAIL},
                error={"error_message": MAIL},
            ),
        ),
    ),
    "named fields": trace(attributes={"x": {"firstName": MAIL, "shippingAddress": {"a": MAIL}}, "accessToken": [MAIL]}),
    "match of a guardrail": trace(attributes={"piiEntities": [{"match": MAIL, "type": "EMAIL", "action": "BLOCKED"}]}),
    "secrets": trace(attributes={"headers": {"Authorization": f"Bearer {MAIL}", "X-Forwarded-For": "203.0.113.9"}}),
}


@pytest.mark.parametrize("place", EVERYWHERE)
def test_an_address_is_found_wherever_it_stands(place):
    stored = canonical_json(scrubber.trace(EVERYWHERE[place])).decode()
    assert MAIL not in stored
    assert "example.invalid" not in stored
    assert "203.0.113.9" not in stored


def test_japanese_behind_escapes_is_found_in_whole_and_in_cut_json():
    said = json.dumps({"message": f"電話は{PHONE}です"}, ensure_ascii=True)
    assert "090" in said
    for text in (said, said[:-4]):
        found = scrubber.text(text)
        assert PHONE not in found
        assert "[PHONE]" in found
    assert json.loads(scrubber.text(said)) == {"message": "電話は[PHONE]です"}


def test_json_kept_as_text_is_read_value_by_value_and_stays_json():
    inner = json.dumps({"user": "jane", "message": f"電話は{PHONE}です"}, ensure_ascii=True)
    found = json.loads(json.loads(scrubber.text(json.dumps({"body": inner})))["body"])
    assert is_pseudonym(found["user"])
    assert found["message"] == "電話は[PHONE]です"


def test_personal_data_cut_into_the_events_of_a_stream_is_found():
    pieces = ["Write to ja", "ne@exam", "ple.invalid today"]
    events = tuple(chunk(piece, number) for number, piece in enumerate(pieces))
    span = scrubber.trace(trace(events=events, attributes={OUTPUTS: {"text": "".join(pieces)}})).spans[0]
    assert len(span.events) == 3
    assert streamed_response(span.events).answer == "Write to [EMAIL] today"
    assert "jane" not in str(span)
    harmless = tuple(chunk(piece, number) for number, piece in enumerate(["It is ", "in stock."]))
    assert scrubber.trace(trace(events=harmless)).spans[0].events == harmless


def test_pieces_of_an_unknown_form_are_removed_where_the_answer_was_personal():
    event = SpanEvent(name="streaming_chunk", timestamp_ns=1, attributes={"delta": "Delta(content='jane@exam')"})
    outputs = {OUTPUTS: {"choices": [{"message": {"content": f"Write to {MAIL}"}}]}}
    assert scrubber.trace(trace(events=(event,), attributes=outputs)).spans[0].events[0].attributes == {
        "delta": REMOVED
    }
    assert scrubber.trace(trace(events=(event,), attributes={OUTPUTS: "fine"})).spans[0].events == (event,)


def test_a_cut_preview_is_made_again_of_the_redacted_text():
    told = replace(
        trace(attributes={INPUTS: {"message": f"my mail is {MAIL}"}}),
        request_preview='{"message": "my mail is jane@exam',
        metadata={"mlflow.traceInputs": '{"message": "my mail is jane@exam'},
    )
    found = scrubber.trace(told)
    assert found.request_preview is not None
    assert "jane" not in found.request_preview + found.metadata["mlflow.traceInputs"]


@pytest.mark.parametrize("key", ["tool_arguments", "tool_result"])
def test_what_a_tool_was_told_and_said_is_no_identifier(key):
    assert PHONE not in canonical_json(scrubber.trace(trace(attributes={key: PHONE}))).decode()


def test_personal_data_cut_into_the_arguments_of_a_streamed_tool_is_found():
    start = {"type": "tool_use", "id": "t-1", "name": "mail", "input": {}}
    chunks: list[dict[str, Any]] = [{"type": "content_block_start", "index": 1, "content_block": start}]
    chunks += [
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": piece}}
        for piece in (json.dumps({"to": MAIL})[:12], json.dumps({"to": MAIL})[12:])
    ]
    events = [
        SpanEvent(name=one["type"], timestamp_ns=number, attributes={"json": json.dumps(one)})
        for number, one in enumerate(chunks)
    ]
    stored = canonical_json(scrubber.trace(trace(events=tuple(events)))).decode()
    assert "example.invalid" not in stored
    assert "jane" not in stored


def test_the_same_user_is_the_same_pseudonym_and_a_pseudonym_stays():
    first = scrubber.trace(replace(trace(), metadata={"mlflow.trace.user": "jane"}))
    second = scrubber.trace(trace(attributes={"user.id": "jane"}))
    user = to_record(first).user_key
    assert is_pseudonym(user)
    assert second.spans[0].attributes["user.id"] == user
    assert scrubber.trace(first) == first
    assert Scrubber(key=b"x" * 32).trace(trace(attributes={"user.id": "jane"})) != second


@pytest.mark.parametrize(
    "key", ["customer_profile", "userProfile", "Shopper-Profile", "app.user_profile", "PERSONA", "aboutMe"]
)
def test_what_a_key_calls_a_profile_is_replaced_as_a_whole_in_any_casing(key):
    told = {"age": 34, "likes": ["shonen"]}
    found = scrubber.trace(
        replace(trace(attributes={key: "hoards horror", INPUTS: {key: told, "id": 7}}), tags={key: "hoards horror"})
    )
    attributes = found.spans[0].attributes
    assert (attributes[key], attributes[INPUTS]) == ("[PROFILE]", {key: "[PROFILE]", "id": 7})
    assert found.tags[key] == "[PROFILE]"
    assert scrubber.trace(found) == found
    assert redact_json({"inputs": {key: told}}) == {"inputs": {key: "[PROFILE]"}}


@pytest.mark.parametrize("key", ["profile", "user_profile_id", "aws_profile", "character.profile", "bios"])
def test_a_key_that_is_no_customers_profile_keeps_its_value(key):
    assert scrubber.trace(trace(attributes={key: "plain"})).spans[0].attributes[key] == "plain"


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ({"http.request.header.authorization": ["Bearer abc"]}, {"http.request.header.authorization": REMOVED}),
        (
            {"accessToken": "abc", "x": {"secretAccessKey": "d"}},
            {"accessToken": REMOVED, "x": {"secretAccessKey": REMOVED}},
        ),
        (
            {"firstName": "Mika", "shippingAddress": {"city": "Leeds"}},
            {"firstName": REMOVED, "shippingAddress": REMOVED},
        ),
        ({"n": 4111111111111111, "call": 4155550100}, {"n": "[CARD]", "call": "[PHONE]"}),
        ({"start_ns": 4111111111111111, "at": 1774000000000}, {"start_ns": 4111111111111111, "at": 1774000000000}),
        (
            {"piiEntities": [{"match": "Mika", "type": "NAME", "action": "ANONYMIZED"}]},
            {"piiEntities": [{"match": REMOVED, "type": "NAME", "action": "ANONYMIZED"}]},
        ),
        ({"query": {"match": {"title": "x"}}, "token": " the"}, {"query": {"match": {"title": "x"}}, "token": " the"}),
    ],
)
def test_names_of_fields_numbers_and_the_findings_of_guardrails_are_seen_to(told, kept):
    assert scrubber.trace(trace(attributes=told)).spans[0].attributes == kept
    written = json.dumps(told)
    assert json.loads(scrubber.text(written)) == kept


def test_turns_of_a_personal_session_stay_together():
    one = scrubber.trace(replace(trace(), tags={"session_id": MAIL})).tags["session_id"]
    assert (
        one
        == scrubber.trace(replace(trace(), metadata={"mlflow.trace.session": MAIL})).metadata["mlflow.trace.session"]
    )
    assert one.startswith("s-")


def test_identifiers_numbers_and_structure_stay_as_they_are():
    plain = replace(
        trace(
            attributes={
                "candidate_ids": ["c-090-1234-5678", "4111111111111111"],
                "prompt_hash": "4111111111111111" * 4,
                "bedrock_model_id": "anthropic.claude-3-5-sonnet-20241022-v2:0",
                "mlflow.llm.provider": "anthropic",
                INPUTS: {"modelId": "anthropic.claude-3-5-sonnet-20241022-v2:0", "n": 1774000000000},
                "id": "chatcmpl-280b586f-0071-4407-9852-db6fda36ef11",
                "x": [None, True, 0.5, {"y": [], "max": 3, "mark": 1}],
            }
        ),
        tags={"release_bundle": "2026.03.24-rc2", "session_id": "s-1", "mlflow.traceName": "chat_turn"},
    )
    assert scrubber.trace(plain) == plain


def test_a_text_of_any_size_costs_little_and_can_still_be_told_apart():
    found = scrubber.text(f"{MAIL} " + "x" * LONGEST_TEXT)
    assert found.startswith("[EMAIL] xxx")
    assert f"{LONGEST_TEXT + 21} characters, sha256" in found
    assert len(found) < 3_000
    assert scrubber.text(found) == found
    assert scrubber.text(f"{MAIL} " + "y" * LONGEST_TEXT) != found


def test_a_path_tells_no_user():
    assert scrubber.text('File "/home/jane/app.py", line 1') == 'File "/home/[NAME]/app.py", line 1'


@pytest.mark.parametrize("place", ["/check/repo.git", "https://git.example.org/acme/repo.git", "/srv/repos/shop"])
def test_where_a_repository_lies_is_no_personal_data(place):
    assert scrubber.text(place) == place


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.sampled_from([MAIL, json.dumps({"a": MAIL})]),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=6), children, max_size=3),
    max_leaves=8,
)


@settings(max_examples=examples(100), deadline=None)
@given(st.dictionaries(st.sampled_from(["x", "user", "session_id", INPUTS, "candidate_ids", "json"]), JSON, max_size=3))
def test_scrubbing_twice_changes_nothing_more(attributes):
    once = scrubber.trace(
        trace(attributes=attributes, events=(SpanEvent(name="chunk", timestamp_ns=1, attributes=attributes),))
    )
    assert MAIL not in canonical_json(once).decode()
    assert digest_of(scrubber.trace(once)) == digest_of(once)
