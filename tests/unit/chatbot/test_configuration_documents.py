"""The AppConfig documents: what is valid, what is refused, and why."""

from __future__ import annotations

import json

import pytest

from mangaassist_assets.chatbot.documents import (
    ConfigurationDocumentError,
    default_documents,
    dump_document,
    parse_document,
    profile_of,
)
from mangaassist_assets.chatbot.profiles import PROFILES


def test_the_default_documents_are_valid_and_come_back_from_their_bytes():
    documents = default_documents()
    assert tuple(documents) == PROFILES
    for profile, document in documents.items():
        assert parse_document(profile, dump_document(document)) == document
        assert profile_of(document) == profile


def test_equal_documents_are_equal_bytes():
    document = default_documents()["routing"]
    reordered = dict(reversed(json.loads(dump_document(document)).items()))
    assert dump_document(parse_document("routing", json.dumps(reordered))) == dump_document(document)


@pytest.mark.parametrize(
    ("profile", "content", "reason"),
    [
        ("prompts", "[]", "object"),
        ("prompts", "not json", "Invalid JSON"),
        ("prompts", {}, "version: Field required"),
        ("prompts", {"version": ""}, "version"),
        ("prompts", {"version": "1", "user": "no slots"}, r"\{context\} exactly once"),
        ("prompts", {"version": "1", "user": "{context} {question} {question}"}, r"\{question\} exactly once"),
        ("routing", {"version": "1", "selected_chunk": 3}, "selected_chunk: Extra inputs"),
        ("routing", {"version": "1", "selected_chunks": "3"}, "selected_chunks"),
        ("routing", {"version": "1", "selected_chunks": 9, "rerank_candidates": 8}, "must not exceed"),
        ("routing", {"version": 1}, "version"),
        ("guardrails", {"version": "1", "minimum_best_relevance": 1.5}, "minimum_best_relevance"),
        ("guardrails", {"version": "1", "blocked_patterns": ["("]}, "not a regular expression"),
        ("guardrails", {"version": "1", "blocked_patterns": ["(a+)+"]}, "repeats a repetition"),
        ("guardrails", {"version": "1", "blocked_patterns": [""]}, "1 to 500"),
        ("prices", {"version": "1"}, "'prices' is unknown"),
    ],
)
def test_an_invalid_document_is_refused_by_name(profile, content, reason):
    with pytest.raises(ConfigurationDocumentError, match=reason):
        parse_document(profile, content if isinstance(content, str) else json.dumps(content))


def test_the_error_never_repeats_the_content():
    with pytest.raises(ConfigurationDocumentError) as caught:
        parse_document("prompts", json.dumps({"version": "1", "secret": "hunter2"}))
    assert "hunter2" not in str(caught.value)
