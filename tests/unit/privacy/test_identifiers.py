"""Ids from outside: what is kept of them, and that it is the same wherever they are written."""

from dataclasses import replace

import pytest

from mangaassist_assets.chatbot.orchestrator import ChatRequest
from mangaassist_assets.privacy import is_personal_id, kept_id
from mangaassist_assets.tracing.contract.names import Tag
from mangaassist_assets.tracing.feedback.events import StoredIds
from mangaassist_assets.tracing.importing.imported_trace import INPUTS, ImportedSpan, ImportedTrace, to_record
from mangaassist_assets.tracing.importing.scrubbing import Scrubber
from mangaassist_assets.tracing.reading.turn_reader import read_trace
from tests.support.store_chatbot import MemorySink, store_chatbot

KEY = b"installation"
GENERATED = [
    "0f8fad5b-d9cb-469f-a165-70867728950e",
    "sess_0f8fad5bd9cb469fa16570867728950e",
    "2f1c9d3e4b5a69788796a5b4c3d2e1f0",
    "s-01234567890123456789",
    "s-1",
    "rose-garden-7",
]
PERSONAL = ["jane@example.org", "jane@example", "+81 90-1234-5678", "Hanako Yamada", "hanako", "山田花子"]


@pytest.mark.parametrize("value", GENERATED)
def test_an_id_that_a_program_generated_is_kept(value):
    assert kept_id(value, KEY, prefix="s") == value


@pytest.mark.parametrize("value", PERSONAL)
def test_an_id_that_says_something_personal_becomes_a_pseudonym_of_one_form(value):
    found = kept_id(value, KEY, prefix="s")
    assert value not in found
    assert kept_id(found, KEY, prefix="s") == found


def test_a_store_may_be_called_by_a_name_but_not_by_an_address():
    assert not is_personal_id("hanako", names=False)
    assert is_personal_id("jane@example.org", names=False)


@pytest.mark.parametrize("session", [*GENERATED, *PERSONAL])
def test_a_session_has_one_id_on_its_trace_in_an_import_in_its_feedback_and_in_the_ingested_turn(session):
    tags = {str(Tag.SESSION_ID): session, str(Tag.RELEASE_BUNDLE): "b"}
    said = {INPUTS: {"message": "hi"}}
    span = ImportedSpan(span_id="1" * 16, parent_id=None, name="chat_turn", start_ns=1, end_ns=2, attributes=said)
    exported = ImportedTrace(trace_id="tr-" + "1" * 32, tags=tags, spans=(span,), timestamp_ms=1, state="OK")
    record = replace(to_record(exported), tags=tags)
    sink = MemorySink()
    traced = store_chatbot(sink).answer(ChatRequest(message="hi", session_id=session, release_bundle="b")).session_id
    ids = StoredIds(KEY)
    assert (
        kept_id(session, KEY, prefix="s")
        == Scrubber(key=KEY).trace(exported).tags[Tag.SESSION_ID]
        == ids.session(session, user=None)
        == read_trace(record, pseudonym_key=KEY).outcome.session_id
    )
    assert (traced == session) is (session in GENERATED)
