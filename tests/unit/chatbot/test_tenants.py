"""A shopper of one tenant is answered from its documents and nobody's, and the trace says which filter held."""

from __future__ import annotations

import pytest

from mangaassist_assets.chatbot.configuration.documents import RoutingDocument
from mangaassist_assets.chatbot.orchestrator import ChatRequest
from mangaassist_assets.chatbot.retrieval import Retriever
from mangaassist_assets.chatbot.simulation import SimulationConfig, simulate
from mangaassist_assets.chatbot.tracer import TurnTracer
from mangaassist_assets.datasets.sources.utterances import Utterance, read_utterances
from mangaassist_assets.retrieval.tenants import InvalidTenantError
from mangaassist_assets.tracing.contract.names import SpanName
from tests.support.store_chatbot import (
    HashEmbedder,
    MemoryIndex,
    MemoryReviewer,
    MemorySink,
    MemoryStream,
    RuleEndpoint,
    store_chatbot,
)
from tests.support.turn_reading import parse_turn

BUNDLE = "2026.03.24-rc2"
TENANTS = {"policies/returns.md": "StoreA", "policies/shipping.md": "StoreB"}
SHARED = {"policies/gift-cards.md", "titles.csv#1"}


def answered(tenant, message="how do i return a book to you?"):
    sink = MemorySink()
    request = ChatRequest(message=message, session_id="s-1", release_bundle=BUNDLE, tenant=tenant)
    reply = store_chatbot(sink, index=MemoryIndex(tenants=TENANTS)).answer(request)
    (trace,) = sink.traces
    return reply, trace


def filters_of(trace):
    (span,) = (one for one in trace.spans if one.name == SpanName.RETRIEVE_CHUNKS)
    return span.attributes["filters"]


@pytest.mark.parametrize(
    ("tenant", "seen", "filters"),
    [
        ("StoreA", {"policies/returns.md", *SHARED}, ["tenant=StoreA|(none)"]),
        ("StoreB", {"policies/shipping.md", *SHARED}, ["tenant=StoreB|(none)"]),
        ("storea", SHARED, ["tenant=storea|(none)"]),
        (None, SHARED, ["tenant=(none)"]),
    ],
)
def test_a_shopper_finds_the_documents_of_their_tenant_and_of_nobody(tenant, seen, filters):
    reply, trace = answered(tenant)
    assert reply.state == "OK"
    assert {one.document_id for one in parse_turn(trace).candidates} == seen
    assert filters_of(trace) == filters
    assert trace.tags.get("tenant") == tenant
    assert parse_turn(trace).tenant == tenant


def test_the_record_of_another_tenant_is_no_part_of_an_answer():
    own, _ = answered("StoreA")
    assert "policies/returns.md" in own.used_documents
    other, trace = answered("StoreB")
    assert "policies/returns.md" not in other.used_documents
    assert "30 days" not in repr(trace)


def test_a_tenant_that_tells_something_personal_is_traced_by_its_pseudonym():
    _, trace = answered("jane.doe@example.org")
    assert "jane.doe" not in repr(trace)
    assert trace.tags["tenant"].startswith("t")
    assert filters_of(trace) == [f"tenant={trace.tags['tenant']}|(none)"]


@pytest.mark.parametrize("tenant", ["", "  ", "a\x00b", "x" * 201])
def test_what_is_no_tenant_is_refused_before_anything_is_searched(tenant):
    sink = MemorySink()
    request = ChatRequest(message="hello", session_id="s-1", release_bundle=BUNDLE, tenant=tenant)
    with pytest.raises(InvalidTenantError):
        store_chatbot(sink).answer(request)
    assert sink.traces == []


def test_nothing_is_retrieved_without_a_scope():
    retriever = Retriever(index=MemoryIndex(), embedder=HashEmbedder(), reranker=RuleEndpoint("reranker"))
    tracer = TurnTracer(session_id="s", release_bundle=BUNDLE, user_key=None, start_ns=None)
    with pytest.raises(TypeError, match="scope"):
        retriever.retrieve("hello", RoutingDocument(version="1"), tracer)  # type: ignore[call-arg]


def test_simulated_shoppers_are_those_of_the_tenant_that_their_line_names(tmp_path):
    file = tmp_path / "traffic.jsonl"
    file.write_text(
        '{"text": "return a book", "tenant": " StoreA "}\n{"text": "return a book"}\n'
        '{"text": "return a book", "tenant": 7}\n{"text": "return a book", "tenant": "a\\u0007"}\n'
    )
    reading = read_utterances(file)
    assert [one.tenant for one in reading.utterances] == ["StoreA", None]
    assert [one.line_number for one in reading.rejects] == [3, 4]
    assert all('"tenant"' in one.reason for one in reading.rejects)

    sink = MemorySink()
    chatbot = store_chatbot(sink, index=MemoryIndex(tenants=TENANTS))
    simulate(
        reading.utterances,
        chatbot,
        MemoryStream(),
        MemoryReviewer(sink),
        release_bundle=BUNDLE,
        config=SimulationConfig(threads=1),
    )
    assert [trace.tags.get("tenant") for trace in sink.traces] == ["StoreA", None]


def test_the_same_message_of_another_tenant_is_another_turn():
    def trace_id(tenant):
        sink = MemorySink()
        utterance = Utterance(text="return a book", line_number=1, tenant=tenant)
        simulate([utterance], store_chatbot(sink), MemoryStream(), MemoryReviewer(sink), release_bundle=BUNDLE)
        return sink.traces[0].trace_id

    assert len({trace_id(None), trace_id("StoreA"), trace_id("StoreB")}) == 3
