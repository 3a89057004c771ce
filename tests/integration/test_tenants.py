"""Tenants from the folder of documents to the live index: assets, gates, and an index of an earlier version."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace

import dagster as dg
import pytest

from mangaassist_assets.assets.knowledge import (
    chunk_embeddings,
    knowledge_chunks,
    live_index,
    retrieval_evaluation,
    search_index,
)
from mangaassist_assets.chatbot.orchestrator import ChatReply, ChatRequest
from mangaassist_assets.checks.gates import generation_verified, retrieval_not_worse
from mangaassist_assets.datasets.sources.training_corpus import CORPUS_FILE, corpus_to_json
from mangaassist_assets.datasets.sources.utterances import Utterance
from mangaassist_assets.retrieval.evaluation import EVALUATION_FILE
from mangaassist_assets.retrieval.stored_knowledge import read_chunks
from mangaassist_assets.tracing.contract.records import TraceRecord
from resources.search.embeddings import LocalEmbedderResource
from resources.search.indexes import LanceDbSearchResource
from resources.settings.knowledge import TENANT_VARIABLE, KnowledgeResource
from resources.store import StoreResource
from tests.support.store_chatbot import MemorySink, store_chatbot

pytestmark = pytest.mark.integration

BUNDLE = "2026.03.24-rc2"
INDEX_ASSETS = [
    chunk_embeddings,
    search_index,
    generation_verified,
    retrieval_evaluation,
    retrieval_not_worse,
    live_index,
]


@pytest.fixture
def shop(tmp_path, monkeypatch) -> SimpleNamespace:
    """Two customers with a table each, and a page for everybody; the tenant is the attribute `customer`."""
    monkeypatch.setenv(TENANT_VARIABLE, "customer")
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "hours.md").write_text("# Opening hours\nThe shop is open from ten to seven.")
    for customer, suffix, shelf in (("CustomerA", "json", "amber"), ("CustomerB", "JSON", "cobalt")):
        name = f"{customer}.csv"
        (folder / name).write_text(f"Clerk,Order,Content\nC7,O1,The order waits on the {shelf} shelf near the door.\n")
        told = {
            "metadataAttributes": {"customer": customer},
            "documentStructureConfiguration": {
                "type": "RECORD_BASED_STRUCTURE_METADATA",
                "recordBasedStructureMetadata": {
                    "contentFields": [{"fieldName": "Content"}],
                    "metadataFieldsSpecification": {"fieldsToExclude": [{"fieldName": "Clerk"}]},
                },
            },
        }
        (folder / f"{name}.metadata.{suffix}").write_text(json.dumps(told))
    store = StoreResource(root=str(tmp_path / "store"), cache_folder=str(tmp_path / "cache"))
    resources = {
        "knowledge": KnowledgeResource(folder=str(folder)),
        "store": store,
        "embeddings": LocalEmbedderResource(),
        "search": LanceDbSearchResource(path=str(tmp_path / "search")),
    }
    corpus = [
        Utterance(text="when are you open", relevant_documents=("hours.md",)),
        Utterance(text="where is my order", relevant_documents=("CustomerA.csv#1",), tenant="CustomerA"),
        Utterance(text="where does my order wait", relevant_documents=("CustomerA.csv#1",)),
    ]
    store.snapshots().write("training_corpus", {CORPUS_FILE: corpus_to_json(corpus)})
    return SimpleNamespace(
        folder=folder,
        resources=resources,
        snapshots=store.snapshots(),
        index=resources["search"].index(),
    )


def refresh(shop) -> dg.ExecuteInProcessResult:
    return dg.materialize([knowledge_chunks, *INDEX_ASSETS], resources=shop.resources, raise_on_error=False)


def asking(shop) -> Callable[[str | None, str], tuple[ChatReply, TraceRecord]]:
    def ask(tenant: str | None, message: str) -> tuple[ChatReply, TraceRecord]:
        sink = MemorySink()
        chatbot = store_chatbot(sink, index=shop.index, embedder=shop.resources["embeddings"].embedder())
        request = ChatRequest(message=message, session_id="s-1", release_bundle=BUNDLE, tenant=tenant)
        return chatbot.answer(request), sink.traces[0]

    return ask


def test_a_shopper_is_never_answered_from_the_record_of_another_tenant(shop):
    assert refresh(shop).success
    ask = asking(shop)
    for tenant, own, others in (
        ("CustomerA", {"CustomerA.csv#1"}, "cobalt"),
        ("CustomerB", {"CustomerB.csv#1"}, "amber"),
        (None, set(), "shelf"),
    ):
        reply, trace = ask(tenant, "where on the amber or cobalt shelf is my order")
        assert reply.state == "OK"
        assert set(reply.used_documents) <= {"hours.md", *own}
        assert own <= set(reply.used_documents)
        assert others not in reply.answer
        assert "C7" not in repr(trace)


def test_queries_about_what_became_anothers_do_not_hold_the_index_back(shop):
    """A leak is found and the page gets its tenant: the new index finds less for others, and must go live."""
    assert refresh(shop).success
    before = shop.index.live_generation()
    (shop.folder / "hours.md.metadata.json").write_text('{"metadataAttributes": {"customer": "CustomerA"}}')
    assert refresh(shop).success
    assert shop.index.live_generation() != before
    evaluation = shop.snapshots.read_json(shop.snapshots.latest("retrieval_evaluation"), EVALUATION_FILE)
    assert (evaluation["queries"], evaluation["queries_of_others"]) == (1, 2)


def test_a_sidecar_that_broke_takes_its_document_out_of_the_index(shop):
    (shop.folder / "CustomerB.csv.metadata.JSON").write_text("{")
    assert refresh(shop).success
    assert {chunk.document_id for chunk in read_chunks(shop.snapshots)} == {"CustomerA.csv#1", "hours.md"}
    rejects = shop.snapshots.read_json(shop.snapshots.latest("knowledge_chunks"), "rejects.json")
    assert [one["file"] for one in rejects] == ["CustomerB.csv"]


def test_tenants_are_not_lost_because_a_setting_is_forgotten(shop, monkeypatch):
    assert refresh(shop).success
    live = shop.index.live_generation()
    monkeypatch.delenv(TENANT_VARIABLE)
    result = refresh(shop)
    assert not result.success
    failure = next(event for event in result.all_events if event.is_step_failure)
    assert "now none names one by the attribute 'tenant'" in str(failure.step_failure_data.error)
    assert shop.index.live_generation() == live
    on_purpose = {"ops": {"knowledge_chunks": {"config": {"without_tenants": True}}}}
    assert dg.materialize([knowledge_chunks], resources=shop.resources, run_config=on_purpose).success
    assert {chunk.tenant for chunk in read_chunks(shop.snapshots)} == {None}


def test_the_real_folders_are_read_by_the_asset_with_their_tenants(shop, repository_root):
    source = repository_root.parent / "shared" / "faults" / "knowledge" / "5_uppercase_JSON"
    if not source.is_dir():
        pytest.skip("the inputs beside the repository, ../shared/faults/knowledge, are missing")
    shop.resources["knowledge"] = KnowledgeResource(folder=str(source))
    assert dg.materialize([knowledge_chunks], resources=shop.resources).success
    assert {chunk.document_id: chunk.tenant for chunk in read_chunks(shop.snapshots)} == {
        "case.csv#1": "CustomerB",
        "ok.md": None,
    }
