"""Whom a trace is of, as different tools write it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.privacy import pseudonym
from mangaassist_assets.tracing.contract.records import SpanRecord, TraceRecord
from mangaassist_assets.tracing.people import people_of

KEY = b"k" * 32
USER = pseudonym("shopper-7", KEY)
CALL = {"inputs": {"messages": [{"role": "user", "content": "hello"}]}, "outputs": {"choices": []}}


def trace(*, name: str = "chat_turn", tags: Any = None, metadata: Any = None, user: Any = None, **span: Any):
    root = SpanRecord(span_id="1", parent_id=None, name=name, start_ns=1, end_ns=2, **span)
    return TraceRecord(
        trace_id="tr-1",
        timestamp_ms=1,
        duration_ms=1,
        state="OK",
        tags=tags or {},
        metadata=metadata or {},
        user_key=user,
        spans=(root,),
    )


TRACES = {
    "our pseudonym": trace(user=USER),
    "a plain mlflow.trace.user": trace(metadata={"mlflow.trace.user": "shopper-7"}),
    "a tag": trace(tags={"user_id": "shopper-7"}),
    "LiteLLM's user": trace(name="litellm-acompletion", attributes={"user": "shopper-7"}, **CALL),
    "LiteLLM's end_user": trace(name="litellm-acompletion", attributes={"metadata": {"end_user": "shopper-7"}}, **CALL),
    "the proxy's tag": trace(tags={"end_user": "shopper-7", "status": "success"}, **CALL),
    "request metadata": trace(
        name="litellm-acompletion", inputs={**CALL["inputs"], "metadata": {"user_id": "shopper-7"}}
    ),
    "OpenTelemetry's enduser.id": trace(attributes={"enduser.id": "shopper-7", "gen_ai.system": "aws.bedrock"}),
    "OpenTelemetry's user.id": trace(attributes={"user.id": "shopper-7"}),
    "JSON in a text": trace(attributes={"metadata": '{"user_api_key_end_user_id": "shopper-7"}'}),
    "inputs": trace(inputs={"user_id": "shopper-7"}),
}


@pytest.mark.parametrize("written", TRACES)
def test_a_user_is_found_whatever_tool_wrote_it(written):
    assert people_of(TRACES[written], pseudonym_key=KEY) == {USER}


def test_a_number_is_an_id_as_well_and_everybody_who_is_named_counts():
    found = people_of(trace(tags={"user_id": "a"}, attributes={"enduser.id": 7}), pseudonym_key=KEY)
    assert found == {pseudonym("a", KEY), pseudonym("7", KEY)}


def test_without_the_secret_only_pseudonyms_are_anybody():
    assert people_of(trace(tags={"user_id": "a"}, user=USER)) == {USER}


def test_a_trace_that_names_nobody_is_of_nobody():
    assert people_of(trace(inputs={"message": "user shopper-7 says hello"}), pseudonym_key=KEY) == frozenset()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda one: (
        st.lists(one, max_size=3) | st.dictionaries(st.sampled_from(["user", "x", "metadata"]), one, max_size=3)
    ),
    max_leaves=8,
)


@given(attributes=st.dictionaries(st.sampled_from(["user", "a"]), _JSON), inputs=_JSON)
def test_whatever_a_trace_holds_it_is_read(attributes, inputs):
    assert isinstance(people_of(trace(attributes=attributes, inputs=inputs), pseudonym_key=KEY), frozenset)
